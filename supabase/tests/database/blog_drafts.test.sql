-- Outlines and drafts by a model: who asks, what it may cost, and what becomes of the answer.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
-- Echo is a provider of this stack, whatever its sidecar says.
select private.models_report_providers('{echo}');
create function tests.start() returns jsonb language plpgsql security definer as $$
declare
  job public.jobs;
begin
  select j.* into job from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'blog_draft' order by j.created_at desc limit 1;
  update public.jobs as j set status = 'running', locked_by = 'w', locked_until = now() + interval '1 minute', attempt = 1 where j.id = job.id;
  return private.blog_start_draft('w', job.id, 1) || jsonb_build_object('job', job.id);
end
$$;
create function tests.finish(result jsonb) returns boolean language sql security definer as $$
  select private.blog_finish_draft('w', j.id, 1, finish.result) from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'blog_draft' and j.status = 'running'
$$;
create function tests.settle(cost boolean default true) returns void language sql security definer as $$
  select private.llm_settle(c.call_id, '{"status": "succeeded", "prompt_tokens": 10, "completion_tokens": 5}')
  from private.llm_open_calls as c where c.organization = tests.org('ada')
$$;

select tests.act_as('mem', tests.org('ada'));
insert into public.topics (title, keywords) values ('Rust', '{postgres}') returning id as topic \gset
select id as post from public.create_post('Rust', '{"content_markdown": "old"}', :'topic') \gset
select tests.refuses(format('select public.draft_post(%L, 1, %L)', :'post', 'echo/a'), 'conflict', 'without sources nothing is written');
select id as first from public.add_research_source(:'topic', 'https://a.example/1', 'One [x](javascript:alert(1))', 'Rust is used in Postgres.') \gset
select id as second from public.add_research_source(:'topic', 'https://b.example/2', '', 'Rust again, for Postgres.') \gset
select status as scored from public.score_topic(:'topic') \gset

-- ---- who asks
select tests.act_as_anon();
select throws_ok(format('select public.draft_post(%L, 1, %L)', :'post', 'echo/a'), '42501', null, 'an unauthenticated caller asks for no draft');
select throws_ok('select * from public.blog_drafts', '42501', null, 'and sees none');
select tests.act_as('bob', tests.org('bob'));
select tests.refuses(format('select public.draft_post(%L, 1, %L)', :'post', 'echo/a'), 'not_found', 'nor does a non-member');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.draft_post(%L, 1, %L)', :'post', 'echo/a'), 'permission_denied', 'nor a viewer');
select tests.act_as('ada', tests.org('ada'));
select tests.make_key(tests.org('ada'), '["content:read", "content:write", "llm:call"]') as key \gset
select is(tests.by_key(:'key', format('select public.draft_post(%L, 1, %L)', :'post', 'echo/a')), '42501', 'nor a service key, which is no member');

