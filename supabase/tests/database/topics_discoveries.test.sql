begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.begin_round('topic_discovery');

-- A worker claims the job that waits.
create function tests.claimed() returns public.jobs language plpgsql security definer as $$
declare
  claimed uuid;
  job public.jobs;
begin
  update public.jobs set run_at = now() - interval '1 year' where kind = 'topic_discovery' and status = 'queued';
  select c.id into claimed from private.jobs_claim('w', '1 minute', 1, array['topic_discovery']) as c;
  select j.* into job from public.jobs as j where j.id = claimed;
  return job;
end
$$;
-- It starts, and ends with what it found.
create function tests.collected(outcome jsonb) returns jsonb language plpgsql security definer as $$
declare
  job constant public.jobs := tests.claimed();
  started jsonb;
begin
  started := private.topics_start_run('w', job.id, job.attempt);
  perform private.topics_finish_run('w', job.id, job.attempt, outcome);
  return started;
end
$$;
create function tests.item(path text, title text, more jsonb default '{}') returns jsonb language sql as $$
  select jsonb_build_object('url', 'https://news.example' || path, 'title', title, 'text', title || ' in many words.') || more
$$;
create function tests.latest(of text) returns text language sql security definer as $$
  select (r.status, r.found, r.added_topics, r.added_sources, r.duplicates, r.error_code)::text
  from public.discovery_runs as r join public.discoveries as d on d.id = r.discovery_id
  where d.name = latest.of order by r.job_id desc limit 1
$$;

select tests.act_as('mem', tests.org('ada'));
insert into public.discoveries (name, collector, url, timezone) values ('Feed', 'feed', 'https://news.example/feed.xml', 'Europe/Amsterdam') returning id as feed \gset

-- ---- anon and non-members first
select tests.act_as_anon();
select throws_ok(format('select * from public.%I', t), '42501', null, 'an unauthenticated caller sees no ' || t) from unnest('{discoveries,discovery_runs}'::text[]) as t;
select throws_ok(format('select public.run_discovery(%L)', :'feed'), '42501', null, 'and runs none');
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from public.discoveries), 0::bigint, 'a non-member sees none');
select is(tests.changed('update public.discoveries set enabled = false') + tests.changed('delete from public.discoveries'), 0::bigint, 'and changes none');
select tests.refuses(format('select public.run_discovery(%L)', :'feed'), 'not_found', 'and runs none');
select throws_ok(format($$insert into public.discoveries (org_id, name, collector, query) values (%L, 'x', 'tavily', 'x')$$, tests.org('ada')), '42501', null, 'nor makes one there');
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.discoveries), 1::bigint, 'a viewer sees it');
select tests.refuses(format('select public.run_discovery(%L)', :'feed'), 'permission_denied', 'and does not run it');
select throws_ok($$insert into public.discoveries (name, collector, query) values ('x', 'tavily', 'x')$$, '42501', null, 'nor makes one');
select is(tests.changed('update public.discoveries set enabled = false'), 0::bigint, 'nor changes it');
select tests.act_as('mem', tests.org('ada'));
select throws_ok(format('update public.discoveries set %I = default', c), '42501', null, 'a member does not write ' || c) from unnest('{next_run_at,failures,etag,last_error}'::text[]) as c;
select throws_ok($$insert into public.discovery_runs (discovery_id, trigger) select id, 'manual' from public.discoveries$$, '42501', null, 'nor runs');
select throws_ok(format('select private.%s', f), '42501', null, 'users do not call ' || f) from (values
  ('topics_start_run(''w'', gen_random_uuid(), 1)'), ('topics_finish_run(''w'', gen_random_uuid(), 1, ''{}'')'), ('topics_run_due()')
) as f (f);

-- ---- what can be watched, and when
select throws_ok(format('insert into public.discoveries (name, collector, url, query) values (''x'', %L, %L, %L)', c, u, q), '23514', null, format('not %s of %s and %s', c, u, q)) from (values
  ('feed', null, null), ('feed', 'https://a.example/', 'q'), ('feed', 'file:///etc/passwd', null), ('feed', 'https://u:p@a.example/', null),
  ('tavily', 'https://a.example/', 'q'), ('tavily', null, null), ('searxng', null, '  '), ('gemini', null, repeat('x', 401)), ('web', null, 'q')
) as t (c, u, q);
select is((select (cron, schedule)::text from public.discoveries where id = :'feed'), '("0 2 * * *",daily)', 'daily is the default');
select is((select (next_run_at at time zone 'Europe/Amsterdam')::time from public.discoveries where id = :'feed'), '02:00'::time, 'at two in the morning of its zone');
update public.discoveries set schedule = 'weekly' where id = :'feed';
select is((select to_char(next_run_at at time zone 'Europe/Amsterdam', 'ID HH24:MI') from public.discoveries where id = :'feed'), '1 02:00', 'weekly is Monday');
update public.discoveries set schedule = 'custom', cron = '*/10 * * * *' where id = :'feed';
select is((select cron::text from public.discoveries where id = :'feed'), '*/10 * * * *', 'custom is what a member wrote');
select tests.refuses($$update public.discoveries set timezone = 'Mars/Olympus'$$, 'invalid_timezone', 'a zone that is none');

