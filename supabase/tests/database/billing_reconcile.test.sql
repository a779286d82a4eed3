-- What differs between the rows here and Stripe's, when Stripe is asked, and what operators are told: each rule at its edges.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
delete from private.billing_effects;
delete from private.billing_comparisons;
delete from private.billing_customers;
delete from public.stripe_customers;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');

-- ---- subscriptions: one there, one here, and what differs of one that is in both places
create function tests.row(more jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('id', 'sub_r', 'customer_id', 'cus_r', 'org_id', tests.org('ada'), 'status', 'active', 'items', '[{"id": "si_1", "price": "price_1", "quantity": 2}]'::jsonb, 'tax_rate_ids', '{}',
    'cancel_at_period_end', false, 'livemode', false, 'event_id', 'evt_r', 'created_at', now(), 'as_of', now()) || more
$$;
create function tests.theirs(more jsonb default '{}') returns jsonb language sql as $$
  select '{"id": "sub_r", "status": "active", "cancel_at_period_end": false, "items": {"data": [{"id": "si_1", "price": {"id": "price_1"}, "quantity": 2}]}}' || more
$$;
create function tests.compared(theirs jsonb, ours jsonb) returns text language plpgsql as $$
begin
  delete from public.stripe_subscriptions as s where s.customer_id in ('cus_r', 'cus_s');
  insert into public.stripe_subscriptions select (jsonb_populate_record(null::public.stripe_subscriptions, tests.row(o))).* from jsonb_array_elements(ours) as o;
  return (
    select string_agg(replace(replace(d, tests.org('ada')::text, 'ada'), 'sub_', ''), '; ')
    from jsonb_array_elements_text(private.billing_compare((select coalesce(jsonb_agg(tests.theirs(t)), '[]') from jsonb_array_elements(theirs) as t), false, 'cus_r')) as d
  );
end
$$;
select is(tests.compared(theirs, ours), wanted, format('%s there, %s here', theirs, ours))
from (values
  ('[{}]'::jsonb, '[{}]'::jsonb, null), ('[{}]', '[]', 'r is active at Stripe and not known here'), ('[{"status": "canceled"}]', '[]', null), ('[{"status": "incomplete_expired"}]', '[]', null),
  ('[]', '[{}]', 'r is active here and not known to Stripe'), ('[]', '[{"status": "canceled"}]', null), ('[{"status": "past_due"}]', '[{}]', 'r is active here and past_due at Stripe'),
  ('[{}]', '[{"cancel_at_period_end": true}]', 'r cancels with its period: t here, f at Stripe'), ('[{"status": "canceled"}]', '[{"cancel_at_period_end": true, "status": "canceled"}]', null),
  ('[{"items": [{"id": "si_1", "price": "price_1", "quantity": 3}]}]', '[{}]', 'r has other prices or quantities at Stripe'), ('[{"items": [{"id": "si_1", "price": "price_1", "quantity": 2}]}]', '[{}]', null),
  ('[{"items": [], "status": "canceled"}]', '[{"status": "canceled"}]', null), ('[{}]', '[{"org_id": null}]', 'r runs and belongs to no organization'), ('[{"status": "canceled"}]', '[{"status": "canceled", "org_id": null}]', null),
  ('[{}, {"id": "sub_2"}]', '[{}, {"id": "sub_2"}]', '2 is one of 2 running subscriptions of the organization ada'), ('[{}, {"id": "sub_2", "status": "canceled"}]', '[{}, {"id": "sub_2", "status": "canceled"}]', null),
  ('[{}]', '[{}, {"id": "sub_2", "customer_id": "cus_s"}]', null), ('[{}]', '[{}, {"id": "sub_2", "livemode": true}]', null), ('[]', '[{"livemode": true}]', null),
  ('[{"status": "unpaid"}, {"id": "sub_2", "status": "unpaid"}]', '[{"status": "unpaid", "org_id": null}, {"id": "sub_2", "status": "unpaid", "org_id": null}]', null)
) as v (theirs, ours, wanted);
select is(tests.compared('[{}]', '[{}, {"id": "sub_2", "org_id": null, "status": "active"}]'), '2 is active here and not known to Stripe', 'of two one is not there');
select is(jsonb_array_length(private.billing_compare('[]', false)) >= 2, true, 'without a customer all of the mode are compared')
from (select tests.compared('[]', '[{}, {"id": "sub_2", "customer_id": "cus_s"}]')) as rows;

-- ---- customers: of the same organization in both places, or of none here
insert into public.stripe_customers (id, org_id, livemode) values ('cus_1', tests.org('ada'), false), ('cus_2', null, false), ('cus_3', tests.org('ada'), true);
insert into private.billing_customers (organization_id, livemode, customer_id) values (tests.org('bob'), false, 'cus_4');
select is((select string_agg(regexp_replace(d, ' \(.*| of the organization .*', ''), '; ') from jsonb_array_elements_text(
  private.billing_compare_customers(jsonb_build_array(jsonb_build_object('id', id, 'org_id', case who when '' then null else tests.org(who) end)), false)) as d), wanted, format('%s of %s', id, who))
from (values
  ('cus_1', 'ada', null), ('cus_1', 'bob', 'cus_1 is a customer of another organization here than at Stripe'), ('cus_2', 'bob', null), ('cus_4', 'bob', null), ('cus_9', '', null),
  ('cus_9', 'ada', 'cus_9 is a customer'), ('cus_3', 'ada', 'cus_3 is a customer'), ('cus_4', 'ada', 'cus_4 is a customer of another organization here than at Stripe')
) as v (id, who, wanted);

-- ---- when Stripe is asked: once a day, about a difference after a quarter of an hour
create function tests.asks(compared jsonb, effect jsonb default null) returns integer language plpgsql as $$
begin
  delete from private.billing_effects;
  delete from private.billing_comparisons;
  insert into private.billing_comparisons (customer_id, livemode, organization_id, compared_at, differences, differs_since)
  select 'cus_1', coalesce((c ->> 'livemode')::boolean, false), tests.org('ada'), clock_timestamp() - (c ->> 'ago')::interval, case when c ? 'differs' then '["x"]'::jsonb else '[]' end,
    case when c ? 'differs' then clock_timestamp() end from jsonb_array_elements(compared) as c;
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, state, ended_at)
  select e ->> 'kind', e ->> 'subject', tests.org('ada'), false, gen_random_uuid(), 'failed', clock_timestamp() - interval '1 minute' from (select '{"kind": "comparison", "subject": "cus_1"}' || effect) as f (e) where e is not null;
  perform private.billing_ask_comparisons();
  return (select count(*) from private.billing_effects as e where e.kind = 'comparison' and e.state = 'open' and e.subject = 'cus_1');
