-- Privacy: what stays another person's: under an address that an administrator gives, in invitations, and at Stripe.
begin;
\ir 000_helpers.sql
select plan(44);

select tests.sign_up('ada'), tests.sign_up('hal'), tests.sign_up('ina');
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('ina'));
select tests.join_org('hal', tests.org('ada'), 'admin'), tests.join_org('hal', tests.org('ina'), 'admin');
select tests.org('ada') as shared, tests.org('ina') as other, tests.org('hal') as own \gset
create function tests.erasure(who text, org uuid default null) returns uuid language sql security definer as $$
  insert into private.privacy_requests (kind, user_id, organization, requested_by, status, email, journaled_at, due_at)
  select 'erasure', u.id, org, u.id, 'journaled', u.email, now(), kijko.now() from auth.users as u where u.id = tests.id(who) returning id
$$;
create function tests.request(request uuid) returns private.privacy_requests language sql stable security definer as $$
  select r.* from private.privacy_requests as r where r.id = request
$$;
create function tests.export(who text, status text) returns uuid language sql security definer as $$
  insert into private.privacy_requests (kind, user_id, requested_by, status, email, expires_at)
  select 'export', u.id, u.id, export.status, u.email, case when export.status = 'ready' then kijko.now() + interval '1 day' end
  from auth.users as u where u.id = tests.id(who) returning id
$$;
create function tests.mail(address text, locale text, made timestamptz) returns void language sql security definer as $$
  insert into private.mail_messages (org_id, recipient, template, locale, status, expires_at, finished_at, created_at)
  values (kijko.platform_org_id(), address, 'invitation', locale, 'kept', now(), now(), made)
$$;
create function tests.mails(address text) returns text language sql stable security definer as $$
  select string_agg(m.locale, ' ' order by m.locale) from private.mail_messages as m where m.recipient = address
$$;
create function tests.exported(request uuid, name text) returns text language sql security definer as $$
  select string_agg(l.line::jsonb -> 'row' ->> 'recipient' || ' ' || (l.line::jsonb -> 'row' ->> 'locale'), ', ' order by l.line)
  from private.privacy_export_chunks as c cross join lateral unnest(string_to_array(btrim(c.lines, E'\n'), E'\n')) as l (line)
  where c.request_id = request and c.table_name = name
$$;
create function tests.event(customer text, made timestamptz, object jsonb, former jsonb default null, key text default null) returns jsonb language sql as $$
  select jsonb_build_object('id', 'evt_' || replace(gen_random_uuid()::text, '-', ''), 'type', 'customer.updated', 'created', extract(epoch from made)::bigint, 'livemode', false,
    'request', jsonb_build_object('idempotency_key', key),
    'data', jsonb_strip_nulls(jsonb_build_object('object', jsonb_build_object('id', customer, 'object', 'customer', 'created', 1) || object, 'previous_attributes', former)))
$$;
create function tests.tells(word text) returns bigint language sql stable security definer as $$
  select count(*) from private.stripe_events as e where e.object_id in ('cus_own', 'cus_shared', 'txi_own') and strpos(e.payload::text, word) > 0
$$;
create function tests.plan_of_is_others() returns setof text language plpgsql as $$
declare
  body constant text := (select p.prosrc from pg_proc as p where p.oid = 'private.privacy_is_others(uuid, text)'::regprocedure);