-- ---- a slot is one run
select tests.act_as_superuser();
update public.discoveries set next_run_at = kijko.now() - interval '3 days' where id = :'feed';
select is(private.topics_run_due(), 1, 'what is due runs');
select is(private.topics_run_due(), 0, 'once, however long it was due');
select is((select count(*) from public.discovery_runs), 1::bigint, 'in one run');
select tests.act_as('mem', tests.org('ada'));
select is((public.run_discovery(:'feed')).trigger, 'schedule', 'who runs it now gets the one that is under way');

-- ---- what is found becomes topics, each once
select tests.act_as_superuser();
select is(tests.collected(jsonb_build_object('asked', 'https://news.example/feed.xml', 'etag', '"v1"', 'last_modified', null, 'items', jsonb_build_array(
  tests.item('/1?utm_source=feed', 'A bridge opens', '{"language": "en", "published_at": "2026-03-04T08:00:00Z", "simhash": 81985529216486895}'),
  tests.item('/2', 'A second story', '{"simhash": -1}'), tests.item('/3', 'Nearly the first', '{"simhash": 81985529216486894}'),
  tests.item('/4', 'Same text', '{"text": "A bridge opens  IN many words."}'), '{"url": "javascript:alert(1)", "title": "x"}'::jsonb, '{"url": "https://news.example/5"}'::jsonb
))) #>> '{work,url}', 'https://news.example/feed.xml', 'the worker learns what to fetch');
select is(tests.latest('Feed'), '(succeeded,6,2,2,2,)', 'two are new, two are copies, two cannot be read');
select is((select etag from public.discoveries where id = :'feed'), '"v1"', 'what the feed is known by is kept');
select is((select (t.status, t.origin, t.source_count, t.language, t.score > 0)::text from public.topics as t where t.title = 'A bridge opens'), '(researched,feed,1,en,t)', 'a story is a topic with a score');
select is((select s.collector || ' ' || s.published_at::date from public.research_sources as s where s.url like '%/1?%'), 'feed 2026-03-04', 'and its page a source');

select tests.act_as('mem', tests.org('ada'));
select public.run_discovery(:'feed');
select tests.act_as_superuser();
select is(tests.collected(jsonb_build_object('asked', 'https://news.example/feed.xml', 'moved_to', 'https://news.example/new.xml', 'items', jsonb_build_array(
  tests.item('/1', 'Bought by somebody else', jsonb_build_object('text', repeat('Buy it there. ', 20), 'simhash', 7, 'language', 'nl', 'published_at', '2026-03-05')),
  tests.item('/9', 'a  SECOND story', '{"text": "Somebody else on it."}')
))) #>> '{work,etag}', '"v1"', 'the next run asks with it');
select is(tests.latest('Feed'), '(succeeded,2,0,1,0,)', 'the same page is known, and the same title is the same topic');
select is(
  (select (s.title, s.excerpt, s.language, s.published_at::date, f.simhash)::text from public.research_sources as s join private.source_fingerprints as f on f.source_id = s.id where s.url like '%/1?%'),
  '("A bridge opens","A bridge opens in many words.",en,2026-03-04,81985529216486895)', 'what is known of a page is not what the last feed says of it'
);
select is((select (url, etag, failures)::text from public.discoveries where id = :'feed'), '(https://news.example/new.xml,,0)', 'a feed that has moved is asked there');

-- ---- failures
select tests.act_as('mem', tests.org('ada'));
select public.run_discovery(:'feed');
select tests.act_as_superuser();
select tests.collected('{"failed": {"code": "document_invalid", "message": "no root element"}}');
select is((select (failures, last_error_code, enabled)::text from public.discoveries where id = :'feed'), '(1,document_invalid,t)', 'a failure shows');
update public.discoveries set failures = 9 where id = :'feed';
select tests.act_as('mem', tests.org('ada'));
select public.run_discovery(:'feed');
select tests.act_as_superuser();
select tests.collected('{"failed": {"code": "http_status", "message": "404"}}');
select is((select (enabled, next_run_at)::text from public.discoveries where id = :'feed'), '(f,)', 'after ten it is disabled');
select tests.act_as('mem', tests.org('ada'));
update public.discoveries set enabled = true where id = :'feed';
select is((select (failures, next_run_at is not null)::text from public.discoveries where id = :'feed'), '(0,t)', 'and starts anew when it is enabled');

-- ---- what a vendor charges is held first, settled once, and counted
insert into public.topics (title) values ('Watched') returning id as watched \gset
insert into public.discoveries (name, collector, query, topic_id) values ('Search', 'tavily', 'bridges', :'watched') returning id as search \gset
select public.run_discovery(:'search');
select tests.act_as_superuser();
select is(tests.collected(jsonb_build_object('spent', '{"searches": 2}'::jsonb, 'items', jsonb_build_array(tests.item('/1', 'A bridge opens'), tests.item('/7', 'Another')))) #>> '{work,query}', 'bridges', 'a search runs');
select is(tests.latest('Search'), '(succeeded,2,0,2,0,)', 'what it finds are sources of its topic');
select is((select (r.cost_microusd, c.cost_microusd, c.topic_id)::text from public.discovery_runs as r join public.content_costs as c on c.source = 'search' and c.source_id = r.id), format('(16000,16000,%s)', :'watched'), 'it costs what the vendor says');
select is((select source_count from public.topics where id = :'watched'), 2, 'the topic has them');

select tests.act_as('mem', tests.org('ada'));
select public.run_discovery(:'search');
select tests.act_as_superuser();
select (tests.claimed()).id as job \gset
select private.topics_start_run('w', :'job', 1) is not null as started \gset
select is((select (h.held ->> 'cost_microusd')::bigint from private.discovery_holds as h), 8000::bigint, 'a search holds before it asks');
select private.topics_start_run('w', :'job', 1) is not null as started \gset
select is((select r.cost_microusd from public.discovery_runs as r where r.status = 'running'), 0::bigint, 'an attempt that starts twice holds once');
-- Its worker stops and gives the job back, which counts as no attempt, and another one takes it.
update public.jobs set locked_by = 'v' where id = :'job';
select is(private.topics_start_run('v', :'job', 1), '{}', 'one that may have been asked for is not asked for again');
select is(tests.latest('Search'), '(failed,0,0,0,0,vendor_failed)', 'its run fails');
select ok(private.topics_finish_run('v', :'job', 1, '{}'), 'its job ends');
select ok(not private.topics_finish_run('v', :'job', 1, '{}'), 'once');
select is((select array_agg(r.cost_microusd order by r.cost_microusd) from public.discovery_runs as r where r.discovery_id = :'search'), '{8000,16000}', 'one whose outcome nobody knows counts as charged');
-- The same after it was lost.
select tests.act_as('mem', tests.org('ada'));
select public.run_discovery(:'search');
select tests.act_as_superuser();
select (tests.claimed()).id as job \gset
select private.topics_start_run('w', :'job', 1) is not null as started \gset
update public.jobs set attempt = 2 where id = :'job';
select is(private.topics_start_run('w', :'job', 2), '{}', 'nor in a second attempt');
select private.topics_finish_run('w', :'job', 2, '{}') as ended \gset
-- A member makes it a free one while it is asked.
select tests.act_as('mem', tests.org('ada'));
select public.run_discovery(:'search');
select tests.act_as_superuser();
select (tests.claimed()).id as job \gset
select private.topics_start_run('w', :'job', 1) is not null as started \gset
select tests.act_as('mem', tests.org('ada'));
update public.discoveries set collector = 'searxng' where id = :'search';
select tests.act_as_superuser();
update private.collector_prices set search_microusd = 1 where collector = 'tavily';
select ok(private.topics_finish_run('w', :'job', 1, jsonb_build_object('spent', '{"searches": 2}'::jsonb, 'items', jsonb_build_array(tests.item('/8', 'A tunnel')))), 'a search whose discovery has changed ends');
select is((select array_agg(c.detail || c.cost_microusd order by c.cost_microusd) from public.content_costs as c), '{tavily8000,tavily8000,tavily16000,tavily16000}', 'and costs what it cost when it was held');
select is((select s.collector from public.research_sources as s where s.url like '%/8'), 'tavily', 'what it found says how');
update private.collector_prices set search_microusd = 8000 where collector = 'tavily';
update public.discoveries set collector = 'tavily' where id = :'search';
select is((select count(*) from private.discovery_holds), 0::bigint, 'nothing stays held');

select tests.act_as('mem', tests.org('ada'));
select public.run_discovery(:'search');
select tests.act_as_superuser();
select (tests.claimed()).id as job \gset
select private.topics_start_run('w', :'job', 1) is not null as started \gset
select tests.act_as('mem', tests.org('ada'));
delete from public.discoveries where id = :'search';
select tests.act_as_superuser();
select is((select count(*) from public.content_costs where detail = 'deleted' and cost_microusd = 8000), 1::bigint, 'a search that is under way is paid although it was deleted');
select ok(private.topics_finish_run('w', :'job', 1, '{"items": []}'), 'and its job ends');

-- ---- who may not call models pays for no searches
select tests.act_as('mem', tests.org('ada'));
insert into public.discoveries (name, collector, query) values ('Paid', 'gemini', 'bridges') returning id as paid \gset
insert into public.discoveries (name, collector, query, enabled) values ('Off', 'gemini', 'bridges', false);
select tests.act_as('ada', tests.org('ada'));
select tests.make_key(tests.org('ada'), '["content:read", "content:write"]', name => 'writes') as writes \gset
select tests.make_key(tests.org('ada'), '["content:read", "content:write", "llm:call"]', name => 'calls') as calls \gset
select is(tests.by_key(k, q, tests.org('ada')), answer, format('%s: %s', name, q)) from (values
  ('writes', :'writes'::uuid, $$insert into public.discoveries (name, collector, query) values ('Key', 'tavily', 'x')$$, '42501'),
  ('writes', :'writes', $$update public.discoveries set cron = '* * * * *', schedule = 'custom' where name = 'Paid'$$, '42501'),
  ('writes', :'writes', $$update public.discoveries set collector = 'gemini', query = 'x', url = null where name = 'Feed'$$, '42501'),
  ('writes', :'writes', format('select public.run_discovery(%L)', :'paid'), '42501'),
  ('writes', :'writes', $$update public.discoveries set enabled = false where name = 'Paid' returning name$$, 'Paid'),
  ('writes', :'writes', $$update public.discoveries set enabled = true where name = 'Off' returning name$$, '42501'),
  ('writes', :'writes', $$insert into public.discoveries (name, collector, query) values ('Key', 'searxng', 'x') returning name$$, 'Key'),
  ('calls', :'calls', $$update public.discoveries set enabled = true, query = 'y' where name = 'Off' returning name$$, 'Off')
) as c (name, k, q, answer);

-- ---- a model that answers is a call of models
select tests.act_as_superuser();
update public.llm_providers set base_url = 'https://gemini.example', enabled = true where org_id = kijko.platform_org_id() and name = 'gemini';
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('gemini/gemini-2.5-flash', 300000, 2500000)
on conflict (id) do update set input_microusd_per_mtok = 300000, output_microusd_per_mtok = 2500000;
create function tests.call_of(of uuid) returns text language sql security definer as $$
  select (c.status, c.own_key, c.member_id = tests.id('mem'), c.input_tokens, c.output_tokens, c.cost_microusd, c.estimated)::text
  from public.llm_calls as c join public.discovery_runs as r on c.org_id = r.org_id and c.trace_id = replace(r.id::text, '-', '')
  where r.discovery_id = of order by r.job_id desc limit 1
$$;
create function tests.run_paid(outcome jsonb, of uuid) returns jsonb language plpgsql as $$
begin
  perform tests.act_as('mem', tests.org('ada'));
  perform public.run_discovery(of);
  perform tests.act_as_superuser();
  return tests.collected(outcome);
end
$$;
select tests.run_paid('{"items": [], "spent": {"searches": 1, "input_tokens": 40, "output_tokens": 20}}', :'paid') as started \gset
select is(:'started'::jsonb #>> '{work,target,model}', 'gemini-2.5-flash', 'the worker is told which model, at which provider');
select is(tests.call_of(:'paid'), '(succeeded,f,t,40,20,62,f)', 'the call is recorded for who ran it');
select is(tests.latest('Paid'), '(succeeded,0,0,0,0,)', 'and the run ends');
select is((select max(r.cost_microusd) from public.discovery_runs as r where r.discovery_id = :'paid'), 35062::bigint, 'it costs the search and the call');
select tests.run_paid('{"failed": {"code": "vendor_failed", "message": "x"}, "spent": {"unknown": true}}', :'paid') is not null as started \gset
select is(tests.call_of(:'paid'), '(failed,f,t,2000,4096,10840,t)', 'of an answer that was lost nobody knows: it used all that was held');
select tests.run_paid('{"failed": {"code": "vendor_busy", "message": "x"}, "spent": null}', :'paid') is not null as started \gset
select is(tests.call_of(:'paid'), '(cancelled,f,t,0,0,0,f)', 'one that was not answered used nothing');
select tests.act_as('mem', tests.org('ada'));
select public.run_discovery(:'paid');
select tests.act_as_superuser();
select (tests.claimed()).id as job \gset
select private.topics_start_run('w', :'job', 1) #>> '{work,target,model}' as first \gset
select is(private.topics_start_run('w', :'job', 1) #>> '{work,target,model}', :'first', 'an attempt that starts twice has one call');
select is((select count(*) from private.llm_open_calls as c where c.organization = tests.org('ada')), 1::bigint, 'indeed');
update public.jobs set attempt = 2 where id = :'job';
select is(private.topics_start_run('w', :'job', 2), '{}', 'another one asks nobody');
select is(tests.call_of(:'paid'), '(failed,f,t,2000,4096,10840,t)', 'and settles the call');
select private.topics_finish_run('w', :'job', 2, '{}') as ended \gset
-- With a key of its own the organization pays the vendor itself.
insert into public.llm_providers (org_id, name, kind) values (tests.org('ada'), 'gemini', 'gemini') returning id as own \gset
select tests.run_paid('{"items": [], "spent": {"searches": 1, "input_tokens": 40, "output_tokens": 20}}', :'paid') is not null as started \gset
select is(tests.call_of(:'paid'), '(succeeded,t,t,40,20,62,f)', 'the call is by its own provider');
select is((select r.cost_microusd from public.discovery_runs as r where r.discovery_id = :'paid' order by r.job_id desc limit 1), 62::bigint, 'and the search is not charged by us');
update public.llm_providers set kind = 'openai' where id = :'own';
select tests.run_paid('{"items": []}', :'paid') is not null as started \gset
select is(tests.latest('Paid'), '(failed,0,0,0,0,model_not_allowed)', 'another vendor has no Google Search');
delete from public.llm_providers where id = :'own';
update public.llm_providers set enabled = false where org_id = kijko.platform_org_id() and name = 'gemini';
select tests.run_paid('{"items": []}', :'paid') is not null as started \gset
select is(tests.latest('Paid'), '(failed,0,0,0,0,model_not_found)', 'nor is one asked that is off');
select is((select count(*) from private.discovery_holds) + (select count(*) from private.llm_open_calls as c where c.organization = tests.org('ada')), 0::bigint, 'nothing stays held');

-- ---- a budget refuses before anybody is asked
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_budgets (name, scope, period, unit, amount) values ('small', 'organization', 'day', 'microusd', 100);
insert into public.discoveries (name, collector, query) values ('Poor', 'tavily', 'bridges') returning id as poor \gset
select public.run_discovery(:'poor');
select tests.act_as_superuser();
select is(tests.collected('{"items": []}'), '{}', 'there is nothing to do');
select is(tests.latest('Poor'), '(failed,0,0,0,0,budget_exceeded)', 'and the run says why');

-- ---- a run fails with its job
select tests.act_as('mem', tests.org('ada'));
select public.run_discovery(:'feed');
select tests.act_as_superuser();
select (tests.claimed()).id as job \gset
select private.jobs_finish(j, 'dead', null, 'lease_expired', 'its worker is gone') from public.jobs as j where j.id = :'job';
select is(tests.latest('Feed'), '(failed,0,0,0,0,lease_expired)', 'also when nobody ended it');

-- ---- who made it may not call models any more
delete from public.llm_budgets where org_id = tests.org('ada');
select tests.act_as('mem', tests.org('ada'));
insert into public.discoveries (name, collector, query) values ('Left', 'tavily', 'bridges') returning id as left \gset
select tests.act_as_superuser();
update public.discoveries set next_run_at = kijko.now() where id = :'left';
select private.topics_run_due() as due \gset
update public.memberships set role = 'viewer' where org_id = tests.org('ada') and user_id = tests.id('mem');
select is(tests.collected('{"items": []}'), '{}', 'a search that is charged is not made for somebody who may not');
select is(tests.latest('Left'), '(failed,0,0,0,0,permission_denied)', 'the run says why');
select is((select (d.enabled, d.last_error_code)::text from public.discoveries as d where d.id = :'left'), '(f,permission_denied)', 'and the discovery stops');
select is((select count(*) from private.discovery_holds as h join public.discovery_runs as r on r.id = h.run_id where r.discovery_id = :'left'), 0::bigint, 'nothing is held');
update public.discoveries set next_run_at = kijko.now() where id = :'feed';
select private.topics_run_due() as due \gset
select is(tests.collected('{"items": []}') #>> '{work,collector}', 'feed', 'a feed, which costs nothing, goes on');

select * from finish();
rollback;
