// What a plan allows: its limits, a change of plan, and its rate limit with the headers.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import {
  assertAnonymousSeesNothing,
  call,
  execute,
  newPerson,
  newSkill,
  newTeam,
  ok,
  refused,
  setPlan,
  slowDown,
  unaffected,
  usageOf,
} from './domain.mjs';
import { admin, api, http, sql } from './support.mjs';

const asUser = (person, path = '/rest/v1/projects?select=id') => http('GET', path, { token: person.token });

describe('subscriptions', () => {
  let team;
  before(async () => {
    team = await newTeam();
  });

  test('only members with the permission to read billing see them', async () => {
    await assertAnonymousSeesNothing(['subscriptions']);
    const seen = async (person) => (await ok(person.client.from('subscriptions').select('plan').eq('org_id', team.orgId))).length;
    assert.equal(await seen(team.nonMember), 0);
    assert.equal(await seen(team.viewer), 0);
    assert.equal(await seen(team.member), 0);
    assert.equal(await seen(team.admin), 1);
    assert.equal(await seen(team.owner), 1);
  });

  test('users cannot change a plan, a limit, a price or their usage', async () => {
    const { client } = team.owner;
    await unaffected(client.from('subscriptions').update({ plan: 'ENTERPRISE' }).eq('org_id', team.orgId).select());
    await refused(client.from('subscriptions').insert({ org_id: team.orgId, plan: 'ENTERPRISE' }), 403, '42501');
    await unaffected(client.from('subscriptions').delete().eq('org_id', team.orgId).select());
    await refused(client.from('plan_limits').update({ amount: null }).eq('plan', 'FREE').select(), 403, '42501');
    await refused(client.from('plans').update({ rate_per_minute: 1_000_000 }).eq('code', 'FREE').select(), 403, '42501');
    for (const name of ['set_limit', 'try_consume', 'consume', 'usage', 'rate_limit', 'sign_jwt', 'revoke_session']) {
      const answer = await call(team.owner, name, {});
      assert.equal(answer.status, 404, `${name}: ${answer.text}`);
      assert.equal(answer.body.code, 'PGRST202');
    }
    for (const schema of ['kijko', 'private', 'auth', 'cron']) {
      const answer = await http('GET', '/rest/v1/limits', { token: team.owner.token, headers: { 'Accept-Profile': schema } });
      assert.equal(answer.body.code, 'PGRST106', `${schema}: ${answer.text}`);
    }
    const [{ plan }] = await ok(client.from('subscriptions').select('plan').eq('org_id', team.orgId));
    assert.equal(plan, 'TEAMS');
  });

  test('the catalogue of plans is public and has the documented values', async () => {
    const client = api();
    const plans = await ok(client.from('plans').select('code, rate_per_minute').order('rank'));
    assert.deepEqual(plans, [
      { code: 'FREE', rate_per_minute: 600 },
      { code: 'PRO', rate_per_minute: 3000 },
      { code: 'TEAMS', rate_per_minute: 12_000 },
      { code: 'ENTERPRISE', rate_per_minute: 60_000 },
    ]);
    const limits = await ok(client.from('plan_limits').select('meter, amount').eq('plan', 'FREE').eq('period', 'month').order('meter'));
    assert.deepEqual(limits, [
      { meter: 'api_requests', amount: 100_000 },
      { meter: 'code_searches', amount: 1000 },
      { meter: 'events', amount: 100_000 },
      { meter: 'executions', amount: 50 },
      { meter: 'llm_cost_microusd', amount: 500_000 },
      { meter: 'llm_tokens', amount: 100_000 },
      { meter: 'publish_cost_microusd', amount: 500_000 },
    ]);
  });
});

describe('a change of plan', () => {
  test('an unknown plan is refused and changes nothing', async () => {
    const person = await newPerson();
    await refused(admin().from('subscriptions').update({ plan: 'GOLD' }).eq('org_id', person.orgId), 409, '23503');
    assert.equal((await usageOf(person)).executions.limit, 50);
  });

  test('takes effect at once and keeps the usage, up and down', async () => {
    const person = await newPerson();
    const skill = await newSkill(person);
    await ok(execute(person, skill.id, { n: 1 }));
    assert.deepEqual(figures(await usageOf(person)), { used: 1, limit: 50, remaining: 49 });
    await setPlan(person.orgId, 'PRO');
    assert.deepEqual(figures(await usageOf(person)), { used: 1, limit: 2000, remaining: 1999 });
    await setPlan(person.orgId, 'ENTERPRISE');
    assert.deepEqual(figures(await usageOf(person)), { used: 1, limit: null, remaining: null });
    await sql(`select kijko.try_consume($1, 'executions', 99)`, [person.orgId]);
    await setPlan(person.orgId, 'FREE');
    assert.deepEqual(figures(await usageOf(person)), { used: 100, limit: 50, remaining: 0 });
    await refused(execute(person, skill.id, { n: 2 }), 429, 'quota_exceeded');
  });
});

