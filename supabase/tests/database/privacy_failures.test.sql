-- Privacy: erasures that cannot be done, replays that fail, and what comes too late or belongs to somebody else.
begin;
\ir 000_helpers.sql
select plan(61);

select tests.sign_up('ada'), tests.sign_up('ben'), tests.sign_up('cas'), tests.sign_up('dee'), tests.sign_up('eli'), tests.sign_up('fay');
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('ben'));
select tests.join_org('ben', tests.org('ada'), 'owner'), tests.join_org('cas', tests.org('ada'), 'member'), tests.join_org('eli', tests.org('ben'), 'member');
select tests.org('ada') as shared, tests.org('ben') as others \gset
create function tests.erasure(who text, org uuid default null, status text default 'journaled', by_whom text default null) returns uuid language sql security definer as $$
  insert into private.privacy_requests (kind, user_id, organization, requested_by, status, email, journaled_at, due_at)
  select 'erasure', u.id, org, tests.id(coalesce(by_whom, who)), erasure.status, u.email, case when erasure.status = 'journaled' then now() end, kijko.now()
  from auth.users as u where u.id = tests.id(who) returning id
$$;
-- As login does when a person has confirmed a new address.
create function tests.change_address(who text, address text) returns void language sql security definer as $$
  update auth.users set email_change = address where id = tests.id(who);
  update auth.users set email = address, email_change = '', email_confirmed_at = coalesce(email_confirmed_at, now()) where id = tests.id(who);
$$;
create function tests.request(request uuid) returns private.privacy_requests language sql stable security definer as $$
  select r.* from private.privacy_requests as r where r.id = request
$$;
create function tests.entry(request uuid, who text, org uuid default null, happened timestamptz default now()) returns jsonb language sql stable security definer as $$
  select jsonb_build_object('id', request, 'user_id', tests.id(who), 'org_id', org, 'at', happened)
$$;
-- Those of this test's people.
create function tests.problems() returns table (request_id uuid, attempts smallint, error_code text) language sql stable security definer as $$
  select p.request_id, p.attempts, p.error_code from private.privacy_problems() as p
  where p.user_id in (select tests.id(w.who) from unnest(array['ada', 'ben', 'cas', 'dee', 'eli', 'fay']) as w (who))
$$;
create function tests.mail(address text, locale text, made timestamptz) returns void language sql security definer as $$
  insert into private.mail_messages (org_id, recipient, template, locale, status, expires_at, finished_at, created_at)
  values (kijko.platform_org_id(), address, 'invitation', locale, 'kept', now(), now(), made)
$$;
create function tests.mails(address text) returns text language sql stable security definer as $$
  select string_agg(m.locale, ' ' order by m.locale) from private.mail_messages as m where m.recipient = address
$$;
select tests.act_as_superuser();
set local role postgres;

-- ---- failures: recorded, tried again later, last in the order, at last given up
select tests.erasure('dee') as failing \gset
select private.privacy_record_failure(:'failing', 'internal: left over');
select results_eq(format('select status, attempts::integer, error_code, next_attempt_at from tests.request(%L)', :'failing'),
  $$values ('journaled', 1, 'internal', kijko.now() + interval '1 minute')$$, 'a failure is recorded, and tried again later');
select results_eq('select request_id, attempts::integer, error_code from tests.problems()', format('values (%L::uuid, 1, %L)', :'failing', 'internal'), 'an operator sees it');
update private.privacy_requests set attempts = 9 where id = :'failing';
select private.privacy_record_failure(:'failing', 'internal: left over');
select is((tests.request(:'failing')).status, 'failed', 'after ten attempts it has failed');
select is((select string_agg(m.recipient, ', ') from private.mail_messages as m where m.template = 'erasure_failed' and m.recipient ~ '@example.test$'), 'dee@example.test', 'which the person is told');
select is((select count(*) from tests.problems()), 1::bigint, 'and which an operator still sees');
select is(private.privacy_retry(:'failing'), true, 'who has it tried again');
select is(private.privacy_erase(:'failing'), true, 'and then it is done');
select is((select count(*) from tests.problems()), 0::bigint, 'without a problem');
select is(private.privacy_retry(:'failing'), false, 'once');

