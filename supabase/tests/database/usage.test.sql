begin;
\ir 000_helpers.sql
select plan(97);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('mem', tests.org('ada'), 'member');
select tests.skill(tests.org('ada')) as skill \gset

create function tests.event(id text, fields jsonb default '{}') returns jsonb language sql stable as $$
  select jsonb_build_object('specversion', '1.0', 'source', '/build', 'id', id, 'type', 'build.done', 'time', kijko.now(), 'data', '{"minutes": 5}'::jsonb) || fields
$$;

create function tests.counts(answer jsonb) returns jsonb language sql immutable
return jsonb_build_array(answer -> 'accepted', answer -> 'duplicate', answer -> 'refused');

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.usage_meters', '42501', null, 'anon reads no meters');
select throws_ok($$select public.usage_by('day')$$, '42501', null, 'anon has no usage');
select throws_ok('select public.usage_forecast()', '42501', null, 'nor a forecast');
select throws_ok('select public.usage_alerts()', '42501', null, 'nor alerts');
select throws_ok($$select public.explain_limit(tests.org('ada'), 'projects')$$, '42501', null, 'nor an explanation');
select throws_ok($$select public.ingest_usage('[]')$$, '42501', null, 'nor sends events');
select throws_ok($$select public.ingest_usage('[]', tests.org('ada'))$$, '42501', null, 'nor for an organization');

select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select public.usage_by('day')$$, 'not_a_member', 'a non-member has no usage of it');
select tests.refuses('select public.usage_forecast()', 'not_a_member', 'nor a forecast');
select tests.refuses('select public.usage_alerts()', 'not_a_member', 'nor alerts');
select tests.refuses($$select public.explain_limit(tests.org('ada'), 'projects')$$, 'not_a_member', 'nor an explanation');
select tests.refuses($$select public.explain_limit(null, 'projects')$$, 'not_a_member', 'also of nothing');
select tests.refuses($$select public.ingest_usage('[]')$$, 'not_a_member', 'nor sends events');
select throws_ok($$select public.ingest_usage('[]', tests.org('ada'))$$, '42501', null, 'naming an organization is for the service key');
select throws_ok($$select kijko.ingest_usage(tests.org('ada'), '[]', '{}')$$, '42501', null, 'and the extension for the domain');
select throws_ok($$select kijko.adjust_gauge(tests.org('ada'), 'projects', -1)$$, '42501', null, 'gauges, too');
select throws_ok($$select private.usage_recount_gauges()$$, '42501', null, 'and their repair');

select tests.act_as('vic', tests.org('ada'));
select isnt_empty($$select 1 from public.usage_by('day')$$, 'a viewer reads usage');
select is(public.explain_limit(tests.org('ada'), 'members') ->> 'used', '3', 'and explanations');
select tests.refuses($$select public.ingest_usage('[]')$$, 'permission_denied', 'but cannot send events');
select throws_ok($$insert into public.usage_meters (event_type, meter) values ('x', 'own.x')$$, '42501', null, 'and makes no meters');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses($$select public.ingest_usage('[]')$$, 'permission_denied', 'nor does a member');
select throws_ok($$insert into public.usage_meters (event_type, meter) values ('x', 'own.x')$$, '42501', null, 'nor make meters');

