// Reports about webhooks that come in: times that are no times, duplicates, NUL, headers that break the comparison, Stripe's order.
import assert from 'node:assert/strict';
import { createHmac, randomUUID } from 'node:crypto';
import { before } from 'node:test';
import { newPerson, newSkill, ok, until } from '../journeys/domain.mjs';
import { deliver, deliveriesOf, newReflex, post, processed } from '../journeys/reflexes_support.mjs';
import { recorded } from '../journeys/stripe_events.mjs';
import { newTag, planOf, send, stored } from '../journeys/stripe_webhook.mjs';
import { sql } from '../journeys/support.mjs';
import { report } from './report.mjs';

let person;
let skill;
before(async () => {
  person = await newPerson('TEAMS');
  skill = await newSkill(person);
});

const reflexBy = (verification, fields = {}) => newReflex(person, { skill_id: skill.id, verification, ...fields });

/** Headers of Standard Webhooks over any text as the time, with a right signature of it. */
function signedAt(reflex, body, timestamp, id = `msg_${randomUUID()}`) {
  const key = Buffer.from(reflex.signing_secret.replace('whsec_', ''), 'base64');
  const mac = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${mac}` };
}

report('hooks-1', 'a time that is no number is refused, although it is signed', async () => {
  const reflex = await reflexBy('standard_webhooks');
  const now = Math.floor(Date.now() / 1000);
  for (const time of [
    'NaN',
    'Infinity',
    '-1',
    '1e10',
    `${now}.5`,
    `+${now}`,
    `0x${now.toString(16)}`,
    `${now}abc`,
    `${now}000`,
    '99999999999999999999',
    '',
  ]) {
    const { status, body } = await post(`reflex/${reflex.id}`, '{}', signedAt(reflex, '{}', time));
    assert.deepEqual([status, body.code], [400, 'invalid_signature'], JSON.stringify(time));
  }
  assert.equal((await post(`reflex/${reflex.id}`, '{}', signedAt(reflex, '{}', `${now}`))).status, 202);
  assert.equal((await deliveriesOf(reflex)).length, 1);
});

report('hooks-2', 'a signature of other letters, of another length or of none is refused, and never a fault of ours', async () => {
  for (const [verification, header] of [
    ['standard_webhooks', 'webhook-signature'],
    ['github', 'x-hub-signature-256'],
    ['stripe', 'stripe-signature'],
    ['hmac', 'x-signature'],
  ]) {
    const reflex = await reflexBy(verification);
    for (const value of [
      'é',
      'sha256=é',
      'v1,é',
      't=é,v1=é',
      'sha256=',
      'v1,',
      'v1',
      '=',
      ',',
      ' ',
      'v1,====',
      `sha256=${'0'.repeat(63)}`,
      'x'.repeat(6000),
    ]) {
      const { status, body, text } = await post(`reflex/${reflex.id}`, '{}', {
        'webhook-id': 'msg_1',
        'webhook-timestamp': `${Math.floor(Date.now() / 1000)}`,
        [header]: Buffer.from(value).toString('latin1'),
      });
      assert.deepEqual([status, body?.code], [400, 'invalid_signature'], `${verification} ${value.slice(0, 20)}: ${text}`);
    }
  }
});

report('hooks-3', 'a delivery that comes many times at once runs once', async () => {
  const reflex = await reflexBy('standard_webhooks');
  const options = { id: `msg_${randomUUID()}`, at: Date.now() };
  const answers = await Promise.all(Array.from({ length: 10 }, () => deliver(reflex, { n: 1 }, options)));
  assert.deepEqual(answers.map(({ body }) => body.status).sort(), [...Array(9).fill('duplicate'), 'received']);
  assert.equal(new Set(answers.map(({ body }) => body.delivery_id)).size, 1);
  await processed(person, answers[0].body.delivery_id);
  const runs = await sql('select count(*)::int as n from public.executions where reflex_id = $1', [reflex.id]);
  assert.equal(runs[0].n, 1);
});

report('hooks-4', 'NUL in a payload is replaced, and an escaped backslash before u0000 stays what it is', async () => {
  const reflex = await reflexBy('github');
  const body = '{"nul":"a\\u0000b","text":"a\\\\u0000b","both":"\\\\\\u0000","key\\u0000":1,"half":"\\ud800x","pair":"\\ud83d\\ude00"}';
  const { status, body: answer } = await deliver(reflex, body);
  assert.equal(status, 202);
  const { payload } = await processed(person, answer.delivery_id);
  assert.deepEqual(payload, { nul: 'a\ufffdb', text: 'a\\u0000b', both: '\\\ufffd', 'key\ufffd': 1, half: '\ufffdx', pair: '😀' });
});

report('hooks-5', 'numbers of a payload come through as they were sent', async () => {
  const reflex = await reflexBy('github');
  const { body: answer } = await deliver(
    reflex,
    '{"big":9007199254740993,"long":0.1234567890123456789,"exp":1e399,"neg":-0,"id":12345678901234567890}',
  );
  await processed(person, answer.delivery_id);
  const [{ big, id, long }] = await sql(
    `select payload ->> 'big' as big, payload ->> 'id' as id, payload ->> 'long' as long from public.reflex_deliveries where id = $1`,
    [answer.delivery_id],
  );
  assert.deepEqual([big, id, long], ['9007199254740993', '12345678901234567890', '0.1234567890123456789']);
  // Of so many digits that their text would be thousands of times as long as what was sent.
  for (const number of ['1e131071', '1e400', '1e-500']) assert.equal((await deliver(reflex, `{"exp":${number}}`)).status, 400, number);
});

report('hooks-6', 'of two members of one name the last one counts, and a body in another charset is refused', async () => {
  const reflex = await reflexBy('github');
  const { body: answer } = await deliver(reflex, '{"ref":"refs/heads/safe","ref":"refs/heads/main"}');
  const { payload } = await processed(person, answer.delivery_id);
  assert.deepEqual(payload, { ref: 'refs/heads/main' }, 'the last one, as in JavaScript, Python and Postgres');
  const latin = Buffer.from('{"name":"é"}', 'latin1');
  const mac = createHmac('sha256', reflex.signing_secret).update(latin).digest('hex');
  const bad = await post(`reflex/${reflex.id}`, latin, {
    'X-GitHub-Event': 'push',
    'X-GitHub-Delivery': randomUUID(),
    'X-Hub-Signature-256': `sha256=${mac}`,
  });
  assert.deepEqual([bad.status, bad.body.code], [400, 'bad_request']);
});

report('hooks-7', 'a subscription that Stripe tells of in the wrong order ends in its latest state, also within one second', async () => {
  for (const life of ['checkout', 'one_second']) {
    const ends = [];
    for (const order of [(events) => events, (events) => events.toReversed()]) {
      const buyer = await newPerson();
      for (const event of order(recorded(life, { orgId: buyer.orgId, tag: newTag() }))) assert.equal((await send(event)).status, 200);
      ends.push(
        await until(`the plan by ${life}`, async () => {
          const plan = await planOf(buyer.orgId);
          return plan.plan !== 'FREE' && plan;
        }),
      );
    }
    assert.deepEqual(ends[1], ends[0], life);
  }
});

report('hooks-8', 'an event of Stripe that comes many times at once is applied once', async () => {
  const buyer = await newPerson();
  const events = recorded('checkout', { orgId: buyer.orgId, tag: newTag() });
  for (const event of events) {
    const answers = await Promise.all(Array.from({ length: 5 }, () => send(event)));
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200], event.type);
    assert.equal(answers.filter(({ body }) => body.duplicate === false).length, 1, event.type);
    assert.ok(await stored(event.id));
  }
  const subscriptions = await ok(buyer.client.from('subscriptions').select('plan').eq('org_id', buyer.orgId));
  assert.equal(subscriptions.length, 1);
});
