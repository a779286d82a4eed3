-- ============================================================================
-- Reflexes: webhooks of repositories.
--
-- GitHub posts to /webhooks/github/{repository_id}. The sidecar verifies the signature with the repository's secrets.
-- private.reflexes_ingest_github() stores the delivery and fires the reflexes that listen to the repository, in one transaction.
-- ============================================================================

create table public.webhook_deliveries (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid,
  repository_id uuid not null,
  delivery_id text check (char_length(delivery_id) between 1 and 255),
  event text not null check (char_length(event) between 1 and 100),
  action text check (char_length(action) <= 100),
  headers jsonb not null default '{}' check (jsonb_typeof(headers) = 'object' and private.json_fits(headers, 16384)),
  payload jsonb check (private.json_fits(payload, 2097152) and private.reflexes_is_shallow(payload)),
  payload_bytes integer not null default 0 check (payload_bytes >= 0),
  status text not null default 'pending' check (status in ('pending', 'processing', 'completed', 'failed', 'ignored')),
  error_code text check (char_length(error_code) <= 100),
  error text check (char_length(error) <= 10000),
  duplicate_count integer not null default 0 check (duplicate_count >= 0),
  reflex_count integer not null default 0 check (reflex_count >= 0),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  processed_at timestamptz,
  unique (org_id, id),
  foreign key (org_id, repository_id) references public.repositories (org_id, id) on delete cascade,
  foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade,
  check ((status in ('completed', 'failed', 'ignored')) = (processed_at is not null))
);
create index webhook_deliveries_repository_id_idx on public.webhook_deliveries (org_id, repository_id, created_at desc, id desc);
create index webhook_deliveries_project_id_idx on public.webhook_deliveries (org_id, project_id) where project_id is not null;
create index webhook_deliveries_payload_idx on public.webhook_deliveries (org_id, created_at desc) include (payload_bytes) where payload is not null;
create index webhook_deliveries_created_at_idx on public.webhook_deliveries (created_at);

comment on table public.webhook_deliveries is 'What the webhooks of repositories delivered, verified. Bounded as reflex_deliveries.';
comment on column public.webhook_deliveries.id is 'Identity of the row.';
comment on column public.webhook_deliveries.org_id is 'Organization of the repository.';
comment on column public.webhook_deliveries.project_id is 'Project of the repository at the time; hides the delivery with it.';
comment on column public.webhook_deliveries.repository_id is 'The repository; the delivery is deleted with it.';
comment on column public.webhook_deliveries.delivery_id is 'The provider''s id: X-GitHub-Delivery.';
comment on column public.webhook_deliveries.event is 'What happened: X-GitHub-Event.';
comment on column public.webhook_deliveries.action is 'Member action of the payload, if any: opened, closed and the like.';
comment on column public.webhook_deliveries.headers is 'Headers that say what was sent. Never the signature.';
comment on column public.webhook_deliveries.payload is 'What was sent; null once it is too old to be kept.';
comment on column public.webhook_deliveries.payload_bytes is 'Its size.';
comment on column public.webhook_deliveries.status is 'pending, processing, then completed, failed or ignored (nothing listens to it). A delivery that only fires reflexes is completed or ignored at once.';
comment on column public.webhook_deliveries.error_code is 'Why it failed, or why it fired nothing: project_archived.';
comment on column public.webhook_deliveries.error is 'The same in words.';
comment on column public.webhook_deliveries.duplicate_count is 'How often the same was sent again within 24 hours; at most 60 a minute are counted.';
comment on column public.webhook_deliveries.reflex_count is 'How many reflexes it fired.';
comment on column public.webhook_deliveries.created_by is 'Null: the provider made it.';
comment on column public.webhook_deliveries.created_by_key is 'Null: the provider made it.';
comment on column public.webhook_deliveries.created_at is 'When it was received.';
comment on column public.webhook_deliveries.updated_at is 'Last change; set by trigger.';
comment on column public.webhook_deliveries.processed_at is 'When it was completed, failed or ignored.';

