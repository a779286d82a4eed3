-- Trials that begin at Stripe: how long, whose, with which payment method, and which are ended at once.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
delete from private.billing_effects;
delete from private.billing_trials;
delete from private.billing_payment_methods;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');
create function tests.trial(who text, days numeric default 14, ours boolean default true, status text default 'trialing', id text default null, second integer default 1) returns jsonb language sql as $$
  select tests.event('customer.subscription.updated', second, tests.subscription(coalesce(id, 'sub_' || who), 'cus_' || who, status, 'pro_monthly', jsonb_build_object(
    'trial_end', tests.second(0) + (days * 86400)::bigint, 'collection_method', 'send_invoice',
    'metadata', jsonb_build_object('org_id', tests.org(who)) || case when ours then '{"kijko_trial": "checkout"}'::jsonb else '{}' end
  )))
$$;
-- Which trials there are, what was asked of Stripe, and who was told.
create function tests.began() returns text language sql as $$
  select concat_ws(' | ',
    (select string_agg(concat_ws(' ', t.subscription_id, t.allowed, t.by_checkout), ', ' order by t.subscription_id, t.livemode) from private.billing_trials as t),
    (select string_agg(concat_ws(' ', round(extract(epoch from t.ends_at - t.started_at) / 86400, 2), case when t.ended_at is not null then 'ended' end), ', ' order by t.ends_at - t.started_at)
      from private.plan_trials as t where t.organization in (tests.org('ada'), tests.org('bob'))),
    (select string_agg(e.subject, ', ' order by e.subject) from private.billing_effects as e where e.kind = 'trial_end'),
    (select count(*) from public.notifications as n where n.type = 'billing.trial_refused'))
$$;
create function tests.begins(variadic events jsonb[]) returns text language sql as $$ select tests.after(events, 'select tests.began()') $$;

select is(tests.begins(tests.trial('ada', days)), wanted, format('a trial of %s days', days))
from (values (14, 'sub_ada t t | 14.00 | 0'), (100, 'sub_ada t t | 90.00 | 0'), (0, '0'), (-1, '0'), (0.25, 'sub_ada t t | 0.25 | 0')) as v (days, wanted);
select is(tests.begins(tests.trial('ada'), tests.trial('bob', 13)), 'sub_ada t t, sub_bob t t | 13.00, 14.00 | 0', 'two organizations');
select is(split_part(tests.begins(tests.trial('ada'), tests.trial('ada') || '{"livemode": true}'), ' | ', 1), 'sub_ada t t, sub_ada f t', 'in each mode, of which one is the trial');
select is(tests.begins(tests.trial('ada'), tests.trial('ada', status => 'active', second => 2), tests.trial('ada', second => 3)), 'sub_ada t t | 14.00 ended | 0', 'again trialing is no other trial');
select private.plans_trial_begin(tests.org('ada'), 'card-a', '1 day');
select is(tests.begins(tests.trial('ada')), 'sub_ada f t | 1.00 | sub_ada | 1', 'a second one that was bought here is ended');
select is(tests.begins(tests.trial('ada', ours => false)), 'sub_ada t f | 1.00 | 0', 'one that an operator set up stays');
select is(tests.begins(tests.trial('ada', status => 'active', id => 'sub_1', ours => false), tests.trial('ada')), 'sub_ada f t | 1.00 ended | 0', 'one beside a plan is cancelled as a whole')
from (select private.plans_trial_end(tests.org('ada'))) as ended;
select is(tests.begins(tests.trial(who, status => status, id => 'sub_1', ours => false) || more, tests.trial('ada')), 'sub_ada f t | 1.00 ended | sub_ada | 1', format('not beside one of %s that is %s %s', who, status, more))
from (values ('bob', 'active', '{}'::jsonb), ('ada', 'canceled', '{}'), ('ada', 'active', '{"livemode": true}')) as v (who, status, more);

-- ---- one that could not be ended is tried again
create function tests.retries(trial jsonb, subscription jsonb default '{}', effect jsonb default null) returns text language plpgsql as $$
declare
  n integer;
begin
  delete from private.billing_trials;
  delete from private.billing_effects;
  delete from public.stripe_subscriptions as s where s.customer_id = 'cus_t';
  perform set_config('session_replication_role', 'replica', true);
  insert into public.stripe_subscriptions select (jsonb_populate_record(null::public.stripe_subscriptions, jsonb_build_object(
    'id', 'sub_t', 'customer_id', 'cus_t', 'org_id', tests.org('ada'), 'status', 'trialing', 'items', '[]'::jsonb, 'tax_rate_ids', '{}', 'cancel_at_period_end', false, 'livemode', false,
    'event_id', 'evt_t', 'created_at', kijko.now() - interval '1 hour', 'trial_end', kijko.now() + interval '1 day', 'as_of', now()
  ) || subscription || case when subscription ? 'made' then jsonb_build_object('created_at', kijko.now() - (subscription ->> 'made')::interval) else '{}' end
    || case when subscription ? 'left' then jsonb_build_object('trial_end', kijko.now() + (subscription ->> 'left')::interval) else '{}' end)).*;
  perform set_config('session_replication_role', 'origin', true);
  insert into private.billing_trials select (jsonb_populate_record(null::private.billing_trials, jsonb_build_object(
    'subscription_id', 'sub_t', 'livemode', false, 'organization_id', tests.org('ada'), 'allowed', false, 'by_checkout', true) || trial)).*;
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, state, ended_at)
  select 'trial_end', 'sub_t', tests.org('ada'), false, gen_random_uuid(), 'failed', clock_timestamp() - (effect ->> 'ago')::interval where effect is not null;
  n := private.billing_retry_trial_ends();
  return concat_ws(' ', n, (select string_agg(e.subject, ' ') from private.billing_effects as e where e.kind = 'trial_end' and e.state = 'open'));
