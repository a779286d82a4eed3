-- VAT that goes back: of which invoices, once each, and what follows from what Stripe answered.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
delete from private.vat_credits;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');
insert into public.billing_details (org_id, kind, name, country, vat_number) values (tests.org('ada'), 'business', 'Ada', 'DE', 'DE136695976');

-- One invoice of 21 of VAT in the time of a credit, after those requests and credit notes: requests made, what is on its way, and how it is settled.
create function tests.credits(invoice jsonb default '{}', effects jsonb default '[]', notes jsonb default '[]', until interval default '1 hour') returns text language plpgsql as $$
declare
  credit constant uuid := tests.id('credit');
  made constant timestamptz := kijko.now();
  n integer;
begin
  delete from private.billing_effects;
  delete from private.vat_credits;
  delete from public.stripe_credit_notes as c where c.id = 'cn_1';
  delete from public.stripe_invoices as i where i.id ~ '^in_v';
  insert into private.vat_credits (id, organization, check_id, vat_number, country, charged_from, charged_until)
  select credit, tests.org('ada'), c.id, 'DE136695976', 'NL', made - interval '1 day', made - credits.until from public.vat_checks as c where c.org_id = tests.org('ada');
  insert into public.stripe_invoices
  select (jsonb_populate_record(null::public.stripe_invoices, jsonb_build_object(
    'id', 'in_v', 'org_id', tests.org('ada'), 'status', 'paid', 'total', 121, 'tax', 21, 'amount_due', 121, 'amount_paid', 121, 'paid_out_of_band', false, 'amount_remaining', 0, 'attempt_count', 0,
    'deleted', false, 'livemode', false, 'event_id', 'evt_v', 'created_at', made - coalesce((invoice ->> 'ago')::interval, '12 hours'), 'as_of', made
  ) || invoice)).*;
  insert into private.billing_effects (kind, subject, organization_id, livemode, request_id, details, state, http_status, created_at, ended_at)
  select coalesce(e ->> 'kind', 'vat_credit'), coalesce(e ->> 'subject', credit || ':in_v'), tests.org('ada'), false, gen_random_uuid(), coalesce(e -> 'details', '{}'), e ->> 'state', (e ->> 'status')::integer,
    now() - coalesce((e ->> 'made')::interval, (e ->> 'ago')::interval, '0'), case when e ->> 'state' <> 'open' then now() - (e ->> 'ago')::interval end
  from jsonb_array_elements(effects) as e;
  insert into public.stripe_credit_notes
  select (jsonb_populate_record(null::public.stripe_credit_notes, jsonb_build_object(
    'id', 'cn_1', 'livemode', false, 'invoice_id', 'in_v', 'status', 'issued', 'total', 21, 'currency', 'eur', 'vat_credit_id', credit, 'as_of', made
  ) || c)).* from jsonb_array_elements(notes) as c;
  n := private.billing_credit_vat();
  return concat_ws(' ', n, (
    select string_agg(concat_ws(' ', e.kind, substring(r.body from 'credit_amount=\d+'), substring(r.body from 'unit_amount%5D=\d+')), ', ' order by e.kind)
    from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id where e.state = 'open'
  ), (select '| ' || c.settled_with from private.vat_credits as c));
