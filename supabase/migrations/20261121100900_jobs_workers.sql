-- ============================================================================
-- Jobs: workers of your own, for kinds of your own.
--
-- A migration of yours queues jobs whose kinds begin with "own.", and allows a login role to run them. That role calls the
-- functions below and nothing else of the queue. They act only on kinds that are allowed to it, and only on leases that it
-- took itself, because the role's name is part of the worker's name. The platform never uses such a kind.
-- ============================================================================

create table private.job_worker_kinds (
  role name not null,
  kind text not null check (octet_length(kind) <= 63),
  primary key (role, kind),
  -- The indexer is a login of the platform.
  check (kind ~ '^own\.[a-z][a-z0-9_.]*$' or (role = 'kijko_indexer' and kind = 'code.index'))
);
comment on table private.job_worker_kinds is 'Which login role may run which kinds of job. Written by jobs_allow_worker() in migrations of your own; the indexer''s row by that of its domain.';
comment on column private.job_worker_kinds.role is 'Login role of the worker.';
comment on column private.job_worker_kinds.kind is 'Kind of job that it may claim.';
select private.describe_data('private.job_worker_kinds', '{"role, kind": "says which worker may run a job"}', 'platform');
alter table private.job_worker_kinds enable row level security;

create function private.jobs_worker_name(worker text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  -- The login: neither "set role" nor a definer function changes it.
  if not exists (select 1 from private.job_worker_kinds as k where k.role = session_user) then
    perform kijko.fail('permission_denied', format('the role %s may run no jobs', session_user), 'Allow it with private.jobs_allow_worker().');
  end if;
  if (worker ~ '\S' and char_length(worker) <= 100) is not true then
    perform kijko.fail('bad_request', 'worker: 1 to 100 characters');
  end if;
  return session_user || '/' || worker;
end
$$;
comment on function private.jobs_worker_name(text) is 'The name under which a worker of the session''s login role holds its leases; fails for a role that may run no jobs.';

create function private.jobs_worker_claim(worker text, max_jobs integer default 1, lease interval default '1 minute')
returns table (id uuid, org_id uuid, kind text, payload jsonb, attempt integer, max_attempts integer, timeout_seconds integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  holder constant text := private.jobs_worker_name(worker);
begin
  return query
  select c.id, c.org_id, c.kind, c.payload, c.attempt, c.max_attempts, c.timeout_seconds
  from private.jobs_claim(
    holder, jobs_worker_claim.lease, jobs_worker_claim.max_jobs,
    array(select k.kind from private.job_worker_kinds as k where k.role = session_user)
  ) as c;
end
$$;
comment on function private.jobs_worker_claim(text, integer, interval) is 'Leases up to max_jobs due jobs of the kinds that the session''s login role may run. Call the heartbeat before a lease ends. Definer: workers hold no table rights.';

create function private.jobs_worker_heartbeat(worker text, ids uuid[], lease interval default '1 minute')
returns table (id uuid, cancel_requested boolean, extended boolean)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select h.id, h.cancel_requested, h.extended
  from private.jobs_heartbeat(private.jobs_worker_name(worker), ids, jobs_worker_heartbeat.lease) as h;
end
$$;
comment on function private.jobs_worker_heartbeat(text, uuid[], interval) is 'Extends leases, and says which jobs are to be cancelled. One that is not in the answer is lost: stop its work. Definer: workers hold no table rights.';

create function private.jobs_worker_lock(worker text, job_id uuid, attempt integer) returns public.jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  return private.jobs_lock_leased(private.jobs_worker_name(worker), job_id, attempt);
end
$$;
comment on function private.jobs_worker_lock(text, uuid, integer) is 'Locks a job that this worker still holds; null when it is lost. Not granted: definer functions of your own call it, write the result, and call jobs_worker_complete(), all in one transaction.';

create function private.jobs_worker_complete(worker text, job_id uuid, attempt integer, result jsonb default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  job constant public.jobs := private.jobs_worker_lock(worker, job_id, attempt);
  status constant text := case when job.cancel_requested then 'cancelled' else 'succeeded' end;
begin
  if job.id is null then
    return null;
  end if;
  if not private.json_fits(jobs_worker_complete.result, 262144) then
    perform kijko.fail('invalid_input', 'result: more than 256 KiB');
  end if;
  perform private.jobs_finish(
    job, status, case status when 'succeeded' then jobs_worker_complete.result end, case status when 'cancelled' then 'cancelled' end, null
  );
  return status;
end
$$;
comment on function private.jobs_worker_complete(text, uuid, integer, jsonb) is 'Ends a held job well. Returns succeeded, cancelled if that was asked, or null when the lease was lost: what the same transaction wrote must then be rolled back. Nullable: result. Definer: workers hold no table rights.';

create function private.jobs_worker_fail(
  worker text, job_id uuid, attempt integer, code text, message text, retryable boolean default true, retry_after interval default null
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.jobs_fail(private.jobs_worker_name(worker), job_id, code, message, retryable, retry_after, attempt);
end
$$;
comment on function private.jobs_worker_fail(text, uuid, integer, text, text, boolean, interval) is 'Records a failure of a held job: queued again with back-off, dead after its last attempt or when it is not retryable, or cancelled if that was asked. Returns the new status, or null when the lease was lost. Nullable: result. Definer: workers hold no table rights.';

create function private.jobs_worker_release(worker text, ids uuid[]) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.jobs_release(private.jobs_worker_name(worker), ids);
end
$$;
comment on function private.jobs_worker_release(text, uuid[]) is 'Hands back jobs that the worker holds, when it stops. The attempt does not count. Definer: workers hold no table rights.';

create function private.jobs_allow_worker(role name, kinds text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if (cardinality(kinds) > 0) is not true then
    perform kijko.fail('bad_request', 'kinds: at least one');
  end if;
  insert into private.job_worker_kinds (role, kind)
  select jobs_allow_worker.role, k.kind from unnest(kinds) as k (kind)
  on conflict do nothing;
  execute format('grant usage on schema private to %I', role);
  execute format(
    'grant execute on function
      private.jobs_worker_claim(text, integer, interval),
      private.jobs_worker_heartbeat(text, uuid[], interval),
      private.jobs_worker_complete(text, uuid, integer, jsonb),
      private.jobs_worker_fail(text, uuid, integer, text, text, boolean, interval),
      private.jobs_worker_release(text, uuid[])
    to %I', role
  );
end
$$;
comment on function private.jobs_allow_worker(name, text[]) is 'Allows a login role to run jobs of these kinds, whose names begin with "own.". Called in a migration of your own; the role must exist.';
