-- ============================================================================
-- Observability: the requests of the API, in partitions by day.
-- ============================================================================

-- No foreign keys besides the organization's: the record outlives members and keys. The primary key serves the list of an
-- organization, newest first, too. A request of nobody's organization is the platform's.
create table public.api_usage (
  id uuid not null,
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  request_id text check (char_length(request_id) <= 128),
  method text not null check (char_length(method) <= 16),
  route text not null check (char_length(route) <= 200),
  status integer not null check (status between 0 and 999),
  duration_ms numeric(12, 3) not null check (duration_ms >= 0),
  response_bytes bigint not null default 0 check (response_bytes >= 0),
  caller text not null default 'unknown' check (char_length(caller) <= 32),
  member_id uuid,
  key_id uuid,
  cost_microusd bigint default 0 check (cost_microusd >= 0),
  sampled integer not null default 1 check (sampled between 1 and 10000),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default kijko.now(),
  primary key (org_id, created_at, id)
) partition by range (created_at);
create index api_usage_created_at_idx on public.api_usage (created_at);
create index api_usage_unsettled_idx on public.api_usage (created_at) where cost_microusd is null;
comment on table public.api_usage is 'Requests of the API as the proxy has logged them, or a sample of them, with who called. Written from its log; readable with audit:read.';
comment on column public.api_usage.id is 'Identity of the request: the proxy makes it.';
comment on column public.api_usage.org_id is 'Organization of the request; the platform''s for a request without one.';
comment on column public.api_usage.request_id is 'Its X-Request-Id, by which logs and the audit log know it; a client may have chosen it.';
comment on column public.api_usage.method is 'Its method.';
comment on column public.api_usage.route is 'Its path without what names a row, file or person: /rest/v1/projects, /rest/v1/rpc/execute_skill, /storage/v1/object.';
comment on column public.api_usage.status is 'HTTP status of the answer; 0 for a client that hung up before it.';
comment on column public.api_usage.duration_ms is 'Milliseconds from the request''s header to the end of the answer, in the proxy.';
comment on column public.api_usage.response_bytes is 'Size of the answer.';
comment on column public.api_usage.caller is 'Kind of caller, as kijko.actor() has it; unknown when the request was refused before that, or the database has restarted.';
comment on column public.api_usage.member_id is 'User who called, also by a personal key; null for others.';
comment on column public.api_usage.key_id is 'API key that called; null for others.';
comment on column public.api_usage.cost_microusd is 'What its calls of models cost, in millionths of a US dollar; null until they are settled.';
comment on column public.api_usage.sampled is 'How many requests the row stands for: more than 1 if the operator keeps a sample.';
comment on column public.api_usage.created_by is 'User who called; as member_id.';
comment on column public.api_usage.created_at is 'When it ended.';
select private.describe_data('public.api_usage', '{
  "request_id, method, route, status, duration_ms, response_bytes, sampled": "how the API answered, and how fast",
  "caller, key_id": "by what it was called",
  "member_id, created_by": {"subject": "person", "purpose": "who called it", "export": "organization", "erasure": "retention"},
  "cost_microusd": "what it cost"
}');
alter table public.api_usage enable row level security;
grant select on public.api_usage to authenticated, service_role;
create policy api_usage_select on public.api_usage for select to authenticated
  using (org_id = any (array(select private.org_ids_with('audit:read'))));

-- Partitions are in private: the API has the table only. The default takes what no day is there for.
create table private.api_usage_default partition of public.api_usage default;

create function private.observability_make_partitions(days integer default 3) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
return private.make_partitions('public.api_usage', 'day', days);
comment on function private.observability_make_partitions(integer) is 'Makes the partitions of api_usage for today and the next days, and returns how many. Definer: pg_cron and operators own no table.';
select private.observability_make_partitions();

