-- ============================================================================
-- Code: indexing jobs, how they are queued and how they end.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- What a plan indexes
-- ----------------------------------------------------------------------------

create table private.code_limits (
  plan text primary key references public.plans (code) on delete cascade,
  stored_bytes bigint not null check (stored_bytes > 0),
  repository_bytes bigint not null check (repository_bytes > 0),
  files integer not null check (files > 0),
  file_bytes integer not null check (file_bytes between 1 and 4194304),
  seconds integer not null check (seconds between 1 and 7200)
);
comment on table private.code_limits is 'How much code an organization of a plan indexes. Written by migrations and the operator.';
comment on column private.code_limits.plan is 'The plan.';
comment on column private.code_limits.stored_bytes is 'Files of all branches of an organization, in bytes.';
comment on column private.code_limits.repository_bytes is 'Files of one branch, in bytes.';
comment on column private.code_limits.files is 'Files of one branch.';
comment on column private.code_limits.file_bytes is 'A larger file is listed and not parsed.';
comment on column private.code_limits.seconds is 'Time of one attempt.';
select private.describe_data('private.code_limits', '{"plan, stored_bytes, repository_bytes, files, file_bytes, seconds": "limits what is indexed"}', 'platform');
alter table private.code_limits enable row level security;
insert into private.code_limits (plan, stored_bytes, repository_bytes, files, file_bytes, seconds)
select p.code, l.stored << 20, l.repository << 20, l.files, l.file_kib << 10, l.seconds
from public.plans as p
join (
  values ('FREE', 256::bigint, 128::bigint, 20000, 512, 600), ('PRO', 4096, 1024, 100000, 1024, 1800),
    ('TEAMS', 65536, 4096, 300000, 1024, 3600), ('ENTERPRISE', 1048576, 8192, 500000, 2048, 7200)
) as l (plan, stored, repository, files, file_kib, seconds) on l.plan = p.code;

create function private.code_limits_of(org uuid) returns private.code_limits
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select l.*
  from private.code_limits as l
  where l.plan in ((select s.plan from public.subscriptions as s where s.org_id = org), 'FREE')
  order by l.plan = 'FREE'
  limit 1
$$;
comment on function private.code_limits_of(uuid) is 'How much code an organization may index: the limits of its plan.';

-- ----------------------------------------------------------------------------
-- Branches
-- ----------------------------------------------------------------------------

create function private.code_indexed_branch(repository public.repositories) returns text
language sql immutable
return coalesce(repository.branch_override, repository.default_branch);
comment on function private.code_indexed_branch(public.repositories) is 'The branch of a repository that searches read unless they name another.';

