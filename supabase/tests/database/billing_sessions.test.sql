-- Checkouts that are open, that others overtake, and that were paid twice: each rule at its edges, beside rows of others.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
delete from private.billing_effects;
delete from private.billing_sessions;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');
create function tests.opened(id text, more jsonb default '{}', who text default 'ada') returns void language sql as $$
  insert into private.billing_sessions
  select (jsonb_populate_record(null::private.billing_sessions, jsonb_build_object(
    'id', opened.id, 'livemode', false, 'organization_id', tests.org(who), 'has_trial', false, 'state', 'open', 'created_at', clock_timestamp() - interval '1 hour'
  ) || more || case when more ? 'ago' then jsonb_build_object('created_at', clock_timestamp() - (more ->> 'ago')::interval) else '{}' end)).*
$$;
create function tests.states() returns text language sql as $$
  select string_agg(concat_ws(' ', s.id, s.state), ', ' order by s.id, s.livemode) from private.billing_sessions as s
$$;
create function tests.asked(of text) returns text language sql as $$
  select string_agg(e.subject, ' ' order by e.subject) from private.billing_effects as e where e.kind = of
$$;
create function tests.told() returns bigint language sql as $$ select count(*) from public.notifications as n where n.type = 'billing.duplicate_cancelled' $$;
create function tests.anew() returns void language sql as $$
  delete from private.billing_effects;
  delete from private.billing_sessions;
$$;

-- ---- a new session is told which of the organization's are open
select tests.opened('cs_1', '{"ago": "3 hours"}'), tests.opened('cs_2', '{"ago": "2 hours"}'), tests.opened('cs_done', '{"state": "complete"}'), tests.opened('cs_live', '{"livemode": true}'),
  tests.opened('cs_bob', '{}', 'bob');
select is(private.billing_record_session(tests.org('ada'), false, 'cs_3', false), '["cs_1", "cs_2"]', 'those before it, of this mode');
select is(private.billing_record_session(tests.org('ada'), false, 'cs_1', false), '[]', 'again, those before that one');
select is(private.billing_record_session(gen_random_uuid(), false, 'cs_4', false), null, 'none of an organization that is gone');
select private.billing_end_session('cs_1', false, 'expired'), private.billing_end_session('cs_done', false, 'expired'), private.billing_end_session('cs_live', false, 'expired');
select is(tests.states(), 'cs_1 expired, cs_2 open, cs_3 open, cs_bob open, cs_done complete, cs_live open', 'one that is open ends, in its mode');
create function tests.settles(state text, status integer) returns text language plpgsql as $$
declare
  effect private.billing_effects;
begin
  perform tests.anew();
  perform tests.opened('cs_1'), tests.opened('cs_2');
  effect.subject := 'cs_1';
  effect.livemode := false;
  perform private.billing_settle_session(effect, settles.state, status);
  return tests.states();
end
$$;
select is(tests.settles(state, status), wanted, format('an answer %s %s', state, status))
from (values ('done', 200, 'cs_1 expired, cs_2 open'), ('failed', 404, 'cs_1 expired, cs_2 open'), ('failed', 400, 'cs_1 open, cs_2 open')) as v (state, status, wanted);

-- ---- which are ended: after a day, by a newer one, by a plan, by a trial that is no longer allowed
create function tests.expires(sessions jsonb) returns text language plpgsql as $$
declare
  n integer;
begin
  perform tests.anew();
  perform tests.opened('cs_1', s - 'who', coalesce(s ->> 'who', 'ada')) from jsonb_array_elements(sessions) with ordinality as e (s, n) where e.n = 1;
  perform tests.opened('cs_2', s - 'who', coalesce(s ->> 'who', 'ada')) from jsonb_array_elements(sessions) with ordinality as e (s, n) where e.n = 2;
  n := private.billing_expire_sessions();
  return concat_ws('; ', n, tests.states(), tests.asked('session_expiry'));
