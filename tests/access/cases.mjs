// What each case sends. Bodies are valid, so that a refusal is about access; matrix.test.mjs checks that somebody succeeds.
// A relation that is not here takes no writes from any caller, and gets a body of its own values.
import { randomUUID } from 'node:crypto';
import { CALLERS } from './callers.mjs';
import { BILLING_FUNCTIONS, BILLING_RELATIONS } from './cases_billing.mjs';
import { CODE_FUNCTIONS } from './cases_code.mjs';
import { CONNECTION_FUNCTIONS, CONNECTION_RELATIONS } from './cases_connections.mjs';
import { CONTENT_FUNCTIONS, CONTENT_RELATIONS } from './cases_content.mjs';
import { FILE_FUNCTIONS } from './cases_files.mjs';
import { LLM_FUNCTIONS, LLM_RELATIONS } from './cases_llm.mjs';
import { PRIVACY_FUNCTIONS } from './cases_privacy.mjs';
import { PROMPT_FUNCTIONS } from './cases_prompts.mjs';
import { request } from './people.mjs';

const slug = () => `m-${randomUUID()}`;

/**
 * By relation: `insert` (the body of a new row), `update` (what to change), `target` (which of the organization's rows),
 * `points` (which of project_id and skill_id are made to point at other rows, if not both), and `more`: further operations as
 * {method, body, row}, where `row` says which row is addressed.
 * `t` is the tenant whose rows the body names: the world, or its other organization.
 */
