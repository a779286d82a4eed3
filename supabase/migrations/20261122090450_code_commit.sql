-- ============================================================================
-- Code: a branch moves to a commit.
-- ============================================================================

create function private.code_narrow_staged(indexing public.indexing_jobs, branch uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Without a base all files are staged, perhaps none.
  if indexing.base_commit_sha is null or exists (
    select 1 from private.code_staged_entries as e where e.organization = indexing.org_id and e.indexing_job_id = indexing.id and e.is_full
  ) then
    insert into private.code_staged_entries (organization, indexing_job_id, path, attempt, is_full, oid, mode)
    select indexing.org_id, indexing.id, t.path, 0, true, null, 0
    from private.code_tree_entries as t
    where t.organization = indexing.org_id and t.branch_id = branch
    on conflict do nothing;
  end if;
  delete from private.code_staged_entries as e
  using private.code_tree_entries as t
  join private.code_blobs as b on b.organization = t.organization and b.id = t.blob_id
  where e.organization = indexing.org_id and e.indexing_job_id = indexing.id
    and t.organization = e.organization and t.branch_id = branch and t.path = e.path and b.oid = e.oid and t.mode = e.mode;
end
$$;
comment on function private.code_narrow_staged(public.indexing_jobs, uuid) is 'Leaves only the staged files that differ from those of the branch, deleted ones included.';

create function private.code_excess(indexing public.indexing_jobs, branch uuid) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  limits constant private.code_limits := private.code_limits_of(indexing.org_id);
  files bigint;
  bytes bigint;
begin
  select count(*), coalesce(sum(v.bytes), 0) into files, bytes
  from (
    select o.bytes
    from private.code_tree_entries as t
    join private.code_blobs as o on o.organization = t.organization and o.id = t.blob_id
    where t.organization = indexing.org_id and t.branch_id = branch and not exists (
      select 1 from private.code_staged_entries as e where e.organization = indexing.org_id and e.indexing_job_id = indexing.id and e.path = t.path
    )
    union all
    select o.bytes
    from private.code_staged_entries as e
    join private.code_blobs as o on o.organization = e.organization and o.oid = e.oid
    where e.organization = indexing.org_id and e.indexing_job_id = indexing.id
  ) as v;
  return case
    when files > limits.files then 'too_many_files'
    when bytes > limits.repository_bytes or bytes > limits.stored_bytes - coalesce((
      select sum(b.bytes) from public.repository_branches as b where b.org_id = indexing.org_id and b.id <> branch
    ), 0) then 'repository_too_large'
  end;
end
$$;
comment on function private.code_excess(public.indexing_jobs, uuid) is 'The error code if the branch with its staged files has more files, or more bytes, than the plan allows. Nullable: result.';

create function private.code_merge_staged(indexing public.indexing_jobs, branch uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select 1 from private.code_staged_entries as e
    where e.organization = indexing.org_id and e.indexing_job_id = indexing.id and e.oid is not null
      and not exists (select 1 from private.code_blobs as b where b.organization = e.organization and b.oid = e.oid)
  ) then
    perform kijko.fail('conflict', 'a staged file has a blob that was not stored');
  end if;
  delete from private.code_tree_entries as t
  using private.code_staged_entries as e
  where e.organization = indexing.org_id and e.indexing_job_id = indexing.id and e.oid is null
    and t.organization = e.organization and t.branch_id = branch and t.path = e.path;
  insert into private.code_tree_entries as t (organization, branch_id, path, blob_id, mode)
  select e.organization, branch, e.path, b.id, e.mode
  from private.code_staged_entries as e
  join private.code_blobs as b on b.organization = e.organization and b.oid = e.oid
  where e.organization = indexing.org_id and e.indexing_job_id = indexing.id
  on conflict on constraint code_tree_entries_pkey do update set blob_id = excluded.blob_id, mode = excluded.mode;
end
$$;
comment on function private.code_merge_staged(public.indexing_jobs, uuid) is 'Changes the files of a branch to those that were staged.';

create function private.code_index_commit(worker text, job_id uuid, attempt integer, commit_sha text, committed_at timestamptz) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  indexing public.indexing_jobs := private.code_hold(worker, job_id, attempt);
  branch public.repository_branches;
  queue_job public.jobs;
  is_new boolean;
  excess text;
  paths text[];
  names text[];
begin
  if indexing.id is null or indexing.status <> 'running' then
    return null;
  end if;
  queue_job := private.jobs_lock_leased(worker, job_id, attempt);
  perform 1 from public.repositories as r where r.id = indexing.repository_id for no key update;
  -- Again, behind the lock: a change of the repository cancels what runs.
  select i.* into indexing from public.indexing_jobs as i where i.id = indexing.id for no key update;
  if indexing.cancel_requested then
    perform private.jobs_finish(queue_job, 'cancelled', null, 'cancelled', null);
    return 'cancelled';
  end if;
  insert into public.repository_branches (org_id, repository_id, name, commit_sha, indexing_seq)
  values (indexing.org_id, indexing.repository_id, indexing.branch, commit_sha, indexing.seq)
  on conflict on constraint repository_branches_org_id_repository_id_name_key do nothing;
  is_new := found;
  select b.* into branch from public.repository_branches as b
  where b.org_id = indexing.org_id and b.repository_id = indexing.repository_id and b.name = indexing.branch
  for no key update;
  if branch.indexing_seq > indexing.seq then
    perform private.code_end(indexing, 'superseded');
    perform private.jobs_finish(queue_job, 'succeeded', jsonb_build_object('status', 'superseded'), null, null);
    return 'superseded';
  end if;
  -- A difference to another commit than the one that searches see would mix two.
  if indexing.base_commit_sha is not null and (is_new or branch.commit_sha <> indexing.base_commit_sha) and not exists (
    select 1 from private.code_staged_entries as e where e.organization = indexing.org_id and e.indexing_job_id = indexing.id and e.is_full
  ) then
    perform kijko.fail('conflict', 'the branch has moved since this attempt began');
  end if;
  perform private.code_narrow_staged(indexing, branch.id);
  excess := private.code_excess(indexing, branch.id);
  if excess is not null then
    if is_new then
      delete from public.repository_branches as b where b.id = branch.id;
    end if;
    perform private.jobs_finish(
      queue_job, 'dead', null, excess,
      case excess when 'too_many_files' then 'the branch has more files than the plan allows' else 'the files of the branch are larger than the plan allows' end
    );
    return 'failed';
  end if;
  paths := array(select e.path from private.code_staged_entries as e where e.organization = indexing.org_id and e.indexing_job_id = indexing.id);
  names := private.code_changed_names(indexing.org_id, indexing.id, branch.id);
  perform private.code_merge_staged(indexing, branch.id);
  if cardinality(paths) > 0 then
    -- Many files at once are compared faster as a whole.
    perform private.code_move_edges(indexing, branch.id, commit_sha, case when cardinality(paths) <= 1000 then paths end, names);
  end if;
  delete from private.code_staged_entries as e where e.organization = indexing.org_id and e.indexing_job_id = indexing.id;
  update public.repository_branches as b
  set commit_sha = commit_sha, committed_at = committed_at, indexed_at = kijko.now(), indexing_seq = indexing.seq, files = t.files, bytes = t.bytes
  from (
    select count(*) as files, coalesce(sum(o.bytes), 0) as bytes
    from private.code_tree_entries as e
    join private.code_blobs as o on o.organization = e.organization and o.id = e.blob_id
    where e.organization = indexing.org_id and e.branch_id = branch.id
  ) as t
  where b.id = branch.id;
  update public.indexing_jobs as i
  set status = 'succeeded', phase = null, commit_sha = commit_sha, error_code = null, error = null, finished_at = kijko.now()
  where i.id = indexing.id;
  update public.repositories as r
  set status = case when exists (
      select 1 from public.indexing_jobs as i
      where i.org_id = indexing.org_id and i.repository_id = r.id and i.branch = indexing.branch and i.status in ('queued', 'running')
    ) then 'indexing' else 'ready' end,
    indexed_at = kijko.now(), last_error_code = null, last_error = null
  where r.id = indexing.repository_id and indexing.branch = private.code_indexed_branch(r);
  -- New texts enter the index in batches; each search reads what waits.
  perform gin_clean_pending_list('private.code_blobs_grams_idx');
  perform private.jobs_finish(queue_job, 'succeeded', jsonb_build_object('status', 'succeeded', 'commit_sha', commit_sha), null, null);
  return 'succeeded';
end
$$;
comment on function private.code_index_commit(text, uuid, integer, text, timestamptz) is 'Moves the branch to the commit with all that was staged, and ends the job, at once. Returns succeeded, cancelled, failed beyond the limits of the plan, superseded when a newer job has moved the branch, or null when the lease is lost. Nullable: result. Definer: the indexer holds no table rights.';

create function private.code_index_known(repositories uuid[]) returns uuid[]
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select array(select r.id from public.repositories as r where r.id = any (repositories))
$$;
comment on function private.code_index_known(uuid[]) is 'Which of these repositories exist: the indexer deletes the packs of the others. Definer: the indexer holds no table rights.';

grant execute on function
  private.code_index_known(uuid[]),
  private.code_index_begin(text, uuid, integer),
  private.code_index_progress(text, uuid, integer, text, integer, integer),
  private.code_index_missing(text, uuid, integer, text[], text[], boolean[]),
  private.code_index_put(text, uuid, integer, jsonb),
  private.code_index_stage(text, uuid, integer, boolean, jsonb),
  private.code_index_commit(text, uuid, integer, text, timestamptz),
  private.code_index_fail(text, uuid, integer, text, text, boolean)
to kijko_indexer;
