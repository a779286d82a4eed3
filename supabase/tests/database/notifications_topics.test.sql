begin;
\ir 000_helpers.sql
select plan(58);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('eve'), tests.sign_up('cus');
select tests.org('ada') as org \gset
update public.subscriptions set plan = 'TEAMS' where org_id = :'org';
select tests.join_org('bob', :'org', 'member'), tests.join_org('vic', :'org', 'viewer'), tests.join_org('cus', :'org', 'viewer');
insert into public.custom_roles (id, org_id, name, permissions) values (tests.id('role'), :'org', 'Bare', '{organization:read,projects:read}');
update public.memberships set custom_role_id = tests.id('role') where user_id = tests.id('cus') and org_id = :'org';
insert into public.projects (id, org_id, name, visibility)
values (tests.id('secret'), :'org', 'Secret', 'private'), (tests.id('open'), :'org', 'Open', 'organization');
insert into public.project_members (org_id, project_id, user_id) values (:'org', tests.id('secret'), tests.id('bob'));
insert into public.executions (id, org_id, project_id, status)
values (tests.id('in secret'), :'org', tests.id('secret'), 'queued'), (tests.id('in open'), :'org', tests.id('open'), 'queued'), (tests.id('in none'), :'org', null, 'queued');
insert into public.executions (id, org_id, status, managers_only) values (tests.id('for managers'), :'org', 'queued', true);

-- What the service asks: the caller's claims, the topic, a probe row for each extension.
create function tests.may(action text, topic text, extension text default 'broadcast') returns boolean language plpgsql as $$
declare
  answer boolean;
begin
  perform set_config('realtime.topic', may.topic, true);
  if action = 'send' then
    begin
      insert into realtime.messages (topic, extension) values (may.topic, may.extension);
      return true;
    exception when insufficient_privilege then return false;
    end;
  end if;
  perform tests.probe(may.topic, may.extension);
  select exists (select from realtime.messages as m where m.topic = may.topic and m.extension = may.extension) into answer;
  return answer;
end
$$;
create function tests.probe(topic text, extension text) returns void language sql security definer as $$
  insert into realtime.messages (topic, extension) values (probe.topic, probe.extension)
$$;
create function tests.topic(name text) returns text language sql stable security definer as $$
  select case name
    when 'org' then 'org:' || tests.org('ada')
    when 'other org' then 'org:' || tests.org('eve')
    when 'platform' then 'org:' || kijko.platform_org_id()
    when 'bob' then 'user:' || tests.id('bob')
    when 'open' then 'project:' || tests.id('open')
    when 'secret' then 'project:' || tests.id('secret')
    when 'room' then 'room:' || tests.org('ada') || ':general'
    else 'execution:' || tests.id(name)
  end
$$;
create function tests.joins() returns text[] language sql as $$
  select array(
    select t.name
    from unnest(array['org', 'other org', 'platform', 'bob', 'open', 'secret', 'room', 'in secret', 'in open', 'in none', 'for managers']) with ordinality as t (name, place)
    where tests.may('join', tests.topic(t.name))
    order by t.place
  )
$$;
create function tests.sends() returns text[] language sql as $$
  select array(
    select t.name || ' ' || e.name
    from unnest(array['org', 'other org', 'platform', 'bob', 'open', 'secret', 'room', 'in open']) with ordinality as t (name, place), unnest(array['broadcast', 'presence']) as e (name)
    where tests.may('send', tests.topic(t.name), e.name)
    order by t.place, e.name
  )
$$;

create function tests.readable() returns text[] language sql as $$
  select array(
    select t.name
    from unnest(array['org', 'other org', 'platform', 'bob', 'open', 'secret', 'room', 'in secret', 'in open']) with ordinality as t (name, place)
    where private.notifications_topic_is_readable(tests.topic(t.name)) order by t.place
  )
$$;

