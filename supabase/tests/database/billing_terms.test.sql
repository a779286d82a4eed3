-- What use costs in a period, when what was reported is compared with the ledger, and what is asked of Stripe again: each rule at its edges, beside rows of others.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
delete from private.billing_effects;
delete from private.billing_reports;
delete from private.billing_terms;
delete from public.stripe_subscriptions;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');
select private.billing_record_object('meter', 'executions', false, 'mtr_1');

-- Terms of ada's executions, of a period that has ended now, and of which nothing is beyond what is included, unless they say otherwise.
create function tests.terms(rows jsonb) returns void language sql as $$
  delete from private.billing_terms;
  insert into private.billing_terms
  select (jsonb_populate_record(null::private.billing_terms, jsonb_build_object(
    'organization_id', tests.org(coalesce(r ->> 'who', 'ada')), 'meter', 'executions', 'period_start', kijko.now() - interval '40 days', 'period_end', kijko.now() - coalesce((r ->> 'ago')::interval, '0'),
    'lookup_key', 'pro_executions_monthly', 'included', 100, 'subscription_id', 'sub_t', 'customer_id', 'cus_t', 'livemode', false,
    'check_at', case when r ? 'due' then kijko.now() - (r ->> 'due')::interval else kijko.now() - interval '1 hour' end
  ) || r)).* from jsonb_array_elements(rows) as r
$$;
create function tests.report(more jsonb) returns void language sql as $$
  delete from private.billing_reports;
  delete from private.billing_effects;
  insert into private.billing_reports
  select (jsonb_populate_record(null::private.billing_reports, jsonb_build_object(
    'organization_id', tests.org(coalesce(more ->> 'who', 'ada')), 'meter', 'executions', 'period_end', '2026-02-01T00:00:00Z', 'seq', 1, 'lookup_key', 'pro_executions_monthly', 'subscription_id', 'sub_t', 'customer_id', 'cus_t',
    'livemode', false, 'used', 0, 'included', 0, 'amount', 1, 'via', 'meter_event', 'state', 'open', 'created_at', now() - interval '1 day',
    'ended_at', case when more ? 'ago' then clock_timestamp() - (more ->> 'ago')::interval end
  ) || more)).* where more is not null
$$;

-- ---- a period that is over is looked at after 5 minutes, 10, 20 … a day, for ten days; what was just made stays due
create function tests.settles(term jsonb, report jsonb default null) returns text language plpgsql as $$
declare
  made boolean;
begin
  perform tests.terms(jsonb_build_array(term)), tests.report(report);
  made := private.billing_settle_period(t) from private.billing_terms as t;
  return concat_ws(' ', made, (select coalesce((t.check_at - kijko.now())::text, 'settled') from private.billing_terms as t));
end
$$;
select is(tests.settles(term, report), wanted, format('%s after %s', term, report))
from (values
  ('{"ago": "0"}'::jsonb, null::jsonb, 'f 00:05:00'), ('{"ago": "5 minutes"}', null, 'f 00:05:00'), ('{"ago": "6 minutes"}', null, 'f 00:06:00'), ('{"ago": "1 day"}', null, 'f 1 day'), ('{"ago": "2 days"}', null, 'f 1 day'),
  ('{"ago": "9 days 23:59:59.999999"}', null, 'f 1 day'), ('{"ago": "10 days"}', null, 'f settled'), ('{"included": -3}', null, 't -01:00:00'), ('{"included": -3, "ago": "11 days"}', null, 't -01:00:00'),
  ('{}', '{}', 'f -01:00:00'), ('{}', '{"state": "unknown"}', 'f -01:00:00'), ('{}', '{"state": "failed", "ago": "5 minutes"}', 'f -01:00:00'), ('{}', '{"state": "failed", "ago": "11 minutes"}', 'f 00:05:00'),
  ('{}', '{"state": "done", "ago": "1 minute"}', 'f 00:05:00'), ('{}', '{"meter": "llm_tokens"}', 'f 00:05:00'), ('{}', '{"who": "bob"}', 'f 00:05:00'), ('{}', '{"meter": "llm_tokens", "state": "failed", "ago": "5 minutes"}', 'f 00:05:00'),
  ('{}', '{"who": "bob", "state": "failed", "ago": "5 minutes"}', 'f 00:05:00')
) as v (term, report, wanted);
create function tests.settle_all(rows jsonb) returns integer language plpgsql as $$
begin
  perform tests.terms(rows), tests.report(null);
  return private.billing_settle_periods();
