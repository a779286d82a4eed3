-- Product events: who sends and reads them, what track() makes of messages, persons and merges.
begin;
\ir 000_helpers.sql
select plan(128);

create function tests.message(name text, who text, id text, more jsonb default '{}') returns jsonb language sql as $$
  select jsonb_strip_nulls(jsonb_build_object('type', 'track', 'event', name, 'userId', who, 'messageId', id)) || more
$$;
create function tests.send(variadic messages jsonb[]) returns jsonb language sql as $$ select public.track(to_jsonb(messages)) $$;
create function tests.roll() returns void language plpgsql as $$
begin
  -- After that of pg_cron, beside which there is none.
  perform pg_advisory_xact_lock(hashtextextended('analytics_rollups', 0));
  while private.analytics_roll_changes() > 0 loop end loop;
end
$$;
create function tests.ask(more jsonb) returns jsonb language sql as $$
  select public.analytics_series(jsonb_build_object('event', 'Ordered', 'from', date_trunc('hour', kijko.now(), 'UTC') - interval '1 day', 'until', date_trunc('hour', kijko.now(), 'UTC') + interval '1 hour') || more)
$$;
create function tests.reached(more jsonb) returns jsonb language sql as $$
  select jsonb_agg(array(select s -> 'persons' from jsonb_array_elements(f -> 'steps') as s) order by f ->> 'value')
  from jsonb_array_elements(public.analytics_funnel(jsonb_build_object('steps', '[{"event": "Seen"}, {"event": "Bought"}]'::jsonb, 'from', kijko.now() - interval '4 days') || more) -> 'funnels') as f
$$;

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.join_org('mem', tests.org('ada'), 'member');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.act_as('ada');
select tests.make_key(tests.org('ada'), '["events:ingest"]') as sender \gset
select tests.make_key(tests.org('ada'), '["analytics:read", "skills:write"]') as reader \gset
insert into public.api_keys (org_id, name, permissions, kind, origins, daily_quota)
values (tests.org('ada'), 'page', '["events:ingest"]', 'publishable', '{https://a.example}', 1000) returning id as page \gset
select is(
  tests.send(tests.message('Ordered', 'u1', 'm1', '{"properties": {"total": 5, "plan": "pro"}}')),
  '{"accepted": 1, "duplicates": 0, "dropped": 0, "quarantined": 0}', 'an event is taken'
);
insert into public.dashboards (name) values ('Growth') returning id as dashboard \gset
insert into public.analytics_queries (dashboard_id, name, kind, query)
values (:'dashboard', 'Orders', 'series', '{"event": "Ordered", "from": {"days": 7}}') returning id as query \gset

-- ---- unauthenticated callers, non-members, keys and colleagues first
select tests.act_as_anon();
select throws_ok('select * from public.events', '42501', null, 'anon reads nothing');
select throws_ok($$select public.track('[]')$$, '42501', null, 'anon sends nothing');
select tests.act_as('bob');
select is((select count(*) from public.events) + (select count(*) from public.persons) + (select count(*) from public.event_intake)
  + (select count(*) from public.quarantined_events) + (select count(*) from public.analytics_queries) + (select count(*) from public.dashboards),
  0::bigint, 'a non-member reads nothing');
select is(public.analytics_series('{"event": "Ordered", "from": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"}') #> '{series,0,total}', '0', 'and counts nothing');
select tests.refuses(format('select public.run_analytics_query(%L)', :'query'), 'not_found', 'nor runs a query of theirs');
select throws_ok(format($$insert into public.dashboards (org_id, name) values (%L, 'x')$$, tests.org('ada')), '42501', null, 'nor writes');
select throws_ok('select * from private.analytics_identities', '42501', null, 'what is private is private');
select tests.act_as_key(:'sender', tests.org('ada'));
select is_empty('select 1 from public.events', 'a key that sends reads nothing');
select tests.refuses($$select public.analytics_series('{}')$$, 'permission_denied', 'and asks nothing');
select tests.act_as_key(:'reader', tests.org('ada'));
select tests.refuses($$select public.track('[]')$$, 'permission_denied', 'a key that reads sends nothing');
select is((select count(*) from public.events), 1::bigint, 'and reads');
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.events), 1::bigint, 'a viewer reads events');
select tests.refuses($$select public.track('[]')$$, 'permission_denied', 'and sends none');
select throws_ok($$insert into public.dashboards (name) values ('x')$$, '42501', null, 'nor makes dashboards');
select throws_ok($$update public.events set name = 'x'$$, '42501', null, 'nobody changes events');
select tests.act_as('mem', tests.org('ada'));
select is(tests.changed($$insert into public.event_properties (event_name, property, kind) values ('Ordered', 'plan', 'dimension'), ('Ordered', 'total', 'measure')$$), 2::bigint, 'a member says what is summed up');

