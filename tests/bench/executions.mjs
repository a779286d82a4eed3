// Executions of one organization: pages of its list, and its statistics, when it has ten thousand of them and when it has ten
// million. The statements are what PostgREST makes of the guide's calls, as a member under row level security. Times are the
// client's; ratios are those of the backend's processor time, which other programs do not change.
//
//   ./kijko bench executions     KIJKO_BENCH_ROWS=10000000 (needs about 20 GB of disk)   KIJKO_BENCH_RUNS=60
import { randomUUID } from 'node:crypto';
import pg from 'pg';

const env = process.env;
const FEW = 10_000;
const MANY = Number(env.KIJKO_BENCH_ROWS ?? 10_000_000);
const RUNS = Number(env.KIJKO_BENCH_RUNS ?? 60);
const STEP = 500_000;
const SKILLS = 20;

const admin = new pg.Client({ connectionString: env.ADMIN_DB_URL });
await admin.connect();
const query = async (text, values) => (await admin.query(text, values)).rows;
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** An organization with skills, and the users who run them. */
async function newTenant() {
  const user = randomUUID();
  await query(
    `insert into auth.users (id, aud, role, email, email_confirmed_at) values ($1, 'authenticated', 'authenticated', $2, now())`,
    [user, `${user}@example.test`],
  );
  const [{ id: org }] = await query('select id from public.organizations where personal_for = $1', [user]);
  await query(`update public.subscriptions set plan = 'ENTERPRISE' where org_id = $1`, [org]);
  const skills = await query(
    `insert into public.skills (org_id, name, prompt_template) select $1, 'Skill ' || n, 'x' from generate_series(1, $2::int) as n returning id`,
    [org, SKILLS],
  );
  return { user, org, skills: skills.map(({ id }) => id), member: randomUUID(), reflex: randomUUID(), habit: randomUUID() };
}

