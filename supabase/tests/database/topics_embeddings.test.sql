-- Embeddings of sources: who asks, what is kept, which sources are similar, and what scores make of it.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
select private.models_report_providers('{openai}');
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok) values ('openai/tests-embedding', 1000000, 0);
create function tests.start() returns jsonb language plpgsql security definer as $$
declare
  job public.jobs;
begin
  select j.* into job from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'topic_embedding' and j.status = 'queued';
  update public.jobs as j set status = 'running', locked_by = 'w', locked_until = now() + interval '1 minute', attempt = 1 where j.id = job.id;
  return private.topics_start_embedding('w', job.id, 1);
end
$$;
create function tests.finish(result jsonb) returns boolean language sql security definer as $$
  select private.topics_finish_embedding('w', j.id, 1, finish.result) from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'topic_embedding' and j.status = 'running'
$$;
create function tests.embedded(started jsonb, vectors jsonb) returns jsonb language sql as $$
  select jsonb_build_object('embedded', jsonb_agg(jsonb_build_object('source', s.value, 'vector', v.value) order by s.n))
  from jsonb_array_elements(started -> 'sources') with ordinality as s (value, n)
  join jsonb_array_elements(vectors) with ordinality as v (value, n) on v.n = s.n
$$;
create function tests.part(source uuid) returns text language sql security definer as $$
  select s.score_parts #>> '{agreement,value}' from public.research_sources as s where s.id = part.source
$$;

select tests.act_as('mem', tests.org('ada'));
insert into public.topics (title) values ('Bridges') returning id as topic \gset
select id as a from public.add_research_source(:'topic', 'https://a.example/1', 'Bridge', 'Alpha beta gamma delta.') \gset
select id as b from public.add_research_source(:'topic', 'https://b.example/2', 'Pont', 'Epsilon zeta eta theta.') \gset
select id as c from public.add_research_source(:'topic', 'https://c.example/3', 'Cat', 'Iota kappa lambda mu.') \gset
select status as scored from public.score_topic(:'topic') \gset
select tests.part(:'a') as plain \gset

-- ---- who asks
select tests.act_as_anon();
select throws_ok(format('select public.embed_topic(%L, %L)', :'topic', 'openai/tests-embedding'), '42501', null, 'an unauthenticated caller has nothing embedded');
select throws_ok(format('select * from public.similar_sources(%L)', :'a'), '42501', null, 'and finds nothing');
select tests.act_as('bob', tests.org('bob'));
select tests.refuses(format('select public.embed_topic(%L, %L)', :'topic', 'openai/tests-embedding'), 'not_found', 'nor does a non-member');
select tests.refuses(format('select public.similar_sources(%L)', :'a'), 'not_found', 'who finds nothing either');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.embed_topic(%L, %L)', :'topic', 'openai/tests-embedding'), 'permission_denied', 'nor a viewer');
select is((select count(*) from public.similar_sources(:'a')), 0::bigint, 'who may look: nothing is embedded yet');
select tests.act_as('ada', tests.org('ada'));
select tests.make_key(tests.org('ada'), '["content:read", "content:write", "llm:call"]') as key \gset
select is(tests.by_key(:'key', format('select public.embed_topic(%L, %L)', :'topic', 'openai/tests-embedding')), '42501', 'nor a service key, which is no member');

