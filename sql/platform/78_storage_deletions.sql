-- Bytes of objects that are gone: kept for some days, and deleted then.
\set ON_ERROR_STOP on

set client_min_messages = warning;
begin;

-- The archive of WAL copies the bytes of a folder each time that it gets a file, which is when archive_timeout has passed, at the latest.
-- By twice that time it has them.
create or replace function storage_service.keep_time(lived interval, archive_timeout interval) returns interval
language sql immutable set search_path = pg_catalog, pg_temp
return greatest(interval '2 minutes', 2 * archive_timeout, 10 * lived);
comment on function storage_service.keep_time(interval, interval) is 'How long the bytes of an object that existed for so long are kept at the most: so that the archive has them, and kept bytes are bounded by those of living objects.';

-- A version is a UUID, unless a row was written by hand.
create or replace function storage_service.queue_deletion() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if old.version ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
        insert into storage_service.deletions (version, deleted_at, keep_until)
        values (old.version::uuid, clock_timestamp(), clock_timestamp() + storage_service.keep_time(
            clock_timestamp() - old.updated_at, current_setting('archive_timeout')::interval
        ))
        on conflict do nothing;
    end if;
    return null;
end
$$;
comment on function storage_service.queue_deletion() is 'Trigger: queues the bytes of a row that is gone, to be deleted after the commit. Definer: every role that deletes an object deletes its bytes.';

-- Services that take the same deletions do no harm. A row that names the bytes again, such as one that was restored by hand, keeps them.
create or replace function storage_service.take_deletions(max_deletions integer, keep interval) returns table (blob uuid, multipart text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update storage_service.deletions as d set deleted_at = null, due_at = clock_timestamp()
    where d.version in (
        select q.version from storage_service.deletions as q
        where q.deleted_at is not null and (q.deleted_at <= clock_timestamp() - keep or q.keep_until <= clock_timestamp())
        limit max_deletions for update skip locked
    );
    delete from storage_service.deletions as d
    using storage.objects as o
    where d.deleted_at is null and d.due_at <= clock_timestamp() and o.version = d.version::text and char_length(o.version) = 36;
    return query
    update storage_service.deletions as d set due_at = clock_timestamp() + interval '1 minute'
    where d.version in (
        select q.version from storage_service.deletions as q where q.deleted_at is null and q.due_at <= clock_timestamp()
        order by q.due_at limit max_deletions for update skip locked
    )
    returning d.version, d.multipart_id;
end
$$;
comment on function storage_service.take_deletions(integer, interval) is 'Bytes to delete now: those of objects that were deleted so long ago, and those that never became an object. Whoever does not report them done within a minute leaves them to another. Definer: as storage_service.begin_upload().';

create or replace function storage_service.deletions_done(versions uuid[]) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
begin atomic
    delete from storage_service.deletions as d where d.version = any (versions) and not d.again;
    update storage_service.deletions as d set again = false, due_at = clock_timestamp() + interval '1 day' where d.version = any (versions) and d.again;
end;
comment on function storage_service.deletions_done(uuid[]) is 'These bytes are deleted. Definer: as storage_service.begin_upload().';

create or replace function storage_service.has_deletions(until timestamptz) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
return exists (select from storage_service.deletions as d where coalesce(d.deleted_at, d.due_at) <= has_deletions.until);
comment on function storage_service.has_deletions(timestamptz) is 'Whether bytes of objects that were deleted until then are still there. For proofs of erasures. Definer: as storage_service.begin_upload().';

-- The owner of the table makes the trigger; the function stays the service's.
grant execute on function storage_service.queue_deletion() to supabase_storage_admin;
grant usage on schema storage_service to supabase_storage_admin;
set role supabase_storage_admin;
drop trigger if exists objects_queue_deletion on storage.objects;
create trigger objects_queue_deletion after delete on storage.objects
    for each row execute function storage_service.queue_deletion();
drop trigger if exists objects_queue_replaced on storage.objects;
create trigger objects_queue_replaced after update of version on storage.objects
    for each row when (old.version is distinct from new.version) execute function storage_service.queue_deletion();
reset role;

select format('alter function %s owner to kijko_storage_admin', p.oid::regprocedure)
from pg_catalog.pg_proc as p where p.pronamespace = 'storage_service'::regnamespace and p.prosecdef
\gexec
revoke all on function
    storage_service.keep_time(interval, interval), storage_service.queue_deletion(), storage_service.take_deletions(integer, interval), storage_service.deletions_done(uuid[]), storage_service.has_deletions(timestamptz)
from public;
grant execute on function storage_service.keep_time(interval, interval) to kijko_storage_admin;
grant execute on function storage_service.take_deletions(integer, interval), storage_service.deletions_done(uuid[]) to kijko_storage;
grant usage on schema storage_service to postgres;
grant execute on function storage_service.has_deletions(timestamptz) to postgres;
commit;
