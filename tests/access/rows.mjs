// A row of every table for one organization. Two of each kind where a project can hide them: one that all members see, and one
// of a private project, of which only the owner is a member.
import { randomUUID } from 'node:crypto';
import { identifier, sql } from './db.mjs';

const NAMES = [
  'project',
  'secretProject',
  'skill',
  'secretSkill',
  'habit',
  'secretHabit',
  'reflex',
  'secretReflex',
  'delivery',
  'secretDelivery',
  'repository',
  'secretRepository',
  'invitation',
  'meter',
  'role',
  'freeRole',
  'connection',
  'connectionApplication',
  'notificationType',
  'notification',
  'secretNotification',
  'endpoint',
  'message',
  'secretMessage',
  'sent',
  'secretSent',
  'file',
  'secretFile',
  'fileVersion',
  'secretFileVersion',
  'provider',
  'route',
  'budget',
  'secretBudget',
  'call',
  'secretCall',
  'apiRequest',
  'details',
  'check',
  'override',
  'prompt',
  'topic',
  'source',
  'post',
  'scheduledPost',
  'publishedPost',
  'comment',
  'image',
  'approval',
  'ownApproval',
  'evidence',
  'branch',
  'secretBranch',
  'indexing',
  'secretIndexing',
  'indexingEvent',
  'secretIndexingEvent',
  'document',
  'secretDocument',
  'discovery',
  'discoveryRun',
  'socialConnection',
  'socialPost',
  'unconfirmedPost',
  'person',
  'event',
  'dashboard',
  'query',
  'flag',
  'strategy',
  'otherFlag',
  'thirdFlag',
  'flagChange',
];
const STRIPE = [
  'stripe_customers',
  'stripe_checkouts',
  'stripe_subscriptions',
  'stripe_invoices',
  'stripe_credit_notes',
  'stripe_mandates',
  'stripe_prices',
];

/** The ids of an organization's rows by what they are, and those of the private project's. */
export function newIds() {
  const ids = Object.fromEntries(NAMES.map((name) => [name, randomUUID()]));
  return {
    ...ids,
    ...Object.fromEntries(STRIPE.map((name) => [name, `${name}_${randomUUID()}`])),
    token: `kji_${randomUUID()}`,
    hidden: new Set([
      ids.secretProject,
      ids.secretSkill,
      ids.secretHabit,
      ids.secretReflex,
      ids.secretDelivery,
      ids.secretRepository,
      ids.secretNotification,
      ids.secretMessage,
      ids.secretSent,
      ids.secretFile,
      ids.secretFileVersion,
      ids.secretBudget,
      ids.secretCall,
      ids.secretBranch,
      ids.secretIndexing,
      ids.secretIndexingEvent,
      ids.secretDocument,
    ]),
  };
}