-- ---- ownership passes on, and the only member's erasure ends
select tests.erasure('ben', :'others') as passing \gset
select is(private.privacy_erase(:'passing'), true, 'an owner who became the last one since the erasure began');
select is((select string_agg(u.email || ' ' || m.role, ', ') from public.memberships as m join auth.users as u on u.id = m.user_id where m.org_id = :'others'),
  'eli@example.test owner', 'leaves the organization to another member');
select tests.erasure('fay', tests.org('fay')) as alone \gset
select throws_ok(format('select private.privacy_erase(%L)', :'alone'), 'KJ409', null, 'the only member cannot leave');
select private.privacy_record_failure(:'alone', 'conflict: the person is the only member');
select is((select (r.status, r.error_code)::text from tests.request(:'alone') as r), '(failed,last_owner)', 'and is told so at once');
select is((select count(*) from public.organizations where id = tests.org('fay')), 1::bigint, 'their organization stays');

-- ---- an address belongs to whoever has confirmed it
select tests.erasure('cas') as moved \gset
select tests.change_address('cas', 'cas-now@example.test');
select is(private.privacy_address(tests.request(:'moved')), 'cas-now@example.test', 'an erasure goes by the address of now');
update auth.users set email_confirmed_at = null where id = tests.id('cas');
select is(private.privacy_address(tests.request(:'moved')), null, 'by none that nobody has confirmed');
update auth.users set email_confirmed_at = now() where id = tests.id('cas');
insert into private.privacy_requests (kind, user_id, status, email) values ('erasure', gen_random_uuid(), 'journaled', 'eli@example.test') returning id as gone \gset
select is(private.privacy_address(tests.request(:'gone')), null, 'and by none that another account has now');
select is(private.privacy_erase(:'gone'), true, 'whose profile stops no erasure of a former account');
select is((select count(*) from public.profiles where email = 'eli@example.test'), 1::bigint, 'and stays');

-- ---- with an account everything ends that waits for it, and what comes too late goes
select tests.erasure('cas', :'shared', 'confirmed', 'ada') as inside \gset
insert into private.privacy_requests (kind, user_id, organization, requested_by, session_id, status) values ('export', tests.id('ben'), :'shared', tests.id('cas'), gen_random_uuid(), 'ready');
select tests.org('cas') as named, tests.join_org('ada', tests.org('cas'), 'owner') \gset
-- Their own name is by then that of an organization that they have named otherwise, and not the one that sign-up gave.
insert into public.organizations (name, created_by) values ('Acme', tests.id('cas')) returning id as acme \gset
select tests.join_org('ada', :'acme', 'owner');
update public.profiles set display_name = 'Acme' where id = tests.id('cas');
select is(private.privacy_erase(:'moved'), true, 'an account is erased');
select is((select (r.status, r.email)::text from tests.request(:'inside') as r), '(cancelled,)', 'the erasure in an organization that waits is none any more');
select is((select count(*) from private.privacy_requests where kind = 'export'), 0::bigint, 'exports that they asked for of others go');
select is_empty(
  format($$select d.place from private.privacy_proofs as p cross join lateral jsonb_object_keys(p.details) as d (place)
    where p.request_id = %L and p.target = 'events' and d.place ~ '^private\.(audit_erasures|privacy_former)'$$, :'moved'),
  'what is kept for minutes is no evidence'
);
select is((select name || ' ' || (slug ~ '^organization-')::text from public.organizations where id = :'named'), 'Organization true', 'what sign-up named after them has another name');
select is((select name from public.organizations where id = :'acme'), 'Acme', 'and what they have named themselves stays');
select tests.act_as_superuser();
insert into public.llm_call_contents (id, org_id, called_at, prompt, delete_after, created_by)
values (gen_random_uuid(), :'shared', kijko.now(), '"late"', kijko.now() + interval '1 day', tests.id('cas'));
set local role postgres;
update private.privacy_proofs set due_at = kijko.now(), details = details || '{"looked_at": ""}' where request_id = :'moved' and target = 'late_writes';
select ok(private.privacy_settle() > 0, 'a day later it is looked again');
select is((select count(*) from public.llm_call_contents where created_by = tests.id('cas')), 0::bigint, 'for what was under way');
select is((select state from private.privacy_proofs where request_id = :'moved' and target = 'late_writes'), 'done', 'with a proof');

