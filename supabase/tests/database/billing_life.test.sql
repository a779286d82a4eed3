-- Refunds, disputes and missing payments: each rule at its edges, and nothing that happens to one organization touches another.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob,cyd}'::text[]) as u;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false) on conflict (is_only) do update set livemode = false;
create function tests.buys(who text, status text default 'active', second integer default 1, key text default 'pro_monthly') returns jsonb language sql as $$
  select tests.event('customer.subscription.updated', second, tests.subscription('sub_' || who, 'cus_' || who, status, key, jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org(who)))))
$$;
select tests.send(e) from unnest('{ada,bob}'::text[]) as who, unnest(array[
  tests.buys(who), tests.event('invoice.paid', 2, tests.invoice('in_' || who, 'cus_' || who, 'sub_' || who, 'paid', '{"billing_reason": "subscription_create"}'))
]) as e;
select is(tests.plan('ada') || ', ' || tests.plan('bob'), 'PRO active, PRO active', 'two have bought a plan');
create function tests.charge(id text, customer text, refunded bigint, second integer) returns jsonb language sql as $$
  select tests.event('charge.updated', second, jsonb_build_object('id', charge.id, 'object', 'charge', 'customer', customer, 'amount', 2900, 'amount_refunded', refunded, 'currency', 'eur'))
$$;
create function tests.dispute(status text, second integer, charge text default 'ch_a', id text default 'dp_a') returns jsonb language sql as $$
  select tests.event('charge.dispute.updated', second, jsonb_build_object('id', dispute.id, 'object', 'dispute', 'charge', charge, 'status', dispute.status, 'amount', 2900, 'currency', 'eur'))
$$;

-- ---- what was paid back only grows, whatever comes last
select is(tests.after(array[tests.charge('ch_a', 'cus_ada', first, 1), tests.charge('ch_a', 'cus_ada', second, 2)],
  $$select concat_ws(' ', c.amount_refunded, extract(epoch from c.as_of)::bigint - tests.second(0),
      (select string_agg(n.data ->> 'amount', ',' order by n.data ->> 'amount') from public.notifications as n where n.org_id = tests.org('ada') and n.type = 'billing.refunded'))
    from private.billing_charges as c where c.id = 'ch_a'$$), wanted, format('%s and then %s', first, second))
from (values (500, 200, '500 2 5'), (200, 500, '500 2 2,5'), (0, 0, '0 2')) as v (first, second, wanted);

-- ---- a dispute: closed is final, but for what Stripe says later of its end
select is(tests.after(e, $$select d.status from private.billing_disputes as d where d.id = 'dp_a'$$), wanted, 'a dispute that is ' || name)
from (values
  (array[tests.dispute('needs_response', 1), tests.dispute('won', 2)], 'won', 'won'), (array[tests.dispute('lost', 5), tests.dispute('needs_response', 9)], 'lost', 'lost, and then open'),
  (array[tests.dispute('won', 5), tests.dispute('lost', 6)], 'lost', 'won, and lost later'), (array[tests.dispute('won', 5), tests.dispute('lost', 5)], 'won', 'won and lost at once'),
  (array[tests.dispute('won', 5), tests.dispute('lost', 4)], 'won', 'lost before it was won'), (array[tests.dispute('warning_needs_response', 1)], null, 'only announced')
) as v (e, wanted, name);

-- ---- whose it is: of who paid the charge, in this mode; of nobody, if nobody knows
create function tests.lost_at(who text) returns integer language sql as $$
  select (extract(epoch from s.payment_lost_at)::bigint - tests.second(0))::integer from public.stripe_subscriptions as s where s.id = 'sub_' || who and not s.livemode
$$;
create function tests.disputed(variadic events jsonb[]) returns text language sql as $$
  select tests.after(events, $q$
    select format('%s | lost %s, %s', string_agg(concat_ws(' ', d.id, case d.organization_id when tests.org('ada') then 'ada' when tests.org('bob') then 'bob' end), ', ' order by d.id),
      coalesce(tests.lost_at('ada')::text, '-'), coalesce(tests.lost_at('bob')::text, '-'))
    from private.billing_disputes as d where d.id ~ '^dp_'
  $q$)
$$;
select is(tests.disputed(tests.charge('ch_a', 'cus_ada', 0, 1), tests.dispute('lost', 5)), 'dp_a ada | lost 5, -', 'a lost one of ada');
select is(tests.disputed(tests.dispute('lost', 5), tests.charge('ch_b', 'cus_bob', 0, 6), tests.charge('ch_a', 'cus_ada', 0, 7)), 'dp_a ada | lost 5, -', 'also when the charge comes last');
select is(tests.disputed(tests.charge('ch_a', 'cus_ada', 0, 1), tests.charge('ch_b', 'cus_bob', 0, 1), tests.charge('ch_x', 'cus_nobody', 0, 1), tests.dispute('lost', 5, 'ch_x', 'dp_x')),
  'dp_x | lost -, -', 'one of a customer whom nobody knows');
