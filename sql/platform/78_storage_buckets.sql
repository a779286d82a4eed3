-- Storage: buckets, as the caller; and what the service asks of them past their policies.
\set ON_ERROR_STOP on

set client_min_messages = warning;
begin;

create or replace function storage_service.bucket_list(arguments jsonb) returns jsonb
language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(jsonb_agg(b.row order by b.place), '[]') from (
        select to_jsonb(b) as row, row_number() over (order by
            case when arguments ->> 'order' = 'desc' then null when arguments ->> 'column' = 'created_at' then b.created_at when arguments ->> 'column' = 'updated_at' then b.updated_at end,
            case when arguments ->> 'order' is distinct from 'desc' then null when arguments ->> 'column' = 'created_at' then b.created_at when arguments ->> 'column' = 'updated_at' then b.updated_at end desc,
            case when arguments ->> 'order' = 'desc' then null else b.name end,
            case when arguments ->> 'order' = 'desc' then b.name end desc) as place
        from storage.buckets as b
        where position(lower(coalesce(arguments ->> 'search', '')) in lower(b.name)) > 0
        order by place
        limit (arguments ->> 'limit')::integer offset (arguments ->> 'offset')::integer
    ) as b;
end;
comment on function storage_service.bucket_list(jsonb) is 'Buckets that the caller sees.';

create or replace function storage_service.bucket_read(arguments jsonb) returns jsonb
language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
    select to_jsonb(b) from storage.buckets as b where b.id = arguments ->> 'id';
end;
comment on function storage_service.bucket_read(jsonb) is 'A bucket that the caller sees; null for none.';

create or replace function storage_service.bucket_create(arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    insert into storage.buckets (id, name, owner, owner_id, public, file_size_limit, allowed_mime_types)
    values (
        arguments ->> 'id', arguments ->> 'id', storage_service.subject_id(), storage_service.subject(), coalesce((arguments -> 'public')::boolean, false),
        (arguments ->> 'file_size_limit')::bigint,
        case when jsonb_typeof(arguments -> 'allowed_mime_types') = 'array' then array(select jsonb_array_elements_text(arguments -> 'allowed_mime_types')) end
    );
    return '{}';
end
$$;
comment on function storage_service.bucket_create(jsonb) is 'Makes a bucket.';

create or replace function storage_service.bucket_update(arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    update storage.buckets as b
    set public = case when arguments ? 'public' then coalesce((arguments ->> 'public')::boolean, false) else b.public end,
        file_size_limit = case when arguments ? 'file_size_limit' then (arguments ->> 'file_size_limit')::bigint else b.file_size_limit end,
        allowed_mime_types = case
            when not arguments ? 'allowed_mime_types' then b.allowed_mime_types
            when jsonb_typeof(arguments -> 'allowed_mime_types') = 'array' then array(select jsonb_array_elements_text(arguments -> 'allowed_mime_types')) end,
        updated_at = now()
    where b.id = arguments ->> 'id';
    return case when found then '{}'::jsonb end;
end
$$;
comment on function storage_service.bucket_update(jsonb) is 'Changes a bucket: what is named, and nothing else. Null when the caller may not, or there is none.';

create or replace function storage_service.bucket_delete(arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    delete from storage.buckets as b where b.id = arguments ->> 'id';
    return case when found then '{}'::jsonb end;
end
$$;
comment on function storage_service.bucket_delete(jsonb) is 'Deletes an empty bucket. Null when the caller may not, or there is none.';

-- Past the policies ---------------------------------------------------------------------------------------------------------------

create or replace function storage_service.is_public(bucket text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce((select b.public from storage.buckets as b where b.id = bucket), false);
end;
comment on function storage_service.is_public(text) is 'Whether anybody may read the objects of a bucket. Definer: buckets are read past their policies.';

create or replace function storage_service.bucket_exists(bucket text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
begin atomic
    select exists (select from storage.buckets as b where b.id = bucket);
end;
comment on function storage_service.bucket_exists(text) is 'Whether there is such a bucket. Definer: as storage_service.is_public().';

create or replace function storage_service.empty_bucket(bucket text, max_objects integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    deleted integer;
begin
    perform set_config('storage.allow_delete_query', 'true', true);
    delete from storage.objects as o
    where o.id = any (array(select e.id from storage.objects as e where e.bucket_id = bucket limit max_objects));
    get diagnostics deleted = row_count;
    return deleted;
end
$$;
comment on function storage_service.empty_bucket(text, integer) is 'Deletes some of the objects of a bucket; how many. Definer: for service_role.';

select format('alter function %s owner to kijko_storage_admin', p.oid::regprocedure)
from pg_catalog.pg_proc as p where p.pronamespace = 'storage_service'::regnamespace and p.prosecdef
\gexec
revoke all on function
    storage_service.bucket_list(jsonb), storage_service.bucket_read(jsonb), storage_service.bucket_create(jsonb),
    storage_service.bucket_update(jsonb), storage_service.bucket_delete(jsonb),
    storage_service.is_public(text), storage_service.bucket_exists(text), storage_service.empty_bucket(text, integer)
from public;
grant execute on function
    storage_service.bucket_list(jsonb), storage_service.bucket_read(jsonb), storage_service.bucket_create(jsonb),
    storage_service.bucket_update(jsonb), storage_service.bucket_delete(jsonb)
to anon, authenticated, kijko_storage, kijko_storage_admin;
grant execute on function
    storage_service.is_public(text), storage_service.bucket_exists(text), storage_service.empty_bucket(text, integer)
to kijko_storage;
commit;
