-- ============================================================================
-- LLM gateway: calls, in partitions by month.
-- ============================================================================

-- No foreign keys besides the organization's: the record outlives project, skill, key and member, and its last update must not
-- wait for them. The primary key serves the list of an organization, newest first, too.
create table public.llm_calls (
  id uuid not null default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  kind text not null default 'chat' check (kind in ('chat', 'embeddings', 'images')),
  route text check (char_length(route) <= 200),
  requested_model text not null check (char_length(requested_model) <= 200),
  provider text not null check (char_length(provider) <= 63),
  model text not null check (char_length(model) <= 200),
  reported_model text check (char_length(reported_model) <= 200),
  own_key boolean not null,
  status text not null default 'reserved' check (status in ('reserved', 'sent', 'succeeded', 'failed', 'cancelled')),
  estimated boolean not null default false,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  cache_read_tokens bigint not null default 0,
  cache_write_tokens bigint not null default 0,
  reasoning_tokens bigint not null default 0,
  images integer not null default 0,
  cost_microusd bigint not null default 0,
  held_tokens bigint not null,
  held_microusd bigint not null,
  attempts integer not null default 0,
  first_token_ms integer,
  total_ms integer,
  http_status integer check (http_status between 100 and 599),
  finish_reason text check (char_length(finish_reason) <= 100),
  error_code text check (char_length(error_code) <= 100),
  member_id uuid,
  key_id uuid,
  project_id uuid,
  skill_id uuid,
  execution_id uuid,
  prompt_id uuid,
  prompt_version integer,
  trace_id text check (char_length(trace_id) <= 64),
  -- Only the proxy sets this header.
  request_id uuid default private.as_uuid(kijko.request_header('x-kijko-request')),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default kijko.now(),
  finished_at timestamptz,
  primary key (org_id, created_at, id),
  check ((status in ('reserved', 'sent')) = (finished_at is null)),
  -- One for all: Postgres reads each check anew for each statement that writes.
  check (
    least(
      input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, images, cost_microusd, held_tokens, held_microusd, attempts,
      first_token_ms, total_ms
    ) >= 0
  )
) partition by range (created_at);
create index llm_calls_prompt_id_idx on public.llm_calls (org_id, prompt_id, created_at desc) where prompt_id is not null;
create index llm_calls_trace_id_idx on public.llm_calls (org_id, trace_id) where trace_id is not null;
create index llm_calls_request_id_idx on public.llm_calls (org_id, request_id) where request_id is not null;
comment on table public.llm_calls is 'Calls of models, through the gateway and by executions, with what they used and cost; readable by their organization, written only by functions.';
comment on column public.llm_calls.id is 'Identity of the call.';
comment on column public.llm_calls.org_id is 'Organization that owns and pays for it.';
comment on column public.llm_calls.kind is 'chat, embeddings or images.';
comment on column public.llm_calls.route is 'Name of the route that was called; null for a model called by its own name.';
comment on column public.llm_calls.requested_model is 'What the caller named as the model.';
comment on column public.llm_calls.provider is 'Provider of the last attempt.';
comment on column public.llm_calls.model is 'provider/model of the last attempt.';
comment on column public.llm_calls.reported_model is 'Model as the vendor names it in its answer; null without an answer.';
comment on column public.llm_calls.own_key is 'Whether the provider of the last attempt is the organization''s own: then the cost is no use of the meter llm_cost_microusd.';
comment on column public.llm_calls.status is 'reserved, sent, then succeeded, failed or cancelled; changed by functions only.';
comment on column public.llm_calls.estimated is 'Whether tokens and cost are no counts of the vendor: what the whole hold was, or what the gateway counted.';
comment on column public.llm_calls.input_tokens is 'Tokens sent to the model, in all attempts; cached ones are among them.';
comment on column public.llm_calls.output_tokens is 'Tokens received from the model, in all attempts; reasoning is among them.';
comment on column public.llm_calls.cache_read_tokens is 'How many of the input tokens the vendor read from its cache.';
comment on column public.llm_calls.cache_write_tokens is 'How many of the input tokens the vendor wrote to its cache.';
comment on column public.llm_calls.reasoning_tokens is 'How many of the output tokens the model thought with.';
comment on column public.llm_calls.images is 'Images that were generated.';
comment on column public.llm_calls.cost_microusd is 'Cost in millionths of a US dollar, by llm_models when the call ended; 0 when no price is known.';
comment on column public.llm_calls.held_tokens is 'The most tokens that all attempts could use, which were held.';
comment on column public.llm_calls.held_microusd is 'The most that all attempts could cost.';
comment on column public.llm_calls.attempts is 'How often a vendor was called for it.';
comment on column public.llm_calls.first_token_ms is 'Milliseconds until the first token; null without one.';
comment on column public.llm_calls.total_ms is 'Milliseconds until its end, in the gateway.';
comment on column public.llm_calls.http_status is 'HTTP status of the vendor''s last answer; null without one.';
comment on column public.llm_calls.finish_reason is 'Why the answer ended, as the vendor says.';
comment on column public.llm_calls.error_code is 'Why it failed or was cancelled.';
comment on column public.llm_calls.member_id is 'User who called, also by a personal key; null for a service key.';
comment on column public.llm_calls.key_id is 'API key that called; null for a signed-in user.';
comment on column public.llm_calls.project_id is 'Project that the caller named.';
comment on column public.llm_calls.skill_id is 'Skill that the caller named.';
comment on column public.llm_calls.execution_id is 'Execution that made the call; null for a call through the gateway.';
comment on column public.llm_calls.prompt_id is 'Prompt that was called, or that the execution ran; null for none.';
comment on column public.llm_calls.prompt_version is 'Version of that prompt.';
comment on column public.llm_calls.trace_id is 'Trace that the call belongs to.';
comment on column public.llm_calls.request_id is 'Request of the API that made the call: api_usage.id; null for an execution''s.';
comment on column public.llm_calls.created_by is 'User who called; as member_id.';
comment on column public.llm_calls.created_at is 'When it was reserved.';
comment on column public.llm_calls.finished_at is 'When it reached its final status.';
select private.describe_data('public.llm_calls', '{
  "kind, route, requested_model, provider, model, reported_model, own_key": "which model was called",
  "status, estimated, attempts, first_token_ms, total_ms, http_status, finish_reason, error_code, finished_at": "how it went",
  "input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, images, cost_microusd, held_tokens, held_microusd": "what it used",
  "project_id, skill_id, key_id, execution_id, prompt_id, prompt_version, trace_id, request_id": "where the call came from",
  "member_id": {"subject": "person", "purpose": "who called the model", "export": "organization"}
}');