-- ---- messages: once within a day, and those that cannot be used
select tests.act_as_key(:'sender', tests.org('ada'));
select is(tests.send(tests.message('Ordered', 'u1', 'm1'), tests.message('Ordered', 'u2', 'm2'), tests.message('Ordered', 'u2', 'm2')),
  '{"accepted": 1, "duplicates": 2, "dropped": 0, "quarantined": 0}', 'a message counts once, in a batch and in several');
select is(
  public.track('[
    7, {"type": "vote"}, {"type": "track", "userId": "u"}, {"type": "track", "event": "x"}, {"type": "alias", "userId": "u"}, {"type": "group", "userId": "u"},
    {"type": "track", "event": "x", "userId": "u", "properties": []}, {"type": "track", "event": "x", "userId": "u", "timestamp": "yesterday"},
    {"type": "track", "event": "x", "userId": "u", "timestamp": "2001-01-01T00:00:00Z"}, {"type": "identify", "userId": {"a": 1}}
  ]'), '{"accepted": 0, "duplicates": 0, "dropped": 0, "quarantined": 10}', 'what cannot be used is quarantined'
);
select is(tests.send(tests.message('x', 'u', 'large', jsonb_build_object('properties', jsonb_build_object('a', repeat('x', 40000))))) ->> 'quarantined', '1', 'what is too large, too');
-- Numbers that take ten bytes and would be 131 KB of text, and what is no object.
select is(
  public.track(jsonb_build_array(
    tests.message('x', 'u', 'n1', '{"properties": {"a": [{"b": 1e131071}]}}'), tests.message('x', 'u', 'n2', '{"context": {"a": 1e-16383}}'),
    tests.message('x', 'u', 'n3', '{"userId": 1e131071}'), 1e131071, repeat('x', 40000), (select jsonb_agg(0) from generate_series(1, 40000))
  )), '{"accepted": 0, "duplicates": 0, "dropped": 0, "quarantined": 6}', 'numbers and texts beyond measure are too large, too'
);
select is(
  public.track(jsonb_build_array(tests.message('x', 'u', 'n5', '{"properties": {"a": 0e-16383}}'), tests.message('x', 'u', 'n7', ('{"properties": {"a": 0.' || repeat('1', 401) || '}}')::jsonb),
    tests.message('x', 'u', 'n6', jsonb_build_object('properties', jsonb_build_object('a', repeat('x', 40000)))))),
  '{"accepted": 0, "duplicates": 0, "dropped": 0, "quarantined": 3}', 'also one by one'
);
select is(tests.send(tests.message('Number', 'u1', 'n4', '{"properties": {"a": 1.5e300, "b": -2e-300}}')) ->> 'accepted', '1', 'numbers of a client are not');
select tests.refuses($$select public.track('{}')$$, 'invalid_input', 'no array');
select tests.refuses($$select public.track((select jsonb_agg(n) from generate_series(1, 2501) as n))$$, 'invalid_input', 'too many');
select tests.act_as('vic', tests.org('ada'));
select results_eq(
  'select code from public.quarantined_events order by code',
  array['invalid_properties', 'invalid_time', 'invalid_time', 'invalid_type', 'invalid_type', 'missing_event', 'missing_group_id', 'missing_identity', 'missing_identity', 'missing_previous_id', 'too_large', 'too_large', 'too_large', 'too_large', 'too_large', 'too_large', 'too_large', 'too_large', 'too_large', 'too_large'],
  'members see why'
);
select is((select count(message) from public.quarantined_events where code = 'too_large'), 0::bigint, 'a large one is not kept');
select is((select (sum(accepted), sum(duplicates), sum(dropped), sum(quarantined))::text from public.event_intake), '(3,2,0,20)', 'and how many');
select is(tests.used(tests.org('ada'), 'events'), 3::bigint, 'accepted events are metered, others are not');

