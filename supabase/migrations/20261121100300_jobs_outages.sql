-- ============================================================================
-- Jobs: outages of vendors.
--
-- A worker that cannot reach the service of a job's kind fails the job with outage => true. This is recorded twice:
-- 1. For the organization and the kind. From the third consecutive failure on, claims skip the organization's jobs of
--    that kind until the pause ends. Then they run one at a time until one succeeds.
-- 2. For the kind. Claims skip it, for at most two minutes, only when at least two organizations without a common member are
--    among the failures since the last success. The vendor's Retry-After pauses only the organization that got it.
--    After the pause one job every five seconds tests the service, first of an organization that has not failed.
-- So a tenant whose model always fails delays no other tenant, and workers do not call a vendor that is down.
-- ============================================================================

create table private.job_org_pauses (
  kind text not null check (char_length(kind) <= 63),
  org uuid not null,
  failures integer not null default 1 check (failures > 0),
  until timestamptz not null default clock_timestamp(),
  error_code text check (char_length(error_code) <= 100),
  created_at timestamptz not null default clock_timestamp(),
  failed_at timestamptz not null default clock_timestamp(),
  primary key (kind, org)
);
comment on table private.job_org_pauses is 'Organizations whose jobs of a kind failed lately because of an outage: a row from the first failure to the next success. After three failures in a row claims skip these jobs until the pause ends, and then take one at a time.';
comment on column private.job_org_pauses.kind is 'Kind of the jobs.';
comment on column private.job_org_pauses.org is 'Their organization. No foreign key: it would lock the organization after the job, and an old row is deleted within hours.';
comment on column private.job_org_pauses.failures is 'Consecutive failures, not counting those during a pause.';
comment on column private.job_org_pauses.until is 'End of the pause: no job of the organization and kind is claimed before it.';
comment on column private.job_org_pauses.error_code is 'Error code of the last failure.';
comment on column private.job_org_pauses.created_at is 'When the first of these failures was recorded.';
comment on column private.job_org_pauses.failed_at is 'When the last failure was recorded.';
select private.describe_data('private.job_org_pauses', '{
  "kind, org, failures, until, error_code, failed_at": {"purpose": "pauses jobs of an organization whose vendor fails", "export": "none"}
}');
alter table private.job_org_pauses enable row level security;

create table private.job_kind_pauses (
  kind text primary key check (char_length(kind) <= 63),
  org uuid not null,
  shared boolean not null default false,
  failures integer not null default 1 check (failures > 0),
  until timestamptz not null default clock_timestamp(),
  tried_at timestamptz not null default '-infinity',
  error_code text check (char_length(error_code) <= 100),
  created_at timestamptz not null default clock_timestamp(),
  failed_at timestamptz not null default clock_timestamp()
);
comment on table private.job_kind_pauses is 'Kinds with failures because of an outage: a row from the first failure to the next success of any organization. After three failures in a row of at least two organizations claims skip the kind until the pause ends, and then try one job at a time.';
comment on column private.job_kind_pauses.kind is 'Kind of the jobs.';
comment on column private.job_kind_pauses.org is 'Organization of the first failure.';
comment on column private.job_kind_pauses.shared is 'Whether another organization failed as well. Without that the kind is not paused.';
comment on column private.job_kind_pauses.failures is 'Consecutive failures, not counting those during a pause; at most two while they are of one organization.';
comment on column private.job_kind_pauses.until is 'End of the pause: no job of the kind is claimed before it.';
comment on column private.job_kind_pauses.tried_at is 'When a claim last took a job to test whether the vendor is back.';
comment on column private.job_kind_pauses.error_code is 'Error code of the last failure.';
comment on column private.job_kind_pauses.created_at is 'When the first of these failures was recorded.';
comment on column private.job_kind_pauses.failed_at is 'When the last failure was recorded.';
select private.describe_data('private.job_kind_pauses', '{
  "kind, shared, failures, until, tried_at, error_code, failed_at": "pauses jobs of a kind whose vendor fails",
  "org": {"subject": "organization", "purpose": "distinguishes failures of one organization from those of several", "export": "none"}
}', 'platform');
alter table private.job_kind_pauses enable row level security;

-- ----------------------------------------------------------------------------
-- Recording. Not definer and not granted: jobs_fail() and the functions that end jobs call these.
-- ----------------------------------------------------------------------------