-- ---- gauges
select tests.act_as('ada');
select lives_ok($$insert into public.projects (name) values ('one'), ('two')$$, 'two projects in one statement');
select is(tests.used(tests.org('ada'), 'projects'), 2::bigint, 'are two');
select tests.refuses($$insert into public.projects (name) values ('three'), ('four')$$, 'quota_exceeded', 'two more are one too many');
select is((select count(*) from public.projects), 2::bigint, 'so neither is made');
select lives_ok($$insert into public.projects (name) values ('three')$$, 'one more fits');
select is(
  tests.answer($$insert into public.projects (name) values ('four')$$) - 'headers', '{"code": "quota_exceeded", "status": 429}', 'the fourth is 429'
);
select is(
  (tests.answer($$insert into public.projects (name) values ('four')$$) -> 'headers') - 'Retry-After',
  '{"RateLimit": "\"projects\";r=0", "RateLimit-Policy": "\"projects\";q=3", "X-RateLimit-Limit": "3", "X-RateLimit-Remaining": "0", "X-RateLimit-Resource": "projects"}',
  'and says which limit it was'
);
select is(tests.changed($$update public.projects set name = name || '!'$$), 3::bigint, 'a change moves nothing');
select is(tests.used(tests.org('ada'), 'projects'), 3::bigint, 'in the gauge');
select is(tests.changed($$delete from public.projects where name in ('one!', 'two!')$$), 2::bigint, 'two go in one statement');
select is(tests.used(tests.org('ada'), 'projects'), 1::bigint, 'and are given back');
select tests.act_as_superuser();
select tests.sign_up('new');
select tests.act_as_service();
select tests.refuses($$insert into public.memberships (org_id, user_id, role) values (tests.org('ada'), tests.id('new'), 'viewer')$$, 'quota_exceeded', 'a fourth member is refused');
select tests.act_as('ada');
select lives_ok(
  format($$insert into public.habits (skill_id, name, cron) select %L, 'habit ' || n, '@daily' from generate_series(1, 3) as n$$, :'skill'), 'three habits fit'
);
select tests.refuses(format($$insert into public.habits (skill_id, name, cron) values (%L, 'habit 4', '@daily')$$, :'skill'), 'quota_exceeded', 'not four');
select is(tests.changed(format($$delete from public.skills where id = %L$$, :'skill')), 1::bigint, 'a skill takes its habits along');
select is(tests.used(tests.org('ada'), 'habits'), 0::bigint, 'and the gauge falls');
select tests.act_as_service();
select tests.refuses($$update public.projects set org_id = tests.org('bob')$$, 'permission_denied', 'nothing moves to another organization');
select is(tests.changed($$update public.subscriptions set plan = 'ENTERPRISE' where org_id = tests.org('ada')$$), 1::bigint, 'ENTERPRISE');
select lives_ok($$insert into public.projects (org_id, name) select tests.org('ada'), 'p' || n from generate_series(1, 30) as n$$, 'has no limit');
select is(tests.changed($$update public.subscriptions set plan = 'FREE' where org_id = tests.org('ada')$$), 1::bigint, 'back to FREE');
select is(tests.used(tests.org('ada'), 'projects'), 31::bigint, 'all of them stay');
select tests.refuses($$insert into public.projects (org_id, name) values (tests.org('ada'), 'more')$$, 'quota_exceeded', 'but none is added, not even by the service key');

-- ---- repair: rows that came past the triggers
select tests.act_as_superuser();
set local session_replication_role = replica;
delete from public.projects where org_id = tests.org('ada') and name ~ '^p';
set local session_replication_role = origin;
set local role postgres;
select results_eq(
  $$select meter, was, became from private.usage_recount_gauges(tests.org('ada'))$$, $$values ('projects', 31::bigint, 1::bigint)$$, 'usage_recount_gauges reports what was wrong'
);
select is_empty($$select 1 from private.usage_recount_gauges(tests.org('ada'))$$, 'and has mended it');
reset role;
select tests.act_as('ada');
select lives_ok($$delete from public.projects$$, 'the last project goes');
select is(tests.used(tests.org('ada'), 'projects'), 0::bigint, 'and none is left');

