-- ============================================================================
-- Billing: what runs by schedule.
-- ============================================================================

create function private.billing_tick() returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  step text;
begin
  -- Two at once would each see what the other has not sent yet.
  if not pg_try_advisory_xact_lock(hashtext('kijko.billing.tick')) then
    return;
  end if;
  foreach step in array array[
    'billing_settle', 'billing_sync_details', 'billing_expire_sessions', 'billing_cancel_duplicates', 'billing_retry_trial_ends',
    'billing_sync_seats', 'billing_report_use', 'billing_credit_vat', 'billing_ask_comparisons', 'billing_remind'
  ] loop
    -- What fails in one of them must not stop the others.
    begin
      execute format('select private.%I()', step);
    exception when others then
      raise warning '%: %', step, sqlerrm;
    end;
  end loop;
end
$$;
comment on function private.billing_tick() is 'Run by schedule: records what became of requests to Stripe, and makes those that are due: details of customers and VAT, open checkouts that must not be paid, seats, reports of use. Reminds of missing payments.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-billing', '* * * * *', 'perform private.billing_tick()');
select private.schedule('kijko-billing-purge', '23 * * * *', 'perform private.billing_purge()', 'perform private.billing_purge_sessions()');
