-- Storage: buckets, uploads to signed URLs, and tickets of the sidecar.
\set ON_ERROR_STOP on

set client_min_messages = warning;
begin;

-- ----------------------------------------------------------------------------
-- Buckets, as the caller
-- ----------------------------------------------------------------------------

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

-- ----------------------------------------------------------------------------
-- Signed URLs for uploads
-- ----------------------------------------------------------------------------

-- The first upsert of a new name asks no policy for UPDATE; the second one finds the row of the first.
create or replace function storage_service.object_sign_upload(arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    answer jsonb;
    known constant uuid := (
        select o.id from storage.objects as o where o.bucket_id = arguments ->> 'bucket_id' and o.name = arguments ->> 'name'
    );
begin
    answer := storage_service.object_write(arguments);
    if (arguments -> 'upsert')::boolean then
        perform storage_service.object_write(arguments);
    end if;
    return answer || jsonb_build_object('signer', storage_service.signer(), 'replaces', known);
end
$$;
comment on function storage_service.object_sign_upload(jsonb) is 'Tries an upload that a signed URL will make, with upsert also its repetition, and says who signs and which object is there. The service undoes it.';

create or replace function storage_service.signer() returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    org uuid;
begin
    if current_user not in ('anon', 'authenticated') then
        return null;
    end if;
    if coalesce(kijko.api_key_id(), kijko.user_id()) is not null and to_regprocedure('public.org_id()') is not null then
        execute 'select public.org_id()' into org;
    end if;
    return jsonb_strip_nulls(jsonb_build_object('user_id', kijko.user_id(), 'api_key_id', kijko.api_key_id(), 'org_id', org));
end
$$;
comment on function storage_service.signer() is 'Who signs a URL, for whom its uploads are admitted and counted; null for service_role, whom nothing limits.';

-- An upload to a signed URL has no caller. It is admitted and counted as a request of who signed the URL.
create or replace function storage_service.admit_signer(request jsonb, signer jsonb) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    state text;
    message text;
    detail text;
begin
    perform
        set_config('request.method', request ->> 'method', true),
        set_config('request.path', request ->> 'path', true),
        set_config('request.headers', (request -> 'headers')::text, true);
    if to_regprocedure('private.storage_admit_signer(jsonb)') is not null and jsonb_typeof(signer) = 'object' then
        execute 'select private.storage_admit_signer($1)' using signer;
    end if;
    return jsonb_build_object('started_by', coalesce(signer ->> 'api_key_id', signer ->> 'user_id', kijko.client_network()::text));
exception
    when query_canceled then
        raise;
    when others then
        get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail;
        return jsonb_build_object('problem', storage_service.problem(state, message, detail, null));
end
$$;
comment on function storage_service.admit_signer(jsonb, jsonb) is 'Admits an upload to a signed URL for who signed it: {started_by}, whose uploads it counts among, or {problem}. Definer: only the domain may name whom a request counts for.';

-- ----------------------------------------------------------------------------
-- Tickets
-- ----------------------------------------------------------------------------

-- The sidecar reads the files that an execution's input names.
create or replace function storage_service.open_ticket(ticket text) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    object_name text;
begin
    if to_regprocedure('private.files_redeem(text)') is not null then
        execute 'select private.files_redeem($1)' into object_name using ticket;
    end if;
    return storage_service.object_read(jsonb_build_object('bucket_id', 'project-files', 'name', object_name));
end
$$;
comment on function storage_service.open_ticket(text) is 'The row of the object that a ticket of private.files_open() is for; null for any other text. Definer: objects are read past their policies, which the maker of the ticket has asked.';

select format('alter function %s owner to kijko_storage_admin', p.oid::regprocedure)
from pg_catalog.pg_proc as p where p.pronamespace = 'storage_service'::regnamespace and p.prosecdef
\gexec
revoke all on function
    storage_service.bucket_list(jsonb), storage_service.bucket_read(jsonb), storage_service.bucket_create(jsonb),
    storage_service.bucket_update(jsonb), storage_service.bucket_delete(jsonb),
    storage_service.signer(), storage_service.object_sign_upload(jsonb), storage_service.admit_signer(jsonb, jsonb), storage_service.open_ticket(text)
from public;
grant execute on function
    storage_service.bucket_list(jsonb), storage_service.bucket_read(jsonb), storage_service.bucket_create(jsonb),
    storage_service.bucket_update(jsonb), storage_service.bucket_delete(jsonb),
    storage_service.signer(), storage_service.object_sign_upload(jsonb)
to anon, authenticated, kijko_storage, kijko_storage_admin;
grant execute on function storage_service.admit_signer(jsonb, jsonb), storage_service.open_ticket(text) to kijko_storage;
commit;
