-- Privacy: who may ask for an export or an erasure, what they leave, and the replay after a restore.
begin;
\ir 000_helpers.sql
select plan(93);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('mem'));
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'admin');
select tests.org('ada') as shared, tests.org('bob') as own \gset

-- Signed in now. The session's id is the user's, as in the tokens of the role-play.
create function tests.start_session(who text, since timestamptz default now()) returns void language sql security definer as $$
  insert into auth.sessions (id, user_id, created_at, updated_at, aal, ip, user_agent) values (tests.id(who), tests.id(who), since, since, 'aal1', '192.0.2.77', 'agent-of-' || who)
  on conflict (id) do update set created_at = excluded.created_at
$$;
-- As login does when a person has confirmed a new address.
create function tests.change_address(who text, address text) returns void language sql security definer as $$
  update auth.users set email_change = address where id = tests.id(who);
  update auth.users set email = address, email_change = '', email_confirmed_at = coalesce(email_confirmed_at, now()) where id = tests.id(who);
$$;
create function tests.request(request uuid) returns private.privacy_requests language sql stable security definer as $$
  select r.* from private.privacy_requests as r where r.id = request
$$;
create function tests.proof(request uuid, target text) returns private.privacy_proofs language sql stable security definer as $$
  select p.* from private.privacy_proofs as p where p.request_id = request and p.target = proof.target
$$;
-- As a minute after an erasure, when the transactions beside it have ended. This one has not.
create function tests.look_again(request uuid) returns void language sql security definer as $$
  update private.privacy_requests as r set finished_at = r.finished_at - interval '1 minute' where r.id = request;
  update private.privacy_proofs as p set details = p.details || '{"xid": "3"}' where p.request_id = request and p.target = 'late_writes';
  select private.privacy_settle();
$$;
-- The code that was mailed.
create function tests.code(who text) returns text language sql security definer as $$
  select private.mail_data(m) ->> 'token' from private.mail_messages as m
  where m.recipient = who || '@example.test' and m.template = 'erasure_confirmation' order by m.created_at desc, m.id desc limit 1
$$;
create function tests.lines(request uuid) returns table (table_name text, relation text, content jsonb) language sql security definer as $$
  select c.table_name, l.line::jsonb ->> 'relation', l.line::jsonb -> 'row'
  from private.privacy_export_chunks as c cross join lateral unnest(string_to_array(btrim(c.lines, E'\n'), E'\n')) as l (line) where c.request_id = request
$$;

-- ---- nobody, keys, and strangers first
select tests.act_as_anon();
select throws_ok('select public.request_export()', '42501', null, 'anon exports nothing');
select throws_ok('select public.request_erasure()', '42501', null, 'anon erases nothing');
select throws_ok($$select public.record_consent('newsletter', '1', true)$$, '42501', null, 'anon consents to nothing');
select tests.act_as('bob', :'own');
select tests.refuses('select public.request_export()', 'permission_denied', 'without a fresh sign-in nobody exports');
select tests.refuses('select public.request_erasure()', 'permission_denied', 'or erases');
select tests.act_as_superuser();
select tests.start_session('ada'), tests.start_session('bob'), tests.start_session('mem'), tests.start_session('vic');
select tests.act_as('bob', :'own');
select tests.refuses(format('select public.request_export(%L)', :'shared'), 'not_a_member', 'a stranger exports nothing of an organization');
select tests.refuses(format('select public.request_erasure(%L, %L)', :'shared', tests.id('mem')), 'not_a_member', 'or erases a member');
select tests.refuses(format('select public.request_export(null, %L)', tests.id('mem')), 'permission_denied', 'nobody exports another account');
select tests.act_as('mem', :'shared');
select tests.refuses(format('select public.request_export(%L, %L)', :'shared', tests.id('vic')), 'permission_denied', 'a member without privacy:write exports no colleague');
select tests.act_as('vic', :'shared');
select tests.refuses(format('select public.request_erasure(%L, %L)', :'shared', tests.id('ada')), 'permission_denied', 'an admin erases no owner');
select tests.refuses(format('select public.request_erasure(%L, %L)', :'shared', tests.id('bob')), 'not_found', 'or somebody who is no member');
select tests.act_as('ada', :'shared');
select tests.refuses(format('select public.request_erasure(%L)', :'shared'), 'conflict', 'the last owner cannot leave an organization');
select id as key from public.create_api_key('k', '["projects:read"]') \gset
select is(tests.by_key(:'key', 'select public.request_export()'), '42501', 'a key exports nothing');

