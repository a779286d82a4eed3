-- The caller, by Supabase's names, on a plain Postgres. Run once by the superuser; safe to run again.
-- Supabase's own versions read the setting request.jwt.claims, which any SQL session can set to anything. These ask the extension, for
-- which claims count only in PostgREST's sessions: everywhere else they return null.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- None has a search_path of its own: policies call them for each row, `set` would keep the planner from inlining them, and every name
-- in them is qualified. They are strings and not `return` bodies, so that the extension can be dropped and made anew beneath them.

create or replace function auth.uid() returns uuid
language sql stable as
$$ select kijko.user_id() $$;
comment on function auth.uid() is 'The id of the calling user; null for an unauthenticated caller, and for a revoked session.';

create or replace function auth.jwt() returns jsonb
language sql stable as
$$ select kijko.claims() $$;
comment on function auth.jwt() is 'All claims of the caller; null for an unauthenticated caller.';

create or replace function auth.role() returns text
language sql stable as
$$ select kijko.claims() ->> 'role' $$;
comment on function auth.role() is 'The role of the caller: anon, authenticated or service_role; null outside the API. Deprecated by Supabase in favour of policies "to" a role.';

create or replace function auth.email() returns text
language sql stable as
$$ select kijko.claims() ->> 'email' $$;
comment on function auth.email() is 'The email address in the caller''s token. Deprecated by Supabase in favour of auth.jwt().';

-- Harmless readers of one's own identity: everybody may call them, as on Supabase.
grant execute on function auth.uid(), auth.jwt(), auth.role(), auth.email() to public;

reset role;
