// What the domain's journeys share: people in an organization, refusals, a wait with an end, and travel in time.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { until } from '../until.mjs';
import { admin, env, http, newUser, sql } from './support.mjs';

export { until };

export const FINAL = ['succeeded', 'failed', 'cancelled', 'skipped'];
export const TENANT_TABLES = [
  'organizations',
  'profiles',
  'memberships',
  'custom_roles',
  'api_keys',
  'invitations',
  'subscriptions',
  'projects',
  'project_members',
  'repositories',
  'skills',
  'habits',
  'reflexes',
  'reflex_deliveries',
  'webhook_deliveries',
  'executions',
  'execution_text_chunks',
  'jobs',
  'job_events',
  'usage_meters',
  'secrets',
  'connections',
  'notification_types',
  'notifications',
  'webhook_endpoints',
  'webhook_messages',
  'project_files',
  'project_file_versions',
  'llm_providers',
  'llm_routes',
  'llm_settings',
  'llm_budgets',
  'llm_calls',
  'api_usage',
  'llm_call_contents',
  'plan_overrides',
  'billing_details',
  'vat_checks',
  'prompts',
  'prompt_versions',
  'prompt_labels',
  'prompt_label_changes',
  'prompt_settings',
  'approvals',
  'topics',
  'research_sources',
  'source_embeddings',
  'content_costs',
  'blog_settings',
  'blog_posts',
  'blog_post_revisions',
  'blog_post_slugs',
  'blog_comments',
  'blog_drafts',
  'images',
  'social_settings',
  'social_media_files',
  'social_posts',
  'publish_logs',
  'vat_evidence',
  'documents',
  'repository_branches',
  'indexing_jobs',
  'indexing_job_events',
  'events',
  'event_intake',
  'quarantined_events',
  'persons',
  'event_properties',
  'dashboards',
  'analytics_queries',
  'discoveries',
  'discovery_runs',
  'feature_flags',
  'flag_environments',
  'flag_segments',
  'flag_strategies',
  'flag_constraints',
  'flag_variants',
  'flag_applications',
  'flag_dependencies',
  'flag_evaluations',
  'flag_changes',
  'audit_log',
];

/** The answer's data; any error is a failure. */
export async function ok(request) {
  const { data, error, status } = await request;
  assert.equal(error, null, `unexpected ${status}: ${JSON.stringify(error)}`);
  return data;
}

/** The answer must be this refusal, in the one shape that errors have. */
export async function refused(request, status, code) {
  const { data, error, status: got } = await request;
  assert.ok(error, `expected ${code}, but got ${JSON.stringify(data)}`);
  assert.equal(error.code, code, `expected ${code}: ${JSON.stringify(error)}`);
  assert.equal(got, status, `${code} is HTTP ${status}: ${JSON.stringify(error)}`);
  assert.deepEqual(
    ['code', 'message', 'details', 'hint'].filter((key) => !Object.hasOwn(error, key)),
    [],
    'code, message, details, hint',
  );
  return error;
}

/** The request affects no row: row level security hides the rows, or a missing grant refuses the statement with 42501. */
export async function unaffected(request) {
  const { data, error } = await request;
  if (error) assert.equal(error.code, '42501', JSON.stringify(error));
  else assert.deepEqual(data, []);
}

/** A row as its writer left it: a worker checks a skill after each save. */
export const asWritten = ({ checked_at, ...row }) => row;

/** A new user in their personal organization. */
export async function newPerson(plan = 'FREE') {
  const person = await newUser();
  const profile = await ok(person.client.from('profiles').select('active_org_id').eq('id', person.user.id).single());
  person.orgId = profile.active_org_id;
  person.token = person.session.access_token;
  if (plan !== 'FREE') await setPlan(person.orgId, plan);
  return person;
}

export const setPlan = (orgId, plan) => ok(admin().from('subscriptions').update({ plan }).eq('org_id', orgId).select().single());

/** Sixty requests a minute instead of the plan's: a rate that a test can use up. */
export async function slowDown(orgId) {
  const tier = 'journeys-slow';
  await sql(`select kijko.set_rate_limit_policy('requests', 'organization', 60, '1 minute', $1)`, [tier]);
  await sql('select kijko.set_tier($1, $2)', [orgId, tier]);
}

/** Makes a person a member in the only way there is: a manager invites them, and they accept. */
export async function join(person, orgId, role, manager) {
  const { token } = await ok(manager.client.rpc('invite_member', { email: person.email, role }).setHeader('x-org-id', orgId));
  return ok(person.client.rpc('accept_invitation', { token }));
}