end
$$;
select is(tests.settle_all(rows), wanted, rows::text)
from (values
  ('[{"included": -3, "due": "0"}]'::jsonb, 1), ('[{"included": -3, "due": "-00:00:00.000001"}]', 0), ('[{"included": -3, "check_at": null}]', 0), ('[{"included": -3, "livemode": true}]', 0), ('[{"included": -3}, {"included": -3, "who": "bob"}, {"meter": "llm_tokens"}]', 2)
) as v (rows, wanted);

-- ---- the terms of the period that runs replace those of another end, and follow what changes
create function tests.notes(rows jsonb) returns text language plpgsql as $$
declare
  ends constant timestamptz := (select u.reset_at from kijko.usage(tests.org('ada')) as u where u.meter = 'executions');
begin
  perform tests.terms(rows);
  update private.billing_terms as t set period_end = ends where t.included = 7;
  perform private.billing_note_terms(tests.org('ada'), row('sub_n', 'cus_n', false, c)::private.billing_metered_item, ends, 2000) from public.prices as c where c.lookup_key = 'pro_executions_monthly';
  return (
    select string_agg(concat_ws(' ', case t.organization_id when tests.org('ada') then 'ada' else 'bob' end, t.meter, case when t.period_end = ends then 'runs' else (kijko.now() - t.period_end)::text end, t.included, t.subscription_id), ', ' order by t.included)
    from private.billing_terms as t
  );
end
$$;
select is(tests.notes(rows), wanted, rows::text)
from (values
  ('[]'::jsonb, 'ada executions runs 2000 sub_n'), ('[{"included": 7}]', 'ada executions runs 2000 sub_n'), ('[{"included": 1, "ago": "-1 hour"}]', 'ada executions runs 2000 sub_n'), ('[{"included": 1, "ago": "0"}]', 'ada executions 00:00:00 1 sub_t, ada executions runs 2000 sub_n'),
  ('[{"included": 1, "ago": "1 hour"}]', 'ada executions 01:00:00 1 sub_t, ada executions runs 2000 sub_n'), ('[{"included": 1, "ago": "-1 hour", "meter": "llm_tokens"}]', 'ada llm_tokens -01:00:00 1 sub_t, ada executions runs 2000 sub_n'),
  ('[{"included": 1, "ago": "-1 hour", "who": "bob"}]', 'bob executions -01:00:00 1 sub_t, ada executions runs 2000 sub_n')
) as v (rows, wanted);

-- ---- a report that nothing is on the way for is asked about
create function tests.asks(report jsonb, effect jsonb default null) returns boolean language plpgsql as $$
begin
  perform tests.terms('[]'), tests.report(report);
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, state, ended_at)
  select effect ->> 'kind', coalesce(effect ->> 'subject', private.billing_report_subject(r)), tests.org('ada'), false, gen_random_uuid(), coalesce(effect ->> 'state', 'open'), case when effect ? 'ago' then clock_timestamp() - (effect ->> 'ago')::interval end
  from private.billing_reports as r where effect is not null;
  perform private.billing_report_use();
  return exists (select from private.billing_effects as e join kijko.http_requests as h on h.id = e.request_id where e.kind = 'meter_check');
end
$$;
select is(tests.asks(report, effect), wanted, format('%s beside %s', report, effect))
from (values
  ('{}'::jsonb, null::jsonb, true), ('{"state": "unknown"}', null, true), ('{"state": "done", "ago": "1 hour"}', null, false), ('{"state": "failed", "ago": "1 hour"}', null, false), ('{"livemode": true}', null, false),
  ('{}', '{"kind": "meter_event"}', false), ('{}', '{"kind": "meter_event", "state": "failed", "ago": "5 minutes"}', false), ('{}', '{"kind": "meter_event", "state": "failed", "ago": "11 minutes"}', true),
  ('{}', '{"kind": "meter_event", "subject": "other"}', true), ('{}', '{"kind": "seats"}', true), ('{}', '{"kind": "meter_event", "subject": "other", "state": "failed", "ago": "5 minutes"}', true)
) as v (report, effect, wanted);