begin
  return query execute 'explain (costs off) ' || regexp_replace(regexp_replace(body, '\maddress\M', '''nobody@example.test''::text', 'g'), '\mperson\M', quote_literal(gen_random_uuid()) || '::uuid', 'g');
end
$$;
select tests.act_as_superuser();
select kijko.set_http_secret('stripe-api-key', 'Bearer sk_test_x');
set local role postgres;

-- ---- an administrator gives an account the address of somebody else
insert into public.invitations (org_id, email, role, created_by, sent_by, created_at) values (:'other', 'post@example.test', 'member', tests.id('ina'), tests.id('ina'), kijko.now() - interval '2 days');
select tests.mail('post@example.test', 'en', kijko.now() - interval '1 day'), tests.mail('hal@example.test', 'nl', kijko.now() - interval '1 day');
insert into public.stripe_customers (id, livemode, email, created_at) values ('cus_post', false, 'post@example.test', now() - interval '1 day');
select tests.export('hal', 'ready') as ready \gset
select tests.export('hal', 'queued') as queued \gset
insert into private.privacy_requests (kind, user_id, requested_by, status, email, code_hash, code_expires_at)
values ('erasure', tests.id('hal'), tests.id('hal'), 'unconfirmed', 'hal@example.test', '\x00', kijko.now() + interval '1 hour') returning id as unconfirmed \gset
update auth.users set email = 'post@example.test' where id = tests.id('hal');
select tests.mail('post@example.test', 'nl', kijko.now() + interval '1 second');
select isnt((select u.email_confirmed_at from auth.users as u where u.id = tests.id('hal')), null, 'what an administrator gives counts as confirmed, as with GoTrue');
select ok((tests.request(:'ready')).expires_at <= kijko.now(), 'an export from before cannot be opened any more');
select is((tests.request(:'queued')).status, 'cancelled', 'one that is under way ends');
select is((select (r.status, r.code_hash)::text from tests.request(:'unconfirmed') as r), '(expired,)', 'and a code that was mailed to the former address');
select tests.export('hal', 'queued') as export \gset
select ok(private.privacy_collect(:'export') > 0, 'an export after it');
select is(tests.exported(:'export', 'private.mail_messages'), 'post@example.test nl', 'has the mails since then: none from before, and none to the former address');
select is(tests.exported(:'export', 'public.invitations'), null, 'nor an invitation of who has the mailbox');
select tests.erasure('hal') as erasure \gset
savepoint erased;
select is(private.privacy_erase(:'erasure'), true, 'an erasure');
select is(tests.mails('post@example.test'), 'en', 'leaves what was sent to the address before');
select is(tests.mails('hal@example.test'), null, 'takes what was sent to the former one');
select is((select count(*) from public.invitations where email = 'post@example.test'), 1::bigint, 'leaves the invitation');
select is((select email from public.stripe_customers where id = 'cus_post'), 'post@example.test', 'and the customer with that address');
rollback to erased;
-- The person proves the next address: mails from before are theirs.
update auth.users set email_change = 'mine@example.test' where id = tests.id('hal');
select tests.mail('mine@example.test', 'en', kijko.now() - interval '1 day');
update auth.users set email = 'mine@example.test', email_change = '' where id = tests.id('hal');
select is(private.privacy_had_address(tests.id('hal'), 'mine@example.test', kijko.now() - interval '1 day'), true, 'an address that the person has confirmed is theirs');
select is(private.privacy_had_address(tests.id('hal'), 'post@example.test', kijko.now() - interval '1 day'), false, 'one that was given is not, of before');
select is(private.privacy_had_address(tests.id('hal'), 'Post@example.test', kijko.now()), true, 'and is since then');
delete from auth.users where id = tests.id('hal');
select is(private.privacy_had_address(tests.id('hal'), 'post@example.test', kijko.now() - interval '1 day'), false, 'also when the account is gone');
rollback to erased;

-- ---- addresses are looked up by an index
-- With few users a plan reads them all, or all of the instance, unless it cannot.
select tests.act_as_superuser();
update pg_index set indisvalid = false where indexrelid = 'auth.users_instance_id_idx'::regclass;
set local role postgres;
set local enable_seqscan = off;
select is((select count(*) from tests.plan_of_is_others() as p (line) where p.line ~ 'Index Cond: .*email'), 2::bigint, 'by those of GoTrue, however many users there are');
reset enable_seqscan;
update auth.users set instance_id = null where id = tests.id('ina');
select is(private.privacy_is_others(tests.id('ada'), 'Ina@example.test'), true, 'who has no instance is found');
update auth.users set instance_id = '00000000-0000-0000-0000-000000000000', is_sso_user = true, email = 'INA@example.test' where id = tests.id('ina');
select is(private.privacy_is_others(tests.id('ada'), 'ina@example.test'), true, 'and who is of single sign-on, in any letters');
update auth.users set email = e'\u212Aim@example.test' where id = tests.id('ina');
select is(private.privacy_is_others(tests.id('ada'), 'kim@example.test'), false, 'but no other letter that looks the same');
rollback to erased;

-- ---- invitations that the person sent, and that they got
insert into public.invitations (org_id, email, role, created_by, sent_by)
values (:'shared', 'guest@example.test', 'member', tests.id('hal'), tests.id('hal')), (:'other', 'guest@example.test', 'member', tests.id('hal'), tests.id('hal')),
  (:'shared', 'again@example.test', 'member', tests.id('hal'), tests.id('ada'));
insert into public.webhook_messages (org_id, type, version, permission, entity, payload, created_at)
select o.org, 'invitation.sent', 1, 'members:read', 'x', jsonb_build_object('data', jsonb_build_object('email', o.email)), o.made
from (values (:'shared'::uuid, 'hal@example.test', kijko.now() - interval '1 day'), (:'other', 'hal@example.test', kijko.now() - interval '1 day'), (:'shared', 'guest@example.test', kijko.now())) as o (org, email, made);
select tests.erasure('hal', :'shared') as inside \gset
select is(private.privacy_erase(:'inside'), true, 'an erasure in one organization');
select results_eq(
  $$select o.name, i.email, i.status from public.invitations as i join (values (tests.org('ada'), 'shared'), (tests.org('ina'), 'other')) as o (id, name) on o.id = i.org_id
    where i.email ~ '^(guest|again)@' order by 1, 2$$,
  $$values ('other', 'guest@example.test', 'pending'), ('shared', 'again@example.test', 'pending'), ('shared', 'guest@example.test', 'revoked')$$,
  'revokes what rests on the person there, not what a colleague has sent again'
);
select is((select string_agg(coalesce(m.payload #>> '{data,email}', '-'), ' ' order by m.payload::text) from public.webhook_messages as m where m.entity = 'x' and m.org_id = :'shared'),
  'guest@example.test -', 'takes the address from events that were sent to endpoints');
delete from auth.users where id = tests.id('hal');
select is((select string_agg(i.status, ' ') from public.invitations as i where i.org_id = :'other' and i.email = 'guest@example.test'), 'revoked', 'a deletion of the account revokes the others');
select is((select count(*) from public.invitations where tests.id('hal') in (sent_by, created_by)), 0::bigint, 'and no invitation has the id');
rollback to erased;

-- ---- what a person did with jobs: events never change, but for who acted
select tests.act_as_superuser();
select private.jobs_enqueue(:'shared', 'privacy_probe', '{}') as job \gset
select tests.act_as('hal', :'shared');
select kijko.user_id() as acting \gset
select tests.act_as_superuser();
insert into public.job_event_log (org_id, job_id, event, attempt, created_by) values (:'shared', :'job', 'cancelled', 0, :'acting');
set local role postgres;
select throws_ok(format($$update public.job_event_log set event = 'claimed' where job_id = %L$$, :'job'), '42501', null, 'an event does not change');
select throws_ok(format($$update public.job_event_log set created_by = null, event = 'claimed' where job_id = %L$$, :'job'), '42501', null, 'nor with who acted');
select is(private.privacy_erase(:'erasure'), true, 'who has acted on a job can be erased');
select is((select count(*) from public.job_event_log where created_by = tests.id('hal')), 0::bigint, 'and the event does not name them');
rollback to erased;

-- ---- Stripe: what goes there, what it answers, and what it tells afterwards
delete from private.billing_account;
insert into private.billing_account (livemode, api_url, api_version) values (false, 'https://stripe.example.com', 'x');
insert into public.stripe_customers (id, livemode, org_id, email, name, created_at) values
  ('cus_own', false, :'own', 'hal@example.test', 'Hal', now()), ('cus_shared', false, :'shared', 'hal@example.test', 'Company', now());
insert into private.billing_tax_ids (id, livemode, customer_id, value) values ('txi_own', false, 'cus_own', 'NL001234567B01'), ('txi_shared', false, 'cus_shared', 'NL999999990B01');
select private.billing_send('customer', 'cus_own', :'own', 'POST', '/v1/customers/cus_own', '{"name": "Hal"}', '{"params": {"name": "Hal"}}') as former \gset
select is(private.privacy_erase(:'erasure'), true, 'an erasure with customers');
select results_eq(
  $$select e.kind, e.subject, r.method, regexp_replace(r.url, '^.*/v1', ''), r.body from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id
    where e.kind in ('customer_erasure', 'tax_id_removal') and e.subject ~ 'own|shared' order by 1, 2$$,
  $$values ('customer_erasure', 'cus_own', 'POST', '/customers/cus_own', 'address=&business_name=&description=&email=&individual_name=&metadata=&name=&phone=&shipping='),
    ('customer_erasure', 'cus_shared:email', 'POST', '/customers/cus_shared', 'email='),
    ('tax_id_removal', 'txi_own', 'DELETE', '/customers/cus_own/tax_ids/txi_own', null)$$,
  'asks Stripe for all of the person''s own customer, and for the address of the organization''s'
);
select is((select r.state from private.billing_effects as e join kijko.http_requests as r on r.id = e.request_id where e.id = :'former'), 'cancelled', 'what was to tell Stripe the name does not come after it');
select is((select string_agg(t.value, ',' order by t.id) from private.billing_tax_ids as t where t.id ~ '^txi_(own|shared)$'), ',NL999999990B01', 'the VAT number goes');
select is((select p.state || ' ' || jsonb_array_length(p.details -> 'effects') from private.privacy_proofs as p where p.request_id = :'erasure' and p.target = 'stripe'), 'pending 3', 'the proof waits for each answer');
select private.stripe_ingest_event(tests.event('cus_own', now() - interval '1 hour', '{"email": "hal@example.test", "name": "Hal"}')) as ignored;
select is((select (c.email, c.name)::text from public.stripe_customers as c where c.id = 'cus_own'), '(,)', 'an event of before that comes late brings nothing back');
update private.billing_effects set state = 'done', ended_at = now() - interval '1 minute', http_status = 200 where kind in ('customer_erasure', 'tax_id_removal') and subject ~ 'own|shared';
select private.stripe_ingest_event(tests.event('cus_own', now(), '{"email": null, "name": null}', '{"email": "hal@example.test", "name": "Hal", "address": {"line1": "Street 1"}}')) as ignored;
select private.stripe_ingest_event(tests.event('cus_shared', now(), '{"email": null, "name": "Company"}', '{"email": "hal@example.test"}',
  (select e.request_id::text from private.billing_effects as e where e.subject = 'cus_shared:email'))) as ignored;
select private.stripe_ingest_event(jsonb_set(tests.event('txi_own', now(), '{"object": "tax_id", "customer": "cus_own", "value": "NL001234567B01", "verification": {"verified_name": "Hal"}}'), '{type}', '"customer.tax_id.deleted"')) as ignored;
select is(tests.tells('hal@example.test') + tests.tells('Hal') + tests.tells('Street') + tests.tells('NL001234567B01'), 0::bigint, 'nor does that of the erasure, which says what there was');
select is((select c.name from public.stripe_customers as c where c.id = 'cus_shared'), 'Company', 'the organization keeps its name');
select private.stripe_ingest_event(tests.event('cus_shared', now() + interval '1 minute', '{"email": "office@example.test", "name": "Company"}')) as ignored;
select is((select c.email from public.stripe_customers as c where c.id = 'cus_shared'), 'office@example.test', 'and what it writes later');
select private.privacy_settle() as ignored;
select is((select p.state from private.privacy_proofs as p where p.request_id = :'erasure' and p.target = 'stripe'), 'done', 'then the proof is complete');
-- Of an answer that still has something.
select private.privacy_check_customer(e, '{"id": "cus_own", "email": null, "name": "Hal", "metadata": {}}') as ignored from private.billing_effects as e where e.subject = 'cus_own' and e.kind = 'customer_erasure';
select results_eq($$select e.state, e.error from private.billing_effects as e where e.subject = 'cus_own' and e.kind = 'customer_erasure'$$, $$values ('failed', 'Stripe still has: name')$$, 'an answer with the name is none');
select private.privacy_check_customer(e, '{"id": "cus_shared", "email": null, "name": "Company"}') as ignored from private.billing_effects as e where e.subject = 'cus_shared:email';
select is((select e.state from private.billing_effects as e where e.subject = 'cus_shared:email'), 'done', 'an organization''s customer keeps its name there');
update private.billing_effects set state = 'failed', http_status = 404 where kind = 'customer_erasure' and subject = 'cus_own';
select is(private.privacy_settle_stripe(array(select e.id from private.billing_effects as e where e.kind = 'customer_erasure' and e.subject = 'cus_own')), 'done', 'a customer that Stripe does not have any more is erased');
rollback to erased;
insert into public.stripe_customers (id, livemode, org_id, email, created_at) values ('cus_live', true, :'own', 'hal@example.test', now()), ('cus_test', false, :'own', 'hal@example.test', now());
delete from private.billing_account;
insert into private.billing_account (livemode, api_url, api_version) values (false, 'https://stripe.example.com', 'x');
select private.privacy_erase(:'erasure') as ignored;
select is((select count(*) from private.billing_effects where subject = 'cus_live'), 0::bigint, 'a customer of another mode is not asked for by this key');
update private.billing_effects set state = 'done', ended_at = now(), http_status = 200 where kind = 'customer_erasure' and subject = 'cus_test';
select private.privacy_settle() as ignored;
select is((select p.state from private.privacy_proofs as p where p.request_id = :'erasure' and p.target = 'stripe'), 'kept', 'and is no proof');

select * from finish();
rollback;