-- ---- anon and non-members first
select tests.act_as_anon();
select is(tests.joins(), '{}', 'anon joins nothing');
select is(tests.sends(), '{}', 'and sends nowhere');
select tests.act_as('eve');
select is(tests.joins(), '{other org,platform}', 'a non-member joins their own organization, and what is for everyone');
select is(tests.sends(), '{}', 'and sends nowhere');

-- ---- members
select tests.act_as('vic');
select is(tests.joins(), '{org,platform,open,room,"in open","in none"}', 'a viewer joins nothing of a private project');
select is(tests.sends(), '{"room presence"}', 'and is seen in rooms');
select tests.act_as('cus');
select is(tests.joins(), '{org,platform,open}', 'a role without executions:read joins no execution, and no room without rooms:read');
select is(tests.sends(), '{}', 'and sends nowhere');
select tests.act_as('bob');
select is(tests.joins(), '{org,platform,bob,open,secret,room,"in secret","in open","in none"}', 'a member of the project joins it');
select is(tests.sends(), '{"room broadcast","room presence"}', 'and sends in rooms only: nobody forges an event of the product');
select tests.act_as('ada');
select is(tests.joins(), '{org,platform,open,secret,room,"in secret","in open","in none","for managers"}', 'an owner joins all but another member''s own topic');

-- ---- spellings, and what is no topic
select is(tests.may('join', t), false, 'not a topic: ' || t)
from unnest(array[
  'org:', 'org', '', ':', 'org:x', upper(tests.topic('org')), 'org:' || upper(tests.org('ada')::text), tests.topic('org') || ':', tests.topic('org') || ':x',
  'user:' || tests.id('bob'), 'room:' || tests.org('ada'), tests.topic('room') || ':x', 'room:' || tests.org('ada') || ':', 'room:' || tests.org('eve') || ':general',
  'room:' || tests.org('ada') || ':' || repeat('x', 101), 'execution:' || gen_random_uuid(), 'project:' || gen_random_uuid(), 'job:' || gen_random_uuid(), ' ' || tests.topic('org')
]) as t;
select is(private.notifications_topic_is_readable(null), false, 'null is no topic');
select is(private.notifications_topic_is_writable(null, null), false, 'and nobody sends to it');
select is(tests.may('send', tests.topic('room'), 'persistence'), false, 'an unknown extension is not writable');

-- ---- API keys
select tests.act_as('ada', :'org');
select (public.create_api_key('reader', '["*:read"]')).id as reader \gset
select (public.create_api_key('mine', '["*:read"]', 'personal')).id as mine \gset
select (public.create_api_key('bare', '["skills:read"]')).id as bare \gset
select (public.create_api_key('org', '["organization:read"]')).id as orgkey \gset
select is(tests.by_key(:'reader', 'select tests.readable()'), '{open,room,"in open"}', 'a key that reads joins its organization''s topics, none of a private project, and no person''s');
select is(tests.by_key(:'mine', format('select private.notifications_topic_is_readable(%L)', 'user:' || tests.id('ada'))), 'false', 'nor does a personal key join its owner''s');
select is(tests.by_key(:'orgkey', 'select tests.readable()'), '{org}', 'wildcards never mean organization:read, without which a key does not join the organization''s');
select is(tests.by_key(:'bare', 'select tests.readable()'), '{}', 'a key joins what its permissions allow');

-- ---- events: who gets which
select tests.act_as_superuser();
create function tests.events(topic text) returns text[] language sql security definer as $$
  select array(
    select m.event || coalesce(' ' || (m.payload ->> 'status'), '') from realtime.messages as m
    where m.topic = events.topic and m.private and m.extension = 'broadcast' and m.event is not null order by m.xid, m.inserted_at, m.ctid
  )