select private.make_tenant_table('public.webhook_deliveries', resource => 'repositories', writable => '{}', catalogue => '{
  "project_id, repository_id, delivery_id, event, action": "where the delivery came from",
  "headers, payload, payload_bytes": {"purpose": "what was sent", "erasure": "retention"},
  "status, error_code, error, duplicate_count, reflex_count, processed_at": "how it went"
}');

-- ----------------------------------------------------------------------------
-- Duplicates
-- ----------------------------------------------------------------------------

create table private.webhook_delivery_keys (
  organization uuid not null,
  repository_id uuid not null,
  key text not null check (char_length(key) between 1 and 300),
  delivery_id uuid not null,
  seen_at timestamptz not null default kijko.now(),
  primary key (repository_id, key),
  foreign key (organization, repository_id) references public.repositories (org_id, id) on delete cascade
);
create index webhook_delivery_keys_seen_at_idx on private.webhook_delivery_keys (seen_at);
create index webhook_delivery_keys_organization_idx on private.webhook_delivery_keys (organization, repository_id);
comment on table private.webhook_delivery_keys is 'What webhooks of repositories received in the last 24 hours, to recognize duplicates and replays.';
comment on column private.webhook_delivery_keys.organization is 'Organization of the repository.';
comment on column private.webhook_delivery_keys.repository_id is 'The repository.';
comment on column private.webhook_delivery_keys.key is 'id: and the provider''s id, or body: and the SHA-256 of the body.';
comment on column private.webhook_delivery_keys.delivery_id is 'The first delivery with this key. No foreign key: it may be deleted earlier.';
comment on column private.webhook_delivery_keys.seen_at is 'When it came.';
select private.describe_data('private.webhook_delivery_keys', '{
  "organization, repository_id, key, delivery_id, seen_at": {"purpose": "recognizes what was delivered before", "export": "none", "erasure": "retention"}
}');
alter table private.webhook_delivery_keys enable row level security;

-- ----------------------------------------------------------------------------
-- For the sidecar
-- ----------------------------------------------------------------------------

create function private.reflexes_repository_secrets(repository_id uuid) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  secrets constant text[] := array(
    select s.secret
    from public.repositories as r
    cross join lateral private.projects_repository_secrets(r.id) as s (secret)
    where r.id = reflexes_repository_secrets.repository_id and r.provider = 'github'
  );
begin
  if cardinality(secrets) = 0 then
    -- As much work as for a repository that exists.
    perform kijko.unseal(kijko.seal('decoy', 'repository_secrets/decoy'), 'repository_secrets/decoy');
  end if;
  return secrets;
end
$$;
comment on function private.reflexes_repository_secrets(uuid) is 'The secrets that verify a webhook of GitHub; an empty array for an unknown repository, one of another provider, and one without a secret. Definer: the sidecar holds no table rights.';
grant execute on function private.reflexes_repository_secrets(uuid) to kijko_sidecar;

create function private.reflexes_fire_repository(delivery public.webhook_deliveries) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  hidden constant boolean := exists (select 1 from public.projects as p where p.id = delivery.project_id and p.visibility = 'private');
  reflex public.reflexes;
  fired integer := 0;
begin
  for reflex in
    select r.*
    from public.reflexes as r
    join public.skills as s on s.org_id = r.org_id and s.id = r.skill_id
    where r.org_id = delivery.org_id and r.source = 'repository' and r.enabled and r.repository_id = delivery.repository_id
      and (r.event is null or r.event = delivery.event)
      -- Events of a private project fire reflexes of that project's skills only.
      and (not hidden or s.project_id = delivery.project_id)
    order by r.id
  loop
    begin
      if not private.reflexes_may_listen(reflex) then
        perform private.reflexes_pause(reflex);
      elsif private.reflexes_try_lock(reflex) then
        perform private.reflexes_deliver_event(
          reflex, delivery.event, delivery.payload, 0, source => 'repository', headers => delivery.headers, external_id => delivery.delivery_id
        );
        fired := fired + 1;
      end if;
    exception when others then
      raise warning 'reflex %: %', reflex.id, sqlerrm;
    end;
  end loop;
  return fired;