-- ---- consent
select ok(public.record_consent('newsletter', '1', true) is not null, 'a person consents');
select public.record_consent('newsletter', '1', true), public.record_consent('newsletter', '1', false);
select results_eq('select granted from public.list_consents()', array[false, true], 'a repetition is none, a withdrawal is another row');
select tests.refuses($$select public.record_consent('Bad purpose', '1', true)$$, 'invalid_input', 'a purpose is a name');
select tests.act_as_superuser();
select is(private.privacy_has_consent(tests.id('ada'), 'newsletter'), false, 'the last word holds');
select throws_ok('update private.consents set granted = true', '42501', null, 'rows never change');

-- ---- what there is of mem: in the shared organization, in their own, and as a person
select tests.act_as('mem', :'shared');
insert into public.skills (name, prompt_template) values ('skill-of-mem', 'x');
insert into public.projects (name) values ('project-of-mem') returning id as project \gset
select tests.act_as('mem', tests.org('mem'));
insert into public.skills (name, prompt_template) values ('own-skill-of-mem', 'x');
select tests.act_as('ada', :'shared');
insert into public.skills (name, prompt_template) values ('skill-of-ada', 'x');
select public.invite_member('mem@example.test', 'member') is not null as ignored;
select tests.act_as_superuser();
insert into public.notifications (org_id, audience, user_id, type, title)
values (:'shared', 'user', tests.id('mem'), 'member.joined', 'note-for-mem'), (:'shared', 'user', tests.id('ada'), 'member.joined', 'note-for-ada');
insert into public.llm_calls (org_id, requested_model, provider, model, own_key, held_tokens, held_microusd, member_id, created_by)
values (:'shared', 'm', 'p', 'p/m', false, 0, 0, tests.id('mem'), tests.id('mem'));
insert into public.persons (id, org_id, user_id, traits) values (gen_random_uuid(), tests.org('mem'), 'customer-of-mem', '{"name": "guest-of-mem"}');
insert into public.stripe_customers (id, livemode, org_id, email, name) values ('cus_shared', false, :'shared', 'Mem@example.test', 'Company'), ('cus_own', false, tests.org('mem'), 'x@example.test', 'Mem the Person');

-- Mails to others that name mem.
select private.mail_store(:'shared', 'guest@example.test', 'invitation', 'en', '{"link": "x", "organization": "x", "inviter": "Mem (mem@example.test)"}') as mail \gset
update private.mail_messages set created_by = tests.id('mem') where id = :'mail';
select tests.act_as('vic', :'shared');
select public.request_erasure(:'shared', tests.id('mem')) as request \gset vics_
select public.cancel_erasure(:'vics_request');
select tests.act_as_superuser();
-- Somebody was a member of mem's own organization, and mem had another address.
select tests.join_org('bob', tests.org('mem'), 'member');
delete from public.memberships where org_id = tests.org('mem') and user_id = tests.id('bob');
insert into private.mail_messages (org_id, recipient, template, locale, status, expires_at, finished_at)
values (:'shared', 'Mem-before@example.test', 'invitation', 'en', 'kept', now(), now());
select tests.change_address('mem', 'mem-before@example.test');
select tests.change_address('mem', 'mem@example.test');
update private.mail_messages set created_at = now() - interval '1 day' where recipient = 'Mem-before@example.test';
insert into private.mail_messages (org_id, recipient, template, locale, status, expires_at, finished_at)
values (:'shared', 'mem-before@example.test', 'invitation', 'nl', 'kept', now(), now());
update private.mail_messages set created_at = now() + interval '1 second' where recipient = 'mem-before@example.test';

