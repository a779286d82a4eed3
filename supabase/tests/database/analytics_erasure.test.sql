-- An organization erases one of its own users: who may, what goes, and what stays.
begin;
\ir 000_helpers.sql
select plan(39);

create function tests.send(variadic messages jsonb[]) returns jsonb language sql as $$ select public.track(to_jsonb(messages)) $$;
create function tests.event(who text, id text, more jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('type', 'track', 'event', 'Ordered', 'userId', who, 'messageId', id) || more
$$;
create function tests.roll() returns void language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('analytics_rollups', 0));
  while private.analytics_roll_changes() > 0 loop end loop;
end
$$;
-- Persons of the last hours, and where the answer is from.
create function tests.ask() returns text language sql as $$
  select concat_ws(' ', a.answer ->> 'source', a.answer ->> 'cached', a.answer #>> '{series,0,total}')
  from (select public.analytics_series(jsonb_build_object(
    'event', 'Ordered', 'from', date_trunc('hour', kijko.now(), 'UTC') - interval '10 days', 'until', date_trunc('hour', kijko.now(), 'UTC') + interval '1 hour'
  )) as answer) as a
$$;
-- What is left of somebody, by any of the words that name them. The superuser sees all of it.
create function tests.left_of(org uuid, word text) returns text language plpgsql security definer as $$
declare
  relation text;
  found bigint;
  everything text := '';
begin
  foreach relation in array '{public.events,public.persons,public.quarantined_events,private.analytics_identities,private.analytics_rollups,private.analytics_answers,public.audit_log}'::text[] loop
    execute format('select count(*) from %s as t where to_jsonb(t) ->> %L = $1::text and strpos(t::text, $2) > 0', relation,
      case when relation like 'private.%' then 'organization' else 'org_id' end) into found using org, word;
    if found > 0 then
      everything := everything || format('%s %s, ', relation, found);
    end if;
  end loop;
  return everything;
end
$$;

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
update public.subscriptions set plan = 'TEAMS' where org_id in (tests.org('ada'), tests.org('bob'));
select tests.act_as('ada');
select tests.make_key(tests.org('ada'), '["events:ingest"]') as sender \gset
select tests.make_key(tests.org('ada'), '["analytics:read"]') as reader \gset
select tests.make_key(tests.org('ada'), '["analytics:write"]') as eraser \gset
insert into public.event_properties (event_name, property, kind) values ('Ordered', 'mail', 'dimension');
-- Una came as a visitor, signed in, and had another id before. Duo used her browser later.
select tests.send('{"type": "page", "anonymousId": "una-browser", "messageId": "1", "context": {"ip": "192.0.2.77"}}');
select tests.send(tests.event('una-old', '2'), tests.event('una', '3', '{"anonymousId": "una-browser", "properties": {"mail": "una@example.test"}}'));
select tests.send('{"type": "identify", "userId": "una", "messageId": "4", "traits": {"name": "Una Unique"}}', '{"type": "alias", "userId": "una", "previousId": "una-old", "messageId": "5"}');
select tests.send(tests.event('una', '6', jsonb_build_object('timestamp', kijko.now() - interval '3 days')), tests.event('duo', '7', '{"anonymousId": "una-browser"}'));
select tests.send('{"type": "track", "userId": "una"}', '{"type": "group", "anonymousId": "una-browser"}', '{"type": "alias", "userId": "una"}', '{"type": "vote", "userId": "duo"}', '7', '"una"');
select tests.act_as('bob');
select tests.send(tests.event('una', '1', '{"properties": {"mail": "una@example.test"}}'));
select tests.act_as_superuser();
select tests.roll();
select id as una from public.persons where org_id = tests.org('ada') and user_id = 'una' \gset
select id as theirs from public.persons where org_id = tests.org('bob') and user_id = 'una' \gset

-- ---- unauthenticated callers, non-members, keys and colleagues first
select tests.act_as_anon();
select throws_ok($$select public.delete_analytics_person('una')$$, '42501', null, 'an unauthenticated caller erases nobody');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select public.delete_analytics_person('una')$$, 'not_a_member', 'nor does a non-member');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select public.delete_analytics_person('una')$$, 'permission_denied', 'nor a viewer');
select tests.act_as_key(:'sender', tests.org('ada'));
select tests.refuses($$select public.delete_analytics_person('una')$$, 'permission_denied', 'nor a key that sends');
select tests.act_as_superuser();
select is(tests.by_key(:'reader', $$select public.delete_analytics_person('una')$$, tests.org('ada')), (select c.sqlstate::text from kijko.error_codes as c where c.code = 'permission_denied'), 'nor one that reads');
select tests.act_as('bob');
select is(public.delete_analytics_person(person_id => :'una'), '{"persons": 0, "events": 0, "quarantined": 0, "complete": true}', 'the id of a stranger''s person means nobody');
select tests.act_as('mem', tests.org('ada'));
select is(public.delete_analytics_person(person_id => :'theirs'), '{"persons": 0, "events": 0, "quarantined": 0, "complete": true}', 'as here');
select tests.refuses(format('select public.delete_analytics_person(%s)', a.arguments), 'invalid_input', 'refused: ' || a.arguments)
from (values (''), ('null'), ($$'una', 'una-browser'$$)) as a (arguments);
select throws_ok($$select private.analytics_delete_person(null, null)$$, '42501', null, 'what is private is private');
select throws_ok($$delete from public.events$$, '42501', null, 'nor does anybody delete events');
select throws_ok($$delete from public.persons$$, '42501', null, 'or persons');
select is((select count(*) from public.events where person_id is not null), 7::bigint, 'all is there');
select is(tests.ask(), 'rollups false 4', 'and counted');
select is(tests.ask(), 'rollups true 4', 'also in the cache');
select public.analytics_series(jsonb_build_object('event', 'Ordered', 'breakdown', 'mail', 'from', kijko.now() - interval '1 day', 'until', kijko.now() + interval '1 second'));