select private.set_retention('public.api_usage', '30 days', 'finding out why a request failed');
select private.tie_to_person('public.api_usage', 'member_id', 'keep', 'requests are dropped by the day, and are too many to change');
select private.tie_to_person('public.api_usage', 'created_by', 'keep', 'requests are dropped by the day, and are too many to change');

create function private.observability_drop_partitions(
  keep_days integer default ceil(extract(epoch from private.retention_of('public.api_usage')) / 86400)::integer
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  oldest timestamptz;
  dropped integer;
begin
  if (keep_days between 1 and 3660) is not true then
    perform kijko.fail('invalid_input', 'keep_days: 1 to 3660');
  end if;
  oldest := date_trunc('day', kijko.now(), 'UTC') - keep_days * interval '24 hours';
  dropped := private.drop_partitions('public.api_usage', oldest);
  -- The file is gone by then: logs are rotated by size.
  delete from private.observability_log_positions as p where p.read_at < clock_timestamp() - interval '30 days';
  return dropped;
end
$$;
comment on function private.observability_drop_partitions(integer) is 'Drops the days of api_usage that are older than keep_days, and returns how many. Definer: pg_cron and operators own no table.';

-- ----------------------------------------------------------------------------
-- From the log of the proxy
-- ----------------------------------------------------------------------------

create table private.observability_log_positions (
  file text primary key check (char_length(file) between 1 and 100),
  position bigint not null default 0 check (position >= 0),
  read_at timestamptz not null default clock_timestamp()
);
comment on table private.observability_log_positions is 'How far each file of the proxy''s log has been read. It changes in the transaction that inserts the requests, so each line counts once.';
comment on column private.observability_log_positions.file is 'The file, by the SHA-256 of its first line: a name comes again when logs are rotated.';
comment on column private.observability_log_positions.position is 'Bytes that have been read.';
comment on column private.observability_log_positions.read_at is 'When it was last read.';
select private.describe_data('private.observability_log_positions', '{
  "file, position, read_at": {"subject": "platform", "purpose": "reads each line of the log once", "export": "none"}
}');
alter table private.observability_log_positions enable row level security;

create function private.observability_log_position(file text) returns bigint
language sql stable security definer
begin atomic
  select coalesce((select p.position from private.observability_log_positions as p where p.file = observability_log_position.file), 0);
end;
comment on function private.observability_log_position(text) is 'How far a file of the log has been read; 0 for a new one. Definer: the sidecar has no rights on the tables.';
grant execute on function private.observability_log_position(text) to kijko_sidecar;

create function private.observability_call_costs(org uuid, request uuid) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
-- Null while one of them runs, 0 without any.
return (
  select case when count(*) filter (where c.finished_at is null) = 0 then coalesce(sum(c.cost_microusd), 0)::bigint end
  from public.llm_calls as c
  where c.org_id = observability_call_costs.org and c.request_id = observability_call_costs.request
);
comment on function private.observability_call_costs(uuid, uuid) is 'What the calls of models of one request cost. Null while one of them is not settled. Nullable: result.';

create function private.observability_record_requests(file text, since bigint, until bigint, requests jsonb) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  known bigint;
begin
  if (file <> '' and since between 0 and until and jsonb_typeof(requests) = 'array' and jsonb_array_length(requests) <= 5000) is not true then
    perform kijko.fail('invalid_input', 'a file, positions in it and at most 5000 requests');
  end if;
  insert into private.observability_log_positions as p (file) values (observability_record_requests.file) on conflict do nothing;
  -- Two readers of one file: the second one waits here, and then begins behind the first.
  select p.position into known from private.observability_log_positions as p where p.file = observability_record_requests.file for update;
  if known <> since then
    return known;
  end if;
  insert into public.api_usage (
    id, org_id, request_id, method, route, status, duration_ms, response_bytes, caller, member_id, key_id, cost_microusd, sampled, created_by,
    created_at
  )
  select k.id, coalesce(k.org_id, kijko.platform_org_id()), k.request_id, k.method, k.route, k.status, k.duration_ms, k.response_bytes,
    coalesce(k.kind, 'unknown'), k.user_id, k.api_key_id, private.observability_call_costs(k.org_id, k.id),
    least(k.sampled * least(k.every, k.count - k.place), 10000), k.user_id, to_timestamp(k.ended_at) + (kijko.now() - now())
  from (
    -- Anybody can send requests that are refused: ten rows of a batch stand for all of nobody's.
    select g.*, (case when g.is_nobodys then ceil(g.count / 10.0) else 1 end)::integer as every
    from (
      select l.*, o.id as org_id, a.kind, a.user_id, a.api_key_id, n.is_nobodys,
        count(*) over (partition by n.is_nobodys) as count, row_number() over (partition by n.is_nobodys order by l.id) - 1 as place
      from jsonb_to_recordset(requests) as l (
        id uuid, request_id text, method text, route text, status integer, duration_ms numeric, response_bytes bigint, sampled integer,
        ended_at double precision
      )
      left join kijko.request_actors(array(select private.as_uuid(r.value ->> 'id') from jsonb_array_elements(requests) as r)) as a on a.request = l.id
      -- An organization can be deleted before its last requests are read.
      left join public.organizations as o on o.id = a.org_id
      -- 0: the client has hung up.
      cross join lateral (select a.kind is null and (l.status = 0 or l.status between 400 and 499) as is_nobodys) as n
    ) as g
  ) as k
  where k.place % k.every = 0
  on conflict do nothing;
  update private.observability_log_positions as p set position = until, read_at = clock_timestamp()
  where p.file = observability_record_requests.file;
  return until;
end
$$;
comment on function private.observability_record_requests(text, bigint, bigint, jsonb) is 'Records requests that stand in a file of the proxy''s log from one position to another, with their callers, and returns how far the file has been read. Of those that were refused before their caller was known, at most ten rows stand for all. Records nothing if another position was reached before: each line counts once. Definer: the sidecar has no rights on the tables.';
grant execute on function private.observability_record_requests(text, bigint, bigint, jsonb) to kijko_sidecar;

create function private.observability_settle_costs() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  settled integer;
begin
  update public.api_usage as u set cost_microusd = c.cost
  from (
    select o.org_id, o.created_at, o.id, private.observability_call_costs(o.org_id, o.id) as cost
    from public.api_usage as o
    -- A call ends within a day, or maintenance ends it.
    where o.cost_microusd is null and o.created_at > kijko.now() - interval '2 days'
    -- Of two runs at once neither waits for the other's rows, or both for each other's.
    for no key update of o skip locked
  ) as c
  where u.org_id = c.org_id and u.created_at = c.created_at and u.id = c.id and c.cost is not null;
  get diagnostics settled = row_count;
  return settled;
end
$$;
comment on function private.observability_settle_costs() is 'Sets the costs of requests whose calls of models have been settled since they were recorded, and returns how many. Definer: pg_cron and operators own no table.';

create function private.observability_retained_wal() returns table (used bigint, unused bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp
-- A standby writes no WAL of its own.
begin atomic
  select coalesce(max(s.bytes) filter (where s.active), 0)::bigint, coalesce(max(s.bytes) filter (where not s.active), 0)::bigint
  from (
    select r.active, pg_wal_lsn_diff(case when not pg_is_in_recovery() then pg_current_wal_lsn() else r.restart_lsn end, r.restart_lsn) as bytes
    from pg_replication_slots as r
  ) as s;
end;
comment on function private.observability_retained_wal() is 'The most bytes of WAL that a replication slot holds back: of those in use, and of the others. Definer: the sidecar has no rights on anything.';
grant execute on function private.observability_retained_wal() to kijko_sidecar;

select private.schedule('kijko-observability-settle', '* * * * *', 'perform private.observability_settle_costs()');
select private.schedule('kijko-observability-partitions', '23 * * * *', 'perform private.observability_make_partitions()', 'perform private.observability_drop_partitions()');
