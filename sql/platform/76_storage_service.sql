-- What the storage service calls: who asks, and what policies let them do.
\set ON_ERROR_STOP on
\getenv storage_password KIJKO_STORAGE_PASSWORD

set client_min_messages = warning;

-- Definer functions have an owner of their own: postgres is a member of supabase_storage_admin, and could replace its functions.
select format('create role %I %s', name, options)
from (values
    ('kijko_storage',       'login noinherit'),
    ('kijko_storage_admin', 'nologin inherit')
) as wanted (name, options)
where not exists (select from pg_catalog.pg_roles where rolname = wanted.name)
\gexec
grant supabase_storage_admin to kijko_storage_admin;
alter role kijko_storage password :'storage_password';
alter role kijko_storage set statement_timeout = '10s';
alter role kijko_storage set jit = off; -- as in 20_extension.sql
-- Tokens and keys are parameters of its statements.
alter role kijko_storage set log_parameter_max_length = 0;
alter role kijko_storage set log_parameter_max_length_on_error = 0;
alter role kijko_storage set auto_explain.log_verbose = off;
-- It evaluates policies as the caller, and can become no more than a caller.
grant anon, authenticated to kijko_storage;
select format('grant connect on database %I to kijko_storage', current_database())
\gexec
grant usage on schema kijko, storage to kijko_storage;
grant usage on schema kijko to kijko_storage_admin;
grant execute on function kijko.verify_jwt(text), kijko.access_token_fault(jsonb) to kijko_storage_admin;

-- postgres owns storage.objects and could make a trigger there, which runs as the owner of the definer functions below. So that
-- role owns those functions and nothing else here: it cannot make or replace one, and what runs as the service stays as it is.
begin;
create schema if not exists storage_service;
grant usage on schema storage_service to kijko_storage, kijko_storage_admin, anon, authenticated;

create or replace function storage_service.verify(token text) returns jsonb
language sql volatile security definer set search_path = pg_catalog, pg_temp
return kijko.verify_jwt(token);
comment on function storage_service.verify(text) is 'The claims of a token that this database signed and that is valid now; null for anything else. Definer: only a few roles verify tokens.';

create or replace function storage_service.token_fault(claims jsonb) returns text
language sql volatile security definer set search_path = pg_catalog, pg_temp
return kijko.access_token_fault(claims);
comment on function storage_service.token_fault(jsonb) is 'The first claim that an access token lacks. Definer: as storage_service.verify().';