/** Rows number `from` to `to` of a year, the newest last: one in 200 failed, one in 100 is a member's, one in 100 a reflex's. */
async function load({ org, skills, member, reflex }, from, to) {
  // Without triggers and foreign keys, which ten million single runs would have paid for one after the other.
  await query('set session_replication_role = replica');
  for (let first = from; first <= to; first += STEP) {
    const last = Math.min(first + STEP - 1, to);
    await query(
      `with made as (
         insert into public.executions (org_id, skill_id, reflex_id, created_by, trigger, status, input, output, model, cost_microusd,
           input_tokens, output_tokens, created_at, started_at, finished_at)
         select $1, ($2::uuid[])[1 + n % ${SKILLS}], case when n % 100 = 7 then $4::uuid end, case when n % 100 = 3 then $3::uuid end,
           case when n % 100 = 7 then 'reflex' else 'api' end, case when n % 200 = 0 then 'failed' else 'succeeded' end,
           '{"text": "bench"}', '{"text": "bench"}', 'echo/echo', case when n % 50000 = 0 then 9000000 else n % 1000 end, 100, 50, t.at, t.at,
           t.at + n % 60 * interval '1 second'
         from generate_series($5::bigint, $6::bigint) as n
         cross join lateral (select now() - ($7::bigint - n) * (interval '365 days' / $7::bigint) as at) as t
         returning *
       )
       insert into private.execution_deltas (org, project_id, managers_only, skill_id, habit_id, reflex_id, trigger, finished_at, succeeded, failed,
         cancelled, skipped, durations, cost_microusd, input_tokens, output_tokens)
       select org_id, project_id, false, skill_id, habit_id, reflex_id, trigger, finished_at, (status = 'succeeded')::int, (status = 'failed')::int, 0, 0,
         array_fill(0, array[b.bin - 1]) || 1 || array_fill(0, array[32 - b.bin]), cost_microusd, input_tokens, output_tokens
       from made cross join lateral (select private.executions_duration_bin(finished_at - started_at) as bin) as b`,
      [org, skills, member, reflex, first, last, MANY],
    );
    // The oldest first, as in a year; the last minute is the tail that a reader adds.
    const begun = performance.now();
    await query('select private.executions_fold((select greatest(count(*) - 1000, 0)::integer from private.execution_deltas))');
    console.log(`${last.toLocaleString('en')} rows; the last fold took ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  }
  await query(
    `insert into public.jobs (id, org_id, kind, status, created_at, finished_at)
     select gen_random_uuid(), $1, 'bench', case when n % 200 = 0 then 'dead' else 'succeeded' end, now() - ($4::bigint - n) * interval '3 seconds', now()
     from generate_series($2::bigint, $3::bigint) as n`,
    [org, from, to, MANY],
  );
  await query('reset session_replication_role');
  await query('vacuum analyze public.executions');
  await query('vacuum analyze public.jobs');
  await query('vacuum analyze private.execution_rollups');
}

const LIST = 'select id, status, trigger, cost_microusd, created_at, skill_id from public.executions where org_id = $1';
const NEWEST = 'order by created_at desc, id desc limit 20';

function lists({ org, skills, member, reflex }, cursor) {
  const page = (title, filter, ...values) => ({ title, text: `${LIST} ${filter} ${NEWEST}`, values: [org, ...values] });
  return [
    page('first page', ''),
    page('a page in the middle', 'and created_at <= $2 and (created_at < $2 or id < $3)', cursor.created_at, cursor.id),
    page('of a skill', 'and skill_id = $2', skills[3]),
    page('failed', 'and status = $2', 'failed'),
    page('cancelled: none', 'and status = $2', 'cancelled'),
    page('by trigger', 'and trigger = $2', 'reflex'),
    page('of a reflex', 'and reflex_id = $2', reflex),
    page('of a member', 'and created_by = $2', member),
    page('in four hours', 'and created_at >= $2 and created_at < $3', new Date(Date.now() - 5 * 36e5), new Date(Date.now() - 36e5)),
    { title: 'the most expensive', text: `${LIST} order by cost_microusd desc, id desc limit 20`, values: [org] },
    {
      title: 'failed jobs',
      text: `select id, kind, status, created_at from public.jobs where org_id = $1 and status = 'dead' order by created_at desc, id desc limit 20`,
      values: [org],
    },
    {
      title: 'jobs, first page',
      text: 'select id, kind, status, created_at from public.jobs where org_id = $1 order by created_at desc, id desc limit 20',
      values: [org],
    },
  ];
}

const STATS = {
  'the last 30 days': '',
  'by skill': `by => 'skill'`,
  'by hour, 7 days': `period => 'hour', timezone => 'Europe/Amsterdam'`,
  'by day, 30 days': `period => 'day', timezone => 'Europe/Amsterdam'`,
  'by day, 30 days, Kathmandu': `period => 'day', timezone => 'Asia/Kathmandu'`,
  'by week, 26 weeks': `period => 'week', timezone => 'Europe/Amsterdam'`,
  'by month, a year': `period => 'month', timezone => 'Europe/Amsterdam'`,
  'by day, a year': `period => 'day', timezone => 'Europe/Amsterdam', since => now() - interval '364 days'`,
  'by day and skill, 30 days': `by => 'skill', period => 'day', timezone => 'Europe/Amsterdam'`,
};
const stats = ({ org }) =>
  Object.entries(STATS).map(([title, args]) => ({ title, text: `select * from public.execution_stats(${args})`, values: [], org }));

/** A session as PostgREST has one for the user. */
async function sessionOf({ user, org }) {
  const session = new pg.Client({ connectionString: env.ADMIN_DB_URL });
  await session.connect();
  await session.query('set max_parallel_workers_per_gather = 0');
  await session.query('set session authorization authenticator');
  await session.query('set role authenticated');
  await session.query(`select set_config('request.jwt.claims', $1, false), set_config('request.headers', $2, false)`, [
    JSON.stringify({ role: 'authenticated', sub: user }),
    JSON.stringify({ 'x-org-id': org }),
  ]);
  return session;
}

const cpuOf = async (session) => Number((await session.query('select public.executions_bench_cpu() as ns')).rows[0].ns) / 1e6;

async function measure(tenant, statements) {
  const session = await sessionOf(tenant);
  const took = new Map();
  for (const { title, text, values } of statements) {
    for (let n = 0; n < 6; n += 1) await session.query({ name: title, text, values });
    const walls = [];
    const begun = await cpuOf(session);
    for (let n = 0; n < RUNS; n += 1) {
      const start = performance.now();
      await session.query({ name: title, text, values });
      walls.push(performance.now() - start);
    }
    took.set(title, { wall: median(walls), cpu: ((await cpuOf(session)) - begun) / RUNS });
  }
  await session.end();
  return took;
}

const middle = async ({ org }) => {
  const [{ at }] = await query(
    'select min(created_at) + (max(created_at) - min(created_at)) / 2 as at from public.executions where org_id = $1',
    [org],
  );
  return (
    await query(
      'select id, created_at::text from public.executions where org_id = $1 and created_at <= $2 order by created_at desc limit 1',
      [org, at],
    )
  )[0];
};

const users = [];
try {
  await query(`
    create function public.executions_bench_cpu() returns bigint language sql volatile security definer set search_path = pg_catalog, pg_temp
    return split_part(pg_read_file('/proc/self/schedstat', 0, 200), ' ', 1)::bigint;
    grant execute on function public.executions_bench_cpu() to public`);
  const tenant = await newTenant();
  users.push(tenant.user);
  await load(tenant, MANY - FEW + 1, MANY);
  const few = await measure(tenant, lists(tenant, await middle(tenant)));
  await load(tenant, 1, MANY - FEW);
  const many = await measure(tenant, lists(tenant, await middle(tenant)));
  const counted = await measure(tenant, stats(tenant));

  console.log(
    `\n| list page | ${FEW.toLocaleString('en')} rows, ms | ${MANY.toLocaleString('en')} rows, ms | processor time |\n|---|---|---|---|`,
  );
  for (const [title, { wall, cpu }] of many) {
    console.log(`| ${title} | ${few.get(title).wall.toFixed(2)} | ${wall.toFixed(2)} | ${(cpu / few.get(title).cpu).toFixed(2)} times |`);
  }
  console.log(`\n| execution_stats of ${MANY.toLocaleString('en')} | ms | processor, ms |\n|---|---|---|`);
  for (const [title, { wall, cpu }] of counted) console.log(`| ${title} | ${wall.toFixed(1)} | ${cpu.toFixed(1)} |`);
  const slow = [...many].filter(([title, { cpu }]) => cpu > 1.2 * few.get(title).cpu).map(([title]) => title);
  console.log(`\ngoal (1.2 times): ${slow.length ? `missed: ${slow.join('; ')}` : 'reached'}`);
} finally {
  await query('drop function if exists public.executions_bench_cpu()');
  await query('delete from auth.users where id = any ($1)', [users]);
  await admin.end();
}
