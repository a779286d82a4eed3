-- ============================================================================
-- Billing: what an operator changes of the limits. The triggers of domain plans then set the plan's own policy, which refuses use
-- beyond a limit; who pays for such use goes on.
-- ============================================================================

create function private.billing_after_limit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  changed constant jsonb := case tg_op when 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
  org uuid;
begin
  for org in
    select distinct t.org_id from public.stripe_subscriptions as t join public.subscriptions as s on s.org_id = t.org_id
    where case tg_table_name when 'plan_limits' then s.plan = changed ->> 'plan' else s.org_id = (changed ->> 'org_id')::uuid end
      and t.status in ('active', 'trialing', 'past_due') and private.billing_has_overage(t.items)
  loop
    perform private.billing_apply_overage(org);
  end loop;
  return null;
end
$$;
comment on function private.billing_after_limit() is 'Trigger: a limit that an operator changes, of a plan or of one organization, stays one beyond which use is billed. Definer: only the domain may set limits.';
-- After plan_limits_push, plan_limits_reapply and plan_overrides_apply: triggers fire by name.
create trigger plan_limits_use_overage after insert or update on public.plan_limits
  for each row execute function private.billing_after_limit();
create trigger plan_overrides_use_overage after insert or update or delete on public.plan_overrides
  for each row execute function private.billing_after_limit();
