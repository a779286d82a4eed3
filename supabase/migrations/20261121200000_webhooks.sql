-- ============================================================================
-- Webhooks: events that an organization is sent, signed by Standard Webhooks (https://www.standardwebhooks.com).
--
--   1. A member makes an endpoint: a URL, the types of events that it wants, and a filter. Its secret is shown once.
--   2. What happens in the product calls private.webhooks_emit(). If an endpoint wants the event, one message is stored, with one
--      request in the extension's outbox for each endpoint, in the transaction of the event.
--   3. The outbox signs, sends and repeats. A scheduled function takes over how it went, and disables an endpoint that only fails.
-- Events of one thing (an execution, a project) reach an endpoint one after the other.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Types of events
-- ----------------------------------------------------------------------------

create table public.webhook_event_types (
  name text primary key check (char_length(name) <= 100 and name ~ '^[a-z]+(_[a-z]+)*\.[a-z]+$'),
  version integer not null default 1 check (version >= 1),
  permission text not null references private.permissions (permission),
  description text not null check (char_length(description) between 1 and 500),
  example jsonb not null check (jsonb_typeof(example) = 'object')
);
create index webhook_event_types_permission_idx on public.webhook_event_types (permission);
comment on table public.webhook_event_types is 'Types of events that webhooks send. Everyone may read them. A domain adds its own by a row here and a call of private.webhooks_emit().';
comment on column public.webhook_event_types.name is 'Name, as event_types of an endpoint takes it: execution.failed.';
comment on column public.webhook_event_types.version is 'Version of its data. Fields may be added within a version; any other change raises it. Requests carry it in the header Event-Version.';
comment on column public.webhook_event_types.permission is 'What a caller needs besides webhooks:write to let an endpoint have it, and besides webhooks:read to read its messages.';
comment on column public.webhook_event_types.description is 'When it happens.';
comment on column public.webhook_event_types.example is 'An example of its data.';
select private.describe_data('public.webhook_event_types', '{"name, version, permission, description, example": "which events webhooks send"}', 'platform');
alter table public.webhook_event_types enable row level security;
grant select on public.webhook_event_types to anon, authenticated, service_role;
create policy webhook_event_types_select on public.webhook_event_types for select to anon, authenticated using (true);

insert into public.webhook_event_types (name, permission, description, example) values
  ('webhook.test', 'webhooks:read', 'send_test_webhook() was called. Only the endpoint that it names gets it.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "endpoint_id": "7f1c2a34-0000-4000-8000-000000000002"}'),
  ('execution.succeeded', 'executions:read', 'An execution succeeded.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-000000000003", "status": "succeeded", "trigger": "manual", "skill_id": "7f1c2a34-0000-4000-8000-000000000004", "project_id": null, "habit_id": null, "reflex_id": null, "error_code": null, "model": "openai/gpt-4o-mini", "cost_microusd": 120, "input_tokens": 200, "output_tokens": 40, "output": {"text": "Hello"}, "created_at": "2026-11-28T10:00:00+00:00", "finished_at": "2026-11-28T10:00:02+00:00"}'),
  ('execution.failed', 'executions:read', 'An execution failed.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-000000000003", "status": "failed", "trigger": "habit", "skill_id": "7f1c2a34-0000-4000-8000-000000000004", "project_id": null, "habit_id": "7f1c2a34-0000-4000-8000-000000000005", "reflex_id": null, "error_code": "invalid_input", "model": null, "cost_microusd": 0, "input_tokens": 0, "output_tokens": 0, "output": null, "created_at": "2026-11-28T10:00:00+00:00", "finished_at": "2026-11-28T10:00:01+00:00"}'),
  ('execution.cancelled', 'executions:read', 'An execution was cancelled.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-000000000003", "status": "cancelled", "trigger": "manual", "skill_id": "7f1c2a34-0000-4000-8000-000000000004", "project_id": null, "habit_id": null, "reflex_id": null, "error_code": null, "model": null, "cost_microusd": 0, "input_tokens": 0, "output_tokens": 0, "output": null, "created_at": "2026-11-28T10:00:00+00:00", "finished_at": "2026-11-28T10:00:01+00:00"}'),
  ('usage.threshold', 'usage:read', 'A meter reached 80 or 100 per cent of its limit.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "meter": "executions", "period_start": "2026-11-01T00:00:00+00:00", "threshold": 80, "used": 40, "limit": 50}'),
  ('subscription.changed', 'billing:read', 'The plan, or the status of its payment, changed.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "plan": "PRO", "status": "active", "former_plan": "FREE", "former_status": "active", "current_period_end": "2026-12-28T10:00:00+00:00"}'),
  ('member.joined', 'members:read', 'A member joined the organization.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "user_id": "7f1c2a34-0000-4000-8000-000000000006", "role": "member", "joined_at": "2026-11-28T10:00:00+00:00"}'),
  ('member.removed', 'members:read', 'A member left the organization or was removed.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "user_id": "7f1c2a34-0000-4000-8000-000000000006", "role": "member"}'),
  ('invitation.sent', 'members:read', 'Somebody was invited, or invited again.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-000000000007", "email": "new@example.com", "role": "member", "expires_at": "2026-12-05T10:00:00+00:00"}'),
  ('invitation.accepted', 'members:read', 'An invitation was accepted.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-000000000007", "email": "new@example.com", "role": "member", "user_id": "7f1c2a34-0000-4000-8000-000000000006"}'),
  ('project.created', 'projects:read', 'A project was created.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-000000000008", "name": "Docs", "slug": "docs", "visibility": "organization"}'),
  ('project.archived', 'projects:read', 'A project was archived.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-000000000008", "name": "Docs", "slug": "docs", "visibility": "organization"}'),
  ('repository.added', 'repositories:read', 'A repository was connected.', '{"org_id": "7f1c2a34-0000-4000-8000-000000000001", "id": "7f1c2a34-0000-4000-8000-000000000009", "project_id": null, "provider": "github", "full_name": "acme/docs", "default_branch": "main"}');

-- ----------------------------------------------------------------------------
-- Endpoints
-- ----------------------------------------------------------------------------

create function private.webhooks_is_filter(value jsonb) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case
  when jsonb_typeof(value) = 'object' and private.json_fits(value, 4096)
    then (select count(*) between 1 and 10 and bool_and(jsonb_typeof(f.value) in ('string', 'number', 'boolean', 'null')) from jsonb_each(value) as f)
  else value is null
end;
comment on function private.webhooks_is_filter(jsonb) is 'Whether JSON can be the filter of an endpoint: an object of 1 to 10 fields, each a text, number, truth value or null, of at most 4 KiB. True for null.';
-- A check is evaluated as the role that writes the row.
grant execute on function private.webhooks_is_filter(jsonb) to authenticated, service_role;

create table public.webhook_endpoints (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade check (org_id <> kijko.platform_org_id()),
  -- Parsers of URLs drop line breaks and tabs, each in its own way.
  url text not null check (char_length(url) <= 2048 and url !~ '[\u0001-\u0020\u007f]'),
  description text not null default '' check (char_length(description) <= 500),
  event_types text[] check (cardinality(event_types) between 1 and 50),
  filter jsonb check (private.webhooks_is_filter(filter)),
  include_private_projects boolean not null default false,
  signature text not null default 'hmac' check (signature in ('hmac', 'ed25519')),
  enabled boolean not null default true,
  disabled_at timestamptz,
  disabled_reason text check (disabled_reason in ('user', 'gone', 'failing')),
  -- Triggers fill it.
  public_key text check (char_length(public_key) <= 100),
  former_secret_until timestamptz,
  failing_since timestamptz,
  failure_count integer not null default 0 check (failure_count >= 0),
  last_success_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  check (enabled = (disabled_at is null) and enabled = (disabled_reason is null))
);
create index webhook_endpoints_enabled_idx on public.webhook_endpoints (org_id) where enabled;
create index webhook_endpoints_former_secret_idx on public.webhook_endpoints (former_secret_until) where former_secret_until is not null;
create index webhook_endpoints_failing_idx on public.webhook_endpoints (failing_since) where failing_since is not null and enabled;

comment on table public.webhook_endpoints is 'URLs to which an organization is sent its events. It belongs to the organization and goes on when who made it leaves.';
comment on column public.webhook_endpoints.id is 'Identity of the endpoint.';
comment on column public.webhook_endpoints.org_id is 'Organization whose events it is sent; never changes.';
comment on column public.webhook_endpoints.url is 'Where events go: http or https, a public address, without user name and password.';
comment on column public.webhook_endpoints.description is 'What it is for.';
comment on column public.webhook_endpoints.event_types is 'Types of webhook_event_types that it wants. Null, or {*}, which is stored as null: all, also future ones.';
comment on column public.webhook_endpoints.filter is 'Fields of the data and the values that they must have, as {"status": "failed"}. Null: every event of its types.';
comment on column public.webhook_endpoints.include_private_projects is 'Whether it is sent events of private projects, too. Only who holds projects:manage may set it, or change an endpoint that has it.';
comment on column public.webhook_endpoints.signature is 'How requests are signed: hmac (HMAC-SHA256 with a shared secret) or ed25519 (a receiver needs public_key only). Never changes.';
comment on column public.webhook_endpoints.enabled is 'Whether it is sent events. Disabling cancels what has not been sent; enabling forgets earlier failures.';
comment on column public.webhook_endpoints.disabled_at is 'When it was disabled; null while enabled.';
comment on column public.webhook_endpoints.disabled_reason is 'user, gone (it answered 410) or failing (5 days without a success); null while enabled.';
comment on column public.webhook_endpoints.public_key is 'Key that verifies signatures by ed25519, as whpk_…; null for hmac.';
comment on column public.webhook_endpoints.former_secret_until is 'Until when the former secret signs, too; null without a rotation under way.';
comment on column public.webhook_endpoints.failing_since is 'When the first event was made that could not be delivered since the last success; null if there is none.';
comment on column public.webhook_endpoints.failure_count is 'Attempts of the events that could not be delivered since the last success.';
comment on column public.webhook_endpoints.last_success_at is 'When a delivery succeeded last.';
comment on column public.webhook_endpoints.created_by is 'User who made it; null after that user is deleted.';
comment on column public.webhook_endpoints.created_by_key is 'API key that made it; null when a user did.';
comment on column public.webhook_endpoints.created_at is 'When it was made.';
comment on column public.webhook_endpoints.updated_at is 'Last change; set by trigger.';

select private.make_tenant_table(
  'public.webhook_endpoints', resource => 'webhooks', gauge => 'webhook_endpoints',
  writable => array['url', 'description', 'event_types', 'filter', 'include_private_projects', 'signature', 'enabled'],
  catalogue => '{
    "url, description": "where events go",
    "event_types, filter, include_private_projects, enabled": "which events go there",
    "signature, public_key, former_secret_until": "how receivers verify what they are sent",
    "disabled_at, disabled_reason, failing_since, failure_count, last_success_at": "shows members how it went, and disables an endpoint that only fails"
  }'
);

