// API keys while several sessions make, rotate and revoke them, and while their makers change.
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { becomeUser, newUser } from './sessions.mjs';
import { atOnce, one, pool, promptly, queryAs, untilWaitingFor, used } from './support.mjs';

const CREATE = `select k.id, k.secret from public.create_api_key('race', '["skills:read"]') as k`;
const keys = async (org) => Number((await one('select count(*) from public.api_keys where org_id = $1', [org])).count);

/** Whether a request with this secret would be admitted now. */
const opens = async (id, secret) =>
  (
    await one(
      `select k.revoked_at is null and exists (
         select 1 from kijko.api_key_secrets as s
         where s.api_key_id = k.id and s.hash = $2 and (s.valid_until is null or s.valid_until > kijko.now())
       ) as opens
       from kijko.api_keys as k where k.id = $1`,
      [id, createHash('sha256').update(secret).digest()],
    )
  )?.opens ?? false;

test('of those who make a key at once at the last free place, one gets it', async () => {
  const { user, org } = await newUser();
  for (let n = 0; n < 2; n += 1) assert.ok((await queryAs(user, CREATE)).rows);
  const answers = await atOnce(8, () => queryAs(user, CREATE));
  assert.equal(answers.filter(({ rows }) => rows).length, 1);
  assert.deepEqual(
    answers.filter(({ refused }) => refused).map(({ refused }) => refused),
    Array(7).fill('KJ429'),
  );
  assert.deepEqual([await keys(org), await used(org, 'api_keys')], [3, 3]);
  const [{ known }] = (await pool.query('select count(*)::int as known from kijko.api_keys where org_id = $1', [org])).rows;
  assert.equal(known, 3, 'what was refused is not known to the extension');
});

test('rotated and revoked at once, a key is revoked, whichever came first', async () => {
  const { user } = await newUser();
  for (let round = 0; round < 6; round += 1) {
    const { id, secret } = (await queryAs(user, CREATE)).rows[0];
    const [rotated, revoked, again] = await Promise.all([
      queryAs(user, `select k.secret from public.rotate_api_key($1, '1 hour') as k`, [id]),
      queryAs(user, 'select k.revoked_at from public.revoke_api_key($1) as k', [id]),
      queryAs(user, 'select k.revoked_at from public.revoke_api_key($1) as k', [id]),
    ]);
    assert.ok(rotated.rows || rotated.refused === 'KJ409', JSON.stringify(rotated));
    assert.deepEqual(revoked.rows[0].revoked_at, again.rows[0].revoked_at, 'revoked once');
    for (const known of [secret, ...(rotated.rows ?? []).map((row) => row.secret)]) assert.equal(await opens(id, known), false);
    await queryAs(user, 'delete from public.api_keys where id = $1', [id]);
  }
});

test('rotations at once take turns: the last one is the key, and the first one ends after the overlap', async () => {
  const { user } = await newUser();
  const { id, secret } = (await queryAs(user, CREATE)).rows[0];
  const rotated = await atOnce(4, () => queryAs(user, 'select k.secret, k.prefix from public.rotate_api_key($1) as k', [id]));
  const secrets = rotated.map(({ rows }) => rows[0].secret);
  assert.equal(new Set(secrets).size, 4);
  const open = [];
  for (const known of [secret, ...secrets]) if (await opens(id, known)) open.push(known);
  assert.equal(open.length, 1, 'without an overlap one key is left');
  assert.ok(
    open[0].startsWith((await one('select prefix from public.api_keys where id = $1', [id])).prefix),
    'the one that the prefix names',
  );
});

