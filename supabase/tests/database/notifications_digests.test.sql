begin;
\ir 000_helpers.sql
select plan(54);

-- What was counted against limits of mails is not rolled back: each run has addresses and organizations of its own.
select set_config('tests.run', replace(gen_random_uuid()::text, '-', ''), true);
create or replace function tests.id(name text) returns uuid language sql stable
return pg_catalog.md5('user ' || name || pg_catalog.current_setting('tests.run'))::uuid;
create function tests.join_all() returns void language sql security definer as $$
  select tests.join_org(u.name, tests.org('ada'), u.role) from (values ('bob', 'admin'), ('vic', 'viewer'), ('mem', 'member')) as u (name, role)
$$;
create function tests.made(name text, locale text default 'en') returns void language plpgsql as $$
begin
  perform tests.sign_up(name, jsonb_build_object('locale', locale));
  update auth.users set email = name || '-' || current_setting('tests.run') || '@example.test' where id = tests.id(name);
end
$$;
select tests.made('ada'), tests.made('bob'), tests.made('vic', 'nl'), tests.made('mem'), tests.made('eve');
select tests.org('ada') as org \gset
update public.subscriptions set plan = 'TEAMS' where org_id = :'org';
select tests.join_all();
create function tests.email(name text) returns text language sql as $$ select name || '-' || current_setting('tests.run') || '@example.test' $$;
create view tests.mails as
  select split_part(m.recipient, '-', 1) as reader, m.template, m.locale, m.org_id, r.subject, r.text, r.html
  from private.mail_messages as m, private.mail_render(m.id) as r where m.recipient like '%' || current_setting('tests.run') || '%';
-- Those of the stack's own users are not counted here.
delete from private.notification_mails;
create function tests.due(who text) returns timestamptz[] language sql as $$
  select array(select m.due_at from private.notification_mails as m where m.user_id = tests.id(who) order by m.due_at)
$$;

-- ---- anon, users and the sidecar first
select tests.act_as_anon();
select throws_ok('select private.notifications_mail_digests()', '42501', null, 'anon sends no digests');
select throws_ok($$select public.set_digest_time('UTC', 1)$$, '42501', null, 'nor sets their time');
select tests.act_as('eve');
select throws_ok('select private.notifications_mail_digests()', '42501', null, 'nor do users');
select throws_ok('select * from private.notification_mails', '42501', null, 'who do not see what waits');
select throws_ok('select * from private.notification_preferences', '42501', null, 'nor preferences of others');
select tests.refuses($$select public.set_digest_time('Mars/Olympus', 8)$$, 'invalid_timezone', 'a zone is one');
select tests.refuses($$select public.set_digest_time('UTC', 24)$$, 'invalid_input', 'an hour is one');
select tests.refuses($$select public.set_digest_time(null)$$, 'invalid_timezone', 'null is no zone');

select tests.act_as_superuser();
select is_empty(
  $$select t.name, l.locale from public.notification_types as t cross join (values ('en'), ('nl')) as l (locale)
    where t.org_id = kijko.platform_org_id() and t.name <> 'platform.announcement'
      and not exists (select 1 from private.notification_texts as x where x.type = t.name and x.locale = l.locale)$$,
  'each type of the product has a text in each language, but for announcements, whose text the operator writes'
);

-- ---- when a digest is due
select tests.act_as('vic', :'org');
select lives_ok($$select public.set_digest_time('Asia/Kathmandu', 7)$$, 'a zone that is 5:45 ahead');
select tests.act_as_superuser();
select is(extract(epoch from private.notifications_digest_due(tests.id('vic'), 'hourly') at time zone 'Asia/Kathmandu')::bigint % 3600, 0::bigint, 'hourly: at the full hour there');
select ok(private.notifications_digest_due(tests.id('vic'), 'hourly') - kijko.now() between '1 microsecond' and '1 hour', 'the next one');
select is((private.notifications_digest_due(tests.id('vic'), 'daily') at time zone 'Asia/Kathmandu')::time, '07:00'::time, 'daily: at the hour there');
select ok(private.notifications_digest_due(tests.id('vic'), 'daily') - kijko.now() between '1 microsecond' and '1 day', 'the next one');
select is(private.notifications_digest_due(tests.id('vic'), 'off'), null, 'off: never');
select is(private.notifications_digest_due(tests.id('vic'), 'now'), kijko.now(), 'now: at once');
select is((private.notifications_digest_due(tests.id('mem'), 'daily') at time zone 'UTC')::time, '08:00'::time, 'by default at 8 in UTC');