end
$$;
select is(tests.asks(c, e), wanted, format('compared %s, asked %s', c, e))
from (values
  ('[]'::jsonb, null::jsonb, 1), ('[{"ago": "23 hours"}]', null, 0), ('[{"ago": "25 hours"}]', null, 1), ('[{"ago": "14 minutes", "differs": true}]', null, 0), ('[{"ago": "16 minutes", "differs": true}]', null, 1),
  ('[]', '{}', 0), ('[]', '{"subject": "cus_2"}', 1), ('[]', '{"kind": "customer"}', 1), ('[{"ago": "1 hour", "livemode": true}]', null, 1)
) as v (c, e, wanted);
select tests.asks('[]');
select is((select array_agg(e.subject order by e.subject) from private.billing_effects as e where e.state = 'open'), '{cus_1,cus_4}', 'about those whom an organization has, of this mode');
update public.stripe_customers set deleted = true where id = 'cus_1';
select is(tests.asks('[]'), 0, 'and not about a deleted one');

-- ---- the answer, and since when it differs
create function tests.answers(body jsonb, state text default 'done') returns text language plpgsql as $$
declare
  effect private.billing_effects;
begin
  effect.subject := 'cus_r';
  effect.livemode := false;
  effect.organization_id := tests.org('ada');
  update private.billing_comparisons set compared_at = compared_at - interval '1 hour', differs_since = differs_since - interval '1 hour';
  perform private.billing_settle_comparison(effect, answers.state, answers.body);
  return (select concat_ws(' ', jsonb_array_length(c.differences), round(extract(epoch from clock_timestamp() - c.differs_since) / 3600)) from private.billing_comparisons as c);
end
$$;
delete from public.stripe_subscriptions as s where s.customer_id in ('cus_r', 'cus_s');
delete from private.billing_comparisons;
select is(tests.answers(body, state), wanted, format('%s %s', state, body))
from (values
  ('{"data": []}'::jsonb, 'done', '0'), ('{"data": [{"id": "sub_x", "status": "active"}]}', 'done', '1 0'), ('{"data": [{"id": "sub_y", "status": "active"}]}', 'done', '1 1'), ('{}', 'failed', '1 2'),
  ('{}', 'done', '1 3'), ('{"data": []}', 'done', '0')
) as v (body, state, wanted);

