begin;
\ir 000_helpers.sql
select plan(141);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('eve'), tests.sign_up('cus');
select tests.org('ada') as org \gset
select tests.org('eve') as other \gset
update public.subscriptions set plan = 'TEAMS' where org_id = :'org';
select tests.join_org('bob', :'org', 'admin'), tests.join_org('vic', :'org', 'viewer'), tests.join_org('cus', :'org', 'viewer');
insert into public.custom_roles (id, org_id, name, permissions) values (tests.id('role'), :'org', 'Bare', '{projects:read}');
update public.memberships set custom_role_id = tests.id('role') where user_id = tests.id('cus') and org_id = :'org';
insert into public.projects (id, org_id, name, visibility) values (tests.id('project'), :'org', 'Secret', 'private');
insert into public.project_members (org_id, project_id, user_id) values (:'org', tests.id('project'), tests.id('vic'));

create function tests.titles() returns text[] language sql as $$ select array(select n.title from public.list_notifications() as n order by n.title) $$;
create function tests.rows() returns text[] language sql as $$ select array(select n.title from public.notifications as n order by n.title) $$;
create function tests.found(title text) returns uuid[] language sql security definer as $$
  select array(select n.id from public.notifications as n where n.title = found.title)
$$;
create function tests.counter(who text) returns integer language sql security definer as $$
  select coalesce((select c.unread from private.notification_counters as c where c.user_id = tests.id(who)), 0)
$$;
-- The minute's work, ten minutes after roles have changed.
create function tests.fold() returns void language sql security definer as $$ select private.notifications_fold(expired => 'infinity') $$;
create function tests.recounted(who text) returns integer language sql security definer as $$
  select private.notifications_unread(tests.id(who), false)
$$;
create function tests.keep_role(role text, who text) returns void language sql security definer as $$
  update public.memberships set role = keep_role.role where user_id = tests.id(who) and org_id = tests.org('ada')
$$;
create function tests.leave(who text) returns void language sql security definer as $$
  delete from public.memberships where user_id = tests.id(who) and org_id = tests.org('ada')
$$;

-- ---- anon and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.notifications', '42501', null, 'anon reads no notifications');
select throws_ok('select * from public.list_notifications()', '42501', null, 'anon lists none');
select throws_ok('select public.unread_count()', '42501', null, 'anon counts none');
select throws_ok($$select public.mark_read()$$, '42501', null, 'anon reads none');
select throws_ok($$select public.notify('custom.x', 'x')$$, '42501', null, 'anon sends none');
select tests.act_as('eve', :'org');
select tests.refuses($$select public.notify('custom.deploy', 'x')$$, 'not_a_member', 'a non-member sends none');
select tests.act_as('eve');
select is_empty('select * from public.notifications', 'a non-member sees none');

-- ---- types
select tests.act_as('vic', :'org');
select throws_ok($$insert into public.notification_types (name) values ('custom.deploy')$$, '42501', null, 'a viewer defines no type');
select tests.refuses($$select public.notify('custom.deploy', 'x')$$, 'permission_denied', 'a viewer sends none');
select tests.act_as('bob', :'org');
select lives_ok($$insert into public.notification_types (name, description) values ('custom.deploy', 'A deployment')$$, 'an admin defines a type');
select lives_ok($$insert into public.notification_types (name, permission) values ('custom.money', 'billing:read')$$, 'and one that asks for a permission');
select throws_ok($$insert into public.notification_types (name) values ('habit.paused')$$, '23514', null, 'not with a name of the product');
select throws_ok($$insert into public.notification_types (name, has_own_mail) values ('custom.x', true)$$, '42501', null, 'nor what the database keeps');
select tests.refuses($$select public.notify('platform.announcement', 'x')$$, 'permission_denied', 'nor does an organization send the product''s types');
select tests.refuses($$select public.notify('custom.unknown', 'x')$$, 'invalid_input', 'an unknown type is refused');
select tests.refuses(format('select public.notify(%L, %L, user_id => %L)', 'custom.deploy', 'x', tests.id('eve')), 'not_found', 'nobody writes to a non-member');
select tests.act_as('eve');
select is_empty($$select * from public.notification_types where name like 'custom.%'$$, 'a non-member sees no types');