select is(tests.disputed(tests.charge('ch_a', 'cus_ada', 0, 1) || '{"livemode": true}', tests.charge('ch_b', 'cus_bob', 0, 1), tests.dispute('lost', 5)), 'dp_a | lost -, -', 'one whose charge is of the other mode');
select is(tests.disputed(tests.charge('ch_a', 'cus_ada', 0, 1), tests.dispute('lost', first), tests.dispute('lost', second, id => 'dp_b')), 'dp_a ada, dp_b ada | lost 9, -', 'of two the later loss counts')
from (values (5, 9), (9, 5)) as v (first, second);
select is(tests.disputed(tests.charge('ch_a', 'cus_ada', 0, 1), tests.dispute('lost', second)), wanted, format('one that is lost %s s after the subscription was made', second))
from (values (0, 'dp_a ada | lost 0, -'), (-1, 'dp_a ada | lost -, -')) as v (second, wanted);

-- ---- a trial that ends, and a payment that fails, are told to whom they concern
create function tests.told(of text, events jsonb[]) returns text language sql as $$
  select tests.after(events, format($q$
    select string_agg(format('%%s %%s', split_part(u.email, '@', 1), n.data ->> 'date'), ', ' order by u.email) from public.notifications as n
    join public.organizations as o on o.id = n.org_id join auth.users as u on u.id = o.created_by where n.type = %L
  $q$, of))
$$;
select is(tests.told('trial.ending', array[tests.buys('cyd', 'trialing', 8), tests.buys('bob', 'trialing', 8),
  tests.event('customer.subscription.trial_will_end', 9, tests.subscription('sub_cyd', 'cus_cyd', 'trialing', 'pro_monthly',
    jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org('cyd')), 'trial_end', 1893456000)))]), 'cyd 2030-01-01', 'the end of a trial of Stripe');

-- ---- dunning: what is told when a plan's status changes
create function tests.notices(who text) returns text language sql security definer as $$
  select string_agg(concat_ws(' ', n.type, n.data ->> 'plan', n.data ->> 'until'), ', ' order by n.created_at, n.id) from public.notifications as n
  where n.org_id = tests.org(who) and n.type ~ '^billing\.(payment|grace|plan)'
$$;
delete from public.notifications;
update public.stripe_subscriptions as s set status = 'past_due', past_due_since = '2026-02-01T00:00:00Z' where s.id = 'sub_bob' and not s.livemode;
create function tests.changes(plan text, status text, after_plan text, after_status text) returns text language plpgsql as $$
declare
  answer text;
begin
  begin
    update public.subscriptions as s set plan = changes.plan, status = changes.status where s.org_id = tests.org('ada');
    delete from public.notifications;
    update public.subscriptions as s set plan = after_plan, status = after_status where s.org_id = tests.org('ada');
    answer := tests.notices('ada');
    raise exception 'undone' using errcode = 'ZZZZZ';
  exception when sqlstate 'ZZZZZ' then null;
  end;
  return answer;
end
$$;
update public.stripe_subscriptions as s set status = 'past_due', past_due_since = '2026-03-01T00:00:00Z' where s.id = 'sub_ada' and not s.livemode;
select is(tests.changes(p, s, q, t), wanted, format('from %s %s to %s %s', p, s, q, t))
from (values
  ('PRO', 'active', 'PRO', 'past_due', 'billing.payment_failed Pro 2026-03-08'), ('FREE', 'active', 'FREE', 'past_due', null), ('PRO', 'past_due', 'PRO', 'active', 'billing.payment_recovered Pro'),
  ('PRO', 'unpaid', 'PRO', 'trialing', 'billing.payment_recovered Pro'), ('PRO', 'active', 'PRO', 'trialing', null), ('PRO', 'past_due', 'PRO', 'canceled', null),
  ('FREE', 'unpaid', 'FREE', 'active', null), ('PRO', 'active', 'TEAMS', 'active', 'billing.plan_changed Teams')
) as v (p, s, q, t, wanted);
select tests.sign_up('hand');
update public.subscriptions set plan = 'PRO', status = 'past_due' where org_id = tests.org('hand');
select is(tests.notices('hand'), null, 'what an operator changes by hand is no news');

-- ---- reminders: three days before the grace ends, and on its last day, once each
update public.stripe_subscriptions as s set status = 'active', past_due_since = null where s.id = 'sub_bob' and not s.livemode;
update public.subscriptions set status = 'past_due' where org_id in (tests.org('ada'), tests.org('bob'));
delete from public.notifications;
create function tests.reminded(ago interval) returns integer language plpgsql as $$
begin
  update public.stripe_subscriptions as s set past_due_since = '2026-03-01T00:00:00Z' where s.id = 'sub_ada' and not s.livemode;
  perform tests.travel('2026-03-01T00:00:00Z'::timestamptz + ago - now());
  return private.billing_remind();
end
$$;
select is(tests.reminded(ago), n, 'after ' || ago)
from (values ('4 days'::interval, 0), ('4 days 00:00:00.000001', 1), ('5 days', 0), ('6 days', 0), ('6 days 00:00:00.000001', 1), ('6 days 12:00:00', 0)) as v (ago, n);
select is(tests.notices('ada'), 'billing.grace_ending Pro 2026-03-08, billing.grace_ending Pro 2026-03-08', 'with the day on which it ends');
select is(tests.notices('bob'), null, 'and who has paid is not reminded');
delete from public.notifications;
update public.subscriptions set plan = 'FREE' where org_id = tests.org('ada');
delete from public.notifications;
select is(tests.reminded('6 days 13:00:00'), 0, 'nor who has lost the plan');

select * from finish();
rollback;
