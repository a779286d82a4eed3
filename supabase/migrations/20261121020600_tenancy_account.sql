-- ============================================================================
-- Tenancy: what a person does with their own account: see and end sessions, delete the account.
-- ============================================================================

create function public.list_sessions() returns table (
  id uuid, created_at timestamptz, last_seen_at timestamptz, user_agent text, ip_address text, aal text, is_current boolean
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
begin
  return query
  select s.id, s.created_at, coalesce(s.refreshed_at at time zone 'UTC', s.created_at), s.user_agent, host(s.ip), s.aal::text,
    s.id = kijko.session_id()
  from auth.sessions as s
  where s.user_id = me and (s.not_after is null or s.not_after > kijko.now())
  order by 3 desc, s.id;
end
$$;
comment on function public.list_sessions() is 'The caller''s sessions, the one used last first: device, address, when it was last seen. Definer: users cannot read auth.sessions. Nullable: user_agent, ip_address, aal, is_current.';
grant execute on function public.list_sessions() to authenticated;

create function public.end_session(session_id uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
begin
  -- The user is notified on the other devices.
  perform set_config('kijko_notifications.session_end', 'ended_elsewhere', true);
  delete from auth.sessions as s where s.id = end_session.session_id and s.user_id = me;
  if not found then
    perform kijko.fail('not_found', 'session_id: not a session of the caller');
  end if;
end
$$;
comment on function public.end_session(uuid) is 'Signs the caller out on one device: its tokens are refused from the next request on. Definer: users cannot write auth.sessions.';
grant execute on function public.end_session(uuid) to authenticated;

-- Both the session and the token must have the second factor: a token from before it does not gain what its session has by now, and
-- one from before the factor was removed is not that of a new one.
create function private.tenancy_require_second_factor(person uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select 1 from auth.mfa_factors as f where f.user_id = person and f.status = 'verified')
    and (kijko.claim('aal') is distinct from 'aal2' or not exists (
      select 1 from auth.sessions as s where s.id = kijko.session_id() and s.user_id = person and s.aal > 'aal1'
    ))
  then
    perform kijko.fail('insufficient_aal', 'the second factor is missing', 'Verify the second factor and repeat the request.');
  end if;
end
$$;
comment on function private.tenancy_require_second_factor(uuid) is 'Refuses with insufficient_aal a user who has a second factor and calls without it. Definer: users cannot read auth.';

-- A stolen access token, or a browser left open, must not be enough: the sign-in has to be fresh, and of two factors if there are two.
create function private.tenancy_require_fresh_sign_in(person uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select 1 from auth.sessions as s
    where s.id = kijko.session_id() and s.user_id = person and s.created_at >= kijko.now() - interval '1 hour'
  ) then
    perform kijko.fail('permission_denied', 'the sign-in is older than an hour', 'Sign in again and repeat the request.');
  end if;
  perform private.tenancy_require_second_factor(person);
end
$$;
comment on function private.tenancy_require_fresh_sign_in(uuid) is 'Refuses with permission_denied unless the caller signed in within the last hour, and with insufficient_aal without the second factor if there is one. Definer: users cannot read auth.sessions.';

-- Lock order: sessions, then the user (a refresh locks in that order), then organizations, by the triggers of the deletion.
create function public.delete_account() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
begin
  perform private.tenancy_require_fresh_sign_in(me);
  delete from auth.sessions as s where s.user_id = me;
  delete from auth.users as u where u.id = me;
end
$$;
comment on function public.delete_account() is 'Deletes the caller''s account. Of their organizations those without other members go; where no owner remains, the member with the highest role, and of these the oldest, becomes owner. Definer: users cannot delete from auth.users.';
grant execute on function public.delete_account() to authenticated;