-- ----------------------------------------------------------------------------
-- What may be stored
-- ----------------------------------------------------------------------------

create function private.webhooks_require_types(org uuid, event_types text[], is_caller boolean) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  unknown text;
  missing text;
begin
  select t.name into unknown from unnest(event_types) as t (name)
  where t.name is null or not exists (select 1 from public.webhook_event_types as k where k.name = t.name)
  limit 1;
  if found then
    perform kijko.fail('invalid_input', format('event_types: there is no type %s', coalesce(to_json(left(unknown, 100))::text, 'null')), 'webhook_event_types lists them.');
  end if;
  if (select count(distinct t.name) from unnest(event_types) as t (name)) < cardinality(event_types) then
    perform kijko.fail('invalid_input', 'event_types: one is named twice');
  end if;
  select k.permission into missing from public.webhook_event_types as k
  where is_caller and (event_types is null or k.name = any (event_types)) and public.can(org, k.permission) is not true
  order by k.permission limit 1;
  if found then
    perform kijko.fail('permission_denied', format('event_types: these events require the permission %s', missing));
  end if;
end
$$;
comment on function private.webhooks_require_types(uuid, text[], boolean) is 'Fails unless the types exist and the caller, if there is one, may read what they contain. Null: all types.';

create function private.webhooks_check() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- Without a caller there is nobody to ask: migrations, schedules and the back office may do it.
  is_caller constant boolean := (kijko.actor()).kind in ('user', 'personal_key', 'service_key');
  problem text;
