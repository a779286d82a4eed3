-- ============================================================================
-- Invitations: users become members by accepting one.
--
-- A user who may invite creates an invitation and passes its token on. Any signed-in user who presents the token may accept.
-- The address is a label in the list of invitations. It is not compared with an account and proves nothing.
-- Lock order: users, then the organization, then the invitation.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- invitations
-- ----------------------------------------------------------------------------

create table public.invitations (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  email text not null check (char_length(email) <= 320 and email ~ '^[^[:space:][:cntrl:]@]+@[^[:space:][:cntrl:]@]+$' and email = lower(email)),
  role text not null check (role in ('viewer', 'member', 'admin', 'owner')),
  status text not null default 'pending' check (status in ('pending', 'accepted', 'declined', 'revoked')),
  expires_at timestamptz not null default kijko.now() + interval '7 days',
  accepted_by uuid references auth.users (id) on delete set null,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  check (status = 'accepted' or accepted_by is null)
);
-- One pending invitation for each address; a new one replaces it.
create unique index invitations_pending_key on public.invitations (org_id, email) where status = 'pending';
create index invitations_accepted_by_idx on public.invitations (accepted_by);

comment on table public.invitations is 'Invitations to an organization. Written by invite_member(), accept_invitation(), decline_invitation() and revoke_invitation(); open while pending and not expired.';
comment on column public.invitations.id is 'Identity of the row; revoke_invitation() takes it.';
comment on column public.invitations.org_id is 'Organization that the invitee joins.';
comment on column public.invitations.email is 'Address of the invitee, in lower case. A label: any user who holds the token may accept.';
comment on column public.invitations.role is 'Role that the new member will have.';
comment on column public.invitations.status is 'pending, accepted, declined or revoked. A pending one whose expires_at has passed has expired.';
comment on column public.invitations.expires_at is 'It cannot be accepted from then on.';
comment on column public.invitations.accepted_by is 'User who accepted it; null after that user is deleted.';
comment on column public.invitations.created_by is 'Inviter. Must still be allowed to grant the role when the invitation is accepted. Null after that user is deleted.';
comment on column public.invitations.created_by_key is 'API key that created it; null for a user.';
comment on column public.invitations.created_at is 'When it was created.';
comment on column public.invitations.updated_at is 'Last change; set by trigger.';

-- invite_member() keeps at most 100 open and 100 ended ones.
select private.make_tenant_table('public.invitations', resource => 'members', writable => '{}', max_rows => 200, catalogue => '{
  "email": {"subject": "person", "purpose": "shows managers of members whom they invited", "export": "organization", "erasure": "organization"},
  "role": "role that the invitee gets",
  "status, expires_at": "whether it can be accepted",
  "accepted_by": {"subject": "person", "purpose": "lets the same user repeat the call", "export": "organization"}
}');

-- Not a column of invitations, whose rows users read.
create table private.invitation_tokens (
  invitation_id uuid primary key references public.invitations (id) on delete cascade,
  token_hash bytea not null unique
);
comment on table private.invitation_tokens is 'Hashes of tokens. A token itself is not stored.';
comment on column private.invitation_tokens.invitation_id is 'The invitation.';
comment on column private.invitation_tokens.token_hash is 'SHA-256 of the token.';
select private.describe_data('private.invitation_tokens', '{
  "invitation_id": {"subject": "organization", "purpose": "which invitation the token opens", "export": "none"},
  "token_hash": "recognizes the token"
}', 'secret');

alter table private.invitation_tokens enable row level security;

create type public.issued_invitation as (id uuid, org_id uuid, email text, role text, expires_at timestamptz, token text);
comment on type public.issued_invitation is 'Result of invite_member(): the invitation with its token. No other function returns the token.';

-- ----------------------------------------------------------------------------
-- Helpers, called by the definer functions below
-- ----------------------------------------------------------------------------

create function private.invitations_token_hash(token text) returns bytea
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$ select sha256(convert_to(token, 'UTF8')) $$;
comment on function private.invitations_token_hash(text) is 'SHA-256 of a token, as it is stored.';