-- ---- two events in one second make one digest, in the reader's language
select tests.act_as('bob', :'org');
insert into public.notification_types (name, mail) values ('custom.deploy', 'off'), ('custom.hourly', 'hourly');
select tests.act_as('vic', :'org');
select public.set_notification_preference('custom.deploy', mail => 'daily');
select tests.act_as('mem', :'org');
select public.set_notification_preference('custom.deploy', mail => 'now');
select tests.act_as('bob', :'org');
select (public.notify('custom.deploy', 'Deployed {title} to evil.test <b>')).id, (public.notify('custom.deploy', 'Rolled back', link => '/x')).id;
select tests.act_as_superuser();
select is(array[cardinality(tests.due('vic')), cardinality(tests.due('mem')), cardinality(tests.due('bob'))], '{2,2,0}', 'who chose a mail gets one');
select is(private.notifications_mail_digests(), 1, 'one digest is due');
select results_eq('select reader, template, subject, org_id from tests.mails', format($$values ('mem', 'notification_digest', 'New notifications: 2', %L::uuid)$$, :'org'), 'of two notifications, against the organization''s limits');
select matches((select text from tests.mails), 'Deployed \{title\} to evil\. test <b>', 'a title is never a template, and nothing in it becomes a link');
select matches((select html from tests.mails), 'Deployed \{title\} to evil\. test &lt;b&gt;', 'nor markup');
select matches((select text from tests.mails), (select site_url from private.mail_settings) || '/notifications', 'its link is the list of the frontend');
select is((select count(*) from tests.mails where text ~ 'each_item|end_item' or html ~ 'each_item|end_item'), 0::bigint, 'the marks of the list are gone');
select is(private.notifications_mail_digests(), 0, 'and is sent once');
select tests.travel('1 day');
select tests.act_as('vic', :'org');
select public.mark_read((select array_agg(id) from public.notifications where title = 'Rolled back'));
select tests.act_as_superuser();
select is(private.notifications_mail_digests(), 1, 'a day later the other reader''s');
select results_eq($$select subject, locale from tests.mails where reader = 'vic'$$, $$values ('Nieuwe meldingen: 1', 'nl')$$, 'in their language, without what they have read');

-- ---- a removed member, a reader who has read all, an address that is not confirmed
select tests.act_as('bob', :'org');
select (public.notify('custom.hourly', 'Secret plans')).id;
select tests.act_as_superuser();
select is(cardinality(tests.due('vic')), 1, 'a type has its own default');
delete from public.memberships where org_id = :'org' and user_id = tests.id('vic');
update auth.users set email_confirmed_at = null where id = tests.id('ada');
select tests.act_as('bob', :'org');
select public.mark_read();
select tests.act_as_superuser();
select tests.travel('1 day 1 hour');
select is(private.notifications_mail_digests(), 1, 'only who is still concerned gets a mail');
select is_empty($$select * from tests.mails where reader <> 'mem' and text ~ 'Secret plans'$$, 'none for who was removed, who has read it, or whose address is not confirmed');
select is((select count(*) from private.notification_mails as m join public.notifications as n on n.id = m.notification_id where n.org_id = :'org'), 0::bigint, 'nothing stays');

-- ---- a refused mail waits, and stops nobody
update private.mail_settings set organization_per_hour = 1;
select tests.act_as('bob', :'org');
select public.set_notification_preference('custom.deploy', mail => 'now');
select (public.notify('custom.deploy', 'Limited')).id;
select tests.act_as_superuser();
select private.notifications_mail_digests();
select is((select count(*) from private.notification_mails where due_at > kijko.now()), 2::bigint, 'beyond the limits of mails a digest waits');
select tests.travel('5 days');
select private.notifications_mail_digests();
select is((select count(*) from private.notification_mails where user_id = tests.id('bob')), 0::bigint, 'and after three days it is given up');
update private.mail_settings set organization_per_hour = 200;

-- ---- invitations: a notification, and no mail for who wants none
select tests.act_as('eve');
select public.set_notification_preference('invitation.received', mail => 'off');
select tests.act_as('bob', :'org');
select (public.invite_member(tests.email('eve'))).id is not null, (public.invite_member(tests.email('nobody'))).id is not null;
select tests.act_as_superuser();
select is((select array_agg(reader order by reader) from tests.mails where template = 'invitation'), '{nobody}', 'who wants no mail of invitations gets none; an address without an account does');
select is(private.notifications_emit_invitations() >= 1, true, 'and the user is notified');
select is(private.notifications_emit_invitations(), 0, 'once');
select tests.act_as('eve');
select is((select array_agg(type) from public.list_notifications()), '{invitation.received}', 'in their own list');
select is((select count(*) from public.list_notifications() where data::text ~ 'kji_' or link is not null), 0::bigint, 'without the token');

