-- Functions that parallel workers may run: each is listed with the reason, and answers in a worker as in its leader.
\set VERBOSITY terse
\pset null '<null>'
-- A worker has the leader's settings, snapshot, transaction id and clock. It has nothing that a module keeps in variables of
-- the leader's process, cannot write, and starts no subtransaction.
create table parallel_safe (function regprocedure primary key, reason text not null);
insert into parallel_safe values
    ('kijko.claims()', 'settings, and the login role'),
    ('kijko.claim(text)', 'settings, and the login role'),
    ('kijko.actor()', 'settings, and the table of revoked sessions when the transaction has written'),
    ('kijko.user_id()', 'settings, and the table of revoked sessions when the transaction has written'),
    ('kijko.session_id()', 'settings, and the table of revoked sessions when the transaction has written'),
    ('kijko.api_key_id()', 'a setting'),
    ('kijko.api_key_permissions()', 'a setting'),
    ('kijko.requested_org_id()', 'settings'),
    ('kijko.request_header(text)', 'a setting'),
    ('kijko.is_request()', 'a setting, and the login role'),
    ('kijko.client_address()', 'settings'),
    ('kijko.client_network()', 'settings'),
    ('kijko.token_fault()', 'settings, and the real clock'),
    ('kijko.now()', 'the transaction''s clock, and a setting'),
    ('kijko.platform_org_id()', 'a constant'),
    ('kijko.clamp(numeric)', 'its argument'),
    ('kijko.cron_problem(text,text)', 'its arguments, and the transaction''s clock'),
    ('kijko.cron_check(text,text)', 'its arguments, and the transaction''s clock'),
    ('kijko.cron_latest(text,text,timestamp with time zone)', 'its arguments'),
    ('kijko.cron_latest_unchecked(text,text,timestamp with time zone)', 'its arguments'),
    ('kijko.cron_next(text,text,timestamp with time zone)', 'its arguments'),
    ('kijko.cron_next_unchecked(text,text,timestamp with time zone)', 'its arguments'),
    ('kijko.cron_upcoming(text,text,timestamp with time zone,integer)', 'its arguments'),
    ('kijko.cron_upcoming_unchecked(text,text,timestamp with time zone,integer)', 'its arguments'),
    ('kijko.entitled(uuid,text)', 'tables'),
    ('kijko.flag_enabled(text,jsonb,text)', 'a table, the transaction''s clock, and counts in shared memory'),
    ('kijko.flag_problem(text,jsonb)', 'its arguments'),
    ('kijko.flag_variant(text,jsonb,text)', 'a table, the transaction''s clock, and counts in shared memory'),
    ('kijko.flags(jsonb,text)', 'a table, the transaction''s clock, and counts in shared memory'),
    ('kijko.event_key(text,text)', 'its arguments'),
    ('kijko.event_time(text)', 'its argument'),
    ('kijko.http_body_text(bytea)', 'its argument'),
    ('kijko.http_origin(text)', 'its argument'),
    ('kijko.http_public_key(text)', 'its argument'),
    ('kijko.http_queue()', 'tables'),
    ('kijko.http_request_problem(text,text,jsonb,text,jsonb)', 'its arguments, and a setting'),
    ('kijko.http_response(uuid)', 'tables'),
    ('kijko.http_secret_context(uuid,text)', 'its arguments'),
    ('kijko.http_secret_names(jsonb,jsonb)', 'its arguments'),
    ('kijko.is_time_zone(text)', 'its argument'),
    ('kijko.local_day(timestamp with time zone,text)', 'its arguments'),
    ('kijko.qr_svg(text)', 'its argument'),
    ('kijko.seal_key_id(text)', 'its argument'),
    ('kijko.subject(text,uuid)', 'its arguments'),
    ('kijko.hll_cardinality(bytea)', 'its argument'),
    ('kijko.json_fits(jsonb,integer)', 'its arguments'),
    ('kijko.text_grams(text,uuid)', 'its arguments'),
    ('kijko.name_grams(text,uuid)', 'its arguments'),
    ('kijko.find_lines(text,text,boolean,boolean,integer,integer)', 'its arguments'),
    ('kijko.validate_events(jsonb,jsonb,timestamp with time zone)', 'its arguments'),
    ('kijko.is_gauge(uuid,text)', 'tables'),
    ('kijko.find_limit(uuid,text)', 'tables'),
    ('kijko.find_tier(uuid)', 'tables'),
    ('kijko.used_now(uuid,text,timestamp with time zone)', 'tables'),
    ('kijko.used_since(uuid,text,timestamp with time zone)', 'tables'),
    ('kijko.explain_use(uuid,text,timestamp with time zone)', 'tables'),
    ('kijko.list_threshold_crossings(uuid,timestamp with time zone)', 'tables'),
    ('kijko.issuer_document(bytea)', 'its argument'),
    ('kijko.issuer_keys(bytea)', 'its argument'),
    ('kijko.issuer_tag(uuid)', 'its argument'),
    ('kijko.list_issuers(uuid)', 'tables'),
    ('kijko.verify_jwt(text,jsonb,text,text[],interval)', 'its arguments, and the real clock'),
    ('kijko.verify_jwt_reason(text,jsonb,text,text[],interval)', 'its arguments, and the real clock');
