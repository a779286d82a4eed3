// The audit log over HTTP: who reads it, what a request leaves in it, and its export.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { UUID } from './auth_support.mjs';
import { newPerson, newTeam, ok, refused, unaffected, until } from './domain.mjs';
import { admin, env, http, newEmail, signIn, sql } from './support.mjs';

let team;
before(async () => {
  team = await newTeam();
});

const entries = (person, action) => person.client.from('audit_log').select('*').eq('org_id', team.orgId).eq('action', action).order('seq');
const newKey = (permissions, fields = {}) =>
  ok(team.owner.client.rpc('create_api_key', { name: 'Key', permissions, rate_limit: 600, ...fields }));
const byKey = (key, method, path, body) =>
  http(method, `/rest/v1/${path}`, { body, headers: { 'X-API-Key': key.secret, 'Content-Type': 'application/json' } });

describe('who reads it', () => {
  test('not a non-member, a viewer or a member', async () => {
    assert.deepEqual(await ok(team.nonMember.client.from('audit_log').select('id').eq('org_id', team.orgId)), []);
    await refused(team.nonMember.client.rpc('verify_audit_chain', { org_id: team.orgId }), 403, 'not_a_member');
    await refused(team.nonMember.client.rpc('export_audit_log', { org_id: team.orgId }), 403, 'not_a_member');
    for (const { client } of [team.viewer, team.member]) {
      assert.deepEqual(await ok(client.from('audit_log').select('id').eq('org_id', team.orgId)), []);
      await refused(client.rpc('verify_audit_chain'), 403, 'permission_denied');
      await refused(client.rpc('export_audit_log'), 403, 'permission_denied');
    }
    assert.equal((await http('GET', '/rest/v1/audit_log', { token: env.ANON_KEY })).status, 401);
  });

  test('a key by name, and never by a wildcard', async () => {
    const [wild, reads] = [await newKey(['*:read', '*:write']), await newKey(['audit:read'])];
    assert.deepEqual((await byKey(wild, 'GET', 'audit_log')).body, []);
    assert.equal((await byKey(wild, 'POST', 'rpc/verify_audit_chain', {})).body.code, 'permission_denied');
    assert.ok((await byKey(reads, 'GET', 'audit_log')).body.length > 0);
    assert.equal((await byKey(reads, 'POST', 'rpc/verify_audit_chain', {})).status, 200);
  });

  test('nobody writes it', async () => {
    const [entry] = await ok(entries(team.owner, 'member.created'));
    for (const client of [team.owner.client, admin()]) {
      await unaffected(client.from('audit_log').update({ action: 'a.b' }).eq('id', entry.id).select());
      await unaffected(client.from('audit_log').delete().eq('id', entry.id).select());
      await unaffected(
        client.from('audit_log').insert({ org_id: team.orgId, action: 'a.b', actor_kind: 'user', target_type: 'x' }).select(),
      );
    }
    assert.deepEqual(await ok(entries(team.owner, 'member.created').limit(1)), [entry]);
  });
});