end
$$;
comment on function private.reflexes_fire_repository(public.webhook_deliveries) is 'Delivers what a repository''s webhook has brought to the reflexes that listen to it, and returns to how many.';

create function private.reflexes_seen_webhook(repository_id uuid, keys text[]) returns uuid
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select k.delivery_id
  from private.webhook_delivery_keys as k
  where k.repository_id = reflexes_seen_webhook.repository_id and k.key = any (keys) and k.seen_at > kijko.now() - interval '24 hours'
  order by k.seen_at
  limit 1
$$;
comment on function private.reflexes_seen_webhook(uuid, text[]) is 'The delivery of a repository''s webhook that had one of these keys in the last 24 hours; null if none. Nullable: result.';

create function private.reflexes_duplicate_webhook(seen uuid) returns private.reflex_receipt
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if (kijko.rate_limit('webhook-duplicate:' || seen, 60, '1 minute')).allowed then
    update public.webhook_deliveries as d set duplicate_count = d.duplicate_count + 1
    where d.id = any (array(select k.id from public.webhook_deliveries as k where k.id = seen for no key update skip locked));
  end if;
  return (seen, 'duplicate', null)::private.reflex_receipt;
end
$$;
comment on function private.reflexes_duplicate_webhook(uuid) is 'Counts a duplicate on the delivery of a webhook that it repeats. Nothing else of it is stored.';

create function private.reflexes_ingest_github(
  repository_id uuid, body text, headers jsonb, event text, external_id text, body_hash text
) returns private.reflex_receipt
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  repository public.repositories;
  delivery public.webhook_deliveries;
  -- The hash comes first, so that a replay under another id leaves no key behind.
  keys constant text[] := array_remove(array['body:' || body_hash, 'id:' || external_id], null);
  claimed text;
  seen uuid;
  fired integer := 0;
  verdict kijko.verdict;
  archived boolean;
begin
  -- As private.reflexes_lock(): from the top, so that a deletion and this do not deadlock.
  select r.* into repository from public.repositories as r where r.id = repository_id;
  perform 1 from public.organizations as o where o.id = repository.org_id for key share;
  perform 1 from public.projects as p where p.id = repository.project_id for key share;
  select r.* into repository from public.repositories as r where r.id = repository_id for key share;
  if repository.id is null then
    return null;
  end if;
  -- Before the rate: a replay must not use it up.
  seen := private.reflexes_seen_webhook(repository.id, keys);
  if seen is not null then
    return private.reflexes_duplicate_webhook(seen);
  end if;
  verdict := kijko.rate_limits(
    array['repository:' || repository.id, 'reflex-kib:' || repository.org_id], array[600, 65536], array[interval '1 minute', interval '1 hour'],
    null, array[1, least(greatest(octet_length(body) / 1024, 1), 65536)]
  );
  if not verdict.allowed then
    return (null, 'rate_limited', greatest(coalesce(verdict.retry_after, 1), 1))::private.reflex_receipt;
  end if;
  delivery.id := gen_random_uuid();
  foreach claimed in array keys loop
    insert into private.webhook_delivery_keys as k (organization, repository_id, key, delivery_id)
    values (repository.org_id, repository.id, claimed, delivery.id)
    on conflict on constraint webhook_delivery_keys_pkey do update set delivery_id = excluded.delivery_id, seen_at = excluded.seen_at
    where k.seen_at <= kijko.now() - interval '24 hours';
    if not found then
      -- In a transaction of its own the other delivery is visible now.
      return private.reflexes_duplicate_webhook(private.reflexes_seen_webhook(repository.id, array[claimed]));
    end if;
  end loop;
  insert into public.webhook_deliveries (id, org_id, project_id, repository_id, delivery_id, event, action, headers, payload, payload_bytes)
  values (
    delivery.id, repository.org_id, repository.project_id, repository.id, external_id, coalesce(substring(event for 100), 'unknown'),
    substring(body::jsonb ->> 'action' for 100), headers, body::jsonb, octet_length(body)
  ) returning * into delivery;
  archived := exists (select 1 from public.projects as p where p.id = repository.project_id and p.archived_at is not null);
  if not archived then
    fired := private.reflexes_fire_repository(delivery);
  end if;
  update public.webhook_deliveries as d
  set status = case when fired > 0 then 'completed' else 'ignored' end, reflex_count = fired, processed_at = kijko.now(),
    error_code = case when archived then 'project_archived' end, error = case when archived then 'the project of the repository is archived' end
  where d.id = delivery.id;
  return (delivery.id, 'received', null)::private.reflex_receipt;