begin
  if is_caller and public.can(new.org_id, 'webhooks:write') is not true then
    return new; -- The policy refuses it, and this must not say more.
  end if;
  if new.event_types = array['*'] then
    new.event_types := null;
  end if;
  if tg_op = 'UPDATE' and new.signature <> old.signature then
    perform kijko.fail('conflict', 'signature: cannot be changed', 'Make a new endpoint.');
  end if;
  if tg_op = 'INSERT' or new.enabled <> old.enabled then
    -- A schedule that disables says why; users cannot write that column.
    new.disabled_at := case when not new.enabled then kijko.now() end;
    new.disabled_reason := case when not new.enabled then coalesce(new.disabled_reason, 'user') end;
    new.failing_since := case when not new.enabled and tg_op = 'UPDATE' then new.failing_since end;
    new.failure_count := case when not new.enabled and tg_op = 'UPDATE' then new.failure_count else 0 end;
  end if;
  if tg_op = 'UPDATE' and not new.enabled
    and (new.url, new.event_types, new.filter, new.include_private_projects) is not distinct from (old.url, old.event_types, old.filter, old.include_private_projects)
  then
    return new; -- Whoever may write may switch it off.
  end if;
  problem := kijko.http_request_problem('POST', new.url, '{}', null, null);
  if problem is not null then
    perform kijko.fail('invalid_input', 'url: ' || problem);
  end if;
  perform private.webhooks_require_types(new.org_id, new.event_types, is_caller);
  if new.include_private_projects and is_caller and public.can(new.org_id, 'projects:manage') is not true then
    perform kijko.fail('permission_denied', 'include_private_projects: requires the permission projects:manage');
  end if;
  return new;
