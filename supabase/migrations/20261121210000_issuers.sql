-- ============================================================================
-- Issuers: an organization lets its own login server say who its members are.
--
--   1. An owner enrols an issuer: its URL, the audiences of its tokens, and which of their values stand for which role. The extension
--      fetches its keys (kijko.issuers) and fetches them again in time.
--   2. A request with a token of it is checked by the extension. private.issuers_admit() then looks whether the user may go on.
--   3. The first request of a subject is provision(): it makes a user and a membership. An identity is the issuer and its subject. No
--      address leads to an existing user.
-- An issuer speaks for the organization that enrolled it. So its users are members there and nowhere else.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Enrolments
-- ----------------------------------------------------------------------------

create table private.issuer_enrolments (
  id uuid primary key,
  org_id uuid not null references public.organizations (id) on delete cascade check (org_id <> kijko.platform_org_id()),
  url text not null check (char_length(url) <= 500),
  settings jsonb not null check (private.json_fits(settings, 60000)),
  created_by uuid references auth.users (id) on delete set null,
  created_by_key uuid,
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, url)
);
create index issuer_enrolments_created_by_idx on private.issuer_enrolments (created_by);
comment on table private.issuer_enrolments is 'Who enrolled which issuer for which organization. The extension has what requests need, in kijko.issuers; a row that is deleted here is deleted there.';
comment on column private.issuer_enrolments.id is 'The enrolment: kijko.issuers.id.';
comment on column private.issuer_enrolments.org_id is 'The organization for which the issuer speaks.';
comment on column private.issuer_enrolments.url is 'The issuer identifier: iss of its tokens.';
comment on column private.issuer_enrolments.settings is 'What the enrolment says, as list_issuers() returns it.';
comment on column private.issuer_enrolments.created_by is 'User who enrolled it; null after that user is deleted.';
comment on column private.issuer_enrolments.created_by_key is 'API key that enrolled it; null for a user.';
comment on column private.issuer_enrolments.created_at is 'When it was enrolled.';
comment on column private.issuer_enrolments.updated_at is 'Last change; set by trigger.';
select private.describe_data('private.issuer_enrolments', '{
  "url, settings": "which login server says who the members are"
}');
alter table private.issuer_enrolments enable row level security;
create trigger issuer_enrolments_touch before update on private.issuer_enrolments
  for each row execute function private.touch_updated_at();

create function private.issuers_on_enrolment_deleted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.delete_issuer(old.id);
  return null;
end
$$;
comment on function private.issuers_on_enrolment_deleted() is 'Trigger: the issuer ends with its enrolment, also when the organization is deleted. Definer: only the domain may delete issuers.';
create trigger issuer_enrolments_deleted after delete on private.issuer_enrolments
  for each row execute function private.issuers_on_enrolment_deleted();

-- ----------------------------------------------------------------------------
-- Members by an issuer
-- ----------------------------------------------------------------------------

create function private.issuers_of_user(member uuid) returns kijko.issuers
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select s.* from kijko.issuer_identities as i join kijko.issuers as s on s.id = i.issuer_id where i.user_id = member
$$;
comment on function private.issuers_of_user(uuid) is 'The issuer that a user comes from; null for a user of our own login. Called by definer functions only.';

create function private.issuers_guard_membership() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  issuer kijko.issuers;
begin
  if tg_op = 'UPDATE' and new.role is not distinct from old.role and new.custom_role_id is not distinct from old.custom_role_id then
    return new;
  end if;
  issuer := private.issuers_of_user(new.user_id);
  if issuer.id is null then
    return new;
  end if;
  if new.org_id <> issuer.org_id then
    perform kijko.fail('permission_denied', 'members by an issuer belong to the organization that enrolled it, and to no other');
  end if;
  -- Ownership is given by an owner, and never by an issuer.
  if tg_op = 'UPDATE' and issuer.owns_roles and 'owner' not in (old.role, new.role)
    and current_setting('kijko_issuers.applies_role', true) is distinct from new.user_id::text
  then
    perform kijko.fail('conflict', 'the issuer of this member decides the role', 'Change it at the issuer, or let the enrolment not own roles.');
  end if;
  return new;
end
$$;
comment on function private.issuers_guard_membership() is 'Trigger: a member by an issuer belongs to no other organization, and has the role that the issuer gives, where it owns roles. Definer: reads the extension''s tables.';
create trigger memberships_issuer before insert or update of role, custom_role_id on public.memberships
  for each row execute function private.issuers_guard_membership();

create function private.issuers_on_user_deleted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.delete_issuer_identity(old.id);
  return null;
end
$$;
comment on function private.issuers_on_user_deleted() is 'Trigger: the identity of a deleted user ends. Definer: the login role may write auth only.';
create trigger kijko_user_identity_deleted after delete on auth.users
  for each row execute function private.issuers_on_user_deleted();