end
$$;
select is(tests.retries(t, s, e), wanted, format('%s %s %s', t, s, e))
from (values
  ('{}'::jsonb, '{}'::jsonb, null::jsonb, '1 sub_t'), ('{"allowed": true}', '{}', null, '0'), ('{}', '{"status": "active"}', null, '0'), ('{}', '{"left": "0"}', null, '0'), ('{}', '{"left": "1 microsecond"}', null, '1 sub_t'),
  ('{}', '{"made": "10 minutes"}', null, '0'), ('{}', '{"made": "10 minutes 0.000001 seconds"}', null, '1 sub_t'), ('{}', '{"livemode": true}', null, '0'), ('{"livemode": true}', '{"livemode": true}', null, '0'),
  ('{"subscription_id": "sub_u"}', '{}', null, '0'), ('{}', '{}', '{"ago": "5 minutes"}', '0'), ('{}', '{}', '{"ago": "11 minutes"}', '1 sub_t')
) as v (t, s, e, wanted);

-- ---- payment methods: the latest that Stripe tells, of each customer and mode
create function tests.method(id text, fingerprint text, second integer, customer text default 'cus_bob', livemode boolean default false) returns void language sql as $$
  select private.billing_keep_payment_method(jsonb_build_object('id', id, 'customer', customer, 'type', 'card', 'card', jsonb_build_object('fingerprint', fingerprint)), livemode, to_timestamp(tests.second(second)))
$$;
select tests.method('pm_1', 'first', 5), tests.method('pm_1', 'same second', 5), tests.method('pm_1', 'earlier', 4), tests.method('pm_1', null, 6), tests.method('pm_0', 'nobody', 9, null);
select is((select string_agg(concat_ws(' ', m.id, m.fingerprint, extract(epoch from m.as_of)::bigint - tests.second(0)), ', ') from private.billing_payment_methods as m), 'pm_1 same second 6', 'what is known of one');
select tests.method('pm_2', 'other customer', 8, 'cus_x'), tests.method('pm_3', 'other mode', 8, livemode => true), tests.method('pm_4', null, 8);
select is(private.billing_fingerprint('cus_bob', false), 'same second', 'the last fingerprint of a customer');
select tests.method('pm_5', 'later', 7);
select is(private.billing_fingerprint('cus_bob', false), 'later', 'is that of the last method');
delete from private.billing_payment_methods;

-- ---- a trial whose payment method somebody else had one with is ended
select private.billing_record_customer(tests.org('bob'), false, 'cus_bob', null);
create function tests.pays(trial jsonb, subscription jsonb, fingerprint text, customer text default 'cus_bob') returns text language plpgsql as $$
declare
  answer text;
begin
  begin
    perform tests.retries('{"allowed": true}' || jsonb_build_object('organization_id', tests.org('bob')) || trial, jsonb_build_object('customer_id', 'cus_bob', 'org_id', tests.org('bob')) || subscription);
    delete from private.billing_effects;
    perform private.plans_trial_begin(tests.org('bob'), null);
    perform tests.method('pm_9', fingerprint, 9, customer);
    answer := (select concat_ws(' ', case when t.ended_at is null then 'runs' else 'ended' end, case when t.fingerprint_hash is not null then 'known' end) from private.plan_trials as t where t.organization = tests.org('bob'))
      || coalesce((select ' ' || string_agg(e.subject, ' ') from private.billing_effects as e where e.kind = 'trial_end'), '');
    raise exception 'undone' using errcode = 'ZZZZZ';
  exception when sqlstate 'ZZZZZ' then null;
  end;
  return answer;
end
$$;
select is(tests.pays(t, s, f, c), wanted, format('%s %s %s %s', t, s, f, c))
from (values
  ('{}'::jsonb, '{}'::jsonb, 'card-a', 'cus_bob', 'ended sub_t'), ('{}', '{}', 'card-b', 'cus_bob', 'runs known'), ('{"by_checkout": false}', '{}', 'card-a', 'cus_bob', 'runs'), ('{"allowed": false}', '{}', 'card-a', 'cus_bob', 'runs'),
  ('{}', '{"customer_id": "cus_t"}', 'card-a', 'cus_bob', 'runs'), ('{}', '{"status": "active"}', 'card-a', 'cus_bob', 'runs'), ('{}', '{"left": "0"}', 'card-a', 'cus_bob', 'runs'),
  ('{"livemode": true}', '{"livemode": true}', 'card-a', 'cus_bob', 'runs'), ('{}', '{"livemode": true}', 'card-a', 'cus_bob', 'runs'), ('{}', '{}', 'card-a', 'cus_x', 'runs')
) as v (t, s, f, c, wanted);
select is(tests.pays(jsonb_build_object('organization_id', tests.org('ada')), '{}', 'card-a'), 'runs', 'the trial of another organization');

select * from finish();
rollback;