-- A refusal in the service's form. Of a user's statement Postgres' message is shown, of everything else its code.
create or replace function storage_service.problem(state text, message text, detail text, constraint_name text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if state = 'PGRST' then
        return jsonb_build_object('kind', 'refused', 'body', message::jsonb, 'answer', detail::jsonb);
    end if;
    return jsonb_build_object('kind', 'sql', 'state', state, 'message', message, 'constraint', nullif(constraint_name, ''));
end
$$;
comment on function storage_service.problem(text, text, text, text) is 'An error as the service reads it: {kind: refused} for a refusal of kijko.fail(), {kind: sql} for any other.';

-- ----------------------------------------------------------------------------
-- What is done as the caller. Each takes and returns JSON, and is invoker: policies decide.
-- ----------------------------------------------------------------------------

create or replace function storage_service.object_read(arguments jsonb) returns jsonb
language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
    select to_jsonb(o) - 'path_tokens' || jsonb_build_object('modified_at', extract(epoch from o.updated_at)::bigint) from storage.objects as o
    where o.bucket_id = arguments ->> 'bucket_id' and o.name = arguments ->> 'name';
end;
comment on function storage_service.object_read(jsonb) is 'The row of an object that the caller sees; null for none.';

create or replace function storage_service.object_read_many(arguments jsonb) returns jsonb
language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(jsonb_agg(o.name), '[]') from storage.objects as o
    where o.bucket_id = arguments ->> 'bucket_id' and o.name = any (array(select jsonb_array_elements_text(arguments -> 'names')));
end;
comment on function storage_service.object_read_many(jsonb) is 'Which of some objects the caller sees.';

-- As upstream: without RETURNING a policy for INSERT is enough; to replace, those for SELECT and UPDATE are needed, too.
create or replace function storage_service.object_write(arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    id uuid;
    subject constant text := storage_service.subject();
    subject_id constant uuid := storage_service.subject_id();
begin
    if (arguments -> 'upsert')::boolean then
        insert into storage.objects as o (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
        values (arguments ->> 'bucket_id', arguments ->> 'name', subject_id, subject, '1', arguments -> 'metadata', arguments -> 'user_metadata')
        on conflict (bucket_id, name) do update
        set owner = excluded.owner, owner_id = excluded.owner_id, version = excluded.version,
            metadata = excluded.metadata, user_metadata = excluded.user_metadata
        returning o.id into id;
    else
        insert into storage.objects (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
        values (arguments ->> 'bucket_id', arguments ->> 'name', subject_id, subject, '1', arguments -> 'metadata', arguments -> 'user_metadata');
    end if;
    return storage_service.owner() || jsonb_build_object('replaces', id);
end
$$;
comment on function storage_service.object_write(jsonb) is 'Tries to insert an object, or with upsert to replace the one that it names in its answer. The service undoes it.';

create or replace function storage_service.object_move(arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    subject constant text := storage_service.subject();
    subject_id constant uuid := storage_service.subject_id();
begin
    perform from storage.objects as o where o.bucket_id = arguments ->> 'bucket_id' and o.name = arguments ->> 'name';
    if not found then
        return null;
    end if;
    update storage.objects as o
    set bucket_id = arguments ->> 'to_bucket_id', name = arguments ->> 'to_name', owner = subject_id, owner_id = subject, version = '1'
    where o.bucket_id = arguments ->> 'bucket_id' and o.name = arguments ->> 'name';
    if not found then
        raise exception 'new row violates row-level security policy for table "objects"' using errcode = '42501';
    end if;
    return storage_service.owner();
end
$$;
comment on function storage_service.object_move(jsonb) is 'Tries to give an object another name or bucket; null when the caller does not see it. The service undoes it.';

create or replace function storage_service.object_delete(arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    names constant text[] := array(select jsonb_array_elements_text(arguments -> 'names'));
    deleted jsonb;
begin
    with gone as (
        delete from storage.objects as o
        where o.bucket_id = arguments ->> 'bucket_id' and o.name = any (names)
        returning o.*
    )
    select coalesce(jsonb_agg(to_jsonb(g) - 'path_tokens'), '[]') into deleted from gone as g;
    return deleted;
end
$$;
comment on function storage_service.object_delete(jsonb) is 'Deletes those of some objects that the caller may delete and see, and returns their rows.';

create or replace function storage_service.object_copy(arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    source constant jsonb := storage_service.object_read(arguments);
begin
    if source is null then
        return null;
    end if;
    return jsonb_build_object('source', source) || storage_service.object_write(jsonb_build_object(
        'bucket_id', arguments ->> 'to_bucket_id', 'name', arguments ->> 'to_name', 'upsert', arguments -> 'upsert',
        'metadata', source -> 'metadata', 'user_metadata', source -> 'user_metadata'
    ));
end
$$;
comment on function storage_service.object_copy(jsonb) is 'Tries to insert a copy of an object; null when the caller does not see it. The service undoes it.';

create or replace function storage_service.object_delete_one(arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if storage_service.object_read(arguments) is null then
        return null;
    end if;
    return to_jsonb(jsonb_array_length(storage_service.object_delete(jsonb_build_object(
        'bucket_id', arguments ->> 'bucket_id', 'names', jsonb_build_array(arguments ->> 'name')
    ))) = 1);
end
$$;
comment on function storage_service.object_delete_one(jsonb) is 'Deletes an object: false when the caller sees it and may not, null when they do not see it.';

create or replace function storage_service.object_list(arguments jsonb) returns jsonb
language sql volatile set search_path = pg_catalog, pg_temp
begin atomic
    select coalesce(jsonb_agg(to_jsonb(s) order by s.place), '[]')
    from storage.search(
        arguments ->> 'prefix', arguments ->> 'bucket_id', (arguments ->> 'limit')::integer, 1, (arguments ->> 'offset')::integer,
        arguments ->> 'search', arguments ->> 'column', arguments ->> 'order'
    ) with ordinality as s (name, id, updated_at, created_at, last_accessed_at, metadata, place);
end;
comment on function storage_service.object_list(jsonb) is 'A folder, by storage.search().';

create or replace function storage_service.object_list_v2(arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    descending constant boolean := arguments ->> 'order' = 'desc';
begin
    if arguments ->> 'column' = 'name' then
        return (
            select coalesce(jsonb_agg(to_jsonb(e) order by e.place), '[]')
            from storage.list_entries(
                arguments ->> 'bucket_id', arguments ->> 'prefix', (arguments -> 'delimited')::boolean, arguments ->> 'after', descending,
                (arguments ->> 'limit')::integer
            ) with ordinality as e (key, is_folder, id, updated_at, created_at, last_accessed_at, metadata, place)
        );
    end if;
    -- Milliseconds are exact in an interval of whole microseconds.
    return (
        select coalesce(jsonb_agg(to_jsonb(e) || jsonb_build_object('moment', (extract(epoch from e.moment) * 1000)::bigint) order by e.place), '[]')
        from storage.list_entries_by_time(
            arguments ->> 'bucket_id', arguments ->> 'prefix', (arguments -> 'delimited')::boolean, arguments ->> 'column',
            timestamptz 'epoch' + (arguments ->> 'after_moment')::bigint * interval '1 millisecond', arguments ->> 'after', descending,
            (arguments ->> 'limit')::integer
        ) with ordinality as e (key, is_folder, id, updated_at, created_at, last_accessed_at, metadata, moment, place)
    );
end
$$;
comment on function storage_service.object_list_v2(jsonb) is 'Objects and folders after a key, by storage.list_entries(), or after a time and a key, by storage.list_entries_by_time().';

-- ----------------------------------------------------------------------------
-- The caller
-- ----------------------------------------------------------------------------

create or replace function storage_service.subject() returns text
language sql stable set search_path = pg_catalog, pg_temp
return nullif(current_setting('request.jwt.claim.sub', true), '');
comment on function storage_service.subject() is 'The subject of the caller''s token, who becomes the owner of what they write.';

create or replace function storage_service.subject_id() returns uuid
language sql stable set search_path = pg_catalog, pg_temp
return case when storage_service.subject() ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then storage_service.subject()::uuid end;
comment on function storage_service.subject_id() is 'storage_service.subject(), if it is a UUID.';

create or replace function storage_service.owner() returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
return jsonb_build_object(
    'owner', storage_service.subject_id(), 'owner_id', storage_service.subject(),
    'started_by', coalesce(kijko.api_key_id()::text, storage_service.subject(), kijko.client_network()::text)
);
comment on function storage_service.owner() is 'The caller as the owner of an object, and as who starts an upload: a user, an API key, or a network.';

-- Invoker: it becomes the caller's role. Whether an API key or a session is valid, how many requests there may be, and what counts
-- as one is public.before_request()'s, as for PostgREST.
create or replace function storage_service.enter(request jsonb) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    claims jsonb;
    role_name text := 'anon';
    token constant text := request ->> 'token';
    issuer_token constant text := request -> 'headers' ->> 'x-kijko-token';
begin
    perform
        set_config('request.method', request ->> 'method', true),
        set_config('request.path', request ->> 'path', true),
        set_config('request.headers', (request -> 'headers')::text, true),
        set_config('storage.operation', coalesce(request ->> 'operation', ''), true),
        set_config('storage.allow_delete_query', 'true', true);
    if token is not null and issuer_token <> '' then
        perform kijko.fail('bad_request', 'the request has two tokens');
    end if;
    if token is not null then
        claims := storage_service.verify(token);
        if claims is null then
            raise exception 'the token is forged, malformed or expired' using errcode = 'KJSTJ';
        end if;
        role_name := claims ->> 'role';
        if role_name is null or role_name not in ('anon', 'authenticated', 'service_role') or storage_service.token_fault(claims) is not null then
            raise exception 'this is not an access token' using errcode = 'KJSTJ';
        end if;
    end if;
    perform
        set_config('request.jwt.claims', coalesce(claims::text, ''), true),
        set_config('request.jwt', coalesce(token, ''), true),
        set_config('request.jwt.claim.sub', coalesce(claims ->> 'sub', ''), true),
        set_config('request.jwt.claim.role', coalesce(claims ->> 'role', ''), true);
    if role_name <> 'service_role' then
        perform set_config('role', role_name, true);
        if to_regprocedure('public.before_request()') is not null then
            execute 'select public.before_request()';
        end if;
        -- The token of an issuer has claims of ours only now.
        if issuer_token <> '' then
            perform
                set_config('request.jwt.claim.sub', coalesce(kijko.claim('sub'), ''), true),
                set_config('request.jwt.claim.role', coalesce(kijko.claim('role'), ''), true);
        end if;
    end if;
    return role_name;
end
$$;
comment on function storage_service.enter(jsonb) is 'Becomes the caller of a request for the rest of the transaction, after admitting the request as PostgREST does. A token of an outside issuer comes in the header X-Kijko-Token, and its user becomes the caller by public.before_request(), as authenticated and never more. Returns the role of the token. service_role is not entered: storage_service.as_service() acts for it.';

create or replace function storage_service.perform(operation text, arguments jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    case operation
        when 'object_read' then return storage_service.object_read(arguments);
        when 'object_read_many' then return storage_service.object_read_many(arguments);
        when 'object_write' then return storage_service.object_write(arguments);
        when 'object_sign_upload' then return storage_service.object_sign_upload(arguments);
        when 'object_move' then return storage_service.object_move(arguments);
        when 'object_copy' then return storage_service.object_copy(arguments);
        when 'object_delete_one' then return storage_service.object_delete_one(arguments);
        when 'object_delete' then return storage_service.object_delete(arguments);
        when 'object_list' then return storage_service.object_list(arguments);
        when 'object_list_v2' then return storage_service.object_list_v2(arguments);
        when 'bucket_list' then return storage_service.bucket_list(arguments);
        when 'bucket_read' then return storage_service.bucket_read(arguments);
        when 'bucket_create' then return storage_service.bucket_create(arguments);
        when 'bucket_update' then return storage_service.bucket_update(arguments);
        when 'bucket_delete' then return storage_service.bucket_delete(arguments);
        when 'nothing' then return '{}';
    end case;
end
$$;
comment on function storage_service.perform(text, jsonb) is 'Runs one operation as the current role.';

create or replace function storage_service.as_service(operation text, arguments jsonb) returns jsonb
language sql volatile security definer set search_path = pg_catalog, pg_temp
return storage_service.perform(operation, arguments);
comment on function storage_service.as_service(text, jsonb) is 'One operation past the policies. Definer: the owner of the tables passes them, for service_role, and for public and signed URLs.';

-- The undoing exception ends the caller's role, too. Variables keep what was assigned.
create or replace function storage_service.call(request jsonb, operation text, arguments jsonb, undo boolean default false) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    role_name text;
    answer jsonb;
    state text;
    message text;
    detail text;
    constraint_name text;
begin
    begin
        role_name := storage_service.enter(request);
        if role_name = 'service_role' then
            answer := storage_service.as_service(operation, arguments);
        else
            answer := storage_service.perform(operation, arguments);
        end if;
        if undo then
            raise exception using errcode = 'KJSTB';
        end if;
        perform set_config('role', 'none', true);
    exception
        when sqlstate 'KJSTB' then
            null;
        when query_canceled then
            raise;
        when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail, constraint_name = constraint_name;
            return jsonb_build_object('role', role_name, 'problem', storage_service.problem(state, message, detail, constraint_name));
    end;
    return jsonb_build_object('role', role_name, 'answer', answer, 'headers', nullif(current_setting('response.headers', true), ''));
end
$$;
comment on function storage_service.call(jsonb, text, jsonb, boolean) is 'Does one operation as the caller of a request, or tries and undoes it: {role, answer}, or {problem}.';

select format('alter function %s owner to kijko_storage_admin', p.oid::regprocedure)
from pg_catalog.pg_proc as p where p.pronamespace = 'storage_service'::regnamespace and p.prosecdef
\gexec
revoke all on all functions in schema storage_service from public;
grant execute on function
    storage_service.object_read(jsonb), storage_service.object_read_many(jsonb), storage_service.object_write(jsonb), storage_service.object_move(jsonb),
    storage_service.object_copy(jsonb), storage_service.object_delete(jsonb), storage_service.object_delete_one(jsonb), storage_service.object_list(jsonb), storage_service.object_list_v2(jsonb),
    storage_service.subject(), storage_service.subject_id(), storage_service.owner(), storage_service.perform(text, jsonb)
to anon, authenticated, kijko_storage, kijko_storage_admin;
grant execute on function
    storage_service.verify(text), storage_service.token_fault(jsonb), storage_service.problem(text, text, text, text),
    storage_service.enter(jsonb), storage_service.as_service(text, jsonb), storage_service.call(jsonb, text, jsonb, boolean)
to kijko_storage;
grant execute on function storage_service.problem(text, text, text, text) to kijko_storage_admin;
commit;
