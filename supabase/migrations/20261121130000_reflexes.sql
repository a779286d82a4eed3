-- ============================================================================
-- Reflexes: skills that a webhook or an event of the database runs.
--
--   1. A sender posts to /webhooks/reflex/{id}. The sidecar verifies the signature with the reflex's secrets, and
--      private.reflexes_ingest() stores the delivery and queues its job in one transaction. An event does the same by
--      private.reflexes_emit().
--   2. The job filters the delivery and maps it to an input, in the sandbox. private.reflexes_finish() then queues the
--      execution and ends the job in one transaction, so that a delivery has one execution, whatever crashes.
--   3. A request that is not verified stores nothing but a counter.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Events of the database
-- ----------------------------------------------------------------------------

create table private.reflex_events (
  event text primary key check (char_length(event) <= 100 and event ~ '^[a-z]+\.[a-z]+$'),
  permission text not null check (char_length(permission) <= 100),
  description text not null check (char_length(description) between 1 and 500)
);
comment on table private.reflex_events is 'Events of the database that fire reflexes. A domain adds its own by a row here and a call of private.reflexes_emit().';
comment on column private.reflex_events.event is 'Name of the event.';
comment on column private.reflex_events.permission is 'What a caller needs besides reflexes:write to let a reflex listen: the event contains what this permission reads.';
comment on column private.reflex_events.description is 'When it happens.';
select private.describe_data('private.reflex_events', '{"event, permission, description": "the events that reflexes listen to"}', 'platform');
alter table private.reflex_events enable row level security;
insert into private.reflex_events (event, permission, description) values
  ('execution.finished', 'executions:read', 'An execution succeeded, failed or was cancelled.'),
  ('member.joined', 'members:read', 'A member joined the organization.'),
  ('usage.threshold', 'usage:read', 'A meter reached 50, 80 or 100 per cent of its limit.');

create function private.reflexes_is_shallow(value jsonb) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return coalesce(not jsonb_path_exists(value, '$.**{65 to last}'), true);
comment on function private.reflexes_is_shallow(jsonb) is 'Whether JSON is nested at most 64 levels deep: readers of JSON outside of Postgres stop at 128, and a payload is wrapped on its way.';
-- A check is evaluated as the role that writes the row.
grant execute on function private.reflexes_is_shallow(jsonb) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- reflexes
-- ----------------------------------------------------------------------------

create table public.reflexes (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  skill_id uuid not null,
  name text not null check (char_length(name) <= 100 and private.is_name(name)),
  source text not null default 'webhook' check (source in ('webhook', 'event', 'repository')),
  event text check (char_length(event) <= 100),
  repository_id uuid,
  verification text not null default 'standard_webhooks'
    check (verification in ('standard_webhooks', 'github', 'stripe', 'hmac', 'bearer')),
  signature_header text not null default 'X-Signature'
    check (char_length(signature_header) <= 100 and signature_header ~ '^[A-Za-z][A-Za-z0-9-]*$'),
  refuse_same_body boolean not null default true,
  filter text check (char_length(filter) <= 4000 and private.has_visible_text(filter)),
  input_mapping jsonb check (jsonb_typeof(input_mapping) = 'object' and private.json_fits(input_mapping, 65536) and private.reflexes_is_shallow(input_mapping)),
  enabled boolean not null default true,
  rate_per_minute integer not null default 60 check (rate_per_minute between 1 and 600),
  -- A trigger fills it.
  secret_prefix text not null default '' check (char_length(secret_prefix) <= 16),
  last_error_code text check (char_length(last_error_code) <= 100),
  last_error text check (char_length(last_error) <= 10000),
  last_error_at timestamptz,
  rejected_count bigint not null default 0 check (rejected_count >= 0),
  last_rejected_at timestamptz,
  authorized_by uuid,
  authorized_by_key uuid,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  foreign key (org_id, skill_id) references public.skills (org_id, id) on delete cascade,
  foreign key (org_id, repository_id) references public.repositories (org_id, id) on delete cascade,
  check ((source = 'repository') = (repository_id is not null))
);
create index reflexes_repository_id_idx on public.reflexes (org_id, repository_id) where repository_id is not null;
create index reflexes_skill_id_idx on public.reflexes (org_id, skill_id);
create index reflexes_event_idx on public.reflexes (org_id, event) where source = 'event' and enabled;

