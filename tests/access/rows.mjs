// A row of every table for one organization. Two of each kind where a project can hide them: one that all members see, and one
// of a private project, of which only `owner` is a member.
import { randomUUID } from 'node:crypto';

/** Makes the rows and returns their ids by what they are. */
export async function fill(query, { people, org, owner: ownerName, colleague: colleagueName }) {
  const [owner, colleague] = [people[ownerName].id, people[colleagueName].id];
  const ids = Object.fromEntries(
    [
      ...['project', 'secretProject', 'skill', 'secretSkill', 'habit', 'secretHabit', 'execution', 'secretExecution', 'failed'],
      ...['retry', 'invitation', 'meter', 'role', 'freeRole'],
    ].map((name) => [name, randomUUID()]),
  );
  const hidden = new Set([ids.secretProject, ids.secretSkill, ids.secretHabit]);
  await query(
    `insert into public.custom_roles (id, org_id, name, base_role, permissions, created_by)
     values ($1, $3, 'Held', 'viewer', '{projects:read,projects:write,skills:read,members:read}', $4), ($2, $3, 'Free', 'viewer', '{projects:read}', $4)`,
    [ids.role, ids.freeRole, org, owner],
  );
  await projects(query, { org, owner, colleague, ids });
  await skills(query, { org, owner, ids });
  for (const [name, skill] of [
    ['execution', ids.skill],
    ['failed', ids.skill],
    ['secretExecution', ids.secretSkill],
    ['secretFailed', ids.secretSkill],
  ]) {
    const execution = await parkedExecution(query, skill, null);
    ids[name] = execution.id;
    if (name.startsWith('secret')) for (const id of [execution.id, execution.job_id]) hidden.add(id);
    if (name.endsWith('ailed')) await endJob(query, execution.job_id);
  }
  ids.retry = (await parkedExecution(query, ids.skill, ids.failed)).id;
  ids.token = await invitation(query, { org, owner, ids });
  await query(
    `insert into public.usage_meters (id, org_id, event_type, meter, created_by) values ($1, $2, 'build.done', 'own.builds', $3)`,
    [ids.meter, org, owner],
  );
  // A limit that is used up, so that there is an alert; nothing else uses this meter.
  await query(`select kijko.set_limit($1, 'code_searches', 'month', 10), kijko.consume($1, 'code_searches', 10)`, [org]);
  return { ...ids, ...(await stripe(query, org)), hidden };
}

async function projects(query, { org, owner, colleague, ids }) {
  await query(
    `insert into public.projects (id, org_id, name, visibility, created_by)
     values ($1, $3, 'Shared', 'organization', $4), ($2, $3, 'Secret', 'private', $4)`,
    [ids.project, ids.secretProject, org, owner],
  );
  await query('insert into public.project_members (org_id, project_id, user_id, created_by) values ($1, $2, $3, $4), ($1, $5, $4, $4)', [
    org,
    ids.project,
    colleague,
    owner,
    ids.secretProject,
  ]);
}

async function skills(query, { org, owner, ids }) {
  await query(
    `insert into public.skills (id, org_id, project_id, name, prompt_template, created_by)
     values ($1, $3, $4, 'Shared', 'Say {{ n }}', $6), ($2, $3, $5, 'Secret', 'Say {{ n }}', $6)`,
    [ids.skill, ids.secretSkill, org, ids.project, ids.secretProject, owner],
  );
  await query(
    `insert into public.habits (id, org_id, skill_id, name, cron, created_by)
     values ($1, $3, $4, 'Shared', '0 0 1 1 *', $6), ($2, $3, $5, 'Secret', '0 0 1 1 *', $6)`,
    [ids.habit, ids.secretHabit, org, ids.skill, ids.secretSkill, owner],
  );
}

/** An execution that no worker takes, because its job is due in an hour. */
async function parkedExecution(query, skill, retryOf) {
  const [execution] = await query(
    `select e.* from public.skills as s, lateral private.executions_queue(s, '{"n": "1"}', 'manual', retry_of => $2) as e where s.id = $1`,
    [skill, retryOf],
  );
  await query(`update public.jobs set run_at = now() + interval '1 hour' where id = $1`, [execution.job_id]);
  await query(`insert into public.job_event_log (org_id, job_id, event, attempt) values ($1, $2, 'progress', 0)`, [
    execution.org_id,
    execution.job_id,
  ]);
  return execution;
}

const endJob = (query, job) =>
  query(`update public.jobs set status = 'dead', finished_at = now(), error_code = 'matrix', error = 'ended by the test' where id = $1`, [
    job,
  ]);

async function invitation(query, { org, owner, ids }) {
  const token = `kji_${randomUUID()}`;
  await query(
    `insert into public.invitations (id, org_id, email, role, created_by, sent_by) values ($1, $2, 'invitee@example.com', 'member', $3, $3)`,
    [ids.invitation, org, owner],
  );
  await query('insert into private.invitation_tokens (invitation_id, token_hash) values ($1, private.invitations_token_hash($2))', [
    ids.invitation,
    token,
  ]);
  return token;
}

async function stripe(query, org) {
  const names = ['stripe_customers', 'stripe_checkouts', 'stripe_subscriptions', 'stripe_invoices', 'stripe_prices'];
  const ids = Object.fromEntries(names.map((name) => [name, `${name}_${randomUUID()}`]));
  await query('insert into public.stripe_customers (id, org_id, livemode) values ($1, $2, false)', [ids.stripe_customers, org]);
  await query(
    `insert into public.stripe_checkouts (id, org_id, payment_status, livemode, event_id, created_at, as_of)
     values ($1, $2, 'paid', false, 'evt_matrix', now(), now())`,
    [ids.stripe_checkouts, org],
  );
  await query(
    `insert into public.stripe_subscriptions (id, org_id, customer_id, status, items, cancel_at_period_end, livemode, event_id, created_at, as_of)
     values ($1, $2, $3, 'canceled', jsonb_build_array(jsonb_build_object('price', $4::text)), false, false, 'evt_matrix', now(), now())`,
    [ids.stripe_subscriptions, org, ids.stripe_customers, ids.stripe_prices],
  );
  await query(
    `insert into public.stripe_invoices (id, org_id, total, amount_due, amount_paid, paid_out_of_band, amount_remaining, attempt_count,
       deleted, livemode, event_id, as_of)
     values ($1, $2, 0, 0, 0, false, 0, 0, false, false, 'evt_matrix', now())`,
    [ids.stripe_invoices, org],
  );
  await query(
    `insert into public.stripe_prices (id, active, deleted, livemode, event_id, as_of) values ($1, true, false, false, 'evt_matrix', now())`,
    [ids.stripe_prices],
  );
  return ids;
}
