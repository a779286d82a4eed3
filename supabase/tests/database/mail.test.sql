begin;
\ir 000_helpers.sql
select plan(121);

-- What was counted against a limit is not rolled back: each run has addresses and organizations of its own.
select set_config('tests.run', replace(gen_random_uuid()::text, '-', ''), true);
create function tests.address(name text) returns text language sql stable
return name || '-' || pg_catalog.current_setting('tests.run') || '@example.test';
create or replace function tests.id(name text) returns uuid language sql stable
return pg_catalog.md5('user ' || name || pg_catalog.current_setting('tests.run'))::uuid;
grant usage on schema tests to supabase_auth_admin;

select tests.sign_up('ada'), tests.sign_up('bob');

create function tests.send(recipient text, template text default 'recovery', more jsonb default '{}', dedupe_key text default null, org uuid default null)
returns uuid language sql as $$
  select private.mail_send(
    recipient, template, 'en', '{"link": "https://example.test/verify?token=secret-link", "token": "123456"}' || more, dedupe_key, org
  )
$$;
create function tests.mail(id uuid) returns private.mail_messages language sql security definer as $$
  select m from private.mail_messages as m where m.id = mail.id
$$;
create function tests.deliver(delivery text) returns void language sql security definer as $$ select private.mail_set_delivery(delivery) $$;
-- A worker claims the job of a mail and nothing else.
create function tests.claim_mail(mail uuid) returns uuid language plpgsql security definer as $$
declare
  job constant uuid := (tests.mail(mail)).job_id;
begin
  update public.jobs as j set status = 'running', locked_by = 'w', locked_until = clock_timestamp() + interval '1 minute', attempt = j.attempt + 1
  where j.id = job;
  return job;
end
$$;

-- ---- unauthenticated callers, users and other roles first
select tests.act_as_anon();
select throws_ok('select * from private.mail_messages', '42501', null, 'anon reads no mails');
select throws_ok('select * from private.mail_templates', '42501', null, 'anon reads no templates');
select throws_ok($$select private.mail_send('a@example.test', 'unlock', 'en', '{"link": "https://a.test"}')$$, '42501', null, 'anon sends no mail');
select throws_ok($$select private.mail_limited('a@example.test')$$, '42501', null, 'anon does not ask for limits');
select tests.act_as('ada');
select throws_ok('select * from private.mail_messages', '42501', null, 'a user reads no mails');
select throws_ok('select * from private.mail_settings', '42501', null, 'a user reads no settings');
select throws_ok($$update private.mail_templates set subject = 'x'$$, '42501', null, 'a user changes no templates');
select throws_ok($$select private.mail_send('a@example.test', 'unlock', 'en', '{"link": "https://a.test"}')$$, '42501', null, 'a user sends no mail');
select throws_ok($$select private.mail_pretend('a@example.test', 'unlock', 'en', '{"link": "https://a.test"}')$$, '42501', null, 'a user counts no mail');
select throws_ok($$select * from private.mail_render(gen_random_uuid())$$, '42501', null, 'a user renders no mail');
select tests.act_as_service();
select throws_ok('select * from private.mail_messages', '42501', null, 'the service key reads no mails');
select throws_ok($$select private.mail_send('a@example.test', 'unlock', 'en', '{"link": "https://a.test"}')$$, '42501', null, 'the service key sends no mail');
select tests.act_as_sidecar();
select throws_ok('select * from private.mail_messages', '42501', null, 'the sidecar reads no mails');
select throws_ok($$select private.mail_send('a@example.test', 'unlock', 'en', '{"link": "https://a.test"}')$$, '42501', null, 'the sidecar makes no mail');
select throws_ok($$select private.mail_set_delivery('smtp')$$, '42501', null, 'the sidecar does not turn mail on');
select is(private.mail_start('w', gen_random_uuid(), 1), null, 'the sidecar gets no mail without a job');
select is(private.mail_hand_over('w', gen_random_uuid(), 1), false, 'and hands none over');
select is(private.mail_report('w', gen_random_uuid(), 1, 250, true), false, 'and reports on none');
select tests.act_as_superuser();
set local role supabase_auth_admin;
select lives_ok($$select private.mail_limited(tests.address('auth'))$$, 'login asks for limits');
select lives_ok($$select private.mail_pretend(tests.address('auth'), 'unlock', 'en', '{"link": "https://a.test"}')$$, 'login counts a mail that is not sent');
select lives_ok($$select private.mail_send(tests.address('auth'), 'unlock', 'en', '{"link": "https://a.test"}')$$, 'login sends a mail');
select throws_ok('select * from private.mail_messages', '42501', null, 'login reads no mails');
reset role;