-- ---- an export
select tests.act_as('mem', :'shared');
select public.request_export() as request \gset
select tests.refuses('select public.request_export()', 'conflict', 'one export at a time');
select is((select count(*) from public.list_privacy_requests() where kind = 'export'), 1::bigint, 'the request is listed');
select tests.act_as('bob', :'own');
select is((select count(*) from public.list_privacy_requests()), 0::bigint, 'for who asked');
select tests.refuses(format('select public.open_export(%L)', :'request'), 'not_found', 'nobody else opens it');
select tests.act_as_superuser();
set local role postgres;
select ok(private.privacy_collect(:'request') > 0, 'rows are collected');
select is((tests.request(:'request')).status, 'collected', 'and wait for their archive');
select is((select count(*) from public.jobs as j where j.kind = 'privacy_export' and j.payload ->> 'request_id' = :'request'), 1::bigint, 'which a job makes');
select results_eq(
  format($$select relation, content ->> 'name' from tests.lines(%L) where table_name = 'public.skills' order by 1, 2 nulls last$$, :'request'),
  $$values ('made', null), ('organization', 'own-skill-of-mem')$$, 'own organizations come whole, of others only keys of what was made'
);
select is_empty(format($$select 1 from tests.lines(%L) where content::text ~ 'ada@|skill-of-ada|note-for-ada|agent-of-ada|customer-of-mem|guest-of-mem'$$, :'request'), 'nothing of anybody else');
select is_empty(format($$select 1 from tests.lines(%L) where strpos(content::text, %L) > 0$$, :'request', tests.id('bob')), 'no id of a former member');
select ok(
  exists (select from tests.lines(:'request') where table_name = 'public.audit_log' and content -> 'before' ->> 'user_id' = '00000000-0000-0000-0000-000000000000'),
  'but that there was one'
);
select results_eq(
  format($$select content ->> 'recipient' from tests.lines(%L) where table_name = 'private.mail_messages' and content ->> 'recipient' ~* 'before'$$, :'request'),
  array['Mem-before@example.test'], 'mails to a former address, and none of those who have it now'
);
select is((select content ->> 'email' from tests.lines(:'request') where table_name = 'auth.users'), 'mem@example.test', 'the account');
select is_empty(
  format($$select 1 from tests.lines(%L) as l where l.content ?| array['encrypted_password', 'sealed_data', 'code_hash', 'token_hash', 'secret']$$, :'request'), 'and no secret'
);
select is((select content ->> 'user_agent' from tests.lines(:'request') where table_name = 'auth.sessions'), 'agent-of-mem', 'where they are signed in');
select is((select count(*) from tests.lines(:'request') where table_name = 'public.invitations' and relation = 'about'), 1::bigint, 'invitations to their address');

