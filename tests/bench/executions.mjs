// Executions and jobs of one organization: pages of their lists, and statistics, when it has ten thousand of them and when it has
// ten million. Each size has a stack of its own, and rounds alternate between the two, so that both meet the same load of the
// machine. The statements are what PostgREST makes of the guide's calls, as a member under row level security: it sends every value as
// a parameter, the limit, too. So no plan that Postgres keeps knows that a page is short: it is compared at a tenth of the rows, and
// Postgres plans each page anew, except when there are few rows. Times are the client's; ratios are those of the backend's processor
// time, which other programs change least. Then the same pages are asked for over the API, as a frontend does.
//
//   ./kijko bench executions     KIJKO_BENCH_ROWS=10000000 (needs about 15 GB of disk)   KIJKO_BENCH_RUNS=60
//   ADMIN_DB_URL=… API_URL=… ANON_KEY=… SECOND_… node tests/bench/executions.mjs     on stacks of your own, which keep the rows for the next run
import { randomUUID } from 'node:crypto';
import pg from 'pg';

const env = process.env;
const FEW = 10_000;
const MANY = Number(env.KIJKO_BENCH_ROWS ?? 10_000_000);
const RUNS = Number(env.KIJKO_BENCH_RUNS ?? 60);
const ROUND = 10;
const STEP = 500_000;
const SKILLS = 20;
const GOAL = { ratio: 1.2, ms: 20 };

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const grouped = (n) => n.toLocaleString('en');