-- ---- clocks
-- A pattern that ended at the 28th made intake slow on the last days of a month.
select tests.act_as_superuser();
select is_empty(
  $$select d from generate_series('2028-01-01Z'::timestamptz, '2028-12-31Z', interval '1 day') as d
    where private.analytics_read_time(to_jsonb(to_char(d at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))) is distinct from d$$,
  'every day of a year is a time'
);
select results_eq(
  $$select t from unnest(array['2028-02-30', '2028-04-31', '2028-01-32', '2028-13-01', '2028-00-10', '2028-06-00']) as t
    where private.analytics_read_time(to_jsonb(t || 'T10:00:00Z')) is not null$$, array[]::text[], 'a day that is none is not'
);
select is(private.analytics_read_time(to_jsonb(t.text)), t.moment, 'a time: ' || left(t.text, 50)) from (values
  ('2028-06-01T10:00:00.123456Z', '2028-06-01 10:00:00.123456Z'::timestamptz), ('2028-06-01T10:00:00+0530', '2028-06-01 04:30:00Z'),
  ('2028-06-01t10:00:00z', '2028-06-01 10:00:00Z'), ('2028-06-01', '2028-06-01 00:00:00Z'), ('2028-06-01T23:59:60Z', '2028-06-02 00:00:00Z'),
  ('2028-06-01T10:00:00Z[UTC]', null), ('20280601T100000Z', null), ('0999-06-01T10:00:00Z', null), ('3000-06-01T10:00:00Z', null),
  ('+002028-06-01T10:00:00Z', null), ('now', null), ('infinity', null), (rpad('2028-06-01T10:00:00.', 41, '0'), null)
) as t (text, moment);
select tests.act_as_key(:'sender', tests.org('ada'));
select tests.send(
  tests.message('Clock', 'c', 'slow', '{"timestamp": "2020-01-01T00:00:00.000Z", "sentAt": "2020-01-01T00:10:00.000Z"}'),
  tests.message('Clock', 'c', 'ahead', jsonb_build_object('timestamp', kijko.now() + interval '2 days')),
  tests.message('Clock', 'c', 'past', jsonb_build_object('originalTimestamp', kijko.now() - interval '3 days'))
);
select tests.act_as('ada');
select results_eq(
  $$select message_id, created_at - "timestamp" from public.events where name = 'Clock' order by 1$$,
  $$values ('ahead', interval '0'), ('past', interval '3 days'), ('slow', interval '10 minutes')$$, 'clocks are corrected, and nothing is in the future'
);
select tests.act_as_key(:'sender', tests.org('ada'));
select is(tests.send(
  tests.message('Clock', 'c', 'far', '{"timestamp": "0001-01-01T00:00:00Z", "sentAt": "9999-12-31T23:59:59Z"}'),
  tests.message('Clock', 'c', 'farther', '{"timestamp": "2999-01-01 BC", "sentAt": "2999-12-31T00:00:00Z"}'), tests.message('Clock', 'c', 'near')
), '{"accepted": 1, "duplicates": 0, "dropped": 0, "quarantined": 2}', 'times whose difference is beyond all times spoil no other message');

