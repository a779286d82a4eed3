-- ============================================================================
-- Plans: from features and overrides to what the extension enforces.
--
-- The extension keeps limits and entitlements in tables of its own, and reads none of these. Triggers write them in the
-- transaction of the change, so a change counts from the next statement on, and a rollback leaves nothing behind.
-- Every function locks the organization's subscription before it reads, so that of two changes at once the later one sees the
-- earlier one.
-- ============================================================================

create function private.plans_push_entitlements(org uuid) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  current_plan text;
begin
  select s.plan into current_plan from public.subscriptions as s where s.org_id = org for no key update;
  -- A new statement, which sees what was committed before the lock.
  perform kijko.set_entitlements(org, array(
    select f.code
    from public.features as f
    left join public.plan_overrides as o on o.org_id = org and o.feature = f.code and o.ended_at is null
    where coalesce(o.included, exists (select from public.plan_features as p where p.plan = current_plan and p.feature = f.code))
      and current_plan is not null
    order by f.code
  ));
end
$$;
comment on function private.plans_push_entitlements(uuid) is 'Sets the features of an organization by its plan and its overrides. Without a subscription it has none.';

create function private.plans_push_override(org uuid, changed_meter text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  current_plan text;
  line public.plan_limits;
  override public.plan_overrides;
begin
  select s.plan into current_plan from public.subscriptions as s where s.org_id = org for no key update;
  if not found then
    return; -- the organization is being deleted
  end if;
  select o.* into override from public.plan_overrides as o where o.org_id = org and o.meter = changed_meter and o.ended_at is null;
  select l.* into line from public.plan_limits as l
  where l.meter = changed_meter
  order by (l.plan = current_plan) desc, l.plan
  limit 1;
  if override.id is not null then
    line.amount := override.amount;
  elsif line.plan is distinct from current_plan then
    line.amount := null;
  end if;
  if line.meter is not null then
    perform kijko.set_limits(array[org], array[line.meter], array[line.period], array[line.amount], array[line.overage_policy]);
  end if;
end
$$;
comment on function private.plans_push_override(uuid, text) is 'Sets one limit of an organization by its override, else by its plan.';

create function private.plans_check_override() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if new.meter is not null and not exists (select from public.plan_limits as l where l.meter = new.meter) then
    perform kijko.fail('invalid_input', 'meter: no plan limits it');
  elsif tg_op = 'INSERT' and new.ends_at <= kijko.now() or new.ends_at = 'infinity' then
    perform kijko.fail('invalid_input', 'ends_at: a time in future');
  elsif tg_op = 'UPDATE' and (old.meter, old.feature) is distinct from (new.meter, new.feature) then
    perform kijko.fail('conflict', 'an override keeps its meter or feature');
  elsif tg_op = 'UPDATE' and old.ended_at is not null then
    perform kijko.fail('conflict', 'the override has ended');
  end if;
  return new;
end
$$;
comment on function private.plans_check_override() is 'Trigger: refuses an override of a meter that no plan limits, one without an end in future, and changes of an ended one. Definer: it reads the catalogue for whoever writes.';
-- Not of created_by, which becomes null when that user is deleted.
create trigger plan_overrides_check before insert or update of meter, amount, feature, included, reason, ends_at, ended_at on public.plan_overrides
  for each row execute function private.plans_check_override();

create function private.plans_apply_override() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  changed public.plan_overrides := coalesce(new, old);
begin
  if changed.meter is not null then
    perform private.plans_push_override(changed.org_id, changed.meter);
  elsif exists (select from public.organizations as o where o.id = changed.org_id) then
    perform private.plans_push_entitlements(changed.org_id);
  end if;
  return null;
end
$$;
comment on function private.plans_apply_override() is 'Trigger: an override counts from the next statement on. Definer: only the domain may set limits and entitlements.';
create trigger plan_overrides_apply after insert or delete or update of amount, included, ended_at on public.plan_overrides
  for each row execute function private.plans_apply_override();

-- ----------------------------------------------------------------------------
-- Changes of the plan and of the catalogue
-- ----------------------------------------------------------------------------

-- One trigger, since entering each costs as much as a statement.
create function private.plans_apply_plan() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- Planning in each call costs more than the statements, and finds no better plans.
set plan_cache_mode = force_generic_plan
as $$
begin
  perform kijko.set_tier(new.org_id, new.plan);
  perform kijko.set_limits(array_agg(new.org_id), array_agg(l.meter), array_agg(l.period), array_agg(l.amount), array_agg(l.overage_policy))
  from (
    select p.meter, p.period, p.amount, p.overage_policy from public.plan_limits as p where p.plan = new.plan
    union all
    -- A meter that only the former plan limits becomes unlimited. On insert there is no former plan.
    select p.meter, p.period, null, p.overage_policy
    from public.plan_limits as p
    where p.plan = old.plan and not exists (select 1 from public.plan_limits as n where n.plan = new.plan and n.meter = p.meter)
  ) as l
  having count(*) > 0;
  -- Overrides do not depend on the plan, so plans with the same features make no difference.
  if old.plan is null or exists (
    select from public.plan_features as f
    where f.plan in (old.plan, new.plan) group by f.feature having count(*) = 1
  ) then
    perform private.plans_push_entitlements(new.org_id);
  end if;
  perform private.plans_push_override(o.org_id, o.meter)
  from public.plan_overrides as o where o.org_id = new.org_id and o.meter is not null and o.ended_at is null;
  perform private.plans_queue_user_tiers(array(select m.user_id from public.memberships as m where m.org_id = new.org_id));
  return null;
end
$$;
comment on function private.plans_apply_plan() is 'Trigger: sets the limits and features of the new plan in the same transaction, then the organization''s overrides, and at its end the tiers of its members. Usage stays. Definer: only the domain may set limits and entitlements, and it reads rows that the caller may not see.';
-- Before subscriptions_override_end, whose own change of the plan is the later one: triggers of one event run in the order of their names.
create trigger subscriptions_limits_insert after insert on public.subscriptions
  for each row execute function private.plans_apply_plan();
create trigger subscriptions_limits_update after update of plan, plan_override on public.subscriptions
  for each row when (old.plan <> new.plan)
  execute function private.plans_apply_plan();

create function private.plans_end_entitlements() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.set_entitlements(old.org_id, '{}');
  return null;
end
$$;
comment on function private.plans_end_entitlements() is 'Trigger: without a subscription an organization has no features. Definer: only the domain may set entitlements.';
create trigger subscriptions_entitlements_delete after delete on public.subscriptions
  for each row execute function private.plans_end_entitlements();

create function private.plans_push_feature_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.plans_push_entitlements(s.org_id)
  from public.subscriptions as s
  where s.plan in (select c.plan from changed as c)
  order by s.org_id;
  return null;
end
$$;
comment on function private.plans_push_feature_change() is 'Trigger: applies a change of the catalogue to every organization on the plan. Definer: only the domain may set entitlements.';
create trigger plan_features_push_insert after insert on public.plan_features
  referencing new table as changed for each statement execute function private.plans_push_feature_change();
create trigger plan_features_push_delete after delete on public.plan_features
  referencing old table as changed for each statement execute function private.plans_push_feature_change();

create function private.plans_reapply_overrides() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.plans_push_override(o.org_id, o.meter)
  from public.plan_overrides as o
  where o.meter = coalesce(new.meter, old.meter) and o.ended_at is null
  order by o.org_id;
  return null;
end
$$;
comment on function private.plans_reapply_overrides() is 'Trigger: a change of a plan''s limit leaves overrides in force. Definer: only the domain may set limits.';
-- After plan_limits_push.
create trigger plan_limits_reapply after insert or update or delete on public.plan_limits
  for each row execute function private.plans_reapply_overrides();

create function private.plans_end_overrides(max_rows integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  due record;
  ended integer := 0;
begin
  for due in
    select e.id, e.org_id from public.plan_overrides as e
    where e.ended_at is null and e.ends_at <= kijko.now()
    order by e.org_id, e.id
    limit max_rows
    for no key update skip locked
  loop
    continue when due.org_id = any (private.passed_over());
    -- One that fails stops no other.
    begin
      update public.plan_overrides as o set ended_at = kijko.now() where o.id = due.id;
      ended := ended + 1;
    exception when others then
      raise warning 'override %: %', due.id, sqlerrm;
      perform private.pass_over(due.org_id, sqlstate);
    end;
  end loop;
  return ended;
end
$$;
comment on function private.plans_end_overrides(integer) is 'Ends overrides whose time is over, at most max_rows, and returns how many.';

-- ----------------------------------------------------------------------------
-- Asking
-- ----------------------------------------------------------------------------

create function public.entitled(feature text) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := public.org_id();
begin
  return kijko.entitled(org, feature) and org = any (array(select public.org_ids()));
end
$$;
comment on function public.entitled(text) is 'Whether the organization of the request may use a feature, by its plan and its overrides; false for an unknown feature, and for a non-member. For clients and for policies.';
grant execute on function public.entitled(text) to authenticated;

create function private.plans_require(org uuid, feature text) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if not kijko.entitled(org, feature) then
    perform kijko.fail('plan_required', format('the plan does not include %s', feature), 'Choose a plan that includes it.');
  end if;
end
$$;
comment on function private.plans_require(uuid, text) is 'Fails with plan_required unless the organization may use a feature.';

create function private.plans_require_custom_roles() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- A caller without the permission is refused by the policy, and must not learn what a stranger's plan includes.
  if new.org_id = any (array(select private.org_ids_with('roles:write'))) then
    perform private.plans_require(new.org_id, 'custom_roles');
  end if;
  return new;
end
$$;
comment on function private.plans_require_custom_roles() is 'Trigger: a new custom role needs the feature custom_roles. Roles that are there stay, and can be changed and deleted. Definer: whoever inserts may not call the check.';
-- Before custom_roles_guard, which compares permissions.
create trigger custom_roles_feature before insert on public.custom_roles
  for each row when (new.org_id is not null)
  execute function private.plans_require_custom_roles();

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-plans-overrides', '* * * * *', 'perform private.plans_end_overrides()');