/** The statements that make them. `t` has the ids and org; owner and colleague are users. */
export const fill = (t, { owner, colleague, invitee }) => [
  sql`insert into public.custom_roles (id, org_id, name, base_role, permissions, created_by)
    values (${t.role}, ${t.org}, 'Held', 'viewer', '{projects:read,projects:write,skills:read,members:read}', ${owner}),
      (${t.freeRole}, ${t.org}, 'Free', 'viewer', '{projects:read}', ${owner})`,
  sql`insert into public.projects (id, org_id, name, visibility, created_by)
    values (${t.project}, ${t.org}, 'Shared', 'organization', ${owner}), (${t.secretProject}, ${t.org}, 'Secret', 'private', ${owner})`,
  sql`insert into public.project_members (org_id, project_id, user_id, created_by)
    values (${t.org}, ${t.project}, ${colleague}, ${owner}), (${t.org}, ${t.secretProject}, ${owner}, ${owner})`,
  sql`insert into public.skills (id, org_id, project_id, name, prompt_template, created_by)
    values (${t.skill}, ${t.org}, ${t.project}, 'Shared', 'Say {{ n }}', ${owner}),
      (${t.secretSkill}, ${t.org}, ${t.secretProject}, 'Secret', 'Say {{ n }}', ${owner})`,
  // A second version of both, so that two can be compared.
  sql`update public.skills set prompt_template = 'Say {{ n }}, please' where org_id = ${t.org}`,
  sql`insert into public.habits (id, org_id, skill_id, name, cron, created_by)
    values (${t.habit}, ${t.org}, ${t.skill}, 'Shared', '0 0 1 1 *', ${owner}),
      (${t.secretHabit}, ${t.org}, ${t.secretSkill}, 'Secret', '0 0 1 1 *', ${owner})`,
  sql`insert into public.repositories (id, org_id, project_id, clone_url, created_by)
    values (${t.repository}, ${t.org}, ${t.project}, 'https://github.com/matrix/shared', ${owner}),
      (${t.secretRepository}, ${t.org}, ${t.secretProject}, 'https://github.com/matrix/secret', ${owner})`,
  sql`insert into public.reflexes (id, org_id, skill_id, name, created_by)
    values (${t.reflex}, ${t.org}, ${t.skill}, 'Shared', ${owner}), (${t.secretReflex}, ${t.org}, ${t.secretSkill}, 'Secret', ${owner})`,
  sql`insert into public.reflex_deliveries (id, org_id, reflex_id, source, payload, status, finished_at)
    values (${t.delivery}, ${t.org}, ${t.reflex}, 'webhook', '{}', 'filtered', now()),
      (${t.secretDelivery}, ${t.org}, ${t.secretReflex}, 'webhook', '{}', 'filtered', now())`,
  sql`insert into public.webhook_deliveries (org_id, project_id, repository_id, event, payload, status, processed_at)
    values (${t.org}, ${t.project}, ${t.repository}, 'push', '{}', 'ignored', now()),
      (${t.org}, ${t.secretProject}, ${t.secretRepository}, 'push', '{}', 'ignored', now())`,
  sql`insert into public.repository_branches (id, org_id, repository_id, name, commit_sha, indexing_seq)
    values (${t.branch}, ${t.org}, ${t.repository}, 'main', repeat('1', 40), 0),
      (${t.secretBranch}, ${t.org}, ${t.secretRepository}, 'main', repeat('1', 40), 0)`,
  sql`insert into public.indexing_jobs (id, org_id, repository_id, branch, trigger, status, error_code, finished_at)
    values (${t.indexing}, ${t.org}, ${t.repository}, 'main', 'manual', 'failed', 'fetch_failed', now()),
      (${t.secretIndexing}, ${t.org}, ${t.secretRepository}, 'main', 'manual', 'failed', 'fetch_failed', now())`,
  sql`insert into public.documents (id, org_id, project_id, path, content, created_by)
    values (${t.document}, ${t.org}, ${t.project}, 'matrix/shared.md', 'matrix', ${owner}),
      (${t.secretDocument}, ${t.org}, ${t.secretProject}, 'matrix/secret.md', 'matrix', ${owner})`,
  sql`with blob as (
      insert into private.code_blobs (organization, oid, bytes, lines, language, content)
      values (${t.org}, repeat('a', 40), 22, 1, 'rust', 'fn matrix_symbol() {}') returning id
    ), symbol as (
      insert into private.code_symbols (
        organization, blob_id, ordinal, name, kind, start_line, start_column, end_line, end_column, name_line, name_column
      )
      select ${t.org}, id, 0, 'matrix_symbol', 'function', 1, 0, 1, 21, 1, 3 from blob
    ), edge as (
      insert into private.code_edges (
        organization, branch_id, source_path, source_symbol, kind, name, target_path, target_symbol, resolution, line, from_seq, from_commit
      )
      select ${t.org}, b.id, 'src/matrix.rs', 'caller', 'call', 'matrix_symbol', 'src/matrix.rs', 'matrix_symbol', 'exact', 1, 0, repeat('1', 40)
      from unnest(array[${t.branch}, ${t.secretBranch}]::uuid[]) as b (id)
    )
    insert into private.code_tree_entries (organization, branch_id, path, blob_id, mode)
    select ${t.org}, b.id, 'src/matrix.rs', blob.id, 33188 from blob, unnest(array[${t.branch}, ${t.secretBranch}]::uuid[]) as b (id)`,
  sql`delete from public.indexing_job_events where org_id = ${t.org}`,
  sql`insert into public.indexing_job_events (id, org_id, indexing_job_id, event)
    values (${t.indexingEvent}, ${t.org}, ${t.indexing}, 'failed'), (${t.secretIndexingEvent}, ${t.org}, ${t.secretIndexing}, 'failed')`,
  executions(t),
  sql`insert into public.invitations (id, org_id, email, role, created_by, sent_by)
    values (${t.invitation}, ${t.org}, ${invitee}, 'member', ${owner}, ${owner})`,
  sql`insert into private.invitation_tokens (invitation_id, token_hash) values (${t.invitation}, private.invitations_token_hash(${t.token}))`,
  sql`insert into public.usage_meters (id, org_id, event_type, meter, created_by)
    values (${t.meter}, ${t.org}, 'build.done', 'own.builds', ${owner})`,
  sql`insert into public.secrets (org_id, name, created_by) values (${t.org}, 'MATRIX', ${owner})`,
  sql`insert into public.connections (id, org_id, provider, account_id, created_by) values (${t.connection}, ${t.org}, 'matrix', '1', ${owner})`,
  sql`insert into public.connection_applications (id, org_id, provider, client_id, created_by)
    values (${t.connectionApplication}, ${t.org}, 'lab', 'matrix', ${owner})`,
  sql`insert into public.notification_types (id, org_id, name, created_by) values (${t.notificationType}, ${t.org}, 'custom.deploy', ${owner})`,
  sql`insert into public.notifications (id, org_id, audience, type, project_id, title, created_by)
    values (${t.notification}, ${t.org}, 'organization', 'custom.deploy', ${t.project}, 'Shared', ${owner}),
      (${t.secretNotification}, ${t.org}, 'organization', 'custom.deploy', ${t.secretProject}, 'Secret', ${owner})`,
  sql`insert into public.webhook_endpoints (id, org_id, url, event_types, include_private_projects, created_by)
    values (${t.endpoint}, ${t.org}, 'https://hooks.example.com/', '{webhook.test}', true, ${owner})`,
  sql`insert into public.webhook_messages (id, org_id, type, version, permission, entity, project_id, payload, created_by)
    values (${t.message}, ${t.org}, 'project.created', 1, 'projects:read', 'shared', ${t.project}, '{}', null),
      (${t.secretMessage}, ${t.org}, 'project.created', 1, 'projects:read', 'secret', ${t.secretProject}, '{}', null)`,
  sql`insert into private.webhook_requests (id, organization, endpoint_id, message_id, cause, status, error_code, ended_at)
    values (${t.sent}, ${t.org}, ${t.endpoint}, ${t.message}, 'event', 'failed', 'refused', now()),
      (${t.secretSent}, ${t.org}, ${t.endpoint}, ${t.secretMessage}, 'event', 'succeeded', null, now())`,
  // Disabled, so that nothing is sent to it.
  sql`insert into private.issuer_enrolments (id, org_id, url, settings, created_by)
    select kijko.put_issuer(${t.org}, 'https://login.example.com/matrix', '{kijko}', enabled => false), ${t.org}, 'https://login.example.com/matrix', '{}', ${owner}`,
  sql`insert into pg_temp.queued select e.id, null, 'issuer', e.org_id from private.issuer_enrolments as e where e.org_id = ${t.org}`,
  sql`insert into public.project_files (id, org_id, project_id, path, version, last_version, object_name, bytes, created_by)
    values (${t.file}, ${t.org}, ${t.project}, 'a.txt', 1, 1, 'shared', 0, ${owner}),
      (${t.secretFile}, ${t.org}, ${t.secretProject}, 'a.txt', 1, 1, 'secret', 0, ${owner})`,
  sql`insert into public.project_file_versions (id, org_id, project_id, file_id, version, object_name, bytes, created_by)
    values (${t.fileVersion}, ${t.org}, ${t.project}, ${t.file}, 1, 'shared', 0, ${owner}),
      (${t.secretFileVersion}, ${t.org}, ${t.secretProject}, ${t.secretFile}, 1, 'secret', 0, ${owner})`,
  sql`insert into public.llm_providers (id, org_id, name, kind, created_by) values (${t.provider}, ${t.org}, 'matrix', 'openai', ${owner})`,
  sql`insert into public.llm_routes (id, org_id, name, targets, created_by) values (${t.route}, ${t.org}, 'matrix', '{echo/echo}', ${owner})`,
  sql`insert into public.billing_details (id, org_id, kind, name, country, created_by) values (${t.details}, ${t.org}, 'business', 'Matrix', 'NL', ${owner})`,
  sql`insert into public.vat_checks (id, org_id, vat_number, status, consulted_at, created_by)
    values (${t.check}, ${t.org}, 'NL004495445B01', 'valid', now(), ${owner})`,
  sql`insert into public.vat_evidence (id, org_id, kind, country, created_by) values (${t.evidence}, ${t.org}, 'ip_address', 'NL', ${owner})`,
  sql`insert into public.plan_overrides (id, org_id, meter, amount, reason, ends_at, created_by)
    values (${t.override}, ${t.org}, 'habits', 1000, 'Matrix', now() + interval '1 day', ${owner})`,
  sql`insert into public.llm_settings (org_id, created_by) values (${t.org}, ${owner})`,
  sql`insert into public.llm_budgets (id, org_id, name, scope, project_id, period, unit, amount, created_by)
    values (${t.budget}, ${t.org}, 'Shared', 'project', ${t.project}, 'day', 'tokens', 1000000, ${owner}),
      (${t.secretBudget}, ${t.org}, 'Secret', 'project', ${t.secretProject}, 'day', 'tokens', 1000000, ${owner})`,
  sql`insert into public.llm_calls
      (id, org_id, requested_model, provider, model, own_key, status, held_tokens, held_microusd, project_id, prompt_id, prompt_version, created_by,
       finished_at)
    values (${t.call}, ${t.org}, 'echo/echo', 'echo', 'echo/echo', false, 'succeeded', 0, 0, ${t.project}, ${t.prompt}, 1, ${owner}, now()),
      (${t.secretCall}, ${t.org}, 'echo/echo', 'echo', 'echo/echo', false, 'succeeded', 0, 0, ${t.secretProject}, ${t.prompt}, 2, ${owner}, now())`,
  sql`insert into public.api_usage (id, org_id, method, route, status, duration_ms, caller, member_id, created_by)
    values (${t.apiRequest}, ${t.org}, 'GET', '/rest/v1/projects', 200, 1, 'user', ${owner}, ${owner})`,
  sql`insert into public.llm_call_contents (id, org_id, called_at, project_id, prompt, delete_after, created_by)
    values (${t.call}, ${t.org}, now(), ${t.project}, '"Shared"', now() + interval '1 day', ${owner}),
      (${t.secretCall}, ${t.org}, now(), ${t.secretProject}, '"Secret"', now() + interval '1 day', ${owner})`,
  sql`insert into public.prompts (id, org_id, path, type, latest_version, created_by) values (${t.prompt}, ${t.org}, 'matrix/prompt', 'text', 1, ${owner})`,
  sql`insert into public.prompt_versions (org_id, prompt_id, version, content, created_by) values (${t.org}, ${t.prompt}, 1, '"x"', ${owner})`,
  sql`insert into public.prompt_labels (org_id, prompt_id, label, version, created_by) values (${t.org}, ${t.prompt}, 'production', 1, ${owner})`,
  sql`insert into public.prompt_label_changes (org_id, prompt_id, label, to_version, created_by) values (${t.org}, ${t.prompt}, 'production', 1, ${owner})`,
  sql`insert into public.prompt_settings (org_id, protected_labels, created_by) values (${t.org}, '{guarded}', ${owner})`,
  sql`insert into public.persons (id, org_id, user_id) values (${t.person}, ${t.org}, 'matrix')`,
  sql`insert into private.analytics_identities (organization, kind, external_id, person_id) values (${t.org}, 'user', 'matrix', ${t.person})`,
  sql`insert into public.events (id, org_id, type, name, person_id, user_id, message_id, "timestamp", created_by)
    values (${t.event}, ${t.org}, 'track', 'Ordered', ${t.person}, 'matrix', 'matrix', kijko.now(), ${owner})`,
  sql`insert into public.event_intake (org_id, hour, accepted) values (${t.org}, date_trunc('hour', kijko.now() - interval '1 day', 'UTC'), 1)`,
  sql`insert into public.quarantined_events (org_id, code, problem) values (${t.org}, 'invalid_type', 'x')`,
  sql`insert into public.event_properties (org_id, event_name, property, kind, created_by) values (${t.org}, 'Ordered', 'colour', 'dimension', ${owner})`,
  sql`insert into public.dashboards (id, org_id, name, created_by) values (${t.dashboard}, ${t.org}, 'Matrix', ${owner})`,
  sql`insert into public.analytics_queries (id, org_id, dashboard_id, name, kind, query, created_by)
    values (${t.query}, ${t.org}, ${t.dashboard}, 'Matrix', 'series', '{"event": "Ordered", "from": {"days": 1}}', ${owner})`,
  sql`insert into public.topics (id, org_id, title, created_by) values (${t.topic}, ${t.org}, 'Matrix', ${owner})`,
  sql`insert into public.research_sources (id, org_id, topic_id, url, created_by)
    values (${t.source}, ${t.org}, ${t.topic}, 'https://example.com/matrix', ${owner})`,
  sql`insert into public.research_sources (org_id, topic_id, url, created_by) values (${t.org}, ${t.topic}, 'https://example.com/other', ${owner})`,
  sql`insert into public.source_embeddings (org_id, source_id, model, text_hash, embedding, created_by)
    select s.org_id, s.id, 'echo/echo', repeat('a', 64), '{1}', s.created_by from public.research_sources as s where s.org_id = ${t.org}`,
  sql`insert into public.content_costs (org_id, source, source_id, topic_id, cost_microusd, created_by)
    values (${t.org}, 'draft', ${t.topic}, ${t.topic}, 1, ${owner})`,
  sql`insert into public.blog_settings (org_id, created_by) values (${t.org}, ${owner})`,
  sql`insert into public.blog_posts (id, org_id, topic_id, content_group_id, title, slug, content_markdown, content_html, content_html_hash, status,
      scheduled_at, published_revision, published_at, created_by)
    select p.id, ${t.org}, ${t.topic}, p.id, 'Matrix', p.slug, 'x', '<p>x</p>', private.topics_hash('x'), p.status,
      case p.status when 'scheduled' then now() + interval '1 day' end, case p.status when 'published' then 1 end,
      case p.status when 'published' then now() - interval '1 day' end, ${owner}
    from (values (${t.post}::uuid, 'matrix', 'ready'), (${t.scheduledPost}, 'later', 'scheduled'), (${t.publishedPost}, 'published', 'published'))
      as p (id, slug, status)`,
  sql`insert into public.blog_post_revisions (org_id, post_id, revision, fields, content_markdown, content_html, created_by)
    select p.org_id, p.id, 1, private.blog_fields(p), p.content_markdown, p.content_html, p.created_by from public.blog_posts as p where p.org_id = ${t.org}`,
  sql`insert into public.blog_post_slugs (org_id, post_id, locale, slug, created_by)
    select p.org_id, p.id, 'en', p.slug, p.created_by from public.blog_posts as p where p.org_id = ${t.org}`,
  sql`insert into public.blog_comments (id, org_id, post_id, body, created_by) values (${t.comment}, ${t.org}, ${t.post}, 'Matrix', ${owner})`,
  sql`insert into public.blog_drafts (org_id, post_id, kind, model, base_revision, status, finished_at, created_by)
    values (${t.org}, ${t.post}, 'draft', 'echo/echo', 1, 'failed', now(), ${owner})`,
  sql`insert into public.images (id, org_id, blog_post_id, kind, prompt, model, size, base_revision, status, finished_at, storage_path,
      content_type, width, height, bytes, content_hash, created_by)
    values (${t.image}, ${t.org}, ${t.post}, 'supporting', 'a cat', 'echo/echo', '1024x1024', 1, 'succeeded', now(), ${t.image},
      'image/png', 1, 1, 1, repeat('a', 64), ${owner})`,
  // One that nobody of here has asked for, and the owner's own.
  sql`insert into public.approvals (id, org_id, kind, subject_id, subject_part, title, change, requested_by, expires_at, created_by)
    values (${t.approval}, ${t.org}, 'prompt_label', ${t.prompt}, 'live', 'Move', '{"to_version": 1}', null, now() + interval '1 day', null),
      (${t.ownApproval}, ${t.org}, 'prompt_label', ${t.prompt}, 'beta', 'Move', '{"to_version": 1}', ${owner}, now() + interval '1 day', ${owner})`,
  // A run is under way, so run_discovery() queues none.
  sql`insert into public.discoveries (id, org_id, name, collector, query, enabled, created_by)
    values (${t.discovery}, ${t.org}, 'Matrix', 'searxng', 'matrix', false, ${owner})`,
  sql`insert into public.discovery_runs (id, org_id, discovery_id, trigger, created_by)
    values (${t.discoveryRun}, ${t.org}, ${t.discovery}, 'manual', ${owner})`,
  sql`insert into public.social_settings (org_id, created_by) values (${t.org}, ${owner})`,
  sql`insert into public.connections (id, org_id, provider, account_id, created_by) values (${t.socialConnection}, ${t.org}, 'twitter', 'social', ${owner})`,
  sql`insert into public.social_posts (id, org_id, platform, connection_id, text, status, scheduled_at, time_zone, created_by)
    values (${t.socialPost}, ${t.org}, 'twitter', ${t.socialConnection}, 'Hello', 'scheduled', now() + interval '1 day', 'UTC', ${owner}),
      (${t.unconfirmedPost}, ${t.org}, 'twitter', ${t.socialConnection}, 'Hello?', 'unconfirmed', now(), 'UTC', ${owner})`,
  sql`insert into public.social_media_files (org_id, path, version, status, content_type, width, height, frames, created_by)
    values (${t.org}, ${`${t.org}/matrix.jpg`}, '1', 'measured', 'image/jpeg', 1080, 1080, 1, ${owner})`,
  sql`insert into public.publish_logs (org_id, social_post_id, platform, attempt, event, created_by) values (${t.org}, ${t.unconfirmedPost}, 'twitter', 1, 'unconfirmed', null)`,
  sql`insert into public.feature_flags (id, org_id, name, created_by)
    values (${t.flag}, ${t.org}, 'matrix', ${owner}), (${t.otherFlag}, ${t.org}, 'other', ${owner}), (${t.thirdFlag}, ${t.org}, 'third', ${owner})`,
  // So old that nobody may need it.
  sql`update public.feature_flags set created_at = now() - interval '31 days' where id = ${t.otherFlag}`,
  sql`insert into public.flag_environments (org_id, name, protected, created_by) values (${t.org}, 'guarded', true, ${owner})`,
  sql`insert into public.flag_segments (org_id, name, created_by) values (${t.org}, 'Matrix', ${owner})`,
  sql`insert into public.flag_strategies (id, org_id, flag_id, name, created_by) values (${t.strategy}, ${t.org}, ${t.flag}, 'default', ${owner})`,
  sql`insert into public.flag_constraints (org_id, strategy_id, context_name, operator, "values", created_by)
    values (${t.org}, ${t.strategy}, 'userId', 'IN', '{matrix}', ${owner})`,
  sql`insert into public.flag_variants (org_id, flag_id, name, weight, created_by) values (${t.org}, ${t.flag}, 'matrix', 1, ${owner})`,
  sql`insert into public.flag_applications (org_id, environment, app_name, instance_id, created_by) values (${t.org}, 'production', 'matrix', 'one', ${owner})`,
  sql`insert into public.flag_dependencies (org_id, flag_id, parent_id, created_by) values (${t.org}, ${t.flag}, ${t.thirdFlag}, ${owner})`,
  sql`insert into public.flag_evaluations (org_id, flag_id, environment, hour, yes, created_by)
    values (${t.org}, ${t.flag}, 'production', date_trunc('hour', now()), 1, ${owner})`,
  sql`insert into public.flag_changes (id, org_id, flag_id, environment, change, apply_at, created_by)
    values (${t.flagChange}, ${t.org}, ${t.flag}, 'production', '{"enabled": true}', now() + interval '1 day', ${owner})`,
  // Nobody checks the prompt or is told about the approvals meanwhile.
  sql`delete from public.jobs where org_id = ${t.org} and kind = 'prompt_check'`,
  sql`delete from public.notifications where org_id = ${t.org} and type = 'approval.requested'`,
  // A limit that is half used up, so that there is an alert, and no notification of it while the cases run; nothing else uses this meter.
  sql`do ${`begin perform kijko.set_limit('${t.org}', 'code_searches', 'month', 10); perform kijko.consume('${t.org}', 'code_searches', 5); perform kijko.set_limit('${t.org}', 'code_searches', 'month', 1000); end`}`,
  stripe(t),
];

