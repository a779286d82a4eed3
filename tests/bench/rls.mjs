// What row level security costs, on two tables in the standard shape of a tenant table: one of a million rows, of which one
// tenant has 100,000 and nine thousand tenants have 100 each, and one whose 100,000 rows belong to projects, which can hide
// them. The same statements run as members who hold the permission in different ways, and without row level security, in turns.
// Times are the client's; ratios are those of the backend's processor time.
//
//   ./kijko bench rls            KIJKO_BENCH_ROUNDS=5   KIJKO_BENCH_RUNS=40 (of each statement in a round)
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import pg from 'pg';

const env = process.env;
const ROUNDS = Number(env.KIJKO_BENCH_ROUNDS ?? 5);
const RUNS = Number(env.KIJKO_BENCH_RUNS ?? 40);
const LARGE = 100_000;
const SMALL = 100;
const TENANTS = 9_000;
const NONE = 'no RLS';

const admin = new pg.Client({ connectionString: env.ADMIN_DB_URL });
const owner = new pg.Client({ connectionString: env.DB_URL });
await Promise.all([admin.connect(), owner.connect()]);
const one = async (db, text, values) => (await db.query(text, values)).rows[0];
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const users = [];

async function newUser() {
  const id = randomUUID();
  await admin.query(
    `insert into auth.users (id, aud, role, email, email_confirmed_at) values ($1, 'authenticated', 'authenticated', $2, now())`,
    [id, `${id}@example.test`],
  );
  users.push(id);
  return id;
}

/** An organization that its founder owns, with a project. */
async function newTenant() {
  const user = await newUser();
  const { id: org } = await one(admin, 'select id from public.organizations where personal_for = $1', [user]);
  await admin.query(`update public.subscriptions set plan = 'TEAMS' where org_id = $1`, [org]);
  const { id: project } = await one(admin, `insert into public.projects (org_id, name) values ($1, 'Bench') returning id`, [org]);
  return { user, org, project };
}

// How a member can hold content:read.
const ROLES = {
  'built-in role': null,
  'custom role': ['content:read', 'projects:read', 'skills:read', 'usage:read'],
  'custom role with *:read': ['*:read'],
};

const KEYS = { 'service key': 'service', 'personal key': 'personal' };

async function newMember({ org }, permissions) {
  const user = await newUser();
  await admin.query('delete from public.organizations where personal_for = $1', [user]);
  let role = null;
  if (permissions)
    role = (
      await one(admin, 'insert into public.custom_roles (org_id, name, permissions) values ($1, $2, $3) returning id', [
        org,
        randomUUID(),
        permissions,
      ])
    ).id;
  await admin.query(`insert into public.memberships (org_id, user_id, role, custom_role_id) values ($1, $2, 'viewer', $3)`, [
    org,
    user,
    role,
  ]);
  return user;
}

async function makeTable(name, columns, catalogue, rows) {
  await owner.query(`
    create table public.${name} (
      id uuid primary key default gen_random_uuid(),
      org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
      title text not null check (char_length(title) <= 100),
      created_by uuid default kijko.user_id(),
      created_by_key uuid default kijko.api_key_id(),
      created_at timestamptz not null default kijko.now(),
      updated_at timestamptz not null default kijko.now()
      ${columns}
    )`);
  await owner.query(
    `select private.make_tenant_table('public.${name}', resource => 'content', max_rows => 10000000, catalogue => '${catalogue}')`,
  );
  // Without foreign keys: most tenants are ids only.
  await admin.query('set session_replication_role = replica');
  await admin.query(rows.text, rows.values);
  await admin.query('reset session_replication_role');
  await admin.query(`vacuum analyze public.${name}`);
}

