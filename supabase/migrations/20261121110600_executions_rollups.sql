-- ============================================================================
-- Executions: counts of what has ended, for statistics.
--
-- 1. When an execution ends, a trigger inserts one row into execution_deltas, in the same transaction. Two ends never write
--    the same row, so they never wait for each other.
-- 2. Each minute executions_fold() deletes deltas and adds them to execution_rollups, in one transaction.
-- 3. Readers sum up both, by one snapshot: an end is in exactly one of the two.
--
-- A rollup counts an interval of 15 minutes, 1, 3 or 6 hours, 1 or 4 days that begins at a multiple of its width. All zones in
-- use are whole quarters of an hour from UTC, so every local hour, day, week or month is a union of a few intervals:
-- a day in Amsterdam is seven of them, a month about eighteen.
-- No table here has a foreign key: a fold of many organizations would deadlock with the deletion of one. Triggers do that work.
-- ============================================================================

create table private.execution_deltas (
  id bigint generated always as identity primary key,
  org uuid not null,
  project_id uuid,
  managers_only boolean not null,
  skill_id uuid,
  habit_id uuid,
  reflex_id uuid,
  trigger text not null check (char_length(trigger) <= 20),
  finished_at timestamptz not null,
  succeeded bigint not null,
  failed bigint not null,
  cancelled bigint not null,
  skipped bigint not null,
  durations integer[],
  cost_microusd bigint not null,
  input_tokens bigint not null,
  output_tokens bigint not null
)
-- A row lives for a minute.
with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
create index execution_deltas_org_idx on private.execution_deltas (org);
create index execution_deltas_project_idx on private.execution_deltas (project_id) where project_id is not null;

comment on table private.execution_deltas is 'Ends of executions that executions_fold() has not added to execution_rollups yet. Only inserted and deleted, so ends never wait for each other.';
comment on column private.execution_deltas.id is 'Order of insertion.';
comment on column private.execution_deltas.org is 'Organization of the execution.';
comment on column private.execution_deltas.project_id is 'Its project, if any.';
comment on column private.execution_deltas.managers_only is 'Whether only who holds projects:manage sees it: its private project is deleted.';
comment on column private.execution_deltas.skill_id is 'Its skill.';
comment on column private.execution_deltas.habit_id is 'Its habit, if any.';
comment on column private.execution_deltas.reflex_id is 'Its reflex, if any.';
comment on column private.execution_deltas.trigger is 'Its cause.';
comment on column private.execution_deltas.finished_at is 'When it ended.';
comment on column private.execution_deltas.succeeded is '1 if it succeeded.';
comment on column private.execution_deltas.failed is '1 if it failed; the number of a habit''s slots that failed before they were queued.';
comment on column private.execution_deltas.cancelled is '1 if it was cancelled.';
comment on column private.execution_deltas.skipped is 'Skipped slots.';
comment on column private.execution_deltas.durations is 'Cumulative histogram of its duration: element n is 1 if the duration is in the bin n of executions_duration_bin() or in an earlier one. Null unless it ran and succeeded or failed.';
comment on column private.execution_deltas.cost_microusd is 'Its cost.';
comment on column private.execution_deltas.input_tokens is 'Its tokens sent.';
comment on column private.execution_deltas.output_tokens is 'Its tokens received.';
select private.describe_data('private.execution_deltas', '{
  "org, project_id, managers_only, skill_id, habit_id, reflex_id, trigger, finished_at": "says whose end of an execution is counted, and when",
  "succeeded, failed, cancelled, skipped, durations, cost_microusd, input_tokens, output_tokens": "statistics of executions"
}');
alter table private.execution_deltas enable row level security;