export const RELATIONS = {
  ...BILLING_RELATIONS,
  ...CONNECTION_RELATIONS,
  ...CONTENT_RELATIONS,
  ...LLM_RELATIONS,
  organizations: {
    insert: () => ({ name: 'New', slug: slug() }),
    update: () => ({ name: 'Changed' }),
  },
  profiles: {
    // Sign-up makes one; this user has lost it.
    insert: (_, { world }) => ({ id: world.people.bare.id, display_name: 'New' }),
    update: () => ({ display_name: 'Changed' }),
    target: (row, { world }) => row.id === world.people.colleague.id,
    more: {
      'update:self': { method: 'PATCH', body: () => ({ display_name: 'Changed' }), row: (row, { user }) => row.id === user },
      'upsert:self': { method: 'UPSERT', body: () => ({ display_name: 'Changed' }), row: (row, { user }) => row.id === user },
    },
  },
  memberships: {
    insert: (t, { world }) => ({ org_id: t.org, user_id: world.people.removed.id, role: 'viewer' }),
    update: () => ({ role: 'viewer' }),
    target: (row, { world }) => row.user_id === world.people.colleague.id,
    more: {
      'update:owner': {
        method: 'PATCH',
        body: () => ({ role: 'member' }),
        row: (row, { world }) => row.user_id === world.people.revoked.id,
      },
      'update:promote': {
        method: 'PATCH',
        body: () => ({ role: 'owner' }),
        row: (row, { world }) => row.user_id === world.people.colleague.id,
      },
      'update:glass': {
        method: 'PATCH',
        body: () => ({ is_break_glass: true }),
        row: (row, { world }) => row.user_id === world.people.revoked.id,
      },
      'update:custom': {
        method: 'PATCH',
        body: (t) => ({ role: 'viewer', custom_role_id: t.freeRole }),
        row: (row, { world }) => row.user_id === world.people.colleague.id,
      },
      'update:self': { method: 'PATCH', body: () => ({ role: 'owner' }), row: (row, { user }) => row.user_id === user },
      'delete:owner': { method: 'DELETE', row: (row, { world }) => row.user_id === world.people.revoked.id },
      'delete:self': { method: 'DELETE', row: (row, { user }) => row.user_id === user },
    },
  },
  api_keys: {
    insert: (t) => ({ org_id: t.org, name: 'New', permissions: ['projects:read'] }),
    update: () => ({ name: 'Changed' }),
    target: (row, { world }) => row.id === world.keys.spare.id,
    more: {
      'insert:personal': {
        method: 'POST',
        body: (t) => ({ org_id: t.org, name: 'New', kind: 'personal', permissions: ['projects:read'] }),
        row: () => true,
      },
      // No role but owner holds it: nobody else's key can.
      'insert:above': {
        method: 'POST',
        body: (t) => ({ org_id: t.org, name: 'New', permissions: ['organization:delete'] }),
        row: () => true,
      },
      'update:widen': {
        method: 'PATCH',
        body: () => ({ permissions: ['projects:write'] }),
        row: (row, { world }) => row.id === world.keys.spare.id,
      },
      'update:personal': {
        method: 'PATCH',
        body: () => ({ name: 'Changed' }),
        row: (row, { world }) => row.id === world.keys.perskey.id,
      },
      'delete:personal': { method: 'DELETE', row: (row, { world }) => row.id === world.keys.perskey.id },
    },
  },
  custom_roles: {
    insert: (t) => ({ org_id: t.org, name: 'New', base_role: 'viewer', permissions: ['projects:read'] }),
    update: () => ({ description: 'Changed' }),
    target: (row, { world }) => row.id === world.freeRole,
    more: {
      // A permission that only owners hold: whoever lacks it cannot give it to a role.
      'insert:above': {
        method: 'POST',
        body: (t) => ({ org_id: t.org, name: 'Above', base_role: 'viewer', permissions: ['organization:delete'] }),
        row: () => true,
      },
      'update:above': {
        method: 'PATCH',
        body: () => ({ permissions: ['organization:delete'] }),
        row: (row, { world }) => row.id === world.freeRole,
      },
      'update:held': { method: 'PATCH', body: () => ({ permissions: ['projects:read'] }), row: (row, { world }) => row.id === world.role },
    },
  },
  subscriptions: {
    // Every organization gets one; this one has lost it.
    insert: (_, { world }) => ({ org_id: world.bare, plan: 'FREE' }),
    update: () => ({ status: 'past_due' }),
  },
  // Every organization shares the catalogues, so the cases use rows that the fixture has added to them.
  llm_models: {
    insert: () => ({ id: 'matrix/new', input_microusd_per_mtok: 1, output_microusd_per_mtok: 1 }),
    update: () => ({ input_microusd_per_mtok: 2 }),
    target: (row) => row.id === 'matrix/model',
  },
  functions: {
    insert: () => ({ name: 'matrix-new', url: 'https://fn.example.com' }),
    update: () => ({ description: 'Changed' }),
    target: (row) => row.name === 'matrix',
  },
  projects: {
    insert: (t) => ({ org_id: t.org, name: 'New' }),
    update: () => ({ name: 'Changed' }),
  },
  project_members: {
    insert: (t, { world }) => ({
      org_id: t.org,
      project_id: t.project,
      user_id: t.org === world.org ? world.people.viewer.id : world.people.nonmember.id,
    }),
    update: (t, { world }) => ({ user_id: t.org === world.org ? world.people.viewer.id : world.people.nonmember.id }),
  },
  repositories: {
    insert: (t) => ({ org_id: t.org, project_id: t.project, clone_url: 'https://github.com/matrix/new' }),
    update: () => ({ default_branch: 'changed' }),
  },
  documents: {
    insert: (t) => ({ org_id: t.org, project_id: t.project, path: 'matrix/new.md' }),
    update: () => ({ content: 'changed' }),
  },
  skills: {
    insert: (t) => ({ org_id: t.org, project_id: t.project, name: 'New', prompt_template: 'Say {{ n }}' }),
    update: () => ({ name: 'Changed' }),
  },
  habits: {
    insert: (t) => ({ org_id: t.org, skill_id: t.skill, name: 'New', cron: '0 0 1 1 *' }),
    update: () => ({ name: 'Changed' }),
  },
  reflexes: {
    insert: (t) => ({ org_id: t.org, skill_id: t.skill, name: 'New' }),
    update: () => ({ name: 'Changed' }),
  },
  secrets: {
    // Written by functions; the name of one that is there.
    insert: (t) => ({ org_id: t.org, name: 'NEW' }),
    update: () => ({ name: 'CHANGED' }),
  },
  invitations: {
    insert: (t) => ({ org_id: t.org, email: 'new@example.com', role: 'viewer' }),
    update: () => ({ role: 'viewer' }),
  },
  webhook_endpoints: {
    insert: (t) => ({ org_id: t.org, url: 'https://hooks.example.com/new' }),
    update: () => ({ description: 'Changed' }),
  },
  notification_types: {
    insert: (t) => ({ org_id: t.org, name: 'custom.new' }),
    update: () => ({ description: 'Changed' }),
  },
  usage_meters: {
    insert: (t) => ({ org_id: t.org, event_type: 'test.done', meter: 'own.builds' }),
    update: () => ({ event_type: 'test.changed' }),
  },
};

