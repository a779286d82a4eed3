begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
select tests.act_as('mem', tests.org('ada'));
insert into public.topics (title, keywords) values ('Rust in databases', '{postgres,extension}') returning id as topic \gset

-- ---- non-member and anon first
select tests.act_as_anon();
select throws_ok(format('select * from public.%I', t), '42501', null, 'an unauthenticated caller sees no ' || t) from unnest('{topics,research_sources,content_costs}'::text[]) as t;
select throws_ok('select * from public.list_topics()', '42501', null, 'nor lists them');
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from public.topics), 0::bigint, 'a non-member sees none');
select tests.refuses(format('select public.score_topic(%L)', :'topic'), 'not_found', 'and scores none');
select tests.refuses(format('select public.add_research_source(%L, %L)', :'topic', 'https://example.com/'), 'not_found', 'and adds no source');
select throws_ok(format($$insert into public.research_sources (topic_id, url) values (%L, 'https://example.com/')$$, :'topic'), '23503', null, 'nor by a row of their own organization');
select is((select count(*) from public.list_topics()), 0::bigint, 'and lists none');
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.topics), 1::bigint, 'a viewer sees it');
select tests.refuses(format('select public.score_topic(%L)', :'topic'), 'permission_denied', 'and scores none');
select tests.refuses($$select public.import_research('{"topic": "x"}')$$, 'permission_denied', 'nor imports');
select throws_ok($$insert into public.topics (title) values ('x')$$, '42501', null, 'nor writes');

-- ---- topics
select tests.act_as('mem', tests.org('ada'));
select throws_ok($$insert into public.topics (title) values ('  RUST in  databases ')$$, '23505', null, 'a title is there once, but for case and spaces');
select throws_ok($$update public.topics set status = 'written'$$, '42501', null, 'nobody writes the status');

-- ---- canonical addresses
select is(private.topics_canonical_url(u), c, u)
from (values
  ('http://www.Example.com:80/a/?utm_source=x&b=2&a=1#f', 'https://example.com/a?a=1&b=2'),
  ('https://example.com', 'https://example.com'), ('https://example.com/', 'https://example.com'),
  ('https://example.com:8443/x?gclid=1', 'https://example.com:8443/x'), ('https://example.com/A', 'https://example.com/A')
) as t (u, c);
select is(private.topics_is_url(u), false, coalesce(u, 'null') || ' is no address')
from unnest('{javascript:alert(1),ftp://example.com/,https://u:p@example.com/,"https://example.com/ x","https://example.com/\"x",//example.com,https://,NULL}'::text[]) as u;

-- ---- sources
select throws_ok(format('select private.topics_add_source(%L, %L, %L)', tests.org('ada'), :'topic', 'https://example.com/'), '42501', null, 'users do not call what collectors call');
select id as source from public.add_research_source(:'topic', 'https://arxiv.org/abs/1?utm_source=x', 'Postgres extensions in Rust', 'How a database extension is written in Rust with pgrx, for Postgres.', 'en', kijko.now() - interval '30 days') \gset
select is((public.add_research_source(:'topic', 'http://www.arxiv.org/abs/1/', 'Another title')).id, :'source'::uuid, 'the same page is one source');
select is((select (title, excerpt <> '', url)::text from public.research_sources where id = :'source'), '("Postgres extensions in Rust",t,https://arxiv.org/abs/1?utm_source=x)', 'and keeps what is known of it');
insert into public.research_sources (topic_id, url, excerpt, published_at) values
  (:'topic', 'https://blog.example.com/p', 'A Postgres database extension in Rust is fast.', kijko.now()),
  (:'topic', 'https://food.example.org/q', 'Soup recipes with leek.', kijko.now() - interval '400 days');
select is((select source_count from public.topics where id = :'topic'), 3, 'a topic counts its sources');
select tests.refuses(format($$update public.research_sources set topic_id = gen_random_uuid() where id = %L$$, :'source'), 'invalid_input', 'a source stays with its topic');
select tests.refuses(format($$insert into public.research_sources (topic_id, url) select %L, 'https://example.com/' || n from generate_series(1, 198) as n$$, :'topic'), 'quota_exceeded', 'a topic has at most 200 sources');