alter table public.llm_calls enable row level security;
grant select on public.llm_calls to authenticated, service_role;
-- Of a project that is gone nobody knows any more whether it was private.
create policy llm_calls_select on public.llm_calls for select to authenticated
  using (
    org_id = any (array(select private.org_ids_with('llm:read')))
    and (project_id = any (array(select private.projects_hidden_ids()))) is not true
    and (
      project_id is null or org_id = any (array(select private.org_ids_with('projects:manage')))
      or exists (select 1 from public.projects as p where p.org_id = llm_calls.org_id and p.id = llm_calls.project_id)
    )
  );

-- Partitions are in private: the API has the table only. The default takes what no month is there for.
create table private.llm_calls_default partition of public.llm_calls default;

create function private.llm_make_partitions(months integer default 3) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
return private.make_partitions('public.llm_calls', 'month', months);
comment on function private.llm_make_partitions(integer) is 'Makes the partitions of calls for this month and the next ones, and returns how many. Definer: pg_cron and operators own no table.';
select private.llm_make_partitions();

create table public.llm_call_contents (
  id uuid primary key,
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  called_at timestamptz not null,
  project_id uuid,
  prompt jsonb check (private.json_fits(prompt, 1048576)),
  answer jsonb check (private.json_fits(answer, 1048576)),
  delete_after timestamptz not null,
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default kijko.now()
);
create index llm_call_contents_org_id_idx on public.llm_call_contents (org_id, created_at desc, id desc);
create index llm_call_contents_delete_after_idx on public.llm_call_contents (delete_after);
comment on table public.llm_call_contents is 'Prompts and answers of calls, if llm_settings.record_content says that they are kept. Written by the gateway.';
comment on column public.llm_call_contents.id is 'The call.';
comment on column public.llm_call_contents.org_id is 'Organization of the call.';
comment on column public.llm_call_contents.called_at is 'When the call was made: llm_calls.created_at.';
comment on column public.llm_call_contents.project_id is 'Project of the call.';
comment on column public.llm_call_contents.prompt is 'What was sent: null when it was longer than 1 MiB.';
comment on column public.llm_call_contents.answer is 'What came back: null when it was longer than 1 MiB, and without an answer.';
comment on column public.llm_call_contents.delete_after is 'When it is deleted.';
comment on column public.llm_call_contents.created_by is 'User who called; null for a service key.';
comment on column public.llm_call_contents.created_at is 'When it was stored.';
select private.describe_data('public.llm_call_contents', '{
  "called_at, project_id, delete_after": "which call it was, and until when its content is kept",
  "prompt, answer": {"purpose": "what was asked and answered", "erasure": "person"}
}');
alter table public.llm_call_contents enable row level security;
grant select, delete on public.llm_call_contents to authenticated, service_role;
create policy llm_call_contents_select on public.llm_call_contents for select to authenticated
  using (
    org_id = any (array(select private.org_ids_with('llm_contents:read')))
    and (project_id = any (array(select private.projects_hidden_ids()))) is not true
    and (
      project_id is null or org_id = any (array(select private.org_ids_with('projects:manage')))
      or exists (select 1 from public.projects as p where p.org_id = llm_call_contents.org_id and p.id = llm_call_contents.project_id)
    )
  );