/** How a row is made to point at a private project, or at another tenant's rows: by the columns that it has. */
export const reference = (columns, { project, skill }) => ({
  ...(columns.includes('project_id') && { project_id: project }),
  ...(columns.includes('skill_id') && { skill_id: skill }),
});

const event = () => ({ specversion: '1.0', source: 'matrix', id: randomUUID(), type: 'build.done', time: new Date().toISOString() });

/** Functions after which the caller is no more. */
export const ENDS_PEOPLE = ['delete_account()', 'end_session(session_id)'];

/** By function: the arguments of each case. `call` is the plain one; a suffix says what is particular. */
export const FUNCTIONS = {
  ...BILLING_FUNCTIONS,
  ...FILE_FUNCTIONS,
  ...CONNECTION_FUNCTIONS,
  ...CONTENT_FUNCTIONS,
  ...LLM_FUNCTIONS,
  ...PRIVACY_FUNCTIONS,
  ...PROMPT_FUNCTIONS,
  ...CODE_FUNCTIONS,
  'accept_invitation(token)': { call: (w) => ({ token: w.token }) },
  'archive_project(project_id)': { call: (w) => ({ project_id: w.project }), 'call:private': (w) => ({ project_id: w.secretProject }) },
  'restore_project(project_id)': { call: (w) => ({ project_id: w.project }), 'call:private': (w) => ({ project_id: w.secretProject }) },
  'before_request()': { call: () => ({}) },
  'can(org,permission)': {
    call: (w) => ({ org: w.org, permission: 'projects:read' }),
    'call:write': (w) => ({ org: w.org, permission: 'projects:write' }),
    'call:manage': (w) => ({ org: w.org, permission: 'projects:manage' }),
  },
  'cancel_execution(id)': { call: (w) => ({ id: w.execution }), 'call:private': (w) => ({ id: w.secretExecution }) },
  'cancel_executions(ids)': { call: (w) => ({ ids: [w.execution] }), 'call:private': (w) => ({ ids: [w.secretExecution] }) },
  'create_api_key(name,permissions,kind,rate_limit,monthly_quota,expires_at,daily_quota,origins)': {
    call: () => ({ name: 'New', permissions: ['projects:read'] }),
    'call:personal': () => ({ name: 'New', permissions: ['projects:read'], kind: 'personal' }),
    'call:above': () => ({ name: 'New', permissions: ['organization:delete'] }),
  },
  'rotate_api_key(id,overlap)': {
    call: (w) => ({ id: w.keys.spare.id, overlap: '1 hour' }),
    'call:personal': (w) => ({ id: w.keys.perskey.id, overlap: '1 hour' }),
  },
  'rotate_repository_secret(repository_id,overlap)': {
    call: (w) => ({ repository_id: w.repository, overlap: '1 hour' }),
    'call:private': (w) => ({ repository_id: w.secretRepository, overlap: '0' }),
  },
  'revoke_api_key(id)': { call: (w) => ({ id: w.keys.spare.id }), 'call:personal': (w) => ({ id: w.keys.perskey.id }) },
  'create_organization(name)': { call: () => ({ name: 'New' }) },
  'authorize_function(name)': {
    call: () => ({ name: 'matrix' }),
    'call:open': () => ({ name: 'matrix-open' }),
    'call:signed_in': () => ({ name: 'matrix-signed-in' }),
    'call:missing': () => ({ name: 'matrix-missing' }),
  },
  'check_skill(skill_id,model,parameters)': {
    call: () => ({ model: 'echo/echo' }),
    'call:skill': (w) => ({ skill_id: w.skill }),
    'call:private': (w) => ({ skill_id: w.secretSkill }),
  },
  'skill_stats(skill_id,since,until)': { call: (w) => ({ skill_id: w.skill }), 'call:private': (w) => ({ skill_id: w.secretSkill }) },
  'test_skill(skill_id,input,dry_run)': {
    call: (w) => ({ skill_id: w.skill, input: { n: '1' } }),
    'call:run': (w) => ({ skill_id: w.skill, input: { n: '1' }, dry_run: false }),
    'call:private': (w) => ({ skill_id: w.secretSkill, input: { n: '1' } }),
  },
  'delete_skills(ids)': { call: (w) => ({ ids: [w.skill] }), 'call:private': (w) => ({ ids: [w.secretSkill] }) },
  'diff_skill_versions(skill_id,from_version,to_version)': {
    call: (w) => ({ skill_id: w.skill, from_version: 1 }),
    'call:private': (w) => ({ skill_id: w.secretSkill, from_version: 1 }),
  },
  'duplicate_skill(skill_id,name)': { call: (w) => ({ skill_id: w.skill }), 'call:private': (w) => ({ skill_id: w.secretSkill }) },
  'export_skills(ids)': { call: () => ({}), 'call:private': (w) => ({ ids: [w.secretSkill] }) },
  'import_skills(document,on_conflict)': {
    call: () => ({ document: { format: 'kijko.skills', version: 1, skills: [{ name: 'New', prompt_template: 'x' }] } }),
  },
  'restore_skill_version(skill_id,version)': {
    call: (w) => ({ skill_id: w.skill, version: 1 }),
    'call:private': (w) => ({ skill_id: w.secretSkill, version: 1 }),
  },
  'search_skills(q,tags,project_id,enabled,n,skip)': { call: () => ({ q: 'shared' }), 'call:private': () => ({ q: 'secret' }) },
  'update_skills(ids,enabled,project_id,clear_project)': {
    call: (w) => ({ ids: [w.skill], enabled: false }),
    'call:private': (w) => ({ ids: [w.secretSkill], enabled: false }),
  },
  'decline_invitation(token)': { call: (w) => ({ token: w.token }) },
  'execute_skill(skill_id,input,idempotency_key)': {
    call: (w) => ({ skill_id: w.skill, input: { n: '1' } }),
    'call:private': (w) => ({ skill_id: w.secretSkill, input: { n: '1' } }),
  },
  'execution_detail(id)': { call: (w) => ({ id: w.execution }), 'call:private': (w) => ({ id: w.secretExecution }) },
  'execution_stats(by,period,timezone,since,until,skill_id,habit_id,reflex_id,project_id)': { call: () => ({}) },
  'explain_access(subject,table_name,operation,row_id)': {
    call: (w) => ({ subject: w.people.colleague.id, table_name: 'projects', operation: 'update', row_id: w.project }),
    'call:key': (w) => ({ subject: w.keys.spare.id, table_name: 'projects', operation: 'select' }),
    'call:private': (w) => ({ subject: w.people.colleague.id, table_name: 'projects', operation: 'select', row_id: w.secretProject }),
  },
  'export_audit_log(org_id,after_position,max_rows)': { call: (w) => ({ org_id: w.org, after_position: 1_000_000 }) },
  'explain_limit(org_id,meter)': { call: (w) => ({ org_id: w.org, meter: 'projects' }) },
  'has_role(org,role)': {
    call: (w) => ({ org: w.org, role: 'viewer' }),
    'call:admin': (w) => ({ org: w.org, role: 'admin' }),
  },
  'ingest_usage(events)': { call: () => ({ events: [event()] }) },
  'ingest_usage(events,org_id)': { call: (w) => ({ events: [event()], org_id: w.org }) },
  'invite_member(email,role,custom_role_id)': {
    call: () => ({ email: 'new@example.com', role: 'viewer' }),
    'call:owner': () => ({ email: 'new@example.com', role: 'owner' }),
    'call:custom': (w) => ({ email: 'new@example.com', role: 'viewer', custom_role_id: w.freeRole }),
  },
  'leave_organization(org_id)': { call: (w) => ({ org_id: w.org }) },
  'permissions()': { call: () => ({}) },
  'resend_invitation(id)': { call: (w) => ({ id: w.invitation }) },
  'set_secret(name,value)': { call: () => ({ name: 'NEW', value: 'value' }), 'call:replace': () => ({ name: 'MATRIX', value: 'other' }) },
  'enroll_issuer(url,audiences,role_claims,role_map,default_role,org_claim,org_value,email_domains,owns_roles)': {
    call: () => ({ url: 'https://login.example.com', audiences: ['kijko'] }),
  },
  'update_issuer(id,changes)': { call: (w) => ({ id: w.issuer, changes: {} }) },
  'remove_issuer(id)': { call: (w) => ({ id: w.issuer }) },
  'list_issuers()': { call: () => ({}) },
  'provision()': { call: () => ({}) },
  'delete_secret(name)': { call: () => ({ name: 'MATRIX' }) },
  'end_session(session_id)': {
    call: (w, caller) => ({ session_id: (w.people[CALLERS[caller]?.person] ?? w.people.colleague).spare }),
    'call:other': (w) => ({ session_id: w.people.colleague.spare }),
  },
  'list_notifications(after_cursor,limit,before_id,include_archived)': { call: () => ({}) },
  'unread_count()': { call: () => ({}) },
  'mark_seen(ids)': { call: (w) => ({ ids: [w.notification] }), 'call:private': (w) => ({ ids: [w.secretNotification] }) },
  'mark_read(ids,read)': { call: (w) => ({ ids: [w.notification] }), 'call:private': (w) => ({ ids: [w.secretNotification] }) },
  'archive_notifications(ids,archived)': {
    call: (w) => ({ ids: [w.notification] }),
    'call:private': (w) => ({ ids: [w.secretNotification] }),
  },
  'notify(type,title,body,link,data,user_id,dedupe_key)': {
    call: () => ({ type: 'custom.deploy', title: 'New' }),
    'call:user': (w) => ({ type: 'custom.deploy', title: 'New', user_id: w.people.colleague.id }),
  },
  'notify(type,title,org_id,body,link,data,user_id,dedupe_key)': {
    call: (w) => ({ type: 'custom.deploy', title: 'New', org_id: w.org }),
  },
  'list_notification_preferences()': { call: () => ({}) },
  'set_notification_preference(type,in_app,mail,org_id)': { call: (w) => ({ type: 'custom.deploy', in_app: false, org_id: w.org }) },
  'set_digest_time(timezone,hour)': { call: () => ({ timezone: 'Europe/Amsterdam', hour: 7 }) },
  'org_id()': { call: () => ({}) },
  'org_ids()': { call: () => ({}) },
  'preview_cron(expression,timezone,n)': { call: () => ({ expression: '@daily', timezone: 'UTC', n: 1 }) },
  'describe_cron(expression,timezone)': { call: () => ({ expression: '@daily', timezone: 'UTC' }) },
  'preview_habit(habit_id,n)': { call: (w) => ({ habit_id: w.habit, n: 1 }), 'call:private': (w) => ({ habit_id: w.secretHabit, n: 1 }) },
  'habit_stats(habit_id,since,until)': { call: (w) => ({ habit_id: w.habit }), 'call:private': (w) => ({ habit_id: w.secretHabit }) },
  'project_stats(project_id,since,until)': {
    call: (w) => ({ project_id: w.project }),
    'call:private': (w) => ({ project_id: w.secretProject }),
  },
  'retry_execution(id)': { call: (w) => ({ id: w.failed }), 'call:private': (w) => ({ id: w.secretFailed }) },
  'retry_executions(ids)': { call: (w) => ({ ids: [w.failed] }), 'call:private': (w) => ({ ids: [w.secretFailed] }) },
  'revoke_invitation(id)': { call: (w) => ({ id: w.invitation }) },
  'reflex_stats(reflex_id,since,until)': {
    call: (w) => ({ reflex_id: w.reflex }),
    'call:private': (w) => ({ reflex_id: w.secretReflex }),
  },
  'rotate_reflex_secret(reflex_id,secret,overlap)': {
    call: (w) => ({ reflex_id: w.reflex }),
    'call:private': (w) => ({ reflex_id: w.secretReflex }),
  },
  'test_reflex(reflex_id,payload,event,headers,run)': {
    call: (w) => ({ reflex_id: w.reflex, payload: {} }),
    'call:run': (w) => ({ reflex_id: w.reflex, payload: {}, run: true }),
    'call:private': (w) => ({ reflex_id: w.secretReflex, payload: {} }),
  },
  'redeliver_reflex_delivery(id)': { call: (w) => ({ id: w.delivery }), 'call:private': (w) => ({ id: w.secretDelivery }) },
  'list_webhook_deliveries(endpoint_id,status,before_id,limit)': { call: (w) => ({ endpoint_id: w.endpoint }) },
  'list_webhook_attempts(delivery_id)': { call: (w) => ({ delivery_id: w.sent }), 'call:private': (w) => ({ delivery_id: w.secretSent }) },
  'send_test_webhook(endpoint_id)': { call: (w) => ({ endpoint_id: w.endpoint }) },
  'redeliver_webhook(message_id,endpoint_id)': {
    call: (w) => ({ message_id: w.message, endpoint_id: w.endpoint }),
    'call:private': (w) => ({ message_id: w.secretMessage, endpoint_id: w.endpoint }),
  },
  'recover_webhooks(endpoint_id,since)': { call: (w) => ({ endpoint_id: w.endpoint, since: '2020-01-01T00:00:00Z' }) },
  'rotate_webhook_secret(endpoint_id,overlap)': { call: (w) => ({ endpoint_id: w.endpoint }) },
  'run_habit(habit_id)': { call: (w) => ({ habit_id: w.habit }), 'call:private': (w) => ({ habit_id: w.secretHabit }) },
  'set_active_organization(org_id)': { call: (w) => ({ org_id: w.org }) },
  'transfer_ownership(org_id,user_id)': { call: (w) => ({ org_id: w.org, user_id: w.people.colleague.id }) },
  'usage_alerts(since)': { call: () => ({}) },
  'usage_by(dimension,only_meter,since,until)': { call: () => ({ dimension: 'day' }) },
  'usage_forecast()': { call: () => ({}) },
  'usage_summary()': { call: () => ({}) },
  'verify_audit_chain(org_id,after_seal,max_seals,known_seal,known_hash)': { call: (w) => ({ org_id: w.org }) },
  'validate_project(project_id)': { call: (w) => ({ project_id: w.project }), 'call:private': (w) => ({ project_id: w.secretProject }) },
};

/** Computed columns: the row that the case reads, and what proves that the column was computed. */
export const COMPUTED = {
  // The key itself, and the secrets of webhooks: in the transaction that made them, and never again.
  'secret(key)': {},
  'signing_secret(reflex)': {},
  'webhook_secret(endpoint)': {},
  'last_used_at(key)': {
    row: (row, { world }) => row.id === world.keys.readkey.id,
    before: (world) => request(world, 'readkey', 'GET', 'plans?limit=1'),
  },
  'image_url(image)': {},
  'active_org_id(profile)': { row: (row, { user }) => row.id === user },
  'retried_execution(execution)': { row: (row, { world }) => row.id === world.retry, embed: true },
  'retries(execution)': { row: (row, { world }) => row.id === world.failed, embed: true },
};
