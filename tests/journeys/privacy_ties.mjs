// A row by each tie to a person: what the rows of access leave out, and a list of the ties of which a person has no row. With one more
// tie in the product and no row here, a test would pass because nothing was there.
import { query, sql, transaction } from '../access/db.mjs';

const TIES = `
  select s.table_name, s.column_name, s.matches, a.atttypid = 'uuid'::regtype as is_uuid, private.privacy_org_column(s.table_name) as org
  from private.data_subject_columns as s join pg_attribute as a on a.attrelid = s.relation and a.attname = s.column_name
  where s.relation is not null order by s.table_name, s.column_name`;

/** Rows about a person that no other part makes, in an organization. No trigger looks at them; a dump can be restored, so they keep foreign keys. */
const rowsOf = ({ id, email, org, project, topic }) => [
  sql`insert into auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at) values (gen_random_uuid(), ${id}, 'totp', 'unverified', now(), now())`,
  sql`insert into auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to, created_at, updated_at)
    values (gen_random_uuid(), ${id}, 'reauthentication_token', 'x', ${email}, now(), now())`,
  sql`insert into private.connection_flows (organization, user_id, provider, scopes, redirect_to) values (${org}, ${id}, 'hub', '{}', 'http://localhost')`,
  sql`insert into private.issuer_departures (user_id, organization, role) values (${id}, ${org}, 'member')`,
  sql`insert into public.notifications (org_id, audience, user_id, type, title) values (${org}, 'user', ${id}, 'member.joined', 'Hello')`,
  sql`insert into private.notification_mails (user_id, notification_id, due_at)
    select ${id}, n.id, now() + interval '1 year' from public.notifications as n where n.user_id = ${id} limit 1`,
  sql`insert into private.notification_states (user_id, notification_id, is_counted)
    select ${id}, n.id, true from public.notifications as n where n.user_id = ${id} limit 1`,
  sql`insert into private.notification_counters (user_id) values (${id}) on conflict do nothing`,
  sql`insert into private.notification_preferences (user_id, organization, in_app) values (${id}, ${org}, true)`,
  sql`insert into private.notification_settings (user_id) values (${id})`,
  sql`insert into private.plan_trial_users (user_id, trial_id) values (${id}, gen_random_uuid())`,
  sql`insert into private.plans_organizations_created (user_id, month, created) values (${id}, '2026-11-01', 1) on conflict do nothing`,
  sql`insert into private.document_ingestions (organization, project_id, started_by) values (${org}, ${project}, ${id})`,
  sql`insert into private.execution_calls (id, org_id, execution_id, worker, attempt, tokens_hold_id, model, max_use, created_by)
    select gen_random_uuid(), e.org_id, e.id, 'w', 1, gen_random_uuid(), 'm', '{}', ${id} from public.executions as e where e.org_id = ${org} limit 1`,
  sql`insert into private.job_limits (org_id, concurrency_key, max_running, created_by) values (${org}, 'privacy', 1, ${id})`,
  sql`insert into private.topic_embedding_calls (call_id, organization, topic_id, member) values (gen_random_uuid(), ${org}, ${topic}, ${id})`,
  sql`insert into public.invitations (org_id, email, role, status, accepted_by) values (${org}, 'joined@example.com', 'member', 'accepted', ${id})`,
  sql`insert into public.llm_budgets (org_id, name, scope, member_id, period, unit, amount) values (${org}, 'Own', 'member', ${id}, 'day', 'tokens', 1)`,
];

/** Ties a row of the organization to the person by each column that no row has them in yet. */
export async function tieAll(person) {
  await transaction([sql`set local session_replication_role = replica`, rowsOf(person)]);
  for (const { table_name, column_name } of await untied(person.id, [])) {
    const [tie] = (await query(TIES)).filter((each) => each.table_name === table_name && each.column_name === column_name);
    if (!tie.org || tie.matches === 'email') continue;
    await query(`begin; set local session_replication_role = replica;
      update ${table_name} set ${column_name} = '${person.id}'
      where ctid = any (array(select ctid from ${table_name} where ${tie.org} = '${person.org}' limit 1)); commit`);
  }
}

/** Ties of which no row is the person's. */
export async function untied(id, addresses) {
  const ties = await query(TIES);
  const counts = await query(
    ties
      .map(({ table_name, column_name, matches }, at) =>
        matches === 'email'
          ? `select ${at} as at where not exists (select from ${table_name} where lower(${column_name}) = any ($2))`
          : `select ${at} as at where not exists (select from ${table_name} where ${column_name}::text = $1)`,
      )
      .join(' union all '),
    [id, addresses],
  );
  return counts.map(({ at }) => ties[at]);
}