create table private.execution_rollups (
  org uuid not null,
  is_total boolean not null,
  width_minutes smallint not null check (width_minutes in (15, 60, 180, 360, 1440, 5760)),
  starts_at timestamptz not null,
  project_id uuid,
  managers_only boolean not null,
  skill_id uuid,
  habit_id uuid,
  reflex_id uuid,
  trigger text not null check (char_length(trigger) <= 20),
  succeeded bigint not null,
  failed bigint not null,
  cancelled bigint not null,
  skipped bigint not null,
  durations integer[],
  cost_microusd bigint not null,
  input_tokens bigint not null,
  output_tokens bigint not null,
  last_run_at timestamptz,
  unique nulls not distinct (org, is_total, width_minutes, starts_at, skill_id, habit_id, reflex_id, project_id, managers_only, trigger)
)
-- Room for new versions of a row on its page: the rows of the current interval change each minute.
with (fillfactor = 80);
create index execution_rollups_skill_idx on private.execution_rollups (org, skill_id, width_minutes, starts_at) where skill_id is not null;
create index execution_rollups_habit_idx on private.execution_rollups (org, habit_id, width_minutes, starts_at) where habit_id is not null;
create index execution_rollups_reflex_idx on private.execution_rollups (org, reflex_id, width_minutes, starts_at) where reflex_id is not null;
create index execution_rollups_project_idx on private.execution_rollups (org, project_id, is_total, width_minutes, starts_at) where project_id is not null;
-- For the retention of rollups. Not a btree: where one organization has most rows, statistics would read those of all skills and
-- widths of a period by it, 800 ms instead of 14.
create index execution_rollups_starts_at_idx on private.execution_rollups using brin (starts_at);

comment on table private.execution_rollups is 'Sums of ended executions by interval, written by executions_fold(). They outlive the executions.';
comment on column private.execution_rollups.org is 'Organization.';
comment on column private.execution_rollups.is_total is 'Whether it sums up all skills, habits, reflexes and triggers of a project. The answer for an organization then reads few rows, however many skills it has.';
comment on column private.execution_rollups.width_minutes is 'Length of the interval. Each end is counted once for each width, and once more in the total.';
comment on column private.execution_rollups.starts_at is 'Begin of the interval, a multiple of its width.';
comment on column private.execution_rollups.project_id is 'Project of the executions; null for those without one.';
comment on column private.execution_rollups.managers_only is 'Whether only who holds projects:manage sees them: their private project is deleted.';
comment on column private.execution_rollups.skill_id is 'Their skill; stays when the skill is deleted.';
comment on column private.execution_rollups.habit_id is 'Their habit, if any.';
comment on column private.execution_rollups.reflex_id is 'Their reflex, if any.';
comment on column private.execution_rollups.trigger is 'Their cause; empty in a total.';
comment on column private.execution_rollups.succeeded is 'How many succeeded.';
comment on column private.execution_rollups.failed is 'How many failed.';
comment on column private.execution_rollups.cancelled is 'How many were cancelled.';
comment on column private.execution_rollups.skipped is 'How many slots of habits were skipped.';
comment on column private.execution_rollups.durations is 'Cumulative histogram of durations: element n counts the bins 1 to n of executions_duration_bin(). Null when none ran.';
comment on column private.execution_rollups.cost_microusd is 'Sum of their cost.';
comment on column private.execution_rollups.input_tokens is 'Sum of their tokens sent.';
comment on column private.execution_rollups.output_tokens is 'Sum of their tokens received.';
comment on column private.execution_rollups.last_run_at is 'Latest end that was not skipped.';
select private.describe_data('private.execution_rollups', '{
  "org, is_total, width_minutes, starts_at, project_id, managers_only, skill_id, habit_id, reflex_id, trigger": "says which executions are counted",
  "succeeded, failed, cancelled, skipped, durations, cost_microusd, input_tokens, output_tokens, last_run_at": "statistics of executions"
}');
alter table private.execution_rollups enable row level security;

-- ----------------------------------------------------------------------------
-- The histogram of durations: 32 bins, each half as wide again as the one before. Bin 1 ends at 15 ms, bin 31 at 48 minutes;
-- bin 32 has no end. A percentile that is interpolated in its bin is off by less than 25 % of its value.
-- ----------------------------------------------------------------------------

create function private.executions_duration_bin(duration interval) returns integer
language sql immutable parallel safe
return case when duration is not null then
  1 + greatest(0, least(31, floor(1 + ln(greatest(extract(epoch from duration)::double precision * 1000, 1) / 15) / ln(1.5::double precision))))::integer
