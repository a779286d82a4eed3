-- ============================================================================
-- Storage: whose bytes the objects of a bucket are.
--
-- The objects of a metered bucket belong to the organization whose id is the first segment of their path. Their bytes are the
-- gauge storage_bytes, which a trigger keeps, so it is exact whoever writes: Kijko's storage service or Supabase's own.
-- ============================================================================

create table private.metered_buckets (
  bucket_id text primary key check (char_length(bucket_id) <= 100),
  created_at timestamptz not null default kijko.now()
);
comment on table private.metered_buckets is 'Buckets whose objects belong to organizations and count as their storage_bytes.';
comment on column private.metered_buckets.bucket_id is 'Bucket. Not a foreign key: on Supabase the table of buckets belongs to its own service.';
comment on column private.metered_buckets.created_at is 'Since when its objects are metered.';
select private.describe_data('private.metered_buckets', '{"bucket_id": "which buckets are metered"}', 'platform');
alter table private.metered_buckets enable row level security;

-- ----------------------------------------------------------------------------
-- An object's organization and size
-- ----------------------------------------------------------------------------

create function private.storage_segment_id(name text, segment integer) returns uuid
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return case
  when split_part(name, '/', segment) ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then split_part(name, '/', segment)::uuid
end;
comment on function private.storage_segment_id(text, integer) is 'The id that a segment of a path is, from 1; null when it is none. For policies on storage.objects. Nullable: result.';
grant execute on function private.storage_segment_id(text, integer) to authenticated, service_role;

create function private.storage_org_id(name text) returns uuid
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return private.storage_segment_id(name, 1);
comment on function private.storage_org_id(text) is 'The organization that the first segment of a path names; null when it is no id. For policies on storage.objects.';
grant execute on function private.storage_org_id(text) to authenticated;

create function private.storage_object_bytes(metadata jsonb, user_metadata jsonb) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp
return case when metadata ->> 'size' ~ '^[0-9]{1,18}$' then (metadata ->> 'size')::bigint else 0 end + coalesce(octet_length(user_metadata::text), 0);
comment on function private.storage_object_bytes(jsonb, jsonb) is 'The size in an object''s metadata, 0 for a row that has none yet, and the length of what its uploader wrote about it: that is stored, too.';

-- ----------------------------------------------------------------------------
-- The gauge storage_bytes
-- ----------------------------------------------------------------------------

