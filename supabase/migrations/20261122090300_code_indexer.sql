-- ============================================================================
-- Code: what the indexer calls.
--
--   begin     what to fetch, and from which commit on
--   progress  says how far it is, and asks whether to go on
--   missing   which blobs the organization lacks
--   put       stores blobs with what was parsed of them: any number of times, the same each time
--   stage     which paths differ
--   commit    merges them into the branch and ends the job, in one transaction
--   fail      ends the attempt
-- Each names the worker, the job of the queue and the attempt, and does nothing once the lease is lost.
-- ============================================================================

-- The login runs no other kind of job (jobs_claim).
insert into private.job_worker_kinds (role, kind) values ('kijko_indexer', 'code.index');
grant execute on function
  private.jobs_claim(text, interval, integer, text[]),
  private.jobs_heartbeat(text, uuid[], interval),
  private.jobs_complete(text, jsonb),
  private.jobs_fail(text, uuid, text, text, boolean, interval, integer, boolean),
  private.jobs_release(text, uuid[], interval),
  private.jobs_add_event(text, uuid, text, jsonb),
  private.jobs_requeue_expired(),
  private.jobs_stats()
to kijko_indexer;

create function private.code_hold(worker text, job_id uuid, attempt integer) returns public.indexing_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  queue_job public.jobs;
  indexing public.indexing_jobs;
begin
  perform private.code_lock_above((
    select i.repository_id
    from public.jobs as j join public.indexing_jobs as i on i.org_id = j.org_id and i.id = private.code_job_of(j)
    where j.id = job_id
  ));
  queue_job := private.jobs_lock_leased(worker, job_id, attempt);
  if queue_job.id is null or queue_job.kind <> 'code.index' or attempt is null then
    return null;
  end if;
  select i.* into indexing from public.indexing_jobs as i
  where i.id = private.code_job_of(queue_job) and i.org_id = queue_job.org_id and i.status in ('queued', 'running');
  return indexing;
end
$$;
comment on function private.code_hold(text, uuid, integer) is 'Locks a job that this attempt of the indexer holds, and returns its indexing job; null when the lease is lost, or the indexing job has ended or is gone.';

