-- ============================================================================
-- Notifications: what ends a subscription at once, or begins one.
--
-- The service of realtime listens to kijko_realtime_access, asks the database again for every socket of that caller, and ends what is
-- no longer allowed. The payload names one of user_id, session_id, api_key_id and org_id. It is sent when the transaction
-- commits, and Postgres sends equal ones of a transaction once. On Supabase nobody listens: there a token's channels end with the token.
-- ============================================================================

create function private.notifications_access_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  gone constant jsonb := case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
begin
  -- The arguments: the key of the payload, and the column that has its value.
  perform pg_notify('kijko_realtime_access', jsonb_build_object(tg_argv[0], gone ->> tg_argv[1])::text);
  return null;
end
$$;
comment on function private.notifications_access_changed() is 'Trigger: says that the access of a user, session, API key or organization has changed; its arguments name which and the column with its id. Definer: the login role and clients call it by their statements.';

-- A trigger before the update derives sso_required from is_break_glass, so that one is named, too.
create trigger memberships_access after insert or delete or update of role, custom_role_id, mfa_required, sso_required, is_break_glass on public.memberships
  for each row execute function private.notifications_access_changed('user_id', 'user_id');
create trigger custom_roles_access after update of permissions on public.custom_roles
  for each row when (old.permissions is distinct from new.permissions) execute function private.notifications_access_changed('org_id', 'org_id');
create trigger projects_access after delete or update of visibility on public.projects
  for each row execute function private.notifications_access_changed('org_id', 'org_id');
create trigger project_members_access after delete or update of project_id, user_id on public.project_members
  for each row execute function private.notifications_access_changed('user_id', 'user_id');
-- Revoked, narrowed, expired earlier, deleted with its organization, or cut when its maker left.
create trigger api_keys_access after delete or update of revoked_at, permissions, user_id, expires_at on public.api_keys
  for each row execute function private.notifications_access_changed('api_key_id', 'id');
-- Every end of a session is a deletion of its row: sign-out, end_session(), too many of them, a new password, a deleted user.
create trigger kijko_session_access after delete on auth.sessions
  for each row execute function private.notifications_access_changed('session_id', 'id');
create trigger kijko_user_access after update on auth.users
  for each row when (old.banned_until is distinct from new.banned_until or old.deleted_at is distinct from new.deleted_at)
  execute function private.notifications_access_changed('user_id', 'id');