end
$$;
comment on function private.webhooks_check() is 'Trigger: the URL may be reached, the types exist, and the writer may read all that will be sent; keeps when and why an endpoint is disabled. Definer: only postgres may ask the outbox.';

-- Whatever decides where events go or which ones is asked for: another one's endpoint could be pointed at a server of one's own.
create trigger webhook_endpoints_check before insert or update of url, event_types, filter, include_private_projects, signature, enabled
  on public.webhook_endpoints for each row execute function private.webhooks_check();

create function private.webhooks_require(endpoint_id uuid, permission text) returns public.webhook_endpoints
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  endpoint public.webhook_endpoints;
begin
  perform private.tenancy_require_caller();
  select e.* into endpoint from public.webhook_endpoints as e
  where e.id = webhooks_require.endpoint_id and e.org_id = any (array(select private.org_ids_with('webhooks:read')));
  -- The same answer if it does not exist and if the caller may not read it.
  if endpoint.id is null then
    perform kijko.fail('not_found', 'no such endpoint');
  end if;
  if not public.can(endpoint.org_id, webhooks_require.permission) then
    perform kijko.fail('permission_denied', format('requires the permission %s', webhooks_require.permission));
  end if;
  return endpoint;
end
$$;
comment on function private.webhooks_require(uuid, text) is 'The endpoint, if the caller sees it and holds the permission; fails otherwise. Called by definer functions only.';