-- ---- persons
select tests.act_as_key(:'sender', tests.org('ada'));
select tests.send('{"type": "page", "anonymousId": "a1", "messageId": "p1"}'), tests.send(tests.message('Viewed', null, 'p2', '{"anonymousId": "a1"}'));
select tests.send('{"type": "identify", "anonymousId": "a1", "userId": "u1", "traits": {"name": "Una"}, "messageId": "p3"}');
-- The same browser, another user.
select tests.send('{"type": "identify", "anonymousId": "a1", "userId": "u2", "traits": {"name": "Duo"}, "messageId": "p4"}');
select tests.act_as('ada');
select results_eq($$select user_id, traits from public.persons where user_id in ('u1', 'u2') order by 1$$,
  $$values ('u1', '{"name": "Una"}'::jsonb), ('u2', '{"name": "Duo"}')$$, 'users keep their traits');
select is((select count(*) from public.persons where user_id is null), 0::bigint, 'a visitor became the user who signed in first');
select tests.act_as_key(:'sender', tests.org('ada'));
select tests.send('{"type": "page", "anonymousId": "a2", "messageId": "s1"}'), tests.send(tests.message('Came', 's1', 's2'), tests.message('Came', 's2', 's3'));
select tests.send(tests.message('Shared', 's1', 's4', '{"anonymousId": "a2"}'), tests.message('Shared', 's2', 's5', '{"anonymousId": "a2"}'));
select tests.act_as('ada');
select results_eq($$select user_id from public.persons where user_id in ('s1', 's2') order by 1$$, $$values ('s1'), ('s2')$$, 'two users of one browser in one batch stay two');
select is((select count(distinct person_id) from public.events where name = 'Shared'), 2::bigint, 'and so do their events');
select is(
  public.analytics_funnel(jsonb_build_object('steps', '[{"event": "Viewed"}]'::jsonb, 'breakdown', 'none', 'from', kijko.now() - interval '1 day', 'until', kijko.now() + interval '1 second')) #> '{funnels,0,steps,0,persons}',
  '1', 'merges count for the past'
);
select tests.act_as_key(:'sender', tests.org('ada'));
-- One update of a person for a call, and none that changes nothing.
select tests.send(
  tests.message(null, 'u1', 't2', '{"type": "identify", "traits": {"seat": 2, "at": 2}}'), tests.message(null, 'u1', 't3', '{"type": "identify", "traits": {"seat": 3}}'),
  tests.message(null, 'u1', 't1', jsonb_build_object('type', 'identify', 'traits', '{"seat": 1, "name": "U"}'::jsonb, 'timestamp', kijko.now() - interval '1 hour'))
);
select tests.act_as('ada');
select is((select traits from public.persons where user_id = 'u1'), '{"at": 2, "name": "U", "seat": 3}', 'the last trait counts, by time and then by place');
select tests.send(tests.message(null, 'u1', 't5', jsonb_build_object('type', 'identify', 'traits', jsonb_build_object('a', repeat('x', 30000))))),
  tests.send(tests.message(null, 'u1', 't6', jsonb_build_object('type', 'identify', 'traits', jsonb_build_object('b', repeat('x', 30000)))));
select is((select octet_length(traits::text) > 60000 from public.persons where user_id = 'u1'), true, 'traits up to 64 KiB');
select (select p.ctid::text from public.persons as p where user_id = 'u1') as place \gset
select tests.send(tests.message(null, 'u1', 't7', jsonb_build_object('type', 'identify', 'traits', jsonb_build_object('c', repeat('x', 9000))))),
  tests.send(tests.message(null, 'u1', 't8', '{"type": "identify", "traits": {"seat": 3}}'));
select is((select p.ctid::text from public.persons as p where user_id = 'u1'), :'place', 'what is more, or nothing new, writes nothing');
select tests.act_as_key(:'page', tests.org('ada'));
select tests.refuses($$select public.track((select jsonb_agg(n) from generate_series(1, 101) as n))$$, 'invalid_input', 'a page sends at most 100');
select is(public.track((select jsonb_agg(n) from generate_series(1, 100) as n)) ->> 'quarantined', '100', 'which are taken')
from generate_series(1, 9);
select is(public.track((select jsonb_agg(n) from generate_series(1, 99) as n)) ->> 'quarantined', '99', 'up to 1,000 a minute');
select tests.refuses($$select public.track((select jsonb_agg(n) from generate_series(1, 100) as n))$$, 'rate_limited', 'no more');
select tests.send('{"type": "alias", "userId": "u1", "previousId": "u2", "messageId": "p5"}');
select tests.act_as('ada');
select is((select count(*) from public.persons where user_id in ('u1', 'u2')), 2::bigint, 'a publishable key joins no two users');
select tests.send('{"type": "alias", "userId": "u1", "previousId": "u2", "messageId": "p6"}');
select is((select count(*) from public.persons where user_id in ('u1', 'u2')), 1::bigint, 'a member does');