select is_empty(format($$select 1 from public.audit_log where org_id = %L and personal::text ~ '"cas"'$$, :'named'), 'and the audit log has not kept it');

-- ---- an address that several had, one after the other
select tests.sign_up('old'), tests.sign_up('new');
select tests.change_address('old', 'old-now@example.test');
update private.privacy_former_addresses set replaced_at = now() - interval '3 days' where user_id = tests.id('old');
select tests.change_address('new', 'old@example.test');
select tests.mail('old@example.test', 'en', now() - interval '4 days'), tests.mail('old@example.test', 'nl', now() - interval '2 days');
select is(tests.mails('old@example.test'), 'en nl', 'a mailbox has mails to who had its address before, and to who has it now');
select tests.erasure('new') as newer \gset
select is(private.privacy_left(tests.request(:'newer'), private.privacy_addresses(tests.request(:'newer')), false) ->> 'private.mail_messages.recipient', '1', 'of which each has their own');
select private.privacy_erase(:'newer') as ignored;
select is(tests.mails('old@example.test'), 'en', 'and each loses their own');
select tests.erasure('old') as older \gset
select private.privacy_erase(:'older') as ignored;
select is(tests.mails('old@example.test'), null, 'also of an address that is nobody''s any more');

-- ---- a mailbox that was handed over: each has the mails of their time, also of one to which an address came back
select tests.sign_up('pat'), tests.sign_up('quy');
select tests.change_address('quy', 'quy-away@example.test');
update private.privacy_former_addresses set replaced_at = now() - interval '9 days' where user_id = tests.id('quy');
select tests.change_address('pat', 'quy@example.test');
select tests.change_address('pat', 'pat-now@example.test');
update private.privacy_former_addresses set replaced_at = now() - interval '3 days' where user_id = tests.id('pat');
select tests.change_address('quy', 'quy@example.test');
select tests.mail('quy@example.test', 'nl', now() - interval '10 days'), tests.mail('quy@example.test', 'en', now() - interval '4 days'),
  tests.mail('quy@example.test', 'nl', now() - interval '2 days');
insert into public.stripe_customers (id, livemode, email, created_at) values ('cus_handed', false, 'quy@example.test', now() - interval '4 days');
select tests.erasure('pat') as handed \gset
select private.privacy_erase(:'handed') as ignored;
select is(tests.mails('quy@example.test'), 'nl nl', 'who is erased loses the mails of their time, and nobody else theirs');
select is((select email from public.stripe_customers where id = 'cus_handed'), 'quy@example.test', 'the customer of a mailbox that is in use keeps it');
update private.privacy_requests set finished_at = finished_at - interval '1 hour' where id = :'handed';
update private.privacy_proofs set details = '{"xid": "3"}' where request_id = :'handed' and target = 'late_writes';
select private.privacy_settle() as ignored;
select is(tests.mails('quy@example.test'), 'nl nl', 'also when it was looked for late writes');
select tests.erasure('quy') as taken \gset
select private.privacy_erase(:'taken') as ignored;
select is(tests.mails('quy@example.test'), null, 'and who has the mailbox now loses all of theirs');

-- ---- who signs up again before they are erased
select tests.sign_up('ida');
delete from auth.users where id = tests.id('ida');
select tests.mail('ida@example.test', 'en', now()), tests.mail('ida@example.test', 'nl', now() + interval '1 minute');
update private.privacy_requests set status = 'journaled', journaled_at = now() where user_id = tests.id('ida');
select private.privacy_erase(r.id) as ignored from private.privacy_requests as r where r.user_id = tests.id('ida');
select is(tests.mails('ida@example.test'), 'nl', 'keeps the mails since then');

-- ---- an account that is deleted while its erasure begins
select tests.sign_up('jan'), tests.erasure('jan', null, 'journaling') as moving \gset
select tests.change_address('jan', 'jan-now@example.test');
delete from auth.users where id = tests.id('jan');
select is((tests.request(:'moving')).email, 'jan-now@example.test', 'goes by its last address');