-- ---- by what, and where to
select tests.act_as_superuser();
select tests.skill(tests.org('ada'), 'other') as skill \gset
select tests.act_as('ada');
select (public.execute_skill(:'skill')).job_id as job \gset
select tests.called(:'job');
select tests.act_as('ada');
select is((select value from public.usage_by('skill', 'executions')), :'skill', 'an execution is of its skill');
select is((select value from public.usage_by('member', 'executions')), tests.id('ada')::text, 'and of who asked');
select is((select value from public.usage_by('day', 'executions')), to_char(kijko.now() at time zone 'UTC', 'YYYY-MM-DD'), 'and of today');
select is((select array_agg(used) from public.usage_by('project', 'executions')), '{1}', 'and of no project');
select is((select array_agg(overage) from public.usage_by('project', 'executions')), '{0}', 'none of it beyond the limit');
-- As a request does that an API key has asked for.
set local kijko.usage_attributes = '{"key": "00000000-0000-4000-8000-0000000000aa"}';
select (public.execute_skill(:'skill')).job_id as job \gset
set local kijko.usage_attributes = '';
select tests.called(:'job');
select tests.act_as('ada');
select results_eq(
  $$select value, used from public.usage_by('key', 'executions') order by value nulls first$$,
  $$values (null, 1::bigint), ('00000000-0000-4000-8000-0000000000aa', 1)$$, 'what a key has asked for is of that key'
);
select tests.refuses($$select public.usage_by('a b')$$, 'invalid_input', 'a dimension is a name');
select tests.refuses($$select public.usage_by('skills')$$, 'invalid_input', 'of one that there is');
select tests.refuses($$select public.usage_by(null)$$, 'invalid_input', 'null is none');
select lives_ok(
  $$select public.usage_by(d) from unnest(array['day', 'member', 'project', 'skill', 'habit', 'key', 'subject']) as d$$, 'these there are'
);
select results_eq(
  $$select meter, used from public.usage_forecast()$$, $$select meter, used from public.usage_summary() where reset_at is not null$$, 'a forecast for each meter with a period'
);
select ok((select at_period_rate >= 1 and at_week_rate >= 1 from public.usage_forecast() where meter = 'executions'), 'which is no less than what is used');
select results_eq(
  $$select meter, threshold::integer, used, "limit" from public.usage_alerts() where meter = 'habits' order by threshold$$,
  $$values ('habits', 50, 3::bigint, 3::bigint), ('habits', 80, 3, 3), ('habits', 100, 3, 3)$$, 'thresholds that were reached'
);
select is(
  (select jsonb_build_array(e #> '{plan_includes,amount}', e -> 'overridden') from public.explain_limit(tests.org('ada'), 'executions') as e),
  '[50, false]', 'an explanation knows the plan, and that nobody has set another limit'
);
select tests.act_as('mem', tests.org('ada'));
select is(
  (select jsonb_build_array(e -> 'used', e ?| array['plan', 'plan_includes', 'overridden']) from public.explain_limit(tests.org('ada'), 'executions') as e),
  '[2, false]', 'the plan is for those who hold billing:read'
);
select tests.act_as('ada');
select tests.act_as_service();
select kijko.set_limit(tests.org('ada'), 'executions', 'month', 1);
select is(
  (select jsonb_build_array(e -> 'overridden', e -> 'refuses', e #> '{limit,amount}') from public.explain_limit(tests.org('ada'), 'executions') as e),
  '[true, true, 1]', 'and what was set otherwise; the service key may ask, too'
);
select tests.refuses($$select public.explain_limit(gen_random_uuid(), 'executions')$$, 'not_found', 'of what there is');
select kijko.record_usage(tests.org('ada'), 'llm_tokens', 100000, kijko.now());
select is(public.explain_limit(tests.org('ada'), 'executions') ->> 'blocked_by', 'llm_tokens', 'used up model use blocks executions');

-- ---- events
select tests.act_as('ada');
select throws_ok($$insert into public.usage_meters (event_type, meter) values ('llm', 'llm_tokens')$$, '23514', null, 'the platform''s meters are its own');
select lives_ok($$insert into public.usage_meters (event_type, meter, amount_field) values ('build.done', 'own.minutes', 'minutes')$$, 'an owner makes a meter');
select is(
  public.ingest_usage(jsonb_build_array(tests.event('a'), tests.event('a'), tests.event('b', '{"type": "llm_tokens"}'), 7)) #- '{events,2,reason}' #- '{events,3,reason}',
  '{"accepted": 1, "duplicate": 1, "refused": 2, "events": [
    {"source": "/build", "id": "a", "status": "accepted"}, {"source": "/build", "id": "a", "status": "duplicate"},
    {"source": "/build", "id": "b", "status": "refused", "code": "not_found"}, {"source": null, "id": null, "status": "refused", "code": "invalid_input"}
  ]}', 'each event is answered for'
);
select tests.act_as_service();
select is(public.ingest_usage(jsonb_build_array(tests.event('a')), tests.org('ada')) -> 'duplicate', '1', 'the service key names the organization');
select tests.refuses($$select public.ingest_usage('[]', null)$$, 'not_found', 'and must');

-- ---- events of a month, and what they make
select tests.act_as('ada');
select is(tests.used(tests.org('ada'), 'events'), 1::bigint, 'an event counts once among those of the month');
select tests.act_as_service();
select kijko.set_limit(tests.org('ada'), 'events', 'month', 4);
select tests.act_as('ada');
select is(
  tests.counts(public.ingest_usage(jsonb_build_array(tests.event('c', '{"type": "other"}'), tests.event('a')))), '[0, 1, 1]', 'refused and repeated events use none'
);
select is(tests.used(tests.org('ada'), 'events'), 1::bigint, 'in the meter');
select public.ingest_usage(jsonb_build_array(tests.event('d'), tests.event('e'), tests.event('f'), tests.event('g'), tests.event('h'))) as answer \gset
select is(tests.counts(:'answer'), '[3, 0, 2]', 'of five that are one too many as many as fit are counted');
select is(
  (select jsonb_agg(e - 'reason') from jsonb_array_elements(:'answer'::jsonb -> 'events') with ordinality as a (e, n) where n > 3),
  '[{"source": "/build", "id": "g", "status": "refused", "code": "quota_exceeded"}, {"source": "/build", "id": "h", "status": "refused", "code": "quota_exceeded"}]',
  'and the others refused by name'
);
select is(
  (tests.answer($$select public.ingest_usage(jsonb_build_array(tests.event('g')))$$) - 'headers'), '{"code": "quota_exceeded", "status": 429}', 'with nothing left the call is 429'
);
select is(tests.counts(public.ingest_usage('[]')), '[0, 0, 0]', 'nothing fits always');
select is(tests.used(tests.org('ada'), 'events'), 4::bigint, 'and the month has no more than its limit');
select tests.act_as_superuser();
select is((select count(*) from kijko.ingested_events as i where i.subject = tests.org('ada')), 4::bigint, 'nor are more kept');
select kijko.set_limit(tests.org('ada'), 'events', 'month', 4, 'flag');
select tests.act_as('ada');
select is(tests.counts(public.ingest_usage(jsonb_build_array(tests.event('g'), tests.event('h')))), '[2, 0, 0]', 'a limit that flags refuses none');

select is(
  tests.changed($$insert into public.usage_meters (event_type, meter) select 'type ' || n, 'own.m' || n from generate_series(2, 10) as n$$), 9::bigint, 'ten meters fit'
);
select tests.refuses($$insert into public.usage_meters (event_type, meter) values ('more', 'own.minutes')$$, 'quota_exceeded', 'not eleven');
select is(tests.used(tests.org('ada'), 'usage_meters'), 10::bigint, 'they are counted');
select tests.refuses($$update public.usage_meters set meter = 'own.renamed' where event_type = 'build.done'$$, 'quota_exceeded', 'a counter in use keeps its place');
select is(tests.changed($$update public.usage_meters set meter = 'own.renamed' where event_type = 'type 2'$$), 1::bigint, 'one that never counted does not');
select is(tests.changed($$delete from public.usage_meters where event_type = 'build.done'$$), 1::bigint, 'deleting the meter');
select tests.refuses($$insert into public.usage_meters (event_type, meter) values ('build.done', 'own.again')$$, 'quota_exceeded', 'makes no room for another counter');
select lives_ok($$insert into public.usage_meters (event_type, meter) values ('build.done', 'own.minutes')$$, 'only for the same one');

select is(
  tests.changed(format($$insert into public.skills (name, prompt_template) select 's' || n, 'x' from generate_series(1, 24) as n$$)), 24::bigint, 'twenty-five skills fit'
);
select tests.refuses($$insert into public.skills (name, prompt_template) values ('more', 'x')$$, 'quota_exceeded', 'not one more');
select is(tests.changed($$delete from public.skills where name = 's1'$$), 1::bigint, 'one less');
select is(tests.used(tests.org('ada'), 'skills'), 24::bigint, 'is counted');
select tests.act_as_superuser();
set local session_replication_role = replica;
delete from public.skills where name = 's2';
delete from public.usage_meters where event_type = 'type 3';
set local session_replication_role = origin;
set local role postgres;
select results_eq(
  $$select meter, was, became from private.usage_recount_gauges(tests.org('ada'))$$,
  $$values ('skills', 24::bigint, 23::bigint), ('usage_meters', 10, 9)$$, 'usage_recount_gauges knows of both'
);
reset role;
set local session_replication_role = replica;
insert into public.projects (org_id, name, slug) values (tests.org('bob'), 'past the triggers', 'past');
set local session_replication_role = origin;
set local role postgres;
select is_empty($$select 1 from private.usage_recount_gauges(tests.org('ada'))$$, 'of the organization that is named');
select results_eq(
  $$select meter, was, became from private.usage_recount_gauges() where org_id = tests.org('bob')$$, $$values ('projects', 0::bigint, 1::bigint)$$, 'else of all'
);

select * from finish();
rollback;
