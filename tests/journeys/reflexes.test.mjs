// Reflexes: who may see and change them, which requests they accept, and what becomes of a delivery.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import pg from 'pg';
import { blockedBy } from '../crash/harness.mjs';
import { assertAnonymousSeesNothing, ended, newPerson, newSkill, newTeam, ok, refused, setPlan, unaffected, until } from './domain.mjs';
import { deliver, deliveriesOf, newReflex, post, processed, SIGNERS } from './reflexes_support.mjs';
import { adminSql, api, env, sql } from './support.mjs';

const event = () => ({ id: `evt_${randomUUID()}`, type: 'thing.happened', n: randomUUID() });

describe('who may see and change reflexes', () => {
  let team, skill, reflex;
  before(async () => {
    team = await newTeam();
    skill = await newSkill(team.owner);
    reflex = await newReflex(team.owner, { skill_id: skill.id });
  });

  test('a visitor and a non-member see nothing', async () => {
    await assertAnonymousSeesNothing(['reflexes', 'reflex_deliveries']);
    const { client } = team.nonMember;
    await unaffected(client.from('reflexes').select().eq('id', reflex.id));
    await unaffected(client.from('reflexes').update({ enabled: false }).eq('id', reflex.id).select());
    await unaffected(client.from('reflexes').delete().eq('id', reflex.id).select());
    await refused(client.rpc('rotate_reflex_secret', { reflex_id: reflex.id }), 404, 'not_found');
    await refused(client.rpc('test_reflex', { reflex_id: reflex.id, payload: {} }), 404, 'not_found');
    await refused(client.from('reflexes').insert({ skill_id: skill.id, name: 'Theirs' }), 403, '42501');
  });

  test('a viewer reads and changes nothing', async () => {
    const { client } = team.viewer;
    assert.equal((await ok(client.from('reflexes').select('id').eq('id', reflex.id))).length, 1);
    await unaffected(client.from('reflexes').update({ enabled: false }).eq('id', reflex.id).select());
    await refused(client.rpc('rotate_reflex_secret', { reflex_id: reflex.id }), 403, 'permission_denied');
    await refused(client.rpc('test_reflex', { reflex_id: reflex.id, payload: {} }), 403, 'permission_denied');
  });

  test('a member toggles it, and deletes their own', async () => {
    const { client } = team.member;
    const own = await newReflex(team.member, { skill_id: skill.id });
    assert.equal((await ok(client.from('reflexes').update({ enabled: false }).eq('id', own.id).select().single())).enabled, false);
    await ok(client.from('reflexes').delete().eq('id', own.id));
  });

  test('nobody reads a secret after it was made', async () => {
    assert.match(reflex.signing_secret, /^whsec_/);
    const again = await ok(team.owner.client.from('reflexes').select('*, signing_secret').eq('id', reflex.id).single());
    assert.equal(again.signing_secret, null);
    assert.ok(reflex.signing_secret.startsWith(again.secret_prefix));
    assert.ok(!JSON.stringify(again).includes(reflex.signing_secret));
  });

  test('a key with reflexes:read does not rotate', async () => {
    const key = await ok(team.owner.client.rpc('create_api_key', { name: 'reads', permissions: ['reflexes:read', 'skills:read'] }));
    const client = api({ 'X-API-Key': key.secret });
    assert.equal((await ok(client.from('reflexes').select('id').eq('id', reflex.id))).length, 1);
    await refused(client.rpc('rotate_reflex_secret', { reflex_id: reflex.id }), 403, 'permission_denied');
  });
});