-- ---- an address that nobody confirmed, or that is another's
select tests.sign_up('liz'), tests.sign_up('max');
update auth.users set email_confirmed_at = null where id = tests.id('liz');
select tests.change_address('max', 'max-now@example.test');
select tests.sign_up('tom');
select tests.change_address('tom', 'max@example.test');
delete from auth.users where id in (tests.id('liz'), tests.id('max'));
select results_eq($$select a.email, a.former_emails from private.audit_erasures as a where a.user_id in (tests.id('liz'), tests.id('max')) order by 1 nulls first$$,
  $$values (null, '{}'::text[]), ('max-now@example.test', '{}')$$, 'takes nothing from the audit log about others');

-- ---- first looks come before what waits for others
savepoint looks;
select tests.sign_up('pia'), tests.sign_up('rob');
select tests.erasure('pia') as first \gset
select tests.erasure('rob') as second \gset
select private.privacy_erase(:'first'), private.privacy_erase(:'second');
update private.privacy_proofs set state = 'done', proved_at = now() where state = 'pending';
select private.privacy_record_backups(kijko.now() - interval '40 days', 30);
update private.privacy_proofs set state = 'pending', proved_at = null, due_at = kijko.now() - interval '1 day' where request_id = :'first' and target = 'backups';
update private.privacy_proofs set state = 'pending', proved_at = null, due_at = kijko.now() + interval '1 hour', details = '{"looked_at": ""}'
where request_id = :'first' and target = 'late_writes';
update private.privacy_proofs set state = 'pending', proved_at = null, details = '{"xid": "3"}' where request_id = :'second' and target = 'late_writes';
update private.privacy_requests set finished_at = finished_at - interval '1 hour' where id = :'second';
select private.privacy_settle(1) as ignored;
select ok((select p.details ? 'looked_at' from private.privacy_proofs as p where p.request_id = :'second' and p.target = 'late_writes'), 'whoever is erased is told soon');
rollback to looks;

-- ---- who is invited again while it is looked for late writes
select tests.sign_up('sue'), tests.join_org('sue', :'shared', 'member'), tests.erasure('sue', :'shared') as invited \gset
select private.privacy_erase(:'invited') as ignored;
insert into public.invitations (org_id, email, role, created_at) values (:'shared', 'sue@example.test', 'member', kijko.now() + interval '1 second');
update private.privacy_requests set finished_at = finished_at - interval '1 hour' where id = :'invited';
update private.privacy_proofs set details = '{"xid": "3"}' where request_id = :'invited' and target = 'late_writes';
select private.privacy_settle() as ignored;
select is((select count(*) from public.invitations where org_id = :'shared' and email = 'sue@example.test'), 1::bigint, 'keeps the invitation');

-- ---- who joins again while it is looked for late writes
select tests.sign_up('gil'), tests.join_org('gil', :'shared', 'member');
select tests.erasure('gil', :'shared') as rejoined \gset
select private.privacy_erase(:'rejoined') as ignored;
select tests.join_org('gil', :'shared', 'member');
update private.privacy_requests set finished_at = finished_at - interval '1 hour' where id = :'rejoined';
update private.privacy_proofs set details = '{"xid": "3"}' where request_id = :'rejoined' and target = 'late_writes';
select private.privacy_settle() as ignored;
select is((select count(*) from public.memberships where org_id = :'shared' and user_id = tests.id('gil')), 1::bigint, 'stays');

-- ---- an export whose job has ended without an archive
insert into private.privacy_requests (kind, user_id, requested_by, status) values ('export', tests.id('ben'), tests.id('ben'), 'collected') returning id as stuck \gset
insert into private.privacy_export_chunks (request_id, n, table_name, lines, row_count) values (:'stuck', 1, 'public.skills', '{}', 1);
select private.privacy_resume_exports() as ignored;
select is((tests.request(:'stuck')).status, 'queued', 'is collected again if its job was cancelled');
update private.privacy_requests set status = 'collected' where id = :'stuck';
insert into public.jobs (org_id, kind, payload, unique_key, status, finished_at, error_code, error)
values (kijko.platform_org_id(), 'privacy_export', '{}', :'stuck', 'dead', now(), 'archive_unwritable', 'x');
select exports, failed from private.privacy_backlog() \gset before_
select private.privacy_resume_exports() as ignored;
select is((select (r.status, r.error_code)::text from tests.request(:'stuck') as r), '(failed,archive_unwritable)', 'and has failed if its job was given up');
select results_eq('select exports, failed from private.privacy_backlog()', format('values (%s::bigint, %s::bigint)', :before_exports - 1, :before_failed + 1),
  'which operators see in the metrics');