describe('what a request leaves', () => {
  test('who, what, from where, and the request', async () => {
    const id = randomUUID();
    const answer = await http('PATCH', `/rest/v1/memberships?org_id=eq.${team.orgId}&user_id=eq.${team.viewer.user.id}`, {
      token: team.admin.token,
      body: { role: 'member' },
      headers: { 'Content-Type': 'application/json', 'User-Agent': 'journey/1.0', 'X-Request-Id': id },
    });
    assert.equal(answer.status, 204, answer.text);
    const entry = (await ok(entries(team.owner, 'member.updated'))).at(-1);
    assert.deepEqual(
      [entry.actor_kind, entry.created_by, entry.subject_user_id, entry.before, entry.after, entry.user_agent],
      ['user', team.admin.user.id, team.viewer.user.id, { role: 'viewer' }, { role: 'member' }, 'journey/1.0'],
    );
    assert.match(entry.address, /^(127\.0\.0\.1|::1)/);
    assert.deepEqual([entry.request_id, answer.headers.get('x-request-id')], [id, id]);
  });

  test('an API key', async () => {
    const key = await newKey(['secrets:write', 'secrets:read']);
    assert.equal((await byKey(key, 'POST', 'rpc/set_secret', { name: 'BY_KEY', value: 'a secret value' })).status, 200);
    const [entry] = await ok(entries(team.owner, 'secret.created'));
    assert.deepEqual([entry.actor_kind, entry.created_by, entry.created_by_key, entry.after.name], ['service_key', null, key.id, 'BY_KEY']);
    const all = await sql('select to_jsonb(e)::text as text from public.audit_log as e where e.org_id = $1', [team.orgId]);
    assert.ok(!all.some(({ text }) => text.includes('a secret value') || text.includes(key.secret)));
  });

  test('a refused request leaves nothing', async () => {
    await refused(team.viewer.client.rpc('set_secret', { name: 'NO', value: 'x' }), 403, 'permission_denied');
    assert.deepEqual(
      (await ok(entries(team.owner, 'secret.created'))).filter(({ after }) => after.name === 'NO'),
      [],
    );
  });

  test('sign-ins, and those that are refused', async () => {
    const { email, password, user } = team.member;
    const wrong = await http('POST', '/auth/v1/token?grant_type=password', { body: { email, password: `${password}x` } });
    assert.equal(wrong.status, 400, wrong.text);
    const again = await signIn({ email, password });
    const refusals = (await ok(entries(team.owner, 'session.refused'))).filter((e) => e.subject_user_id === user.id);
    assert.deepEqual(
      refusals.map(({ target_id, after, actor_kind }) => [target_id, after.reason, actor_kind]),
      [[user.id, 'invalid_credentials', 'login']],
    );
    const started = (await ok(entries(team.owner, 'session.started'))).at(-1);
    assert.deepEqual([started.created_by, started.actor_kind, started.after], [user.id, 'user', { aal: 'aal1' }]);
    assert.ok(started.address && started.user_agent);
    await again.client.auth.signOut({ scope: 'local' });
    const ended = (await ok(entries(team.owner, 'session.ended'))).at(-1);
    assert.equal(ended.target_id, started.target_id);
  });

  test('passwords, addresses, and wrong codes of mails', async () => {
    const person = await newPerson();
    const { email, client, user, orgId } = person;
    const found = async (action) =>
      sql('select * from public.audit_log where org_id = $1 and action = $2 and subject_user_id = $3 order by seq', [
        orgId,
        action,
        user.id,
      ]);
    const answer = await http('POST', '/auth/v1/verify', { body: { type: 'email', email, token: '000000' } });
    assert.equal(answer.status, 403, answer.text);
    assert.deepEqual(
      (await found('session.refused')).map(({ after, actor_kind }) => [after.reason, actor_kind]),
      [['otp_expired', 'login']],
    );
    const address = newEmail('other');
    assert.equal((await client.auth.updateUser({ email: address })).error, null);
    // The test stack confirms addresses at once.
    assert.deepEqual(
      (await found('user.email_changed')).map(({ personal, actor_kind }) => [personal, actor_kind]),
      [[{ before: { email }, after: { email: address } }, 'login']],
    );
    assert.equal((await client.auth.updateUser({ password: 'another-Heron-44' })).error, null);
    const [changed] = await found('user.password_changed');
    assert.deepEqual([changed.before, changed.after, changed.actor_kind], [{ has_password: true }, { has_password: true }, 'login']);
    assert.ok(changed.address && changed.request_id);
  });

  test('an account that wrong passwords lock', async () => {
    const person = await newPerson();
    const { email, user, orgId } = person;
    const [{ lockout_attempts: attempts }] = await sql('select lockout_attempts from auth_api.settings');
    // Another program than that of the owner.
    const request = { body: { email, password: 'not-the-password' }, headers: { 'User-Agent': 'a stranger' } };
    let answer;
    for (let n = 0; n <= attempts; n += 1) answer = await http('POST', '/auth/v1/token?grant_type=password', request);
    assert.deepEqual([answer.status, answer.body.code], [429, 'account_locked']);
    const reasons = await sql(
      `select action, after ->> 'reason' as reason from public.audit_log
       where org_id = $1 and subject_user_id = $2 and action in ('session.refused', 'user.locked') order by seq`,
      [orgId, user.id],
    );
    assert.equal(reasons.filter(({ action }) => action === 'user.locked').length, 1);
    assert.deepEqual(reasons.at(-1), { action: 'session.refused', reason: 'account_locked' });
  });

  test('an address that nobody has is an entry without it', async () => {
    const email = `nobody-${randomUUID()}@example.com`;
    const answer = await http('POST', '/auth/v1/token?grant_type=password', {
      body: { email, password: 'wrong-password' },
      headers: { 'User-Agent': email },
    });
    assert.equal(answer.status, 400, answer.text);
    const found = await sql(`select * from public.audit_log where action = 'session.refused' and user_agent = $1`, [email]);
    assert.deepEqual(
      found.map(({ target_id, subject_user_id, created_by }) => [target_id, subject_user_id, created_by]),
      [[null, null, null]],
    );
  });

  test('whatever a client sends as its headers', async () => {
    const answer = await http('PATCH', `/rest/v1/organizations?id=eq.${team.orgId}`, {
      token: team.owner.token,
      body: { name: 'Renamed' },
      headers: { 'Content-Type': 'application/json', 'User-Agent': 'x'.repeat(4000), 'X-Request-Id': 'y'.repeat(4000) },
    });
    assert.equal(answer.status, 204, answer.text);
    const entry = (await ok(entries(team.owner, 'organization.updated'))).at(-1);
    assert.ok(entry.user_agent.length <= 512);
    assert.match(entry.request_id, UUID, 'what is no id is replaced');
    assert.equal(entry.request_id, answer.headers.get('x-request-id'));
  });
});