end;
comment on function private.executions_duration_bin(interval) is 'The bin of a duration, 1 to 32; null for null. Bin n > 1 begins at 10 * 1.5^(n - 1) milliseconds.';

-- Histograms are cumulative, and sums of them are as well. So a percentile is one binary search, which costs a chart of hundreds of
-- them a hundredth of what a loop over the bins does.
create function private.executions_percentile(durations bigint[], fraction double precision) returns table (ms numeric)
language sql immutable parallel safe
begin atomic
  select case when h.runs > 0 then round((
    10 * power(1.5, b.bin - 1 + (fraction * h.runs - coalesce(durations[b.bin - 1], 0)) / (durations[b.bin] - coalesce(durations[b.bin - 1], 0)))
  )::numeric) end
  from (select durations[32] as runs) as h
  -- The first bin that reaches the fraction: one after those that do not.
  cross join lateral (select 1 + width_bucket(greatest(ceil(fraction * h.runs) - 1, 0)::bigint, case when h.runs > 0 then durations end) as bin offset 0) as b;
end;
comment on function private.executions_percentile(bigint[], double precision) is 'A percentile of a cumulative histogram in milliseconds, interpolated on the logarithmic scale in its bin; null for an empty histogram. Put into the statement that calls it. Nullable: ms.';

-- ----------------------------------------------------------------------------
-- 1. Ends
-- ----------------------------------------------------------------------------

create function private.executions_count_end() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- A row of skipped slots counts each of them when it is added.
  runs constant bigint := case when tg_op = 'UPDATE' and new.skip_count > 0 then new.skip_count - old.skip_count else greatest(new.skip_count, 1) end;
  bin constant integer := case when new.status in ('succeeded', 'failed') then private.executions_duration_bin(new.finished_at - new.started_at) end;
begin
  insert into private.execution_deltas (
    org, project_id, managers_only, skill_id, habit_id, reflex_id, trigger, finished_at, succeeded, failed, cancelled, skipped,
    durations, cost_microusd, input_tokens, output_tokens
  ) values (
    new.org_id, new.project_id, new.managers_only, new.skill_id, new.habit_id, new.reflex_id, new.trigger, new.finished_at,
    case new.status when 'succeeded' then runs else 0 end, case new.status when 'failed' then runs else 0 end,
    case new.status when 'cancelled' then runs else 0 end, case new.status when 'skipped' then runs else 0 end,
    case when bin is not null then array_fill(0, array[bin - 1]) || array_fill(1, array[33 - bin]) end,
    new.cost_microusd, new.input_tokens, new.output_tokens
  );
  return null;
end
$$;
comment on function private.executions_count_end() is 'Trigger: counts an end of an execution in its own transaction, so that neither is there without the other. A final status never changes, so each is counted once. Runs as postgres inside the functions that end executions.';
create trigger executions_count_insert after insert on public.executions
  for each row when (new.finished_at is not null) execute function private.executions_count_end();
create trigger executions_count_end after update of status on public.executions
  for each row when (old.finished_at is null and new.finished_at is not null) execute function private.executions_count_end();
create trigger executions_count_skip after update of skip_count on public.executions
  for each row when (new.skip_count > old.skip_count) execute function private.executions_count_end();

-- ----------------------------------------------------------------------------
-- 2. The fold
-- ----------------------------------------------------------------------------

