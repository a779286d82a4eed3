-- ============================================================================
-- Invitations: the functions that clients call.
-- ============================================================================

create function public.invite_member(email text, role text default 'member', custom_role_id uuid default null) returns public.issued_invitation
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  -- ASCII alone, as login lowers addresses: a Kelvin sign would become a k, and so name another person's mailbox.
  address constant text := lower(btrim(invite_member.email) collate "C");
  org uuid;
  granted_role text := invite_member.role;
  invitation public.invitations;
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
  perform private.invitations_limit_sender(me);

  perform 1 from public.organizations as o where o.id = org for no key update;
  if invite_member.custom_role_id is not null then
    -- Waits for a change of the role, and shows its latest base role.
    select r.base_role into granted_role
    from public.custom_roles as r
    where r.org_id = org and r.id = invite_member.custom_role_id
    for share;
    if not found then
      perform kijko.fail('invalid_input', 'custom_role_id: no custom role of this organization');
    end if;
  end if;
  if not private.tenancy_may_grant_role(me, org, granted_role, invite_member.custom_role_id) then
    perform kijko.fail('permission_denied', 'you may not invite with this role');
  end if;
  select i.* into invitation from public.invitations as i where i.org_id = org and i.email = address and i.status = 'pending';
  if private.invitations_is_open(invitation) and not private.tenancy_may_grant_role(me, org, invitation.role, invitation.custom_role_id) then
    perform kijko.fail('permission_denied', 'the open invitation of this address has a role that you may not grant');
  end if;
  perform private.invitations_limit_org(org);
  delete from public.invitations as i where i.id = invitation.id;
  perform private.invitations_make_room(org);

  insert into public.invitations (org_id, email, role, custom_role_id, created_by, sent_by)
  values (org, address, granted_role, invite_member.custom_role_id, me, me)
  returning * into invitation;
  return private.invitations_issue_token(invitation);
end
$$;
comment on function public.invite_member(text, text, uuid) is 'Creates an invitation to the organization of the request and returns its token, once, for the caller to pass on. A custom role counts instead of the role. Replaces an earlier pending invitation of the same address. Definer: users may not write invitations.';
grant execute on function public.invite_member(text, text, uuid) to authenticated;

create function public.resend_invitation(id uuid) returns public.issued_invitation
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  invitation public.invitations;
begin
  -- Lock order: users, then organizations. The foreign key of sent_by would lock the user last.
  perform 1 from auth.users as u where u.id = me for key share;
  perform private.invitations_limit_sender(me);
  invitation := private.invitations_lock_managed(resend_invitation.id);
  perform private.invitations_limit_org(invitation.org_id);
  if not private.invitations_is_open(invitation) then
    perform private.invitations_make_room(invitation.org_id);
  end if;
  update public.invitations as i
  set sent_at = default, sent_by = me, expires_at = default
  where i.id = invitation.id
  returning i.* into invitation;
  if not found then
    perform kijko.fail('not_found'); -- it was the oldest of too many ended ones
  end if;
  return private.invitations_issue_token(invitation);
end
$$;
comment on function public.resend_invitation(uuid) is 'Gives a pending invitation, also an expired one, a new token and the full time, and returns the token, once. The earlier token stops working. From then on the invitation rests on the rights of the caller. Definer: users may not write invitations.';
grant execute on function public.resend_invitation(uuid) to authenticated;

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
  if not private.invitations_is_addressed_to(invitation, me) then
    perform kijko.fail('permission_denied', 'the invitation names another address', 'Sign in with the invited address, and confirm it.');
  end if;
  -- Waits for a change of the role, so that the check sees its latest permissions.
  perform 1 from public.custom_roles as r where r.org_id = invitation.org_id and r.id = invitation.custom_role_id for share;
  if not private.tenancy_may_grant_role(invitation.sent_by, invitation.org_id, invitation.role, invitation.custom_role_id)
    or exists (select 1 from auth.users as u where u.id = invitation.sent_by and u.banned_until > kijko.now())
  then
    perform kijko.fail('permission_denied', 'the inviter may no longer grant this role', 'Ask for a new invitation.');
  end if;
  if membership.id is not null then
    perform kijko.fail('conflict', 'you are a member already; the invitation stays open');
  end if;
  begin
    insert into public.memberships (org_id, user_id, role, custom_role_id, created_by)
    values (invitation.org_id, me, invitation.role, invitation.custom_role_id, invitation.sent_by)
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
comment on function public.accept_invitation(text) is 'Makes the caller a member by the token of an open invitation. The user who sent it must still be allowed to grant its role, and the address must be the caller''s if the operator binds invitations to addresses. A repeated call returns the same membership. Definer: users may not insert memberships.';
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
  invitation public.invitations := private.invitations_lock_managed(revoke_invitation.id);
begin
  update public.invitations as i set status = 'revoked' where i.id = invitation.id returning i.* into invitation;
  return invitation;
end
$$;
comment on function public.revoke_invitation(uuid) is 'Revokes a pending invitation. Its token stops working. Definer: users may not write invitations.';
grant execute on function public.revoke_invitation(uuid) to authenticated;
