-- Several events in one transaction: who may send them, and that each is stored and applied as if it came alone.
begin;
\ir 000_helpers.sql
\ir stripe_helpers.sql
select plan(14);

select tests.sign_up('ada'), tests.sign_up('bob');
select tests.act_as_anon();
select throws_ok($$select private.stripe_ingest_events('{}')$$, '42501', null, 'anon cannot ingest events');
select tests.act_as('ada');
select throws_ok($$select private.stripe_ingest_events('{}')$$, '42501', null, 'an owner cannot ingest events');
select tests.act_as_service();
select throws_ok($$select private.stripe_ingest_events('{}')$$, '42501', null, 'service_role cannot ingest events');
select tests.act_as_superuser();

-- As the sidecar does it. "place status", with an error code and "again" for a duplicate.
create function tests.send_all(variadic events jsonb[]) returns text language plpgsql as $$
declare
  answer text;
begin
  perform tests.act_as_sidecar();
  select string_agg(concat_ws(' ', i.place, i.status, i.error_code, case when i.duplicate then 'again' end), ', ' order by i.place) into answer
  from private.stripe_ingest_events(events) as i;
  perform tests.act_as_superuser();
  return answer;
end
$$;
select is(tests.send_all(variadic '{}'), null, 'no events have no answer');
select is(tests.send_all(
  tests.event('customer.subscription.created', 1, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'), null, 'evt_one'),
  tests.event('checkout.session.completed', 2, tests.session('cs_1', 'cus_1', 'sub_1', tests.org('ada')::text)),
  tests.event('charge.succeeded', 2, '{"id":"ch_1","object":"charge"}'),
  tests.event('customer.subscription.created', 1, tests.subscription('sub_1', 'cus_1', 'active', 'pro_monthly'), null, 'evt_one'),
  tests.event('checkout.session.completed', 2, tests.session('cs_2', 'cus_2', 'sub_2', tests.org('bob')::text)),
  tests.event('customer.subscription.created', 3, tests.subscription('sub_2', 'cus_2', 'active', 'teams_monthly')),
  tests.event('price.updated', 3, '{"id":"price_teams_monthly","object":"price","product":"prod_1","lookup_key":"teams_monthly","currency":"eur","unit_amount":2900,"active":true,"created":1}')
), '1 applied, 2 applied, 3 ignored, 4 applied again, 5 applied, 6 applied, 7 applied', 'each event has an answer of its own, at its place');
select is(tests.plan('ada'), 'PRO active', 'one customer''s events are applied');
select is(tests.plan('bob'), 'TEAMS active', 'another''s, too');
select is((select e.attempts from private.stripe_events as e where e.id = 'evt_one'), 1, 'one that is there twice is applied once');

-- ---- one that fails is stored as failed, and the others are applied
create function tests.obstruct() returns trigger language plpgsql as $$ begin raise exception 'in the way' using errcode = 'XX001'; end $$;
create trigger obstruct before insert or update on public.stripe_invoices for each row execute function tests.obstruct();
select is(tests.send_all(
  tests.event('customer.subscription.deleted', 5, tests.subscription('sub_1', 'cus_1', 'canceled', 'pro_monthly')),
  tests.event('invoice.created', 5, tests.invoice('in_1', 'cus_2', 'sub_2', 'draft'), null, 'evt_hard'),
  tests.event('customer.subscription.deleted', 5, tests.subscription('sub_2', 'cus_2', 'canceled', 'teams_monthly'))
), '1 applied, 2 failed XX001, 3 applied', 'one that fails says so');
select is(tests.plan('ada') || ', ' || tests.plan('bob'), 'FREE canceled, FREE canceled', 'those before and after it are applied');
select is((select e.status from private.stripe_events as e where e.id = 'evt_hard'), 'failed', 'and it is kept, to be retried');
drop trigger obstruct on public.stripe_invoices;

-- ---- one that is no event, or that waits for a lock: none of them is stored
select tests.act_as_sidecar();
select tests.refuses(
  format('select private.stripe_ingest_events(array[%L, %L]::jsonb[])', tests.event('charge.succeeded', 6, '{"id":"ch_2","object":"charge"}', null, 'evt_two'), '{}'),
  'bad_request', 'beside what is no event'
);
select tests.act_as_superuser();
create function tests.obstruct_lock() returns trigger language plpgsql as $$ begin raise exception 'locked' using errcode = '55P03'; end $$;
create trigger obstruct before insert or update on public.stripe_invoices for each row execute function tests.obstruct_lock();
select tests.act_as_sidecar();
select tests.refuses(
  format('select private.stripe_ingest_events(array[%L, %L]::jsonb[])', tests.event('charge.succeeded', 6, '{"id":"ch_2","object":"charge"}', null, 'evt_two'),
    tests.event('invoice.created', 6, tests.invoice('in_2', 'cus_2', 'sub_2', 'draft'), null, 'evt_three')),
  'unavailable', 'beside one that waits for a lock'
);
select tests.act_as_superuser();
select is_empty($$select from private.stripe_events as e where e.id in ('evt_two', 'evt_three')$$, 'none of them is stored');

select * from finish();
rollback;