create function private.executions_fold(max_rows integer default 10000) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  folded integer;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('kijko-executions-fold', 20261121)) then
    return 0;
  end if;
  with taken as (
    delete from private.execution_deltas as d
    where d.id = any (array(select o.id from private.execution_deltas as o order by o.id limit max_rows for update skip locked))
    returning d.*
  ), added as (
    insert into private.execution_rollups as r (
      org, is_total, width_minutes, starts_at, project_id, managers_only, skill_id, habit_id, reflex_id, trigger,
      succeeded, failed, cancelled, skipped, cost_microusd, input_tokens, output_tokens, last_run_at, durations
    )
    select
      d.org, k.is_total, w.minutes, date_bin(make_interval(mins => w.minutes), d.finished_at, '2000-01-01 00:00+00'),
      d.project_id, d.managers_only, k.skill_id, k.habit_id, k.reflex_id, k.trigger,
      sum(d.succeeded), sum(d.failed), sum(d.cancelled), sum(d.skipped), sum(d.cost_microusd), sum(d.input_tokens), sum(d.output_tokens),
      max(d.finished_at) filter (where d.skipped = 0),
      kijko.array_sum(d.durations)::integer[]
    from taken as d
    cross join lateral (
      values (false, d.skill_id, d.habit_id, d.reflex_id, d.trigger), (true, null, null, null, '')
    ) as k (is_total, skill_id, habit_id, reflex_id, trigger)
    cross join (values (15), (60), (180), (360), (1440), (5760)) as w (minutes)
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    on conflict (org, is_total, width_minutes, starts_at, skill_id, habit_id, reflex_id, project_id, managers_only, trigger) do update set
      succeeded = r.succeeded + excluded.succeeded,
      failed = r.failed + excluded.failed,
      cancelled = r.cancelled + excluded.cancelled,
      skipped = r.skipped + excluded.skipped,
      cost_microusd = r.cost_microusd + excluded.cost_microusd,
      input_tokens = r.input_tokens + excluded.input_tokens,
      output_tokens = r.output_tokens + excluded.output_tokens,
      last_run_at = greatest(r.last_run_at, excluded.last_run_at),
      durations = (select kijko.array_sum(u.durations)::integer[] from (values (r.durations), (excluded.durations)) as u (durations))
  )
  select count(*) into folded from taken;
  return folded;
end
$$;
comment on function private.executions_fold(integer) is 'Moves up to max_rows deltas into the rollups, the oldest first, and returns how many; 0 while another transaction does it. Definer: callable by the operator without table rights.';
grant execute on function private.executions_fold(integer) to service_role;

-- A procedure, so that each batch commits. It can then have no "set" clause and no definer rights, so every name is qualified.
create procedure private.executions_fold_all()
language plpgsql
as $$
declare
  batch integer := 10000;
  folded integer;
  started timestamptz := clock_timestamp();
begin
  loop
    folded := private.executions_fold(batch);
    commit;
    exit when folded < batch or clock_timestamp() > started + interval '50 seconds';
  end loop;
end
$$;
comment on procedure private.executions_fold_all() is 'Called by pg_cron each minute: executions_fold() in batches until no delta is left.';
-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-executions-fold', '* * * * *', 'call private.executions_fold_all()');

-- ----------------------------------------------------------------------------
-- What deletions do
-- ----------------------------------------------------------------------------

create function private.executions_forget_organization() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- In this order: the first statement waits for a fold that holds some of the deltas, the second sees what it added.
  delete from private.execution_deltas as d where d.org = old.id;
  delete from private.execution_rollups as r where r.org = old.id;
  return null;
end
$$;
comment on function private.executions_forget_organization() is 'Trigger: deletes the statistics of a deleted organization, after its executions. Definer: a user who may delete an organization holds no right on them.';
-- Its name sorts after the triggers of foreign keys, so the executions are gone and no more of them end.
create trigger organizations_execution_counts after delete on public.organizations
  for each row execute function private.executions_forget_organization();

create function private.executions_keep_counts_private() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- With their organization all of them are deleted.
  if not exists (select 1 from public.organizations as o where o.id = old.org_id) then
    return old;
  end if;
  -- In this order: a fold that holds deltas has ended before its rollups are read.
  update private.execution_deltas as d set managers_only = true where d.org = old.org_id and d.project_id = old.id;
  update private.execution_rollups as r set managers_only = true where r.org = old.org_id and r.project_id = old.id;
  return old;
end
$$;
comment on function private.executions_keep_counts_private() is 'Trigger: statistics that a private project hid stay hidden when it is deleted. Definer: a user who may delete a project holds no right on them.';
-- Its name sorts after projects_keep_private, which waits for executions that are ending. So their deltas are seen here.
create trigger projects_keep_private_counts before delete on public.projects
  for each row when (old.visibility = 'private') execute function private.executions_keep_counts_private();