end
$$;
comment on function private.reflexes_ingest_github(uuid, text, jsonb, text, text, text) is 'Stores a verified delivery of a repository''s webhook and fires the reflexes that listen to it, unless it is a duplicate or beyond 600 a minute. While the project of the repository is archived nothing fires. Nullable: delivery_id, status, retry_after. Definer: the sidecar holds no table rights.';
grant execute on function private.reflexes_ingest_github(uuid, text, jsonb, text, text, text) to kijko_sidecar;

select private.set_retention('public.webhook_deliveries', '30 days', 'finding out what a repository sent');
select private.set_retention('private.webhook_delivery_keys', '24 hours', 'senders repeat a delivery for hours');

create function private.reflexes_purge_repositories(max_rows integer default 10000) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  kept_deliveries constant integer := 1000;
  kept_bytes constant bigint := 64 * 1024 * 1024;
  purged bigint;
  more bigint;
begin
  delete from private.webhook_delivery_keys as k
  where (k.repository_id, k.key) in (
    select o.repository_id, o.key from private.webhook_delivery_keys as o where o.seen_at < kijko.now() - private.retention_of('private.webhook_delivery_keys')
    order by o.seen_at limit max_rows for update skip locked
  );
  delete from public.webhook_deliveries as d
  where d.id = any (array(
    select o.id from public.webhook_deliveries as o
    where o.created_at < kijko.now() - private.retention_of('public.webhook_deliveries') and o.processed_at is not null
    order by o.created_at limit max_rows for update skip locked
  ));
  get diagnostics purged = row_count;
  delete from public.webhook_deliveries as d
  where d.id = any (array(
    select o.id
    from public.repositories as r
    cross join lateral (
      select k.id, k.processed_at from public.webhook_deliveries as k
      where k.org_id = r.org_id and k.repository_id = r.id
      order by k.created_at desc, k.id desc
      offset kept_deliveries
    ) as o
    where o.processed_at is not null
    limit max_rows
  ));
  get diagnostics more = row_count;
  update public.webhook_deliveries as d set payload = null
  where d.id = any (array(
    select s.id
    from (
      select k.id, k.processed_at, k.created_at, sum(k.payload_bytes) over (partition by k.org_id order by k.created_at desc, k.id desc) as total
      from public.webhook_deliveries as k where k.payload is not null
    ) as s
    where s.total > kept_bytes and s.processed_at is not null
    order by s.created_at limit max_rows
  ));
  return purged + more;
end
$$;
comment on function private.reflexes_purge_repositories(integer) is 'Bounds webhook_deliveries as reflexes_purge() bounds reflex_deliveries. Returns how many deliveries it deleted.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-reflexes-purge-repositories', '5-59/10 * * * *', 'perform private.reflexes_purge_repositories()');