-- ---- use is reported of what is limited, and what is not limited keeps nothing else back
create function tests.subscribed(more jsonb) returns void language plpgsql as $$
begin
  delete from public.stripe_subscriptions as s where s.customer_id = 'cus_t';
  perform set_config('session_replication_role', 'replica', true);
  insert into public.stripe_subscriptions select (jsonb_populate_record(null::public.stripe_subscriptions, jsonb_build_object(
    'id', 'sub_t', 'customer_id', 'cus_t', 'org_id', tests.org('ada'), 'status', 'active', 'collection_method', 'send_invoice', 'tax_rate_ids', '{}', 'cancel_at_period_end', false, 'livemode', false, 'event_id', 'evt_t', 'created_at', now(), 'as_of', now(),
    'items', '[{"id": "si_1", "price": "price_1", "lookup_key": "pro_monthly", "quantity": 1}, {"id": "si_2", "price": "price_2", "lookup_key": "pro_executions_monthly"}, {"id": "si_3", "price": "price_3", "lookup_key": "pro_llm_tokens_monthly"}]'::jsonb
  ) || more)).*;
  perform set_config('session_replication_role', 'origin', true);
end
$$;
create function tests.reports(executions bigint, more jsonb default '{}') returns text language plpgsql as $$
declare
  n integer;
begin
  perform tests.terms('[]'), tests.report(null), tests.subscribed(more);
  perform kijko.set_limits(array[tests.org('ada'), tests.org('ada')], '{executions,llm_tokens}', '{month,month}', array[executions, 10], '{bill,bill}');
  n := private.billing_report_use();
  return concat_ws(' ', n, (select string_agg(r.meter || ' ' || r.amount, ', ' order by r.meter) from private.billing_reports as r));
end
$$;
select kijko.record_usage(tests.org('ada'), 'executions', 13, kijko.now());
select kijko.record_usage(tests.org('ada'), 'llm_tokens', 17, kijko.now());
select is(tests.reports(executions, more), wanted, format('with %s included, of %s', executions, more))
from (values (10::bigint, '{}'::jsonb, '2 executions 3, llm_tokens 7'), (13, '{}', '1 llm_tokens 7'), (null, '{}', '1 llm_tokens 7'), (10, '{"status": "canceled"}', '0'), (10, '{"org_id": null}', '0'), (10, '{"livemode": true}', '0')) as v (executions, more, wanted);

-- ---- what a member sees of the next bill
create function tests.bill(executions bigint) returns jsonb language plpgsql as $$
begin
  perform tests.subscribed('{}');
  perform kijko.set_limits(array[tests.org('ada'), tests.org('ada')], '{executions,llm_tokens}', '{month,month}', array[executions, null], '{bill,bill}');
  return private.billing_usage(tests.org('ada'));
end
$$;
create function tests.rate() returns bigint language sql as $$ select f.at_period_rate from kijko.usage_forecast(tests.org('ada')) as f where f.meter = 'executions' $$;
select is(
  (select concat_ws(' ', jsonb_array_length(b -> 'meters'), b #> '{meters,0,overage}', b #> '{meters,0,overage_cents}', (b #>> '{meters,0,projected_overage_cents}')::bigint - greatest(tests.rate() - included, 0) * 5,
    (b ->> 'total_cents')::bigint - 2900 - greatest(13 - included, 0) * 5, (b ->> 'projected_cents')::bigint - 2900 - greatest(tests.rate() - included, 0) * 5) from tests.bill(included) as b),
  wanted, 'with ' || included
) from (values (10::bigint, '1 3 15 0 0 0'), (13, '1 0 0 0 0 0'), (1000000000, '1 0 0 0 0 0')) as v (included, wanted);
select is(tests.bill(null) -> 'meters', '[]', 'without a limit there is nothing beyond it');

select * from finish();
rollback;
