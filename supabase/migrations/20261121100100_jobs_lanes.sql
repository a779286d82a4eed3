-- ============================================================================
-- Jobs: lanes, limits and watermarks.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Watermarks: six times and eight turns. They are sequences because Postgres updates a
-- sequence in place. A table row would leave a dead version for each change, and while a
-- transaction holds an old snapshot, every reader would read all of them. A watermark
-- only saves work: the rows decide, so it may be wrong and need not be transactional.
-- ----------------------------------------------------------------------------

-- No queued job is due before this time. Claims start here and so skip the index entries of ended jobs that a held
-- snapshot keeps.
create sequence private.jobs_due_watermark minvalue 0 start 0;
-- Every job whose lease ended before this time was taken back, if the claim had committed.
create sequence private.jobs_lease_watermark minvalue 0 start 0;
-- When a claim next runs maintenance, and when maintenance next reads all queued jobs and leases, whatever the
-- watermarks say.
create sequence private.jobs_maintenance_at minvalue 0 start 0;
create sequence private.jobs_full_scan_at minvalue 0 start 0;
-- When a worker last found jobs or was notified, and for which kind.
create sequence private.jobs_found_at minvalue 0 start 0;
-- When a claim next prunes dead tuples.
create sequence private.jobs_prune_at minvalue 0 start 0;
-- The turn of the organization served last, for claims of the same kinds at the same priority.
create sequence private.jobs_turn_0 minvalue 0 start 0;
create sequence private.jobs_turn_1 minvalue 0 start 0;
create sequence private.jobs_turn_2 minvalue 0 start 0;
create sequence private.jobs_turn_3 minvalue 0 start 0;
create sequence private.jobs_turn_4 minvalue 0 start 0;
create sequence private.jobs_turn_5 minvalue 0 start 0;
create sequence private.jobs_turn_6 minvalue 0 start 0;
create sequence private.jobs_turn_7 minvalue 0 start 0;

-- (No search_path of their own: with one these three could not be inlined.)
create function private.jobs_to_watermark(moment timestamptz) returns bigint
language sql stable
return greatest((extract(epoch from moment) * 1000000)::bigint, 0);
comment on function private.jobs_to_watermark(timestamptz) is 'A time as a watermark stores it: microseconds since 1970.';

create function private.jobs_from_watermark(watermark bigint) returns timestamptz
language sql immutable
return to_timestamp(watermark / 1000000.0);
comment on function private.jobs_from_watermark(bigint) is 'The time that a watermark stores: the inverse of private.jobs_to_watermark().';

create function private.jobs_to_found_watermark(kind text, moment timestamptz) returns bigint
language sql stable
-- The kind in the upper bits, milliseconds since 1970 in the lower ones: the times of one kind are a range.
return ((hashtext(kind) & 65535)::bigint << 46) + (extract(epoch from moment) * 1000)::bigint;
comment on function private.jobs_to_found_watermark(text, timestamptz) is 'A hash of a kind and a time in one watermark.';

-- ----------------------------------------------------------------------------
-- Lanes and limits
-- ----------------------------------------------------------------------------

create table private.job_lanes (
  kind text not null check (char_length(kind) <= 63),
  priority smallint not null,
  org uuid not null,
  concurrency_key text not null default '' check (char_length(concurrency_key) <= 255),
  turn bigint not null,
  place uuid not null default gen_random_uuid(),
  primary key (kind, priority, org, concurrency_key)
);
create index job_lanes_turn_idx on private.job_lanes (kind, priority, turn, place);
create index job_lanes_org_idx on private.job_lanes (org, turn);
create index job_lanes_keyed_idx on private.job_lanes (kind) where concurrency_key <> '';
-- Below 2^46: a watermark stores it beside a 16-bit tag of the claims that it belongs to.
create sequence private.job_lanes_turn_seq maxvalue 70368744177663 cycle;
comment on table private.job_lanes is 'Lanes: combinations of kind, priority, organization and concurrency key that have, or lately had, queued jobs. Written when a lane is first used and when it has become idle, not for each job.';
comment on column private.job_lanes.kind is 'Kind of the jobs.';
comment on column private.job_lanes.priority is 'Their priority.';
comment on column private.job_lanes.org is 'Their organization. No foreign key: an idle lane is deleted within minutes.';
comment on column private.job_lanes.concurrency_key is 'Their concurrency key; empty for none.';
comment on column private.job_lanes.turn is 'Position of the organization in the round, the same for all of its lanes. A new organization is last.';
comment on column private.job_lanes.place is 'Random position of the lane among those of its organization.';
select private.describe_data('private.job_lanes', '{
  "kind, priority, org, concurrency_key, turn, place": {"subject": "organization", "purpose": "lets organizations take turns", "export": "none"}
}');
alter table private.job_lanes enable row level security;

create table private.job_limits (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null references public.organizations (id) on delete cascade,
  concurrency_key text not null default '' check (char_length(concurrency_key) <= 255),
  max_running integer not null check (max_running between 0 and 100000),
  created_by uuid default kijko.user_id(),
  created_at timestamptz not null default clock_timestamp(),
  unique (org_id, concurrency_key)
);
comment on table private.job_limits is 'How many jobs of an organization, or of one of its concurrency keys, run at once. Without a row an organization has no limit and a key''s jobs run one at a time.';
comment on column private.job_limits.id is 'Identity of the limit.';
comment on column private.job_limits.org_id is 'Organization that is limited.';
comment on column private.job_limits.concurrency_key is 'Which of its keys; empty for all of its jobs together.';
comment on column private.job_limits.max_running is 'Maximum of jobs that run at once; 0 stops them.';
comment on column private.job_limits.created_by is 'User who set it; null for the system.';
comment on column private.job_limits.created_at is 'When it was first set.';
select private.describe_data('private.job_limits', '{
  "concurrency_key, max_running": "limits how many jobs run at once"
}');
alter table private.job_limits enable row level security;

create function private.jobs_set_limit(org_id uuid, concurrency_key text, max_running integer) returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
begin
  if jobs_set_limit.max_running is null then
    delete from private.job_limits as l
    where l.org_id = jobs_set_limit.org_id and l.concurrency_key = coalesce(jobs_set_limit.concurrency_key, '');
  else
    insert into private.job_limits as l (org_id, concurrency_key, max_running)
    values (jobs_set_limit.org_id, coalesce(jobs_set_limit.concurrency_key, ''), jobs_set_limit.max_running)
    on conflict (org_id, concurrency_key) do update set max_running = excluded.max_running
    where l.max_running <> excluded.max_running;
  end if;
  -- A job that waited for the limit may run now. Every worker polls when the payload is empty.
  perform pg_notify('kijko_jobs', '');
end
$$;
comment on function private.jobs_set_limit(uuid, text, integer) is 'Limits how many jobs of an organization (key null) or of one concurrency key run at once; null removes the limit. Running jobs continue. Definer: no role may write limits.';
grant execute on function private.jobs_set_limit(uuid, text, integer) to service_role;