comment on table public.reflexes is 'Skills that a webhook or an event of the database runs. Users write what fires the skill and how its input is made; the database keeps how it went.';
comment on column public.reflexes.id is 'Identity of the reflex, and part of its URL: /webhooks/reflex/{id}.';
comment on column public.reflexes.org_id is 'Organization that owns it and pays for its executions; never changes.';
comment on column public.reflexes.skill_id is 'Skill to run; the reflex is deleted with it.';
comment on column public.reflexes.name is 'Shown to members.';
comment on column public.reflexes.source is 'What fires it: webhook (a request to its URL), event (an event of the database) or repository (the webhook of a repository). Never changes.';
comment on column public.reflexes.event is 'Event of the database: execution.finished, usage.threshold or member.joined. For a repository GitHub''s name of the event, as push; null for all. Null for a webhook.';
comment on column public.reflexes.repository_id is 'Repository whose webhook fires it; the reflex is deleted with it. Null for other sources.';
comment on column public.reflexes.verification is 'How requests are verified: standard_webhooks, github, stripe, hmac (an HMAC-SHA256 of the body in signature_header) or bearer (the secret as a bearer token). Unused for other sources than webhook.';
comment on column public.reflexes.signature_header is 'Header that has the signature, for hmac.';
comment on column public.reflexes.refuse_same_body is 'Whether a body that came within 24 hours is a duplicate even under another delivery id. Only github and hmac ask for it: their signature does not cover the id.';
comment on column public.reflexes.filter is 'Expression over payload, headers and event that says whether a delivery runs the skill, as event == ''push''; null for every delivery.';
comment on column public.reflexes.input_mapping is 'Object that becomes the input. Its texts are templates over payload, headers and event; one that is a single expression keeps the type of its value. Null: the payload is the input.';
comment on column public.reflexes.enabled is 'Whether deliveries run the skill. A disabled reflex stores what it is sent as refused, for redelivery.';
comment on column public.reflexes.rate_per_minute is 'Deliveries that it takes in a minute; beyond that, senders get 429.';
comment on column public.reflexes.secret_prefix is 'Beginning of its secret, by which a person recognizes it; empty without one.';
comment on column public.reflexes.last_error_code is 'Short name of what kept the last delivery from running; null when it ran.';
comment on column public.reflexes.last_error is 'The same in words.';
comment on column public.reflexes.last_error_at is 'When that was.';
comment on column public.reflexes.rejected_count is 'Requests whose signature was missing or wrong; at most 60 a minute are counted.';
comment on column public.reflexes.last_rejected_at is 'When one was counted last.';
comment on column public.reflexes.authorized_by is 'Member by whose permission it listens to an event or a repository: who made it, switched it on, or changed what it runs last, also by a personal key. Null for a service key and for the platform.';
comment on column public.reflexes.authorized_by_key is 'Service key by whose permission it listens; null for a member and for the platform.';
comment on column public.reflexes.created_by is 'User who made it; null after that user is deleted.';
comment on column public.reflexes.created_by_key is 'API key that made it; null when a user did.';
comment on column public.reflexes.created_at is 'When it was made.';
comment on column public.reflexes.updated_at is 'Last change; set by trigger.';

select private.make_tenant_table(
  'public.reflexes', resource => 'reflexes', gauge => 'reflexes',
  writable => array[
    'skill_id', 'name', 'source', 'event', 'repository_id', 'verification', 'signature_header', 'refuse_same_body', 'filter', 'input_mapping', 'enabled',
    'rate_per_minute'
  ],
  catalogue => '{
    "skill_id, filter, input_mapping": "what the reflex runs",
    "name": "what members find the reflex by",
    "source, event, repository_id, enabled, rate_per_minute": "what fires the reflex",
    "authorized_by": {"subject": "person", "purpose": "by whose permission the reflex listens to events", "export": "organization"},
    "authorized_by_key": "by the permission of which key the reflex listens to events",
    "verification, signature_header, refuse_same_body, secret_prefix": "how senders are verified",
    "last_error_code, last_error, last_error_at, rejected_count, last_rejected_at": "shows members how it went"
  }'
);