describe('which requests a webhook accepts', () => {
  let person, skill;
  before(async () => {
    person = await newPerson('TEAMS');
    skill = await newSkill(person);
  });
  const reflexBy = (verification, fields = {}) =>
    newReflex(person, { skill_id: skill.id, verification, input_mapping: { n: '{{ payload.n }}' }, ...fields });

  for (const verification of Object.keys(SIGNERS)) {
    test(`${verification}: one execution for a signed request, and none for a replay`, async () => {
      const reflex = await reflexBy(verification);
      const payload = event();
      const options = { id: randomUUID(), at: Date.now() };
      const first = await deliver(reflex, payload, options);
      assert.deepEqual([first.status, first.body.status], [202, 'received'], first.text);
      const delivery = await processed(person, first.body.delivery_id);
      assert.equal(delivery.status, 'queued', delivery.error);
      assert.deepEqual(delivery.payload, payload);
      const execution = await ended(person, delivery.execution_id);
      assert.deepEqual([execution.status, execution.trigger, execution.input], ['succeeded', 'reflex', { n: payload.n }]);
      const replay = await deliver(reflex, payload, options);
      assert.deepEqual([replay.status, replay.body], [202, { delivery_id: delivery.id, status: 'duplicate' }]);
      assert.equal((await deliveriesOf(reflex)).length, 1);
    });

    test(`${verification}: a forged signature, another body and no signature are refused, and nothing is stored`, async () => {
      const reflex = await reflexBy(verification);
      const body = JSON.stringify(event());
      const forged = await SIGNERS[verification](`whsec_${Buffer.alloc(32, 7).toString('base64')}`, body);
      const answers = [await post(`reflex/${reflex.id}`, body, forged), await post(`reflex/${reflex.id}`, body)];
      if (verification !== 'bearer') {
        answers.push(await post(`reflex/${reflex.id}`, `${body} `, await SIGNERS[verification](reflex.signing_secret, body)));
      }
      for (const { status, body: answer } of answers) assert.deepEqual([status, answer.code], [400, 'invalid_signature']);
      assert.deepEqual(await deliveriesOf(reflex), []);
      const { rejected_count: rejected } = await ok(person.client.from('reflexes').select('rejected_count').eq('id', reflex.id).single());
      assert.equal(rejected, answers.length);
    });
  }

  for (const verification of ['standard_webhooks', 'stripe']) {
    test(`${verification}: a signature from another time is refused`, async () => {
      const reflex = await reflexBy(verification);
      for (const skew of [-310_000, 310_000]) {
        const { status, body } = await deliver(reflex, event(), { at: Date.now() + skew });
        assert.deepEqual([status, body.code], [400, 'invalid_signature']);
      }
      for (const skew of [-280_000, 280_000]) assert.equal((await deliver(reflex, event(), { at: Date.now() + skew })).status, 202);
      assert.equal((await deliveriesOf(reflex)).length, 2);
    });
  }

  test('an unknown reflex and a wrong signature get the same answer', async () => {
    const reflex = await reflexBy('github');
    const body = JSON.stringify(event());
    const headers = await SIGNERS.github('somebody else', body);
    const [wrong, unknown, nonsense, unsigned] = await Promise.all([
      post(`reflex/${reflex.id}`, body, headers),
      post(`reflex/${randomUUID()}`, body, headers),
      post('reflex/nonsense', body, headers),
      post(`reflex/${randomUUID()}`, body),
    ]);
    for (const other of [unknown, nonsense, unsigned]) assert.deepEqual([other.status, other.body], [wrong.status, wrong.body]);
    const old = await SIGNERS.stripe('somebody else', body, { at: 0 });
    const stripe = await reflexBy('stripe');
    assert.deepEqual((await post(`reflex/${stripe.id}`, body, old)).body, wrong.body);
  });

  test('GitHub and plain HMACs sign no id: the same body under another id is a duplicate, unless the reflex allows it', async () => {
    const reflex = await reflexBy('github');
    const payload = event();
    const first = await deliver(reflex, payload);
    const other = await deliver(reflex, payload);
    assert.deepEqual(other.body, { delivery_id: first.body.delivery_id, status: 'duplicate' });
    await ok(person.client.from('reflexes').update({ refuse_same_body: false }).eq('id', reflex.id));
    assert.equal((await deliver(reflex, payload)).body.status, 'received');
  });

  test('what comes at once under one id is stored once', async () => {
    const reflex = await reflexBy('standard_webhooks');
    const payload = event();
    const answers = await Promise.all(Array.from({ length: 8 }, () => deliver(reflex, payload, { id: 'msg_once', at: Date.now() })));
    assert.deepEqual(answers.map((answer) => [answer.status, answer.body.status]).sort(), [
      ...Array.from({ length: 7 }, () => [202, 'duplicate']),
      [202, 'received'],
    ]);
    assert.equal((await deliveriesOf(reflex)).length, 1);
  });

  test('a rotated secret works beside the new one for the overlap', async () => {
    const reflex = await reflexBy('github');
    const issued = await ok(person.client.rpc('rotate_reflex_secret', { reflex_id: reflex.id, overlap: '1 hour' }));
    for (const secret of [reflex.signing_secret, issued.secret]) assert.equal((await deliver(reflex, event(), { secret })).status, 202);
    const given = 'given by the sender'.replaceAll(' ', '-');
    await ok(person.client.rpc('rotate_reflex_secret', { reflex_id: reflex.id, secret: given }));
    assert.equal((await deliver(reflex, event(), { secret: given })).status, 202);
    for (const secret of [reflex.signing_secret, issued.secret]) assert.equal((await deliver(reflex, event(), { secret })).status, 400);
  });

  test('a body that is no JSON, or cannot be stored, is refused', async () => {
    const reflex = await reflexBy('bearer');
    for (const body of [
      '',
      'text',
      '{',
      `${'['.repeat(200)}${']'.repeat(200)}`,
      `${'['.repeat(100)}${']'.repeat(100)}`,
      '{"n": 1e999999}',
    ]) {
      const { status, body: answer } = await deliver(reflex, body);
      assert.deepEqual([status, answer.code], [400, 'bad_request'], body.slice(0, 20));
    }
    const nul = await deliver(reflex, '{"n": "a\\u0000b"}');
    assert.equal((await processed(person, nul.body.delivery_id)).payload.n, 'a\ufffdb');
    const large = await deliver(reflex, JSON.stringify({ n: 'x'.repeat(1_100_000) }));
    assert.deepEqual([large.status, large.body.code], [413, 'payload_too_large']);
  });

  test("a form of GitHub's has the payload in its field", async () => {
    const reflex = await reflexBy('github');
    const payload = event();
    const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString();
    const answer = await deliver(reflex, body, { headers: { 'Content-Type': 'application/x-www-form-urlencoded' } });
    assert.deepEqual((await processed(person, answer.body.delivery_id)).payload, payload);
  });

  test('beyond its rate senders get 429 with Retry-After', async () => {
    const reflex = await reflexBy('bearer', { rate_per_minute: 2 });
    for (let i = 0; i < 2; i += 1) assert.equal((await deliver(reflex, event())).status, 202);
    const limited = await deliver(reflex, event());
    assert.deepEqual([limited.status, limited.body.code], [429, 'rate_limited']);
    assert.ok(Number(limited.headers.get('retry-after')) >= 1);
    assert.equal((await deliveriesOf(reflex)).length, 2);
  });

  test('what verifies the sender is not stored', async () => {
    const reflex = await reflexBy('bearer');
    const answer = await deliver(reflex, event(), { headers: { 'X-GitHub-Event': 'push', Cookie: 'a=b' } });
    const [delivery] = await sql('select d::text from public.reflex_deliveries as d where id = $1', [answer.body.delivery_id]);
    assert.ok(!delivery.d.includes(reflex.signing_secret) && !delivery.d.includes('a=b') && delivery.d.includes('push'));
  });
});