-- ---- templates
select is(
  (select count(*) from private.mail_kinds as k cross join (values ('en'), ('nl')) as l (locale)
    where not exists (select 1 from private.mail_templates as t where t.name = k.name and t.locale = l.locale)),
  0::bigint, 'each mail has a template in each language'
);
select is(
  (select array_agg(k.name order by k.name) from private.mail_kinds as k),
  array['confirmation', 'email_change', 'email_change_new', 'erasure_cancelled', 'erasure_confirmation', 'erasure_done', 'erasure_failed', 'erasure_scheduled', 'habit_paused', 'invitation', 'invite', 'magic_link', 'notification_digest', 'reauthentication', 'recovery', 'reflex_paused', 'unlock'],
  'the mails that there are'
);
select is_empty(
  $$select t.name, t.locale, v.name from private.mail_templates as t join private.mail_kinds as k on k.name = t.name
    cross join lateral unnest(k.required) as v (name) where t.text !~ format('\{%s\}', v.name) or t.html !~ format('\{%s\}', v.name)$$,
  'each template shows what its mail is for'
);
select tests.refuses($$update private.mail_templates set text = 'Hello {token_hash} {password}' where name = 'recovery'$$, 'invalid_input', 'a template uses only variables that its mail has');
select throws_ok($$update private.mail_templates set subject = e'x\nBcc: eve@example.test' where name = 'recovery'$$, '23514', null, 'a subject is one line');

-- ---- what is refused
select tests.refuses($$select tests.send('nobody')$$, 'invalid_input', 'no address');
select tests.refuses($$select tests.send(null)$$, 'invalid_input', 'a null address');
select tests.refuses($$select tests.send(e'a@example.test\nBcc: eve@example.test')$$, 'invalid_input', 'an address with a header');
select tests.refuses($$select tests.send('a@example.test,eve@example.test')$$, 'invalid_input', 'two addresses');
select tests.refuses($$select tests.send('Ada <a@example.test>')$$, 'invalid_input', 'a name with an address');
select tests.refuses($$select tests.send('a@example..test')$$, 'invalid_input', 'an empty label of a domain');
select tests.refuses($$select tests.send('a@example.test', 'no_such_mail')$$, 'invalid_input', 'an unknown mail');
select tests.refuses($$select tests.send('a@example.test', null)$$, 'invalid_input', 'no mail');
select tests.refuses($$select tests.send('a@example.test', 'recovery', '{"token": null}')$$, 'invalid_input', 'a variable that is missing');
select tests.refuses($$select tests.send('a@example.test', 'recovery', '{"link": "javascript:alert(1)"}')$$, 'invalid_input', 'a link that is none');
select tests.refuses($$select tests.send('a@example.test', 'recovery', '{"link": "https://a.test/\" onclick=\"x"}')$$, 'invalid_input', 'a link that leaves its attribute');
select tests.refuses($$select private.mail_send('a@example.test', 'recovery', 'en', '[]')$$, 'invalid_input', 'data that is no object');
select tests.refuses($$select tests.send('a@example.test', 'recovery', jsonb_build_object('redirect_to', (select string_agg(gen_random_uuid()::text, '') from generate_series(1, 2000))))$$, 'invalid_input', 'data that is too large');
select tests.refuses($$select tests.send('a@example.test', 'recovery', '{}', '')$$, 'invalid_input', 'an empty key');
select is((select count(*) from private.mail_messages as m where m.recipient ~ '@example\.+test$' and m.recipient like 'a@%'), 0::bigint, 'what was refused left nothing');

