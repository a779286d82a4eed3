-- ============================================================================
-- Subjects of limits: the tiers of users, and the removal of deleted subjects.
--
-- An organization's subject is its id. Every other subject is kijko.subject(kind, id),
-- so that an id of one kind cannot pass for another's.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- A user's tier is the best plan among their organizations. Each of their requests
-- counts against its rate, whichever organization it names.
-- ----------------------------------------------------------------------------

create function private.plans_push_user_tiers(users uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- As private.plans_push_limits.
set plan_cache_mode = force_generic_plan
as $$
begin
  if users = '{}' then
    return;
  end if;
  -- Serializes changes of one user: the later one reads what the earlier one has committed. By id, so that two changes of
  -- several users do not deadlock.
  perform 1 from public.profiles as p where p.id = any (users) order by p.id for no key update;
  perform kijko.set_tier(kijko.subject('user', u.id), (
    select s.plan
    from public.memberships as m
    join public.subscriptions as s on s.org_id = m.org_id
    join public.plans as p on p.code = s.plan
    where m.user_id = u.id
    order by p.rank desc
    limit 1
  ))
  from (select distinct unnest(users)) as u (id);
end
$$;
comment on function private.plans_push_user_tiers(uuid[]) is 'Sets the tier of users by their organizations'' plans. Definer: only the domain may set tiers.';

create function private.plans_sync_member_tiers() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- The transition table has the same name in both triggers: the inserted rows, or the deleted ones.
  perform private.plans_push_user_tiers(array(select c.user_id from changed as c));
  return null;
end
$$;
comment on function private.plans_sync_member_tiers() is 'Trigger: the tiers of users follow their memberships. Definer: as private.plans_push_user_tiers.';
-- The user of a membership never changes (memberships_identity), so updates need no trigger.
create trigger memberships_user_tiers_insert after insert on public.memberships
  referencing new table as changed for each statement execute function private.plans_sync_member_tiers();
create trigger memberships_user_tiers_delete after delete on public.memberships
  referencing old table as changed for each statement execute function private.plans_sync_member_tiers();

create function private.plans_sync_subscription_tiers() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.plans_push_user_tiers(array(select m.user_id from public.memberships as m where m.org_id = coalesce(new.org_id, old.org_id)));
  return null;
end
$$;
comment on function private.plans_sync_subscription_tiers() is 'Trigger: the tiers of members follow the plan of their organization. Definer: as private.plans_push_user_tiers.';
create trigger subscriptions_user_tiers after insert or delete on public.subscriptions
  for each row execute function private.plans_sync_subscription_tiers();
create trigger subscriptions_user_tiers_update after update on public.subscriptions
  for each row when (old.plan <> new.plan)
  execute function private.plans_sync_subscription_tiers();

create function private.plans_sync_all_tiers() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.plans_push_user_tiers(array(select m.user_id from public.memberships as m));
  return null;
end
$$;
comment on function private.plans_sync_all_tiers() is 'Trigger: reordering the plans changes the best plan of users. Definer: as private.plans_push_user_tiers.';
create trigger plans_user_tiers after update of rank on public.plans
  for each statement execute function private.plans_sync_all_tiers();

-- ----------------------------------------------------------------------------
-- A deleted subject leaves no limits behind. Its use stays in the ledger, which is accounting and has no foreign keys.
-- ----------------------------------------------------------------------------

create function private.plans_forget_subject() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.forget_subject(kijko.subject(tg_argv[0], old.id));
  return null;
end
$$;
comment on function private.plans_forget_subject() is 'Trigger: deletes the limits, the tier and the other state of a deleted subject in the extension; the argument is its kind. Definer: only the domain may change limits.';
-- After the cascades, which still change gauges: triggers fire by name, and those of constraints sort first.
create trigger organizations_forget after delete on public.organizations
  for each row execute function private.plans_forget_subject('organization');
create trigger profiles_forget after delete on public.profiles
  for each row execute function private.plans_forget_subject('user');
