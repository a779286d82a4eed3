// The demo's step about flags and analytics: a flag is on for half of the visitors, and a funnel compares them with the others. A page
// asks for flags and sends events by one publishable key.
import assert from 'node:assert/strict';
import { env, ok, refused } from './setup.mjs';

const VISITORS = 40;
const ORIGIN = 'https://shop.example.com';
const FLAG = 'one-page-checkout';

export async function flagShowsInFunnel(say, { ada, bob }) {
  const { client, organization } = ada;
  const org_id = organization.id;
  const rpc = (name, body) => ok(client.rpc(name, body).setHeader('x-org-id', org_id));
  const fields = { org_id, name: FLAG, type: 'experiment', description: 'All of the checkout on one page' };
  const flag = await ok(client.from('feature_flags').insert(fields).select().single());
  const half = { name: 'flexibleRollout', parameters: { rollout: '50', stickiness: 'userId', groupId: FLAG } };
  await rpc('change_flag', { flag: FLAG, environment: 'production', change: { enabled: true, strategies: [half] } });
  const { secret } = await rpc('create_api_key', {
    name: 'Shop',
    kind: 'publishable',
    permissions: ['flags:evaluate', 'events:ingest'],
    origins: [ORIGIN],
    rate_limit: 600,
  });
  say(`"${FLAG}" is on for 50 % by userId; the page has a publishable key for ${ORIGIN}`);

  const send = async (path, body, origin = ORIGIN) => {
    const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${secret}`, Origin: origin };
    const answer = await fetch(`${env.API_URL}/api/v1${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    return { status: answer.status, body: await answer.json() };
  };
  const isOn = async (userId) => {
    const { status, body } = await send('/flags/frontend', { context: { userId } });
    assert.equal(status, 200, JSON.stringify(body));
    return body.toggles.some(({ name }) => name === FLAG);
  };
  const visitors = await Promise.all(
    Array.from({ length: VISITORS }, async (_, n) => ({ userId: `visitor-${n}`, on: await isOn(`visitor-${n}`) })),
  );
  const sides = { on: visitors.filter(({ on }) => on), off: visitors.filter(({ on }) => !on) };
  assert.ok(sides.on.length > VISITORS / 5 && sides.off.length > VISITORS / 5, `on for ${sides.on.length} of ${VISITORS}`);
  assert.equal(await isOn('visitor-0'), visitors[0].on, 'a visitor keeps the answer');
  say(`on for ${sides.on.length} of ${VISITORS} visitors, and each keeps the answer`);

  // Three of four buy with the flag, one of four without.
  const buys = { on: (n) => n % 4 !== 0, off: (n) => n % 4 === 0 };
  const events = Object.entries(sides).flatMap(([side, of]) =>
    of.flatMap(({ userId }, n) => {
      const properties = { one_page: side };
      const seen = { type: 'track', event: 'Checkout seen', userId, messageId: `${org_id}-seen-${userId}`, properties };
      const bought = { type: 'track', event: 'Bought', userId, messageId: `${org_id}-bought-${userId}`, properties };
      return buys[side](n) ? [seen, bought] : [seen];
    }),
  );
  for (const times of [1, 2]) assert.equal((await send('/ingest/batch', { batch: events })).status, 200, `sent ${times} times`);
  const from = new Date(Date.now() - 3600_000).toISOString();
  const query = { steps: [{ event: 'Checkout seen' }, { event: 'Bought' }], breakdown: 'one_page', from };
  const { funnels } = await rpc('analytics_funnel', { query });
  for (const side of ['on', 'off']) {
    const [seen, bought] = funnels.find(({ value }) => value === side).steps;
    const expected = sides[side].filter((_, n) => buys[side](n)).length;
    assert.deepEqual([seen.persons, bought.persons], [sides[side].length, expected], `the funnel of those who have it ${side}`);
    say(`${side.padEnd(3)} ${bought.persons} of ${seen.persons} buy: ${(bought.of_first * 100).toFixed(0)} %`);
  }

  await rpc('change_flag', { flag: FLAG, environment: 'production', change: { enabled: false } });
  assert.equal(await isOn(sides.on[0].userId), false, 'a change counts with the next request');
  say('turned off: off with the next request');

  assert.equal((await send('/flags/frontend', {}, 'https://elsewhere.example')).status, 401, 'the key works on its own pages only');
  assert.deepEqual(await ok(bob.client.from('feature_flags').select('id').eq('id', flag.id)), []);
  assert.deepEqual(await ok(bob.client.from('events').select('id').eq('org_id', org_id)), []);
  await refused(bob.client.rpc('analytics_funnel', { query }).setHeader('x-org-id', org_id), 403, 'not_a_member');
  say('from elsewhere the key is HTTP 401; Bob, a non-member, sees neither flag nor events');
}
