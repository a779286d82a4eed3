-- Which customer at Stripe is kept, what is sold, what members are told of a checkout and a trial, and when details are compared: each rule beside rows of others.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
delete from private.billing_effects;
delete from private.billing_customers;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');

-- ---- the account: of an address that the outbox can ask
select tests.refuses(format('select private.billing_register(%L, %L, false, %L)', url, 'x', 'sk_test_x'), 'invalid_input', url) from unnest('{ftp://stripe.example.com,http://169.254.169.254}'::text[]) as url;
select lives_ok($$select private.billing_register('https://stripe.example.com', 'y', false, 'sk_test_y')$$, 'https://stripe.example.com');

-- ---- the customer of an organization: the first, unless Stripe no longer has it
create function tests.keeps(kept jsonb, theirs jsonb, gone text default null) returns text language plpgsql as $$
declare
  answer text;
begin
  delete from private.billing_customers;
  delete from public.stripe_customers;
  insert into private.billing_customers (organization_id, livemode, customer_id, params)
  select tests.org(coalesce(k ->> 'who', 'ada')), coalesce((k ->> 'livemode')::boolean, false), coalesce(k ->> 'id', 'cus_1'), '{}' from jsonb_array_elements(kept) as k;
  insert into public.stripe_customers (id, livemode, deleted) select t ->> 'id', coalesce((t ->> 'livemode')::boolean, false), coalesce((t ->> 'deleted')::boolean, false) from jsonb_array_elements(theirs) as t;
  answer := private.billing_record_customer(tests.org('ada'), false, 'cus_2', gone);
  return answer || (select ': ' || string_agg(concat_ws(' ', case c.organization_id when tests.org('ada') then 'ada' else 'bob' end, c.livemode, c.customer_id, c.params), ', ' order by c.organization_id = tests.org('bob'), c.livemode) from private.billing_customers as c);
end
$$;
select is(tests.keeps(kept, theirs, gone), wanted, format('%s, at Stripe %s, gone %s', kept, theirs, gone))
from (values
  ('[]'::jsonb, '[]'::jsonb, null, 'cus_2: ada f cus_2'), ('[{}]', '[]', null, 'cus_1: ada f cus_1 {}'), ('[{}]', '[]', 'cus_1', 'cus_2: ada f cus_2'), ('[{}]', '[]', 'cus_9', 'cus_1: ada f cus_1 {}'),
  ('[{}]', '[{"id": "cus_1", "deleted": true}]', null, 'cus_2: ada f cus_2'), ('[{}]', '[{"id": "cus_1"}]', null, 'cus_1: ada f cus_1 {}'), ('[{}]', '[{"id": "cus_1", "deleted": true, "livemode": true}]', null, 'cus_1: ada f cus_1 {}'),
  ('[{}]', '[{"id": "cus_9", "deleted": true}]', null, 'cus_1: ada f cus_1 {}'), ('[{"livemode": true}]', '[]', null, 'cus_2: ada f cus_2, ada t cus_1 {}'),
  ('[{"livemode": true, "id": "cus_0"}, {"who": "bob", "id": "cus_3"}, {}]', '[]', null, 'cus_1: ada f cus_1 {}, ada t cus_0 {}, bob f cus_3 {}')
) as v (kept, theirs, gone, wanted);

-- ---- what is sold: plans with an active price, and meters of active metered ones
update public.prices as c set active = false where c.plan = 'ENTERPRISE' or c.lookup_key in ('pro_llm_tokens_monthly', 'teams_llm_tokens_monthly', 'teams_yearly');
select is((select concat_ws(' | ', (select string_agg(p ->> 'plan', ' ' order by p ->> 'plan') from jsonb_array_elements(c -> 'products') as p), c -> 'meters',
  (select string_agg(p ->> 'lookup_key', ' ' order by p ->> 'lookup_key') from jsonb_array_elements(c -> 'prices') as p where p ->> 'plan' in ('TEAMS', 'ENTERPRISE'))) from private.billing_catalogue() as c),
  'PRO TEAMS | ["executions"] | teams_executions_monthly teams_monthly', 'nothing that is no longer sold');
select is((select bool_or(p ?| '{created_at,updated_at,active,trial_days}') from jsonb_array_elements(private.billing_catalogue() -> 'prices') as p), false, 'and only what Stripe needs of it');
update public.prices as c set active = true where c.plan in ('PRO', 'TEAMS', 'ENTERPRISE');

