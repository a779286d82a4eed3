-- What Stripe is told of a customer, a VAT number and the rates of subscriptions, and what it answers: each rule beside rows of others.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
delete from private.billing_effects;
delete from private.billing_tax_ids;
delete from private.billing_customers;
delete from private.billing_changes;
delete from private.billing_syncs;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');
create function tests.sent() returns text language sql as $$
  select string_agg(concat_ws(' ', e.kind, e.subject, r.method), ', ' order by e.kind, e.subject) from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id where e.state = 'open'
$$;
-- One that is no longer open, as Stripe answered it.
create function tests.answered(of text, subject text, ago interval, details jsonb default '{}') returns void language sql as $$
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, state, ended_at, details)
  values (of, subject, tests.org('ada'), false, gen_random_uuid(), 'done', clock_timestamp() - ago, details)
$$;

-- ---- rates: of the organization's running subscriptions in this mode
create function tests.rates(tax jsonb, variadic subscriptions jsonb[]) returns text language plpgsql as $$
declare
  agrees boolean;
begin
  delete from private.billing_effects;
  delete from public.stripe_subscriptions as s where s.customer_id = 'cus_t';
  perform set_config('session_replication_role', 'replica', true);
  insert into public.stripe_subscriptions select (jsonb_populate_record(null::public.stripe_subscriptions, jsonb_build_object(
    'id', 'sub_' || n, 'customer_id', 'cus_t', 'org_id', tests.org('ada'), 'status', 'active', 'items', '[{"id": "si_1"}]'::jsonb, 'tax_rate_ids', '{txr_1}', 'cancel_at_period_end', false,
    'livemode', false, 'event_id', 'evt_t', 'created_at', now(), 'as_of', now()) || s)).* from unnest(subscriptions) with ordinality as e (s, n);
  perform set_config('session_replication_role', 'origin', true);
  agrees := private.billing_sync_rates(tests.org('ada'), false, tax);
  return concat_ws(' ', agrees, tests.sent());
end
$$;
select is(tests.rates(tax, variadic s), wanted, format('%s for %s', tax, s))
from (values
  ('{"tax_rate": {"id": "txr_1", "name": "nl"}}'::jsonb, array['{}']::jsonb[], 't'), ('{"tax_rate": {"id": "txr_2", "name": "nl"}}', array['{}']::jsonb[], 'f tax sub_1 POST'),
  ('{"tax_rate": {"id": "txr_1", "name": "nl"}}', array['{"items": [{"id": "si_1", "tax_rates": ["txr_9"]}]}']::jsonb[], 'f tax sub_1 POST'), ('{"tax_rate": null}', array['{}']::jsonb[], 'f tax sub_1 POST'),
  ('{"tax_rate": null}', array['{"tax_rate_ids": "{}"}']::jsonb[], 't'), ('{"tax_rate": {"name": "nl", "params": {"percentage": 21}}}', array['{}']::jsonb[], 'f tax_rate nl POST'),
  ('{"tax_rate": {"name": "nl", "params": {"percentage": 21}}}', array['{"tax_rate_ids": "{}"}']::jsonb[], 'f tax_rate nl POST'),
  ('{"tax_rate": {"id": "txr_2", "name": "nl"}}', array['{"status": "canceled"}']::jsonb[], 't'), ('{"tax_rate": {"id": "txr_2", "name": "nl"}}', array['{"livemode": true}']::jsonb[], 't'),
  ('{"tax_rate": {"id": "txr_2", "name": "nl"}}', array[jsonb_build_object('org_id', tests.org('bob'))], 't'), ('{"tax_rate": {"id": "txr_2", "name": "nl"}}', array['{"items": []}', '{}']::jsonb[], 'f tax sub_1 POST, tax sub_2 POST')
) as v (tax, s, wanted);

-- ---- one VAT number: the organization's, and no other
insert into public.billing_details (org_id, kind, name, country, vat_number) values (tests.org('ada'), 'business', 'Ada', 'DE', 'DE136695976');
create function tests.number(of text, variadic ids jsonb[]) returns text language plpgsql as $$
declare
  agrees boolean;