create function private.jobs_pause_end(failures integer, retry_after interval) returns timestamptz
language sql volatile set search_path = pg_catalog, pg_temp
return clock_timestamp() + greatest(
  least(interval '1 second' * (2 ^ least(greatest(failures - 3, 0), 10)), interval '2 minutes') * (0.5 + random() / 2),
  case when retry_after is not null then least(retry_after, interval '1 hour') end
);
comment on function private.jobs_pause_end(integer, interval) is 'When a pause ends that starts now with this failure: after 1, 2, 4 … seconds, at most two minutes, half of it random; or after the retry_after of the vendor, at most an hour.';

create function private.jobs_pause_org(kind text, org uuid, code text, retry_after interval) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  pause private.job_org_pauses;
  n integer;
begin
  -- Never waits: a session that holds the row records the same outage.
  select p.* into pause from private.job_org_pauses as p
  where p.kind = jobs_pause_org.kind and p.org = jobs_pause_org.org
  for update skip locked;
  if found and pause.until <= clock_timestamp() then
    n := case when pause.failed_at < clock_timestamp() - interval '1 hour' then 1 else pause.failures + 1 end;
    update private.job_org_pauses as p
    set failures = n,
      until = case when n >= 3 then private.jobs_pause_end(n, retry_after) else p.until end,
      error_code = code,
      failed_at = clock_timestamp()
    where p.kind = pause.kind and p.org = pause.org;
  elsif pause.kind is null
    and not exists (select 1 from private.job_org_pauses as p where p.kind = jobs_pause_org.kind and p.org = jobs_pause_org.org)
    and pg_try_advisory_xact_lock(hashtextextended(concat_ws(':', 'kijko-job-pause', jobs_pause_org.kind, jobs_pause_org.org), 20261121))
  then
    insert into private.job_org_pauses (kind, org, error_code) values (jobs_pause_org.kind, jobs_pause_org.org, code)
    on conflict do nothing;
  end if;
end
$$;
comment on function private.jobs_pause_org(text, uuid, text, interval) is 'Counts a failure against the organization and kind; the third in a row and each later one pauses them. A failure during a pause does not count: its call began before.';