create policy llm_call_contents_delete on public.llm_call_contents for delete to authenticated
  using (
    org_id = any (array(select private.org_ids_with('llm:write')))
    and (project_id = any (array(select private.projects_unwritable_ids()))) is not true
    and (
      project_id is null or org_id = any (array(select private.org_ids_with('projects:manage')))
      or exists (select 1 from public.projects as p where p.org_id = llm_call_contents.org_id and p.id = llm_call_contents.project_id)
    )
  );

create table private.llm_content_bytes (
  organization uuid primary key references public.organizations (id) on delete cascade,
  bytes bigint not null check (bytes >= 0)
);
comment on table private.llm_content_bytes is 'How much the prompts and answers of an organization take, as they are stored; kept by triggers.';
comment on column private.llm_content_bytes.organization is 'The organization.';
comment on column private.llm_content_bytes.bytes is 'Bytes of its rows of llm_call_contents, compressed.';
select private.describe_data('private.llm_content_bytes', '{
  "organization, bytes": {"subject": "organization", "purpose": "bounds what is kept of calls", "export": "none"}
}');
alter table private.llm_content_bytes enable row level security;

create function private.llm_limit_contents() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Calls that end at the same moment may each be the last one below the limit.
  if (select b.bytes >= 1073741824 from private.llm_content_bytes as b where b.organization = new.org_id) then
    return null;
  end if;
  return new;
end
$$;
comment on function private.llm_limit_contents() is 'Trigger: keeps no further content of an organization that has 1 GiB of it; the call itself is recorded. Definer: the count is private.';
create trigger llm_call_contents_limit before insert on public.llm_call_contents
  for each row execute function private.llm_limit_contents();

