-- ============================================================================
-- Invitations: users become members by accepting one.
--
-- A user who may invite creates an invitation. Its token goes to the address by mail, and the user may pass it on, too. A
-- signed-in user who presents the token may accept.
-- Where login confirms addresses, the user's confirmed address must be that of the invitation. Otherwise the address is a label
-- in the list of invitations: it is not compared with an account and proves nothing.
-- Lock order: users, then the organization, then the invitation.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- invitations
-- ----------------------------------------------------------------------------

create table public.invitations (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  email text not null check (char_length(email) <= 320 and email ~ '^[^[:space:][:cntrl:]@]+@[^[:space:][:cntrl:]@]+$' and email = lower(email collate "C")),
  role text not null check (role in ('viewer', 'member', 'admin', 'owner')),
  custom_role_id uuid,
  status text not null default 'pending' check (status in ('pending', 'accepted', 'declined', 'revoked')),
  sent_at timestamptz not null default kijko.now(),
  sent_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  expires_at timestamptz not null default kijko.now() + interval '7 days',
  accepted_by uuid references auth.users (id) on delete set null,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  check (status = 'accepted' or accepted_by is null),
  -- As in memberships. A deleted role ends its open invitations first; ended ones keep the base role.
  foreign key (org_id, custom_role_id, role) references public.custom_roles (org_id, id, base_role) on update cascade on delete set null (custom_role_id)
);
-- One pending invitation for each address; a new one replaces it.
create unique index invitations_pending_key on public.invitations (org_id, email) where status = 'pending';
create index invitations_accepted_by_idx on public.invitations (accepted_by);
create index invitations_sent_by_idx on public.invitations (sent_by);
create index invitations_custom_role_id_idx on public.invitations (org_id, custom_role_id, role) where custom_role_id is not null;

comment on table public.invitations is 'Invitations to an organization. Written by invite_member(), resend_invitation(), accept_invitation(), decline_invitation() and revoke_invitation(); open while pending and not expired.';
comment on column public.invitations.id is 'Identity of the row; resend_invitation() and revoke_invitation() take it.';
comment on column public.invitations.org_id is 'Organization that the invitee joins.';
comment on column public.invitations.email is 'Address of the invitee, in lower case. Where login confirms addresses, only a user with this confirmed address may accept. Otherwise a label.';
comment on column public.invitations.role is 'Role that the new member will have; the base role of a custom one.';
comment on column public.invitations.custom_role_id is 'Custom role that the new member will have; null for a built-in one.';
comment on column public.invitations.status is 'pending, accepted, declined or revoked. A pending one whose expires_at has passed has expired.';
comment on column public.invitations.sent_at is 'When its token was issued: by invite_member(), or last by resend_invitation().';
comment on column public.invitations.sent_by is 'User to whom the token was issued. Must still be allowed to grant the role when the invitation is accepted. Null after that user is deleted.';
comment on column public.invitations.expires_at is 'It cannot be accepted from then on.';
comment on column public.invitations.accepted_by is 'User who accepted it; null after that user is deleted.';
comment on column public.invitations.created_by is 'User who first invited the address; null after that user is deleted.';
comment on column public.invitations.created_by_key is 'API key that created it; null for a user.';
comment on column public.invitations.created_at is 'When it was created.';
comment on column public.invitations.updated_at is 'Last change; set by trigger.';