-- ---- kept
select tests.deliver('keep');
select tests.send(tests.address('kept')) as kept \gset
select is((tests.mail(:'kept')).status, 'kept', 'without delivery a mail is kept');
select is((tests.mail(:'kept')).job_id, null, 'and has no job');
select is((select r.link from private.mail_render(:'kept') as r), 'https://example.test/verify?token=secret-link', 'its link can be read');
select ok((select r.text ~ 'secret-link' and r.text ~ '123456' and r.html ~ '<a href="https://example.test/verify\?token=secret-link"' from private.mail_render(:'kept') as r), 'and so can its text');
select ok((select r.text ~ tests.address('kept') from private.mail_render(:'kept') as r), 'the address is a variable of every mail');
select is((tests.mail(private.mail_send(tests.address('nl'), 'unlock', 'nl-BE', '{"link": "https://a.test"}'))).locale, 'nl', 'a language tag chooses the template');
select is((tests.mail(private.mail_send(tests.address('fr'), 'unlock', 'fr', '{"link": "https://a.test"}'))).locale, 'en', 'a language without template becomes the default');
select is((tests.mail(private.mail_send(tests.address('none'), 'unlock', null, '{"link": "https://a.test"}'))).locale, 'en', 'so does none');
select tests.deliver('smtp');
select is((tests.mail(:'kept')).status, 'kept', 'turning delivery on sends nothing that was kept');

-- ---- links and codes are sealed
select ok(not (tests.mail(:'kept')).sealed_data like '%secret-link%', 'no link can be read in the table');
select is(private.mail_data(tests.mail(:'kept')) ->> 'token', '123456', 'with the key it can');
select throws_ok(
  format($$select private.mail_data(jsonb_populate_record(tests.mail(%L), jsonb_build_object('id', gen_random_uuid())))$$, :'kept'),
  (select c.sqlstate::char(5) from kijko.error_codes as c where c.code = 'cannot_unseal'), null, 'not as another mail''s'
);

-- ---- text is safe
select tests.send(tests.address('safe'), 'invitation', jsonb_build_object(
  'organization', e'<b>{link}</b>\r\nBcc: eve@example.test', 'inviter', e'"Ada" & \u202e\'co\''
)) as safe \gset
select r.subject, r.text, r.html from private.mail_render(:'safe') as r \gset safe_
select is(:'safe_subject'::text, 'Invitation to <b>{link}</b> Bcc: eve@example.test', 'a value adds no line to the subject, and is no template');
select ok(:'safe_html'::text ~ '&lt;b&gt;\{link\}&lt;/b&gt;' and :'safe_html' !~ '<b>', 'values are escaped in HTML');
select ok(:'safe_html'::text ~ '&quot;Ada&quot; &amp;  &#39;co&#39;', 'quotes and ampersands, too');
select ok(:'safe_text'::text !~ '[\u202a-\u202e]', 'a value cannot turn the text around');
select is(private.mail_fill('{a}{b}{ {A} {a', '{"a": "{b}", "b": 1}', false), '{b}1{ {A} {a', 'one pass, and what is no variable stays');
select is(private.mail_plain_name('https://evil.test/x Acme B.V. a@b'), 'https evil. test/ x Acme B. V. a@ b', 'no mail program makes a link of a name');
select is(
  private.mail_plain_name(e'evil\u3002com evil\uff0ecom evil\uff61com evil\u2024com a\uff20b http\uff1a\uff0f\uff0fevil x\uff0fy'),
  e'evil\u3002 com evil\uff0e com evil\uff61 com evil\u2024 com a\uff20 b http evil x\uff0f y', 'also by the other dots, slashes and signs that browsers read as these'
);