-- ---- what is told: of a payment that failed, and of a trial that nobody else announces, to its own organization
create function tests.told(of text, variadic events jsonb[]) returns text language sql as $$
  select tests.after(events, format($q$
    select string_agg(concat_ws(' ', case n.org_id when tests.org('ada') then 'ada' when tests.org('bob') then 'bob' end, n.data ->> 'plan', n.data ->> 'until', n.data ->> 'date'), ', ' order by n.org_id = tests.org('bob'))
    from public.notifications as n where n.type = %L and n.org_id in (tests.org('ada'), tests.org('bob'))
  $q$, of))
$$;
create function tests.checkout(who text, fails boolean default false) returns jsonb language sql as $$
  select tests.event(case when fails then 'checkout.session.async_payment_failed' else 'checkout.session.completed' end, case when fails then 9 else 8 end,
    tests.session('cs_f', 'cus_f', 'sub_f', case when who <> 'nobody' then tests.org(who)::text end, 'unpaid'))
$$;
select is(tests.told('billing.payment_failed', variadic e), wanted, name)
from (values
  (array[tests.checkout('ada'), tests.checkout('ada', true)], 'ada Free ' || to_char((to_timestamp(tests.second(9)) + interval '7 days') at time zone 'UTC', 'YYYY-MM-DD'), 'a payment of ada that failed'),
  (array[tests.checkout('bob') || '{"livemode": true}', tests.checkout('ada'), tests.checkout('ada', true)],
    'ada Free ' || to_char((to_timestamp(tests.second(9)) + interval '7 days') at time zone 'UTC', 'YYYY-MM-DD'), 'beside the session of that id of the other mode'),
  (array[tests.checkout('nobody'), tests.checkout('nobody', true)], null, 'one of whom nobody knows the organization')
) as v (e, wanted, name);
create function tests.ending(who text, ends boolean default false, livemode boolean default false) returns jsonb language sql as $$
  select tests.event(case when ends then 'customer.subscription.trial_will_end' else 'customer.subscription.updated' end, case when ends then 9 else 8 end,
    tests.subscription('sub_e', 'cus_e', 'trialing', 'pro_monthly', jsonb_build_object('metadata', jsonb_build_object('org_id', tests.org(who)), 'trial_end', case when ends then 1893456000 end))) || jsonb_build_object('livemode', livemode)
$$;
select is(tests.told('trial.ending', tests.ending('ada'), tests.ending('ada', true)), 'ada 2030-01-01', 'a trial that Stripe alone knows');
select is(tests.told('trial.ending', tests.ending('bob', livemode => true), tests.ending('ada'), tests.ending('ada', true)), 'ada 2030-01-01', 'beside one of that id of the other mode');
select is(tests.told('trial.ending', tests.ending('ada'), tests.ending('ada', true)), 'ada 2030-01-01', 'and while another organization has one of ours') from (select private.plans_trial_begin(tests.org('bob'), null)) as began;
select is(tests.told('trial.ending', tests.ending('bob'), tests.ending('bob', true)), null, 'which is announced by us');
select private.plans_trial_end(tests.org('bob'));
select is(tests.told('trial.ending', tests.ending('bob'), tests.ending('bob', true)), 'bob 2030-01-01', 'until it has ended');

-- ---- details are compared where there is an account, a customer and something to compare
create function tests.agrees(account boolean, customer boolean, details boolean) returns boolean language plpgsql as $$
declare
  answer boolean;
begin
  begin
    delete from private.billing_customers;
    delete from public.stripe_customers;
    delete from public.billing_details as d where d.org_id in (tests.org('ada'), tests.org('bob'));
    delete from private.billing_effects;
    insert into private.billing_customers (organization_id, livemode, customer_id) select tests.org('ada'), false, 'cus_a' where customer;
    insert into public.billing_details (org_id, kind, name, country) select tests.org('ada'), 'consumer', 'Ada', 'NL' where details;
    insert into public.billing_details (org_id, kind, name, country) values (tests.org('bob'), 'consumer', 'Bob', 'NL');
    if not account then
      delete from private.billing_account;
    end if;
    answer := private.billing_sync_organization(tests.org('ada'));
    raise exception 'undone' using errcode = 'ZZZZZ';
  exception when sqlstate 'ZZZZZ' then null;
  end;
  return answer;
end
$$;
select is(tests.agrees(account, customer, details), wanted, format('account %s, customer %s, details %s', account, customer, details))
from (values (true, true, true, false), (false, true, true, true), (true, false, true, true), (true, true, false, true)) as v (account, customer, details, wanted);

select * from finish();
rollback;