async function makeTables(large, small) {
  await makeTable('rls_bench', '', '{"title": "bench"}', {
    text: `insert into public.rls_bench (org_id, title, created_at)
      select o.org, 'row ' || n, now() - n * interval '1 second'
      from (
        select $1::uuid as org, $2::int as rows
        union all select $3, $4
        union all select gen_random_uuid(), $4 from generate_series(2, $5)
      ) as o, generate_series(1, o.rows) as n
      order by random()`,
    values: [large.org, LARGE, small.org, SMALL, TENANTS],
  });
  await makeTable(
    'rls_bench_projects',
    ', project_id uuid, foreign key (org_id, project_id) references public.projects (org_id, id)',
    '{"title, project_id": "bench"}',
    {
      text: `insert into public.rls_bench_projects (org_id, project_id, title)
        select $1::uuid, $2::uuid, 'row ' || n from generate_series(1, $3::int) as n`,
      values: [large.org, large.project, LARGE],
    },
  );
  for (const table of ['role_permissions', 'permissions']) await admin.query(`vacuum analyze private.${table}`);
  await admin.query('vacuum analyze public.memberships');
}

/** A session as PostgREST has one for the user; without a user one that row level security does not concern. */
async function sessionOf(user) {
  const session = new pg.Client({ connectionString: user ? env.ADMIN_DB_URL : env.DB_URL });
  await session.connect();
  await session.query('set max_parallel_workers_per_gather = 0');
  if (user) {
    await session.query('set session authorization authenticator');
    await session.query('set role authenticated');
    await session.query(`select set_config('request.jwt.claims', $1, false)`, [JSON.stringify({ role: 'authenticated', sub: user })]);
  }
  return session;
}

const NEWEST = 'select id, title from public.rls_bench where org_id = $1 order by created_at desc, id desc limit 20';
const BY_ID = 'select id, title from public.rls_bench where id = $1';
/** A session in a transaction of the key's, as PostgREST begins one. */
async function sessionOfKey(tenant, kind) {
  const founder = await sessionOf(tenant.user);
  const { secret } = await one(founder, `select (k).secret from public.create_api_key($1, '["content:read"]', $1) as k`, [kind]);
  await founder.end();
  const session = new pg.Client({ connectionString: env.ADMIN_DB_URL });
  await session.connect();
  await session.query('set max_parallel_workers_per_gather = 0');
  await session.query('set session authorization authenticator');
  await session.query('begin');
  await session.query('set local role anon');
  await session.query(`select set_config('request.method', 'GET', true), set_config('request.headers', $1, true)`, [
    JSON.stringify({ 'x-api-key': secret }),
  ]);
  await session.query('select public.before_request()');
  await session.query('set local statement_timeout = 0');
  return session;
}

/** The statements. Without row level security, those of a whole tenant name the organization. Only values of rows are counted:
 *  a count of rows alone reads an index, which the check of projects cannot. */
const statementsOf = ({ large, small }, row) => [
  {
    title: `all ${SMALL} rows of a tenant, ms`,
    text: 'select id, title from public.rls_bench',
    tenant: small,
    size: 'small',
    rows: SMALL,
    most: 2,
  },
  { title: 'the newest 20 of 100,000, ms', text: NEWEST, plain: NEWEST, value: large.org, size: 'large', rows: 20 },
  { title: 'one row by its id, ms', text: BY_ID, plain: BY_ID, value: row, size: 'large', rows: 1 },
  {
    title: 'count of 100,000 rows, ms',
    text: 'select count(title)::int as n from public.rls_bench',
    tenant: large,
    size: 'large',
    n: LARGE,
    ratio: 1.3,
  },
  {
    title: 'the same by the index alone, ms',
    text: 'select count(*)::int as n from public.rls_bench',
    tenant: large,
    size: 'large',
    n: LARGE,
    ratio: 1.3,
  },
  {
    title: 'count of 100,000 rows of a project, ms',
    text: 'select count(title)::int as n from public.rls_bench_projects',
    tenant: large,
    size: 'large',
    n: LARGE,
    ratio: 1.3,
  },
];

async function run(session, { title, text, plain, tenant, value, rows, n }, secured) {
  const unsecured = plain ?? `${text} where org_id = $1`;
  const query = secured ? { text, values: value ? [value] : [] } : { text: unsecured, values: [value ?? tenant.org] };
  const begun = performance.now();
  const answer = await session.query({ name: title, ...query });
  const took = performance.now() - begun;
  if (rows) assert.equal(answer.rows.length, rows, title);
  if (n) assert.equal(answer.rows[0].n, n, title);
  return took;
}

