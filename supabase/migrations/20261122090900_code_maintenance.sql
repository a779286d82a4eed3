-- ============================================================================
-- Code: what is deleted.
-- ============================================================================

select private.set_retention('private.code_blobs', '1 day', 'a branch that comes back is not parsed again');
select private.set_retention('public.indexing_jobs', '30 days', 'finding out why indexing failed');
select private.set_retention('private.code_edges', '90 days', 'how code was connected before');

create function private.code_purge(max_rows integer default 10000) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  purged bigint;
  more bigint;
begin
  -- A blob that no branch has any more, and that no job has asked for in the last day. The foreign key of tree entries refuses one
  -- that a job takes at this moment; then the job has it, and this ends with the next run.
  delete from private.code_blobs as b
  where (b.organization, b.id) in (
    select o.organization, o.id from private.code_blobs as o
    where o.used_at < now() - private.retention_of('private.code_blobs')
      and not exists (select 1 from private.code_tree_entries as t where t.organization = o.organization and t.blob_id = o.id)
      and not exists (select 1 from private.code_staged_entries as e where e.organization = o.organization and e.oid = o.oid)
    limit max_rows for update skip locked
  );
  get diagnostics purged = row_count;
  -- What another session holds is left to the next run, here and below: it must not keep those of all organizations.
  delete from public.indexing_jobs as j
  where j.id in (
    select i.id from public.indexing_jobs as i
    where i.id = any (array(
      select o.id from public.indexing_jobs as o where o.finished_at < kijko.now() - private.retention_of('public.indexing_jobs') order by o.finished_at limit max_rows
    )) or i.id = any (array(
      select o.id
      from public.repositories as r
      cross join lateral (
        select k.id, k.finished_at from public.indexing_jobs as k
        where k.org_id = r.org_id and k.repository_id = r.id
        order by k.seq desc
        offset 200
      ) as o
      where o.finished_at is not null
      limit max_rows
    ))
    for update skip locked
  );
  get diagnostics more = row_count;
  purged := purged + more;
  delete from private.code_edges as e
  where e.ctid = any (array(
    select o.ctid from private.code_edges as o where o.closed_at < kijko.now() - private.retention_of('private.code_edges') limit max_rows for update skip locked
  ));
  get diagnostics more = row_count;
  return purged + more;
end
$$;
comment on function private.code_purge(integer) is 'Deletes what is older than private.data_retention says: blobs that no branch has, indexing jobs (and those before the last 200 of their repository), and closed edges. Returns how many rows it deleted.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-code-purge', '23 * * * *', 'perform private.code_purge()');