create trigger kijko_user_identity_soft_deleted after update on auth.users
  for each row when (old.deleted_at is null and new.deleted_at is not null) execute function private.issuers_on_user_deleted();

create function private.issuers_set_role(member uuid, org uuid, role text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('kijko_issuers.applies_role', member::text, true);
  update public.memberships as m set role = issuers_set_role.role
  where m.user_id = member and m.org_id = org and m.role <> 'owner' and (m.role <> issuers_set_role.role or m.custom_role_id is not null);
  perform set_config('kijko_issuers.applies_role', '', true);
end
$$;
comment on function private.issuers_set_role(uuid, uuid, text) is 'Gives a member the role that a token of the issuer says; an owner stays one. Called by definer functions only.';

-- ----------------------------------------------------------------------------
-- Before a request
-- ----------------------------------------------------------------------------

-- False for a subject without a membership.
create function private.issuers_check_member(who kijko.issuer_identity, may_write boolean) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  owns_roles constant boolean := (select i.owns_roles from kijko.issuers as i where i.id = who.issuer_id);
  is_gone boolean;
  membership public.memberships;
begin
  select m.* into membership from public.memberships as m where m.user_id = who.user_id and m.org_id = who.org_id;
  if membership.id is null then
    return false;
  end if;
  is_gone := (select u.deleted_at is not null or coalesce(u.banned_until > kijko.now(), false) from auth.users as u where u.id = who.user_id);
  if is_gone is not false then
    perform kijko.fail('not_identified', 'the user is banned or deleted');
  end if;
  if owns_roles and membership.role <> 'owner' and (membership.role <> who.role or membership.custom_role_id is not null) then
    if may_write is true then
      perform private.issuers_set_role(who.user_id, who.org_id, who.role);
    elsif membership.custom_role_id is not null
      or (select r.rank from private.roles as r where r.role = who.role) < (select r.rank from private.roles as r where r.role = membership.role)
    then
      -- What the issuer took away must not be read with. What it gave waits for a request that can write.
      perform kijko.fail('provision_required', 'the issuer has changed the role', 'Call POST rpc/provision once.');
    end if;
  end if;
  return true;
end
$$;
comment on function private.issuers_check_member(kijko.issuer_identity, boolean) is 'Whether a subject is a member: fails for a banned user, and for a token that gives less than the membership has, unless the request may write: then the membership gets the role of the token. Called by definer functions only.';

create function private.issuers_admit() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  is_provisioning constant boolean := current_setting('request.method', true) = 'POST' and current_setting('request.path', true) = '/rpc/provision';
begin
  if not private.issuers_check_member(kijko.issuer_caller(), current_setting('transaction_read_only') = 'off') then
    -- Nobody yet: limited by address, as an unauthenticated request.
    perform kijko.admit_request(null);
    if not is_provisioning then
      perform kijko.fail('provision_required', 'no member has this identity yet', 'Call POST rpc/provision once.');
    end if;
    return;
  end if;
  perform kijko.assume_issuer_user();
  if kijko.admit_cached_member() is not true then
    perform private.requests_admit();
  end if;
end
$$;
comment on function private.issuers_admit() is 'Admits a request with a token of an issuer: its user must be a member, and gets the role of the token where the issuer owns roles. A subject without a member may call provision() and nothing else. Definer: reads memberships, and only the domain may make the user the caller.';

-- ----------------------------------------------------------------------------
-- What clients call
-- ----------------------------------------------------------------------------

create type public.issuer as (
  id uuid, url text, audiences text[], role_claims text[], role_map jsonb, default_role text, org_claim text, org_value text,
  email_domains text[], owns_roles boolean, enabled boolean, status text, error text, verified_at timestamptz, keys_at timestamptz,
  created_at timestamptz, updated_at timestamptz
);
comment on type public.issuer is 'An issuer that the organization enrolled, and how it does.';

create function private.issuers_find(org uuid, id uuid) returns public.issuer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  found_issuer public.issuer;
begin
  select i.* into found_issuer from kijko.list_issuers(org) as i where i.id = issuers_find.id;
  return found_issuer;
end
$$;
comment on function private.issuers_find(uuid, uuid) is 'An issuer of the organization; null when it has no such one. Called by definer functions only.';

-- Whoever enrols an issuer lets it give these roles, so they must be the caller's to give.
create function private.issuers_check_roles(org uuid, role_map jsonb, default_role text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  given text;
begin
  for given in
    select distinct r.role from private.roles as r
    where r.role = issuers_check_roles.default_role
      or r.role in (select v.value from jsonb_each_text(case jsonb_typeof(issuers_check_roles.role_map) when 'object' then issuers_check_roles.role_map end) as v)
  loop
    perform private.tenancy_check_grant(org, given, array(select private.tenancy_role_permissions(given, null)));
  end loop;
end
$$;
comment on function private.issuers_check_roles(uuid, jsonb, text) is 'Fails with permission_denied unless the caller may give every role that the issuer could give. Called by definer functions only.';

create function private.issuers_save(
  org uuid, url text, audiences text[], role_claims text[], role_map jsonb, default_role text, org_claim text, org_value text,
  email_domains text[], owns_roles boolean, enabled boolean
) returns public.issuer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  issuer_id uuid;
  saved public.issuer;
begin
  if not private.json_fits(role_map, 20000) then
    perform kijko.fail('invalid_input', 'role_map: at most 20,000 bytes');
  end if;
  perform private.issuers_check_roles(org, role_map, default_role);
  issuer_id := kijko.put_issuer(
    org, url, audiences, coalesce(role_claims, '{}'), coalesce(role_map, '{}'), default_role, org_claim, org_value, email_domains,
    coalesce(owns_roles, true), coalesce(enabled, true)
  );
  saved := private.issuers_find(org, issuer_id);
  insert into private.issuer_enrolments (id, org_id, url, settings, created_by, created_by_key)
  values (
    saved.id, org, saved.url, to_jsonb(saved) - array['id', 'url', 'status', 'error', 'verified_at', 'keys_at', 'created_at', 'updated_at'],
    kijko.user_id(), kijko.api_key_id()
  )
  on conflict on constraint issuer_enrolments_pkey do update set settings = excluded.settings;
  return saved;
end
$$;
comment on function private.issuers_save(uuid, text, text[], text[], jsonb, text, text, text, text[], boolean, boolean) is 'Stores an enrolment, here and in the extension. Called by definer functions only.';

create function public.enroll_issuer(
  url text, audiences text[], role_claims text[] default '{}', role_map jsonb default '{}', default_role text default null,
  org_claim text default null, org_value text default null, email_domains text[] default null, owns_roles boolean default true
) returns public.issuer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  max_issuers constant integer := 10;
  org constant uuid := private.tenancy_require_org_with('issuers:write');
begin
  perform private.plans_require(org, 'sso');
  perform 1 from public.organizations as o where o.id = org for no key update;
  if exists (select 1 from private.issuer_enrolments as e where e.org_id = org and e.url = enroll_issuer.url) then
    perform kijko.fail('conflict', 'the organization has enrolled this issuer already', 'Change it by update_issuer().');
  end if;
  if (select count(*) from private.issuer_enrolments as e where e.org_id = org) >= max_issuers then
    perform kijko.fail('conflict', format('an organization has at most %s issuers', max_issuers));
  end if;
  return private.issuers_save(
    org, enroll_issuer.url, enroll_issuer.audiences, enroll_issuer.role_claims, enroll_issuer.role_map, enroll_issuer.default_role,
    enroll_issuer.org_claim, enroll_issuer.org_value, enroll_issuer.email_domains, enroll_issuer.owns_roles, true
  );
end
$$;
comment on function public.enroll_issuer(text, text[], text[], jsonb, text, text, text, text[], boolean) is 'Lets the tokens of a login server sign members of the organization of the request in. Its keys are fetched by discovery; until then its status is pending. A token needs one of the audiences. A value of the claims in role_claims that role_map has gives its role, at most admin; default_role is for tokens without one. Definer: users may not write issuers.';
grant execute on function public.enroll_issuer(text, text[], text[], jsonb, text, text, text, text[], boolean) to authenticated;

create function public.update_issuer(id uuid, changes jsonb) returns public.issuer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org_with('issuers:write');
  former public.issuer;
  next public.issuer;
  unknown text;
begin
  perform 1 from public.organizations as o where o.id = org for no key update;
  former := private.issuers_find(org, update_issuer.id);
  if former.id is null then
    perform kijko.fail('not_found');
  end if;
  if jsonb_typeof(changes) is distinct from 'object' then
    perform kijko.fail('invalid_input', 'changes: an object');
  end if;
  select min(k.key) into unknown from jsonb_object_keys(changes) as k (key)
  where k.key not in ('audiences', 'role_claims', 'role_map', 'default_role', 'org_claim', 'org_value', 'email_domains', 'owns_roles', 'enabled');
  if unknown is not null then
    perform kijko.fail('invalid_input', format('changes: %s cannot be changed', left(unknown, 60)));
  end if;
  begin
    next := jsonb_populate_record(former, changes);
  exception when data_exception or invalid_parameter_value then
    perform kijko.fail('invalid_input', 'changes: a value of the wrong type');
  end;
  return private.issuers_save(
    org, former.url, next.audiences, next.role_claims, next.role_map, next.default_role, next.org_claim, next.org_value,
    next.email_domains, next.owns_roles, next.enabled
  );
end
$$;
comment on function public.update_issuer(uuid, jsonb) is 'Changes what an enrolment of the organization of the request says: an object of audiences, role_claims, role_map, default_role, org_claim, org_value, email_domains, owns_roles and enabled. The URL stays. Also asks the issuer for its keys again. Definer: users may not write issuers.';
grant execute on function public.update_issuer(uuid, jsonb) to authenticated;

create function public.remove_issuer(id uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org_with('issuers:write');
  members uuid[];
begin
  perform 1 from public.organizations as o where o.id = org for no key update;
  if not exists (select 1 from private.issuer_enrolments as e where e.id = remove_issuer.id and e.org_id = org) then
    perform kijko.fail('not_found');
  end if;
  members := array(select i.user_id from kijko.issuer_identities as i where i.issuer_id = remove_issuer.id order by i.user_id);
  if exists (select 1 from public.memberships as m where m.org_id = org and m.user_id = any (members) and m.role = 'owner') then
    perform kijko.fail('conflict', 'a member by this issuer is an owner', 'Let them hand the ownership over first.');
  end if;
  delete from private.issuer_enrolments as e where e.id = remove_issuer.id;
  -- Nobody can be one of these users again.
  delete from auth.users as u where u.id = any (members);
end
$$;
comment on function public.remove_issuer(uuid) is 'Ends an enrolment of the organization of the request. The users who came by it are deleted, since nobody can sign in as one of them again. To keep them, disable the issuer by update_issuer(). Definer: users may not write issuers.';
grant execute on function public.remove_issuer(uuid) to authenticated;

create function public.list_issuers() returns setof public.issuer
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org_with('issuers:read');
begin
  return query select i.* from kijko.list_issuers(org) as i;
end
$$;
comment on function public.list_issuers() is 'The issuers of the organization of the request, and how they do: pending before the first keys, active, failing while their keys cannot be fetched (known keys stay in use), or disabled. Definer: users may not read the extension''s tables.';
grant execute on function public.list_issuers() to authenticated;

create function public.provision() returns public.memberships
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  who constant kijko.issuer_identity := kijko.issuer_caller();
  member uuid;
  membership public.memberships;
begin
  if who.issuer_id is null then
    perform kijko.fail('permission_denied', 'only for tokens of an issuer that an organization has enrolled');
  end if;
  -- Two first requests of one subject: the second finds what the first has made.
  perform pg_advisory_xact_lock(hashtextextended(who.issuer_id::text || who.subject, 0));
  member := (select i.user_id from kijko.issuer_identities as i where i.issuer_id = who.issuer_id and i.subject = who.subject);
  if member is null then
    member := gen_random_uuid();
    -- Without an address: one that only the issuer knows of confirms nothing here, and must not be taken for another user's.
    insert into auth.users (instance_id, id, aud, role, is_sso_user, raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
    values (
      '00000000-0000-0000-0000-000000000000', member, 'authenticated', 'authenticated', true,
      jsonb_build_object('provider', 'issuer', 'providers', jsonb_build_array('issuer'), 'issuer_id', who.issuer_id),
      jsonb_strip_nulls(jsonb_build_object('name', "left"(who.name, 200))), kijko.now(), kijko.now()
    );
    perform kijko.put_issuer_identity(who.issuer_id, who.subject, member);
  elsif exists (select 1 from auth.users as u where u.id = member and (u.deleted_at is not null or u.banned_until > kijko.now())) then
    perform kijko.fail('not_identified', 'the user is banned or deleted');
  end if;
  select m.* into membership from public.memberships as m where m.user_id = member and m.org_id = who.org_id;
  if membership.id is null then
    begin
      insert into public.memberships (org_id, user_id, role, custom_role_id)
      select who.org_id, member, e.role, e.custom_role_id from private.issuers_entry_role(who, member) as e
      returning * into membership;
    exception when sqlstate 'PGRST' or sqlstate 'KJ429' then
      if sqlstate = 'PGRST' and sqlerrm::jsonb ->> 'code' <> 'quota_exceeded' then
        raise;
      end if;
      -- The gauge's own refusal names the number of members, which a non-member must not learn.
      perform kijko.fail('quota_exceeded', 'the organization has no free seat', 'Ask an administrator to make room.');
    end;
  end if;
  return membership;
end
$$;
comment on function public.provision() is 'Makes the subject of an issuer''s token a user and a member of the organization that enrolled it, with the role that the token gives (or had when they left, where the issuer does not own roles), and returns the membership. A repeated call returns the same one. Definer: users may not insert memberships.';
grant execute on function public.provision() to authenticated;
