// Limits of rows for each organization (max_rows of make_tenant_table) between sessions. Invitations have one: 200.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { begin, newUser, one, pool, waiting } from './sessions.mjs';

const LIMIT = 200;
const INVITE = `insert into public.invitations (org_id, email, role)
  select $1, gen_random_uuid() || '@example.test', 'member' from generate_series(1, $2::int) returning id`;

const counts = (org) =>
  one(
    `select (select count(*)::int from public.invitations where org_id = $1) as rows,
       coalesce((select row_count::int from private.tenant_row_counts where table_name = 'public.invitations' and organization = $1), 0) as counted`,
    [org],
  );

async function almostFull() {
  const { org } = await newUser();
  await pool.query(INVITE, [org, LIMIT - 1]);
  const sessions = [await begin(), await begin()];
  return { org, sessions };
}

test('the last row goes to one of two sessions: the second waits for the first and is refused', async () => {
  const {
    org,
    sessions: [first, second],
  } = await almostFull();
  assert.ok((await first.run(INVITE, [org, 1])).id);
  const answer = second.run(INVITE, [org, 1]);
  await waiting(second);
  await first.commit();
  assert.deepEqual(await answer, { refused: 'KJ429' });
  await second.commit();
  assert.deepEqual(await counts(org), { rows: LIMIT, counted: LIMIT });
});

test('a row that is rolled back leaves its place to the session that waited', async () => {
  const {
    org,
    sessions: [first, second],
  } = await almostFull();
  await first.run(INVITE, [org, 1]);
  const answer = second.run(INVITE, [org, 1]);
  await waiting(second);
  await first.run('rollback');
  await first.commit();
  assert.ok((await answer).id);
  await second.commit();
  assert.deepEqual(await counts(org), { rows: LIMIT, counted: LIMIT });
});

test('two sessions that fill two tables in different orders wait for each other and do not deadlock', async () => {
  const { user, org } = await newUser();
  await pool.query(`insert into public.projects (org_id, name) values ($1, 'One')`, [org]);
  const JOIN = `insert into public.project_members (org_id, project_id, user_id)
    select $1, p.id, $2 from public.projects as p where p.org_id = $1 and p.name = $3`;
  // The counts of both tables exist already, and when they do not.
  for (const first of ['none', 'One']) {
    if (first === 'One') await pool.query('delete from public.project_members where org_id = $1', [org]);
    const [a, b] = [await begin(), await begin()];
    assert.ok((await a.run(INVITE, [org, 1])).id);
    const joined = b.run(JOIN, [org, user, 'One']);
    await waiting(b);
    assert.ok((await a.run(INVITE, [org, 1])).id);
    assert.deepEqual(await a.run(JOIN, [org, user, 'none']), {});
    await a.commit();
    assert.deepEqual(await joined, {});
    assert.ok((await b.run(INVITE, [org, 1])).id);
    await b.commit();
  }
});

test('twelve sessions that insert, delete and roll back: never more than the limit, and the count is what is there', async () => {
  const { org } = await newUser();
  let refused = 0;
  await Promise.all(
    Array.from({ length: 12 }, async (_, n) => {
      const session = await pool.connect();
      try {
        for (let turn = 0; turn < 12; turn += 1) {
          await session.query('begin');
          try {
            await session.query(INVITE, [org, 15 + ((n + turn) % 7)]);
            await session.query(turn % 5 === 0 ? 'rollback' : 'commit');
          } catch (error) {
            assert.equal(error.code, 'KJ429');
            refused += 1;
            await session.query('rollback');
          }
          const { rows } = await counts(org);
          assert.ok(rows <= LIMIT, `${rows} rows`);
          await session.query(
            `delete from public.invitations
             where id = any (array(select id from public.invitations where org_id = $1 order by random() limit 9 for update skip locked))`,
            [org],
          );
        }
      } finally {
        session.release();
      }
    }),
  );
  assert.ok(refused > 0, 'nothing was refused');
  const after = await counts(org);
  assert.equal(after.counted, after.rows);
});
