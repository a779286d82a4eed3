begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(29);

select tests.sign_up('bob'), tests.sign_up('vic');
delete from public.stripe_subscriptions;
delete from public.stripe_customers;
delete from private.billing_effects;
delete from private.billing_customers;
delete from private.billing_comparisons;
delete from private.vat_credits;
insert into private.billing_account (api_url, api_version, livemode) values ('https://stripe.example.com', 'x', false)
  on conflict (is_only) do update set api_url = excluded.api_url, livemode = false;
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');
create function tests.effects(of text) returns table (subject text, body text) language sql as $$
  select e.subject, r.body from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id where e.kind = of order by e.subject
$$;

-- ---- nobody but the schedule
select tests.act_as('bob');
select throws_ok('select * from private.billing_customers', '42501', null, 'an owner reads no table of the domain');
select throws_ok('select private.billing_problems()', '42501', null, 'nor what operators read');
select tests.act_as_superuser();

-- ---- credit notes and mandates, in any order
select tests.send(tests.event('customer.created', 1, jsonb_build_object('id', 'cus_b', 'object', 'customer', 'created', tests.second(0), 'metadata', jsonb_build_object('org_id', tests.org('bob')))));
select tests.send(tests.event('credit_note.voided', 3, '{"id": "cn_1", "object": "credit_note", "customer": "cus_b", "invoice": "in_b", "status": "void", "total": 500, "currency": "eur", "number": "F-1-CN-1"}'));
select tests.send(tests.event('credit_note.created', 2, '{"id": "cn_1", "object": "credit_note", "customer": "cus_b", "invoice": "in_b", "status": "issued", "total": 500, "currency": "eur", "number": "F-1-CN-1"}'));
select is((select row(c.status, c.total, c.org_id = tests.org('bob'))::text from public.stripe_credit_notes as c where c.id = 'cn_1'), '(void,500,t)', 'a voided credit note stays one');
select tests.send(tests.event('mandate.updated', 3, '{"id": "mandate_1", "object": "mandate", "payment_method": "pm_1", "status": "inactive", "payment_method_details": {"type": "sepa_debit", "sepa_debit": {"reference": "REF1"}}}'));
select tests.send(tests.event('mandate.updated', 2, '{"id": "mandate_1", "object": "mandate", "payment_method": "pm_1", "status": "active", "payment_method_details": {"type": "sepa_debit", "sepa_debit": {"reference": "REF1"}}}'));
select is((select row(m.status, m.reference)::text from public.stripe_mandates as m where m.id = 'mandate_1'), '(inactive,REF1)', 'a withdrawn mandate stays one');
select tests.send(tests.event('payment_method.attached', 3, '{"id": "pm_1", "object": "payment_method", "customer": "cus_b", "type": "sepa_debit", "sepa_debit": {"fingerprint": "f_b", "country": "BE"}}'));
select tests.act_as('vic');
select is_empty('select id from public.stripe_credit_notes union all select id from public.stripe_mandates', 'a non-member sees neither');
select tests.act_as('bob');
select is((select array_agg(d.id order by d.id) from (select c.id from public.stripe_credit_notes as c union all select m.id from public.stripe_mandates as m) as d),
  '{cn_1,mandate_1}', 'the organization sees both, also when the bank account is reported last');
select throws_ok('delete from public.stripe_credit_notes', '42501', null, 'and writes none');
select tests.act_as_superuser();
select tests.join_org('vic', tests.org('bob'), 'member');
select tests.act_as('vic');
select is_empty('select id from public.stripe_credit_notes union all select id from public.stripe_mandates', 'nor does a member without billing:read');
select tests.act_as_superuser();

-- ---- VAT that goes back
insert into public.billing_details (org_id, kind, name, country, vat_number) values (tests.org('bob'), 'business', 'Bob', 'BE', 'BE0203201340');
select tests.send(tests.event('invoice.paid', 1, tests.invoice('in_b', 'cus_b', 'sub_b', 'paid', '{"total": 3509, "total_taxes": [{"amount": 609}]}')));
select tests.send(tests.event('invoice.finalized', 1, tests.invoice('in_o', 'cus_b', 'sub_b', 'open', '{"total": 121, "tax": 21}')));
select tests.send(tests.event('invoice.paid', 1, tests.invoice('in_z', 'cus_b', 'sub_b', 'paid', '{"total": 2900, "total_taxes": []}')));
select is((select array_agg(i.tax order by i.id) from public.stripe_invoices as i where i.customer_id = 'cus_b'), '{609,21,0}', 'invoices of both shapes say their VAT');
insert into private.vat_credits (organization, check_id, vat_number, country, charged_from, charged_until)
select tests.org('bob'), c.id, 'BE0203201340', 'NL', now() - interval '1 hour', now() + interval '1 minute' from public.vat_checks as c where c.org_id = tests.org('bob');
select is(private.billing_credit_vat(), 0, 'events of invoices may still come');
select tests.travel('10 minutes');
select is(private.billing_credit_vat(), 2, 'each invoice with VAT is credited');
select is(private.billing_credit_vat(), 0, 'once');
select matches((select e.body from tests.effects('vat_credit') as e where e.subject like '%:in_b'), 'credit_amount=609&.*unit_amount%5D=609', 'what was paid goes to the balance');
select doesnt_match((select e.body from tests.effects('vat_credit') as e where e.subject like '%:in_o'), 'credit_amount', 'what is open is only lowered');
-- One is refused for ever; of the other nobody knows.
create function tests.ends(of text, of_kind text, as_state text, as_status integer) returns void language sql as $$
  update private.billing_effects as e set state = as_state, http_status = as_status, ended_at = clock_timestamp() - interval '11 minutes'
  where e.kind = of_kind and e.subject like '%:' || of and e.state = 'open'