select is_empty(format('select 1 from private.privacy_export_chunks where request_id = %L', :'stuck'), 'its rows go');

-- ---- archives that no request has any more
select tests.act_as_superuser();
insert into storage.objects (bucket_id, name) values ('privacy-exports', tests.id('cas') || '/' || gen_random_uuid() || '.zip');
set local role postgres;
select private.privacy_purge() as ignored;
select is((select count(*) from storage.objects where bucket_id = 'privacy-exports' and name ~ ('^' || tests.id('cas'))), 0::bigint, 'an archive that was stored after its request was gone goes');

-- ---- proofs say what was done
select is(private.privacy_settle_stripe(array[gen_random_uuid()]), 'failed', 'a request to Stripe of which nothing is known is no proof');
select is((select string_agg(target || ' ' || state, ', ' order by target) from private.privacy_proofs where request_id = :'passing'),
  'audit kept, backups pending, database done, events kept, late_writes pending, mail done, model_calls done, storage done', 'an erasure in one organization has proofs of what it does');
select is(
  private.privacy_redact_event('{"data": {"object": {"id": "pi_1", "name": "x", "metadata": {"org_id": "o", "who": "x"}, "last_payment_error": {"payment_method": {"billing_details": {"email": "x"}}}, "charges": [{"id": "ch_1", "receipt_email": "x"}]}}}'),
  '{"data": {"object": {"id": "pi_1", "metadata": {"org_id": "o"}, "last_payment_error": {"payment_method": {}}, "charges": [{"id": "ch_1"}]}}}'::jsonb, 'events lose what is personal however deep');

-- ---- an administrator's request, and a member who joined again
select tests.join_org('eli', :'shared', 'member');
select tests.erasure('eli', :'shared', 'confirmed', 'ada') as stale \gset
update private.privacy_requests set created_at = kijko.now() - interval '1 day' where id = :'stale';
select is(private.privacy_refusal(tests.request(:'stale')), 'joined_again', 'who joined again is not erased by an older request of an administrator');
update private.privacy_requests set status = 'cancelled', finished_at = kijko.now() where id = :'stale';

-- ---- the replay: an entry that fails stops no other
select tests.erasure('eli', null, 'confirmed') as waiting \gset
select private.privacy_replay(jsonb_build_array(
  tests.entry(gen_random_uuid(), 'fay', tests.org('fay')), tests.entry(gen_random_uuid(), 'eli'), tests.entry(gen_random_uuid(), 'ben', :'shared', kijko.now() - interval '1 year'),
  tests.entry(:'passing', 'ben', :'others')
)) as replay \gset
select is(:'replay'::jsonb ->> 'replayed', '1', 'who has another request open is erased');
select is((tests.request(:'waiting')).status, 'cancelled', 'which this one replaces');
select is((select count(*) from auth.users where id = tests.id('eli')), 0::bigint, 'also beside one that fails');
select is(jsonb_path_query_array(:'replay'::jsonb, '$.failed[*].user_id'), jsonb_build_array(tests.id('fay')), 'which is reported');
select ok((select banned_until > now() + interval '1000 years' from auth.users where id = tests.id('fay')), 'and its person locked out');
select is((select string_agg(error_code, ', ' order by error_code) from tests.problems()), 'archive_unwritable, replay_failed', 'until somebody has looked');
select is((select count(*) from public.memberships where org_id = :'shared' and user_id = tests.id('ben')), 1::bigint, 'who joined after an erasure stays a member');

-- ---- a retention time has bounds
select throws_ok($$update private.data_retention set keeps = '300000 years' where table_name = 'private.privacy_requests'$$, '23514', null, 'no retention time is beyond all calendars');
select throws_ok($$update private.data_retention set keeps = '1 year' where table_name = 'public.stripe_invoices'$$, '23514', null, 'invoices are kept as long as the law says');

select * from finish();
rollback;
