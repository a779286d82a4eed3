-- ============================================================================
-- Billing: what runs by schedule.
-- ============================================================================

create function private.billing_tick() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Two at once would each see what the other has not sent yet.
  if pg_try_advisory_xact_lock(hashtext('kijko.billing.tick')) then
    perform private.billing_settle();
    perform private.billing_sync_details();
    perform private.billing_expire_sessions();
    perform private.billing_cancel_duplicates();
    perform private.billing_retry_trial_ends();
    perform private.billing_sync_seats();
    perform private.billing_report_use();
    perform private.billing_credit_vat();
    perform private.billing_ask_comparisons();
    perform private.billing_remind();
  end if;
end
$$;
comment on function private.billing_tick() is 'Run by schedule: records what became of requests to Stripe, and makes those that are due: details of customers and VAT, open checkouts that must not be paid, seats, reports of use. Reminds of missing payments.';

-- cron.schedule replaces an entry of the same name.
select cron.schedule('kijko-billing', '* * * * *', 'select private.billing_tick()');
select cron.schedule('kijko-billing-purge', '23 * * * *', 'select private.billing_purge(), private.billing_purge_sessions()');