$$;
select is((select array_agg(distinct r.max_attempts) from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id where e.kind = 'vat_credit'), '{1}', 'by one attempt');
select tests.ends('in_o', 'vat_credit', 'failed', 400), tests.ends('in_b', 'vat_credit', 'unknown', null);
update private.billing_effects set created_at = now() - interval '91 days';
select is(private.billing_purge(), 0, 'what was asked for is known until the credit is settled');
select is(private.billing_credit_vat(), 1, 'without an answer, Stripe is asked whether it has it');
select is((select array_agg(e.subject ~ ':in_b$') from tests.effects('vat_credit_check') as e), '{t}', 'of that invoice only');
select is((select count(*) from tests.effects('vat_credit')), 2::bigint, 'and no second credit note is made');
select tests.ends('in_b', 'vat_credit_check', 'done', 200);
update private.billing_effects set created_at = clock_timestamp() where kind = 'vat_credit_check';
select private.billing_credit_vat();
select is((select count(*) from tests.effects('vat_credit')), 3::bigint, 'unless Stripe has none');
select tests.ends('in_b', 'vat_credit', 'unknown', null);
select tests.send(tests.event('credit_note.created', 4, jsonb_build_object(
  'id', 'cn_x', 'object', 'credit_note', 'customer', 'cus_b', 'invoice', 'in_b', 'status', 'issued', 'total', 609, 'currency', 'eur',
  'metadata', jsonb_build_object('kijko_vat_credit', (select c.id from private.vat_credits as c))
)));
select private.billing_credit_vat();
select is(
  (select string_to_array(c.settled_with, ' ') @> '{cn_x,refused:in_o}' from private.vat_credits as c), true,
  'the event of a credit note says that it is there; what was refused is left to the operator'
);
select is((select count(*) from private.billing_problems() as p where p.kind = 'request' and p.subject like 'vat_credit %:in_o'), 1::bigint, 'who is told');
select tests.travel('0');

-- ---- comparison with Stripe
select private.billing_record_customer(tests.org('bob'), false, 'cus_b', null);
select is(private.billing_ask_comparisons(), 1, 'each customer is compared once a day');
select is(private.billing_ask_comparisons(), 0, 'and not twice');
create function tests.compares(body jsonb) returns void language sql as $$
  update private.billing_effects set state = 'done', ended_at = now() - interval '11 minutes' where kind = 'comparison';
  select private.billing_settle_comparison(e, 'done', body) from private.billing_effects as e where e.kind = 'comparison';
$$;
select tests.compares('{"data": [{"id": "sub_x", "status": "active", "cancel_at_period_end": false, "items": {"data": []}}]}');
select is_empty('select 1 from private.billing_problems() as p where p.kind = $$difference$$', 'what was found once may be an event on its way');
update private.billing_comparisons set compared_at = compared_at - interval '20 minutes', differs_since = differs_since - interval '20 minutes';
select is(private.billing_ask_comparisons(), 1, 'so it is looked at again soon');
select tests.compares('{"data": [{"id": "sub_x", "status": "active", "cancel_at_period_end": false, "items": {"data": []}}]}');
select is((select p.problem from private.billing_problems() as p where p.kind = 'difference'), 'sub_x is active at Stripe and not known here', 'and told to operators');
select private.billing_settle_comparison(e, 'failed', null) from private.billing_effects as e where e.kind = 'comparison';
select isnt_empty('select 1 from private.billing_problems() as p where p.kind = $$difference$$', 'a question that failed says nothing');
select tests.compares('{"data": []}');
select is_empty('select 1 from private.billing_problems() as p where p.kind = $$difference$$', 'until it is gone');

select * from finish();
rollback;