/** One of the two stacks. */
async function connect([url, api, anonKey]) {
  const admin = new pg.Client({ connectionString: url });
  await admin.connect();
  const post = async (path, body) => {
    const headers = { apikey: anonKey, 'content-type': 'application/json' };
    const answer = await fetch(`${api}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  };
  return { url, api, anonKey, post, admin, query: async (text, values) => (await admin.query(text, values)).rows };
}

/** An organization with skills, and the users who run them. */
async function newTenant({ query, post }) {
  const credentials = { email: `bench-${randomUUID()}@example.test`, password: randomUUID() };
  const {
    user: { id: user },
  } = await post('/auth/v1/signup', credentials);
  const [{ id: org }] = await query('select id from public.organizations where personal_for = $1', [user]);
  await query(`update public.subscriptions set plan = 'ENTERPRISE' where org_id = $1`, [org]);
  const skills = await query(
    `insert into public.skills (org_id, name, prompt_template) select $1, 'Skill ' || n, 'x' from generate_series(1, $2::int) as n returning id`,
    [org, SKILLS],
  );
  await query(
    `select kijko.set_rate_limit_policy('requests', 'organization', 1000000, '1 minute', 'ENTERPRISE'),
      kijko.set_rate_limit_policy('user_requests', 'user', 1000000, '1 minute', 'ENTERPRISE')`,
  );
  return { credentials, user, org, skills: skills.map(({ id }) => id), member: randomUUID(), reflex: randomUUID(), habit: randomUUID() };
}

/** Fills a table without triggers, foreign keys and indexes, for which ten million single rows would have paid one after the other; then builds the indexes. */
async function fill({ query }, name, from, to, insert) {
  await query(`set session_replication_role = replica; set maintenance_work_mem = '1GB'`);
  await query(`update pg_index set indisready = false, indisvalid = false where indrelid = $1::regclass`, [name]);
  for (let first = from; first <= to; first += STEP) {
    const last = Math.min(first + STEP - 1, to);
    const begun = performance.now();
    await insert(first, last);
    console.log(`${name}: up to ${grouped(last)} in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  }
  await query(`reindex table ${name}`);
  await query('reset session_replication_role');
  await query(`vacuum analyze ${name}`);
}

/** So many rows of the last year, at the rate of MANY a year, the newest last: one in 200 failed, one in 100 is a member's, one in 100 a reflex's. */
async function load(stack, { org, skills, member, reflex }, rows) {
  const { query } = stack;
  const [from, to] = [MANY - rows + 1, MANY];
  await fill(stack, 'public.executions', from, to, async (first, last) => {
    // One delta for each quarter of an hour, as folds leave it; the last thousand ends are single ones, the tail that a reader adds.
    await query(
      `with given as (
         select n, ($2::uuid[])[1 + n % ${SKILLS}] as skill, case when n % 100 = 7 then $4::uuid end as reflex,
           case when n % 100 = 7 then 'reflex' else 'api' end as trigger, case when n % 200 = 0 then 'failed' else 'succeeded' end as status,
           case when n % 50000 = 0 then 9000000 else n % 1000 end as cost, t.at, t.at + n % 60 * interval '1 second' as ended
         from generate_series($5::bigint, $6::bigint) as n
         cross join lateral (select now() - ($7::bigint - n) * (interval '365 days' / $7::bigint) as at offset 0) as t
       ), made as (
         insert into public.executions (org_id, skill_id, reflex_id, created_by, trigger, status, input, output, model, cost_microusd,
           input_tokens, output_tokens, created_at, started_at, finished_at)
         select $1, g.skill, g.reflex, case when g.n % 100 = 3 then $3::uuid end, g.trigger, g.status, '{"text": "bench"}', '{"text": "bench"}',
           'echo/echo', g.cost, 100, 50, g.at, g.at, g.ended
         from given as g
       ), counted as (
         select g.skill, g.reflex, g.trigger, date_bin('15 minutes', g.ended, '2000-01-01 00:00+00') as quarter,
           case when g.n > $7::bigint - 1000 then g.n end as tail, b.bin,
           max(g.ended) as ended, count(*) as runs, count(*) filter (where g.status = 'failed') as failed, sum(g.cost) as cost
         from given as g cross join lateral (select private.executions_duration_bin(g.ended - g.at) as bin) as b
         group by 1, 2, 3, 4, 5, 6
       )
       insert into private.execution_deltas (org, project_id, managers_only, skill_id, habit_id, reflex_id, trigger, finished_at, succeeded, failed,
         cancelled, skipped, durations, cost_microusd, input_tokens, output_tokens)
       select $1, null, false, c.skill, null, c.reflex, c.trigger, max(c.ended), sum(c.runs - c.failed), sum(c.failed), 0, 0,
         array(
           select coalesce(sum(r) filter (where x.bin <= n.bin), 0)
           from unnest(array_agg(c.bin), array_agg(c.runs)) as x (bin, r) cross join generate_series(1, 32) as n (bin)
           group by n.bin order by n.bin
         ),
         sum(c.cost), sum(c.runs) * 100, sum(c.runs) * 50
       from counted as c
       group by c.skill, c.reflex, c.trigger, c.quarter, c.tail
       order by c.tail nulls first`,
      [org, skills, member, reflex, first, last, MANY],
    );
    await query('select private.executions_fold((select greatest(count(*) - 1000, 0)::integer from private.execution_deltas))');
  });
  await query('vacuum analyze private.execution_rollups');
  await fill(stack, 'public.jobs', from, to, (first, last) =>
    query(
      `insert into public.jobs (id, org_id, kind, status, created_at, finished_at)
       select gen_random_uuid(), $1, case when n % 100 = 3 then 'bench.rare' else 'bench' end, case when n % 200 = 0 then 'dead' else 'succeeded' end,
         now() - ($4::bigint - n) * (interval '365 days' / $4::bigint), now()
       from generate_series($2::bigint, $3::bigint) as n`,
      [org, first, last, MANY],
    ),
  );
}

/** The tenant of a stack, with its rows. A stack that has them from an earlier run keeps them. */
async function loadedTenant(stack, rows) {
  const [kept] = await stack.query(`select to_regclass('public.executions_bench') is not null as kept`);
  if (kept.kept) return (await stack.query('select tenant from public.executions_bench'))[0].tenant;
  await stack.query(`
    create function public.executions_bench_cpu() returns bigint language sql volatile security definer set search_path = pg_catalog, pg_temp
    return split_part(pg_read_file('/proc/self/schedstat', 0, 200), ' ', 1)::bigint;
    grant execute on function public.executions_bench_cpu() to public`);
  const tenant = await newTenant(stack);
  await load(stack, tenant, rows);
  await stack.query('create table public.executions_bench as select $1::jsonb as tenant', [JSON.stringify(tenant)]);
  return tenant;
}

const LISTS = {
  executions: 'id,status,trigger,cost_microusd,created_at,skill_id',
  jobs: 'id,kind,status,created_at',
};
const PAGE = 20;

/** A page as SQL with parameters, and as the API's path for it. Filters: [column, operator, value]. */
function page(title, list, filters, { after, order = ['created_at', 'id'] } = {}) {
  const values = [];
  const parameter = (value) => `$${values.push(value) + 1}`;
  const OPERATORS = { eq: '=', gte: '>=', lt: '<', lte: '<=' };
  const conditions = filters.map(([column, operator, value]) => `and ${column} ${OPERATORS[operator]} ${parameter(value)}`);
  if (after) {
    conditions.push(
      `and created_at <= ${parameter(after.created_at)} and (created_at < ${parameter(after.created_at)} or id < ${parameter(after.id)})`,
    );
  }
  const ordered = order.map((column) => `${column} desc`).join(', ');
  const path = new URLSearchParams({ select: LISTS[list], order: order.map((column) => `${column}.desc`).join(), limit: PAGE });
  for (const [column, operator, value] of filters)
    path.append(column, `${operator}.${value instanceof Date ? value.toISOString() : value}`);
  if (after) {
    path.append('created_at', `lte."${after.created_at}"`);
    path.append('or', `(created_at.lt."${after.created_at}",id.lt.${after.id})`);
  }
  return {
    title,
    text: `select ${LISTS[list]} from public.${list} where org_id = $1 ${conditions.join(' ')} order by ${ordered}
      limit ${parameter(PAGE)} offset ${parameter(0)}`,
    values: (org) => [org, ...values],
    path: (org) => `/rest/v1/${list}?org_id=eq.${org}&${path}`,
  };
}

/** The first page of a list, and one that a cursor reaches in the middle. */
const pages = (title, list, filters, after) => [page(title, list, filters), page(`${title}, in the middle`, list, filters, { after })];

function lists({ skills, member, reflex }, { executions, jobs }) {
  const ofExecutions = [
    ['all', []],
    ['of a skill', [['skill_id', 'eq', skills[3]]]],
    ['failed', [['status', 'eq', 'failed']]],
    ['cancelled: none', [['status', 'eq', 'cancelled']]],
    ['by trigger', [['trigger', 'eq', 'reflex']]],
    ['of a reflex', [['reflex_id', 'eq', reflex]]],
    ['of a member', [['created_by', 'eq', member]]],
  ];
  const ofJobs = [
    ['jobs', []],
    ['dead jobs', [['status', 'eq', 'dead']]],
    ['jobs of a kind', [['kind', 'eq', 'bench.rare']]],
  ];
  const fourHours = [
    ['created_at', 'gte', new Date(Date.now() - 5 * 36e5)],
    ['created_at', 'lt', new Date(Date.now() - 36e5)],
  ];
  return [
    ...ofExecutions.flatMap(([title, filters]) => pages(title, 'executions', filters, executions)),
    page('in four hours', 'executions', fourHours),
    page('the most expensive', 'executions', [], { order: ['cost_microusd', 'id'] }),
    ...ofJobs.flatMap(([title, filters]) => pages(title, 'jobs', filters, jobs)),
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
  'by week and skill, 26 weeks': `by => 'skill', period => 'week', timezone => 'Europe/Amsterdam'`,
  'by month and skill, a year': `by => 'skill', period => 'month', timezone => 'Europe/Amsterdam'`,
};
const stats = Object.entries(STATS).map(([title, args]) => ({
  title,
  text: `select * from public.execution_stats(${args})`,
  values: () => [],
}));

/** A session as PostgREST has one for the user. */
async function sessionOf({ url }, { user, org }) {
  const session = new pg.Client({ connectionString: url });
  await session.connect();
  await session.query('set max_parallel_workers_per_gather = 0');
  await session.query('set session authorization authenticator');
  await session.query('set role authenticated');
  await session.query(`select set_config('request.jwt.claims', $1, false), set_config('request.headers', $2, false)`, [
    JSON.stringify({ role: 'authenticated', sub: user }),
    JSON.stringify({ 'x-org-id': org }),
  ]);
  const cpu = async () => Number((await session.query('select public.executions_bench_cpu() as ns')).rows[0].ns) / 1e6;
  return { session, cpu, org };
}

/** The same pages over the API, as the user. */
async function overApi({ api, anonKey, post }, { credentials, org }) {
  const { access_token: token } = await post('/auth/v1/token?grant_type=password', credentials);
  const headers = { apikey: anonKey, authorization: `Bearer ${token}`, 'x-org-id': org };
  return {
    async round({ title, path }, calls) {
      const walls = [];
      for (let n = 0; n < calls; n += 1) {
        const start = performance.now();
        const answer = await fetch(`${api}${path(org)}`, { headers });
        const rows = await answer.json();
        if (!answer.ok) throw new Error(`${title}: ${answer.status} ${JSON.stringify(rows)}`);
        walls.push(performance.now() - start);
      }
      return median(walls);
    },
  };
}

/** Rounds in turn; of each side the least median of a round. */
async function measureRequests(sides, statements) {
  const took = [];
  for (const pair of statements) {
    const rounds = [[], []];
    for (const [side, statement] of pair.entries()) await sides[side].round(statement, 6);
    for (let n = 0; n < RUNS / ROUND; n += 1) {
      for (const [side, statement] of pair.entries()) rounds[side].push(await sides[side].round(statement, ROUND));
    }
    const [small, large] = rounds.map((of) => Math.min(...of));
    took.push({ title: pair[0].title, small, large, ratio: large / small });
  }
  return took;
}

/** One round of a statement: the client's times, and the processor time of a call. */
async function round({ session, cpu, org }, { title, text, values }, calls) {
  const statement = { name: title, text, values: values(org) };
  const walls = [];
  const begun = await cpu();
  for (let n = 0; n < calls; n += 1) {
    const start = performance.now();
    await session.query(statement);
    walls.push(performance.now() - start);
  }
  return { walls, cpu: ((await cpu()) - begun) / calls };
}

/** Whether Postgres keeps a plan for the statement: it does after five calls, if the plan is no dearer than one for each call. */
async function isKept({ session }, { title }) {
  const text = 'select generic_plans > custom_plans as kept from pg_prepared_statements where name = $1';
  return (await session.query(text, [title])).rows[0].kept;
}

/** Rounds on the two sides in turn. Of each side the median of the client's times, the least processor time, and whether its plan is kept. */
async function measure(sides, statements) {
  const took = [];
  for (const [few, many] of statements) {
    const rounds = [[], []];
    for (const [side, statement] of [few, many].entries()) await round(sides[side], statement, 6);
    for (let n = 0; n < RUNS / ROUND; n += 1) {
      for (const [side, statement] of [few, many].entries()) rounds[side].push(await round(sides[side], statement, ROUND));
    }
    const [small, large] = rounds.map((of) => ({
      wall: median(of.flatMap(({ walls }) => walls)),
      cpu: Math.min(...of.map((it) => it.cpu)),
    }));
    const kept = await Promise.all([few, many].map((statement, side) => isKept(sides[side], statement)));
    took.push({ title: few.title, small, large, kept, ratio: large.cpu / small.cpu });
  }
  return took;
}

/** The row in the middle of a list, from which the next page begins. */
async function middle({ query }, table, org) {
  const [{ at }] = await query(
    `select min(created_at) + (max(created_at) - min(created_at)) / 2 as at from public.${table} where org_id = $1`,
    [org],
  );
  const [row] = await query(
    `select id, created_at::text from public.${table} where org_id = $1 and created_at <= $2 order by created_at desc, id desc limit 1`,
    [org, at],
  );
  return row;
}

function table(heading, took, digits) {
  console.log(
    `\n| ${heading} | ${grouped(FEW)} rows, ms | ${grouped(MANY)} rows, ms | processor, ms | ratio | plan is kept |\n|---|---|---|---|---|---|`,
  );
  for (const { title, small, large, kept, ratio } of took) {
    const cells = [small.wall, large.wall, large.cpu].map((ms) => ms.toFixed(digits));
    console.log(`| ${title} | ${cells.join(' | ')} | ${ratio.toFixed(2)} | ${kept.map((it) => (it ? 'yes' : 'no')).join(', ')} |`);
  }
}

function requestTable(took) {
  console.log(`\n| list page over the API | ${grouped(FEW)} rows, ms | ${grouped(MANY)} rows, ms | ratio |\n|---|---|---|---|`);
  for (const { title, small, large, ratio } of took)
    console.log(`| ${title} | ${small.toFixed(2)} | ${large.toFixed(2)} | ${ratio.toFixed(2)} |`);
}

const stacks = await Promise.all(
  [
    [env.SECOND_ADMIN_DB_URL, env.SECOND_API_URL, env.SECOND_ANON_KEY],
    [env.ADMIN_DB_URL, env.API_URL, env.ANON_KEY],
  ].map(connect),
);
try {
  const tenants = [];
  for (const [side, stack] of stacks.entries()) {
    tenants.push(await loadedTenant(stack, [FEW, MANY][side]));
  }
  const sides = await Promise.all(stacks.map((stack, side) => sessionOf(stack, tenants[side])));
  const ofSides = await Promise.all(
    stacks.map(async (stack, side) => {
      const { org } = tenants[side];
      return lists(tenants[side], { executions: await middle(stack, 'executions', org), jobs: await middle(stack, 'jobs', org) });
    }),
  );
  const pairs = ofSides[0].map((few, n) => [few, ofSides[1][n]]);
  const requested = await measureRequests(await Promise.all(stacks.map((stack, side) => overApi(stack, tenants[side]))), pairs);
  const listed = await measure(sides, pairs);
  const counted = await measure(
    sides,
    stats.map((it) => [it, it]),
  );
  await Promise.all(sides.map(({ session }) => session.end()));

  requestTable(requested);
  table('list page', listed, 2);
  table('`execution_stats`', counted, 1);
  const missed = [
    ...requested.filter(({ ratio }) => ratio > GOAL.ratio),
    ...listed.filter(({ large }) => large.cpu > GOAL.ms),
    ...counted.filter(({ large }) => large.cpu > GOAL.ms),
  ].map(({ title }) => title);
  console.log(
    `\ngoals (pages over the API ${GOAL.ratio} times, in the database ${GOAL.ms} ms, statistics ${GOAL.ms} ms): ${missed.length ? `missed: ${missed.join('; ')}` : 'reached'}`,
  );
} finally {
  await Promise.all(stacks.map(({ admin }) => admin.end()));
}