end
$$;
select is(tests.expires(s), wanted, s::text)
from (values
  ('[{"ago": "26 hours"}]'::jsonb, '0; cs_1 expired'), ('[{"ago": "24 hours"}]', '0; cs_1 open'), ('[{"ago": "26 hours", "state": "complete"}]', '0; cs_1 complete'),
  ('[{"ago": "2 hours"}, {}]', '1; cs_1 open, cs_2 open; cs_1'), ('[{"ago": "2 hours"}, {"who": "bob"}]', '0; cs_1 open, cs_2 open'), ('[{"ago": "2 hours"}, {"livemode": true}]', '0; cs_1 open, cs_2 open'),
  ('[{"ago": "2 hours"}, {"state": "expired"}]', '0; cs_1 open, cs_2 expired'), ('[{"ago": "2 hours", "state": "expired"}, {}]', '0; cs_1 expired, cs_2 open'), ('[{"has_trial": true}]', '0; cs_1 open')
) as v (s, wanted);
select private.plans_trial_begin(tests.org('ada'), null);
select is(tests.expires(s), wanted, 'after a trial: ' || s::text) from (values ('[{"has_trial": true}]'::jsonb, '1; cs_1 open; cs_1'), ('[{"has_trial": false}]', '0; cs_1 open')) as v (s, wanted);
create function tests.buys(who text, id text, second integer default 0, status text default 'active') returns jsonb language sql as $$
  select tests.event('customer.subscription.created', 1, tests.subscription(buys.id, 'cus_' || who, status, 'pro_monthly', jsonb_build_object(
    'metadata', jsonb_build_object('org_id', tests.org(who)), 'created', tests.second(second), 'collection_method', 'send_invoice'
  )))
$$;
select is(tests.after(array[tests.buys(who, 'sub_1')], $$select tests.expires('[{}]')$$), wanted, 'with a plan of ' || who) from (values ('ada', '1; cs_1 open; cs_1'), ('bob', '0; cs_1 open')) as v (who, wanted);

-- ---- one that is paid ends the others of its organization
create function tests.completes(mode text) returns text language plpgsql as $$
begin
  perform tests.anew();
  perform tests.opened('cs_1'), tests.opened('cs_2'), tests.opened('cs_bob', '{}', 'bob'), tests.opened('cs_live', '{"livemode": true}'), tests.opened('cs_old', '{"state": "expired"}');
  return tests.after(array[tests.event('checkout.session.completed', 2, tests.session('cs_1', 'cus_ada', 'sub_1', tests.org('ada')::text, 'paid', jsonb_build_object('mode', completes.mode)))],
    $q$select concat_ws('; ', tests.states(), tests.asked('session_expiry'))$q$);
end
$$;
select is(tests.completes(mode), wanted, mode)
from (values
  ('subscription', 'cs_1 complete, cs_2 open, cs_bob open, cs_live open, cs_old expired; cs_2'), ('setup', 'cs_1 complete, cs_2 open, cs_bob open, cs_live open, cs_old expired')
) as v (mode, wanted);

-- ---- of two that were paid the later one is cancelled, if it was bought here
create function tests.twice(session jsonb, variadic subscriptions jsonb[]) returns text language plpgsql as $$
begin
  perform tests.anew();
  perform tests.opened('cs_2', '{"state": "complete"}' || session);
  return tests.after(subscriptions || array[tests.event('checkout.session.completed', 2, tests.session('cs_2', 'cus_ada', 'sub_2', tests.org('ada')::text))],
    $q$select concat_ws('; ', private.billing_cancel_duplicates(), tests.asked('duplicate'), tests.told())$q$);
end
$$;
select is(tests.twice('{}', tests.buys('ada', 'sub_1'), tests.buys('ada', 'sub_2', 1)), '1; sub_2; 1', 'the later one');
select is(tests.twice('{}', tests.buys('ada', 'sub_1', 2), tests.buys('ada', 'sub_2', 1)), '0; 0', 'not the earlier one');
select is(tests.twice('{}', tests.buys('ada', 'sub_2', 1)), '0; 0', 'not the only one');
select is(tests.twice('{}', tests.buys('ada', 'sub_2', 1), tests.buys('ada', 'sub_9', 5), tests.event('checkout.session.completed', 2, tests.session('cs_9', 'cus_ada', 'sub_9', tests.org('ada')::text))), '0; 0',
  'nor a later one whose session was not handed out here');