select p.oid::regprocedure as without_reason from pg_proc as p
where pronamespace = 'kijko'::regnamespace and proparallel = 's' and p.oid not in (select s.function from parallel_safe as s)
union all
select s.function from parallel_safe as s join pg_proc as p on p.oid = s.function where p.proparallel <> 's';
-- Sets up a request, with changes that are not committed, and what each function is asked.
create table question (expression text primary key);
insert into question values
    ('kijko.claims()'), ('kijko.claim(''sub'')'), ('kijko.actor()'), ('kijko.user_id()'), ('kijko.session_id()'),
    ('kijko.api_key_id()'), ('kijko.api_key_permissions()'), ('kijko.requested_org_id()'),
    ('kijko.request_header(''x-org-id'')'), ('kijko.is_request()'), ('kijko.client_address()'), ('kijko.client_network()'),
    ('kijko.token_fault()'), ('kijko.now()'), ('kijko.platform_org_id()'), ('kijko.clamp(1e30)'),
    ('(select p from kijko.cron_problem(''x'', ''UTC'') as p)'), ('kijko.cron_check(''* * * * *'', ''UTC'')'),
    ('kijko.cron_latest(''* * * * *'', ''UTC'', ''2026-01-01'')'), ('kijko.cron_latest_unchecked(''* * * * *'', ''UTC'', ''2026-01-01'')'),
    ('kijko.cron_next(''* * * * *'', ''UTC'', ''2026-01-01'')'), ('kijko.cron_next_unchecked(''* * * * *'', ''UTC'', ''2026-01-01'')'),
    ('(select array_agg(u) from kijko.cron_upcoming(''* * * * *'', ''UTC'', ''2026-01-01'', 3) as u)'),
    ('(select array_agg(u) from kijko.cron_upcoming_unchecked(''* * * * *'', ''UTC'', ''2026-01-01'', 3) as u)'),
    ('kijko.entitled(''00000000-0000-4000-8000-000000000001'', ''x'')'),
    ('kijko.flag_enabled(''a'')'), ('kijko.flag_problem(''strategy'', ''{"name": "default"}'')'), ('kijko.flag_variant(''a'')'), ('kijko.flags()'),
    ('kijko.event_key(''a'', ''b'')'), ('kijko.event_time(''2026-01-01T00:00:00Z'')'), ('kijko.is_time_zone(''CET'')'),
    ('kijko.http_body_text(''\x61'')'), ('kijko.http_origin(''https://example.com'')'), ('(select count(*) from kijko.http_queue())'),
    ('kijko.http_request_problem(''GET'', ''x'', ''{}'', null, null)'), ('(select count(*) from kijko.http_response(''00000000-0000-4000-8000-000000000001''))'),
    ('kijko.http_secret_context(''00000000-0000-4000-8000-000000000001'', ''n'')'),
    ('kijko.http_public_key(''whsk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='')'),
    ('kijko.http_secret_names(''{"a": {"secret": "b"}}'', null)'),
    ('kijko.issuer_document(''\x7b7d'')'), ('kijko.issuer_keys(''\x7b226b657973223a5b5d7d'')'), ('kijko.issuer_tag(''00000000-0000-4000-8000-000000000001'')'),
    ('(select count(*) from kijko.list_issuers(''00000000-0000-4000-8000-000000000001''))'),
    ('kijko.verify_jwt(''a.b.c'', ''{}'', ''i'', ''{a}'')'), ('kijko.verify_jwt_reason(''a.b.c'', ''{}'', ''i'', ''{a}'')'),
    ('kijko.local_day(''2026-01-01'', ''CET'')'), ('kijko.qr_svg(''x'')'), ('kijko.seal_key_id(''kjs1.x'')'),
    ('kijko.subject(''user'', ''00000000-0000-4000-8000-000000000001'')'),
    ('kijko.hll_cardinality(''\x01000101'')'),
    ('kijko.json_fits(''{"a": [1.50]}'', 100)'),
    ('kijko.text_grams(''a text'', ''00000000-0000-4000-8000-000000000001'')'),
    ('kijko.name_grams(''aName'', ''00000000-0000-4000-8000-000000000001'')'),
    ('(select l from kijko.find_lines(''a text'', ''text'', true, true, 1, 1) as l)'),
    ('(select array_agg(e) from kijko.validate_events(''[{}]'', ''{}'', ''2026-01-01'') as e)'),
    ('kijko.is_gauge(''00000000-0000-4000-8000-000000000001'', ''objects'')'),
    ('(kijko.find_limit(''00000000-0000-4000-8000-000000000001'', ''x'')).amount'),
    ('kijko.find_tier(''00000000-0000-4000-8000-000000000001'')'),
    ('kijko.used_now(''00000000-0000-4000-8000-000000000001'', ''x'', ''-infinity'')'),
    ('kijko.used_since(''00000000-0000-4000-8000-000000000001'', ''x'', ''2000-01-01'')'),
    ('kijko.explain_use(''00000000-0000-4000-8000-000000000001'', ''x'', ''-infinity'') #- ''{latest}'''),
    ('(select array_agg(t.threshold) from kijko.list_threshold_crossings(''00000000-0000-4000-8000-000000000001'') as t)');
