-- ============================================================================
-- Billing: whether the mirrored rows are what Stripe has. An event that never came shows here.
--
-- The schedule asks about each customer once a day. "./kijko billing reconcile" asks for all subscriptions at once, also those of
-- customers that nobody here knows.
-- ============================================================================

create function private.billing_comparable_items(items jsonb) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select jsonb_agg(
    jsonb_build_object('id', i.value ->> 'id', 'price', private.stripe_id(i.value -> 'price'), 'quantity', (i.value ->> 'quantity')::bigint)
    order by i.value ->> 'id' collate "C"
  )
  from jsonb_array_elements(items) as i (value)
$$;
comment on function private.billing_comparable_items(jsonb) is 'What of a subscription''s items is compared, in one order. Null without any. Nullable: result.';

create function private.billing_compare(subscriptions jsonb, livemode boolean, customer text default null) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return (
    with theirs as (
      select t.value ->> 'id' as id, t.value ->> 'status' as status, (t.value ->> 'cancel_at_period_end')::boolean as cancels,
        private.billing_comparable_items(case jsonb_typeof(t.value -> 'items') when 'array' then t.value -> 'items' else t.value #> '{items,data}' end) as items
      from jsonb_array_elements(subscriptions) as t (value)
    ), ours as (
      select s.id, s.status, s.cancel_at_period_end as cancels, s.org_id, private.billing_comparable_items(s.items) as items
      from public.stripe_subscriptions as s
      where s.livemode = billing_compare.livemode and (billing_compare.customer is null or s.customer_id = billing_compare.customer)
    ), differences as (
      select coalesce(t.id, o.id) as id, case
        when o.id is null and t.status not in ('canceled', 'incomplete_expired') then format('is %s at Stripe and not known here', t.status)
        when t.id is null and o.status in ('active', 'trialing', 'past_due', 'unpaid') then format('is %s here and not known to Stripe', o.status)
        when o.id is null or t.id is null then null
        when o.status <> t.status then format('is %s here and %s at Stripe', o.status, t.status)
        when o.cancels <> t.cancels and t.status <> 'canceled' then format('cancels with its period: %s here, %s at Stripe', o.cancels, t.cancels)
        when o.items is distinct from t.items and t.status <> 'canceled' then 'has other prices or quantities at Stripe'
        when o.org_id is null and t.status in ('active', 'trialing', 'past_due') then 'runs and belongs to no organization'
      end as difference
      from theirs as t full join ours as o on o.id = t.id
      union all
      select min(o.id), format('is one of %s running subscriptions of the organization %s', count(*), o.org_id)
      from ours as o where o.org_id is not null and o.status in ('active', 'trialing', 'past_due') group by o.org_id having count(*) > 1
    )
    select coalesce(jsonb_agg(d.id || ' ' || d.difference order by d.id, d.difference), '[]') from differences as d where d.difference is not null
  );
end
$$;
comment on function private.billing_compare(jsonb, boolean, text) is 'How the subscriptions at Stripe, of a customer or (null) of all, differ from the mirrored ones, in words. Definer: the sidecar holds no table rights.';
grant execute on function private.billing_compare(jsonb, boolean, text) to kijko_sidecar;

create function private.billing_compare_customers(customers jsonb, livemode boolean) returns jsonb
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  with theirs as (
    select t.value ->> 'id' as id, private.as_uuid(t.value ->> 'org_id') as org_id from jsonb_array_elements(customers) as t (value)
  ), ours as (
    select s.id, s.org_id from public.stripe_customers as s where s.livemode = billing_compare_customers.livemode
    union
    select b.customer_id, b.organization_id from private.billing_customers as b where b.livemode = billing_compare_customers.livemode
  ), differences as (
    select t.id, case
      when not exists (select from ours as o where o.id = t.id) then format('is a customer of the organization %s and not known here', t.org_id)
      -- One whose organization is deleted stays for its invoices.
      when not exists (select from ours as o where o.id = t.id and (o.org_id is null or o.org_id = t.org_id))
        then format('is a customer of another organization here than at Stripe (%s)', t.org_id)
    end as difference
    from theirs as t where t.org_id is not null
  )
  select coalesce(jsonb_agg(d.id || ' ' || d.difference order by d.id), '[]') from differences as d where d.difference is not null
$$;
comment on function private.billing_compare_customers(jsonb, boolean) is 'Which customers at Stripe, whose metadata name an organization, are not known here or known as another''s, in words. Definer: the sidecar holds no table rights.';
grant execute on function private.billing_compare_customers(jsonb, boolean) to kijko_sidecar;

create table private.billing_comparisons (
  customer_id text not null check (octet_length(customer_id) <= 254),
  livemode boolean not null,
  organization_id uuid not null references public.organizations (id) on delete cascade,
  compared_at timestamptz not null,
  differences jsonb not null default '[]',
  differs_since timestamptz,
  primary key (customer_id, livemode),
  check ((differences = '[]') = (differs_since is null))
);
create index billing_comparisons_organization_idx on private.billing_comparisons (organization_id);
create index billing_comparisons_differs_idx on private.billing_comparisons (differs_since) where differs_since is not null;
comment on table private.billing_comparisons is 'When a customer''s subscriptions were last compared with Stripe''s, and what differed.';
comment on column private.billing_comparisons.customer_id is 'Stripe''s id of the customer.';
comment on column private.billing_comparisons.livemode is 'False in Stripe''s test mode.';
comment on column private.billing_comparisons.organization_id is 'Organization.';
comment on column private.billing_comparisons.compared_at is 'When, by the clock of the server.';
comment on column private.billing_comparisons.differences is 'What differed, in words.';
comment on column private.billing_comparisons.differs_since is 'Since when something differs; null if nothing does.';
select private.describe_data('private.billing_comparisons', '{
  "customer_id, livemode, organization_id, compared_at, differences, differs_since": {"purpose": "finds events of Stripe that never came", "export": "none"}
}', 'organization');
alter table private.billing_comparisons enable row level security;

create function private.billing_ask_comparisons(max_customers integer default 60) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  customer record;
  n integer := 0;
begin
  for customer in
    select k.customer_id, k.organization_id
    from (
      select b.customer_id, b.organization_id, b.livemode from private.billing_customers as b
      union
      select s.id, s.org_id, s.livemode from public.stripe_customers as s where s.org_id is not null and not s.deleted
    ) as k
    join private.billing_account as a on a.livemode = k.livemode
    left join private.billing_comparisons as c on c.customer_id = k.customer_id and c.livemode = k.livemode
    -- A difference is looked at again soon: its event may be on its way.
    where (
      c.compared_at is null
      or c.compared_at < clock_timestamp() - case when c.differs_since is null then interval '1 day' else interval '15 minutes' end
    )
    -- Those that cannot be asked about leave their places to others.
    and not private.billing_is_recent('comparison', k.customer_id, '{"never": "the same"}')
    order by c.compared_at nulls first limit max_customers
  loop
    n := n + (private.billing_send('comparison', customer.customer_id, customer.organization_id, 'GET', '/v1/subscriptions', jsonb_build_object(
      'customer', customer.customer_id, 'status', 'all', 'limit', 5
    )) is not null)::integer;
  end loop;
  return n;
end
$$;
comment on function private.billing_ask_comparisons(integer) is 'Asks Stripe for the latest subscriptions of customers that were not compared for a day. Returns how many.';

create function private.billing_settle_comparison(effect private.billing_effects, state text, body jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  found jsonb;
begin
  -- A question that failed says nothing: what is known stays, and it is asked again.
  if state <> 'done' then
    return;
  end if;
  found := case
    when jsonb_typeof(body -> 'data') is distinct from 'array' then jsonb_build_array(effect.subject || ' has more at Stripe than an answer holds')
    else private.billing_compare(body -> 'data', effect.livemode, effect.subject)
  end;
  insert into private.billing_comparisons as c (customer_id, livemode, organization_id, compared_at, differences, differs_since)
  select effect.subject, effect.livemode, o.id, clock_timestamp(), found, case when found <> '[]' then clock_timestamp() end
  from public.organizations as o where o.id = effect.organization_id
  on conflict on constraint billing_comparisons_pkey do update
    set compared_at = excluded.compared_at, differences = excluded.differences,
      differs_since = case when excluded.differs_since is not null then coalesce(c.differs_since, excluded.differs_since) end;
end
$$;
comment on function private.billing_settle_comparison(private.billing_effects, text, jsonb) is 'Compares what Stripe has of a customer with the mirrored rows. Without its answer nothing changes.';

create function private.billing_problems() returns table (kind text, subject text, organization_id uuid, problem text, since timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- One whose event was on its way is gone at the second look.
  select 'difference', c.customer_id, c.organization_id, d.value, c.differs_since
  from private.billing_comparisons as c cross join lateral jsonb_array_elements_text(c.differences) as d (value)
  where c.differs_since < c.compared_at
  union all
  select 'request', e.kind || ' ' || e.subject, e.organization_id, format('%s: %s %s', e.state, e.http_status, e.error), e.ended_at
  from private.billing_effects as e
  where e.state in ('failed', 'unknown')
    -- A refused credit of VAT is never asked for again.
    and e.ended_at > clock_timestamp() - case e.kind when 'vat_credit' then interval '90 days' else interval '2 days' end
    -- Of these an answer of 4xx is an answer, too.
    and e.kind not in ('session_expiry', 'tax_id_removal', 'meter_event', 'invoice_item')
    and not exists (
      select from private.billing_effects as later
      where later.kind = e.kind and later.subject = e.subject and (later.ended_at > e.ended_at or later.state = 'open')
    )
$$;
comment on function private.billing_problems() is 'What an operator has to look at: subscriptions that differ from Stripe''s, and requests that Stripe refused. Nullable: problem.';