/** The processor's time of the session's backend so far, in ms. Other programs on the machine do not change it. */
const cpu = async (session) => Number((await one(session, 'select public.rls_bench_cpu() as ns')).ns) / 1e6;

async function measure(statements, sessions) {
  const holders = Object.keys(sessions);
  const took = statements.map(() => Object.fromEntries(holders.map((holder) => [holder, { wall: [], cpu: [] }])));
  for (let round = 0; round <= ROUNDS; round += 1) {
    // In another order each time: who comes first finds the caches cold.
    for (const [index, statement] of statements.entries()) {
      for (const turn of holders.keys()) {
        const holder = holders[(turn + round) % holders.length];
        const session = sessions[holder][statement.size];
        const walls = [];
        const begun = await cpu(session);
        for (let n = 0; n < RUNS; n += 1) walls.push(await run(session, statement, holder !== NONE));
        if (round === 0) continue; // makes the plans
        took[index][holder].cpu.push(((await cpu(session)) - begun) / RUNS);
        took[index][holder].wall.push(median(walls));
      }
    }
  }
  return took;
}

/** One line of the table; whether it misses a goal. */
function report({ title, most, ratio }, times) {
  const base = median(times[NONE].cpu);
  let missed = false;
  const cells = Object.entries(times).map(([holder, { wall, cpu }]) => {
    const ms = median(wall);
    const times = median(cpu) / base;
    if (holder === NONE) return ms.toFixed(2);
    missed ||= ms >= (most ?? Number.POSITIVE_INFINITY) || times > (ratio ?? Number.POSITIVE_INFINITY);
    return `${ms.toFixed(2)} (${times.toFixed(2)})`;
  });
  console.log(`| ${title} | ${cells.join(' | ')} |`);
  return missed;
}

try {
  const tenants = { large: await newTenant(), small: await newTenant() };
  await makeTables(tenants.large, tenants.small);
  await admin.query(`
    create function public.rls_bench_cpu() returns bigint language sql volatile security definer set search_path = pg_catalog, pg_temp
    return split_part(pg_read_file('/proc/self/schedstat', 0, 200), ' ', 1)::bigint;
    grant execute on function public.rls_bench_cpu() to public`);
  const sessions = { [NONE]: { large: await sessionOf(), small: await sessionOf() } };
  for (const [size, tenant] of Object.entries(tenants)) {
    for (const [holder, permissions] of Object.entries(ROLES)) {
      sessions[holder] ??= {};
      sessions[holder][size] = await sessionOf(await newMember(tenant, permissions));
    }
    for (const [holder, kind] of Object.entries(KEYS)) {
      sessions[holder] ??= {};
      sessions[holder][size] = await sessionOfKey(tenant, kind);
    }
  }
  const { id: row } = await one(admin, 'select id from public.rls_bench where org_id = $1 limit 1', [tenants.large.org]);
  const statements = statementsOf(tenants, row);
  const took = await measure(statements, sessions);
  const names = Object.keys(sessions);
  console.log(`\n| medians of ${ROUNDS} rounds | ${names.join(' | ')} |\n|${'---|'.repeat(names.length + 1)}`);
  const missed = statements.filter((statement, index) => report(statement, took[index]));
  console.log(
    `\ngoals (a tenant's rows < 2 ms, counts <= 1.3 times): ${missed.length ? `missed: ${missed.map(({ title }) => title).join('; ')}` : 'reached'}`,
  );
  await Promise.all(Object.values(sessions).flatMap((bySize) => Object.values(bySize).map((session) => session.end())));
} finally {
  await admin.query('drop function if exists public.rls_bench_cpu()');
  await owner.query('drop table if exists public.rls_bench, public.rls_bench_projects');
  await owner.query(`delete from private.data_catalogue where table_name in ('public.rls_bench', 'public.rls_bench_projects')`);
  await admin.query('delete from auth.users where id = any($1)', [users]);
  await Promise.all([admin.end(), owner.end()]);
}
