-- Supabase Storage's schema with its own names, so that migrations that use it run here and on Supabase alike. Plain clusters
-- only: Supabase brings it. Columns of versioning, and tables of resumable uploads, vectors and Iceberg are not made.
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;

select 'create role supabase_storage_admin nologin noinherit'
where not exists (select from pg_catalog.pg_roles where rolname = 'supabase_storage_admin')
\gexec

create schema if not exists storage authorization supabase_storage_admin;
grant usage on schema storage to :"owner", anon, authenticated, service_role;
-- Migrations make policies on storage.objects, as on Supabase, where an extension of the server allows it.
grant supabase_storage_admin to :"owner";

-- Not in the temporary schema, and not replaced by objects of the same name.
set role supabase_storage_admin;

create table if not exists storage.buckets (
    id text primary key,
    name text not null unique check (char_length(name) <= 100),
    owner uuid,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    public boolean default false,
    avif_autodetection boolean default false,
    file_size_limit bigint,
    allowed_mime_types text[],
    owner_id text,
    type text not null default 'STANDARD' check (type = 'STANDARD')
);
comment on table storage.buckets is 'Buckets: groups of objects with the same limits. Policies say who may see, make and change one.';
comment on column storage.buckets.id is 'Identity, the same as the name.';
comment on column storage.buckets.name is 'Name of the bucket.';
comment on column storage.buckets.owner is 'Deprecated: owner_id as a UUID, if it is one.';
comment on column storage.buckets.created_at is 'When the bucket was made.';
comment on column storage.buckets.updated_at is 'When the bucket was changed.';
comment on column storage.buckets.public is 'Whether anybody may read its objects at a public URL, without a policy.';
comment on column storage.buckets.avif_autodetection is 'Not used, as on Supabase.';
comment on column storage.buckets.file_size_limit is 'Bytes that one object may have; null for the limit of the service.';
comment on column storage.buckets.allowed_mime_types is 'Content types that are stored, also as image/*; null for all.';
comment on column storage.buckets.owner_id is 'Who made it: the subject of the token.';
comment on column storage.buckets.type is 'STANDARD. Other kinds of buckets are not served.';

create table if not exists storage.objects (
    id uuid primary key default gen_random_uuid(),
    bucket_id text references storage.buckets (id),
    name text check (char_length(name) <= 1024),
    owner uuid,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    last_accessed_at timestamptz default now(),
    metadata jsonb,
    path_tokens text[] generated always as (string_to_array(name, '/')) stored,
    version text,
    owner_id text,
    user_metadata jsonb
);
comment on table storage.objects is 'Objects: what policies are written on. The bytes lie with the storage service, under the version.';
comment on column storage.objects.id is 'Identity.';
comment on column storage.objects.bucket_id is 'Bucket of the object.';
comment on column storage.objects.name is 'Path in the bucket, such as folder/file.txt.';
comment on column storage.objects.owner is 'Deprecated: owner_id as a UUID, if it is one.';
comment on column storage.objects.created_at is 'When the object was made.';
comment on column storage.objects.updated_at is 'When the row was changed.';
comment on column storage.objects.last_accessed_at is 'When the object was made; reading does not change it.';
comment on column storage.objects.metadata is 'What the service knows: size, mimetype, cacheControl, eTag, lastModified, contentLength, httpStatusCode.';
comment on column storage.objects.path_tokens is 'The path, split at each slash.';
comment on column storage.objects.version is 'Where the bytes lie. Each upload has a new one.';
comment on column storage.objects.owner_id is 'Who wrote it: the subject of the token.';
comment on column storage.objects.user_metadata is 'What the uploader wrote about the object.';

create unique index if not exists bucketid_objname on storage.objects (bucket_id, name);
-- Folders are found by comparing bytes.
create index if not exists idx_objects_bucket_id_name on storage.objects (bucket_id, name collate "C");
-- Bytes belong to one object. Versions that policies are tried with are shorter.
create unique index if not exists objects_version_key on storage.objects (version) where char_length(version) = 36;

alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
grant select, insert, update, delete on storage.buckets, storage.objects to :"owner", anon, authenticated, service_role;
grant references, trigger on storage.buckets, storage.objects to :"owner";

create or replace function storage.foldername(name text) returns text[]
language sql immutable
return (string_to_array(name, '/'))[1 : cardinality(string_to_array(name, '/')) - 1];
comment on function storage.foldername(text) is 'The folders of a path, as an array: {a,b} for a/b/file.txt.';

create or replace function storage.filename(name text) returns text
language sql immutable
return split_part(name, '/', -1);
comment on function storage.filename(text) is 'The last segment of a path.';

create or replace function storage.extension(name text) returns text
language sql immutable
return split_part(split_part(name, '/', -1), '.', -1);
comment on function storage.extension(text) is 'What is behind the last dot of the file''s name; the whole name when it has none.';

create or replace function storage.operation() returns text
language sql stable set search_path = pg_catalog, pg_temp
return current_setting('storage.operation', true);
comment on function storage.operation() is 'What the request does whose policies are being evaluated, such as storage.object.upload.';

create or replace function storage.allow_any_operation(expected_operations text[]) returns boolean
language sql stable
return exists (
    select from unnest(expected_operations) as o (name)
    where regexp_replace(o.name, '^storage\.', '') = regexp_replace(storage.operation(), '^storage\.', '')
);
comment on function storage.allow_any_operation(text[]) is 'Whether the request does one of these, with or without storage. in front.';

create or replace function storage.allow_only_operation(expected_operation text) returns boolean
language sql stable
return storage.allow_any_operation(array[expected_operation]);
comment on function storage.allow_only_operation(text) is 'Whether the request does this, with or without storage. in front.';

create or replace function storage.get_size_by_bucket() returns table (size bigint, bucket_id text)
language sql stable
begin atomic
    select sum((o.metadata ->> 'size')::bigint)::bigint, o.bucket_id from storage.objects as o group by o.bucket_id;
end;
comment on function storage.get_size_by_bucket() is 'Bytes of each bucket, in the objects that the caller sees.';

create or replace function storage.can_insert_object(bucketid text, name text, owner uuid, metadata jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    insert into storage.objects (bucket_id, name, owner, metadata) values (bucketid, name, owner, metadata);
    raise sqlstate 'PT200' using message = 'ROLLBACK', detail = 'rollback successful insert';
end
$$;
comment on function storage.can_insert_object(text, text, uuid, jsonb) is 'Fails with PT200 if the caller may insert such an object, and with the reason if not. Nothing is inserted.';

create or replace function storage.update_updated_at_column() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    new.updated_at := now();
    return new;
end
$$;
comment on function storage.update_updated_at_column() is 'Trigger: updated_at is the time of the change.';
drop trigger if exists update_objects_updated_at on storage.objects;
create trigger update_objects_updated_at before update on storage.objects
    for each row execute function storage.update_updated_at_column();

create or replace function storage.protect_delete() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if coalesce(current_setting('storage.allow_delete_query', true), 'false') <> 'true' then
        raise exception 'Direct deletion from storage tables is not allowed. Use the Storage API instead.'
            using errcode = '42501', hint = 'This prevents accidental data loss from orphaned objects.';
    end if;
    return null;
end
$$;
comment on function storage.protect_delete() is 'Trigger: rows are deleted through the API, or by who sets storage.allow_delete_query to true.';
drop trigger if exists protect_buckets_delete on storage.buckets;
create trigger protect_buckets_delete before delete on storage.buckets
    for each statement execute function storage.protect_delete();
drop trigger if exists protect_objects_delete on storage.objects;
create trigger protect_objects_delete before delete on storage.objects
    for each statement execute function storage.protect_delete();

reset role;
revoke all on all functions in schema storage from public;
grant execute on all functions in schema storage to :"owner", anon, authenticated, service_role;
