-- Reflexes that listen: who may let one listen, and that it stops when they no longer may.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('mem', '{"locale": "nl"}'), tests.sign_up('see');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
update auth.users set email_confirmed_at = now();
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('see', tests.org('ada'), 'member');
select tests.skill(tests.org('ada')) as skill \gset

create function tests.deliveries(reflex uuid) returns bigint language sql security definer as $$
  select count(*) from public.reflex_deliveries as d where d.reflex_id = reflex
$$;
create function tests.emit(event text) returns integer language sql security definer as $$ select private.reflexes_emit(tests.org('ada'), event, '{}') $$;
create function tests.pushed(repository uuid, id text) returns text language sql security definer as $$
  select r.status from private.reflexes_ingest_github(repository, format('{"id": "%s"}', id), '{}', 'push', id, md5(id)) as r
$$;
create function tests.state(reflex uuid) returns text language sql stable security definer as $$
  select concat_ws(' ', r.enabled, r.last_error_code) from public.reflexes as r where r.id = reflex
$$;
create view tests.notices as
  select m.recipient, r.subject, r.text from private.mail_messages as m, private.mail_render(m.id) as r where m.template = 'reflex_paused';

-- ---- a repository of a private project, which its viewer sees
select tests.act_as('ada');
insert into public.projects (name, visibility) values ('Secret', 'private') returning id as project \gset
insert into public.project_members (project_id, user_id, role) values (:'project', tests.id('see'), 'viewer');
insert into public.repositories (project_id, clone_url) values (:'project', 'https://github.com/acme/secret') returning id as hidden \gset
select tests.act_as('mem', tests.org('ada'));
\set make '$$insert into public.reflexes (skill_id, name, source, repository_id) values (%L, %L, \'repository\', %L)$$'
select tests.refuses(format(:make, :'skill', 'x', :'hidden'), 'not_found', 'who does not see a repository does not listen to it');
select tests.act_as('see', tests.org('ada'));
select is((select count(*) from public.repositories where id = :'hidden'), 1::bigint, 'a viewer of the project sees its repository');
select tests.refuses(format(:make, :'skill', 'x', :'hidden'), 'permission_denied', 'and lets no reflex listen to it');
select tests.act_as('ada');
select lives_ok(format(:make, :'skill', 'Open', :'hidden'), 'its admin does');
select public.archive_project(:'project');
select tests.refuses(format(:make, :'skill', 'y', :'hidden'), 'project_archived', 'but not while it is archived');

-- ---- the webhook of a repository in an archived project
select public.restore_project(:'project');
insert into public.projects (name) values ('Later archived') returning id as project \gset
insert into public.repositories (project_id, clone_url) values (:'project', 'https://github.com/acme/site') returning id as repository \gset
insert into public.reflexes (skill_id, name, source, repository_id) values (:'skill', 'Pushes', 'repository', :'repository') returning id as pushes \gset
select is(tests.pushed(:'repository', 'a'), 'received', 'a push is received');
select is(tests.deliveries(:'pushes'), 1::bigint, 'and fires');
select public.archive_project(:'project');
select is(tests.pushed(:'repository', 'b'), 'received', 'a push to an archived project is received');
select is(tests.deliveries(:'pushes'), 1::bigint, 'and fires nothing');
select results_eq($$select status, error_code, reflex_count from public.webhook_deliveries where delivery_id = 'b'$$, $$values ('ignored', 'project_archived', 0)$$, 'which the row says');
select public.restore_project(:'project');
select tests.pushed(:'repository', 'c');
select is(tests.deliveries(:'pushes'), 2::bigint, 'once it is restored, pushes fire again');

-- ---- whose permission counts
select tests.act_as('mem', tests.org('ada'));
insert into public.reflexes (skill_id, name, source, event) values (:'skill', 'Joined', 'event', 'member.joined') returning id as joined \gset
select is((select authorized_by from public.reflexes where id = :'joined'), tests.id('mem'), 'a reflex listens for who made it');
select throws_ok(format('update public.reflexes set authorized_by = null where id = %L', :'joined'), '42501', null, 'which nobody writes');
select is(tests.emit('member.joined'), 1, 'it is fired');
select tests.act_as('ada');
update public.reflexes set name = 'Another name' where id = :'joined';
select is((select authorized_by from public.reflexes where id = :'joined'), tests.id('mem'), 'another name changes nothing');