-- ---- an erasure: a code, a waiting time, and a way back
select tests.act_as('mem', :'shared');
select public.request_erasure() as request \gset erasure_
select tests.refuses(format($$select public.confirm_erasure(%L, '00000000x')$$, :'erasure_request'), 'invalid_input', 'a wrong code confirms nothing');
select tests.act_as('bob', :'own');
select tests.refuses(format($$select public.confirm_erasure(%L, '1')$$, :'erasure_request'), 'not_found', 'nobody else confirms');
select tests.refuses(format($$select public.cancel_erasure(%L)$$, :'erasure_request'), 'not_found', 'or cancels');
select tests.act_as_superuser();
select tests.start_session('mem', now() - interval '2 hours');
select tests.act_as('mem', :'shared');
select tests.refuses(format($$select public.confirm_erasure(%L, %L)$$, :'erasure_request', tests.code('mem')), 'permission_denied', 'an old sign-in confirms nothing, with the code');
select tests.act_as_superuser();
select tests.start_session('mem');
select tests.act_as('mem', :'shared');
select is(public.confirm_erasure(:'erasure_request', tests.code('mem')), kijko.now() + interval '7 days', 'the code begins the waiting time');
select is(public.confirm_erasure(:'erasure_request', 'x'), kijko.now() + interval '7 days', 'once');
select lives_ok(format('select public.cancel_erasure(%L)', :'erasure_request'), 'which is a way back');
select tests.refuses(format('select public.cancel_erasure(%L)', :'erasure_request'), 'not_found', 'once');
select public.request_erasure() as request \gset erasure_
select public.confirm_erasure(:'erasure_request', tests.code('mem')) is not null as ignored;
select tests.act_as_superuser();
set local role postgres;
select is(private.privacy_begin_due(), 0, 'nothing begins before its time');
update private.privacy_requests set due_at = kijko.now() where id = :'erasure_request';
select is(private.privacy_begin_due(), 1, 'then it does');
select is(private.privacy_erase(:'erasure_request'), false, 'nothing is erased that is not in the journal');
update private.privacy_requests set status = 'journaled', journaled_at = now() where id = :'erasure_request';
select is(private.privacy_erase(:'erasure_request'), true, 'then all is');
select is((select count(*) from auth.users where id = tests.id('mem')), 0::bigint, 'the account');
select is((select string_agg(name, ',' order by name) from public.skills where name ~ 'of-mem|of-ada'), 'skill-of-ada,skill-of-mem', 'the content of an organization stays');
select is((select created_by from public.skills where name = 'skill-of-mem'), null, 'without its maker');
select is((select member_id from public.llm_calls where requested_model = 'm' and org_id = :'shared'), null, 'calls of models, too');
select is((select count(*) from public.invitations where email = 'mem@example.test'), 0::bigint, 'invitations to the address go');
select results_eq($$select m.recipient from private.mail_messages as m where m.recipient ~* '^mem-before@'$$, array['mem-before@example.test'], 'and mails to a former one');
select is((select a.former_emails from private.audit_erasures as a where a.user_id = tests.id('mem')), array['mem-before@example.test'], 'the audit log looks for it, too');
select is_empty($$select 1 from private.mail_messages as m where private.mail_data(m)::text ~ '\mmem@example.test'$$, 'mails to others do not name who is gone');
select results_eq($$select id, email, name from public.stripe_customers where id in ('cus_own', 'cus_shared') order by 1$$, $$values ('cus_own', null::text, null::text), ('cus_shared', null, 'Company')$$, 'the address goes from customers');
select is((select string_agg(target || ' ' || state, ', ' order by target) from private.privacy_proofs where request_id = :'erasure_request'),
  'audit pending, backups pending, database done, events kept, identities pending, late_writes pending, mail done, model_calls done, storage pending, stripe kept', 'with a proof for each place');
-- Beside the erasure: a mail by a transaction that commits later.
insert into private.mail_messages (org_id, recipient, template, locale, status, expires_at, finished_at)
values (:'shared', 'mem@example.test', 'invitation', 'en', 'kept', now(), now());
select private.privacy_settle() as ignored;
select is((tests.request(:'erasure_request')).email, 'mem@example.test', 'the address is kept as long as such a transaction may be open');
select tests.look_again(:'erasure_request');
select results_eq(
  $$select m.template from private.mail_messages as m where m.recipient = 'mem@example.test'$$, array['erasure_done'], 'then the mail goes, and the person is told'
);
select is((select private.mail_data(m) ->> 'days' from private.mail_messages as m where m.template = 'erasure_done' and m.recipient = 'mem@example.test'), '30',
  'for how long backups are kept, too');
