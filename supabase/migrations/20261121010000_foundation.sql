-- ============================================================================
-- Foundation: schema private and what every domain uses.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Schema private: helpers, worker functions and single-source tables. PostgREST
-- never serves it. Roles need USAGE because before_request (an invoker function)
-- calls into it by name; what they may run there is granted one by one.
-- ----------------------------------------------------------------------------

create schema if not exists private;
comment on schema private is 'Helpers and worker functions of the domain; never exposed by PostgREST.';

revoke all on schema private from public;
grant usage on schema private to anon, authenticated, service_role, kijko_sidecar;

-- ----------------------------------------------------------------------------
-- Rights: new functions, tables and sequences of postgres start with none, and each migration grants what it means.
-- Without this, PostgreSQL gives EXECUTE to PUBLIC on every new function, and Supabase gives all rights on every new
-- object in public to anon, authenticated and service_role. Objects that exist already keep their rights.
-- ----------------------------------------------------------------------------

alter default privileges for role postgres revoke execute on functions from public;
alter default privileges for role postgres in schema public revoke all on functions from anon, authenticated, service_role;
alter default privileges for role postgres in schema public revoke all on tables from anon, authenticated, service_role;
alter default privileges for role postgres in schema public revoke all on sequences from anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Shared trigger functions
-- ----------------------------------------------------------------------------

create function private.touch_updated_at() returns trigger
language plpgsql set search_path = ''
as $$
begin
  new.updated_at := kijko.now();
  return new;
end
$$;
comment on function private.touch_updated_at() is 'Trigger: updated_at follows product time, whatever the statement says.';

create function private.refuse_identity_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
  perform kijko.fail('permission_denied', format('%s: id, org_id and created_by never change', tg_table_name));
  return null;
end
$$;
comment on function private.refuse_identity_change() is 'Trigger: a row never moves to another organization or author, not even by service_role. The trigger''s WHEN lets created_by become null when a user is deleted.';

create function private.slugify(name text) returns text
language sql immutable parallel safe set search_path = ''
return coalesce(
  nullif(pg_catalog.btrim(pg_catalog."left"(pg_catalog.btrim(pg_catalog.regexp_replace(pg_catalog.lower(name), '[^a-z0-9]+', '-', 'g'), '-'), 48), '-'), ''),
  'untitled'
);
comment on function private.slugify(text) is 'URL part made from a name: lower case letters, digits and single hyphens, at most 48.';
grant execute on function private.slugify(text) to authenticated, service_role;