/** An organization with one user of each role, for whom it is active, and a non-member. */
export async function newTeam() {
  const [owner, adminUser, member, viewer, nonMember] = await Promise.all(Array.from({ length: 5 }, () => newPerson()));
  const organization = await ok(owner.client.rpc('create_organization', { name: `Team ${randomUUID().slice(0, 8)}` }));
  await setPlan(organization.id, 'TEAMS'); // not the subject here: five people share the rate limit
  await Promise.all(
    [
      [adminUser, 'admin'],
      [member, 'member'],
      [viewer, 'viewer'],
    ].map(([person, role]) => join(person, organization.id, role, owner)),
  );
  for (const person of [owner, adminUser, member, viewer]) {
    await ok(person.client.rpc('set_active_organization', { org_id: organization.id }));
    person.orgId = organization.id;
  }
  return { organization, orgId: organization.id, owner, admin: adminUser, member, viewer, nonMember };
}

/** A skill that repeats its input at no vendor's cost. */
export const newSkill = (person, fields = {}) =>
  ok(
    person.client
      .from('skills')
      .insert({
        name: 'Echo',
        prompt_template: 'Say {{ n }}',
        model: 'echo/echo',
        ...fields,
      })
      .select()
      .single(),
  );

export const newHabit = (person, fields) =>
  ok(
    person.client
      .from('habits')
      .insert({ name: 'Habit', ...fields })
      .select()
      .single(),
  );

export const execute = (person, skillId, input = {}, key = null) =>
  person.client.rpc('execute_skill', { skill_id: skillId, input, idempotency_key: key });

/** The execution, as the person sees it, once it has ended. Waits beside the API, whose rate limit is not to be used up by waiting. */
export async function ended(person, id) {
  await until(`execution ${id} to end`, async () => {
    const [execution] = await sql('select status from public.executions where id = $1', [id]);
    return FINAL.includes(execution?.status);
  });
  return ok(person.client.from('executions').select('*').eq('id', id).single());
}

export async function usageOf(person) {
  const rows = await ok(person.client.rpc('usage_summary'));
  return Object.fromEntries(rows.map((row) => [row.meter, row]));
}

/** Sends a request again while a rate limits it, each time after Retry-After. Unauthenticated and refused ones share one address. */
export async function withinRate(send, { isLimited = ({ body }) => body?.code === 'rate_limited', repeats = 30 } = {}) {
  for (let n = 0; ; n += 1) {
    const answer = await send();
    if (!isLimited(answer) || n === repeats) return answer;
    await sleep(Number(answer.headers.get('retry-after') ?? 1) * 1000);
  }
}

/** A request without signing in. All of them share the FREE rate of one address. */
export const anonymous = (method, path, options = {}) => withinRate(() => http(method, path, { token: env.ANON_KEY, ...options }));

/** A POST to a function, with the user's token. */
export const call = (person, name, body, headers = {}) =>
  http('POST', `/rest/v1/rpc/${name}`, {
    token: person.token,
    body,
    headers: { 'Content-Type': 'application/json', ...headers },
  });

/** Repeats a request that was one of many: they wait for one row, and a tenant that holds many connections holds each only briefly. */
export async function inTurn(request) {
  for (const end = Date.now() + 120_000; ; ) {
    const answer = await request();
    if (answer.error?.code !== 'rate_limited' || Date.now() > end) return answer;
  }
}

/** An unauthenticated caller cannot use any of the tables; the refusal is 401, so that a visitor signs in. */
export async function assertAnonymousSeesNothing(tables) {
  for (const table of tables) {
    const answer = await anonymous('GET', `/rest/v1/${table}?select=*`);
    assert.equal(answer.status, 401, `${table}: ${answer.text}`);
    assert.equal(answer.body.code, '42501', table);
  }
}

/** A superuser's session in which product time is `instant`; the stack's own clock stays as it is. */
export async function at(instant, work) {
  const db = new pg.Client({ connectionString: env.ADMIN_DB_URL });
  await db.connect();
  try {
    const {
      rows: [{ seconds }],
    } = await db.query('select floor(extract(epoch from $1::timestamptz - now()))::bigint::text as seconds', [new Date(instant)]);
    await db.query(`set kijko.clock_offset = ${pg.escapeLiteral(seconds)}`);
    return await work(async (text, values) => (await db.query(text, values)).rows);
  } finally {
    await db.end();
  }
}

/** One tick of the scheduler at that moment; the number of habits it handled. */
export const tickAt = (instant) => at(instant, async (query) => (await query('select private.habits_run_due() as handled'))[0].handled);

export const time = (value) => new Date(value).getTime();

/** Statements in one transaction, as the owner of the domain. */
export async function transaction(work) {
  const db = new pg.Client({ connectionString: env.DB_URL });
  await db.connect();
  try {
    await db.query('begin');
    const result = await work(async (text, values) => (await db.query(text, values)).rows);
    await db.query('commit');
    return result;
  } finally {
    await db.end();
  }
}

/** An execution that no worker will take, because its job is due in an hour. */
export const parkedExecution = (skill) =>
  transaction(async (query) => {
    const [execution] = await query(
      `select e.* from public.skills as s, lateral private.executions_queue(s, '{"n": "parked"}', 'manual') as e where s.id = $1`,
      [skill.id],
    );
    await query(`update public.jobs set run_at = now() + interval '1 hour' where id = $1`, [execution.job_id]);
    return execution;
  });