-- ---- what goes, and what stays
select tests.act_as_superuser();
select matches(tests.left_of(tests.org('ada'), 'una@example.test'), 'events 1.*analytics_rollups 1.*analytics_answers 1', 'her address is in an event, in a sum and in an answer');
select tests.act_as('mem', tests.org('ada'));
savepoint whole;
select is(public.delete_analytics_person('una'), '{"persons": 1, "events": 6, "quarantined": 3, "complete": true}', 'a member erases a person');
select is(public.delete_analytics_person('una'), '{"persons": 0, "events": 0, "quarantined": 0, "complete": true}', 'again, nothing is left to do');
select is(tests.ask(), 'rollups false 4', 'no cached answer is used any more');
select tests.act_as_superuser();
select tests.roll();
select results_eq(
  $$select w.word, tests.left_of(tests.org('ada'), w.word) from unnest('{una-old,una@example.test,Una Unique,192.0.2.77}'::text[]) as w (word)$$,
  $$values ('una-old', ''), ('una@example.test', ''), ('Una Unique', ''), ('192.0.2.77', '')$$, 'nothing names her'
);
select is(tests.left_of(tests.org('ada'), 'una'), 'public.events 1, public.quarantined_events 1, ', 'but her browser''s id in the event of another user, and a message without a person');
select is((select count(*) from private.analytics_merges where organization = tests.org('ada') and into_person_id = :'una'), 0::bigint, 'nor is a merge left');
select is(tests.left_of(tests.org('bob'), 'una'), 'public.events 1, public.persons 1, private.analytics_identities 1, ', 'the other organization keeps its own');
select results_eq(
  format($$select action, target_type, target_id, actor_kind, created_by, before, after from public.audit_log where org_id = %L and target_type = 'person'$$, tests.org('ada')),
  format($$values ('analytics.person_deleted', 'person', %L, 'user', %L::uuid, null::jsonb, '{"persons": 1, "events": 6, "quarantined": 3}'::jsonb)$$, :'una', tests.id('mem')),
  'the audit log has one entry, which names her by no id of hers'
);
select tests.act_as('vic', tests.org('ada'));
select is(tests.ask(), 'rollups false 1', 'sums follow');
select results_eq($$select user_id from public.persons$$, $$values ('duo')$$, 'others stay');
-- A client that sends its messages again does not bring her back; a new one begins anew.
select tests.act_as_key(:'sender', tests.org('ada'));
select is(tests.send(tests.event('una', '3'), tests.event('una-old', '2')) ->> 'duplicates', '2', 'what is sent again stays a duplicate');
select is(tests.send(tests.event('una', 'n1', '{"anonymousId": "una-browser"}')) ->> 'accepted', '1', 'a new event makes a new person');
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.persons where user_id = 'una' and id <> :'una' and traits = '{}'), 1::bigint, 'who has nothing of the former one');
rollback to savepoint whole;