describe('what becomes of a delivery', () => {
  let person, skill;
  before(async () => {
    person = await newPerson('TEAMS');
    skill = await newSkill(person);
  });
  const run = async (reflex, payload, options) => {
    const { status, body, text } = await deliver(reflex, payload, options);
    assert.equal(status, 202, text);
    return processed(person, body.delivery_id);
  };

  test('a filter and a mapping are evaluated', async () => {
    const reflex = await newReflex(person, {
      skill_id: skill.id,
      verification: 'github',
      filter: "event == 'push' and payload.ref == 'refs/heads/main'",
      input_mapping: { n: "{{ payload.commits | map(attribute='message') | join(', ') }}", raw: '{{ payload.commits }}' },
    });
    const push = { ref: 'refs/heads/main', commits: [{ message: 'one "quoted"' }, { message: 'two' }] };
    const queued = await run(reflex, push);
    const execution = await ended(person, queued.execution_id);
    assert.deepEqual(execution.input, { n: 'one "quoted", two', raw: push.commits });
    assert.match(execution.output.text, /Say one "quoted", two/);
    assert.equal((await run(reflex, { ...push, ref: 'refs/heads/other' })).status, 'filtered');
    assert.equal((await run(reflex, { zen: 'x' }, { event: 'ping' })).status, 'filtered');
    const failed = await run(reflex, { ref: 'refs/heads/main' });
    assert.deepEqual([failed.status, failed.error_code], ['failed', 'mapping_error']);
    const shown = await ok(person.client.from('reflexes').select('last_error_code').eq('id', reflex.id).single());
    assert.equal(shown.last_error_code, 'mapping_error');
  });

  test('a template that takes too much fails its delivery and delays no other', async () => {
    const bomb = "{% for a in range(9999) %}{% for b in range(9999) %}{{ 'x' * 9999 }}{% endfor %}{% endfor %}";
    const hostile = await newReflex(person, { skill_id: skill.id, verification: 'bearer', input_mapping: { n: bomb } });
    const kind = await newReflex(person, { skill_id: skill.id, verification: 'bearer' });
    const failed = run(hostile, event());
    assert.equal((await run(kind, event())).status, 'queued');
    assert.equal((await failed).status, 'failed');
  });

  test('a test shows the input without a signature or a charge, and with run it runs', async () => {
    const reflex = await newReflex(person, { skill_id: skill.id, filter: 'payload.n', input_mapping: { n: '{{ payload.n + 1 }}' } });
    const dry = await ok(person.client.rpc('test_reflex', { reflex_id: reflex.id, payload: { n: 1 } }));
    const tested = await processed(person, dry.id);
    assert.deepEqual([tested.status, tested.input, tested.execution_id], ['tested', { n: 2 }, null]);
    const wet = await ok(person.client.rpc('test_reflex', { reflex_id: reflex.id, payload: { n: 1 }, run: true }));
    const queued = await processed(person, wet.id);
    assert.equal((await ended(person, queued.execution_id)).status, 'succeeded');
    const none = await ok(person.client.rpc('test_reflex', { reflex_id: reflex.id, payload: {} }));
    assert.equal((await processed(person, none.id)).status, 'filtered');
  });

  test('a refused delivery can be delivered again', async () => {
    const reflex = await newReflex(person, { skill_id: skill.id, enabled: false, verification: 'bearer' });
    const sent = await deliver(reflex, event());
    assert.deepEqual([sent.status, sent.body.status], [202, 'refused']);
    await ok(person.client.from('reflexes').update({ enabled: true }).eq('id', reflex.id));
    const again = await ok(person.client.rpc('redeliver_reflex_delivery', { id: sent.body.delivery_id }));
    const delivery = await processed(person, again.id);
    assert.deepEqual([delivery.status, delivery.redelivery_of], ['queued', sent.body.delivery_id]);
  });

  test('the plan limits reflexes', async () => {
    const other = await newPerson();
    const theirs = await newSkill(other);
    for (let i = 0; i < 3; i += 1) await newReflex(other, { skill_id: theirs.id });
    await refused(other.client.from('reflexes').insert({ name: 'One more', skill_id: theirs.id }), 429, 'quota_exceeded');
    await setPlan(other.orgId, 'PRO');
    await newReflex(other, { skill_id: theirs.id });
  });
});