create function private.llm_count_content() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Of the stored row: new has what was written, before it is compressed.
  insert into private.llm_content_bytes as b (organization, bytes)
  select c.org_id, coalesce(pg_column_size(c.prompt), 0) + coalesce(pg_column_size(c.answer), 0)
  from public.llm_call_contents as c where c.id = new.id
  on conflict (organization) do update set bytes = b.bytes + excluded.bytes;
  return null;
end
$$;
comment on function private.llm_count_content() is 'Trigger: counts the bytes of a stored prompt and answer. Definer: the count is private.';
create trigger llm_call_contents_count after insert on public.llm_call_contents
  for each row execute function private.llm_count_content();

create function private.llm_uncount_contents() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  freed record;
begin
  -- In one order, so that two deletions do not deadlock.
  for freed in
    select o.org_id, sum(coalesce(pg_column_size(o.prompt), 0) + coalesce(pg_column_size(o.answer), 0)) as bytes
    from old_rows as o group by o.org_id order by o.org_id
  loop
    update private.llm_content_bytes as b set bytes = greatest(b.bytes - freed.bytes, 0) where b.organization = freed.org_id;
  end loop;
  return null;
end
$$;
comment on function private.llm_uncount_contents() is 'Trigger: counts the bytes of deleted prompts and answers no longer. Definer: the count is private.';
create trigger llm_call_contents_uncount after delete on public.llm_call_contents
  referencing old table as old_rows for each statement execute function private.llm_uncount_contents();

-- ----------------------------------------------------------------------------
-- Calls that are open
-- ----------------------------------------------------------------------------

create table private.llm_open_calls (
  call_id uuid primary key,
  organization uuid not null references public.organizations (id) on delete cascade,
  called_at timestamptz not null,
  status text not null default 'reserved' check (status in ('reserved', 'sent')),
  ends_at timestamptz not null,
  call jsonb not null,
  attributes jsonb not null,
  holds jsonb not null,
  target_index integer not null default 0 check (target_index >= 0),
  attempt jsonb not null,
  spent jsonb not null default '{}'
);
create index llm_open_calls_ends_at_idx on private.llm_open_calls (ends_at);
create index llm_open_calls_organization_idx on private.llm_open_calls (organization);
create index llm_open_calls_reserved_idx on private.llm_open_calls (organization) where status = 'reserved';
comment on table private.llm_open_calls is 'Calls that are reserved or sent, with their holds. Settling or releasing one deletes its row, so it counts once. Times are of the real clock.';
comment on column private.llm_open_calls.call_id is 'The call.';
comment on column private.llm_open_calls.organization is 'Organization of the call.';
comment on column private.llm_open_calls.called_at is 'llm_calls.created_at, which names its partition.';
comment on column private.llm_open_calls.status is 'reserved until the sidecar opens its ticket, then sent.';
comment on column private.llm_open_calls.ends_at is 'When maintenance releases a reserved call, or settles a sent one.';
comment on column private.llm_open_calls.call is 'What was asked for: kind, targets, route and its settings.';
comment on column private.llm_open_calls.attributes is 'Attributes of its use in the ledger: member, key, project, skill.';
comment on column private.llm_open_calls.holds is 'Its holds by subject and meter: ids, what they hold, what former attempts used of it, and whether the running attempt counts.';
comment on column private.llm_open_calls.target_index is 'Target of the running attempt, from 0.';
comment on column private.llm_open_calls.attempt is 'What the running attempt may use at most: input_tokens, output_tokens, images, cost_microusd.';
comment on column private.llm_open_calls.spent is 'What former attempts used, in the columns of llm_calls.';
select private.describe_data('private.llm_open_calls', '{
  "call_id, organization, called_at, status, ends_at, call, holds, target_index, attempt, spent": {"purpose": "settles what a call of a model has held", "export": "none"},
  "attributes": {"purpose": "says whose call it is", "export": "none"}
}');
alter table private.llm_open_calls enable row level security;