describe('lists and export', () => {
  test('a list goes on by seq, as any other', async () => {
    const seen = [];
    for (let after = 0; ; ) {
      const page = await ok(
        team.owner.client.from('audit_log').select('id,seq').eq('org_id', team.orgId).gt('seq', after).order('seq').limit(3),
      );
      if (page.length === 0) break;
      seen.push(...page.map(({ id }) => id));
      after = page.at(-1).seq;
    }
    const [{ count }] = await sql('select count(*)::integer from public.audit_log where org_id = $1', [team.orgId]);
    assert.equal(seen.length, count);
    assert.equal(new Set(seen).size, count);
  });

  test('the export has every sealed entry once, in the order of the chain', async () => {
    await until('all entries to be sealed', async () => {
      await sql('select private.audit_seal()');
      const { entries: sealed } = await ok(team.owner.client.rpc('verify_audit_chain'));
      const [{ count }] = await sql('select count(*)::integer from public.audit_log where org_id = $1', [team.orgId]);
      return sealed === count;
    });
    const { client } = team.owner;
    const lines = [];
    for (let position = 0; ; position = lines.at(-1).position) {
      const page = await ok(client.rpc('export_audit_log', { after_position: position, max_rows: 4 }));
      if (page.length === 0) break;
      lines.push(...page);
    }
    const stored = await sql('select id from public.audit_log where org_id = $1', [team.orgId]);
    assert.deepEqual(
      lines.map(({ position }) => position),
      stored.map((_, n) => n + 1),
    );
    assert.deepEqual(lines.map(({ entry }) => entry.id).sort(), stored.map(({ id }) => id).sort());
    const proof = await ok(client.rpc('verify_audit_chain'));
    assert.deepEqual([proof.ok, proof.faults, proof.head.position], [true, [], lines.length]);
    assert.equal(lines.at(-1).seal_hash, proof.head.hash);
    for (const bad of [{ after_position: -1 }, { max_rows: 0 }, { max_rows: 1001 }]) {
      await refused(client.rpc('export_audit_log', bad), 422, 'invalid_input');
    }
    await refused(client.rpc('verify_audit_chain', { known_seal: 1 }), 422, 'invalid_input');
    await refused(admin().rpc('verify_audit_chain'), 422, 'invalid_input');
    assert.equal((await ok(admin().rpc('verify_audit_chain', { org_id: team.orgId }))).ok, true);
  });
});