create function private.jobs_pause_kind(kind text, org uuid, code text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  pause private.job_kind_pauses;
  stale boolean;
  several boolean;
  n integer;
begin
  select p.* into pause from private.job_kind_pauses as p where p.kind = jobs_pause_kind.kind for update skip locked;
  if found and pause.until <= clock_timestamp() then
    stale := pause.failed_at < clock_timestamp() - interval '1 hour';
    -- Failures of one organization, or of two with a common member, prove nothing about the vendor, however many they are.
    several := not stale and (pause.shared or (
      pause.org <> jobs_pause_kind.org
      and not exists (
        select 1 from public.memberships as a
        join public.memberships as b on b.user_id = a.user_id and b.org_id = jobs_pause_kind.org
        where a.org_id = pause.org
      )
    ));
    n := case when stale then 1 when several then pause.failures + 1 else 2 end;
    update private.job_kind_pauses as p
    set org = case when stale then jobs_pause_kind.org else p.org end,
      shared = several,
      failures = n,
      until = case when n >= 3 then private.jobs_pause_end(n, null) else p.until end,
      error_code = code,
      failed_at = clock_timestamp()
    where p.kind = pause.kind;
  elsif pause.kind is null
    and not exists (select 1 from private.job_kind_pauses as p where p.kind = jobs_pause_kind.kind)
    and pg_try_advisory_xact_lock(hashtextextended('kijko-job-pause:' || jobs_pause_kind.kind, 20261121))
  then
    insert into private.job_kind_pauses (kind, org, error_code) values (jobs_pause_kind.kind, jobs_pause_kind.org, code)
    on conflict do nothing;
  end if;
end
$$;
comment on function private.jobs_pause_kind(text, uuid, text) is 'Counts a failure against the kind; the third in a row and each later one pauses it for at most two minutes, if they are of at least two organizations without a common member. A Retry-After does not count here: it answered one tenant.';

create function private.jobs_record_outage(kind text, org uuid, code text, retry_after interval) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  select private.jobs_pause_org(kind, org, substring(code for 100), retry_after);
  select private.jobs_pause_kind(kind, org, substring(code for 100));
$$;
comment on function private.jobs_record_outage(text, uuid, text, interval) is 'Records that the vendor of a kind failed a job of this organization.';

create function private.jobs_record_recovery(kind text, org uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  lifted boolean := false;
  failures integer;
begin
  delete from private.job_org_pauses as p
  where p.ctid = any (array(
    select q.ctid from private.job_org_pauses as q
    where q.kind = jobs_record_recovery.kind and q.org = jobs_record_recovery.org
    for update skip locked
  ));
  lifted := found;
  delete from private.job_kind_pauses as p
  where p.ctid = any (array(
    select q.ctid from private.job_kind_pauses as q where q.kind = jobs_record_recovery.kind for update skip locked
  ))
  returning p.failures into failures;
  if failures >= 3 then
    -- The vendor is back: every organization may test it at once, one job each.
    update private.job_org_pauses as p
    set until = clock_timestamp()
    where p.ctid = any (array(
      select q.ctid from private.job_org_pauses as q
      where q.kind = jobs_record_recovery.kind and q.until > clock_timestamp()
      for update skip locked
    ));
  end if;
  if lifted or failures is not null then
    perform pg_notify('kijko_jobs', jobs_record_recovery.kind);
  end if;
end
$$;
comment on function private.jobs_record_recovery(text, uuid) is 'A job of this organization and kind succeeded: lifts the pauses of both, ends those of other organizations if the kind was paused, and wakes workers.';

create function private.jobs_delete_old_pauses() returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  delete from private.job_org_pauses as p
  where p.ctid = any (array(
    select q.ctid from private.job_org_pauses as q
    where q.failed_at < clock_timestamp() - interval '1 hour' and q.until < clock_timestamp()
    for update skip locked
  ));
  delete from private.job_kind_pauses as p
  where p.ctid = any (array(
    select q.ctid from private.job_kind_pauses as q
    where q.failed_at < clock_timestamp() - interval '1 hour' and q.until < clock_timestamp()
    for update skip locked
  ));
$$;
comment on function private.jobs_delete_old_pauses() is 'Deletes failures of more than an hour ago, which no longer count. Called by pg_cron.';

-- ----------------------------------------------------------------------------
-- Claiming
-- ----------------------------------------------------------------------------

create function private.jobs_open_kinds(kinds text[], moment timestamptz) returns text[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  open text[];
  probe text;
begin
  select array_agg(k.kind) into open
  from unnest(kinds) as k (kind)
  where not exists (select 1 from private.job_kind_pauses as p where p.kind = k.kind and p.failures >= 3);
  -- The pause itself is left alone: a failure counts only after its end.
  update private.job_kind_pauses as p
  set tried_at = moment
  where p.ctid = (
    select q.ctid from private.job_kind_pauses as q
    where q.kind = any (kinds) and q.failures >= 3 and q.until <= moment and q.tried_at <= moment - interval '5 seconds'
      and exists (select 1 from public.jobs as j where j.status = 'queued' and j.attempt >= 0 and j.kind = q.kind and j.run_at <= moment)
    order by q.until
    limit 1
    for update skip locked
  )
  returning p.kind into probe;
  return case when probe is null then open else array[probe] end;
end
$$;
comment on function private.jobs_open_kinds(text[], timestamptz) is 'The kinds that may be claimed at this moment: those without a pause, or a single kind whose pause has ended. The caller claims one job of the latter, as a test.';

create function private.jobs_within_pauses(places tid[]) returns tid[]
language sql volatile set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
  select coalesce(array_agg(c.place order by c.n), '{}')
  from (
    select c.place, c.n, j.kind, j.org_id, p.until, row_number() over (partition by j.kind, j.org_id order by c.n) as rank
    from unnest(places) with ordinality as c (place, n)
    join public.jobs as j on j.ctid = c.place
    left join private.job_org_pauses as p on p.kind = j.kind and p.org = j.org_id and p.failures >= 3
  ) as c
  where c.until is null
    or (c.until <= clock_timestamp() and c.rank = 1 and not exists (
      select 1 from public.jobs as r
      where r.status = 'running' and r.attempt >= 0
        and r.locked_until >= (select private.jobs_from_watermark(w.last_value) from private.jobs_lease_watermark as w)
        and r.org_id = c.org_id and r.kind = c.kind
    ))
$$;
comment on function private.jobs_within_pauses(tid[]) is 'Of the queued jobs at these places, those whose organization is not paused. After a pause one of its jobs runs at a time, until one succeeds.';