$$;
create function tests.forget_events() returns void language sql security definer as $$ delete from realtime.messages $$;
select tests.forget_events();
update public.executions set status = 'running' where org_id = :'org';
select is(tests.events(tests.topic('in secret')), '{"execution running"}', 'an execution sends its status to its own topic');
select is(tests.events(tests.topic('secret')), '{"execution running"}', 'to its project');
select is(tests.events(tests.topic('open')), '{"execution running"}', 'also of a project that all see');
select is(tests.events(tests.topic('for managers')), '{"execution running"}', 'one for managers only to its own topic');
select is(tests.events(tests.topic('org')), '{"execution running","execution running"}', 'and to the organization without those of private projects and for managers');
select is_empty(format('select * from realtime.messages where topic = %L and payload::text like any (array[%L, %L])', tests.topic('org'), '%' || tests.id('in secret') || '%', '%' || tests.id('for managers') || '%'), 'whose ids it does not get');
select is(
  (select array_agg(distinct k.key order by k.key) from realtime.messages as m cross join lateral jsonb_object_keys(m.payload) as k (key) where m.topic in (tests.topic('org'), tests.topic('secret'), tests.topic('open'))),
  '{execution_id,id,status}', 'ids and status only'
);
select tests.forget_events();
insert into public.execution_text_chunks (org_id, execution_id, attempt, seq, text) values (:'org', tests.id('in secret'), 1, 1, 'Once upon');
select is(tests.events(tests.topic('in secret')), '{execution_text}', 'the text goes to the execution''s topic');
select is((select count(*) from realtime.messages), 1::bigint, 'and to no other');

select tests.forget_events();
select private.jobs_enqueue(:'org', 'own.export', project_id => tests.id('secret')) is not null, private.jobs_enqueue(:'org', 'own.export') is not null, private.jobs_enqueue(:'org', 'mail') is not null;
select is(tests.events(tests.topic('secret')), '{"job queued"}', 'a job of a private project goes to the project');
select is(tests.events(tests.topic('org')), '{"job queued"}', 'another one to the organization; those of mails to nobody');

select tests.forget_events();
update public.memberships set role = 'admin' where user_id = tests.id('vic') and org_id = :'org';
delete from public.memberships where user_id = tests.id('vic') and org_id = :'org';
select is(tests.events(tests.topic('org')), '{"member changed","member left"}', 'members');
select is(tests.events('user:' || tests.id('vic')), '{"membership changed","membership left"}', 'and the member');
select tests.act_as('vic');
select is(tests.joins(), '{platform}', 'who was removed joins nothing any more');
select tests.act_as_superuser();
insert into public.invitations (org_id, email, role) values (:'org', 'new@example.test', 'member');
update public.invitations set status = 'revoked' where org_id = :'org';
select is((tests.events(tests.topic('org')))[3:], '{"invitation pending","invitation revoked"}', 'invitations');
select is_empty(format('select * from realtime.messages where topic = %L and payload::text like %L', tests.topic('org'), '%example.test%'), 'without addresses');

select tests.forget_events();
select private.notifications_send(:'org', tests.id('bob'), 'habit.failed', '{"habit": "Nightly"}', 'k1') is not null, private.notifications_send(:'org', null, 'usage.threshold', '{"meter": "m"}', 'k2') is not null;
select is(tests.events('user:' || tests.id('bob')), '{notification}', 'a notification goes to its reader');
select is((select array_agg(k.key order by k.key) from realtime.messages as m cross join lateral jsonb_object_keys(m.payload) as k (key) where m.topic = tests.topic('org')), '{id,notification_id}', 'one to the organization as its id alone; id is the message''s');

-- ---- an error in realtime fails nothing
select tests.forget_events();
alter table realtime.messages add constraint broken check (topic is null) not valid;
select lives_ok(format('update public.executions set status = %L, finished_at = now() where id = %L', 'succeeded', tests.id('in open')), 'an execution ends when its event cannot be sent');
select is((select status from public.executions where id = tests.id('in open')), 'succeeded', 'and has ended');
alter table realtime.messages drop constraint broken;
drop function realtime.send(jsonb, text, text, boolean);
select lives_ok(format('update public.executions set status = %L, finished_at = now() where id = %L', 'succeeded', tests.id('in none')), 'also where there is no realtime');

select * from finish();
rollback;