-- invite_member() keeps at most 100 open and 100 ended ones.
select private.make_tenant_table('public.invitations', resource => 'members', writable => '{}', max_rows => 200, catalogue => '{
  "email": {"subject": "person", "purpose": "shows managers of members whom they invited", "export": "organization", "erasure": "person"},
  "role, custom_role_id": "role that the invitee gets",
  "status, expires_at": "whether it can be accepted",
  "sent_at": "age of the token",
  "sent_by": {"subject": "person", "purpose": "whose rights the invitation rests on", "export": "organization"},
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

create table private.invitation_settings (
  id boolean primary key default true check (id),
  bind_to_address boolean
);
insert into private.invitation_settings default values;
comment on table private.invitation_settings is 'One row: what the operator says about invitations.';
comment on column private.invitation_settings.id is 'Always true: there is one row.';
comment on column private.invitation_settings.bind_to_address is 'True: only a user whose confirmed address is that of the invitation may accept. False: any user with the token. Null, the default, is true where the login of a plain Postgres confirms addresses by mail (auth_api.settings.mailer_autoconfirm is false). Only for a login that does so: sign-up that confirms any address at once proves nothing.';
select private.describe_data('private.invitation_settings', '{
  "id, bind_to_address": "whether invitations are bound to addresses"
}', 'platform');

alter table private.invitation_settings enable row level security;

create type public.issued_invitation as (id uuid, org_id uuid, email text, role text, custom_role_id uuid, expires_at timestamptz, token text);
comment on type public.issued_invitation is 'Result of invite_member() and resend_invitation(): the invitation with its token. No other function returns the token.';

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
  hash constant bytea := private.invitations_token_hash(token);
  invitation_id uuid;
  inviter uuid;
  invitation public.invitations;
begin
  select i.id, i.sent_by into invitation_id, inviter
  from private.invitation_tokens as t
  join public.invitations as i on i.id = t.invitation_id
  where t.token_hash = hash;
  -- Users before organizations: a deletion of either locks in this order.
  perform 1 from auth.users as u where u.id in (me, inviter) order by u.id for share;
  if not exists (select 1 from auth.users as u where u.id = me and u.deleted_at is null) then
    perform kijko.fail('not_identified');
  end if;
  invitation := private.invitations_lock(invitation_id);
  if not exists (select 1 from private.invitation_tokens as t where t.token_hash = hash and t.invitation_id = invitation.id) then
    return null; -- sent again meanwhile: the invitation has another token
  end if;
  return invitation;
end
$$;
comment on function private.invitations_lock_by_token(text) is 'Locks the caller, the inviter and the organization. Returns the invitation of a token, or null.';

create function private.invitations_is_open(invitation public.invitations) returns boolean
language sql stable parallel safe set search_path = pg_catalog, pg_temp
as $$ select coalesce(invitation.status = 'pending' and invitation.expires_at > kijko.now(), false) $$;
comment on function private.invitations_is_open(public.invitations) is 'Whether the invitation can still be accepted or declined; false for null.';

create function private.invitations_are_bound() returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  said constant boolean := (select s.bind_to_address from private.invitation_settings as s);
begin
  if said is not null then
    return said;
  elsif to_regclass('auth_api.settings') is null then
    return false; -- Supabase: the database does not know what GoTrue confirms
  end if;
  return (select not s.mailer_autoconfirm from auth_api.settings as s);
end
$$;
comment on function private.invitations_are_bound() is 'Whether invitations are bound to confirmed addresses: by private.invitation_settings, else by the settings of login.';

create function private.invitations_is_addressed_to(invitation public.invitations, invitee uuid) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return not private.invitations_are_bound() or exists (
    select 1 from auth.users as u
    where u.id = invitee and u.email_confirmed_at is not null and not u.is_anonymous and lower(u.email collate "C") = invitation.email
  );
end
$$;
comment on function private.invitations_is_addressed_to(public.invitations, uuid) is 'Whether the user may accept the invitation as far as its address goes.';

create function private.invitations_limit_sender(sender uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.limit_rate('invite:' || sender, 100, interval '1 hour', 'a user sends at most %s invitations an hour');
end
$$;
comment on function private.invitations_limit_sender(uuid) is 'Counts an invitation that a user creates or sends again, and fails with rate_limited above the limit.';

create function private.invitations_limit_org(org uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.limit_rate('invite:' || org, 300, interval '1 hour', 'an organization sends at most %s invitations an hour');
end
$$;
comment on function private.invitations_limit_org(uuid) is 'Counts an invitation of an organization that is created or sent again, and fails with rate_limited above the limit.';

create function private.invitations_issue_token(invitation public.invitations) returns public.issued_invitation
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  -- Two random uuids are 244 bits of the server's strong source.
  token constant text := 'kji_' || replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
begin
  insert into private.invitation_tokens as t (invitation_id, token_hash)
  values (invitation.id, private.invitations_token_hash(token))
  on conflict (invitation_id) do update set token_hash = excluded.token_hash;
  perform private.mail_send_invitation(invitation, token);
  return (
    invitation.id, invitation.org_id, invitation.email, invitation.role, invitation.custom_role_id, invitation.expires_at, token
  )::public.issued_invitation;
end
$$;
comment on function private.invitations_issue_token(public.invitations) is 'Gives an invitation a new token, sends it by mail and returns it. An earlier one stops working.';

create function private.invitations_make_room(org uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  max_open constant integer := 100;
  max_ended constant integer := 100;
begin
  if (select count(*) from public.invitations as i where i.org_id = org and private.invitations_is_open(i)) >= max_open then
    perform kijko.fail('quota_exceeded', format('%s invitations are open', max_open), 'Revoke one, or wait until it is answered.');
  end if;
  -- Ended invitations stay in the list, up to a bound.
  delete from public.invitations as i
  where i.id = any (array(
    select e.id from public.invitations as e where e.org_id = org and not private.invitations_is_open(e) order by e.updated_at desc, e.id offset max_ended
  ));
end
$$;
comment on function private.invitations_make_room(uuid) is 'Fails with quota_exceeded if the organization has too many open invitations, and deletes the oldest of too many ended ones. The caller has locked the organization.';

create function private.invitations_lock_managed(invitation_id uuid) returns public.invitations
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  me constant uuid := private.tenancy_require_user();
  invitation public.invitations;
begin
  -- Before the lock, so that a non-member who knows an id cannot lock the organization.
  if not exists (
    select 1 from public.invitations as i
    where i.id = invitation_id and i.org_id = any (array(select private.org_ids_with('members:read')))
  ) then
    perform kijko.fail('not_found');
  end if;
  invitation := private.invitations_lock(invitation_id);
  if invitation.id is null then
    perform kijko.fail('not_found');
  end if;
  if not private.tenancy_may_grant_role(me, invitation.org_id, invitation.role, invitation.custom_role_id) then
    perform kijko.fail('permission_denied', 'you may not grant the role of this invitation');
  end if;
  if invitation.status <> 'pending' then
    perform kijko.fail('conflict', format('the invitation is %s already', invitation.status));
  end if;
  return invitation;
end
$$;
comment on function private.invitations_lock_managed(uuid) is 'Locks the organization of a pending invitation that the caller may manage, and returns the invitation. Fails with not_found, permission_denied or conflict.';

-- The row of the role is locked: who invites with it has finished, or waits for the organization and will not find it.
create function private.invitations_end_with_role() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  open_ones bigint;
begin
  select count(*) into open_ones
  from public.invitations as i
  where i.org_id = old.org_id and i.custom_role_id = old.id and private.invitations_is_open(i)
    and exists (select 1 from public.organizations as o where o.id = old.org_id);
  if open_ones > 0 then
    perform kijko.fail('conflict', format('open invitations that name the role: %s', open_ones), 'Revoke them first.');
  end if;
  -- Expired ones could be sent again.
  update public.invitations as i set status = 'revoked'
  where i.org_id = old.org_id and i.custom_role_id = old.id and i.status = 'pending';
  return old;
end
$$;
comment on function private.invitations_end_with_role() is 'Trigger: refuses the deletion of a role that open invitations name, and revokes its expired ones. Definer: the caller may not see or write invitations.';
create trigger custom_roles_invitations before delete on public.custom_roles
  for each row execute function private.invitations_end_with_role();