-- ---- what operators are told
create function tests.problems(variadic effects jsonb[]) returns text language plpgsql as $$
begin
  delete from private.billing_effects;
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, state, ended_at)
  select coalesce(e ->> 'kind', 'cancel'), coalesce(e ->> 'subject', 's'), tests.org('ada'), false, gen_random_uuid(), e ->> 'state', case when e ->> 'state' <> 'open' then clock_timestamp() - (e ->> 'ago')::interval end
  from unnest(effects) as e;
  return (select string_agg(p.subject, ', ' order by p.subject) from private.billing_problems() as p where p.kind = 'request');
end
$$;
select is(tests.problems(variadic e), wanted, e::text)
from (values
  ('{"{\"state\": \"failed\", \"ago\": \"47 hours\"}"}'::jsonb[], 'cancel s'), (array['{"state": "failed", "ago": "49 hours"}']::jsonb[], null), (array['{"state": "unknown", "ago": "1 hour"}']::jsonb[], 'cancel s'),
  (array['{"state": "done", "ago": "1 hour"}']::jsonb[], null), (array['{"state": "failed", "ago": "89 days", "kind": "vat_credit"}']::jsonb[], 'vat_credit s'),
  (array['{"state": "failed", "ago": "91 days", "kind": "vat_credit"}']::jsonb[], null), (array['{"state": "failed", "ago": "1 hour", "kind": "session_expiry"}']::jsonb[], null),
  (array['{"state": "failed", "ago": "2 hours"}', '{"state": "done", "ago": "1 hour"}']::jsonb[], null), (array['{"state": "failed", "ago": "2 hours"}', '{"state": "open"}']::jsonb[], null),
  (array['{"state": "failed", "ago": "2 hours"}', '{"state": "done", "ago": "3 hours"}']::jsonb[], 'cancel s'), (array['{"state": "failed", "ago": "2 hours"}', '{"state": "done", "ago": "1 hour", "subject": "t"}']::jsonb[], 'cancel s'),
  (array['{"state": "failed", "ago": "2 hours"}', '{"state": "done", "ago": "1 hour", "kind": "seats"}']::jsonb[], 'cancel s'), (array['{"state": "failed", "ago": "2 hours"}', '{"state": "open", "kind": "seats"}']::jsonb[], 'cancel s')
) as v (e, wanted);
insert into private.billing_comparisons (customer_id, livemode, organization_id, compared_at, differences, differs_since)
values ('cus_5', false, tests.org('ada'), now(), '["at first"]', now()), ('cus_6', false, tests.org('ada'), now(), '["again"]', now() - interval '1 microsecond');
select is((select array_agg(p.problem) from private.billing_problems() as p where p.kind = 'difference'), '{again}', 'a difference that was seen twice');

-- ---- whose customer an organization is: the one made here, else the first of this mode; none that was deleted
create function tests.customer(made jsonb, theirs jsonb) returns text language plpgsql as $$
begin
  delete from private.billing_customers;
  delete from public.stripe_customers;
  insert into private.billing_customers (organization_id, livemode, customer_id)
  select tests.org(coalesce(m ->> 'who', 'ada')), coalesce((m ->> 'livemode')::boolean, false), 'cus_made' from jsonb_array_elements(made) as m;
  insert into public.stripe_customers (id, org_id, livemode, deleted, created_at)
  select s ->> 'id', tests.org(coalesce(s ->> 'who', 'ada')), coalesce((s ->> 'livemode')::boolean, false), coalesce((s ->> 'deleted')::boolean, false), '2026-01-01T00:00:00Z'::timestamptz + coalesce((s ->> 'at')::interval, '0')
  from jsonb_array_elements(theirs) as s;
  return private.billing_customer(tests.org('ada'));
end
$$;
select is(tests.customer(made, theirs), wanted, format('%s %s', made, theirs))
from (values
  ('[{}]'::jsonb, '[]'::jsonb, 'cus_made'), ('[{}]', '[{"id": "cus_1"}]', 'cus_made'), ('[{}]', '[{"id": "cus_1"}, {"id": "cus_made", "who": "bob", "deleted": true}]', 'cus_1'),
  ('[{}]', '[{"id": "cus_made", "livemode": true, "deleted": true}]', 'cus_made'), ('[{}]', '[{"id": "cus_9", "who": "bob", "deleted": true}]', 'cus_made'), ('[]', '[{"id": "cus_1", "deleted": true}]', null),
  ('[{"who": "bob"}]', '[{"id": "cus_2", "who": "bob"}]', null), ('[{"livemode": true}]', '[{"id": "cus_2", "livemode": true}]', null), ('[]', '[{"id": "cus_1", "at": "1 day"}, {"id": "cus_2"}]', 'cus_2')
) as v (made, theirs, wanted);

select * from finish();
rollback;