select s.function as without_question from parallel_safe as s
where not exists (select from question as q where q.expression like '%' || split_part(s.function::text, '(', 1) || '(%');
create function answers(parallel boolean) returns table (expression text, answer text) language plpgsql as $$
begin
    -- PostgreSQL 16 has given the first setting another name.
    perform set_config(name, case when parallel then 'on' else 'off' end, true) from pg_settings
    where name in ('force_parallel_mode', 'debug_parallel_query');
    perform set_config('parallel_leader_participation', 'off', true);
    for expression in select q.expression from question as q order by q.expression loop
        execute format('select (%s)::text', expression) into answer;
        return next;
    end loop;
end
$$;
create procedure begin_request(session text) language sql as $$
    select set_config('request.method', 'GET', true),
        set_config('request.headers', '{"x-org-id": "00000000-0000-4000-8000-000000000009", "x-forwarded-for": "192.0.2.1"}', true),
        set_config('request.jwt.claims', json_build_object('role', 'authenticated', 'sub', '00000000-0000-4000-8000-000000000001',
            'session_id', session, 'iss', 'i', 'aud', 'authenticated', 'exp', 4102444800, 'iat', 1)::text, true),
        set_config('kijko.clock_offset', '2 days', true)
$$;
-- The setting does make a worker answer.
select set_config(name, 'on', false) is not null as forced from pg_settings where name in ('force_parallel_mode', 'debug_parallel_query');
set parallel_leader_participation = off;
create function workers(query text) returns text language plpgsql as $$
declare
    plan jsonb;
begin
    execute 'explain (analyze, format json) ' || query into plan;
    return plan #>> '{0,Plan,Workers Launched}';
end
$$;
select workers('select kijko.session_id()');
reset parallel_leader_participation;
select set_config(name, 'off', false) is not null as reset from pg_settings where name in ('force_parallel_mode', 'debug_parallel_query');
-- Shared memory has every revoked session.
select kijko.revoke_session('00000000-0000-4000-8000-0000000000ff');
begin;
call begin_request('00000000-0000-4000-8000-000000000002');
select kijko.user_id();
rollback;
begin;
call begin_request('00000000-0000-4000-8000-000000000002');
select allowed from kijko.try_consume('00000000-0000-4000-8000-000000000001', 'x', 5);
select allowed from kijko.adjust_gauge('00000000-0000-4000-8000-000000000001', 'objects', 2);
select w.expression, w.answer, l.answer as in_leader from answers(true) as w join answers(false) as l using (expression) where w.answer is distinct from l.answer;
select count(*) from answers(true) as a where answer is not null;
select expression, answer from answers(true) where expression in ('kijko.user_id()', 'kijko.session_id()', 'kijko.requested_org_id()', 'kijko.client_address()');
-- The transaction revokes its own session.
select kijko.revoke_session('00000000-0000-4000-8000-000000000002');
select expression, answer from answers(false) where expression in ('kijko.user_id()', 'kijko.session_id()', 'kijko.actor()');
select expression, answer from answers(true) where expression in ('kijko.user_id()', 'kijko.session_id()', 'kijko.actor()');
select w.expression, w.answer, l.answer as in_leader from answers(true) as w join answers(false) as l using (expression) where w.answer is distinct from l.answer;
savepoint s;
select kijko.restore_session('00000000-0000-4000-8000-000000000002');
select expression, answer from answers(true) where expression in ('kijko.user_id()', 'kijko.session_id()');
rollback to s;
select expression, answer from answers(true) where expression in ('kijko.user_id()', 'kijko.session_id()');
rollback;
-- A committed one counts in workers by shared memory.
select kijko.revoke_session('00000000-0000-4000-8000-000000000002');
begin;
call begin_request('00000000-0000-4000-8000-000000000002');
select expression, answer from answers(true) where expression in ('kijko.user_id()', 'kijko.session_id()');
rollback;
truncate kijko.revoked_sessions;
select kijko.delete_subject('00000000-0000-4000-8000-000000000001') is not null as deleted;
drop table parallel_safe, question;
drop function answers, workers;
drop procedure begin_request;
