begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(12);

select tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('ada');
delete from public.stripe_subscriptions;
delete from private.billing_effects;
delete from private.billing_terms;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');
insert into public.billing_details (org_id, kind, name, country) values (tests.org('bob'), 'business', 'Bob BV', 'NL');

create function tests.buys(who text, key text, metered text) returns void language plpgsql as $$
begin
  perform tests.send(tests.event('customer.subscription.created', 1, tests.subscription('sub_' || who, 'cus_' || who, 'active', key, jsonb_build_object(
    'metadata', jsonb_build_object('org_id', tests.org(who)),
    'items', jsonb_build_object('data', jsonb_build_array(tests.item('si_1', key, 0, 2592000), tests.item('si_2', metered, 0, 2592000)))
  ))));
  perform tests.send(tests.event('invoice.paid', 1, tests.invoice('in_' || who, 'cus_' || who, 'sub_' || who, 'paid', '{"billing_reason": "subscription_create"}')));
end
$$;
create function tests.items() returns table (subject text, body text, amount_cents bigint) language sql as $$
  select e.subject, r.body, p.amount_cents from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id
  join private.billing_reports as p on private.billing_report_subject(p) = e.subject
  where e.kind = 'invoice_item' order by e.created_at, e.id
$$;
create function tests.end_of(who text) returns interval language sql as $$
  select u.reset_at - now() from kijko.usage(tests.org(who)) as u where u.meter = 'executions'
$$;

-- ---- the last minute of a period, of which nothing was reported
select tests.buys('bob', 'pro_monthly', 'pro_executions_monthly');
select is(tests.plan('bob'), 'PRO active', 'bob has overage');
select is((select t.included from private.billing_terms as t where t.organization_id = tests.org('bob') and t.meter = 'executions'), 2000::bigint, 'by the terms of now');
select tests.end_of('bob') as period_end \gset
select tests.travel(:'period_end'::interval - interval '30 seconds');
select kijko.consume(tests.org('bob'), 'executions', 2003);
select tests.travel(:'period_end'::interval + interval '1 minute');
-- Meanwhile bob changes to a plan with other prices and more included.
update public.stripe_subscriptions set items = '[{"id": "si_1", "price": "price_teams_monthly", "lookup_key": "teams_monthly"}, {"id": "si_2", "price": "price_teams_executions_monthly", "lookup_key": "teams_executions_monthly"}]' where id = 'sub_bob';
select private.stripe_refresh_plan(tests.org('bob'));
select is(tests.plan('bob'), 'TEAMS active', 'and changes the plan');
-- The new period has something to report, too.
select kijko.consume(tests.org('bob'), 'executions', 30000);
select private.billing_report_use();
select is((select i.amount_cents from tests.items() as i), 15::bigint, 'the last minute is billed, at the price of then');
select private.billing_report_use();
select is((select count(*) from tests.items()), 1::bigint, 'once');
select is((select e.max_attempts from kijko.http_requests as e join private.billing_effects as b on b.request_id = e.id where b.kind = 'invoice_item'), 1, 'by one attempt: a second one could count twice');
-- It arrives; then a part is taken back, while a report of the new period is on its way.
update private.billing_effects set state = 'done', ended_at = now() where kind = 'invoice_item';
select private.billing_settle_report(e, 'done', '{}') from private.billing_effects as e where e.kind = 'invoice_item';
select private.billing_report_use();
select is((select count(*) from private.billing_effects where kind = 'meter_event' and state = 'open'), 1::bigint, 'then the new period is reported');
select kijko.correct_usage(tests.org('bob'), 'executions', -2, 'a mistake', (now() + :'period_end'::interval - interval '30 seconds')::timestamptz);
select tests.travel(:'period_end'::interval + interval '10 minutes');
select private.billing_report_use();
update private.billing_effects set state = 'done', ended_at = now() where kind = 'meter_event';
select private.billing_settle_report(e, 'done', '{}') from private.billing_effects as e where e.kind = 'meter_event';
select private.billing_report_use();
select is((select i.amount_cents from tests.items() as i order by i.amount_cents limit 1), -10::bigint, 'what is taken back is credited at that price');
-- What has ended has no next invoice.
update public.stripe_subscriptions set status = 'canceled' where id = 'sub_bob';
update private.billing_effects set state = 'done', ended_at = now() where kind = 'invoice_item' and state = 'open';
select private.billing_settle_report(e, 'done', '{}') from private.billing_effects as e where e.kind = 'invoice_item' order by e.created_at desc, e.id;
select isnt_empty($$select 1 from private.billing_effects where kind = 'invoice'$$, 'after the end of the subscription it gets an invoice of its own');
select tests.travel(:'period_end'::interval + interval '12 days');
select private.billing_settle_periods();
select private.billing_settle_periods();
select is((select count(*) from private.billing_terms as t where t.organization_id = tests.org('bob') and t.period_end < kijko.now() and t.check_at is not null), 0::bigint, 'after ten days it is settled');
select tests.travel('0');

-- ---- a month that a change of the calendar has moved
select tests.buys('vic', 'pro_monthly', 'pro_executions_monthly');
select kijko.consume(tests.org('vic'), 'executions', 1);
select kijko.set_calendar(tests.org('vic'), 'Asia/Tokyo');
select tests.end_of('vic') as period_end \gset
select tests.travel(:'period_end'::interval + interval '1 hour');
select private.billing_report_use();
select tests.end_of('vic') as moved_end \gset
select tests.travel(:'moved_end'::interval - interval '30 seconds');
select kijko.consume(tests.org('vic'), 'executions', 2003);
select tests.travel(:'moved_end'::interval + interval '1 minute');
select kijko.consume(tests.org('vic'), 'executions', 7);
select is((select extract(epoch from t.period_end - t.period_start)::bigint % 86400 <> 0 from private.billing_terms as t
  where t.organization_id = tests.org('vic') and t.meter = 'executions' and t.period_end < kijko.now() order by t.period_end desc limit 1), true, 'the period is no whole number of days');
select private.billing_report_use();
select is((select array_agg((p.used, p.amount)::text) from private.billing_reports as p where p.organization_id = tests.org('vic')), '{"(2003,3)"}', 'its use is that of its own days');

select * from finish();
rollback;