-- ---- a mail and its job
select tests.send(tests.address('job')) as sent \gset
select is((tests.mail(:'sent')).status, 'queued', 'with delivery a mail is queued');
select is((select j.payload from public.jobs as j where j.id = (tests.mail(:'sent')).job_id), jsonb_build_object('mail_id', :'sent'), 'its job names it and has nothing of it');
select is((select j.org_id from public.jobs as j where j.id = (tests.mail(:'sent')).job_id), kijko.platform_org_id(), 'a mail of login is the platform''s');
select tests.claim_mail(:'sent') as job \gset
select tests.act_as_sidecar();
select is(private.mail_start('other', :'job', 1), null, 'another worker does not get it');
select is(private.mail_start('w', :'job', 2), null, 'nor another attempt');
select private.mail_start('w', :'job', 1) as started \gset
select is(:'started'::jsonb ->> 'recipient', tests.address('job'), 'its worker gets it');
select ok(:'started'::jsonb ->> 'text' ~ 'secret-link', 'rendered');
select is(private.mail_hand_over('other', :'job', 1), false, 'another worker cannot hand it over');
select is(private.mail_hand_over('w', :'job', 1), true, 'its worker hands it over');
select is((tests.mail(:'sent')).unanswered, 1, 'which has no answer yet');
select is(private.mail_report('w', :'job', 1, 451, true), true, 'a refusal is an answer');
select is((tests.mail(:'sent')).unanswered || ' ' || (tests.mail(:'sent')).smtp_code, '0 451', 'and is recorded');
select is(private.jobs_fail('w', :'job', 'smtp_deferred', 'the mail server answered 451 to text', true), 'queued', 'a 4xx is tried again');
select is((tests.mail(:'sent')).status, 'queued', 'the mail waits with it');
select tests.claim_mail(:'sent');
select tests.act_as_sidecar();
select c.status as completed from private.jobs_complete('w', jsonb_build_array(jsonb_build_object('id', :'job', 'result', '{"smtp_code": 250}'::jsonb))) as c \gset
select is(:'completed'::text, 'succeeded', 'the server took it');
select results_eq(
  format('select m.status, m.smtp_code, m.sealed_data is null, m.finished_at is not null from (select (tests.mail(%L)).*) as m', :'sent'),
  $$values ('sent', 250, true, true)$$, 'a sent mail has its answer and no links'
);
select tests.act_as_superuser();
select is_empty($$select 1 from public.job_event_log as v where v.data::text ~ 'secret-link|123456|@'$$, 'no event has a link, a code or an address');

-- ---- how a mail ends otherwise
select tests.send(tests.address('dead')) as dead \gset
select tests.claim_mail(:'dead') as job \gset
select tests.act_as_sidecar();
select is(private.jobs_fail('w', :'job', 'smtp_refused', 'the mail server answered 550 to rcpt_to', false), 'dead', 'a 5xx ends it');
select results_eq(
  format('select m.status, m.error_code, m.sealed_data is null from (select (tests.mail(%L)).*) as m', :'dead'),
  $$values ('failed', 'smtp_refused', true)$$, 'a mail that was given up has no links either'
);
select tests.act_as_superuser();
select tests.send(tests.address('twice')) as twice \gset
select tests.claim_mail(:'twice') as job \gset
select private.mail_hand_over('w', :'job', 1), private.mail_hand_over('w', :'job', 1);
select is(private.mail_start('w', :'job', 1), jsonb '{"refused": "mail_unanswered"}', 'handed over twice without an answer it is not sent again');
select tests.send(tests.address('late')) as late \gset
select tests.claim_mail(:'late') as job \gset
update private.mail_messages set expires_at = clock_timestamp() where id = :'late';
select is(private.mail_start('w', :'job', 1), jsonb '{"refused": "mail_expired"}', 'a mail whose link has expired is not sent');

-- ---- delivery is turned off, and a kept mail is sent by hand
select tests.send(tests.address('off')) as off \gset
select (tests.mail(:'off')).job_id as off_job \gset
select tests.deliver('keep');
select is((tests.mail(:'off')).status || ' ' || (select j.status from public.jobs as j where j.id = :'off_job'), 'kept cancelled', 'a mail that waits is kept when delivery ends');
select is(private.mail_send_kept(:'off'), 'kept', 'without delivery it cannot be sent');
select tests.deliver('smtp');
select is(private.mail_send_kept(:'off'), 'queued', 'with delivery one is sent when asked');
select is(private.mail_send_kept(:'sent'), 'sent', 'one that was sent is not sent again');

-- ---- keys
select is(tests.send(tests.address('key'), dedupe_key => 'k'), tests.send(tests.address('key'), dedupe_key => 'k'), 'a second mail with the same key is the first');