const queue = (t, skill, name, retryOf = null) => sql`
  insert into pg_temp.queued
  select e.id, e.job_id, ${name}, ${t.org} from public.skills as s, lateral private.executions_queue(
    s, '{"n": "1"}', 'manual', retry_of => (select q.id from pg_temp.queued as q where q.name = ${retryOf} and q.org_id = ${t.org})
  ) as e where s.id = ${skill}`;

/** Executions that no worker takes, because their jobs are due in an hour; some have failed. */
const executions = (t) => [
  sql`create temporary table if not exists queued (id uuid, job_id uuid, name text, org_id uuid)`,
  queue(t, t.skill, 'execution'),
  queue(t, t.skill, 'failed'),
  queue(t, t.secretSkill, 'secretExecution'),
  queue(t, t.secretSkill, 'secretFailed'),
  queue(t, t.skill, 'retry', 'failed'),
  // The stack's own worker would check the skills and delete these jobs meanwhile.
  sql`delete from public.jobs where org_id = ${t.org} and kind = 'skill_check'`,
  sql`update public.jobs set run_at = now() + interval '1 hour' where org_id = ${t.org}`,
  sql`insert into public.job_event_log (org_id, job_id, event, attempt) select j.org_id, j.id, 'progress', 0 from public.jobs as j where j.org_id = ${t.org}`,
  sql`update public.jobs set status = 'dead', finished_at = now(), error_code = 'matrix', error = 'ended by the test'
    where id in (select q.job_id from pg_temp.queued as q where q.org_id = ${t.org} and q.name in ('failed', 'secretFailed'))`,
  sql`insert into public.execution_text_chunks (org_id, execution_id, attempt, seq, text)
    select q.org_id, q.id, 1, 1, 'Once upon' from pg_temp.queued as q where q.org_id = ${t.org} and q.name in ('execution', 'secretExecution')`,
];