end
$$;
select is(tests.credits(i), wanted, 'an invoice: ' || i::text)
from (values
  ('{}'::jsonb, '1 vat_credit credit_amount=21 unit_amount%5D=21'), ('{"status": "open"}', '1 vat_credit unit_amount%5D=21'), ('{"status": "void"}', '0 | nothing was charged'), ('{"tax": 0}', '0 | nothing was charged'),
  ('{"tax": 1}', '1 vat_credit credit_amount=1 unit_amount%5D=1'), (jsonb_build_object('org_id', tests.org('bob')), '0 | nothing was charged'), ('{"livemode": true}', '0 | nothing was charged'),
  ('{"ago": "1 day"}', '1 vat_credit credit_amount=21 unit_amount%5D=21'), ('{"ago": "1 day 0.000001 seconds"}', '0 | nothing was charged'), ('{"ago": "1 hour"}', '0 | nothing was charged'),
  ('{"ago": "1 hour 0.000001 seconds"}', '1 vat_credit credit_amount=21 unit_amount%5D=21')
) as v (i, wanted);
select is(tests.credits(until => u), wanted, 'charged until ' || u) from (values ('5 minutes'::interval, '0'), ('5 minutes 0.000001 seconds', '1 vat_credit credit_amount=21 unit_amount%5D=21'), ('-1 hour', '0')) as v (u, wanted);
select is(tests.credits(effects => e), wanted, 'after ' || e::text)
from (values
  ('[{"state": "done", "ago": "1 hour", "details": {"credit_note": "cn_7"}}]'::jsonb, '0 | cn_7'), ('[{"state": "failed", "ago": "1 hour", "status": 400}]', '0 | refused:in_v'),
  ('[{"state": "failed", "ago": "1 hour", "status": 401}]', '1 vat_credit credit_amount=21 unit_amount%5D=21'), ('[{"state": "failed", "ago": "5 minutes", "status": 403}]', '0'),
  ('[{"state": "open"}]', '0'), ('[{"state": "unknown", "ago": "1 hour"}]', '1 vat_credit_check'), ('[{"state": "unknown", "ago": "5 minutes"}]', '0'),
  ('[{"state": "unknown", "ago": "2 hours"}, {"kind": "vat_credit_check", "state": "done", "ago": "1 hour"}]', '1 vat_credit credit_amount=21 unit_amount%5D=21'),
  ('[{"state": "unknown", "ago": "2 hours"}, {"kind": "vat_credit_check", "state": "done", "made": "3 hours", "ago": "1 hour"}]', '1 vat_credit_check'),
  ('[{"state": "unknown", "ago": "2 hours"}, {"kind": "vat_credit_check", "state": "done", "made": "2 hours", "ago": "1 hour"}]', '1 vat_credit_check'),
  ('[{"state": "unknown", "ago": "2 hours"}, {"kind": "vat_credit_check", "state": "failed", "ago": "1 hour"}]', '1 vat_credit_check'),
  ('[{"state": "unknown", "ago": "2 hours"}, {"kind": "vat_credit_check", "state": "failed", "ago": "5 minutes"}]', '0'),
  ('[{"state": "unknown", "ago": "2 hours"}, {"kind": "vat_credit_check", "state": "done", "ago": "1 hour", "subject": "other"}]', '1 vat_credit_check'),
  ('[{"state": "unknown", "ago": "2 hours"}, {"kind": "cancel", "state": "done", "ago": "1 hour"}]', '1 vat_credit_check'),
  ('[{"state": "done", "ago": "1 hour", "subject": "other"}]', '1 vat_credit credit_amount=21 unit_amount%5D=21'), ('[{"state": "done", "ago": "1 hour", "kind": "cancel"}]', '1 vat_credit credit_amount=21 unit_amount%5D=21'),
  ('[{"state": "unknown", "ago": "3 hours"}, {"state": "failed", "ago": "1 hour", "status": 400}]', '0 | refused:in_v'), ('[{"state": "failed", "ago": "3 hours", "status": 400}, {"state": "done", "ago": "4 hours", "details": {"credit_note": "cn_7"}}]', '0 | cn_7 refused:in_v')
) as v (e, wanted);
select is(tests.credits(effects => e, notes => c), wanted, format('after %s, with %s', e, c))
from (values
  ('[{"state": "unknown", "ago": "1 hour"}]'::jsonb, '[{}]'::jsonb, '0 | cn_1'), ('[{"state": "failed", "ago": "1 hour", "status": 401}]', '[{}]', '0 | cn_1'), ('[{"state": "unknown", "ago": "1 hour"}]', '[{"livemode": true}]', '1 vat_credit_check'),
  ('[{"state": "unknown", "ago": "1 hour"}]', '[{"invoice_id": "in_w"}]', '1 vat_credit_check'), ('[{"state": "unknown", "ago": "1 hour"}]', '[{"vat_credit_id": "other"}]', '1 vat_credit_check'),
  ('[{"state": "unknown", "ago": "1 hour"}]', '[{"vat_credit_id": null}]', '1 vat_credit_check')
) as v (e, c, wanted);

-- ---- credit notes and mandates: the later state, and what is final
create function tests.document(object jsonb, second integer) returns jsonb language sql as $$ select tests.event((object ->> 'object') || '.updated', second, object) $$;
select is(tests.after(array[
  tests.document(jsonb_build_object('id', 'cn_d', 'object', 'credit_note', 'invoice', 'in_x', 'status', a, 'pdf', a), 5), tests.document(jsonb_build_object('id', 'cn_d', 'object', 'credit_note', 'invoice', 'in_x', 'status', b, 'pdf', b || second), second)
], $$select c.status || ' ' || c.pdf from public.stripe_credit_notes as c where c.id = 'cn_d'$$), wanted, format('a credit note is %s, and %s in second %s', a, b, second))
from (values ('issued', 'issued', 5, 'issued issued5'), ('issued', 'issued', 4, 'issued issued'), ('issued', 'void', 4, 'void void4'), ('void', 'issued', 6, 'void void'), ('void', 'void', 6, 'void void')) as v (a, b, second, wanted);
select is(tests.after(array[
  tests.document(jsonb_build_object('id', 'md_d', 'object', 'mandate', 'payment_method', 'pm_x', 'status', a), 5), tests.document(jsonb_build_object('id', 'md_d', 'object', 'mandate', 'payment_method', 'pm_x', 'status', b), second)
], $$select m.status from public.stripe_mandates as m where m.id = 'md_d'$$), wanted, format('a mandate is %s, and %s in second %s', a, b, second))
from (values ('active', 'inactive', 5, 'inactive'), ('inactive', 'active', 5, 'inactive'), ('inactive', 'active', 6, 'active'), ('active', 'inactive', 4, 'active'), ('pending', 'active', 5, 'pending')) as v (a, b, second, wanted);

select * from finish();
rollback;