-- ---- limits: a mailbox, whoever sends and however it is spelled
update private.mail_settings set mailbox_per_hour = 3, mailbox_per_day = 100, organizations_mailbox_per_hour = 5, organizations_mailbox_per_day = 100, organization_per_hour = 3;
select is(private.mail_mailbox('A.b+tag@Gmail.com') || ' ' || private.mail_mailbox('A.b+tag@Example.com'), 'ab@gmail.com a.b@example.com', 'spellings of one mailbox');
create function tests.flood(address text, times integer, variadic senders text[] default '{}') returns integer language plpgsql as $$
declare
  sent integer := 0;
begin
  for n in 1..times loop
    perform tests.send(replace(address, '@', '+' || n || '@'), org => tests.org(senders[1 + n % nullif(cardinality(senders), 0)]),
      template => case when senders = '{}' then 'unlock' else 'invitation' end, more => '{"organization": "o", "inviter": "i"}');
    sent := n;
  end loop;
  return sent;
exception when sqlstate 'KJ430' then
  return sent;
end
$$;
select is(private.mail_limited(tests.address('flood')), null, 'at first a mailbox has room');
select is(private.mail_limited(tests.address('flood')), null, 'asking counts nothing');
select is(tests.flood(tests.address('flood'), 9, 'ada', 'bob'), 5, 'organizations together send it no more than their limit, however it is spelled');
select isnt(private.mail_limited(tests.address('flood'), tests.org('ada')), null, 'then another of them would be refused');
select is(private.mail_limited(tests.address('flood')), null, 'and none of login: organizations use up nothing of its share');
select is(tests.flood(tests.address('flood'), 9), 3, 'login has a limit of its own');
select ok(private.mail_limited(upper(tests.address('flood'))) between 1 and 3600, 'then the wait is told');
select is(private.mail_limited(tests.address('other')), null, 'another mailbox has room');
select tests.refuses($$select private.mail_charge(tests.address('flood'), array['mailbox'])$$, 'rate_limited', 'an address without an account is refused alike');
select private.mail_charge(tests.address('ghost'), array['mailbox']) from generate_series(1, 3);
select tests.refuses($$select private.mail_charge(tests.address('ghost'), array['mailbox'])$$, 'rate_limited', 'and counts alike');
select tests.act_as('ada', tests.org('ada'));
select tests.answer($$select public.invite_member(tests.address('flood'), 'viewer')$$) as refused \gset
select tests.act_as_superuser();
select is(
  :'refused'::jsonb ->> 'code' || ' ' || (:'refused'::jsonb ->> 'status') || ' ' || ((:'refused'::jsonb -> 'headers' ->> 'Retry-After')::integer between 1 and 3600),
  'rate_limited 429 true', 'a request is refused with 429 and Retry-After'
);
select is_empty($$select 1 from public.invitations as i where i.email = tests.address('flood')$$, 'and leaves no invitation');
create function tests.send_as(who text, times integer) returns integer language plpgsql as $$
declare
  sent integer := 0;
begin
  for n in 1..times loop
    perform tests.send(tests.address('guest' || n), 'invitation', '{"organization": "o", "inviter": "i"}', org => tests.org(who));
    sent := n;
  end loop;
  return sent;
exception when sqlstate 'KJ430' then
  return sent;
end
$$;
select tests.sign_up('cat');
select is(tests.send_as('cat', 9), 3, 'an organization sends no more than its limit');
select isnt(private.mail_limited(tests.address('guest9'), tests.org('cat')), null, 'of which it can be told before');
select is(private.mail_limited(tests.address('guest9')), null, 'login and others go on');

-- ---- limits: what many organizations share. FREE ones leave a share to those that pay, one network to all.
create function tests.network_of(address text) returns text language plpgsql as $$
begin
  perform set_config('request.headers', json_build_object('x-forwarded-for', address)::text, true);
  return private.mail_network();
