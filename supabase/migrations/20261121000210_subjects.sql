-- ============================================================================
-- Subjects of limits: which tier a user is in, and what becomes of the limits of
-- whoever is gone.
--
-- An organization is a subject by its id. Everything else is one by
-- kijko.subject(kind, id), so that no id of one kind can pass for another's.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- A user's tier is the best plan among their organizations: their own requests
-- count against its rate, whichever organization they name.
-- ----------------------------------------------------------------------------

create function private.push_user_tiers(users uuid[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- Changes that concern one user take turns, and the later one reads what the earlier one has committed. In one order, or two
  -- changes of several users would wait for each other.
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
comment on function private.push_user_tiers(uuid[]) is 'Sets the tier of users by their organizations'' plans. Definer: only the domain may set tiers.';
revoke all on function private.push_user_tiers(uuid[]) from public, anon, authenticated, service_role;

create function private.follow_memberships() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- The transition table has one name in both triggers: the rows that came, or those that went.
  perform private.push_user_tiers(array(select c.user_id from changed as c));
  return null;
end
$$;
comment on function private.follow_memberships() is 'Trigger: the tiers of users follow their memberships. Definer: as private.push_user_tiers.';
revoke all on function private.follow_memberships() from public, anon, authenticated, service_role;
-- Whose a membership is never changes (memberships_identity), so nothing follows an update.
create trigger memberships_user_tiers_insert after insert on public.memberships
  referencing new table as changed for each statement execute function private.follow_memberships();
create trigger memberships_user_tiers_delete after delete on public.memberships
  referencing old table as changed for each statement execute function private.follow_memberships();

create function private.follow_subscription() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE' and old.plan = new.plan then
    return null;
  end if;
  perform private.push_user_tiers(array(select m.user_id from public.memberships as m where m.org_id = coalesce(new.org_id, old.org_id)));
  return null;
end
$$;
comment on function private.follow_subscription() is 'Trigger: the tiers of members follow the plan of their organization. Definer: as private.push_user_tiers.';
revoke all on function private.follow_subscription() from public, anon, authenticated, service_role;
create trigger subscriptions_user_tiers after insert or update or delete on public.subscriptions
  for each row execute function private.follow_subscription();

create function private.follow_plan_ranks() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.push_user_tiers(array(select m.user_id from public.memberships as m));
  return null;
end
$$;
comment on function private.follow_plan_ranks() is 'Trigger: another order of the plans changes which one is a user''s best. Definer: as private.push_user_tiers.';
revoke all on function private.follow_plan_ranks() from public, anon, authenticated, service_role;
create trigger plans_user_tiers after update of rank on public.plans
  for each statement execute function private.follow_plan_ranks();

-- ----------------------------------------------------------------------------
-- Who is gone leaves no limits behind. What was used stays in the ledger, which is accounting and has no foreign keys.
-- ----------------------------------------------------------------------------

create function private.forget_subject() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.forget_subject(kijko.subject(tg_argv[0], old.id));
  return null;
end
$$;
comment on function private.forget_subject() is 'Trigger: limits, tier and everything else by which the extension knows whoever was deleted go with them; the argument is their kind. Definer: only the domain may change limits.';
revoke all on function private.forget_subject() from public, anon, authenticated, service_role;
-- After the cascades, which still move gauges: constraints' triggers have names that come first.
create trigger organizations_forget after delete on public.organizations
  for each row execute function private.forget_subject('organization');
create trigger profiles_forget after delete on public.profiles
  for each row execute function private.forget_subject('user');