-- ---- what is refused when stored
select tests.act_as('bob', :'org');
select tests.refuses(format('select public.notify(%L, %L, link => %L)', 'custom.deploy', 'x', l), 'invalid_input', 'link ' || l)
from unnest(array['javascript:alert(1)', 'JAVASCRIPT:alert(1)', 'data:text/html,x', '//evil.test', '/\evil.test', 'http://a.test', 'https://user@a.test', '/a"b', '/a b', E'/a\nb', 'x', '', 'https://a.test\@b.test']) as l;
select tests.refuses($$select public.notify('custom.deploy', E'two\nlines')$$, 'invalid_input', 'a title is one line');
select tests.refuses($$select public.notify('custom.deploy', '  ')$$, 'invalid_input', 'and not blank');
select tests.refuses($$select public.notify('custom.deploy', null)$$, 'invalid_input', 'nor null');
select tests.refuses($$select public.notify('custom.deploy', repeat('x', 201))$$, 'invalid_input', 'nor long');
select tests.refuses($$select public.notify('custom.deploy', 'x', body => repeat('x', 2001))$$, 'invalid_input', 'a body is bounded');
select tests.refuses($$select public.notify('custom.deploy', 'x', data => '[]')$$, 'invalid_input', 'data is an object');
select tests.refuses($$select public.notify('custom.deploy', 'x', data => null)$$, 'invalid_input', 'and not null');
select tests.refuses($$select public.notify('custom.deploy', 'x', data => jsonb_build_object('x', repeat('x', 9000)))$$, 'invalid_input', 'and bounded');

-- ---- who gets what
select lives_ok($$select public.notify('custom.deploy', 'to all', link => '/deploys/1', data => '{"n": 1}')$$, 'an admin sends to the organization');
select lives_ok($$select public.notify('custom.money', 'to admins')$$, 'and to those with a permission');
select lives_ok(format('select public.notify(%L, %L, user_id => %L, link => %L)', 'custom.deploy', 'to vic', tests.id('vic'), 'https://app.example.com/a?b=c#d'), 'and to a member');
select is((select count(*) from public.notifications where audience = 'organization'), 2::bigint, 'for the organization there is one row, not one for each member');
select is(tests.titles(), array['to admins', 'to all'], 'an admin sees what goes to admins and to all');
select tests.act_as('vic', :'org');
select is(tests.titles(), array['to all', 'to vic'], 'a viewer sees what goes to all and to them');
select is(tests.rows(), array['to all', 'to vic'], 'and so says the policy');
select is(public.unread_count(), 2, 'and has them unread');
select tests.act_as('cus', :'org');
select is(tests.titles(), '{}', 'who lacks notifications:read sees none');
select is(tests.rows(), '{}', 'and so says the policy');
select is(public.unread_count(), 0, 'and has none unread');
select tests.act_as('ada', :'org');
select is(tests.titles(), array['to admins', 'to all'], 'an owner sees no row of another member');
select throws_ok($$insert into public.notifications (audience, type, title) values ('organization', 'custom.deploy', 'x')$$, '42501', null, 'nobody inserts');
select throws_ok($$update public.notifications set title = 'x'$$, '42501', null, 'nor updates');
select throws_ok($$delete from public.notifications$$, '42501', null, 'nor deletes');
select tests.act_as('eve');
select is(tests.titles(), '{}', 'a non-member sees none of them');

-- ---- the same call twice
select tests.act_as('bob', :'org');
select is(
  (public.notify('custom.deploy', 'once', dedupe_key => 'k')).id, (public.notify('custom.deploy', 'once', dedupe_key => 'k')).id, 'the same key is the same notification'
);
select is(cardinality(tests.found('once')), 1, 'and sends nothing more');
select tests.refuses($$select public.notify('custom.deploy', 'twice', dedupe_key => 'k')$$, 'idempotency_conflict', 'another one with this key is refused');
select tests.refuses(format('select public.notify(%L, %L, user_id => %L, dedupe_key => %L)', 'custom.deploy', 'once', tests.id('vic'), 'k'), 'idempotency_conflict', 'and so is one to another reader');
select tests.refuses($$select public.notify('custom.deploy', 'x', dedupe_key => repeat('x', 201))$$, 'invalid_input', 'a key is bounded');
select tests.act_as_superuser();
insert into public.notifications (org_id, audience, user_id, type, title, dedupe_key) values (:'org', 'user', tests.id('ada'), 'habit.failed', 'Private', 'habit.failed:1');
select tests.act_as('bob', :'org');
select is((public.notify('custom.deploy', 'mine', dedupe_key => 'habit.failed:1')).title, 'mine', 'a client''s key is none of the product''s, and shows none of its notifications');
select tests.act_as_superuser();
delete from public.notifications where title in ('mine', 'Private');
select tests.act_as('bob', :'org');