-- The column is older than this table, so its foreign key is here. It is deferred for the same reason as that of habits.
alter table public.executions
  -- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
  add constraint executions_reflex_id_fkey foreign key (org_id, reflex_id)
  references public.reflexes (org_id, id) on delete set null (reflex_id) deferrable initially deferred;

create function private.reflexes_require_repository(org uuid, repository_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  repository public.repositories;
begin
  select r.* into repository from public.repositories as r
  where r.id = reflexes_require_repository.repository_id and r.org_id = org and public.can(org, 'repositories:read')
    and (r.project_id is null or private.projects_is_visible(r.project_id));
  if repository.id is null then
    perform kijko.fail('not_found', 'repository_id: no such repository');
  end if;
  -- What a project's repository is sent would run what its viewer chooses.
  perform private.projects_require_open(repository.project_id);
end
$$;
comment on function private.reflexes_require_repository(uuid, uuid) is 'Fails unless the caller may let a reflex listen to a repository of the organization: not_found when they do not see it, permission_denied for a viewer of its project, project_archived. Called by definer functions only.';

create function private.reflexes_require_event(org uuid, event text, is_caller boolean) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  known private.reflex_events;
begin
  select e.* into known from private.reflex_events as e where e.event = reflexes_require_event.event;
  if known.event is null then
    perform kijko.fail(
      'invalid_input', 'event: there is no such event',
      (select 'Events: ' || string_agg(e.event, ', ' order by e.event) from private.reflex_events as e)
    );
  end if;
  if is_caller and not public.can(org, known.permission) then
    perform kijko.fail('permission_denied', format('this event requires the permission %s', known.permission));
  end if;
end
$$;
comment on function private.reflexes_require_event(uuid, text, boolean) is 'Fails unless there is such an event and the caller, if there is one, may read what it contains.';

create function private.reflexes_check() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- Without a caller there is nobody to ask: migrations and the back office may do it.
  is_caller constant boolean := (kijko.actor()).kind in ('user', 'personal_key', 'service_key');
begin
  if tg_op = 'UPDATE' and new.source <> old.source then
    perform kijko.fail('conflict', 'source: cannot be changed', 'Make a new reflex.');
  end if;
  if new.source = 'webhook' and new.event is not null then
    perform kijko.fail('invalid_input', 'event: only for the sources event and repository', 'Filter webhooks by filter.');
  end if;
  if new.source = 'webhook' then
    return new;
  end if;
  if new.source = 'event' then
    perform private.reflexes_require_event(new.org_id, new.event, is_caller);
  elsif is_caller then
    perform private.reflexes_require_repository(new.org_id, new.repository_id);
  end if;
  if tg_op = 'UPDATE' and new.enabled and not old.enabled and old.last_error_code = 'author_lost_permission' then
    new.last_error_code := null;
    new.last_error := null;
    new.last_error_at := null;
  end if;
  -- Deliveries ask for their permission again: private.reflexes_may_listen().
  new.authorized_by := case when (kijko.actor()).kind in ('user', 'personal_key') then kijko.user_id() end;
  new.authorized_by_key := case when (kijko.actor()).kind = 'service_key' then kijko.api_key_id() end;
  return new;
end
$$;
comment on function private.reflexes_check() is 'Trigger: a reflex listens to an event or repository that exists, its writer may read what that contains, and the row says who that was. Definer: private.reflex_events is private.';

-- What decides where the content goes is asked as well: another one's reflex could be pointed at a skill of one's own.
create trigger reflexes_check before insert or update of source, event, repository_id, skill_id, filter, input_mapping on public.reflexes
  for each row execute function private.reflexes_check();
create trigger reflexes_check_enabled before update of enabled on public.reflexes
  for each row when (new.enabled and not old.enabled) execute function private.reflexes_check();

create function private.reflexes_report(reflex_id uuid, code text, message text) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  -- Written once for each change of state: many deliveries must not wait for one row.
  update public.reflexes as r
  set last_error_code = substring(code for 100), last_error = substring(message for 10000),
    last_error_at = case when code is not null then kijko.now() end
  where r.id = reflex_id and r.last_error_code is distinct from substring(code for 100)
$$;
comment on function private.reflexes_report(uuid, text, text) is 'Shows members on the reflex what keeps its deliveries from running; null when one ran.';
