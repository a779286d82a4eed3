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

reset role;
