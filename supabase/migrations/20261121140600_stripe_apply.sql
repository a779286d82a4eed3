-- ============================================================================
-- Stripe: events are stored, applied and retried.
-- ============================================================================

-- The seed separates the modes.
create function private.stripe_object_lock(object_id text, livemode boolean) returns bigint
language sql immutable parallel safe
return hashtextextended('kijko.stripe.object:' || object_id, livemode::integer);
comment on function private.stripe_object_lock(text, boolean) is 'Advisory lock of an object.';

create function private.stripe_customer_lock(customer text, livemode boolean) returns bigint
language sql immutable parallel safe
return hashtextextended('kijko.stripe.customer:' || customer, livemode::integer);
comment on function private.stripe_customer_lock(text, boolean) is 'Advisory lock of a customer and all their objects.';

create function private.stripe_apply_owner(latest private.stripe_events, customer text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  before uuid[];
  orgs uuid[];
  org uuid;
begin
  before := array(
    select s.org_id from public.stripe_subscriptions as s
    where s.customer_id = customer and s.livemode = latest.livemode order by s.id
  );
  case latest.object_type
    when 'customer' then perform private.stripe_upsert_customer(latest);
    when 'subscription' then perform private.stripe_upsert_subscription(latest);
    when 'checkout.session' then perform private.stripe_upsert_checkout(latest);
  end case;
  if customer is not null then
    perform private.stripe_link_customer(customer, latest.livemode);
  end if;

  orgs := array(
    select s.org_id from public.stripe_subscriptions as s
    where s.customer_id = customer and s.livemode = latest.livemode order by s.id
  );
  -- A plan depends on subscriptions, sessions and invoices. A customer only names their organization.
  if latest.object_type = 'customer' and orgs = before then
    return;
  end if;
  -- In one order, so that two events that concern the same organizations do not deadlock.
  for org in select distinct o from unnest(orgs || before) as o where o is not null order by o loop
    perform private.stripe_refresh_plan(org);
  end loop;
end
$$;
comment on function private.stripe_apply_owner(private.stripe_events, text) is 'Writes an object that may change the organization of a customer: a session, or an object that is new or names another customer or organization than its row. Then links all objects of the customer, and derives the plan of each organization that owned or owns one of its subscriptions.';

create function private.stripe_complete_stub(event private.stripe_events) returns private.stripe_events
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  known jsonb;
begin
  select e.payload #> '{data,object}' into known
  from private.stripe_events as e
  where e.id = private.stripe_latest_event(event.object_id, event.livemode, event.rank, '-infinity')
    and e.livemode = event.livemode;
  event.payload := jsonb_set(event.payload, '{data,object}', coalesce(known, '{}') || (event.payload #> '{data,object}'));
  return event;
end
$$;
comment on function private.stripe_complete_stub(private.stripe_events) is 'Completes the object of a deletion, which may be no more than {id, deleted}, with the fields that were last known.';

create function private.stripe_apply_invoice(latest private.stripe_events) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  o constant jsonb := latest.payload #> '{data,object}';
  customer constant text := private.stripe_id(o -> 'customer');
  subscription constant text := private.stripe_invoice_subscription(o);
  tax bigint;
  former record;
  written record;
begin
  -- Of an invoice what stripe_paid_for, stripe_nothing_owed and stripe_is_repaid read; of its subscription whose plan it may change.
  select i.subscription_id, i.status, i.billing_reason, i.amount_paid, i.paid_out_of_band, i.amount_remaining, i.paid_at, i.created_at,
    s.org_id, s.payment_lost_at
  into former
  from (select latest.object_id as id, latest.livemode) as o
  left join public.stripe_invoices as i on i.id = o.id and i.livemode = o.livemode
  left join public.stripe_subscriptions as s on s.id = subscription and s.livemode = o.livemode;
  if jsonb_typeof(o -> 'total_taxes') is distinct from 'array' then
    -- Before API version 2025-03-31.
    tax := (o ->> 'tax')::bigint;
  elsif o -> 'total_taxes' <> '[]' then
    tax := (select sum((t.value ->> 'amount')::bigint)::bigint from jsonb_array_elements(o -> 'total_taxes') as t);
  end if;

  insert into public.stripe_invoices as i (
    id, org_id, customer_id, subscription_id, number, status, currency, total, tax, amount_due, amount_paid, paid_out_of_band,
    amount_remaining, attempt_count, billing_reason, hosted_invoice_url, invoice_pdf, period_start, period_end, due_date, paid_at,
    deleted, livemode, event_id, created_at, as_of
  )
  values (
    latest.object_id,
    coalesce(former.org_id, (select c.org_id from public.stripe_customers as c where c.id = customer and c.livemode = latest.livemode)),
    customer, subscription,
    o ->> 'number', o ->> 'status', o ->> 'currency',
    coalesce((o ->> 'total')::bigint, 0), coalesce(tax, 0), coalesce((o ->> 'amount_due')::bigint, 0), coalesce((o ->> 'amount_paid')::bigint, 0),
    -- An amount since API version 2025-03-31, a flag before.
    coalesce((o ->> 'amount_paid_off_stripe')::bigint > 0, (o ->> 'paid_out_of_band')::boolean, false),
    coalesce((o ->> 'amount_remaining')::bigint, 0), coalesce((o ->> 'attempt_count')::integer, 0),
    o ->> 'billing_reason', o ->> 'hosted_invoice_url', o ->> 'invoice_pdf', private.stripe_time(o -> 'period_start'),
    private.stripe_time(o -> 'period_end'), private.stripe_time(o -> 'due_date'), private.stripe_time(o #> '{status_transitions,paid_at}'),
    latest.type = 'invoice.deleted', latest.livemode, latest.id, private.stripe_time(o -> 'created'), latest.created
  )
  on conflict (id, livemode) do update set
    org_id = excluded.org_id, customer_id = excluded.customer_id, subscription_id = excluded.subscription_id, number = excluded.number,
    status = excluded.status, currency = excluded.currency, total = excluded.total, tax = excluded.tax, amount_due = excluded.amount_due,
    amount_paid = excluded.amount_paid, paid_out_of_band = excluded.paid_out_of_band,
    amount_remaining = excluded.amount_remaining, attempt_count = excluded.attempt_count,
    billing_reason = excluded.billing_reason, hosted_invoice_url = excluded.hosted_invoice_url, invoice_pdf = excluded.invoice_pdf,
    period_start = excluded.period_start, period_end = excluded.period_end, due_date = excluded.due_date, paid_at = excluded.paid_at,
    deleted = excluded.deleted, event_id = excluded.event_id,
    created_at = excluded.created_at, as_of = excluded.as_of
  returning i.subscription_id, i.status, i.billing_reason, i.amount_paid, i.paid_out_of_band, i.amount_remaining, i.paid_at, i.created_at,
    former.org_id, former.payment_lost_at
  into written;

  -- No plan depends on a draft.
  if former is not distinct from written or (coalesce(former.status, 'draft') = 'draft' and written.status = 'draft') then
    return;
  end if;
  -- Once a subscription is paid for, no other invoice changes the plan, unless a dispute took a payment back. Its status does.
  if former.org_id is not null
    and (former.payment_lost_at is not null or not private.stripe_paid_for(subscription, latest.livemode, latest.object_id))
  then
    perform private.stripe_refresh_plan(former.org_id);
  end if;
end
$$;
comment on function private.stripe_apply_invoice(private.stripe_events) is 'Writes the row of an invoice from its latest event, then derives the plan if it can depend on that invoice.';

create function private.stripe_try_apply_event(event private.stripe_events, is_locked boolean default false) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  latest private.stripe_events := event;
  latest_id text;
  customer constant text := private.stripe_customer_of(event.payload #> '{data,object}');
  named uuid;
  org uuid;
  code text;
  message text;
begin
  begin
    -- One event at a time for each object and each customer, locked in this order. Null locks nothing.
    if not is_locked then
      perform pg_advisory_xact_lock(private.stripe_object_lock(event.object_id, event.livemode)),
        pg_advisory_xact_lock(private.stripe_customer_lock(customer, event.livemode));
    end if;

    -- It is the latest, unless another one of its object is as late.
    if exists (
      select from private.stripe_events as e
      where e.object_id = event.object_id and e.livemode = event.livemode and e.status = 'applied'
        and (e.rank, e.created) >= (event.rank, event.created) and e.id <> event.id
    ) then
      latest_id := private.stripe_latest_event(event.object_id, event.livemode);
      if latest_id <> event.id then
        select e.* into strict latest from private.stripe_events as e where e.id = latest_id and e.livemode = event.livemode;
      end if;
    end if;
    if latest.payload #>> '{data,object,deleted}' = 'true' then
      latest := private.stripe_complete_stub(latest);
    end if;

    if event.object_type = 'invoice' then
      perform private.stripe_apply_invoice(latest);
    elsif event.object_type = 'price' then
      perform private.stripe_upsert_price(latest);
    else
      -- A row that names the same customer and organization stays with its organization. A session is never such a row.
      named := private.as_uuid(latest.payload #>> '{data,object,metadata,org_id}');
      if event.object_type = 'subscription' and exists (
        select from public.stripe_subscriptions as s
        where s.id = event.object_id and s.livemode = event.livemode
          and s.customer_id = customer and s.metadata_org_id is not distinct from named
      ) then
        org := private.stripe_upsert_subscription(latest);
        if org is not null then
          perform private.stripe_refresh_plan(org);
        end if;
      elsif event.object_type = 'customer' and exists (
        select from public.stripe_customers as c
        where c.id = customer and c.livemode = event.livemode and c.metadata_org_id is not distinct from named
      ) then
        perform private.stripe_upsert_customer(latest);
      else
        perform private.stripe_apply_owner(latest, customer);
      end if;
    end if;
    return null;
  exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text;
  end;
  update private.stripe_events as e
  set status = 'failed', applied_at = null, error_code = code, error = substring(message for 2000),
    -- After 1, 2, 4 ... minutes, at most 6 hours. Given up after about three days, as Stripe does.
    next_attempt_at = case when e.attempts < 20 then now() + least(interval '1 minute' * 2 ^ (e.attempts - 1), interval '6 hours') end
  where e.id = event.id and e.livemode = event.livemode;
  return code;
end
$$;
comment on function private.stripe_try_apply_event(private.stripe_events, boolean) is 'Applies a stored event that is marked applied, in a subtransaction, whose object and customer the caller may have locked: writes the row of its object, links it to an organization, derives the plan. A failure undoes all changes to rows; its reason and the time of the next attempt are stored. Returns the SQLSTATE of the failure, null if there was none.';

create function private.stripe_retry_event(event_id text, livemode boolean) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  event private.stripe_events;
begin
  update private.stripe_events as e
  set status = 'applied', attempts = e.attempts + 1, applied_at = clock_timestamp(),
    error_code = null, error = null, next_attempt_at = null
  where e.id = stripe_retry_event.event_id and e.livemode = stripe_retry_event.livemode
  returning e.* into strict event;
  return private.stripe_try_apply_event(event);
end
$$;
comment on function private.stripe_retry_event(text, boolean) is 'Applies a stored event once more. Returns the SQLSTATE of the failure, null if there was none.';

create function private.stripe_is_mirrored_event(payload jsonb) returns boolean
language sql immutable parallel safe
return coalesce(
  payload #>> '{data,object,object}' in ('customer', 'checkout.session', 'subscription', 'invoice', 'price')
  and payload #>> '{data,object,id}' is not null
  -- A preview of an invoice has no id, or an id that no invoice will have.
  and payload ->> 'type' <> 'invoice.upcoming'
  and not starts_with(payload #>> '{data,object,id}', 'upcoming_in_')
  -- Customers of another account, connected or of the same Stripe organization, are not mirrored.
  and payload ->> 'account' is null
  and payload ->> 'context' is null
  -- A thin event contains no object.
  and payload ->> 'object' is distinct from 'v2.core.event',
  false
);
comment on function private.stripe_is_mirrored_event(jsonb) is 'Whether an event is about an object that is mirrored. Others are ignored, and deleted after 30 days.';

create function private.stripe_take_event(payload jsonb, is_locked boolean, out status text, out duplicate boolean, out error_code text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  o jsonb := payload #> '{data,object}';
  thin boolean := coalesce(payload ->> 'object' = 'v2.core.event', false);
  is_live boolean;
  ours boolean;
  event private.stripe_events;
begin
  if jsonb_typeof(payload) is distinct from 'object'
    or coalesce(payload ->> 'id', '') !~ '^evt_[A-Za-z0-9_]+$'
    or octet_length(payload ->> 'id') > 254
    or coalesce(jsonb_typeof(payload -> 'type'), '') <> 'string'
    or not (coalesce(jsonb_typeof(payload -> 'created'), '') = 'number' or thin)
  then
    perform kijko.fail('bad_request', 'not a Stripe event: id, type and created are required');
  end if;
  is_live := coalesce((payload ->> 'livemode')::boolean, false);
  ours := private.stripe_is_mirrored_event(payload);

  -- Marked as applied first, because the row of its object is a function of all applied events, this one included.
  insert into private.stripe_events (id, type, created, api_version, livemode, object_id, object_type, rank, payload, status, attempts, applied_at)
  values (
    payload ->> 'id', payload ->> 'type',
    case
      when jsonb_typeof(payload -> 'created') = 'number' then private.stripe_time(payload -> 'created')
      -- The time of a thin event is text.
      else coalesce((payload ->> 'created')::timestamptz, now())
    end,
    payload ->> 'api_version',
    is_live, o ->> 'id', o ->> 'object', private.stripe_rank(payload ->> 'type', o), payload,
    case when ours then 'applied' else 'ignored' end, case when ours then 1 else 0 end, case when ours then clock_timestamp() end
  )
  on conflict (id, livemode) do nothing
  returning stripe_events.* into event;

  duplicate := event.id is null;
  if duplicate then
    -- "on conflict" has waited for a concurrent delivery of the same event.
    select e.* into strict event
    from private.stripe_events as e
    where e.id = stripe_take_event.payload ->> 'id' and e.livemode = is_live
    for update;
    status := event.status;
    -- An operator has sent it again: a failed event is retried.
    if status = 'failed' then
      error_code := private.stripe_retry_event(event.id, is_live);
      status := case when error_code is null then 'applied' else 'failed' end;
    end if;
  elsif ours then
    error_code := private.stripe_try_apply_event(event, is_locked);
    status := case when error_code is null then 'applied' else 'failed' end;
  else
    status := 'ignored';
  end if;
end
$$;
comment on function private.stripe_take_event(jsonb, boolean, out text, out boolean, out text) is 'Stores a verified event once and applies it. is_locked: the caller has locked its object and customer. Called with the settings of private.stripe_ingest_event(), which are made once for all events of a batch. Nullable: error_code.';

create function private.stripe_ingest_event(payload jsonb)
returns table (status text, duplicate boolean, error_code text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
-- A session makes its plans on empty tables and keeps them while the tables grow. So no plan may depend on statistics:
-- each look-up uses an index.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off -- else the high cost of a disabled plan would turn it on
as $$
begin
  return query select e.* from private.stripe_take_event(payload, false) as e;
end
$$;
comment on function private.stripe_ingest_event(jsonb) is 'Stores a verified event once and applies it. Returns applied, failed (stored, retried by schedule) or ignored. Nullable: error_code. Definer: the sidecar has no rights on the tables.';
grant execute on function private.stripe_ingest_event(jsonb) to kijko_sidecar;

-- ----------------------------------------------------------------------------
-- Retry, replay and backlog, for schedules and operators
-- ----------------------------------------------------------------------------

create function private.stripe_retry_events(max_events integer default 100) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  due record;
  n integer := 0;
begin
  -- An event that waits longer for a lock fails again, so that it does not hold locks that other events need.
  perform set_config('lock_timeout', '2s', true);
  -- A locked profile of a member must fail here, and not at the end of all.
  set constraints private.plans_tier_changes_apply immediate;
  for due in
    select e.id, e.livemode from private.stripe_events as e
    where e.status = 'failed' and e.next_attempt_at <= now()
    order by e.created, e.id
    limit max_events
    for update skip locked
  loop
    perform private.stripe_retry_event(due.id, due.livemode);
    n := n + 1;
  end loop;
  return n;
end
$$;
comment on function private.stripe_retry_events(integer) is 'Retries the failed events that are due. A schedule runs it.';

create function private.stripe_replay_events(ids text[] default null)
returns table (id text, type text, status text, error_code text, error text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  one record;
begin
  for one in
    select e.id, e.livemode from private.stripe_events as e
    where case when ids is null then e.status = 'failed' else e.id = any (ids) and e.status <> 'ignored' end
    order by e.created, e.id, e.livemode
    for update
  loop
    perform private.stripe_retry_event(one.id, one.livemode);
    return query
    select e.id, e.type, e.status, e.error_code, e.error
    from private.stripe_events as e
    where e.id = one.id and e.livemode = one.livemode;
  end loop;
end
$$;
comment on function private.stripe_replay_events(text[]) is 'Applies the named events again, or without names all failed events, including those given up. Returns the result of each.';

create function private.stripe_backlog()
returns table (failed bigint, given_up bigint, oldest_failed_seconds double precision, unlinked bigint, unplanned bigint)
language sql stable security definer
begin atomic
  select
    (select count(*) from private.stripe_events as e where e.status = 'failed'),
    (select count(*) from private.stripe_events as e where e.status = 'failed' and e.next_attempt_at is null),
    (select coalesce(extract(epoch from now() - min(e.received_at)), 0)::double precision from private.stripe_events as e where e.status = 'failed'),
    (select count(*) from private.stripe_entitlements as st where st.org_id is null and st.running),
    (select count(*) from private.stripe_entitlements as st where st.org_id is not null and st.plan is null and st.running);
end;
comment on function private.stripe_backlog() is 'What an operator must look at: failed events (and those given up), running subscriptions of no known organization, and running subscriptions whose price names no plan. Definer: the sidecar has no rights on the tables.';
grant execute on function private.stripe_backlog() to kijko_sidecar;

-- An entry of the same name is replaced, so a replay is harmless.
select private.schedule('kijko-stripe-retry', '* * * * *', 'perform private.stripe_retry_events()');
select private.schedule('kijko-stripe-grace', '* * * * *', 'perform private.stripe_expire_grace()');
select private.set_retention('private.stripe_events', null, 'evidence of payments', kept_by => '30 days for events that nothing follows from; the others as long as Stripe''s objects are mirrored, without name and address after an erasure');
select private.schedule(
  'kijko-stripe-purge', '27 3 * * *',
  $$delete from private.stripe_events where status = 'ignored' and received_at < now() - interval '30 days'$$
);