-- ---- scores
select is((select status from public.score_topic(:'topic')), 'researched', 'a topic that is scored is researched');
select cmp_ok((select min(score) from public.research_sources where host <> 'food.example.org'), '>', (select score from public.research_sources where host = 'food.example.org'), 'what is not about the topic counts least');
select is(
  (select bool_and(abs(s.score - (select sum((p.value ->> 'value')::numeric * (p.value ->> 'weight')::numeric) from jsonb_each(s.score_parts) as p)) < 0.0002) from public.research_sources as s),
  true, 'a score is the weighted sum of its parts'
);
select is((select array_agg(k order by k) from public.research_sources as s, jsonb_object_keys(s.score_parts) as k where s.id = :'source'), '{agreement,authority,freshness,relevance}'::text[], 'each part is stored');
select is((select (score_parts -> 'authority' ->> 'value', score_parts -> 'freshness' ->> 'value')::text from public.research_sources where id = :'source'), '(0.90,0.5000)', 'by the host, and by the age');
select is((select array_agg(t.title) from public.list_topics('researched', 'RUST databases') as t), '{Rust in databases}'::text[], 'a topic is found by its words');
select is((select count(*) from public.list_topics('written')), 0::bigint, 'and by its status');
select tests.refuses($$select * from public.list_topics('gone')$$, 'invalid_input', 'which is one of three');
insert into public.topics (title) values ('Nothing known') returning id as bare \gset
select is((select (status, score)::text from public.score_topic(:'bare')), '(discovered,0.0000)', 'a topic without sources stays discovered');

-- ---- the cache of the earlier system
select set_config('tests.file', '{"topic": "Vector search", "created_at": "2025-01-01", "sources": [
  {"url": "https://a.example/1", "title": "One", "content": "Vectors", "published": "2025-01-02T03:04:05Z"},
  {"url": "https://a.example/1#top", "title": "One again"}, {"link": "https://b.example/2", "summary": "Two", "published": "soon"}, {"title": "no address"}, 7]}', true) is not null as kept \gset
select is(public.import_research(current_setting('tests.file')::jsonb, true) - 'topic_id', '{"topic": "Vector search", "created": true, "added": 2, "changed": 0, "same": 0, "unreadable": 2, "differing": [], "only_in_database": []}', 'a dry run reports');
select is((select count(*) from public.topics where title = 'Vector search'), 0::bigint, 'and writes nothing');
select is((public.import_research(current_setting('tests.file')::jsonb) -> 'added')::integer, 2, 'a file is taken over');
select is((select (origin, status, source_count)::text from public.topics where title = 'Vector search'), '(import,researched,2)', 'with its topic');
select is((select array_agg(published_at order by url) from public.research_sources where url ~ 'a.example|b.example'), '{"2025-01-02 03:04:05+00",NULL}'::timestamptz[], 'what cannot be read says nothing');
insert into public.research_sources (topic_id, url) select id, 'https://c.example/3' from public.topics where title = 'Vector search';
select is(public.import_research(current_setting('tests.file')::jsonb) - 'topic_id', '{"topic": "Vector search", "created": false, "added": 0, "changed": 0, "same": 2, "unreadable": 2, "differing": [], "only_in_database": ["https://c.example/3"]}', 'the same again changes nothing, and says what the file lacks');
select is(
  (select (r ->> 'same', r ->> 'changed', r ->> 'differing')::text from public.import_research('{"topic": "vector  SEARCH", "sources": [
    {"url": "https://a.example/1", "title": "One", "content": "Other vectors", "published": "2025-01-03"}, {"url": "https://b.example/2", "title": "Now named"}]}') as r),
  '(1,1,"[{""url"": ""https://a.example/1"", ""fields"": [""excerpt"", ""published_at""]}]")', 'what a file says otherwise is reported, and what is there is kept'
);
select tests.refuses(format('select public.import_research(%L)', d), 'invalid_input', coalesce(d, 'null')) from unnest('{"{}","[]","{\"topic\": 7}","{\"topic\": \"x\", \"sources\": {}}",NULL}'::text[]) as d;