begin
  delete from private.billing_effects as e where e.state = 'open';
  delete from private.billing_tax_ids;
  update public.billing_details as d set vat_number = of where d.org_id = tests.org('ada');
  insert into private.billing_tax_ids
  select (jsonb_populate_record(null::private.billing_tax_ids, jsonb_build_object('id', 'txi_' || n, 'livemode', false, 'customer_id', 'cus_ada', 'value', 'DE136695976', 'deleted', false) || i)).*
  from unnest(ids) with ordinality as e (i, n) where i <> 'null';
  agrees := private.billing_sync_number(tests.org('ada'), 'cus_ada', false);
  return concat_ws(' ', agrees, tests.sent());
end
$$;
select is(tests.number(n, variadic i), wanted, format('%s with %s', n, i))
from (values
  ('DE136695976', array['{}']::jsonb[], 't'), ('DE136695976', array['null']::jsonb[], 'f tax_id cus_ada POST'), (null, array['null']::jsonb[], 't'), (null, array['{}']::jsonb[], 'f tax_id_removal txi_1 DELETE'),
  ('DE136695976', array['{"value": "DE999999999"}']::jsonb[], 'f tax_id cus_ada POST, tax_id_removal txi_1 DELETE'), ('DE136695976', array['{}', '{}']::jsonb[], 'f tax_id_removal txi_2 DELETE'),
  ('DE136695976', array['{"deleted": true}']::jsonb[], 'f tax_id cus_ada POST'), ('DE136695976', array['{"livemode": true}']::jsonb[], 'f tax_id cus_ada POST'), ('DE136695976', array['{"customer_id": "cus_bob"}']::jsonb[], 'f tax_id cus_ada POST'),
  (null, array['{"deleted": true}', '{"livemode": true}', '{"customer_id": "cus_bob"}']::jsonb[], 't')
) as v (n, i, wanted);
select tests.answered('tax_id', 'cus_ada', '5 minutes', '{"number": "DE136695976"}'), tests.answered('tax_id_removal', 'txi_1', '5 minutes');
select is(tests.number('DE136695976', '{"value": "DE999999999"}'), 'f', 'what was just asked is not asked again');

-- ---- a customer: told when it differs
create function tests.customer(row_of jsonb) returns text language plpgsql as $$
declare
  agrees boolean;
begin
  delete from private.billing_effects;
  delete from private.billing_customers;
  insert into private.billing_customers (organization_id, livemode, customer_id, params)
  select tests.org(coalesce(row_of ->> 'who', 'ada')), coalesce((row_of ->> 'livemode')::boolean, false), coalesce(row_of ->> 'id', 'cus_ada'),
    case when row_of ? 'params' then row_of -> 'params' else private.billing_customer_params(tests.org('ada'), '{}') end;
  agrees := private.billing_sync_customer(tests.org('ada'), 'cus_ada', false, '{}');
  return concat_ws(' ', agrees, tests.sent());
end
$$;
select is(tests.customer(c), wanted, c::text)
from (values
  ('{}'::jsonb, 't'), ('{"params": {"name": "Other"}}', 'f customer cus_ada POST'), ('{"who": "bob"}', 'f customer cus_ada POST'), ('{"livemode": true}', 'f customer cus_ada POST'), ('{"id": "cus_other"}', 'f customer cus_ada POST')
) as v (c, wanted);

-- ---- what Stripe answers
create function tests.settles(of text, subject text, state text, status integer default 200, body jsonb default '{}') returns text language plpgsql as $$
declare
  effect private.billing_effects;
begin
  delete from private.billing_customers;
  delete from private.billing_tax_ids;
  insert into private.billing_customers (organization_id, livemode, customer_id, params) values (tests.org('ada'), false, 'cus_ada', '{}'), (tests.org('ada'), true, 'cus_ada', '{}'), (tests.org('bob'), false, 'cus_bob', '{}');
  insert into private.billing_tax_ids (id, livemode, customer_id, value) values ('txi_1', false, 'cus_ada', 'x'), ('txi_1', true, 'cus_ada', 'x'), ('txi_2', false, 'cus_ada', 'x');
  effect.kind := of;
  effect.subject := settles.subject;
  effect.livemode := false;
  effect.organization_id := tests.org('ada');
  effect.details := '{"params": {"name": "Told"}}';
  perform private.billing_settle_details(effect, settles.state, status, body);
  return concat_ws(' | ', (select string_agg(concat_ws(' ', c.customer_id, c.livemode, c.params ->> 'name'), ', ' order by c.customer_id, c.livemode) from private.billing_customers as c),
    (select string_agg(concat_ws(' ', t.id, t.livemode), ', ' order by t.id, t.livemode) from private.billing_tax_ids as t where not t.deleted));
