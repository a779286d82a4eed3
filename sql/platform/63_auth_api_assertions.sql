-- Assertions: short-lived tokens that tell another server who calls it. They are signed by the key of access tokens and never give
-- access here: they have no role, and an audience of their own (kijko.access_token_fault()).
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;
set role supabase_auth_admin;

-- Verifiers look at the real clock.
create or replace function auth_api.sign_assertion(audience text, claims jsonb) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    issued constant bigint := floor(extract(epoch from clock_timestamp()));
begin
    if (audience ~ '^functions/[A-Za-z0-9_-]+$' and jsonb_typeof(claims) = 'object') is not true
        or claims ?| array['iss', 'aud', 'iat', 'exp', 'nbf', 'jti', 'role', 'session_id'] then
        perform kijko.fail('internal', 'sign_assertion: the audience or the claims are not those of an assertion');
    end if;
    return kijko.sign_jwt(claims || jsonb_build_object(
        'iss', (select s.issuer from auth_api.settings s),
        'aud', audience,
        'iat', issued,
        'exp', issued + 60,
        'jti', gen_random_uuid()));
end
$$;
comment on function auth_api.sign_assertion(text, jsonb) is 'Signs what is known of a caller for one other server, whom the audience (functions/<name>) names. It is valid for a minute. It has no role and is no access token. Definer: only login signs, and its caller may sign nothing else.';

revoke execute on function auth_api.sign_assertion(text, jsonb) from public;
grant execute on function auth_api.sign_assertion(text, jsonb) to :"owner";

reset role;
