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

create table private.code_pending_deliveries (
  delivery_id uuid primary key references public.webhook_deliveries (id) on delete cascade,
  created_at timestamptz not null default now(),
  tried_at timestamptz not null default now()
);
comment on table private.code_pending_deliveries is 'Deliveries whose effect on the index is still to come, because something was in the way: tried each minute for a day.';
comment on column private.code_pending_deliveries.delivery_id is 'The delivery.';
comment on column private.code_pending_deliveries.created_at is 'When it came, by the real clock.';
comment on column private.code_pending_deliveries.tried_at is 'When it was last tried, by the real clock: the longest ago is next.';
select private.describe_data('private.code_pending_deliveries', '{
  "delivery_id": {"subject": "organization", "purpose": "a push that waits for an index to be written", "export": "none"},
  "created_at, tried_at": "says when it is tried again, and when it is given up"
}');
alter table private.code_pending_deliveries enable row level security;
create index code_pending_deliveries_created_at_idx on private.code_pending_deliveries (created_at);

create function private.code_apply_delivery(delivery public.webhook_deliveries) returns void
language plpgsql set search_path = pg_catalog, pg_temp
-- A commit of a large index holds its repository for minutes, and the provider does not wait that long.
set lock_timeout = '1s'
as $$
declare
  repository public.repositories;
  branch text := case delivery.event
    when 'push' then substring(delivery.payload ->> 'ref' from '^refs/heads/(.+)$')
    when 'repository' then null
    else case when delivery.payload ->> 'ref_type' = 'branch' then delivery.payload ->> 'ref' end
  end;
begin
  select r.* into repository from public.repositories as r where r.org_id = delivery.org_id and r.id = delivery.repository_id;
  if exists (select 1 from public.projects as p where p.id = repository.project_id and p.archived_at is not null) then
    return;
  elsif delivery.event = 'repository' then
    perform private.code_follow_repository(repository, delivery.payload);
    select r.* into repository from public.repositories as r where r.id = repository.id;
    branch := case when delivery.payload ->> 'action' = 'edited' then private.code_indexed_branch(repository) end;
  end if;
  if branch is not null and private.code_is_followed(repository) and (private.code_wants_branch(repository, branch) or exists (
    select 1 from public.repository_branches as b where b.org_id = repository.org_id and b.repository_id = repository.id and b.name = branch
  )) then
    perform private.code_enqueue(repository, branch, 'push');
  end if;
end
$$;
comment on function private.code_apply_delivery(public.webhook_deliveries) is 'What a delivery changes: pushes, and branches that are made or deleted, queue the indexing of the branch; a rename is followed. Waits a second for each lock.';

create function private.code_receive_webhook() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.code_apply_delivery(new);
  return null;
exception when others then
  -- What the provider delivered is kept, whatever becomes of the index.
  raise warning 'repository %: %', new.repository_id, sqlerrm;
  insert into private.code_pending_deliveries (delivery_id) values (new.id) on conflict do nothing;
  return null;
end
$$;
comment on function private.code_receive_webhook() is 'Trigger: applies a delivery to the index. If that fails, private.code_apply_pending() tries again.';
create trigger webhook_deliveries_code after insert on public.webhook_deliveries
  for each row when (new.event in ('push', 'create', 'delete', 'repository')) execute function private.code_receive_webhook();

create function private.code_apply_pending() returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  pending record;
  applied bigint := 0;
begin
  delete from private.code_pending_deliveries as p where p.created_at < now() - interval '1 day';
  for pending in
    select d as delivery, d.id
    from private.code_pending_deliveries as p join public.webhook_deliveries as d on d.id = p.delivery_id
    order by p.tried_at
    limit 30
    for update of p skip locked
  loop
    begin
      perform private.code_apply_delivery(pending.delivery);
      delete from private.code_pending_deliveries as p where p.delivery_id = pending.id;
      applied := applied + 1;
    exception when others then
      update private.code_pending_deliveries as p set tried_at = clock_timestamp() where p.delivery_id = pending.id;
      raise warning 'delivery %: %', pending.id, sqlerrm;
    end;
  end loop;
  return applied;
end
$$;
comment on function private.code_apply_pending() is 'Applies up to 30 deliveries that something was in the way of, and returns how many. Those of a day ago are given up.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-code-pending', '* * * * *', 'perform private.code_apply_pending()');