select is((tests.request(:'erasure_request')).email, null, 'the record has no address any more');
select is_empty($$select 1 from private.privacy_former_addresses where user_id = tests.id('mem')$$, 'nor former ones');
select is((select count(*) from private.privacy_requests where user_id = tests.id('mem') and kind = 'export'), 0::bigint, 'exports go');
select ok(private.audit_erase() >= 0, 'the audit log is erased');
update private.privacy_proofs set due_at = kijko.now() where request_id = :'erasure_request';
delete from private.audit_erasures;
select private.privacy_record_backups(kijko.now() - interval '40 days', 21);
select ok(private.privacy_settle() > 0, 'proofs become complete');
select is((tests.proof(:'erasure_request', 'backups')).state, 'pending', 'not that of backups while an older one is kept');
select private.privacy_record_backups(kijko.now() + interval '1 microsecond', 21);
select private.privacy_settle() as ignored;
select is((tests.proof(:'erasure_request', 'backups')).state, 'pending', 'or one that was begun during the erasure');
select private.privacy_record_backups(clock_timestamp() + interval '1 minute', 21);
select private.privacy_settle() as ignored;
select is((tests.proof(:'erasure_request', 'backups')).state, 'done', 'but when the oldest is younger');
select is((select backup_lifetime from private.privacy_settings), interval '21 days', 'and the setting is that of the backups');

-- ---- in one organization, by an administrator
select tests.sign_up('eve');
select tests.join_org('eve', :'shared', 'member');
select tests.act_as('eve', :'shared');
insert into public.skills (name, prompt_template) values ('skill-of-eve', 'x');
select tests.act_as('vic', :'shared');
select public.request_erasure(:'shared', tests.id('eve')) as request \gset refused_
select public.confirm_erasure(:'refused_request', tests.code('vic')) is not null as ignored;
select tests.act_as_superuser();
select is((select string_agg(m.recipient, ', ' order by m.recipient) from private.mail_messages as m where m.template = 'erasure_scheduled' and m.recipient in ('eve@example.test', 'vic@example.test')),
  'eve@example.test, vic@example.test', 'the person is told what an administrator has confirmed');
select tests.start_session('eve');
select tests.act_as('eve', :'shared');
select is((select requested_by from public.list_privacy_requests() where id = :'refused_request'), tests.id('vic'), 'and who it was');
select public.cancel_erasure(:'refused_request');
select public.request_erasure(:'shared') as request \gset eves_
select tests.act_as('vic', :'shared');
select tests.refuses(format('select public.request_erasure(%L, %L)', :'shared', tests.id('eve')), 'conflict', 'an administrator does not take the person''s own code away');
select tests.act_as_superuser();
select is((tests.request(:'eves_request')).status, 'unconfirmed', 'which still holds');
update private.privacy_requests set status = 'cancelled', email = null, finished_at = now() where id = :'eves_request';
update private.privacy_requests set status = 'confirmed', email = 'eve@example.test', finished_at = null where id = :'refused_request';
update private.privacy_requests set due_at = kijko.now() where id = :'refused_request';
savepoint demoted;
update public.memberships set role = 'member' where org_id = :'shared' and user_id = tests.id('vic');
select is(private.privacy_begin_due(), 0, 'an administrator who is none any more when it is due erases nobody');
select is((select (r.status, r.error_code, r.email)::text from private.privacy_requests as r where r.id = :'refused_request'), '(cancelled,permission_denied,)', 'it is cancelled with the reason');
select is((select string_agg(m.recipient, ', ' order by m.recipient) from private.mail_messages as m where m.template = 'erasure_cancelled' and m.recipient ~ '@example.test$'), 'eve@example.test, vic@example.test', 'which both are told');
select is(private.privacy_cancel_refused(), 0, 'once');
rollback to demoted;
savepoint last_owner;
update public.memberships set role = 'owner' where org_id = :'shared' and user_id = tests.id('eve');
select is(private.privacy_refusal(r), 'permission_denied', 'nor does one with a lower role') from private.privacy_requests as r where r.id = :'refused_request';
update public.memberships set role = 'owner' where org_id = :'shared' and user_id = tests.id('vic');
select is(private.privacy_refusal(r), null, 'an owner erases another one') from private.privacy_requests as r where r.id = :'refused_request';
update private.privacy_requests set requested_by = user_id where id = :'refused_request';
select is(private.privacy_refusal(r), null, 'and who leaves another one behind themselves') from private.privacy_requests as r where r.id = :'refused_request';
rollback to last_owner;
update private.privacy_requests set status = 'cancelled', email = null, finished_at = now() where id = :'refused_request';
select tests.act_as('vic', :'shared');
select public.request_erasure(:'shared', tests.id('eve')) as request \gset eve_
select public.confirm_erasure(:'eve_request', tests.code('vic')) is not null as ignored;
select tests.act_as_superuser();
update private.privacy_requests set status = 'journaled' where id = :'eve_request';
select is(private.privacy_erase(:'eve_request'), true, 'an administrator erases a member');
select results_eq(
  $$select (select count(*) from auth.users where id = tests.id('eve')), (select count(*) from public.memberships where user_id = tests.id('eve')), (select created_by from public.skills where name = 'skill-of-eve')$$,
  $$values (1::bigint, 1::bigint, null::uuid)$$, 'only in the organization: the account and their own organization stay'
);