-- ---- series
select tests.act_as_superuser();
select tests.roll();
select is_empty(format('select 1 from private.analytics_changes where organization = %L', tests.org('ada')), 'changed hours are summed up');
select tests.act_as('mem', tests.org('ada'));
update public.event_properties set kind = kind;
update public.event_properties set kind = 'measure' where property = 'plan';
update public.event_properties set kind = 'dimension' where property = 'plan';
select tests.refuses(
  $$insert into public.event_properties (event_name, property, kind) select 'Ordered', 'p' || n, 'dimension' from generate_series(1, 10) as n$$,
  'quota_exceeded', 'an event has at most 10 dimensions'
);
select tests.act_as_superuser();
select is(
  (select count(*) from private.analytics_changes where organization = tests.org('ada')),
  (select count(*) from private.analytics_rollups where organization = tests.org('ada') and name = 'Ordered' and property = ''),
  'an hour waits once, however often its properties change'
);
insert into private.analytics_changes (organization, name, hour)
select o.org, 'None', date_trunc('hour', kijko.now(), 'UTC') - n * interval '1 hour' from (values (tests.org('ada')), (tests.org('bob'))) as o (org), generate_series(1, 3) as n order by 1, n;
select private.analytics_roll_changes(1);
select is((select count(*) from private.analytics_changes where organization = tests.org('bob')), 2::bigint, 'who was never served is next');
select private.analytics_roll_changes(1);
select is((select count(*) from private.analytics_changes where organization = tests.org('bob')), 2::bigint, 'and then another is');
savepoint broken;
select set_config('tests.broken', tests.org('ada')::text, true) as broken \gset
create or replace function private.analytics_roll_totals(org uuid, names text[], hours timestamptz[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if org::text = current_setting('tests.broken') then raise query_canceled; end if;
end
$$;
select count(*) as waiting from private.analytics_changes where organization = tests.org('ada') \gset
select tests.roll();
select is((select count(*) from private.analytics_changes where organization = tests.org('ada')), :waiting::bigint, 'hours that take too long wait again');
select is((select count(*) from private.analytics_changes where organization = tests.org('bob')), 0::bigint, 'and others do not wait for them');
select is((select (r.failures, r.paused_until > clock_timestamp())::text from private.analytics_revisions as r where r.organization = tests.org('ada')), '(1,t)', 'their organization pauses');
update private.analytics_revisions set paused_until = '-infinity' where organization = tests.org('ada');
select is(private.analytics_roll_changes(), 1, 'then one hour is tried at a time');
select is((select (r.failures, r.paused_until > clock_timestamp() + interval '100 seconds')::text from private.analytics_revisions as r where r.organization = tests.org('ada')), '(2,t)', 'and the pause grows');
rollback to broken;
update private.analytics_revisions set failures = 3 where organization = tests.org('ada');
select tests.roll();
select is((select r.failures from private.analytics_revisions as r where r.organization = tests.org('ada')), 0, 'when nothing waits any more it is forgotten');
select tests.act_as('vic', tests.org('ada'));
select is(tests.ask('{}') - 'series' || jsonb_build_object('total', tests.ask('{}') #> '{series,0,total}'), '{"source": "rollups", "cached": false, "total": 2}', 'a count, from rollups');
select is(tests.ask('{}') -> 'cached', 'true', 'asked again, from the cache');
-- The permission first, then the cache. Another organization that asks the same has an answer of its own.
select tests.act_as('bob');
select is(tests.ask('{}') - 'series' || jsonb_build_object('total', tests.ask('{}') #> '{series,0,total}'), '{"source": "rollups", "cached": false, "total": 0}', 'not of another organization');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select tests.ask('{}')$$, 'not_a_member', 'nor for a non-member');
select tests.act_as_key(:'sender', tests.org('ada'));
select tests.refuses($$select tests.ask('{}')$$, 'permission_denied', 'nor for a key that sends');
select tests.act_as_superuser();
select is(tests.by_key(:'reader', $$select tests.ask('{}') -> 'cached'$$, tests.org('ada')), 'true', 'a key that may read has it');
savepoint gone;
select tests.act_as_superuser();
delete from public.memberships where org_id = tests.org('ada') and user_id = tests.id('vic');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses($$select tests.ask('{}')$$, 'not_a_member', 'who has left has it no more');
select tests.refuses(format('select public.run_analytics_query(%L)', :'query'), 'not_a_member', 'nor a saved query');
rollback to savepoint gone;
-- Events that come late: the answer is made anew once their hours are summed up.
savepoint delayed;
select tests.act_as_superuser();
create function tests.month() returns text language sql as $$
  select concat_ws(' ', a.answer -> 'cached', a.answer #> '{series,0,total}')
  from (select public.analytics_series(jsonb_build_object('event', 'Late', 'from', date_trunc('day', kijko.now(), 'UTC') - interval '40 days', 'until', date_trunc('day', kijko.now(), 'UTC'))) as answer) as a
$$;
select tests.act_as('vic', tests.org('ada'));
select is(tests.month(), 'false 0', 'before');
select tests.act_as_key(:'sender', tests.org('ada'));
select is(tests.send(
  tests.message('Late', 'u1', 'late1', jsonb_build_object('timestamp', kijko.now() - interval '30 days')),
  tests.message('Late', 'u1', 'late2', jsonb_build_object('timestamp', kijko.now() - interval '25 hours', 'sentAt', kijko.now() + interval '1 day')),
  tests.message('Late', 'u1', 'late1', jsonb_build_object('timestamp', kijko.now() - interval '2 days'))
), '{"accepted": 2, "duplicates": 1, "dropped": 0, "quarantined": 0}', 'events of 30 days ago and of a wrong clock');
select tests.act_as('vic', tests.org('ada'));
select is(tests.month(), 'true 0', 'until they are summed up the answer is that of before');
select tests.act_as_superuser();
select tests.roll();
select tests.act_as('vic', tests.org('ada'));
select is(tests.month(), 'false 2', 'then it is made anew');
rollback to savepoint delayed;
select tests.act_as('vic', tests.org('ada'));
savepoint late;
select tests.act_as('mem', tests.org('ada'));
insert into public.event_properties (event_name, property, kind) values ('Ordered', 'plan2', 'dimension'), ('Ordered', 'total2', 'measure');
select is(tests.ask('{"breakdown": "plan2"}') #- '{series,0,points}', '{"source": "events", "cached": false, "series": [{"value": "", "total": 2}]}', 'a new dimension is counted from events');
select is(tests.ask('{"measure": "sum", "property": "total2"}') -> 'source', '"events"', 'as a new measure is');
select tests.act_as_superuser();
select tests.roll();
select tests.act_as('vic', tests.org('ada'));
select is(tests.ask('{"breakdown": "plan2", "interval": "week"}') -> 'source', '"rollups"', 'until they are summed up');
select is(tests.ask('{"measure": "sum", "property": "total2", "interval": "week"}') -> 'source', '"rollups"', 'both');
rollback to savepoint late;
savepoint many;
select tests.act_as_superuser();
delete from private.analytics_answers where organization in (tests.org('ada'), tests.org('bob'));
insert into private.analytics_answers (organization, permission, query, revision, covers_until, answer, answered_at)
select o.org, 'analytics:read', sha256(n::text::bytea), private.analytics_revision(o.org) - (n <= 100)::integer, kijko.now(), '{}', kijko.now() - n * interval '1 second'
from (values (tests.org('ada')), (tests.org('bob'))) as o (org), generate_series(1, 500) as n;
select tests.act_as('vic', tests.org('ada'));
select is(tests.ask('{"interval": "month"}') -> 'cached', 'false', 'with 500 answers a new one is made');
select is(tests.ask('{"interval": "month"}') -> 'cached', 'true', 'and kept');
select tests.act_as_superuser();
select results_eq(
  $$select o.org = tests.org('ada'), count(*), count(*) filter (where a.revision < private.analytics_revision(o.org))
    from (values (tests.org('ada')), (tests.org('bob'))) as o (org) join private.analytics_answers as a on a.organization = o.org group by o.org order by 1 desc$$,
  $$values (true, 500::bigint, 99::bigint), (false, 500::bigint, 100::bigint)$$,
  'in place of one of a former revision, of the same organization'
);
rollback to savepoint many;
savepoint hour;
select tests.act_as_superuser();
-- A call that sums up an hour may have begun before its end, and then takes no new revision.
create function tests.asked(after interval) returns jsonb language sql as $$
  select tests.travel(date_trunc('hour', now()) + interval '1 hour' + after - now());
  select public.analytics_series(jsonb_build_object('event', 'Ordered', 'from', date_trunc('hour', now()) - interval '1 day', 'until', date_trunc('hour', now()) + interval '1 hour')) -> 'cached';
$$;
select tests.act_as('vic', tests.org('ada'));
select results_eq(
  $$select a.after, tests.asked(a.after::interval) from unnest('{2 minutes,6 minutes,8 minutes,9 hours}'::text[]) as a (after)$$,
  $$values ('2 minutes', 'false'::jsonb), ('6 minutes', 'true'), ('8 minutes', 'false'), ('9 hours', 'true')$$,
  'an answer of just after the hour is used for 5 minutes, a later one for longer'
);
rollback to savepoint hour;
select is(tests.ask('{"measure": "persons"}') #> '{series,0,total}', '1', 'persons, merged');
select is(tests.ask('{"measure": "sum", "property": "total"}') #>> '{series,0,total}', '5', 'a measure');
select is(
  (select jsonb_object_agg(s ->> 'value', s -> 'total') from jsonb_array_elements(tests.ask('{"breakdown": "plan"}') -> 'series') as s), '{"": 1, "pro": 1}', 'a dimension'
);
select is(tests.ask('{"filters": [{"property": "total", "op": "gt", "value": 4}]}') - 'series', '{"source": "events", "cached": false}', 'filters read events');
select is(tests.ask('{"filters": [{"property": "plan", "op": "in", "value": ["pro", "$value''; drop table x; --"]}]}') #> '{series,0,total}', '1', 'and values are literals');
select is(tests.ask('{"time_zone": "Asia/Kolkata"}') -> 'source', '"events"', 'a zone of half hours reads events');
-- Its clock changes by half an hour, so its days begin within our hours in winter only.
select is(
  public.analytics_series('{"event": "Ordered", "from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z", "time_zone": "Australia/Lord_Howe"}') -> 'source', '"events"', 'also one of half hours in winter'
);
select is(
  (select count(*) from jsonb_array_elements(public.analytics_series('{"event": "Ordered", "from": "2026-04-04T13:00:00Z", "until": "2026-04-04T17:00:00Z", "interval": "hour", "time_zone": "Australia/Lord_Howe"}') #> '{series,0,points}')),
  5::bigint, 'whose hours are counted as they are'
);
select is(jsonb_array_length(tests.ask('{"interval": "hour"}') #> '{series,0,points}'), 25, 'every interval has a point');
select tests.act_as_superuser();
select matches(
  private.analytics_series_sql(tests.org('ada'), private.analytics_read_series('{"event": "Ordered", "measure": "persons", "breakdown": "plan", "from": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}'), r, 'all'),
  'null::double precision as result', 'the most frequent values are found without counting persons' || case when r then ', from rollups' else '' end
) from unnest('{t,f}'::boolean[]) as r;
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select tests.ask(%L)', q.query), 'invalid_input', 'refused: ' || q.query)
from (values ('{"more": 1}'), ('{"measure": "median"}'), ('{"time_zone": "Mars"}'), ('{"filters": [{"property": "a", "op": "like", "value": "%"}]}'), ('{"from": "2000-01-01T00:00:00Z"}')) as q (query);

-- ---- funnels and retention
select tests.act_as_key(:'sender', tests.org('ada'));
select tests.send(variadic array(
  select tests.message(e.name, e.who, e.name || e.who, jsonb_build_object('timestamp', kijko.now() - e.ago, 'properties', jsonb_build_object('flag', e.flag)))
  from (values
    ('Seen', 'f1', interval '50 hours', true), ('Bought', 'f1', interval '49 hours', true), ('Seen', 'f2', interval '50 hours', false), ('Bought', 'f2', interval '10 hours', false),
    ('Bought', 'f3', interval '50 hours', true), ('Seen', 'f3', interval '49 hours', true)
  ) as e (name, who, ago, flag)
));
select tests.act_as('vic', tests.org('ada'));
select is(tests.reached('{}'), '[[3, 1]]', 'a funnel in order and in time');
select is(tests.reached('{"window_seconds": 200000}'), '[[3, 2]]', 'with a longer window');
select is(tests.reached('{"breakdown": "flag"}'), '[[1, 0], [2, 1]]', 'by a property of the first step');
select is(
  (select jsonb_agg(c -> 'persons') from jsonb_array_elements(public.analytics_retention(jsonb_build_object(
    'start', '{"event": "Seen"}'::jsonb, 'return', '{"event": "Bought"}'::jsonb, 'from', kijko.now() - interval '60 hours', 'interval', 'week')) -> 'cohorts') as c where c -> 'persons' <> '0'),
  '[3]', 'a cohort'
);
select is(public.run_analytics_query(:'query') #> '{series,0,total}', '2', 'a saved query is answered');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$insert into public.analytics_queries (name, kind, query) values ('x', 'funnel', '{"steps": []}')$$, 'invalid_input', 'one that cannot be is refused');

-- ---- the plan's limit
select tests.act_as_superuser();
update public.subscriptions set plan = 'FREE' where org_id = tests.org('ada');
select kijko.try_consume(tests.org('ada'), 'events', 100000 - tests.used(tests.org('ada'), 'events') - 1) is not null as consumed \gset
select tests.act_as_key(:'sender', tests.org('ada'));
select is(tests.send(tests.message('Over', 'u9', 'o1'), tests.message('Over', 'u9', 'o2')), '{"accepted": 1, "duplicates": 0, "dropped": 1, "quarantined": 0}', 'what is over the limit is dropped');
select is(tests.send(tests.message('Over', 'u9', 'o3')), '{"accepted": 0, "duplicates": 0, "dropped": 1, "quarantined": 0}', 'all of it, later');
select tests.act_as_superuser();
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.act_as_key(:'sender', tests.org('ada'));
select is(tests.send(tests.message('Over', 'u9', 'o1'), tests.message('Over', 'u9', 'o2')), '{"accepted": 1, "duplicates": 1, "dropped": 0, "quarantined": 0}', 'what was dropped is no duplicate when the plan grows');

-- ---- days are over
select tests.act_as_superuser();
select is((select count(*) from private.events_default where org_id = tests.org('ada')), 0::bigint, 'there is a day for each event');
insert into public.events (org_id, type, name, person_id, message_id, "timestamp", created_at)
select tests.org('ada'), 'track', 'Ancient', gen_random_uuid(), n, kijko.now() - n * interval '1 day', kijko.now() - n * interval '1 day' from (values (398), (402)) as d (n);
select is(private.analytics_drop_partitions(), 0, 'no day is over');
select results_eq($$select message_id from private.events_default where org_id = tests.org('ada')$$, $$values ('398')$$, 'events whose day was not made in time go when it would');
select tests.refuses($$select private.analytics_drop_partitions('399 days')$$, 'invalid_input', 'and not before');

select * from finish();
rollback;
