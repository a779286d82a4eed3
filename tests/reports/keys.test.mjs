// Reports about API keys: how soon a revoked one ends, what a list shows of them, and limits that many requests meet at once.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKey, withKey } from '../journeys/api_keys_support.mjs';
import { newPerson, newTeam, ok, refused } from '../journeys/domain.mjs';
import { RawSocket } from '../journeys/realtime_support.mjs';
import { http, sql } from '../journeys/support.mjs';
import { report } from './report.mjs';

const get = (secret) => withKey(secret, 'GET', '/projects?select=id');

report('keys-1', 'a revoked or deleted key ends with the next request, although it was used a moment ago', async () => {
  const person = await newPerson('PRO');
  for (const end of [(id) => person.client.rpc('revoke_api_key', { id }), (id) => person.client.from('api_keys').delete().eq('id', id)]) {
    const key = await createKey(person, { permissions: ['*:read'] });
    for (let n = 0; n < 3; n += 1) assert.equal((await get(key.secret)).status, 200);
    await ok(end(key.id));
    const answers = await Promise.all(Array.from({ length: 6 }, () => get(key.secret)));
    assert.deepEqual([...new Set(answers.map(({ status, body }) => `${status} ${body.code}`))], ['401 not_identified']);
    const files = await http('GET', '/storage/v1/bucket', { headers: { apikey: '', Authorization: `Bearer ${key.secret}` } });
    assert.ok(files.status >= 400, 'storage');
    const socket = new RawSocket({ key: key.secret });
    await socket.opened.catch(() => {});
    assert.notEqual((await socket.closed).code, 1000, 'realtime');
  }
});

report('keys-2', 'a key that was used just before it expires is refused after', async () => {
  const person = await newPerson('PRO');
  const key = await createKey(person, { permissions: ['*:read'], expires_at: new Date(Date.now() + 4_000).toISOString() });
  assert.equal((await get(key.secret)).status, 200);
  await sleep(4_500);
  const answer = await get(key.secret);
  assert.deepEqual([answer.status, answer.body.code], [401, 'not_identified']);
});

report('keys-3', 'of many requests at the same moment no more pass than the rate has', async () => {
  const person = await newPerson('TEAMS');
  const key = await createKey(person, { permissions: ['*:read'], rate_limit: 5 });
  const started = Date.now();
  const answers = await Promise.all(Array.from({ length: 30 }, () => get(key.secret)));
  const passed = answers.filter(({ status }) => status === 200).length;
  // The bucket fills again while they run.
  const most = 5 + Math.ceil(((Date.now() - started) / 60_000) * 5);
  assert.ok(passed >= 5 && passed <= most, `${passed} of 30 passed, at most ${most} may`);
  for (const { status, body, headers } of answers.filter(({ status }) => status !== 200)) {
    assert.deepEqual([status, body.code], [429, 'rate_limited']);
    assert.ok(Number(headers.get('retry-after')) >= 1);
  }
});

report('keys-4', 'nobody finds a key by guessing at its prefix or its hash', async () => {
  const team = await newTeam();
  const key = await createKey(team.owner, { permissions: ['*:read'] });
  const listed = await ok(team.owner.client.from('api_keys').select('*').eq('id', key.id).single());
  assert.ok(!JSON.stringify(listed).includes(key.secret), 'a list does not have the secret');
  assert.equal(listed.prefix, key.secret.slice(0, 15));
  assert.deepEqual(
    await ok(
      team.nonMember.client
        .from('api_keys')
        .select('id')
        .like('prefix', `${key.secret.slice(0, 12)}%`),
    ),
    [],
  );
  const [{ columns }] = await sql(
    `select array_agg(column_name::text) as columns from information_schema.columns where table_schema = 'public' and table_name = 'api_keys'`,
  );
  assert.deepEqual(
    columns.filter((name) => /hash|secret|token/.test(name)),
    [],
    'what is not a column cannot be filtered by',
  );
  // The computed column asks the row that was just made, so a filter by it compares with nothing.
  const found = await team.owner.client.from('api_keys').select('id').eq('secret', key.secret);
  assert.deepEqual(found.data ?? [], []);
});

report('keys-5', 'a key with one letter changed, cut, doubled, or in other capitals is none', async () => {
  const person = await newPerson('PRO');
  const { secret } = await createKey(person, { permissions: ['*:read'] });
  const swapped = secret.replace(/[a-zA-Z](?=[^a-zA-Z]*$)/, (letter) =>
    letter === letter.toLowerCase() ? letter.toUpperCase() : letter.toLowerCase(),
  );
  for (const other of [secret.slice(0, -1), `${secret}0`, swapped, `${secret}${secret}`, `${secret}%00`]) {
    const answer = await get(other);
    assert.deepEqual([answer.status, answer.body.code], [401, 'not_identified'], other);
  }
  assert.equal((await get(secret.toUpperCase())).status, 401, 'it is read as a token, which it is not');
  assert.equal((await get(secret)).status, 200);
});

report('keys-6', 'a demotion of its maker holds for a key that is in use', async () => {
  const team = await newTeam();
  const key = await createKey(team.admin, { permissions: ['projects:read', 'projects:write'] });
  const insert = () =>
    withKey(key.secret, 'POST', '/projects', { body: { name: 'By key' }, headers: { 'Content-Type': 'application/json' } });
  assert.equal((await insert()).status, 201);
  const memberships = team.owner.client.from('memberships');
  const demoted = await ok(memberships.update({ role: 'viewer' }).eq('org_id', team.orgId).eq('user_id', team.admin.user.id).select());
  assert.equal(demoted.length, 1);
  const answer = await insert();
  assert.deepEqual([answer.status, answer.body.code], [403, '42501']);
  assert.equal((await get(key.secret)).status, 200, 'a viewer reads');
});

report('keys-7', 'the answer to a wrong key does not say whether its beginning exists', async () => {
  const person = await newPerson('PRO');
  const { secret } = await createKey(person, { permissions: ['*:read'] });
  const { secret: revoked, id } = await createKey(person, { permissions: ['*:read'] });
  await ok(person.client.rpc('revoke_api_key', { id }));
  // Checksums of both are right only for the whole key, so what is cut or changed is mistyped, whatever it begins with.
  const changed = `${secret.slice(0, 20)}${'0'.repeat(secret.length - 20)}`;
  const unknown = `kjk_live_${'1'.repeat(secret.length - 9)}`;
  const refusals = await Promise.all([changed, unknown].map(get));
  assert.deepEqual(
    refusals.map(({ status }) => status),
    [401, 401],
  );
  assert.deepEqual(refusals[0].body, refusals[1].body);
  assert.equal((await get(revoked)).status, 401);
  await refused(person.client.rpc('revoke_api_key', { id: '00000000-0000-4000-8000-000000000000' }), 404, 'not_found');
});
