-- The login API on a plain Postgres: hooks. An operator names a function of the database, by GoTrue's address
-- (pg-functions://postgres/<schema>/<function>) or by its name; the same function serves GoTrue on Supabase. It runs as supabase_auth_admin in the
-- transaction of the request, and a refusal of it is no outage: 403 unless it names a status.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create or replace function auth_api.hook_function(address text) returns regprocedure
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(to_regprocedure(name || '(jsonb)'), to_regprocedure(name || '(json)'))
    from (select format('%I.%I', part[1], part[2]) from regexp_match(address, '^(?:pg-functions://[^/]+/)?([^/.]+)[/.]([^/.]+)$') as part) as named (name)
$$;
comment on function auth_api.hook_function(text) is 'The function that a hook''s address names; null when there is none.';

create or replace function auth_api.call_hook(address text, payload jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    hook regprocedure := auth_api.hook_function(address);
    answer jsonb;
    message text;
begin
    if hook is null then
        raise warning 'auth_api: there is no hook %', quote_literal(address);
        perform auth_api.reject(500, 'unexpected_failure', 'Unexpected failure, please check server logs for more information');
    end if;
    begin
        execute format('select %s($1::text::%s)::jsonb', hook::oid::regproc, (select p.proargtypes[0]::regtype from pg_proc p where p.oid = hook)) into answer using payload;
    exception when others then
        get stacked diagnostics message = message_text;
        raise warning 'auth_api: hook % failed: % (%)', hook, message, sqlstate;
        perform auth_api.reject(500, 'unexpected_failure', 'Error running hook');
    end;
    if jsonb_typeof(answer -> 'error') = 'object' then
        message := coalesce(answer #>> '{error,message}', 'Refused by a hook');
        if answer #>> '{error,http_code}' ~ '^[45]\d\d$' then
            perform auth_api.reject((answer #>> '{error,http_code}')::integer, 'hook_rejected', message);
        end if;
        perform auth_api.reject(403, 'hook_rejected', message);
    end if;
    return coalesce(answer, '{}');
end
$$;
comment on function auth_api.call_hook(text, jsonb) is 'Calls a hook and refuses when it says so.';

create or replace function auth_api.custom_claims(claims jsonb, user_id uuid, method text) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    address text := (select s.hook_custom_access_token from auth_api.settings s);
    changed jsonb;
begin
    if address is null then
        return claims;
    end if;
    changed := auth_api.call_hook(address, jsonb_build_object('user_id', user_id, 'claims', claims, 'authentication_method', method)) -> 'claims';
    -- Whom the token is for, and until when, is not the hook's: revocation and every policy rely on it.
    if jsonb_typeof(changed) is distinct from 'object' or not changed ?& array['aud', 'exp', 'iat', 'sub', 'email', 'phone', 'role', 'aal', 'session_id', 'is_anonymous']
        or changed -> 'sub' <> claims -> 'sub' or changed -> 'session_id' <> claims -> 'session_id' or changed -> 'aal' <> claims -> 'aal'
        or (changed -> 'exp')::numeric > (claims -> 'exp')::numeric
        or changed ->> 'role' not in (claims ->> 'role', 'anon', 'authenticated') then
        raise warning 'auth_api: hook % returned claims that no token may have', address;
        perform auth_api.reject(500, 'unexpected_failure', 'The custom access token hook returned invalid claims');
    end if;
    return changed;
end
$$;
comment on function auth_api.custom_claims(jsonb, uuid, text) is 'The claims of an access token as the hook leaves them.';

-- Null, or the answer that refuses. Returned and not raised: what a hook writes about an attempt must stay.
create or replace function auth_api.decide(address text, payload jsonb, status integer, code text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    answer jsonb;
    message text;
    detail jsonb;
begin
    if address is null then
        return null;
    end if;
    begin
        answer := auth_api.call_hook(address, payload);
    exception when sqlstate 'KJA01' then
        get stacked diagnostics message = message_text, detail = pg_exception_detail;
        return auth_api.refusal((detail ->> 'status')::integer, detail ->> 'code', message);
    end;
    if answer ->> 'decision' = 'reject' then
        return auth_api.refusal(status, code, coalesce(nullif(answer ->> 'message', ''), 'Further verification attempts will be rejected.'));
    end if;
    return null;
end
$$;
comment on function auth_api.decide(text, jsonb, integer, text) is 'Asks a hook that may reject an attempt.';

create or replace function auth_api.password_hook(u auth.users, valid boolean) returns json
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select case when u.id is not null then
        auth_api.decide(s.hook_password_verification_attempt, jsonb_build_object('user_id', u.id, 'valid', valid), 400, 'invalid_credentials') end
    from auth_api.settings s
$$;
comment on function auth_api.password_hook(auth.users, boolean) is 'Tells the hook of a password that was looked at.';

create or replace function auth_api.mfa_hook(u auth.users, factor auth.mfa_factors, valid boolean) returns json
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select auth_api.decide(s.hook_mfa_verification_attempt,
        jsonb_build_object('user_id', u.id, 'factor_id', factor.id, 'factor_type', factor.factor_type, 'valid', valid), 403, 'mfa_verification_rejected')
    from auth_api.settings s
$$;
comment on function auth_api.mfa_hook(auth.users, auth.mfa_factors, boolean) is 'Tells the hook of a code that was looked at.';

-- GoTrue's names of the mails.
create or replace function auth_api.email_hook(address text, template text, recipient text, data jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users;
begin
    select * into u from auth.users where id = (data ->> 'user_id')::uuid;
    perform auth_api.call_hook(address, jsonb_build_object('user', auth_api.user_json(u), 'email_data', jsonb_build_object(
        'token', coalesce(data ->> 'token', ''),
        'token_hash', coalesce(data ->> 'token_hash', ''),
        'redirect_to', coalesce(data ->> 'redirect_to', ''),
        'email_action_type', case template when 'confirmation' then 'signup' when 'magic_link' then 'magiclink' when 'email_change_new' then 'email_change' else template end,
        'site_url', data ->> 'site_url',
        'recipient', recipient)));
end
$$;
comment on function auth_api.email_hook(text, text, text, jsonb) is 'Gives a mail to the hook instead of the queue.';

reset role;