-- ---- what somebody could make a score say
select throws_ok(format($$insert into public.research_sources (topic_id, url, published_at) values (%L, 'https://example.com/never', 'infinity')$$, :'topic'), '23514', null, 'a page has a time or none');
select tests.act_as_superuser();
select is(array(select private.topics_freshness(kijko.now() + t) from unnest('{1 day,3 days,-4000 years,-30 days}'::interval[]) as t), '{1.0000,0.2500,0.0000,0.5000}', 'one that says it is from the future counts as one without a date');
select is(private.topics_site(h), s, h)
from (values
  ('news.example.com', 'example.com'), ('example.com', 'example.com'), ('a.b.example.co.uk', 'example.co.uk'), ('example.co.uk', 'example.co.uk'),
  ('arxiv.org', 'arxiv.org'), ('127.0.0.1', '127.0.0.1'), ('localhost', 'localhost'), ('x.io', 'x.io'), ('de.wikipedia.org', 'wikipedia.org')
) as t (h, s);
insert into public.topics (org_id, title) values (tests.org('ada'), 'One voice') returning id as voice \gset
insert into public.research_sources (org_id, topic_id, url, excerpt) select tests.org('ada'), :'voice', format('https://%s.example.com/', n), 'One voice' from generate_series(1, 5) as n;
select is((private.topics_score(t)).score_parts -> 'variety' ->> 'value', '0.3333', 'many hosts of one domain are one site') from public.topics as t where t.id = :'voice';
select is((select max((s.score_parts -> 'agreement' ->> 'value')::numeric) from public.research_sources as s where s.topic_id = :'voice'), 0.0000, 'which agrees with nobody');
insert into public.topics (org_id, title) values (tests.org('ada'), 'Copies') returning id as copies \gset
insert into public.research_sources (org_id, topic_id, url, excerpt)
select tests.org('ada'), :'copies', u, t from (values ('https://a.example/', 'Said by one'), ('https://b.example/', 'said  BY one'), ('https://c.example/', 'Silence')) as s (u, t);
select private.topics_score(t) is not null as scored from public.topics as t where t.id = :'copies' \gset
select is((select max((s.score_parts -> 'agreement' ->> 'value')::numeric) from public.research_sources as s where s.topic_id = :'copies'), 0.0000, 'and a copy is no second voice');

-- ---- costs
select is(private.topics_add_cost(tests.org('ada'), 'draft', :'source', 5, :'topic', null, null, 'echo/a', tests.id('mem')), true, 'a cost is recorded');
select is(private.topics_add_cost(tests.org('ada'), 'draft', :'source', 7, :'topic', null, null, 'echo/a', tests.id('mem')), false, 'once');
select tests.act_as('vic', tests.org('ada'));
select is((select (cost_microusd, cost_usd)::text from public.content_costs), '(5,0.000005)', 'members see it');
select throws_ok('delete from public.content_costs', '42501', null, 'and do not write it');
select results_eq($$select title, entries, cost_microusd from public.content_cost_report('topic')$$, $$values ('Rust in databases', 1::bigint, 5::bigint)$$, 'a report by topic');
select is((select (id, cost_usd)::text from public.content_cost_report()), format('(%s,0.000005)', tests.org('ada')), 'and of the organization');
select is((select count(*) from public.content_cost_report(until => kijko.now() - interval '1 day')), 0::bigint, 'of a time');
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from public.content_cost_report()), 0::bigint, 'a non-member sees none');

select tests.act_as('mem', tests.org('ada'));
delete from public.topics where id = :'topic';
select is((select count(*) from public.research_sources where topic_id = :'topic'), 0::bigint, 'sources go with their topic');
select is((select count(*) from public.content_costs), 1::bigint, 'what it cost stays');
select * from finish();
rollback;
