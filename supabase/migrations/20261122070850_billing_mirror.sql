-- ============================================================================
-- Billing: what follows in this domain from a subscription that domain stripe mirrors.
--
-- One trigger for each event: Postgres reads the condition of a trigger anew for every statement, and enters every function that
-- it has to call. Most updates change the status or the period, from which nothing follows here.
-- ============================================================================

create function private.billing_after_mirror() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if new.org_id is not null then
    -- Whether use beyond the limits is billed follows its prices. On insert no plan has been set yet, which sees to that.
    if tg_op = 'UPDATE' and (old.items, old.org_id) is distinct from (new.items, new.org_id) and private.billing_has_overage(new.items || old.items) then
      perform private.billing_apply_overage(new.org_id);
    end if;
    -- One that begins, or whose rates change, may not have the VAT of its organization.
    if (old.org_id, old.tax_rate_ids) is distinct from (new.org_id, new.tax_rate_ids) then
      perform private.billing_note_change(new.org_id);
    end if;
    if new.status = 'trialing' and new.trial_end is not null and (old.org_id is distinct from new.org_id or old.status <> 'trialing') then
      perform private.billing_begin_trial(new);
    end if;
  end if;
  -- One that is paid or ended before its trial is over ends the trial, so that no notice announces its end.
  if old.status = 'trialing' and new.status <> 'trialing' and old.org_id is not null and old.trial_end > kijko.now() then
    perform private.plans_trial_end(old.org_id);
  end if;
  return null;
end
$$;
comment on function private.billing_after_mirror() is 'Trigger: overage, VAT and trials follow a mirrored subscription. Definer: the sidecar has no rights on the tables.';
create trigger stripe_subscriptions_billing_insert after insert on public.stripe_subscriptions
  for each row when (new.org_id is not null) execute function private.billing_after_mirror();
create trigger stripe_subscriptions_billing_update after update on public.stripe_subscriptions
  for each row when (
    (old.org_id, old.items, old.tax_rate_ids, old.status = 'trialing')
    is distinct from (new.org_id, new.items, new.tax_rate_ids, new.status = 'trialing')
  )
  execute function private.billing_after_mirror();