-- ---- API keys
select (public.create_api_key('service', '["notifications:write", "notifications:read"]')).id as service \gset
select (public.create_api_key('reader', '["*:read"]', 'personal')).id as reader \gset
select (public.create_api_key('bare', '["projects:read"]')).id as bare \gset
select tests.act_as_superuser();
select is(tests.by_key(:'service', $$select (public.notify('custom.deploy', 'by key')).title$$), 'by key', 'a key with notifications:write sends');
select is(tests.by_key(:'bare', $$select (public.notify('custom.deploy', 'by key')).title$$), '42501', 'one without does not');
select is(tests.by_key(:'reader', $$select count(*) from public.notifications where audience = 'organization'$$), '2', 'a key reads what goes to the organization, as far as its permissions go');
select is(tests.by_key(:'bare', $$select count(*) from public.notifications$$), '0', 'one without notifications:read does not');
select is(tests.by_key(:'reader', $$select count(*) from public.notifications where audience = 'user'$$), '0', 'and none reads what goes to its owner');
select is(tests.by_key(:'reader', $$select count(*) from public.list_notifications()$$), '42501', 'a key is nobody''s list');

-- ---- seen, read, archived
select tests.act_as('vic', :'org');
select is((select count(*) from public.list_notifications() where seen_at is not null), 0::bigint, 'nothing is seen by being listed');
select is(public.mark_seen(), 3, 'seen is not read');
select is((select count(*) from public.list_notifications() where seen_at is null), 0::bigint, 'all is seen');
select is(public.mark_read(tests.found('to all')), 2, 'one is read');
select is(public.mark_read(tests.found('to all')), 2, 'once');
select is(public.mark_read(tests.found('to all'), false), 3, 'and unread again');
select is(public.mark_read(tests.found('to admins')), 3, 'what the reader does not see is left out');
select is(public.mark_read(array[gen_random_uuid()]), 3, 'and so is what does not exist');
select tests.refuses($$select public.mark_read(array[null]::uuid[])$$, 'invalid_input', 'null is no id');
select is(public.archive_notifications(tests.found('to vic')), 2, 'an archived one is not unread');
select is(tests.titles(), array['once', 'to all'], 'nor in the list');
select is((select count(*) from public.list_notifications(include_archived => true)), 3::bigint, 'but among the archived ones');
select is(public.archive_notifications(tests.found('to vic'), false), 3, 'and comes back');
select tests.refuses($$select public.archive_notifications(null)$$, 'invalid_input', 'nobody archives all by a null');
select is(public.mark_read(), 0, 'null is all');
select tests.fold();
select is(tests.counter('vic'), 0, 'the counter says so');
select is(public.unread_count(), 0, 'and whoever asks it');
select tests.act_as('bob', :'org');
select is(public.unread_count(), 3, 'what one reader reads, others have not');

-- ---- the list and its cursor
select lives_ok($$select public.notify('custom.deploy', 'page ' || n) from generate_series(1, 5) as n$$, 'five more');
select is((select count(*) from public.list_notifications("limit" => 3)), 3::bigint, 'a page');
select is(
  (select count(*) from public.list_notifications("limit" => 200, before_id => (select (array_agg(id order by created_at desc, id desc))[3] from public.list_notifications("limit" => 3)))),
  5::bigint, 'and the older ones after it'
);
select tests.refuses(format('select public.list_notifications(before_id => %L)', (tests.found('to vic'))[1]), 'not_found', 'not before somebody else''s');
select tests.refuses(format('select public.list_notifications("limit" => %s)', l), 'invalid_input', 'limit ' || l) from unnest(array['0', '201', 'null']) as l;
select tests.refuses(format('select public.list_notifications(%L)', c), 'invalid_input', 'cursor ' || c)
from unnest(array['', 'x', '1;x;;;', '1;10:20:;x;;', '2;10:20:;;;', '1;10:20:;;5;x', '1;20:10:;;;']) as c;
select is((select count(*) from public.list_notifications('1;999999999999:999999999999:;;;')), 8::bigint, 'a cursor of another cluster starts again');
-- All of this test is one transaction, so nothing is new to its own snapshot; notifications.test.mjs tries the rest.
select is_empty(format('select * from public.list_notifications(%L)', '1;' || pg_current_snapshot() || ';;;'), 'nothing is new');