create function private.storage_adjust_bytes(changes jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  change record;
begin
  for change in
    select c.org_id, sum(c.bytes)::bigint as bytes, o.id is null and bool_or(c.is_new) as is_unknown
    from jsonb_to_recordset(changes) as c (org_id uuid, bytes bigint, is_new boolean)
    left join public.organizations as o on o.id = c.org_id
    group by c.org_id, o.id
    order by c.org_id
  loop
    -- Objects of an organization that is being deleted go with it.
    if change.is_unknown then
      perform kijko.fail('bad_request', 'the path must begin with the id of an organization');
    elsif change.bytes <> 0 then
      perform kijko.adjust_gauge(change.org_id, 'storage_bytes', change.bytes);
    end if;
  end loop;
end
$$;
comment on function private.storage_adjust_bytes(jsonb) is 'Adjusts the gauges of organizations by [{org_id, bytes, is_new}], which may repeat one. Bytes beyond the limit fail with quota_exceeded, a path without an organization with bad_request. Definer: only the domain may adjust gauges.';

create function private.storage_sync_bytes() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- The transition table has the same name in both triggers: the inserted rows, or the deleted ones.
  is_new constant boolean := tg_op = 'INSERT';
begin
  perform private.storage_adjust_bytes(jsonb_agg(jsonb_build_object(
    'org_id', private.storage_org_id(c.name), 'is_new', is_new,
    'bytes', case when is_new then 1 else -1 end * private.storage_object_bytes(c.metadata, c.user_metadata)
  )))
  from changed as c join private.metered_buckets as m on m.bucket_id = c.bucket_id
  where is_new or private.storage_org_id(c.name) is not null
  having count(*) > 0;
  return null;
end
$$;
comment on function private.storage_sync_bytes() is 'Trigger: inserted and deleted objects of metered buckets change the gauge of their organization in the same transaction. Definer: users may neither read the list of buckets nor adjust gauges.';

create function private.storage_sync_changed_bytes() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.storage_adjust_bytes(jsonb_agg(jsonb_build_object('org_id', c.org_id, 'bytes', c.bytes, 'is_new', c.is_new)))
  from (
    select private.storage_org_id(n.name) as org_id, private.storage_object_bytes(n.metadata, n.user_metadata) as bytes, true as is_new
    from added as n join private.metered_buckets as m on m.bucket_id = n.bucket_id
    union all
    select private.storage_org_id(o.name), -private.storage_object_bytes(o.metadata, o.user_metadata), false
    from removed as o join private.metered_buckets as m on m.bucket_id = o.bucket_id
    where private.storage_org_id(o.name) is not null
  ) as c
  having count(*) > 0;
  return null;
end
$$;
comment on function private.storage_sync_changed_bytes() is 'Trigger: private.storage_sync_bytes() for replaced and moved objects: the difference counts. Definer: as that one.';

create function private.storage_admit_bytes(bucket_id text, name text, bytes bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if bytes > 0 and exists (select from private.metered_buckets as m where m.bucket_id = storage_admit_bytes.bucket_id) then
    perform private.storage_adjust_bytes(jsonb_build_array(jsonb_build_object('org_id', private.storage_org_id(name), 'bytes', bytes, 'is_new', true)));
  end if;
end
$$;
comment on function private.storage_admit_bytes(text, text, bigint) is 'Counts this many bytes more for the organization that a path names, if the bucket is metered, or fails as storing them would. The storage service undoes it: it asks before it reads them. Definer: only the domain may adjust gauges.';

create function private.storage_payer(bucket_id text, name text) returns uuid
language sql stable security definer set search_path = pg_catalog, pg_temp
return case when exists (select from private.metered_buckets as m where m.bucket_id = storage_payer.bucket_id) then private.storage_org_id(name) end;
comment on function private.storage_payer(text, text) is 'The organization in whose plan an object of this name counts; null in a bucket that is not metered. Nullable: result. Definer: only the domain may read the list of buckets.';

create function private.storage_list_roots(bucket_id text) returns text[]
language sql stable security definer set search_path = pg_catalog, pg_temp
return case
  when exists (select from private.metered_buckets as m where m.bucket_id = storage_list_roots.bucket_id) then array(select o.id::text from public.org_ids() as o (id))
end;
comment on function private.storage_list_roots(text) is 'The first segments of paths in which the lists of a bucket look for the caller: in a metered one the ids of their organizations. Null for any other bucket: everywhere. Nullable: result. Definer: users may not read the list of buckets.';
grant execute on function private.storage_list_roots(text) to anon, authenticated;

-- A revoked key signs nothing more, and what it has signed for uploads ends with it.
create function private.storage_admit_signer(signer jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  key constant uuid := (signer ->> 'api_key_id')::uuid;
  member constant uuid := (signer ->> 'user_id')::uuid;
  org uuid := (signer ->> 'org_id')::uuid;
begin
  if key is not null and not exists (
    select 1 from public.api_keys as k
    where k.id = key and k.revoked_at is null and (k.expires_at is null or k.expires_at > kijko.now())
  ) then
    perform kijko.fail('invalid_api_key', 'the key that signed the URL is revoked or expired');
  end if;
  select o.id into org from public.organizations as o where o.id = org;
  if key is null and member is not null and (
    not exists (select 1 from auth.users as u where u.id = member and u.deleted_at is null and coalesce(u.banned_until <= kijko.now(), true))
    or (org is not null and not exists (select 1 from public.memberships as m where m.org_id = org and m.user_id = member and not m.sso_required))
    or exists (
      select 1 from kijko.issuer_identities as i join kijko.issuers as s on s.id = i.issuer_id where i.user_id = member and not s.enabled
    )
  ) then
    perform kijko.fail('not_a_member', 'who signed the URL has no access any more');
  end if;
  perform kijko.admit_request(org, member, key);
end
$$;
comment on function private.storage_admit_signer(jsonb) is 'Admits and counts a request for who signed a URL: {user_id, api_key_id, org_id}. Fails as a request of theirs would, with invalid_api_key for a key that has ended, and not_a_member for a user who is banned, has left, or came by an issuer that is disabled. Definer: only the domain may name whom a request counts for.';

-- ----------------------------------------------------------------------------
-- Buckets, and the table of objects
-- ----------------------------------------------------------------------------

create function private.storage_recount_bytes(org uuid default null)
returns table (org_id uuid, meter text, was bigint, became bigint)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if to_regclass('storage.objects') is null then
    return;
  end if;
  -- What writers add is in the count or comes after it.
  perform private.lock_tables(array[to_regclass('storage.objects')]);
  for org_id, meter, was, became in
    select o.id, 'storage_bytes', coalesce(u.used, 0), coalesce(s.bytes, 0)
    from public.organizations as o
    left join (
      select private.storage_org_id(f.name) as org_id, sum(private.storage_object_bytes(f.metadata, f.user_metadata))::bigint as bytes
      from storage.objects as f join private.metered_buckets as m on m.bucket_id = f.bucket_id
      -- Writers of all organizations wait: of one no more is read than its own objects.
      where storage_recount_bytes.org is null or starts_with(f.name, storage_recount_bytes.org::text)
      group by 1
    ) as s on s.org_id = o.id
    left join lateral (select k.used from kijko.usage(o.id) as k where k.meter = 'storage_bytes') as u on true
    where (storage_recount_bytes.org is null or o.id = storage_recount_bytes.org) and coalesce(u.used, 0) <> coalesce(s.bytes, 0)
    order by o.id
  loop
    perform kijko.reload_counters(org_id);
    perform kijko.correct_usage(org_id, meter, became - was, 'recounted');
    return next;
  end loop;
end
$$;
comment on function private.storage_recount_bytes(uuid) is 'Sets storage_bytes of one organization, or of all, to the bytes of their objects, even beyond the limit. Returns the gauges that were wrong. Only for postgres and the superuser.';

create function private.storage_meter_bucket(bucket_id text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  has_objects constant boolean := to_regclass('storage.objects') is not null;
  stored record;
begin
  if has_objects then
    perform private.lock_tables(array[to_regclass('storage.objects')]);
  end if;
  insert into private.metered_buckets as m (bucket_id) values (storage_meter_bucket.bucket_id) on conflict do nothing;
  if not found or not has_objects then
    return;
  end if;
  -- Of this bucket only: writers of all organizations wait meanwhile.
  for stored in
    select o.id as org_id, sum(private.storage_object_bytes(f.metadata, f.user_metadata))::bigint as bytes
    from storage.objects as f join public.organizations as o on o.id = private.storage_org_id(f.name)
    where f.bucket_id = storage_meter_bucket.bucket_id
    group by o.id order by o.id
  loop
    if stored.bytes > 0 then
      perform kijko.correct_usage(stored.org_id, 'storage_bytes', stored.bytes, 'its bucket is metered');
    end if;
  end loop;
end
$$;
comment on function private.storage_meter_bucket(text) is 'From now on the objects of a bucket belong to organizations and count as their storage_bytes; those that are there, too. Only for postgres and the superuser.';

create function private.storage_attach() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('storage.objects') is null then
    return false;
  end if;
  create or replace trigger kijko_bytes_insert after insert on storage.objects
    referencing new table as changed for each statement execute function private.storage_sync_bytes();
  create or replace trigger kijko_bytes_delete after delete on storage.objects
    referencing old table as changed for each statement execute function private.storage_sync_bytes();
  create or replace trigger kijko_bytes_update after update on storage.objects
    referencing old table as removed new table as added for each statement execute function private.storage_sync_changed_bytes();
  return true;
end
$$;
comment on function private.storage_attach() is 'Makes the triggers on storage.objects; false when there is no such table yet, as on Supabase before its Storage has run. Only for postgres and the superuser.';
select private.storage_attach();

-- On Supabase the rows stay: only its own service may delete the bytes, and it finds them by their rows.
create function private.storage_delete_below(buckets text[], folder text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- What the transaction has set holds again afterwards.
  allowed constant text := coalesce(current_setting('storage.allow_delete_query', true), '');
begin
  if to_regnamespace('storage_service') is null then
    return;
  end if;
  perform set_config('storage.allow_delete_query', 'true', true);
  delete from storage.objects as o
  where o.bucket_id = any (buckets)
    and o.name collate "C" >= folder || '/' and o.name collate "C" < folder || '0';
  perform set_config('storage.allow_delete_query', allowed, true);
end
$$;
comment on function private.storage_delete_below(text[], text) is 'Deletes the objects below a folder of these buckets, and queues the deletion of their bytes. Called by definer functions only.';

create function private.storage_delete_object(bucket_id text, name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  allowed constant text := coalesce(current_setting('storage.allow_delete_query', true), '');
begin
  if to_regnamespace('storage_service') is null then
    return;
  end if;
  perform set_config('storage.allow_delete_query', 'true', true);
  delete from storage.objects as o where o.bucket_id = storage_delete_object.bucket_id and o.name = storage_delete_object.name;
  perform set_config('storage.allow_delete_query', allowed, true);
end
$$;
comment on function private.storage_delete_object(text, text) is 'Deletes an object, and queues the deletion of its bytes. Called by definer functions only.';

create function private.storage_delete_objects() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.storage_delete_below(array(select m.bucket_id from private.metered_buckets as m), old.id::text);
  return null;
end
$$;
comment on function private.storage_delete_objects() is 'Trigger: the objects of a deleted organization go with it, and the queue of deletions gets their bytes. Definer: users may not delete an organization''s objects at once.';
-- Before the gauge is forgotten: triggers fire by name.
create trigger organizations_delete_objects after delete on public.organizations
  for each row execute function private.storage_delete_objects();

-- ----------------------------------------------------------------------------
-- What the storage service may call. On self-hosted Supabase there is none.
-- ----------------------------------------------------------------------------

do $$
begin
  if to_regrole('kijko_storage') is not null then
    grant usage on schema private to kijko_storage, kijko_storage_admin;
    grant execute on function
      private.storage_admit_bytes(text, text, bigint), private.storage_payer(text, text), private.storage_admit_signer(jsonb)
    to kijko_storage_admin;
    grant execute on function private.requests_admit_external(text, text, text) to kijko_storage;
  end if;
end
$$;