-- ---- any id of a person means all of them
select is(public.delete_analytics_person(anonymous_id => 'una-browser'), '{"persons": 1, "events": 6, "quarantined": 3, "complete": true}', 'by the browser');
rollback to savepoint whole;
select is(public.delete_analytics_person(user_id => 'una-old') -> 'events', '6', 'by a former id');
rollback to savepoint whole;
select is(public.delete_analytics_person(person_id => (select e.person_id from public.events as e where e.user_id = 'una-old' and e.type = 'track')) -> 'events', '6', 'by a person who was merged');
rollback to savepoint whole;
select tests.act_as_key(:'eraser', tests.org('ada'));
select is(public.delete_analytics_person(person_id => :'una') -> 'events', '6', 'a key may, too');
rollback to savepoint whole;
select is(public.delete_analytics_person(anonymous_id => 'nobody'), '{"persons": 0, "events": 0, "quarantined": 0, "complete": true}', 'an id that means nobody');
select is(public.delete_analytics_person(user_id => 'una-browser') -> 'persons', '0', 'the id of a browser is none of a user');
rollback to savepoint whole;

-- ---- more events than a call has time for
select tests.act_as_superuser();
-- Those of one transaction have one time.
update public.events as e set created_at = e.created_at - e.message_id::integer * interval '1 second', "timestamp" = e."timestamp" - interval '1 minute' where e.org_id = tests.org('ada');
select results_eq(
  format($$select n, private.analytics_delete_person(%1$L, private.analytics_find_subject(%1$L, null, 'una', null), 2) from generate_series(1, 4) as n$$, tests.org('ada')),
  $$values (1, '{"persons": 0, "events": 2, "quarantined": 3, "complete": false}'::jsonb), (2, '{"persons": 0, "events": 2, "quarantined": 0, "complete": false}'),
    (3, '{"persons": 1, "events": 2, "quarantined": 0, "complete": true}'), (4, '{"persons": 0, "events": 0, "quarantined": 0, "complete": true}')$$,
  'several calls go on, and the last one ends it'
);

-- ---- persons whose last event is over
rollback to savepoint whole;
select tests.act_as_superuser();
update public.persons set last_seen_at = kijko.now() - case when user_id = 'una' then interval '403 days' else interval '401 days' end where org_id = tests.org('ada');
select is((select array_agg(private.analytics_purge_persons(tests.org('ada'), n)) from generate_series(1, 2) as n), '{1,0}', 'a person goes after 402 days');
select results_eq(
  format($$select 'person', p.user_id from public.persons as p where p.org_id = %1$L union all select i.kind, i.external_id from private.analytics_identities as i where i.organization = %1$L
    union all select 'merged', m.person_id::text from private.analytics_merges as m where m.organization = %1$L$$, tests.org('ada')),
  $$values ('person', 'duo'), ('user', 'duo')$$, 'with ids and merges, and nobody else'
);

select * from finish();
rollback;