const figures = ({ executions: { used, limit, remaining } }) => ({ used, limit, remaining });

describe('the rate limit', () => {
  test('every response reports how much is left', async () => {
    const person = await newPerson();
    const first = await asUser(person);
    assert.equal(first.status, 200);
    assert.match(first.headers.get('ratelimit-policy'), /"requests";q=600;w=60/);
    const second = await asUser(person);
    const left = ({ headers }) => /"requests";r=(\d+);t=(\d+)/.exec(headers.get('ratelimit')).slice(1).map(Number);
    assert.ok(left(second)[0] <= left(first)[0]);
    assert.ok(left(second)[1] <= 61, 'until the limit is whole again, in seconds');
    const refusedOtherwise = await asUser(person, '/rest/v1/rpc/execute_skill?skill_id=no-uuid');
    assert.ok(refusedOtherwise.status >= 400);
  });

  test('one request too many is 429 rate_limited with Retry-After, for this organization only, and passes after that time', async () => {
    const [person, other] = await Promise.all([newPerson(), newPerson()]);
    await slowDown(person.orgId);
    const answers = await Promise.all(Array.from({ length: 90 }, () => asUser(person)));
    const limited = answers.filter((a) => a.status === 429);
    assert.ok(limited.length > 0, 'some are refused');
    assert.ok(limited.length <= 35, `no more than it says: ${limited.length} of 90 refused at 60 a minute`);
    assert.ok(answers.every((a) => a.status === 200 || a.status === 429));
    for (const { body, headers } of limited) {
      assert.equal(body.code, 'rate_limited');
      assert.deepEqual(Object.keys(body).sort(), ['code', 'details', 'hint', 'message']);
      assert.ok(Number(headers.get('retry-after')) >= 1 && Number(headers.get('retry-after')) <= 60);
      assert.equal(headers.get('x-ratelimit-limit'), '60');
      assert.equal(headers.get('x-ratelimit-remaining'), '0');
    }
    assert.equal((await asUser(other)).status, 200, 'another organization is not slowed');

    // On a slow machine a second has passed by now, and the next call is served.
    let last = await asUser(person);
    while (last.status === 200) last = await asUser(person);
    await new Promise((resolve) => setTimeout(resolve, Number(last.headers.get('retry-after')) * 1000));
    assert.equal((await asUser(person)).status, 200, 'a caller who waits as Retry-After says is served');
  });

  test('is shared by all members and sessions of an organization', async () => {
    const person = await newPerson();
    await slowDown(person.orgId);
    const tokens = [person.token];
    const { data } = await person.client.auth.refreshSession();
    tokens.push(data.session.access_token);
    const started = performance.now();
    const answers = await Promise.all(
      Array.from({ length: 90 }, (_, n) => http('GET', '/rest/v1/projects?select=id', { token: tokens[n % 2] })),
    );
    // Sixty at once, and one more for each second that these took.
    const most = 65 + (performance.now() - started) / 1_000;
    assert.ok(answers.filter((a) => a.status === 200).length <= most, 'two tokens are no two limits');
  });

  test('a higher plan raises it at once', async () => {
    const person = await newPerson();
    await slowDown(person.orgId);
    await setPlan(person.orgId, 'PRO');
    const answers = await Promise.all(Array.from({ length: 90 }, () => asUser(person)));
    assert.deepEqual([...new Set(answers.map((a) => a.status))], [200]);
    assert.match(answers[0].headers.get('ratelimit-policy'), /"requests";q=3000;w=60/);
  });

  test('lets three widgets poll each second for an hour on FREE', async () => {
    const person = await newPerson();
    // The most that they ask within a minute, all at once; what is left refills faster than they ask.
    const answers = await Promise.all(Array.from({ length: 180 }, () => asUser(person)));
    assert.deepEqual([...new Set(answers.map((a) => a.status))], [200]);
    const [q, w] = answers[0].headers
      .get('ratelimit-policy')
      .match(/^"requests";q=(\d+);w=(\d+)/)
      .slice(1)
      .map(Number);
    assert.ok(q / w > 3, `${q} in ${w} s`);
    assert.ok((await usageOf(person)).api_requests.limit >= 3 * 3600);
  });

  test('does not apply to the service key', async () => {
    const answers = await Promise.all(Array.from({ length: 80 }, () => admin().from('plans').select('code')));
    assert.ok(answers.every((a) => a.error === null));
  });
});
