-- ============================================================================
-- Stripe: plan changes that follow a new lookup key of a price.
--
-- Thousands of organizations may use one price, and Stripe waits ten seconds for an
-- answer. So the price's event queues the organizations that use it, updates the first
-- few itself and leaves the rest to a schedule, which commits after each small batch.
-- An organization whose subscription is locked is skipped and retried later, and locks
-- that other events need are held no longer than one batch.
--
-- A concurrent event may have read the old key, and its subscription is not visible yet.
-- Instead of blocking all events for one price, the change is checked once more when
-- every transaction of that time has ended.
-- ============================================================================

create table private.stripe_plan_refreshes (
  id bigint generated always as identity primary key,
  org_id uuid not null,
  due_at timestamptz not null default now(),
  attempts integer not null default 0,
  error_code text check (char_length(error_code) <= 5),
  error text check (char_length(error) <= 2000),
  created_at timestamptz not null default now()
);
create index stripe_plan_refreshes_org_id_idx on private.stripe_plan_refreshes (org_id);
create index stripe_plan_refreshes_due_idx on private.stripe_plan_refreshes (due_at, id);

comment on table private.stripe_plan_refreshes is 'Queue of organizations whose plan is to be derived again because a price that they use has changed. Duplicates are harmless.';
comment on column private.stripe_plan_refreshes.id is 'Order of arrival.';
comment on column private.stripe_plan_refreshes.org_id is 'Organization.';
comment on column private.stripe_plan_refreshes.due_at is 'Not before this time.';
comment on column private.stripe_plan_refreshes.attempts is 'How often it failed.';
comment on column private.stripe_plan_refreshes.error_code is 'SQLSTATE of the last failure.';
comment on column private.stripe_plan_refreshes.error is 'Message of the last failure.';
comment on column private.stripe_plan_refreshes.created_at is 'When the price changed.';
select private.describe_data('private.stripe_plan_refreshes', '{
  "org_id": {"subject": "organization", "purpose": "organization whose plan is to be read again", "export": "none"},
  "due_at, attempts, error_code, error": "reads the plan again, and retries"
}', 'platform');
alter table private.stripe_plan_refreshes enable row level security;

create table private.stripe_price_changes (
  id bigint generated always as identity primary key,
  price_id text not null check (char_length(price_id) <= 300),
  livemode boolean not null,
  horizon xid8,
  created_at timestamptz not null default now()
);
comment on table private.stripe_price_changes is 'Changed prices whose subscriptions are checked once more, when every transaction that may have read the old price has ended.';
comment on column private.stripe_price_changes.id is 'Order of arrival.';
comment on column private.stripe_price_changes.price_id is 'Price.';
comment on column private.stripe_price_changes.livemode is 'False for Stripe''s test mode.';
comment on column private.stripe_price_changes.horizon is 'Every transaction that may have read the old price is older than this one; null until the change is committed.';
comment on column private.stripe_price_changes.created_at is 'When the price changed.';
select private.describe_data('private.stripe_price_changes', '{
  "price_id, livemode, horizon": "refreshes the plans of a changed price"
}', 'platform');
alter table private.stripe_price_changes enable row level security;

create function private.stripe_queue_plan_refreshes(price text, livemode boolean) returns void
language sql
begin atomic
  insert into private.stripe_plan_refreshes (org_id)
  select distinct s.org_id
  from public.stripe_subscriptions as s
  where s.items @> jsonb_build_array(jsonb_build_object('price', stripe_queue_plan_refreshes.price))
    and s.livemode = stripe_queue_plan_refreshes.livemode
    and s.org_id is not null
  order by s.org_id;
end;
comment on function private.stripe_queue_plan_refreshes(text, boolean) is 'Queues every organization with a subscription to a price.';

create function private.stripe_run_plan_refreshes(max_orgs integer default 25) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
-- A change of plan also locks the profiles of the members. A locked profile delays its organization only.
set lock_timeout = '500ms'
as $$
declare
  due private.stripe_plan_refreshes;
  code text;
  message text;
  n integer := 0;
begin
  -- A lock of a profile must fail here, in the organization's subtransaction, and not at the end of the batch.
  set constraints private.plans_tier_changes_apply immediate;
  for due in
    select r.* from private.stripe_plan_refreshes as r
    where r.due_at <= clock_timestamp()
    order by r.due_at, r.id
    limit max_orgs
    for update skip locked
  loop
    n := n + 1;
    -- Another transaction holds this organization's subscription: retry it later, without delaying the others.
    perform from public.subscriptions as s where s.org_id = due.org_id for update skip locked;
    if not found and exists (select from public.subscriptions as s where s.org_id = due.org_id) then
      update private.stripe_plan_refreshes as r set due_at = clock_timestamp() + interval '30 seconds' where r.id = due.id;
      continue;
    end if;
    begin
      perform private.stripe_refresh_plan(due.org_id);
      delete from private.stripe_plan_refreshes as r where r.id = due.id;
    exception when others then
      get stacked diagnostics code = returned_sqlstate, message = message_text;
      update private.stripe_plan_refreshes as r
      set attempts = r.attempts + 1, error_code = code, error = substring(message for 2000),
        due_at = clock_timestamp() + least(interval '1 minute' * 2 ^ least(r.attempts, 10), interval '6 hours')
      where r.id = due.id;
    end;
  end loop;
  return n;
end
$$;
comment on function private.stripe_run_plan_refreshes(integer) is 'Derives the plans of up to max_orgs queued organizations; a locked or failing one is retried later. Returns how many it processed.';

create function private.stripe_change_price(price text, livemode boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.stripe_price_changes (price_id, livemode) values (price, livemode);
  perform private.stripe_queue_plan_refreshes(price, livemode);
  perform private.stripe_run_plan_refreshes();
end
$$;
comment on function private.stripe_change_price(text, boolean) is 'Handles a changed lookup key of a price: updates a few organizations at once, the others by schedule.';

create function private.stripe_recheck_prices() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  change private.stripe_price_changes;
  n integer := 0;
begin
  for change in
    delete from private.stripe_price_changes as c
    where c.horizon <= pg_snapshot_xmin(pg_current_snapshot())
    returning c.*
  loop
    perform private.stripe_queue_plan_refreshes(change.price_id, change.livemode);
    n := n + 1;
  end loop;
  -- Set after the change has committed: transactions that start from here on read the new price.
  update private.stripe_price_changes as c set horizon = pg_snapshot_xmax(pg_current_snapshot()) where c.horizon is null;
  return n;
end
$$;
comment on function private.stripe_recheck_prices() is 'Checks the subscriptions of changed prices once more, when no older transaction is running. Returns the number of prices.';

-- A procedure that commits may not have a "set" clause, so it qualifies every name.
create procedure private.stripe_apply_price_changes()
language plpgsql
as $$
begin
  perform private.stripe_recheck_prices();
  commit;
  perform private.stripe_recheck_prices();
  commit;
  while private.stripe_run_plan_refreshes() > 0 loop
    commit;
  end loop;
end
$$;
comment on procedure private.stripe_apply_price_changes() is 'Run by schedule: updates the plans of all organizations that use a changed price, one batch per transaction.';

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-stripe-price-changes', '* * * * *', 'call private.stripe_apply_price_changes()');