create function private.invitations_lock(invitation_id uuid) returns public.invitations
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  invitation public.invitations;
begin
  perform 1
  from public.organizations as o
  where o.id = (select i.org_id from public.invitations as i where i.id = invitation_id)
  for no key update;
  -- A new snapshot: the invitation may have changed during the wait.
  select i.* into invitation from public.invitations as i where i.id = invitation_id;
  return invitation;
end
$$;
comment on function private.invitations_lock(uuid) is 'Locks the organization of an invitation, so that no other transaction changes its invitations. Returns the current row, or null.';

create function private.invitations_lock_by_token(token text) returns public.invitations
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  invitation_id uuid;
  inviter uuid;
begin
  select i.id, i.created_by into invitation_id, inviter
  from private.invitation_tokens as t
  join public.invitations as i on i.id = t.invitation_id
  where t.token_hash = private.invitations_token_hash(token);
  -- Users before organizations: a deletion of either locks in this order.
  perform 1 from auth.users as u where u.id in (me, inviter) order by u.id for share;
  if not exists (select 1 from auth.users as u where u.id = me and u.deleted_at is null) then
    perform kijko.fail('not_identified');
  end if;
  return private.invitations_lock(invitation_id);
end
$$;
comment on function private.invitations_lock_by_token(text) is 'Locks the caller, the inviter and the organization. Returns the invitation of a token, or null.';

create function private.invitations_is_open(invitation public.invitations) returns boolean
language sql stable parallel safe set search_path = pg_catalog, pg_temp
as $$ select coalesce(invitation.status = 'pending' and invitation.expires_at > kijko.now(), false) $$;
comment on function private.invitations_is_open(public.invitations) is 'Whether the invitation can still be accepted or declined; false for null.';

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create function public.invite_member(email text, role text default 'member') returns public.issued_invitation
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  max_open constant integer := 100;
  max_ended constant integer := 100;
  max_per_hour constant integer := 100;
  me constant uuid := private.tenancy_require_user();
  address constant text := lower(btrim(invite_member.email));
  org uuid;
  verdict kijko.verdict;
  invitation public.invitations;
  -- Two random uuids are 244 bits of the server's strong source.
  token constant text := 'kji_' || replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
begin
  -- Lock order: users, then organizations. The new row's foreign key would lock the user last.
  perform 1 from auth.users as u where u.id = me for key share;
  org := private.tenancy_require_org();
  if address is null or char_length(address) > 320 or address !~ '^[^[:space:][:cntrl:]@]+@[^[:space:][:cntrl:]@]+$' then
    perform kijko.fail('invalid_input', 'email: an address, at most 320 characters');
  end if;
  if not exists (select 1 from private.roles as r where r.role = invite_member.role) then
    perform kijko.fail('invalid_input', 'role: viewer, member, admin or owner');
  end if;
  verdict := kijko.rate_limit('invite:' || me, max_per_hour, interval '1 hour', max_per_hour);
  if verdict.allowed is not true then
    perform kijko.add_header('Retry-After', greatest(verdict.retry_after, 1)::text);
    perform kijko.fail('rate_limited', format('a user creates at most %s invitations an hour', max_per_hour));
  end if;

  perform 1 from public.organizations as o where o.id = org for no key update;
  if not private.tenancy_may_grant_role(me, org, invite_member.role) then
    perform kijko.fail('permission_denied', 'you may not invite with this role');
  end if;
  select i.* into invitation from public.invitations as i where i.org_id = org and i.email = address and i.status = 'pending';
  if private.invitations_is_open(invitation) and not private.tenancy_may_grant_role(me, org, invitation.role) then
    perform kijko.fail('permission_denied', 'the open invitation of this address has a role that you may not grant');
  end if;
  delete from public.invitations as i where i.id = invitation.id;
  if (select count(*) from public.invitations as i where i.org_id = org and private.invitations_is_open(i)) >= max_open then
    perform kijko.fail('quota_exceeded', format('%s invitations are open', max_open), 'Revoke one, or wait until it is answered.');
  end if;
  -- Ended invitations stay in the list, up to a bound.
  delete from public.invitations as i
  where i.id = any (array(
    select e.id from public.invitations as e where e.org_id = org and not private.invitations_is_open(e) order by e.updated_at desc, e.id offset max_ended
  ));

  insert into public.invitations (org_id, email, role, created_by) values (org, address, invite_member.role, me)
  returning * into invitation;
  insert into private.invitation_tokens (invitation_id, token_hash) values (invitation.id, private.invitations_token_hash(token));
  return (invitation.id, invitation.org_id, invitation.email, invitation.role, invitation.expires_at, token)::public.issued_invitation;