create function private.code_index_begin(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  indexing public.indexing_jobs := private.code_hold(worker, job_id, attempt);
  repository public.repositories;
  branch public.repository_branches;
  limits private.code_limits;
  older public.indexing_jobs;
  older_job uuid;
  stored bigint;
  access jsonb;
  queue_job public.jobs;
begin
  if indexing.id is null or indexing.cancel_requested then
    -- Its repository is gone, or it was superseded or cancelled: nothing is left to do.
    queue_job := private.jobs_lock_leased(worker, job_id, attempt);
    if queue_job.id is not null and queue_job.kind = 'code.index' then
      perform private.jobs_finish(queue_job, 'cancelled', null, 'cancelled', null);
    end if;
    return null;
  end if;
  -- Jobs of the queue come before the repository. A member who cancels the older one may hold it; then that one ends by itself.
  select q.id into older_job
  from public.indexing_jobs as i join public.jobs as q on q.id = i.queue_job_id
  where i.org_id = indexing.org_id and i.repository_id = indexing.repository_id and i.branch = indexing.branch and i.status = 'running'
    and i.id <> indexing.id
  for update of q skip locked;
  select r.* into repository from public.repositories as r where r.id = indexing.repository_id for no key update;
  -- An older one that waits to try again has lost: this one reads a commit that is as new.
  select i.* into older from public.indexing_jobs as i
  where i.org_id = indexing.org_id and i.repository_id = repository.id and i.branch = indexing.branch and i.status = 'running' and i.id <> indexing.id
  for no key update;
  if older.id is not null then
    perform private.code_end(older, 'superseded');
    perform private.jobs_cancel(older_job) where older_job = older.queue_job_id;
  end if;
  if repository.connection_id is not null then
    access := private.connections_use(indexing.org_id, repository.connection_id);
    queue_job := private.jobs_lock_leased(worker, job_id, attempt);
    if access ->> 'status' = 'refreshing' and coalesce(queue_job.started_at, clock_timestamp()) > clock_timestamp() - interval '10 minutes' then
      -- The token is there in a few seconds, and the job is not at fault.
      perform private.jobs_retry(
        queue_job, 'postponed', 'authentication_failed', 'the connection of the repository is being refreshed', interval '5 seconds', counted => false
      );
      return null;
    elsif access ->> 'status' is distinct from 'active' then
      -- A paused connection needs its member.
      perform private.jobs_fail(
        worker, job_id, 'authentication_failed', 'the connection of the repository is ' || coalesce(access ->> 'status', 'gone'),
        coalesce(access ->> 'status' = 'refreshing', false), interval '5 seconds', attempt
      );
      return null;
    end if;
  end if;
  select b.* into branch from public.repository_branches as b
  where b.org_id = indexing.org_id and b.repository_id = repository.id and b.name = indexing.branch;
  branch.commit_sha := nullif(branch.commit_sha, repeat('0', 40));
  limits := private.code_limits_of(indexing.org_id);
  stored := coalesce((
    select sum(b.bytes) from public.repository_branches as b where b.org_id = indexing.org_id and b.id is distinct from branch.id
  ), 0);
  delete from private.code_staged_entries as e where e.organization = indexing.org_id and e.indexing_job_id = indexing.id;
  update public.indexing_jobs as i
  set status = 'running', phase = 'fetching', files_done = 0, files_total = 0, bytes = 0, base_commit_sha = branch.commit_sha,
    error_code = null, error = null, started_at = coalesce(i.started_at, kijko.now())
  where i.id = indexing.id;
  return jsonb_build_object(
    'indexing_job_id', indexing.id, 'org_id', indexing.org_id, 'repository_id', repository.id, 'provider', repository.provider,
    'clone_url', repository.clone_url, 'branch', indexing.branch, 'base_commit', branch.commit_sha,
    'include_paths', repository.include_paths, 'exclude_paths', repository.exclude_paths,
    'limits', jsonb_build_object(
      'repository_bytes', greatest(least(limits.repository_bytes, limits.stored_bytes - stored), 0), 'files', limits.files,
      'file_bytes', limits.file_bytes, 'seconds', limits.seconds
    ),
    'token', access ->> 'access_token',
    'token_host', case access ->> 'provider' when 'github' then 'github.com' when 'gitlab' then 'gitlab.com' end
  );
end
$$;
comment on function private.code_index_begin(text, uuid, integer) is 'Begins an attempt, and returns what to fetch, with its limits and the token of its connection. Null when there is nothing to do: the lease is lost, or the job has ended by this call. Nullable: result. Definer: the indexer holds no table rights.';

create function private.code_index_progress(worker text, job_id uuid, attempt integer, phase text, done integer, total integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  indexing constant public.indexing_jobs := private.code_hold(worker, job_id, attempt);
  queue_job public.jobs;
begin
  if indexing.id is null or indexing.status <> 'running' then
    return false;
  elsif indexing.cancel_requested then
    -- A member's cancellation is in the queue, too, and the worker records it. That of a changed repository ends here.
    queue_job := private.jobs_lock_leased(worker, job_id, attempt);
    if not queue_job.cancel_requested then
      perform private.jobs_finish(queue_job, 'cancelled', null, 'cancelled', 'the repository was changed');
    end if;
    return false;
  end if;
  update public.indexing_jobs as i set phase = phase, files_done = greatest(done, 0), files_total = greatest(total, 0) where i.id = indexing.id;
  return true;
end
$$;
comment on function private.code_index_progress(text, uuid, integer, text, integer, integer) is 'Records how far an attempt is; false when it must stop: cancelled, superseded, or the lease is lost. Definer: the indexer holds no table rights.';

create function private.code_index_missing(
  worker text, job_id uuid, attempt integer, oids text[], languages text[] default null, generated boolean[] default null
) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  indexing constant public.indexing_jobs := private.code_hold(worker, job_id, attempt);
  max_bytes constant bigint := (private.code_limits_of(indexing.org_id)).file_bytes;
begin
  if indexing.id is null then
    return null;
  end if;
  -- A blob that no branch has is kept for this job.
  update private.code_blobs as b set used_at = now()
  where b.organization = indexing.org_id and b.oid = any (oids) and b.used_at < now() - interval '6 hours';
  return array(
    select distinct o.oid from unnest(oids, languages, generated) as o (oid, language, generated)
    where not exists (
      select 1 from private.code_blobs as b
      where b.organization = indexing.org_id and b.oid = o.oid
        and (b.skipped = 'generated' and o.generated = false) is not true
        and (b.skipped = 'too_large' and b.bytes <= max_bytes) is not true
        and (b.skipped is null and b.language is null and o.language is not null) is not true
    )
  );
end
$$;
comment on function private.code_index_missing(text, uuid, integer, text[], text[], boolean[]) is 'Which of these blobs the organization does not have yet, or has without what can be told of them now: by the language of their path, by a path that is not one of generated files, or within a larger plan. Null when the lease is lost. Nullable: result. Definer: the indexer holds no table rights.';

create function private.code_store_blob(org uuid, blob jsonb) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  stored bigint;
  size bigint := coalesce((blob ->> 'bytes')::bigint, 0);
begin
  insert into private.code_blobs (organization, oid, bytes, lines, language, skipped, content)
  values (
    org, blob ->> 'oid', size, coalesce((blob ->> 'lines')::integer, 0), blob ->> 'language', blob ->> 'skipped',
    case when blob ->> 'skipped' is null then blob ->> 'content' end
  )
  on conflict (organization, oid) do nothing
  returning id into stored;
  if stored is null then
    -- Another attempt or another job has stored it. Its path, plan or luck may have told less of it.
    update private.code_blobs as b
    set lines = coalesce((blob ->> 'lines')::integer, 0), language = blob ->> 'language', skipped = null, content = blob ->> 'content'
    where b.organization = org and b.oid = blob ->> 'oid' and blob ->> 'skipped' is null
      and (b.skipped is not null or (b.language is null and blob ->> 'language' is not null))
    returning b.id into stored;
    if stored is null then
      return 0;
    end if;
    size := 0;
    delete from private.code_symbols as s where s.organization = org and s.blob_id = stored;
    delete from private.code_references as r where r.organization = org and r.blob_id = stored;
    delete from private.code_imports as i where i.organization = org and i.blob_id = stored;
  end if;
  insert into private.code_symbols (
    organization, blob_id, ordinal, parent, name, kind, signature, documentation, exported, start_line, start_column, end_line, end_column,
    name_line, name_column
  )
  select org, stored, s.ordinal, s.parent, s.name, s.kind, substring(s.signature for 1000), substring(s.documentation for 4000),
    coalesce(s.exported, false), s.start_line, s.start_column, s.end_line, s.end_column, coalesce(s.name_line, s.start_line),
    coalesce(s.name_column, s.start_column)
  from jsonb_to_recordset(coalesce(blob -> 'symbols', '[]')) as s (
    ordinal integer, parent integer, name text, kind text, signature text, documentation text, exported boolean, start_line integer,
    start_column integer, end_line integer, end_column integer, name_line integer, name_column integer
  )
  where octet_length(s.name) between 1 and 512;
  insert into private.code_references (organization, blob_id, ordinal, symbol, name, qualifier, kind, line, column_number)
  select org, stored, r.n, r.symbol, r.name, left(r.qualifier, 128), r.kind, r.line, r."column"
  from rows from (
    jsonb_to_recordset(coalesce(blob -> 'references', '[]')) as (
      symbol integer, name text, qualifier text, kind text, line integer, "column" integer
    )
  ) with ordinality as r (symbol, name, qualifier, kind, line, "column", n)
  where octet_length(r.name) between 1 and 512;
  insert into private.code_imports (organization, blob_id, ordinal, module, name, alias, line)
  select org, stored, i.n, i.module, i.name, i.alias, i.line
  from rows from (
    jsonb_to_recordset(coalesce(blob -> 'imports', '[]')) as (module text, name text, alias text, line integer)
  ) with ordinality as i (module, name, alias, line, n)
  where octet_length(i.module) <= 1024 and octet_length(coalesce(i.name, '')) <= 512 and octet_length(coalesce(i.alias, '')) <= 512;
  return size;
end
$$;
comment on function private.code_store_blob(uuid, jsonb) is 'Stores a blob with its symbols, references and imports, and returns its size; 0 when the organization has it already. One that was skipped, or parsed as no language, is replaced by one that was not.';

create function private.code_index_put(worker text, job_id uuid, attempt integer, blobs jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  indexing constant public.indexing_jobs := private.code_hold(worker, job_id, attempt);
  limits constant private.code_limits := private.code_limits_of(indexing.org_id);
  stored bigint;
  kept bigint;
begin
  if indexing.id is null or indexing.status <> 'running' then
    return false;
  end if;
  if jsonb_typeof(blobs) is distinct from 'array' or not private.json_fits(blobs, 67108864) then
    perform kijko.fail('bad_request', 'blobs: an array of at most 64 MiB');
  end if;
  -- In the order of their ids, so that two jobs that bring the same blobs cannot deadlock.
  select coalesce(sum(private.code_store_blob(indexing.org_id, b.blob)), 0) into stored
  from (select e.value as blob from jsonb_array_elements(blobs) as e order by e.value ->> 'oid') as b;
  insert into private.code_usage as u (organization, bytes) values (indexing.org_id, stored)
  on conflict on constraint code_usage_pkey do update set bytes = u.bytes + excluded.bytes
  returning u.bytes into kept;
  -- Without what failed and cancelled jobs leave for a day, all blobs fit in the plan once.
  if indexing.bytes + stored > limits.repository_bytes or kept > 2 * limits.stored_bytes then
    perform kijko.fail('quota_exceeded', 'the repository is larger than the plan allows');
  end if;
  update public.indexing_jobs as i set bytes = i.bytes + stored where i.id = indexing.id;
  return true;
end
$$;
comment on function private.code_index_put(text, uuid, integer, jsonb) is 'Stores blobs with what was parsed of them; those that the organization has stay as they are. False when the lease is lost. Fails with quota_exceeded beyond the size of a repository, and beyond twice the code of the organization: what no branch has is kept for a day. Definer: the indexer holds no table rights.';

create function private.code_index_stage(worker text, job_id uuid, attempt integer, "full" boolean, entries jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  indexing constant public.indexing_jobs := private.code_hold(worker, job_id, attempt);
begin
  if indexing.id is null or indexing.status <> 'running' then
    return false;
  end if;
  if jsonb_typeof(entries) is distinct from 'array' then
    perform kijko.fail('bad_request', 'entries: an array');
  end if;
  insert into private.code_staged_entries as e (organization, indexing_job_id, path, attempt, is_full, oid, mode)
  select distinct on (s.path) indexing.org_id, indexing.id, s.path, attempt, coalesce("full", false), s.oid, coalesce(s.mode, 0)
  from jsonb_to_recordset(entries) as s (path text, oid text, mode integer)
  order by s.path
  on conflict on constraint code_staged_entries_pkey do update
  set attempt = excluded.attempt, is_full = excluded.is_full, oid = excluded.oid, mode = excluded.mode;
  if (select count(*) from private.code_staged_entries as e where e.organization = indexing.org_id and e.indexing_job_id = indexing.id)
    > (private.code_limits_of(indexing.org_id)).files * 2
  then
    perform kijko.fail('quota_exceeded', 'the repository has more files than the plan allows');
  end if;
  return true;
end
$$;
comment on function private.code_index_stage(text, uuid, integer, boolean, jsonb) is 'Notes files of the commit: path, blob and mode; a null blob for a deleted file. full says that they are all files, else those that differ from the base. False when the lease is lost. Fails with quota_exceeded beyond the number of files. Definer: the indexer holds no table rights.';

create function private.code_index_fail(worker text, job_id uuid, attempt integer, code text, message text, retryable boolean) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  indexing constant public.indexing_jobs := private.code_hold(worker, job_id, attempt);
  status text;
begin
  status := private.jobs_fail(worker, job_id, code, message, retryable, null, attempt);
  -- The branch is gone at the provider, and so is its index.
  if status = 'dead' and code = 'branch_not_found' then
    delete from public.repository_branches as b
    where b.org_id = indexing.org_id and b.repository_id = indexing.repository_id and b.name = indexing.branch;
  end if;
  return status;
end
$$;
comment on function private.code_index_fail(text, uuid, integer, text, text, boolean) is 'Ends an attempt that failed: tried again later if it is retryable and attempts are left. A branch that is not found loses its index. Returns the status of the job in the queue, or null when the lease is lost. Nullable: result. Definer: the indexer holds no table rights.';
