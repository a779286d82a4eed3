-- ============================================================================
-- Issuers: members who leave and come back.
--
-- A member by an issuer who leaves is provisioned again by the next token. Where the issuer does not own roles, the role is the
-- organization's to give. So the former one is kept: leaving and coming back must not undo a demotion.
-- ============================================================================

create table private.issuer_departures (
  user_id uuid primary key references auth.users (id) on delete cascade,
  organization uuid not null references public.organizations (id) on delete cascade,
  role text not null check (role in ('viewer', 'member', 'admin')),
  custom_role_id uuid,
  departed_at timestamptz not null default kijko.now()
);
create index issuer_departures_organization_idx on private.issuer_departures (organization);
comment on table private.issuer_departures is 'The last role of users by an issuer who are not members any more.';
comment on column private.issuer_departures.user_id is 'The user.';
comment on column private.issuer_departures.organization is 'The organization that they left, the only one that they can belong to.';
comment on column private.issuer_departures.role is 'Their role in it.';
comment on column private.issuer_departures.custom_role_id is 'Their custom role, if they had one. It may be gone by now.';
comment on column private.issuer_departures.departed_at is 'When they left or were removed.';
select private.describe_data('private.issuer_departures', '{
  "user_id": {"subject": "person", "purpose": "who left", "export": "organization", "erasure": "person"},
  "organization, role, custom_role_id, departed_at": "which role they have when they come back"
}');
alter table private.issuer_departures enable row level security;

create function private.issuers_on_departure() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select 1 from kijko.issuer_identities as i where i.user_id = old.user_id) then
    return null;
  end if;
  -- The membership is locked already, so this must not wait for another lock. Only a deletion holds one: then nobody comes back.
  perform 1 from auth.users as u where u.id = old.user_id and u.deleted_at is null for key share skip locked;
  if not found then
    return null;
  end if;
  perform 1 from public.organizations as o where o.id = old.org_id for key share skip locked;
  if not found then
    return null;
  end if;
  insert into private.issuer_departures as d (user_id, organization, role, custom_role_id) values (old.user_id, old.org_id, old.role, old.custom_role_id)
  on conflict on constraint issuer_departures_pkey do update
  set role = excluded.role, custom_role_id = excluded.custom_role_id, departed_at = excluded.departed_at;
  return null;
end
$$;
comment on function private.issuers_on_departure() is 'Trigger: keeps the role of a member by an issuer who leaves or is removed. Not that of an owner, who was made one by an owner. Definer: nobody else writes the table.';
create trigger memberships_departure after delete on public.memberships
  for each row when (old.role <> 'owner') execute function private.issuers_on_departure();

create function private.issuers_entry_role(who kijko.issuer_identity, member uuid, out role text, out custom_role_id uuid)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  departure private.issuer_departures;
begin
  role := who.role;
  delete from private.issuer_departures as d where d.user_id = member returning d.* into departure;
  if departure.user_id is null or (select i.owns_roles from kijko.issuers as i where i.id = who.issuer_id) then
    return;
  end if;
  role := departure.role;
  if departure.custom_role_id is not null then
    custom_role_id := (select r.id from public.custom_roles as r where r.org_id = who.org_id and r.id = departure.custom_role_id);
    -- A custom role that is gone may have held less than any built-in role.
    role := case when custom_role_id is null then 'viewer' end;
  end if;
end
$$;
comment on function private.issuers_entry_role(kijko.issuer_identity, uuid) is 'The role with which a subject becomes a member: that of the token, or, where the issuer does not own roles, the one that they had when they left. Called by definer functions only.';
