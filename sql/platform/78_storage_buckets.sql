-- Storage: buckets, as the caller.
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

revoke all on function
    storage_service.bucket_list(jsonb), storage_service.bucket_read(jsonb), storage_service.bucket_create(jsonb),
    storage_service.bucket_update(jsonb), storage_service.bucket_delete(jsonb)
from public;
grant execute on function
    storage_service.bucket_list(jsonb), storage_service.bucket_read(jsonb), storage_service.bucket_create(jsonb),
    storage_service.bucket_update(jsonb), storage_service.bucket_delete(jsonb)
to anon, authenticated, kijko_storage, kijko_storage_admin;
commit;