-- ---- vectors
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.embed_topic(%L, %L)', :'topic', ''), 'invalid_input', 'by a model');
select tests.refuses(format('select public.similar_sources(%L, 101)', :'a'), 'invalid_input', 'at most 100');
select is(public.embed_topic(:'topic', 'openai/tests-embedding'), 3::bigint, 'a member asks for three');
select is(public.embed_topic(:'topic', 'openai/tests-embedding'), 3::bigint, 'twice');
select tests.act_as_superuser();
select is((select count(*) from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'topic_embedding'), 1::bigint, 'is one job');
select tests.start() as started \gset
select is(jsonb_array_length(:'started'::jsonb #> '{request,input}'), 3, 'the model is asked for all');
select is((select (c.kind, c.status, c.member_id = tests.id('mem'), c.held_microusd > 0)::text from public.llm_calls as c where c.org_id = tests.org('ada')), '(embeddings,reserved,t,t)', 'its cost is held, of the member');
select private.llm_open(:'started'::jsonb ->> 'ticket') is not null as opened \gset
select private.llm_settle(c.call_id, '{"status": "succeeded", "prompt_tokens": 30, "completion_tokens": 0}') from private.llm_open_calls as c where c.organization = tests.org('ada');
-- The sources in the order of their ids: a and b nearly the same, c across.
select jsonb_agg(case (s.value ->> 'id')::uuid when :'a' then '[3, 4, 0]'::jsonb when :'b' then '[3, 4.1, 0]' else '[0, 0, 7]' end order by s.n) as vectors
from jsonb_array_elements(:'started'::jsonb -> 'sources') with ordinality as s (value, n) \gset
select is(tests.finish(tests.embedded(:'started', :'vectors')), true, 'the vectors come');
select is((select array_agg(round(u.n::numeric, 3) order by u.place)::text from public.source_embeddings as e, unnest(e.embedding) with ordinality as u (n, place) where e.source_id = :'a'), '{0.600,0.800,0.000}', 'at length 1');
select is((select count(*) from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'topic_embedding'), 0::bigint, 'the job is gone');
select is((select (c.source, c.topic_id, c.cost_microusd, c.created_by)::text from public.content_costs as c where c.org_id = tests.org('ada')), format('(embedding,%s,30,%s)', :'topic', tests.id('mem')), 'its cost is recorded');
select is((select count(*) from private.topic_embedding_calls as k where k.organization = tests.org('ada')), 0::bigint, 'once');
select is(tests.part(:'a'), :'plain', 'and the topic is not scored yet');
savepoint unscored;
create or replace function private.topics_meaning(topic public.topics) returns table (source_id uuid, agreement numeric)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$ begin raise query_canceled; end $$;
select is(private.topics_score_embedded(:'topic'), true, 'scores that take too long');
select is((select count(*) from public.source_embeddings as e where e.org_id = tests.org('ada')), 3::bigint, 'do not lose vectors');
select is(private.topics_score_embedded(:'topic'), false, 'and are tried again after a pause');
select is((select (r.failures, r.retry_at > clock_timestamp())::text from private.topic_rescores as r where r.topic_id = :'topic'), '(1,t)', 'of a minute');
rollback to unscored;
select is(private.topics_score_embedded(), true, 'it is scored in a transaction of its own');
select is(private.topics_score_embedded(:'topic'), false, 'once');
select ok(tests.part(:'a')::numeric between :'plain'::numeric + 0.2 and 0.6, 'another host that means the same is agreement');
select is(tests.part(:'c'), '0.0000', 'one that does not is none');
select tests.act_as('vic', tests.org('ada'));
select is((select string_agg(s.id || ' ' || round(s.similarity::numeric, 2), ', ' order by s.similarity desc) from public.similar_sources(:'a') as s), format('%s 1.00, %s 0.00', :'b', :'c'), 'the nearest first');
select is((select count(*) from public.similar_sources(:'a', 1)), 1::bigint, 'as many as asked');
select is((select count(*) from public.source_embeddings), 3::bigint, 'a viewer sees the vectors');
select throws_ok('delete from public.source_embeddings', '42501', null, 'and writes none');
select tests.act_as_superuser();
savepoint all_numbers;
create or replace function private.topics_comparable_numbers() returns bigint language sql immutable return 12;
select is((select count(*) from public.topics as t, private.topics_meaning(t) where t.id = :'topic'), 2::bigint, 'as many sources are scored by it as have so many numbers, each with each');
create or replace function private.topics_comparable_numbers() returns bigint language sql immutable return 5;
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.similar_sources(:'a')), 1::bigint, 'and as many are looked through');
select tests.act_as_superuser();
rollback to all_numbers;

-- ---- what changes, and what cannot be
select tests.act_as('mem', tests.org('ada'));
select is(public.embed_topic(:'topic', 'openai/tests-embedding'), 0::bigint, 'what is embedded is not embedded again');
update public.research_sources set excerpt = 'Something else.' where id = :'b';
select is(public.embed_topic(:'topic', 'openai/tests-embedding'), 1::bigint, 'but what has changed');
select tests.act_as_superuser();
select tests.start() as started \gset
select is(tests.finish(tests.embedded(:'started', '["no vector"]')), true, 'an answer that is no vector');
select is((select count(*) from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'topic_embedding'), 0::bigint, 'is not asked for again and again');
select is(private.topics_unit_vector(v), null, v::text) from unnest(array['null', '[]', '{}', '[0, 0]', '["x"]', '[1e300]', '[null]']::jsonb[]) as v;
select is(private.topics_similarity('{1,0}', '{0,1}'), 0::double precision, 'vectors that are across have nothing in common');
select tests.act_as('mem', tests.org('ada'));
select public.embed_topic(:'topic', 'openai/nobody') as asked \gset
select tests.act_as_superuser();
select is(tests.start() ->> 'refused', 'model_not_priced', 'a model without a price is refused');
update public.memberships set role = 'viewer' where org_id = tests.org('ada') and user_id = tests.id('mem');
update public.jobs set status = 'queued', locked_by = null, locked_until = null where org_id = tests.org('ada') and kind = 'topic_embedding';
select is(tests.start() ->> 'refused', 'permission_denied', 'who may not any more gets nothing');
delete from public.topics where id = :'topic';
select is((select count(*) from public.source_embeddings as e where e.org_id = tests.org('ada')), 0::bigint, 'vectors go with their sources');
select * from finish();
rollback;
