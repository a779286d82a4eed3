-- Storage: uploads to signed URLs, and tickets of the sidecar.
\set ON_ERROR_STOP on

set client_min_messages = warning;
begin;

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
    target jsonb;
begin
    if to_regprocedure('private.privacy_redeem(text,text)') is not null then
        execute 'select private.privacy_redeem($1, ''read'')' into target using ticket;
    end if;
    if target is not null then
        return storage_service.object_read(jsonb_build_object('bucket_id', target -> 'bucket_id', 'name', target -> 'name'));
    end if;
    if to_regprocedure('private.files_redeem(text)') is not null then
        execute 'select private.files_redeem($1)' into object_name using ticket;
    end if;
    return storage_service.object_read(jsonb_build_object('bucket_id', 'project-files', 'name', object_name));
end
$$;
comment on function storage_service.open_ticket(text) is 'The row of the object that a ticket of private.files_open() or private.privacy_ticket() is for; null for any other text. Definer: objects are read past their policies, which the maker of the ticket has asked.';

-- The sidecar stores images of posts, and exports.
create or replace function storage_service.open_upload_ticket(ticket text) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    target jsonb;
begin
    if to_regprocedure('private.privacy_redeem(text,text)') is not null then
        execute 'select private.privacy_redeem($1, ''write'')' into target using ticket;
    end if;
    if target is null and to_regprocedure('private.blog_redeem_image(text)') is not null then
        execute 'select private.blog_redeem_image($1)' into target using ticket;
    end if;
    return target;
end
$$;
comment on function storage_service.open_upload_ticket(text) is 'The object that a ticket of private.blog_start_image() or private.privacy_ticket() writes: {bucket_id, name, owner}; null for any other text. Definer: the maker of the ticket has asked the policies.';

select format('alter function %s owner to kijko_storage_admin', p.oid::regprocedure)
from pg_catalog.pg_proc as p where p.pronamespace = 'storage_service'::regnamespace and p.prosecdef
\gexec
revoke all on function
    storage_service.signer(), storage_service.object_sign_upload(jsonb), storage_service.admit_signer(jsonb, jsonb), storage_service.open_ticket(text),
    storage_service.open_upload_ticket(text)
from public;
grant execute on function
    storage_service.signer(), storage_service.object_sign_upload(jsonb)
to anon, authenticated, kijko_storage, kijko_storage_admin;
grant execute on function storage_service.admit_signer(jsonb, jsonb), storage_service.open_ticket(text), storage_service.open_upload_ticket(text)
to kijko_storage;
commit;
