-- Reports, explanations, and events of other services. kijko.now() does not advance, so that periods and rates are known.
\set SHOW_CONTEXT never
\pset null '<null>'
set timezone to 'UTC';
set datestyle to iso;
create function u(n integer) returns uuid language sql immutable as $$ select ('99999999-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
create function event(id text, fields jsonb default '{}') returns jsonb language sql stable as $$
    select jsonb_build_object('specversion', '1.0', 'source', '/build', 'id', id, 'type', 'build.done', 'time', kijko.now(), 'data', '{"minutes": 5}'::jsonb) || fields
$$;
begin;
-- Noon of the 16th of a month of 30 days: half of the month and half a day.
select set_config('kijko.clock_offset', extract(epoch from timestamptz '2027-04-16 12:00Z' - now())::text || ' s', true) is not null as travelled;
select to_char(kijko.now(), 'YYYY-MM-DD HH24:MI') as present;
select kijko.set_limit(u(1), 'calls', 'month', 100);
select kijko.set_limit(u(1), 'seats', 'lifetime', 5);
select kijko.set_limit(u(1), 'tokens', 'month', 10, 'flag');
-- Uses of a former day, of this week and of now, with and without attributes.
select kijko.record_usage(u(1), 'calls', 10, '2027-04-02 23:30Z', null, '{"member": "ada", "skill": "sum"}');
select kijko.record_usage(u(1), 'calls', 14, '2027-04-15 12:00Z', null, '{"member": "bob"}');
select used from kijko.consume_many(array[u(1)], 'calls', 7, null, '{"member": "ada"}');
select used from kijko.adjust_gauge(u(1), 'seats', 2);
select used from kijko.consume(u(1), 'tokens', 12);
select * from kijko.usage_by(u(1), 'day');
select * from kijko.usage_by(u(1), 'member', 'calls');
select * from kijko.usage_by(u(1), 'skill', 'calls', '2027-04-15', '2027-04-16');
select * from kijko.usage_by(u(1), 'day', 'calls', until => '2027-04-02');
select * from kijko.usage_by(u(1), 'day', 'unknown');
select * from kijko.usage_by(u(2), 'day');
select * from kijko.usage_forecast(u(1));
-- A lifetime that will end has an end, but no rate.
select kijko.set_limit(u(8), 'calls', 'lifetime', 5);
select kijko.set_limit(u(8), 'calls', 'month', 5);
select reset_at from kijko.usage(u(8));
select * from kijko.usage_forecast(u(8));
select meter, period_start, threshold, used, "limit" from kijko.list_threshold_crossings(u(1));
select count(*) from kijko.list_threshold_crossings(u(1), kijko.now() + interval '1 second');
-- Each crossing is taken until it is handled, and a rollback gives it back.
savepoint crossings;
select kijko.set_limit(u(7), 'calls', 'month', 10);
select used from kijko.consume(u(7), 'calls', 9);
rollback to crossings;
select count(*) from kijko.threshold_crossings where subject = u(7);
select kijko.set_limit(u(7), 'calls', 'month', 10);
select used from kijko.consume(u(7), 'calls', 9);
select used from kijko.consume(u(7), 'calls', 1);
savepoint crossings;
select count(*) > 0 as taken from kijko.take_threshold_crossings(1);
select meter, threshold, used, "limit" from kijko.take_threshold_crossings() where subject = u(7);
select count(*) from kijko.take_threshold_crossings();
rollback to crossings;
select count(*) from kijko.take_threshold_crossings(1000, '0 seconds') where subject = u(7);
select threshold, kijko.end_threshold_crossing(subject, meter, period_start, threshold) from kijko.take_threshold_crossings(1000, '1 hour') where subject = u(7) and threshold > 50;
select kijko.end_threshold_crossing(u(7), 'calls', c.period_start, 100::smallint) from kijko.threshold_crossings as c where c.subject = u(7) and threshold = 100;
select threshold, take_at is null as done, take_at > now() as later from kijko.threshold_crossings where subject = u(7) order by 1;
select count(*) from kijko.take_threshold_crossings() where subject = u(7);
-- With another calendar the same use counts on another day.
select kijko.set_calendar(u(3), 'Asia/Kolkata');
select kijko.record_usage(u(3), 'calls', 1, '2027-04-02 23:30Z');
select value, used from kijko.usage_by(u(3), 'day');
-- Explanations.
create function brief(subject uuid, meter text) returns table (key text, value jsonb) language sql as $$
    select e.key, case when e.key = 'rows' then jsonb_set(e.value, '{latest}', to_jsonb(jsonb_array_length(nullif(e.value -> 'latest', 'null')))) else e.value end
    from jsonb_each(jsonb_strip_nulls(kijko.explain_limit(subject, meter)) #- '{threshold_crossings,0,crossed_at}' #- '{threshold_crossings,1,crossed_at}' #- '{threshold_crossings,2,crossed_at}') as e order by 1
$$;
select kijko.correct_usage(u(1), 'calls', -1, 'counted twice', actor => 'support');
select kijko.reserve(u(1), 'calls', 20) is not null as held;
select * from brief(u(1), 'calls');
select * from jsonb_array_elements(kijko.explain_limit(u(1), 'calls') #> '{rows,latest}') as l where l ->> 'kind' = 'correction';
select * from brief(u(1), 'tokens');
select kijko.set_limit(u(1), 'calls', 'day', 40);
select kijko.explain_limit(u(1), 'calls') -> 'limit' as changing;
savepoint here;
select kijko.set_limit(u(1), 'calls', 'month', 1);
select value as answer from brief(u(1), 'calls') where key = 'answer';
rollback to here;
select kijko.set_limit(u(1), 'seats', 'lifetime', 2);
select value as answer from brief(u(1), 'seats') where key in ('answer', 'refuses');
select e ->> 'answer' as nothing_known, e ->> 'remaining' as remaining from kijko.explain_limit(u(9), 'calls') as e;
select kijko.set_limit(u(9), 'calls', 'month', null);
select kijko.explain_limit(u(9), 'calls') ->> 'remaining' as remaining;
-- Events: missing or malformed arguments.
\set rules '{"build.done": {"meter": "own.minutes", "field": "minutes"}, "seen": {"meter": "own.views"}}'
select * from kijko.ingest_usage(u(4), '[]', :'rules');
select number, status, code, reason from kijko.ingest_usage(u(4), jsonb_build_array(
    1, '"x"'::jsonb, '[]'::jsonb, null, event('a', '{"specversion": "0.3"}'), event('a') - 'specversion', event(''), event(repeat('x', 256)), event('a', '{"source": ""}'),
    event('a') - 'id', event('a', '{"type": "llm_tokens"}'), event('a') - 'type', event('a', '{"time": "yesterday"}'), event('a', '{"time": "2027-02-30T00:00:00Z"}'),
    event('a', '{"time": "2027-03-12T11:59:59Z"}'), event('a', '{"time": "2027-04-16T12:06:00Z"}'), event('a') - 'data', event('a', '{"data": {"minutes": "5"}}'),
    event('a', '{"data": {"minutes": 0}}'), event('a', '{"data": {"minutes": -3}}'), event('a', '{"data": {"minutes": 1.5}}'), event('a', '{"data": {"minutes": 1e400}}'),
    event('a', '{"data": []}'), event('a', jsonb_build_object('subject', repeat('x', 1001)))
), :'rules');
select count(*) as stored from kijko.ledger where subject = u(4);
-- A mixed batch: a bad event does not fail the others, and an event that occurs twice counts once.
select number, id, status, code from kijko.ingest_usage(u(4), jsonb_build_array(
    event('a', '{"subject": "acme"}'), event('b', '{"time": "2027-03-31T23:59:59Z"}'), event('c', '{"type": "nothing"}'), event('a'), event('d', '{"data": {"minutes": 7, "skill": "lint"}}'),
    event('e', '{"type": "seen"}'), event('a', '{"source": "/deploy"}'), event('f') - 'time'
), :'rules');
select id, status from kijko.ingest_usage(u(4), jsonb_build_array(event('a'), event('b'), event('g')), :'rules');
select meter, period_start, amount, kind, occurred_at, actor, reason, attributes from kijko.ledger where subject = u(4) order by meter, period_start, amount, attributes::text;
select meter, used from kijko.usage(u(4));
select t.source, t.id, e.meter, e.amount from (values ('/build', 'a'), ('/deploy', 'a'), ('/build', 'b'), ('/build', 'c'), ('/build', 'd')) as t(source, id)
left join kijko.ingested_events as e on e.subject = u(4) and e.event = kijko.event_key(t.source, t.id) order by t.id, t.source;
select count(distinct kijko.event_key(s, i)) from (values ('a', 'bc'), ('ab', 'c'), ('', 'abc'), ('1:a', 'bc'), (null, null)) as t(s, i);
-- The same event of another subject is another event.
select status from kijko.ingest_usage(u(5), jsonb_build_array(event('a')), :'rules');
-- An event counts above the limit, too.
select kijko.set_limit(u(5), 'own.minutes', 'month', 6);
select status from kijko.ingest_usage(u(5), jsonb_build_array(event('b')), :'rules');
select used, remaining from kijko.usage(u(5));
rollback;
select kijko.ingest_usage(null, '[]', '{}');
select kijko.ingest_usage(u(1), '[]', null);
select kijko.ingest_usage(u(1), '[]', '[]');
select kijko.ingest_usage(u(1), '{}', '{}');
select kijko.ingest_usage(u(1), null, '{}');
select kijko.ingest_usage(u(1), (select jsonb_agg(n) from generate_series(1, 10001) as n), '{}');
select kijko.ingest_usage(u(1), jsonb_build_array(repeat('x', 8388608)), '{}');
select kijko.usage_by(u(1), 'Day');
select kijko.usage_by(u(1), null);
select kijko.explain_limit(null, 'x');
select kijko.explain_limit(u(1), null);
begin read only;
select count(*) from kijko.usage_by(u(1), 'day');
select kijko.ingest_usage(u(1), '[]', '{}');
rollback;
-- Events are deleted after 36 days.
insert into kijko.ingested_events select u(6), kijko.event_key('s', n::text), 'x', 1, now(), now() - n * interval '1 day' from unnest(array[1, 35, 37, 40]) as n;
select done from kijko.maintain_usage() where task = 'purge_ingested_events';
select n from unnest(array[1, 35, 37, 40]) as n where exists (select from kijko.ingested_events where subject = u(6) and event = kijko.event_key('s', n::text));
drop function event, u;
set client_min_messages = warning;
drop schema if exists kijko_archive cascade;