create function private.code_wants_branch(repository public.repositories, branch text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
return branch = private.code_indexed_branch(repository) or exists (
  select 1 from unnest(repository.extra_branches) as e (pattern)
  where branch like replace(replace(replace(replace(e.pattern, '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')
);
comment on function private.code_wants_branch(public.repositories, text) is 'Whether pushes to a branch are indexed: the default branch or its override, and what extra_branches names.';

-- ----------------------------------------------------------------------------
-- The queue
-- ----------------------------------------------------------------------------

create function private.code_enqueue(repository public.repositories, branch text, trigger text) returns public.indexing_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  job public.indexing_jobs;
  queue_job uuid;
begin
  -- One at a time for each repository. Callers have locked the organization and the project.
  perform 1 from public.repositories as r where r.id = repository.id for no key update;
  if not found then
    return null;
  end if;
  -- Waits for the indexer that begins it at this moment: then it is not queued any more, and another one is needed.
  select j.* into job from public.indexing_jobs as j
  where j.org_id = repository.org_id and j.repository_id = repository.id and j.branch = code_enqueue.branch and j.status = 'queued'
  for no key update;
  if job.id is not null then
    return job;
  end if;
  if not exists (
    select 1 from public.repository_branches as b
    where b.org_id = repository.org_id and b.repository_id = repository.id and b.name = code_enqueue.branch
  ) and (
    select count(distinct n.name) from (
      select b.name from public.repository_branches as b where b.org_id = repository.org_id and b.repository_id = repository.id
      union all
      select j.branch from public.indexing_jobs as j
      where j.org_id = repository.org_id and j.repository_id = repository.id and j.status in ('queued', 'running')
    ) as n
    where n.name <> code_enqueue.branch
  ) >= 20 then
    perform kijko.fail('conflict', 'at most 20 branches of a repository are indexed', 'Narrow extra_branches.');
  end if;
  job.id := gen_random_uuid();
  queue_job := private.jobs_enqueue(
    repository.org_id, 'code.index', jsonb_build_object('indexing_job_id', job.id), max_attempts => 5,
    timeout_seconds => (private.code_limits_of(repository.org_id)).seconds,
    -- One at a time for each organization: a slow git server holds up its own organization.
    concurrency_key => 'code', project_id => repository.project_id
  );
  insert into public.indexing_jobs (id, org_id, repository_id, branch, trigger, queue_job_id)
  values (job.id, repository.org_id, repository.id, code_enqueue.branch, code_enqueue.trigger, queue_job)
  returning * into job;
  update public.repositories as r set status = 'indexing'
  where r.id = repository.id and r.status <> 'indexing' and code_enqueue.branch = private.code_indexed_branch(repository);
  return job;
end
$$;
comment on function private.code_enqueue(public.repositories, text, text) is 'Queues the indexing of a branch, or returns the job that already waits for it; null when the repository is gone. Fails with conflict beyond 20 branches. Called by definer functions that have locked the organization and the project.';

create function private.code_is_followed(repository public.repositories) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return repository.indexed_at is not null or repository.last_error_code is not null or exists (
  select 1 from public.indexing_jobs as j where j.org_id = repository.org_id and j.repository_id = repository.id
) or exists (
  select 1 from public.repository_branches as b where b.org_id = repository.org_id and b.repository_id = repository.id
);
comment on function private.code_is_followed(public.repositories) is 'Whether somebody has asked for the index of a repository before, also when the jobs are deleted.';

create function private.code_follow_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- A rename that a webhook reports changes the address and not the repository.
  is_other constant boolean := new.clone_url <> old.clone_url and pg_trigger_depth() = 1
    or new.include_paths is distinct from old.include_paths or new.exclude_paths is distinct from old.exclude_paths;
  indexed constant text := private.code_indexed_branch(new);
  branches text[];
begin
  -- What runs has read something else. It ends by its next call, and its branch is queued anew.
  with stopped as (
    update public.indexing_jobs as j set cancel_requested = true
    where j.org_id = new.org_id and j.repository_id = new.id and j.status in ('queued', 'running') and not j.cancel_requested
      and (not private.code_wants_branch(new, j.branch) or (is_other and j.status = 'running'))
    returning j.branch
  )
  select array_agg(distinct s.branch) into branches from stopped as s where private.code_wants_branch(new, s.branch);
  delete from public.repository_branches as b
  where b.org_id = new.org_id and b.repository_id = new.id and not private.code_wants_branch(new, b.name);
  if indexed <> private.code_indexed_branch(old) and private.code_is_followed(old) then
    branches := branches || indexed;
  end if;
  perform private.code_enqueue(new, b.name, 'manual') from (select distinct u.name from unnest(branches) as u (name)) as b;
  return null;
end
$$;
comment on function private.code_follow_change() is 'Trigger: another address, other path filters and other branches stop the jobs that they make wrong and queue them anew; branches that are not indexed any more lose their index. Definer: users only read branches and jobs.';
create trigger repositories_follow_change after update on public.repositories
  for each row when (
    (old.clone_url, old.include_paths, old.exclude_paths, old.default_branch, old.branch_override, old.extra_branches)
    is distinct from (new.clone_url, new.include_paths, new.exclude_paths, new.default_branch, new.branch_override, new.extra_branches)
  ) execute function private.code_follow_change();

-- What a cancelled or superseded job leaves: nothing, since only code_index_commit() changes a branch.
create function private.code_end(job public.indexing_jobs, status text, code text default null, message text default null) returns public.indexing_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  ended public.indexing_jobs;
begin
  delete from private.code_staged_entries as e where e.organization = job.org_id and e.indexing_job_id = job.id;
  update public.indexing_jobs as j
  set status = code_end.status, phase = null, finished_at = kijko.now(),
    error_code = substring(code for 100), error = substring(message for 1000)
  where j.id = job.id and j.status in ('queued', 'running')
  returning j.* into ended;
  -- Another job of the branch may wait; then the repository is still being indexed.
  update public.repositories as r
  set status = case
      when code_end.status = 'failed' then 'failed'
      when r.indexed_at is not null then 'ready'
      else 'pending'
    end,
    last_error_code = case when code_end.status = 'failed' then substring(code for 100) else r.last_error_code end,
    last_error = case when code_end.status = 'failed' then substring(message for 1000) else r.last_error end
  where r.org_id = job.org_id and r.id = job.repository_id and job.branch = private.code_indexed_branch(r) and not exists (
    select 1 from public.indexing_jobs as j
    where j.org_id = job.org_id and j.repository_id = job.repository_id and j.branch = job.branch and j.status in ('queued', 'running')
  );
  return ended;
end
$$;
comment on function private.code_end(public.indexing_jobs, text, text, text) is 'Ends a locked indexing job that did not succeed, and shows it on its repository.';

create function private.code_job_of(job public.jobs) returns uuid
language sql immutable set search_path = pg_catalog, pg_temp
return private.as_uuid(job.payload ->> 'indexing_job_id');
comment on function private.code_job_of(public.jobs) is 'The indexing job that a job of the queue is for.';

create function private.code_lock_of_job(job public.jobs) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  indexing constant uuid := private.code_job_of(job);
begin
  perform 1
  from public.indexing_jobs as i
  join public.repositories as r on r.org_id = i.org_id and r.id = i.repository_id
  where i.id = indexing and i.org_id = job.org_id
  for no key update skip locked;
  return found or not exists (select 1 from public.indexing_jobs as i where i.id = indexing and i.org_id = job.org_id);
end
$$;
comment on function private.code_lock_of_job(public.jobs) is 'Locks the indexing job of a locked job, and its repository, without waiting; false when another transaction holds one. Called by jobs_lock_dependents().';

create function private.code_sync_status() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  indexing public.indexing_jobs;
begin
  perform 1
  from public.indexing_jobs as i join public.repositories as r on r.org_id = i.org_id and r.id = i.repository_id
  where i.id = private.code_job_of(new) and i.org_id = new.org_id
  for no key update of r;
  select i.* into indexing from public.indexing_jobs as i
  where i.id = private.code_job_of(new) and i.org_id = new.org_id and i.status in ('queued', 'running')
  for no key update;
  if indexing.id is null then
    return null;
  elsif new.status = 'queued' then
    -- It stays running, so that at most one of the branch is: the queue runs them one after the other.
    update public.indexing_jobs as i
    set phase = 'waiting', error_code = substring(new.error_code for 100), error = substring(new.error for 1000)
    where i.id = indexing.id and i.status = 'running';
  else
    -- One that succeeds in the queue without a commit has indexed nothing.
    perform private.code_end(
      indexing, case when new.status in ('dead', 'succeeded') then 'failed' else 'cancelled' end,
      case new.status when 'succeeded' then 'internal' else coalesce(new.error_code, new.status) end, new.error
    );
  end if;
  return null;
end
$$;
comment on function private.code_sync_status() is 'Trigger: an indexing job fails and is cancelled with its job, also when an expired lease ends the job. Runs as postgres inside the job functions.';
create trigger jobs_code after update of status on public.jobs
  for each row when (old.status <> new.status and new.status in ('queued', 'dead', 'cancelled', 'succeeded') and new.kind = 'code.index')
  execute function private.code_sync_status();

-- ----------------------------------------------------------------------------
-- For members
-- ----------------------------------------------------------------------------

create function private.code_lock_above(repository_id uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  repository public.repositories;
begin
  select r.* into repository from public.repositories as r where r.id = code_lock_above.repository_id;
  perform 1 from public.organizations as o where o.id = repository.org_id for key share;
  perform 1 from public.projects as p where p.id = repository.project_id for key share;
  perform 1 from public.repositories as r where r.id = repository.id for key share;
end
$$;
comment on function private.code_lock_above(uuid) is 'Locks the organization, the project and a repository against deletion, in this order. Called before a job is locked.';

-- Before the locks, so that a non-member who knows an id cannot lock rows.
create function private.code_require_writable(repository_id uuid, what text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  repository public.repositories;
begin
  perform private.tenancy_require_caller();
  select r.* into repository from public.repositories as r
  where r.id = code_require_writable.repository_id
    and r.org_id = any (array(select private.org_ids_with('repositories:read')))
    and (r.project_id is null or private.projects_is_visible(r.project_id));
  if repository.id is null then
    perform kijko.fail('not_found', format('no such %s', what));
  elsif not public.can(repository.org_id, 'repositories:write') then
    perform kijko.fail('permission_denied', 'requires the permission repositories:write');
  end if;
  perform private.projects_require_open(repository.project_id);
end
$$;
comment on function private.code_require_writable(uuid, text) is 'Fails unless the caller may change a repository, and locks its organization and project: not_identified, not_found (which names what was asked for), permission_denied or project_archived. Called by definer functions only.';

create function private.code_lock_job(indexing_job_id uuid) returns public.indexing_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  job public.indexing_jobs;
begin
  select j.* into job from public.indexing_jobs as j where j.id = code_lock_job.indexing_job_id;
  perform private.code_require_writable(job.repository_id, 'indexing job');
  perform private.code_lock_above(job.repository_id);
  perform 1 from public.jobs as q where q.id = job.queue_job_id for update;
  perform private.projects_lock_repository(job.repository_id);
  select j.* into job from public.indexing_jobs as j where j.id = code_lock_job.indexing_job_id for no key update;
  return job;
end
$$;
comment on function private.code_lock_job(uuid) is 'Locks an indexing job, its repository and its job of the queue, for a caller who may change the repository. Fails with not_identified, not_found, permission_denied or project_archived.';

create function public.index_repository(repository_id uuid, branch text default null) returns public.indexing_jobs
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  repository public.repositories;
begin
  perform private.code_require_writable(repository_id, 'repository');
  repository := private.projects_lock_repository(repository_id);
  if not private.code_wants_branch(repository, coalesce(branch, private.code_indexed_branch(repository))) then
    perform kijko.fail('invalid_input', 'branch: not one that the repository indexes', 'Add it to extra_branches.');
  end if;
  perform private.limit_rate('index_repository:' || repository.org_id, 60, interval '1 hour', 'at most %s an hour');
  return private.code_enqueue(repository, coalesce(branch, private.code_indexed_branch(repository)), 'manual');
end
$$;
comment on function public.index_repository(uuid, text) is 'Queues the indexing of a branch of a repository, by default the one that searches read, and returns the indexing job; the one that already waits, if there is one. Needs repositories:write. Definer: users only read indexing jobs.';
grant execute on function public.index_repository(uuid, text) to authenticated;

create function public.cancel_indexing(indexing_job_id uuid) returns public.indexing_jobs
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  job public.indexing_jobs := private.code_lock_job(cancel_indexing.indexing_job_id);
  state text;
begin
  if job.status in ('queued', 'running') then
    state := private.jobs_cancel(job.queue_job_id);
    if state = 'running' then
      update public.indexing_jobs as j set cancel_requested = true where j.id = job.id;
    elsif state is null then
      perform private.code_end(job, 'cancelled', 'cancelled'); -- The queue has forgotten it.
    end if;
  end if;
  select j.* into job from public.indexing_jobs as j where j.id = job.id;
  return job;
end
$$;
comment on function public.cancel_indexing(uuid) is 'Cancels an indexing job: at once if it is queued, else the indexer stops soon. One that has ended is returned as it is. Needs repositories:write. Definer: users only read indexing jobs.';
grant execute on function public.cancel_indexing(uuid) to authenticated;

create function public.retry_indexing(indexing_job_id uuid) returns public.indexing_jobs
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  job constant public.indexing_jobs := private.code_lock_job(indexing_job_id);
  repository public.repositories;
begin
  if job.status not in ('failed', 'cancelled') then
    perform kijko.fail('conflict', format('the indexing job is %s', job.status));
  end if;
  select r.* into repository from public.repositories as r where r.id = job.repository_id;
  perform private.limit_rate('index_repository:' || repository.org_id, 60, interval '1 hour', 'at most %s an hour');
  return private.code_enqueue(repository, job.branch, 'manual');
end
$$;
comment on function public.retry_indexing(uuid) is 'Queues the branch of a failed or cancelled indexing job again, and returns the new job. Fails with conflict for another status. Needs repositories:write. Definer: users only read indexing jobs.';
grant execute on function public.retry_indexing(uuid) to authenticated;

create function private.code_retry_job(job public.jobs) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  indexing public.indexing_jobs;
  repository public.repositories;
begin
  select i.* into indexing from public.indexing_jobs as i where i.id = private.code_job_of(job) and i.org_id = job.org_id;
  select r.* into repository from public.repositories as r where r.id = indexing.repository_id;
  return (private.code_enqueue(repository, indexing.branch, 'manual')).queue_job_id;
end
$$;
comment on function private.code_retry_job(public.jobs) is 'Queues the branch of a dead job again, for an operator; named by private.job_dependents. Nullable: result.';
insert into private.job_dependents (family, lock_function, retry_function) values ('code', 'code_lock_of_job', 'code_retry_job');
