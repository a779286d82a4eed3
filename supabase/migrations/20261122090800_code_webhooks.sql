-- ============================================================================
-- Code: what webhooks of repositories change.
--
-- A delivery is a hint. It says that there is something to fetch, and the indexer asks the provider what: an old push that is
-- delivered again indexes the newest commit, and a branch loses its index only when the provider does not have it any more.
-- ============================================================================

create function private.code_follow_repository(repository public.repositories, payload jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  renamed constant text := payload #>> '{repository,full_name}';
  branch constant text := payload #>> '{repository,default_branch}';
begin
  if payload ->> 'action' in ('renamed', 'transferred') and renamed <> repository.full_name then
    -- The URL that a token is sent to is changed by the member who authorized the connection, and by nobody else.
    update public.repositories as r set full_name = renamed
    where r.id = repository.id and r.connection_id is null and r.provider = 'github'
      and r.clone_url = format('https://github.com/%s.git', r.full_name);
  elsif payload ->> 'action' = 'edited' and payload -> 'changes' ? 'default_branch' then
    update public.repositories as r set default_branch = branch where r.id = repository.id and r.default_branch <> branch;
  end if;
end
$$;
comment on function private.code_follow_repository(public.repositories, jsonb) is 'A repository that was renamed, transferred or got another default branch is so here, too. One with a connection keeps its URL.';

create function private.code_receive_webhook() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  repository public.repositories;
  branch text := case new.event
    when 'push' then substring(new.payload ->> 'ref' from '^refs/heads/(.+)$')
    when 'repository' then null
    else case when new.payload ->> 'ref_type' = 'branch' then new.payload ->> 'ref' end
  end;
begin
  select r.* into repository from public.repositories as r where r.org_id = new.org_id and r.id = new.repository_id;
  if exists (select 1 from public.projects as p where p.id = repository.project_id and p.archived_at is not null) then
    return null;
  elsif new.event = 'repository' then
    perform private.code_follow_repository(repository, new.payload);
    select r.* into repository from public.repositories as r where r.id = repository.id;
    branch := case when new.payload ->> 'action' = 'edited' then private.code_indexed_branch(repository) end;
  end if;
  -- Somebody has asked for its index before.
  if branch is not null and exists (
    select 1 from public.indexing_jobs as j where j.org_id = repository.org_id and j.repository_id = repository.id
  ) and (private.code_wants_branch(repository, branch) or exists (
    select 1 from public.repository_branches as b where b.org_id = repository.org_id and b.repository_id = repository.id and b.name = branch
  )) then
    perform private.code_enqueue(repository, branch, 'push');
  end if;
  return null;
exception when others then
  -- What the provider delivered is kept, whatever becomes of the index.
  raise warning 'repository %: %', new.repository_id, sqlerrm;
  return null;
end
$$;
comment on function private.code_receive_webhook() is 'Trigger: pushes, and branches that are made or deleted, queue the indexing of the branch; a rename is followed. A failure becomes a warning.';
create trigger webhook_deliveries_code after insert on public.webhook_deliveries
  for each row when (new.event in ('push', 'create', 'delete', 'repository')) execute function private.code_receive_webhook();