end
$$;
-- Not used up here: these counts are those of every test.
select throws_ok('update private.mail_settings set free_organizations_per_hour = organizations_per_hour', '23514', null, 'organizations that pay have a share');
select throws_ok('update private.mail_settings set organizations_per_hour = total_per_hour', '23514', null, 'and login has one');
select is(
  (select count(*) from private.mail_limits('a@example.test', tests.org('ada')) as l where l.key = 'mail:organizations:free'), 1::bigint,
  'an organization that pays nothing counts against the share of those'
);
update public.subscriptions set plan = 'PRO' where org_id = tests.org('bob');
select is(
  (select string_agg(split_part(l.key, ':', 2), ' ' order by split_part(l.key, ':', 2)) from private.mail_limits('a@example.test', tests.org('bob')) as l),
  'all mailbox mailbox organization organizations', 'one that pays does not'
);
select is(
  (select string_agg(split_part(l.key, ':', 2), ' ' order by split_part(l.key, ':', 2)) from private.mail_limits('a@example.test', null) as l),
  'all mailbox mailbox', 'and nothing of organizations counts for login'
);
select is(private.mail_network(), null, 'outside a request there is no network');
select is(
  (select array_agg(n.network order by n.place) from (values (1, '2001:db8:1:1::5'), (2, '2001:db8:1:2::5'), (3, '192.0.2.7')) as a (place, address)
    cross join lateral (select tests.network_of(a.address), a.place) as n (network, place)),
  array['2001:db8:1::/48', '2001:db8:1::/48', '192.0.2.7/32'], 'the networks of one site are one'
);

-- ---- invitations
update private.mail_settings set site_url = 'https://app.example.test', mailbox_per_hour = 20, organizations_mailbox_per_hour = 10, organization_per_hour = 200;
select tests.deliver('keep');
select tests.act_as('ada', tests.org('ada'));
select i.* from public.invite_member(tests.address('guest'), 'viewer') as i \gset
select tests.act_as_superuser();
select m.id as mail from private.mail_messages as m where m.recipient = tests.address('guest') \gset
select is((select r.link from private.mail_render(:'mail') as r), 'https://app.example.test/invitations?token=' || :'token', 'an invitation goes by mail, with a link that has its token');
select is((tests.mail(:'mail')).org_id, tests.org('ada'), 'it is a mail of the organization');
select ok((select r.subject !~ '[.]' and r.text ~ 'ada@example.test' from private.mail_render(:'mail') as r), 'the inviter is named by address');
update auth.users set raw_user_meta_data = '{"locale": "nl-NL"}' where id = tests.id('ada');
select tests.act_as('ada', tests.org('ada'));
select i.token as again from public.resend_invitation(:'id') as i \gset
select tests.act_as_superuser();
select is(
  (select r.link from private.mail_messages as m cross join lateral private.mail_render(m.id) as r where m.recipient = tests.address('guest') and m.locale = 'nl'),
  'https://app.example.test/invitations?token=' || :'again', 'sent again it has the new token, and the language of the inviter'
);
update public.invitations set sent_by = null where id = :'id';
select private.mail_send_invitation(i, 'token') as by_key from public.invitations as i where i.id = :'id' \gset
select is(
  (select split_part(r.text, ' invites you', 1) from private.mail_render(:'by_key') as r),
  (select private.mail_plain_name(o.name) from public.organizations as o where o.id = tests.org('ada')), 'without a user the organization invites'
);
select is_empty($$select 1 from public.jobs as j where j.payload::text ~ 'kji_' or j.result::text ~ 'kji_'$$, 'no job has a token');

-- ---- retention
update private.mail_messages set finished_at = clock_timestamp() - interval '25 hours' where id = :'mail';
update private.mail_messages set created_at = clock_timestamp() - interval '31 days' where id in (:'kept', :'twice');
select private.mail_purge();
select is((tests.mail(:'mail')).sealed_data::text, null, 'a kept mail loses its links after a day');
select is_empty(format('select 1 from private.mail_render(%L)', :'mail'), 'and cannot be read any more');
select is((tests.mail(:'kept')).id, null, 'messages are deleted after retention');
select is((tests.mail(:'twice')).status, 'queued', 'but not while they wait');
select tests.act_as('ada');
delete from public.organizations where id = tests.org('ada');
select tests.act_as_superuser();
select is((tests.mail(:'mail')).id, null, 'mails of an organization go with it');

select * from finish();
rollback;