/** The executions of both organizations, for receive(). */
export const queued = [sql`select * from pg_temp.queued`, sql`drop table pg_temp.queued`];

/** Takes over the ids that the database has chosen. */
export function receive(t, rows) {
  for (const { id, job_id: job, name, org_id: org } of rows) {
    if (org !== t.org) continue;
    t[name] = id;
    if (name.startsWith('secret')) for (const hidden of [id, job]) t.hidden.add(hidden);
  }
}

const stripe = (t) => [
  sql`insert into public.stripe_customers (id, org_id, livemode) values (${t.stripe_customers}, ${t.org}, false)`,
  sql`insert into public.stripe_checkouts (id, org_id, payment_status, livemode, event_id, created_at, as_of)
    values (${t.stripe_checkouts}, ${t.org}, 'paid', false, 'evt_matrix', now(), now())`,
  sql`insert into public.stripe_subscriptions
      (id, org_id, customer_id, status, items, cancel_at_period_end, livemode, event_id, created_at, as_of)
    values (${t.stripe_subscriptions}, ${t.org}, ${t.stripe_customers}, 'canceled', 
      jsonb_build_array(jsonb_build_object('price', ${t.stripe_prices}::text)),
      false, false, 'evt_matrix', now(), now())`,
  sql`insert into public.stripe_invoices (id, org_id, total, amount_due, amount_paid, paid_out_of_band, amount_remaining, attempt_count,
      deleted, livemode, event_id, as_of)
    values (${t.stripe_invoices}, ${t.org}, 0, 0, 0, false, 0, 0, false, false, 'evt_matrix', now())`,
  sql`insert into public.stripe_credit_notes (id, livemode, org_id, invoice_id, status, total, currency, as_of)
    values (${t.stripe_credit_notes}, false, ${t.org}, ${t.stripe_invoices}, 'issued', 0, 'eur', now())`,
  sql`insert into public.stripe_mandates (id, livemode, org_id, status, as_of) values (${t.stripe_mandates}, false, ${t.org}, 'active', now())`,
  sql`select kijko.consume(${t.org}, 'code_searches', 1)`,
  sql`insert into public.stripe_prices (id, active, deleted, livemode, event_id, as_of)
    values (${t.stripe_prices}, true, false, false, 'evt_matrix', now())`,
];

/** Deletes what does not go with the organization. */
export const forget = (tenants) =>
  STRIPE.map((name) => sql`delete from ${identifier(name)} where id = any (${tenants.map((t) => t[name])})`);