test('a key that is made while its maker is removed does not outlive the membership', async () => {
  const [owner, admin] = [await newUser(), await newUser()];
  for (const [kind, left] of [
    ['personal', 0],
    ['service', 1],
  ]) {
    await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'admin')`, [owner.org, admin.user]);
    const making = await pool.connect();
    try {
      await making.query('begin');
      await becomeUser(making, admin.user);
      const { rows } = await making.query(
        `insert into public.api_keys (org_id, name, kind, permissions) values ($1, 'race', $2, '["skills:read", "*:write"]') returning id`,
        [owner.org, kind],
      );
      const removed = pool.query('delete from public.memberships where org_id = $1 and user_id = $2', [owner.org, admin.user]);
      await untilWaitingFor(making.processID, 'transactionid');
      await making.query('commit');
      await removed;
      const found = (await pool.query('select user_id, permissions from public.api_keys where id = $1', [rows[0].id])).rows;
      assert.equal(found.length, left, kind);
      for (const key of found) {
        assert.equal(key.user_id, null);
        assert.ok(key.permissions.includes('skills:write') && !key.permissions.includes('*:write'), 'cut to what the member held');
      }
      assert.equal((await pool.query('select 1 from kijko.api_keys where id = $1', [rows[0].id])).rowCount, left);
    } finally {
      await making.query('rollback');
      making.release();
    }
  }
});

test('who is removed while making a key does not get it', async () => {
  const [owner, admin] = [await newUser(), await newUser()];
  await pool.query(`insert into public.memberships (org_id, user_id, role) values ($1, $2, 'admin')`, [owner.org, admin.user]);
  const removing = await pool.connect();
  try {
    await removing.query('begin');
    await removing.query('delete from public.memberships where org_id = $1 and user_id = $2', [owner.org, admin.user]);
    const making = queryAs(
      admin.user,
      `insert into public.api_keys (org_id, name, permissions) values ($1, 'race', '["skills:read"]') returning id`,
      [owner.org],
    );
    await untilWaitingFor(removing.processID, 'transactionid');
    await removing.query('commit');
    assert.equal((await making).refused, '23503');
    assert.equal(await keys(owner.org), 0);
  } finally {
    await removing.query('rollback');
    removing.release();
  }
});

test('two upserts of one id are one key, and only the first gets it', async () => {
  const { user } = await newUser();
  const id = randomUUID();
  const UPSERT = `insert into public.api_keys as k (id, name, permissions) values ($1, 'race', '["skills:read"]')
    on conflict (id) do update set name = excluded.name returning public.secret(k) as secret`;
  const answers = await atOnce(2, () => queryAs(user, UPSERT, [id]));
  const secrets = answers.map(({ rows }) => rows[0].secret).filter((secret) => secret !== null);
  assert.equal(secrets.length, 1);
  assert.equal(await opens(id, secrets[0]), true);
});

test('a locked key does not stop another', async () => {
  const { user } = await newUser();
  const [first, second] = [(await queryAs(user, CREATE)).rows[0], (await queryAs(user, CREATE)).rows[0]];
  const holding = await pool.connect();
  try {
    await holding.query('begin');
    await holding.query('select 1 from public.api_keys where id = $1 for update', [first.id]);
    await promptly(`update public.api_keys set name = 'other' where id = $1`, [second.id]);
    assert.ok((await queryAs(user, 'select public.revoke_api_key($1)', [second.id])).rows);
  } finally {
    await holding.query('rollback');
    holding.release();
  }
});

/** From here on the session's transaction is one that PostgREST would run for the key. */
async function becomeKey(session, secret) {
  await session.query('set local session authorization authenticator');
  await session.query('set local role anon');
  await session.query(
    `select set_config('request.jwt.claims', '{"role": "anon"}', true), set_config('request.method', 'POST', true),
       set_config('request.path', '/rpc/create_api_key', true), set_config('request.headers', $1, true)`,
    [JSON.stringify({ 'x-api-key': secret })],
  );
  await session.query('select public.before_request()');
}

/** A key that makes keys, and a transaction as it, which is rolled back at the end. */
async function withMaker(run) {
  const { user } = await newUser();
  const { rows } = await queryAs(
    user,
    `select k.id, k.secret from public.create_api_key('maker', '["skills:read", "skills:write", "api_keys:read", "api_keys:write"]') as k`,
  );
  const [maker] = rows;
  const session = await pool.connect();
  try {
    await session.query('begin');
    await becomeKey(session, maker.secret);
    await run({ user, maker, session });
  } finally {
    await session.query('rollback').catch(() => {});
    session.release();
  }
}
const MAKE = `select k.id from public.create_api_key('made', '["skills:read", "skills:write"]') as k`;
const NARROW = `update public.api_keys set permissions = '["skills:read", "api_keys:read", "api_keys:write"]' where id = $1`;

test('a key that is narrowed while it makes one narrows that one, too', () =>
  withMaker(async ({ user, maker, session }) => {
    const {
      rows: [made],
    } = await session.query(MAKE);
    const narrowed = queryAs(user, NARROW, [maker.id]);
    await untilWaitingFor(session.processID, 'transactionid');
    await session.query('commit');
    assert.ok((await narrowed).rows, JSON.stringify(await narrowed));
    assert.deepEqual((await one('select permissions from public.api_keys where id = $1', [made.id])).permissions, ['skills:read']);
    assert.deepEqual((await one('select permissions from kijko.api_keys where id = $1', [made.id])).permissions, ['skills:read']);
  }));

test('a key that makes one while it is narrowed gives no more than it keeps', () =>
  withMaker(async ({ user, maker, session }) => {
    const narrowing = await pool.connect();
    try {
      await narrowing.query('begin');
      await becomeUser(narrowing, user);
      await narrowing.query(NARROW, [maker.id]);
      const making = session.query(MAKE).then(
        () => 'made',
        (error) => error.code,
      );
      await untilWaitingFor(narrowing.processID, 'transactionid');
      await narrowing.query('commit');
      assert.equal(await making, 'PGRST', 'it is refused');
      assert.equal((await one(`select count(*)::int as n from public.api_keys where created_by_key = $1`, [maker.id])).n, 0);
    } finally {
      await narrowing.query('rollback');
      narrowing.release();
    }
  }));