end
$$;
comment on function public.invite_member(text, text) is 'Creates an invitation to the organization of the request and returns its token, once, for the caller to pass on. Replaces an earlier pending invitation of the same address. Definer: users may not write invitations.';
grant execute on function public.invite_member(text, text) to authenticated;

create function public.accept_invitation(token text) returns public.memberships
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  invitation constant public.invitations := private.invitations_lock_by_token(token);
  membership public.memberships;
begin
  select m.* into membership from public.memberships as m where m.org_id = invitation.org_id and m.user_id = me;
  if membership.id is not null and invitation.status = 'accepted' and invitation.accepted_by = me then
    return membership; -- a repeated call
  end if;
  if not private.invitations_is_open(invitation) then
    perform kijko.fail('not_found', 'no open invitation has this token', 'Ask for a new one.');
  end if;
  if not private.tenancy_may_grant_role(invitation.created_by, invitation.org_id, invitation.role)
    or exists (select 1 from auth.users as u where u.id = invitation.created_by and u.banned_until > kijko.now())
  then
    perform kijko.fail('permission_denied', 'the inviter may no longer grant this role', 'Ask for a new invitation.');
  end if;
  if membership.id is not null then
    perform kijko.fail('conflict', 'you are a member already; the invitation stays open');
  end if;
  begin
    insert into public.memberships (org_id, user_id, role, created_by)
    values (invitation.org_id, me, invitation.role, invitation.created_by)
    returning * into membership;
  exception when sqlstate 'PGRST' or sqlstate 'KJ429' then
    if sqlstate = 'PGRST' and sqlerrm::jsonb ->> 'code' <> 'quota_exceeded' then
      raise;
    end if;
    -- The gauge's own refusal names the number of members, which a non-member must not learn.
    perform kijko.fail('quota_exceeded', 'the organization has no free seat', 'Ask who invited you to make room.');
  end;
  update public.invitations as i set status = 'accepted', accepted_by = me where i.id = invitation.id;
  return membership;
end
$$;
comment on function public.accept_invitation(text) is 'Makes the caller a member by the token of an open invitation. Its inviter must still be allowed to grant its role. A repeated call returns the same membership. Definer: users may not insert memberships.';
grant execute on function public.accept_invitation(text) to authenticated;

create function public.decline_invitation(token text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  invitation constant public.invitations := private.invitations_lock_by_token(token);
begin
  if not private.invitations_is_open(invitation) then
    perform kijko.fail('not_found', 'no open invitation has this token');
  end if;
  update public.invitations as i set status = 'declined' where i.id = invitation.id;
end
$$;
comment on function public.decline_invitation(text) is 'Ends an open invitation by its token. Definer: users may not write invitations.';
grant execute on function public.decline_invitation(text) to authenticated;

create function public.revoke_invitation(id uuid) returns public.invitations
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  invitation public.invitations;
begin
  -- Before the lock, so that a non-member who knows an id cannot lock the organization.
  if not exists (
    select 1 from public.invitations as i
    where i.id = revoke_invitation.id and i.org_id = any (array(select private.org_ids_with('members:read')))
  ) then
    perform kijko.fail('not_found');
  end if;
  invitation := private.invitations_lock(revoke_invitation.id);
  if invitation.id is null then
    perform kijko.fail('not_found');
  end if;
  if not private.tenancy_may_grant_role(me, invitation.org_id, invitation.role) then
    perform kijko.fail('permission_denied', 'you may not revoke invitations with this role');
  end if;
  if invitation.status <> 'pending' then
    perform kijko.fail('conflict', format('the invitation is %s already', invitation.status));
  end if;
  update public.invitations as i set status = 'revoked' where i.id = invitation.id returning i.* into invitation;
  return invitation;
end
$$;
comment on function public.revoke_invitation(uuid) is 'Revokes a pending invitation. Its token stops working. Definer: users may not write invitations.';
grant execute on function public.revoke_invitation(uuid) to authenticated;