select is(tests.twice('{}', tests.buys('bob', 'sub_1'), tests.buys('ada', 'sub_2', 1)), '0; 0', 'not beside another organization''s');
select is(tests.twice('{}', tests.buys('ada', 'sub_1') || '{"livemode": true}', tests.buys('ada', 'sub_2', 1)), '0; 0', 'nor one of the other mode');
select is(tests.twice('{}', tests.buys('ada', 'sub_1', status => 'canceled'), tests.buys('ada', 'sub_2', 1)), '0; 0', 'nor one that has ended');
select is(tests.twice('{"state": "expired"}', tests.buys('ada', 'sub_1'), tests.buys('ada', 'sub_2', 1)), '0; 0', 'not one whose session is none that was paid');
select is(tests.twice('{"ago": "36 days"}', tests.buys('ada', 'sub_1'), tests.buys('ada', 'sub_2', 1)), '0; 0', 'nor one of long ago');

-- ---- and what was paid for it goes back, once
create function tests.refunds(effect jsonb, invoice jsonb, note jsonb default null) returns text language plpgsql as $$
declare
  n integer;
begin
  perform tests.anew();
  delete from public.stripe_invoices as i where i.customer_id = 'cus_ada';
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, state, created_at, ended_at)
  select e ->> 'kind', e ->> 'subject', tests.org('ada'), false, gen_random_uuid(), e ->> 'state', clock_timestamp() - coalesce((e ->> 'made')::interval, interval '0'),
    case when e ->> 'state' <> 'open' then clock_timestamp() - (e ->> 'ago')::interval end
  from unnest(array['{"kind": "duplicate", "subject": "sub_2", "state": "done", "ago": "1 day"}' || effect, '{"kind": "credit_note", "subject": "in_2", "state": "open"}' || note]) as e where e is not null;
  insert into public.stripe_invoices
  select (jsonb_populate_record(null::public.stripe_invoices, jsonb_build_object(
    'id', 'in_2', 'customer_id', 'cus_ada', 'subscription_id', 'sub_2', 'status', 'paid', 'total', 2900, 'tax', 0, 'amount_due', 2900, 'amount_paid', 2900, 'paid_out_of_band', false,
    'amount_remaining', 0, 'attempt_count', 0, 'deleted', false, 'livemode', false, 'event_id', 'evt_x', 'as_of', now()
  ) || invoice)).*;
  n := private.billing_refund_duplicates(10);
  return concat_ws(' ', n, (select string_agg(substring(r.body from 'amount=\d+'), ' ') from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id where e.kind = 'credit_note'));
end
$$;
select is(tests.refunds(e, i, c), wanted, format('%s %s %s', e, i, c))
from (values
  ('{}'::jsonb, '{}'::jsonb, null::jsonb, '1 amount=2900'), ('{}', '{"amount_paid": 1}', null, '1 amount=1'), ('{}', '{"amount_paid": 0}', null, '0'), ('{}', '{"status": "open"}', null, '0'),
  ('{}', '{"livemode": true}', null, '0'), ('{}', '{"subscription_id": "sub_1"}', null, '0'), ('{"kind": "cancel"}', '{}', null, '0'), ('{"made": "36 days"}', '{}', null, '0'),
  ('{}', '{}', '{}', '0'), ('{}', '{}', '{"state": "done", "ago": "2 hours"}', '0'), ('{}', '{}', '{"state": "failed", "ago": "30 minutes"}', '0'), ('{}', '{}', '{"state": "failed", "ago": "61 minutes"}', '1 amount=2900'),
  ('{}', '{}', '{"subject": "in_1"}', '1 amount=2900'), ('{}', '{}', '{"kind": "customer"}', '1 amount=2900')
) as v (e, i, c, wanted);

-- ---- what has ended is forgotten after ninety days
select tests.anew(), tests.opened('cs_1', '{"state": "expired", "ago": "91 days"}'), tests.opened('cs_2', '{"ago": "91 days"}'), tests.opened('cs_3', '{"state": "expired", "ago": "89 days"}');
select is(private.billing_purge_sessions(), 1, 'one');
select is(tests.states(), 'cs_2 open, cs_3 expired', 'and what is open or younger stays');

select * from finish();
rollback;
