-- Storage: which bytes have a row, for ./kijko storage check and ./kijko restore.
\set ON_ERROR_STOP on

set client_min_messages = warning;
begin;

create or replace function storage_service.inventory() returns table (version text, kind text, bytes bigint, name text)
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select o.version, 'object', case when o.metadata ->> 'size' ~ '^[0-9]{1,18}$' then (o.metadata ->> 'size')::bigint else 0 end, o.bucket_id || '/' || o.name
    from storage.objects as o where o.version is not null
    union all
    select u.version::text, 'upload', null::bigint, null::text from storage_service.uploads as u
    union all
    select d.version::text, 'deletion', null::bigint, null::text from storage_service.deletions as d;
end;
comment on function storage_service.inventory() is 'Every version whose bytes are there, are coming or are going. Definer: for ./kijko storage check.';

create or replace function storage_service.queue_strays(versions uuid[]) returns integer
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    with queued as (
        insert into storage_service.deletions (version, deleted_at)
        select s.version, clock_timestamp() from unnest(versions) as s (version)
        where not exists (select from storage.objects as o where o.version = s.version::text and char_length(o.version) = 36)
            and not exists (select from storage_service.uploads as u where u.version = s.version)
        on conflict do nothing
        returning 1
    )
    select count(*)::integer from queued as q;
end;
comment on function storage_service.queue_strays(uuid[]) is 'Queues bytes that nothing names, as if their object had been deleted now; how many. Definer: for ./kijko restore, after which bytes of the lost time have no row.';

alter function storage_service.inventory() owner to kijko_storage_admin;
alter function storage_service.queue_strays(uuid[]) owner to kijko_storage_admin;
revoke all on function storage_service.inventory(), storage_service.queue_strays(uuid[]) from public;
grant execute on function storage_service.inventory(), storage_service.queue_strays(uuid[]) to kijko_storage;
commit;