end
$$;
select is(tests.settles(k, s, state, status, body), wanted, format('%s %s %s %s', k, s, state, status))
from (values
  ('customer', 'cus_ada', 'done', 200, '{}'::jsonb, 'cus_ada f Told, cus_ada t, cus_bob f | txi_1 f, txi_1 t, txi_2 f'), ('customer', 'cus_new', 'done', 200, '{}', 'cus_ada f, cus_ada t, cus_bob f | txi_1 f, txi_1 t, txi_2 f'),
  ('customer', 'cus_ada', 'failed', 404, '{}', 'cus_ada t, cus_bob f | txi_1 f, txi_1 t, txi_2 f'), ('customer', 'cus_ada', 'failed', 400, '{}', 'cus_ada f, cus_ada t, cus_bob f | txi_1 f, txi_1 t, txi_2 f'),
  ('customer', 'cus_old', 'failed', 404, '{}', 'cus_ada f, cus_ada t, cus_bob f | txi_1 f, txi_1 t, txi_2 f'),
  ('tax_id', 'cus_ada', 'done', 200, '{"id": "txi_3", "customer": "cus_ada", "value": "y"}', 'cus_ada f, cus_ada t, cus_bob f | txi_1 f, txi_1 t, txi_2 f, txi_3 f'),
  ('tax_id', 'cus_ada', 'failed', 404, '{"id": "txi_3", "customer": "cus_ada", "value": "y"}', 'cus_ada f, cus_ada t, cus_bob f | txi_1 f, txi_1 t, txi_2 f'),
  ('tax_id_removal', 'txi_1', 'done', 200, '{}', 'cus_ada f, cus_ada t, cus_bob f | txi_1 t, txi_2 f'), ('tax_id_removal', 'txi_1', 'failed', 404, '{}', 'cus_ada f, cus_ada t, cus_bob f | txi_1 t, txi_2 f'),
  ('tax_id_removal', 'txi_1', 'failed', 400, '{}', 'cus_ada f, cus_ada t, cus_bob f | txi_1 f, txi_1 t, txi_2 f'), ('other', 'txi_1', 'failed', 404, '{}', 'cus_ada f, cus_ada t, cus_bob f | txi_1 f, txi_1 t, txi_2 f')
) as v (k, s, state, status, body, wanted);
select private.billing_keep_tax_id(jsonb_build_object('id', 'txi_' || id, 'customer', 'cus_ada', 'value', 'z'), false, gone) from (values ('8', false), ('8', true), ('8', false), ('9', false)) as v (id, gone);
select is((select array_agg(t.id) from private.billing_tax_ids as t where t.value = 'z' and not t.deleted), '{txi_9}', 'what is gone stays gone');

-- ---- when an organization is looked at: at once after a change, else each day
delete from private.billing_changes;
delete from private.billing_syncs;
delete from private.billing_customers;
insert into private.billing_syncs (organization_id, due_at) values (tests.org('ada'), kijko.now() + interval '1 microsecond');
select is(private.billing_sync_details(), 0, 'one that is not due');
update private.billing_syncs set due_at = kijko.now();
select is(private.billing_sync_details(), 1, 'one that is');
select is(s.due_at - kijko.now(), least(interval '1 day', private.vat_next_change(kijko.now()) - kijko.now()), 'is due again in a day') from private.billing_syncs as s;
select private.billing_note_change(tests.org('ada')), private.billing_note_change(tests.org('ada')), private.billing_note_change(tests.org('bob'));
select is(private.billing_sync_details(), 2, 'two that have changed');
update private.billing_syncs set due_at = kijko.now() - interval '1 day';
select private.billing_note_change(tests.org('ada'));
insert into private.billing_customers (organization_id, livemode, customer_id, params) values (tests.org('ada'), false, 'cus_ada', '{"name": "Other"}');
select is(private.billing_sync_details(), 1, 'of two one agrees with Stripe');
select is((select array_agg(s.due_at - kijko.now() order by s.due_at) from private.billing_syncs as s), array[interval '0', least(interval '1 day', private.vat_next_change(kijko.now()) - kijko.now())], 'and the other is looked at again at once');

select * from finish();
rollback;