select tests.look_again(:'eve_request');
select is((tests.proof(:'eve_request', 'late_writes')).details ? 'looked_at', true, 'and there it is looked again, too');
select tests.start_session('eve');
select tests.act_as('eve', tests.org('eve'));
select is(public.request_export(:'shared') is not null, true, 'a former member asks for what the organization has');
select tests.refuses(format('select public.request_export(%L, %L)', :'shared', tests.id('vic')), 'not_a_member', 'but not about others');
select tests.act_as('bob', :'own');
select tests.refuses(format('select public.request_erasure(%L)', :'shared'), 'not_a_member', 'and who never was a member asks for nothing');
select tests.act_as('vic', :'shared');
select tests.refuses(format('select public.request_export(%L, %L)', :'shared', tests.id('eve')), 'conflict', 'an administrator may ask about a former member: one is under way');
select tests.act_as_superuser();
select tests.join_org('bob', :'shared', 'owner');
delete from public.memberships where org_id = :'shared' and user_id = tests.id('bob');
select tests.act_as('vic', :'shared');
select tests.refuses(format('select public.request_export(%L, %L)', :'shared', tests.id('bob')), 'permission_denied', 'but not about a former owner');
select tests.act_as_superuser();

-- ---- an account that was deleted otherwise, and a restored backup
delete from auth.users where id = tests.id('eve');
select is((select status from private.privacy_requests where user_id = tests.id('eve') and organization is null), 'journaling', 'a deleted account goes into the journal');
select tests.sign_up('sam'), tests.sign_up('ann');
insert into private.consents (user_id, purpose, version, granted) values (tests.id('sam'), 'newsletter', '1', true);
update auth.users set deleted_at = now() where id = tests.id('sam');
update auth.users set is_anonymous = true, email = null where id = tests.id('ann');
delete from auth.users where id = tests.id('ann');
update private.privacy_requests set status = 'journaled', journaled_at = now() where user_id in (tests.id('sam'), tests.id('ann'));
select results_eq(
  $$select private.privacy_erase(r.id) from private.privacy_requests as r where r.user_id in (tests.id('sam'), tests.id('ann'))$$, array[true, true],
  'who was softly deleted is erased, and who signed in without an address'
);
select results_eq($$select (select count(*) from auth.users where id = tests.id('sam')), (select count(*) from private.consents where user_id = tests.id('sam'))$$,
  $$values (1::bigint, 0::bigint)$$, 'of a soft deletion only the id stays');
delete from tests.first_organizations where user_id = tests.id('mem');
select tests.sign_up('mem');
select is(private.privacy_replay(jsonb_build_array(
  jsonb_build_object('id', :'erasure_request', 'user_id', tests.id('mem'), 'at', now()), jsonb_build_object('id', gen_random_uuid(), 'user_id', gen_random_uuid(), 'at', now())
)) ->> 'replayed', '2', 'a replay of the journal erases who came back');
select is((select count(*) from auth.users where id = tests.id('mem')), 0::bigint, 'again');
select is(private.privacy_replay(jsonb_build_array(jsonb_build_object('id', :'erasure_request', 'user_id', tests.id('mem'), 'at', now()))) ->> 'replayed', '0', 'and is done once');

select * from finish();
rollback;