-- ---- a draft
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.draft_post(%L, 2, %L)', :'post', 'echo/a'), 'conflict', 'of the newest revision only');
select tests.refuses(format('select public.draft_post(%L, 1, %L, %L)', :'post', 'echo/a', 'poem'), 'invalid_input', 'an outline or a draft');
select is((select status from public.draft_post(:'post', 1, 'echo/a', instructions => 'Be brief')), 'queued', 'a member asks for a draft');
select tests.refuses(format('select public.draft_post(%L, 1, %L)', :'post', 'echo/a'), 'conflict', 'one at a time');
select tests.act_as_superuser();
select tests.start() as started \gset
select matches(:'started'::jsonb #>> '{request,messages,1,content}', 'Be brief.*Sources:.*\[\^1\].*\[\^2\]', 'the model is asked with the numbered sources');
select is((select (c.status, c.member_id = tests.id('mem'), c.held_tokens > 6000)::text from public.llm_calls as c where c.org_id = tests.org('ada')), '(reserved,t,t)', 'what it can use is held, of the member');
select is((select (d.status, cardinality(d.call_ids), d.costs_pending)::text from public.blog_drafts as d), '(running,1,t)', 'the draft knows its call');
select private.llm_open(:'started'::jsonb ->> 'ticket') is not null as opened \gset
select tests.settle();
select is(tests.finish('{"text": "Rust [^1] and [^9] and [^x].\n\n[^1]: my own"}'), true, 'the answer ends it');
select is(
  (select p.content_markdown from public.blog_posts as p where p.id = :'post'),
  (select format(E'Rust [^1] and  and .\n\n[^1]: [%s](<%s>)\n', case s.id when :'first'::uuid then 'One  x  javascript:alert 1' else 'b.example' end, s.url) from private.blog_draft_sources((select p from public.blog_posts as p where p.id = :'post')) as d, lateral (select (d.source).*) as s where d.n = 1),
  'the post has it, with a footnote for each source that it was given, and none for others'
);
select is((select (p.revision, p.status)::text from public.blog_posts as p where p.id = :'post'), '(2,draft)', 'as a new revision');
select is((select (d.status, d.applied_revision, d.costs_pending, jsonb_array_length(d.citations))::text from public.blog_drafts as d), '(succeeded,2,f,1)', 'the draft says so');
select is((select (c.source, c.topic_id, c.blog_post_id, c.created_by)::text from public.content_costs as c where c.org_id = tests.org('ada')), format('(draft,%s,%s,%s)', :'topic', :'post', tests.id('mem')), 'its cost is recorded');
select is((select count(*) from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'blog_draft'), 0::bigint, 'its job is gone');

-- ---- somebody edits meanwhile
select tests.act_as('mem', tests.org('ada'));
select status as asked from public.draft_post(:'post', 2, 'echo/a') \gset
select revision as edited from public.save_post(:'post', 2, '{"content_markdown": "mine"}') \gset
select tests.act_as_superuser();
select tests.start() is not null as started_again \gset
select is(tests.finish('{"text": "theirs"}'), true, 'an answer that comes late');
select is((select p.content_markdown from public.blog_posts as p where p.id = :'post'), 'mine', 'overwrites nothing');
select is((select (d.status, d.applied_revision, d.content_markdown)::text from public.blog_drafts as d where d.base_revision = 2) ~ 'succeeded,,', true, 'and is kept beside it');
select is((select count(*) from public.blog_drafts as d where d.costs_pending), 1::bigint, 'a call that is not settled is pending');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.delete_post(%L)', :'post'), 'conflict', 'a post whose cost is not known is not deleted');
select tests.act_as_superuser();
select tests.settle();
update public.blog_drafts set updated_at = kijko.now();
select set_config('session_replication_role', 'replica', true) is not null as quiet \gset
update public.blog_drafts set updated_at = kijko.now() - interval '2 minutes';
select set_config('session_replication_role', 'origin', true) is not null as loud \gset
select is(private.blog_maintain_drafts(), 0, 'maintenance');
select is((select count(*) from public.blog_drafts as d where d.costs_pending), 0::bigint, 'records it once it is');
select is((select count(*) from public.content_costs as c where c.org_id = tests.org('ada')), 2::bigint, 'each call once');

-- ---- a route that answers with less
select tests.act_as('ada', tests.org('ada'));
insert into public.llm_routes (name, targets, max_output_tokens) values ('short', '{echo/a}', 500);
select tests.act_as('mem', tests.org('ada'));
select id as brief from public.create_post('Brief', '{"content_markdown": "old"}', :'topic') \gset
select status as asked from public.draft_post(:'brief', 1, 'short') \gset
select tests.act_as_superuser();
select is(tests.start() #>> '{request,max_tokens}', '500', 'is asked for no more than that');
select private.llm_settle(c.call_id, '{"status": "succeeded", "prompt_tokens": 10, "completion_tokens": 5}') from private.llm_open_calls as c \gset
select tests.act_as('mem', tests.org('ada'));
select public.delete_post(:'brief');
select tests.act_as_superuser();
select is((select count(*) from public.content_costs as c where c.blog_post_id = :'brief'), 1::bigint, 'a post that is deleted has cost what its drafts have');
select is(tests.finish('{"text": "late"}'), true, 'and the job of one ends');

-- ---- what cannot be
select tests.act_as('mem', tests.org('ada'));
select status as asked from public.draft_post(:'post', 3, 'nobody/a') \gset
select tests.act_as_superuser();
select is(tests.start() ->> 'refused', 'model_not_found', 'a model that is not there is refused');
select is(tests.finish('{"failed": "model_not_found", "message": "x"}'), true, 'which ends the draft');
select is((select (d.status, d.error_code)::text from public.blog_drafts as d where d.model = 'nobody/a'), '(failed,model_not_found)', 'and it says why');
select tests.act_as('mem', tests.org('ada'));
select status as asked from public.draft_post(:'post', 3, 'echo/b') \gset
select tests.act_as_superuser();
update public.memberships set role = 'viewer' where org_id = tests.org('ada') and user_id = tests.id('mem');
select is(tests.start() ->> 'refused', 'permission_denied', 'who may not any more gets nothing');
delete from public.jobs where org_id = tests.org('ada') and kind = 'blog_draft';
select set_config('session_replication_role', 'replica', true) is not null as quiet \gset
update public.blog_drafts set updated_at = kijko.now() - interval '2 minutes';
select set_config('session_replication_role', 'origin', true) is not null as loud \gset
select is(private.blog_maintain_drafts(), 1, 'a draft whose job is gone');
select is((select (d.status, d.error_code)::text from public.blog_drafts as d where d.model = 'echo/b'), '(failed,job_ended)', 'ends');
select * from finish();
rollback;