-- ---- habits: the notification and the mail of a pause go by one preference
select tests.act_as_superuser();
select tests.skill(:'org') as skill \gset
insert into public.habits (id, org_id, skill_id, name, cron, pause_after_failures, created_by) values (tests.id('habit'), :'org', :'skill', 'Nightly', '@daily', 2, tests.id('mem'));
create function tests.fails(slot integer) returns void language plpgsql as $$
begin
  insert into public.executions (id, org_id, skill_id, habit_id, trigger, scheduled_for, status) values (tests.id('e' || slot), tests.org('ada'), (select skill_id from public.habits where id = tests.id('habit')), tests.id('habit'), 'habit', kijko.now() + make_interval(mins => slot), 'running');
  update public.executions set status = 'failed', error_code = 'timeout', finished_at = kijko.now() where id = tests.id('e' || slot);
end
$$;
create function tests.notified() returns text[] language sql as $$
  select array(select n.type from public.notifications as n where n.user_id = tests.id('mem') and n.org_id = tests.org('ada') order by n.created_at, n.type)
$$;
select tests.fails(1);
select is(tests.notified(), '{habit.failed}', 'the first failure notifies');
select tests.fails(2);
select is(tests.notified(), '{habit.failed,habit.paused}', 'the second one is not; the pause is');
select is((select count(*) from tests.mails where template = 'habit_paused'), 1::bigint, 'by a mail of its own');
select is(cardinality(tests.due('mem')), 0, 'and by no digest');
update public.habits set enabled = true where id = tests.id('habit');
select tests.act_as('mem', :'org');
select public.set_notification_preference('habit.paused', mail => 'daily');
select tests.act_as_superuser();
select tests.travel('6 days');
select tests.fails(3), tests.fails(4);
select is((select count(*) from tests.mails where template = 'habit_paused'), 1::bigint, 'who wants it daily gets no mail of its own');
select is(cardinality(tests.due('mem')), 1, 'but a line of the digest');

-- ---- thresholds of usage
do $$ begin perform kijko.set_limit(tests.org('ada'), 'code_searches', 'month', 10); perform kijko.consume(tests.org('ada'), 'code_searches', 8); end $$;
select ok(private.notifications_emit_thresholds(1000000) >= 1, 'a threshold notifies');
select is(private.notifications_emit_thresholds(1000000), 0, 'once');
select is(private.notifications_send(tests.org('ada'), null, 'usage.threshold', '{}', (select n.dedupe_key from public.notifications as n where n.org_id = tests.org('ada') and n.type = 'usage.threshold')), null, 'by its key');
select results_eq(format($$select audience, permission, title from public.notifications where org_id = %L and type = 'usage.threshold'$$, :'org'), $$values ('organization', 'usage:read', '80 % of code_searches is used')$$, 'to all who may see usage');
select is((select array_agg(p.display_name is not null) from private.notification_mails as m join public.notifications as n on n.id = m.notification_id join public.profiles as p on p.id = m.user_id where n.type = 'usage.threshold' and n.org_id = :'org'), '{t,t}', 'by mail to those who see the bill: the owner and the admin');

-- ---- ended sessions
insert into auth.sessions (id, user_id, user_agent) values (tests.id('s1'), tests.id('mem'), 'Firefox'), (tests.id('s2'), tests.id('mem'), 'Phone'), (tests.id('s3'), tests.id('mem'), 'Tablet');
delete from auth.sessions where id = tests.id('s3');
select is((select count(*) from public.notifications where type = 'session.ended' and user_id = tests.id('mem')), 0::bigint, 'signing out notifies nobody');
select tests.act_as('mem');
select public.end_session(tests.id('s1'));
select tests.act_as_superuser();
select results_eq(format($$select data ->> 'cause', data -> 'devices', org_id from public.notifications where type = 'session.ended' and user_id = %L$$, tests.id('mem')), $$values ('ended_elsewhere', '["Firefox"]'::jsonb, kijko.platform_org_id())$$, 'who is signed out elsewhere is');
select results_eq(format('select r.due_at <= kijko.now() from private.notification_mails as r where r.user_id = %L and r.notification_id = (select id from public.notifications where type = %L and user_id = %1$L)', tests.id('mem'), 'session.ended'), 'values (true)', 'and gets a mail at once');
update private.notification_mails set due_at = kijko.now() - interval '1 second' where user_id = tests.id('mem');
delete from private.notification_mails where user_id = tests.id('mem') and notification_id not in (select id from public.notifications where type = 'session.ended');
select private.notifications_mail_digests();
select is((select count(*) from private.mail_messages where org_id = kijko.platform_org_id() and recipient like 'mem-' || current_setting('tests.run') || '%'), 1::bigint, 'of the platform');
select set_config('kijko_notifications.session_end', 'password_changed', true);
delete from auth.users where id = tests.id('mem');
select is_empty(format('select from public.notifications where user_id = %L', tests.id('mem')), 'a deleted user''s go with the user');

select * from finish();
rollback;
