-- The login API on a plain Postgres: refused sign-ins go to the domain's audit log.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- The domain may not be installed.
create or replace function auth_api.audit_refusal(user_id uuid, reason text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform private.audit_refuse_sign_in(audit_refusal.user_id, audit_refusal.reason);
exception when undefined_function or invalid_schema_name or insufficient_privilege then
    null;
end
$$;
comment on function auth_api.audit_refusal(uuid, text) is 'Writes to the audit log that a sign-in was refused; user_id is null for an address without an account. For refusals that are returned: one that is raised takes the entry back.';

-- A refusal that is raised takes back what the request wrote, and with it an entry. So the entry is written where the refusal is caught.
create or replace function auth_api.reject_sign_in(status integer, code text, message text, user_id uuid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    raise sqlstate 'KJA01' using
        message = message,
        detail = jsonb_build_object('status', status, 'code', code, 'more', '{}'::jsonb, 'headers', '{}'::jsonb, 'refused_user_id', user_id);
end
$$;
comment on function auth_api.reject_sign_in(integer, text, text, uuid) is 'As auth_api.reject, for the refused sign-in of a user, which goes to the audit log.';

create or replace function auth_api.audit_rejection(detail jsonb) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if detail ? 'refused_user_id' then
        perform auth_api.audit_refusal((detail ->> 'refused_user_id')::uuid, detail ->> 'code');
    end if;
end
$$;
comment on function auth_api.audit_rejection(jsonb) is 'Writes the entry of a refusal by auth_api.reject_sign_in that was caught; detail is that of the error.';

create or replace function auth_api.audit_lock(user_id uuid) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform private.audit_lock_user(audit_lock.user_id);
exception when undefined_function or invalid_schema_name or insufficient_privilege then
    null;
end
$$;
comment on function auth_api.audit_lock(uuid) is 'Writes to the audit log that wrong passwords have locked an account; user_id is null for an address without one.';

reset role;