-- ---- preferences, evaluated when sent
select tests.act_as('vic', :'org');
select tests.refuses($$select public.set_notification_preference('custom.none', false)$$, 'invalid_input', 'not for an unknown type');
select tests.refuses($$select public.set_notification_preference('custom.deploy', mail => 'weekly')$$, 'invalid_input', 'nor with an unknown word');
select tests.refuses($$select public.set_notification_preference('invitation.received', mail => 'daily')$$, 'invalid_input', 'nor what the type does not offer');
select tests.refuses(format('select public.set_notification_preference(%L, false, org_id => %L)', 'custom.deploy', :'other'), 'not_a_member', 'nor for a stranger''s organization');
select lives_ok($$select public.set_notification_preference('custom.deploy', false)$$, 'a reader mutes a type');
select is((select p.in_app from public.list_notification_preferences() as p where p.type = 'custom.deploy' and p.org_id = tests.org('ada')), false, 'and sees that');
select tests.act_as('bob', :'org');
select lives_ok(format('select public.notify(%L, %L), public.notify(%L, %L, user_id => %L)', 'custom.deploy', 'muted', 'custom.deploy', 'muted too', tests.id('vic')), 'two are sent');
select tests.act_as('vic', :'org');
select is((select count(*) from public.list_notifications() where title like 'muted%'), 0::bigint, 'a muted type is not in the list');
select is(public.unread_count(), 5, 'nor counted');
select tests.fold();
select is(tests.counter('vic'), 5, 'by the counter, either');
select lives_ok(format('select public.set_notification_preference(%L, true, org_id => %L)', 'custom.deploy', :'org'), 'the more particular preference');
select tests.act_as('bob', :'org');
select lives_ok($$select public.notify('custom.deploy', 'wanted')$$, 'another');
select tests.act_as('vic', :'org');
select is(public.unread_count(), 6, 'decides');
select is((select count(*) from public.list_notifications() where title like 'muted%'), 0::bigint, 'for what is sent from then on');
select lives_ok(format('select public.set_notification_preference(%L, org_id => %L)', 'custom.deploy', :'org'), 'two nulls remove it');
select is((select p.in_app from public.list_notification_preferences() as p where p.type = 'custom.deploy' and p.org_id = tests.org('ada')), false, 'and the other one holds again');

-- ---- a removed member, a changed role, a project that is hidden
select tests.act_as_superuser();
select private.notifications_send(:'org', tests.id('vic'), 'habit.failed', '{"habit": "Nightly", "error_code": "timeout"}', 'h1', tests.id('project')) is not null as sent \gset
select ok(:'sent', 'the product sends about a private project');
select tests.act_as('vic', :'org');
select is((select n.title from public.list_notifications() as n where n.type = 'habit.failed'), 'Failed: Nightly', 'its member reads it');
select is(public.unread_count(), 7, 'and has it unread');
select tests.act_as_superuser();
delete from public.project_members where user_id = tests.id('vic');
select tests.act_as('vic', :'org');
select is((select count(*) from public.list_notifications() where type = 'habit.failed'), 0::bigint, 'who left the project does not see it');
select is((select count(*) from public.notifications where type = 'habit.failed'), 0::bigint, 'and so says the policy');
select is(public.unread_count(), 6, 'nor has it unread');
select tests.act_as_superuser();
select tests.keep_role('admin', 'vic');
select tests.act_as('vic', :'org');
select is(public.unread_count(), tests.recounted('vic'), 'another role sees other ones');
select ok(tests.titles() @> array['to admins'], 'of those for the permission');
select tests.act_as_superuser();
select tests.leave('vic');
select tests.act_as('vic', :'org');
select is(tests.titles(), '{}', 'a removed member sees nothing of the organization');
select is(tests.rows(), '{}', 'and so says the policy');
select is(public.unread_count(), 0, 'and has none unread');