test('while a row of one organization is held, webhooks of others are taken', async (t) => {
  const [held, other] = [await newPerson('TEAMS'), await newPerson('TEAMS')];
  const [hook, otherHook] = await Promise.all(
    [held, other].map(async (person) => newReflex(person, { skill_id: (await newSkill(person)).id, verification: 'bearer' })),
  );
  const holder = new pg.Client({ connectionString: env.ADMIN_DB_URL });
  await holder.connect();
  t.after(() => holder.end());
  await holder.query('begin');
  await holder.query('select from public.organizations where id = $1 for update', [held.orgId]);
  // More than the sidecar has connections.
  const waiting = Array.from({ length: 24 }, () => deliver(hook, event()));
  const asking = async () => {
    const waiters = (await blockedBy(holder)).map(({ pid }) => pid);
    const [{ n }] = await adminSql(
      `select count(*)::int as n from pg_stat_activity where pid = any ($1) and query like '%reflexes_ingest%'`,
      [waiters],
    );
    return n;
  };
  await until('some of them to wait', async () => (await asking()) > 0);
  for (let n = 0; n < 5; n += 1) {
    assert.equal((await deliver(otherHook, event())).status, 202);
    assert.ok((await asking()) <= 2);
  }
  await holder.query('rollback');
  for (const { status } of await Promise.all(waiting)) assert.ok([202, 503].includes(status), `${status}`);
});