-- ---- a member who loses the permission
select tests.act_as_superuser();
delete from private.role_permissions where role = 'member' and permission = 'members:read';
select is(tests.emit('member.joined'), 0, 'it fires no more');
select is(tests.state(:'joined'), 'f author_lost_permission', 'it is paused and says why');
select results_eq('select recipient, subject from tests.notices', $$values ('mem@example.test', 'Gepauzeerd: Another name')$$, 'its author gets a mail in their language');
select matches((select text from tests.notices), 'members:read', 'which names the permission');
select is(tests.emit('member.joined') + (select count(*) from tests.notices), 1::bigint, 'once');
select is(tests.deliveries(:'joined'), 1::bigint, 'and nothing was delivered');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('update public.reflexes set enabled = true where id = %L', :'joined'), 'permission_denied', 'who lacks the permission does not enable it');
select lives_ok(format('update public.reflexes set enabled = false where id = %L', :'joined'), 'but may switch it off');
select tests.act_as('ada');
update public.reflexes set enabled = true where id = :'joined';
select is((select authorized_by from public.reflexes where id = :'joined'), tests.id('ada'), 'who enables it answers for it');
select is(tests.state(:'joined'), 't', 'the reason is gone');
select is(tests.emit('member.joined'), 1, 'and it fires again');

-- ---- a member who leaves, and the repository's
select tests.act_as('mem', tests.org('ada'));
update public.reflexes set filter = 'true' where id = :'pushes';
select tests.act_as_superuser();
delete from public.memberships where org_id = tests.org('ada') and user_id = tests.id('mem');
select tests.pushed(:'repository', 'd');
select is(tests.state(:'pushes'), 'f author_lost_permission', 'a reflex of a repository is paused as well');
select is((select array_agg(recipient order by recipient) from tests.notices), array['ada@example.test', 'mem@example.test'], 'then those who manage all projects get the mail');

-- ---- thresholds of usage
select tests.join_org('mem', tests.org('ada'), 'member');
select tests.act_as('mem', tests.org('ada'));
insert into public.reflexes (skill_id, name, source, event) values (:'skill', 'Limits', 'event', 'usage.threshold') returning id as limits \gset
select tests.act_as_superuser();
delete from private.role_permissions where role = 'member' and permission = 'usage:read';
select private.reflexes_emit_thresholds();
select is(tests.state(:'limits'), 'f author_lost_permission', 'thresholds do not fire it, either');

-- ---- a service key
select tests.act_as('ada');
select tests.make_key(tests.org('ada'), '["skills:read", "reflexes:read", "reflexes:write", "members:read"]') as key \gset
select tests.act_as_key(:'key', tests.org('ada'));
insert into public.reflexes (skill_id, name, source, event) values (:'skill', 'By a key', 'event', 'member.joined') returning id as by_key \gset
select is((select authorized_by_key from public.reflexes where id = :'by_key'), :'key'::uuid, 'a reflex listens for the service key that made it');
select is(tests.emit('member.joined'), 2, 'it is fired');
select tests.act_as('ada');
select public.revoke_api_key(:'key');
select is(tests.emit('member.joined'), 1, 'not after the key was revoked');
select is(tests.state(:'by_key'), 'f author_lost_permission', 'it is paused');

-- ---- the platform's own, and a caller's transaction that goes on
select tests.act_as_service();
insert into public.reflexes (org_id, skill_id, name, source, event) values (tests.org('ada'), :'skill', 'Ours', 'event', 'member.joined');
select tests.act_as_superuser();
select is(tests.emit('member.joined'), 2, 'the platform''s reflexes ask nobody');
update private.mail_settings set organization_per_hour = 1;
delete from private.role_permissions where role = 'owner' and permission = 'members:read';
select lives_ok($$select tests.join_org('see', tests.org('mem'), 'viewer')$$, 'a member joins');
select is(tests.emit('member.joined'), 1, 'a mail that may not be sent undoes no pause');
select is(tests.state(:'joined'), 'f author_lost_permission', 'nor hides it');

select * from finish();
rollback;