-- ---- everyone
select tests.act_as('bob', :'org');
select throws_ok(format('select public.notify(%L, %L, %L::uuid)', 'platform.announcement', 'News', kijko.platform_org_id()), '42501', null, 'users have no right on the back office''s form');
select tests.act_as_service();
select lives_ok(format('select public.notify(%L, %L, org_id => %L)', 'platform.announcement', 'News', kijko.platform_org_id()), 'the back office tells everyone');
select tests.refuses(format('select public.notify(%L, %L, org_id => %L, user_id => %L)', 'habit.failed', 'x', :'org', tests.id('eve')), 'not_found', 'not a non-member');
select tests.act_as('eve');
select is(tests.titles(), array['News'], 'everyone sees it');
select is(public.unread_count(), 1, 'and has it unread');
select is(public.mark_read(), 0, 'and reads it');

-- ---- the counter, wherever it comes from
select tests.act_as_superuser();
delete from public.notifications where title = 'wanted';
select tests.act_as('bob', :'org');
select is(public.unread_count(), tests.recounted('bob'), 'what is deleted is not unread');

-- ---- bounds
select tests.act_as('bob', :'org');
select is(
  (select count(*) from (select tests.answer($$select public.notify('custom.deploy', 'many')$$) as answer from generate_series(1, 605)) as a where a.answer ->> 'code' = 'rate_limited') > 0,
  true, 'an organization sends 600 an hour'
);
select tests.act_as_superuser();
select ok((select count(*) from public.notifications where title = 'many') between 1 and 600, 'and no more');
select ok(private.notifications_purge(50) > 0, 'the purge deletes');
select is((select count(*) from public.notifications where org_id = :'org' and audience = 'organization'), 50::bigint, 'all but the newest');
select tests.act_as('bob', :'org');
select is(public.unread_count(), 51, 'and the counter follows: they, and the news to everyone');

-- ---- the check of notifications: each term alone is at its edge, then beyond it
select tests.act_as_superuser();
select is_empty(
  $$select c.n from (values
      (1, private.notifications_is_row(tests.org('bob'), 'organization', null, repeat('t', 63), repeat('p', 80), repeat('b', 2000), '{}', '/a', repeat('k', 255))),
      (2, private.notifications_is_row(kijko.platform_org_id(), 'user', tests.id('bob'), 't', 'p', 'b', '{}', '/a', 'k')),
      (3, private.notifications_is_row(kijko.platform_org_id(), 'everyone', null, 't', 'p', 'b', '{}', 'https://a.example/b', 'k'))
    ) as c (n, fits) where c.fits is not true$$,
  'a notification at every edge is stored'
);
select is_empty(
  $$select c.n from (values
      (1, private.notifications_is_row(tests.org('bob'), 'organization', tests.id('bob'), 't', null, null, '{}', null, null)),
      (2, private.notifications_is_row(tests.org('bob'), 'user', null, 't', null, null, '{}', null, null)),
      (3, private.notifications_is_row(kijko.platform_org_id(), 'organization', null, 't', null, null, '{}', null, null)),
      (4, private.notifications_is_row(tests.org('bob'), 'everyone', null, 't', null, null, '{}', null, null)),
      (5, private.notifications_is_row(tests.org('bob'), 'organization', null, repeat('t', 64), null, null, '{}', null, null)),
      (6, private.notifications_is_row(tests.org('bob'), 'organization', null, 't', repeat('p', 81), null, '{}', null, null)),
      (7, private.notifications_is_row(tests.org('bob'), 'organization', null, 't', null, repeat('b', 2001), '{}', null, null)),
      (8, private.notifications_is_row(tests.org('bob'), 'organization', null, 't', null, null, '[]', null, null)),
      (9, private.notifications_is_row(tests.org('bob'), 'organization', null, 't', null, null, jsonb_build_object('a', repeat('d', 8192)), null, null)),
      (10, private.notifications_is_row(tests.org('bob'), 'organization', null, 't', null, null, '{}', 'javascript:a', null)),
      (11, private.notifications_is_row(tests.org('bob'), 'organization', null, 't', null, null, '{}', null, '')),
      (12, private.notifications_is_row(tests.org('bob'), 'organization', null, 't', null, null, '{}', null, repeat('k', 256)))
    ) as c (n, fits) where c.fits is not false$$,
  'and none beyond one, whatever else is null'
);

select * from finish();
rollback;
