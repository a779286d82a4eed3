-- What content has cost: by what, in which time, and of nobody else.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up(u) from unnest('{ada,bob}'::text[]) as u;
insert into public.topics (id, org_id, title) select tests.id(t), tests.org(who), t from (values ('Rust', 'ada'), ('Go', 'ada'), ('Theirs', 'bob')) as v (t, who);
insert into public.blog_posts (id, org_id, content_group_id, title, slug) select tests.id(p), tests.org(who), tests.id(p), p, lower(p) from (values ('One', 'ada'), ('Two', 'ada'), ('Other', 'bob')) as v (p, who);
insert into public.content_costs (org_id, source, source_id, topic_id, blog_post_id, social_post_id, cost_microusd, created_at)
select tests.org(who), 'test', gen_random_uuid(), tests.id(topic), tests.id(post), tests.id(social), cost, '2026-01-01T00:00:00Z'::timestamptz + at
from (values
  ('ada', 'Rust', null, null, 5, interval '0'), ('ada', 'Rust', 'One', null, 7, '1 day'), ('ada', 'Go', null, null, 1, '2 days'), ('ada', null, 'Two', null, 30, '3 days'), ('ada', null, null, 'tweet', 2, '4 days'),
  ('ada', 'Gone', null, null, 3, '4 days'), ('bob', 'Theirs', 'Other', null, 1000, '1 day')
) as v (who, topic, post, social, cost, at);
create function tests.report(by text, since timestamptz default null, until timestamptz default null, n integer default 100) returns text language sql as $$
  select string_agg(concat_ws(' ', case when r.id is null then 'none' when r.id = tests.org('ada') then 'all' else coalesce(r.title, 'untitled') end, r.entries, r.cost_microusd), ', ' order by place)
  from public.content_cost_report(by, since, until, n) with ordinality as r (id, title, entries, cost_microusd, cost_usd, place)
$$;

select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select tests.report('topic')$$, 'not_a_member', 'a non-member sees none');
select tests.act('authenticated', tests.token('authenticated'), tests.org('ada'));
select tests.refuses($$select tests.report('topic')$$, 'not_identified', 'nor does a session that has ended');
select tests.act_as('ada', tests.org('ada'));
select is(tests.report(by), wanted, 'by ' || by)
from (values
  ('topic', 'none 2 32, Rust 2 12, untitled 1 3, Go 1 1'), ('post', 'Two 1 30, none 4 11, One 1 7'), ('social_post', 'none 5 46, untitled 1 2'), ('organization', 'all 6 48')
) as v (by, wanted);
select is(tests.report('topic', n => 1), 'none 2 32', 'the most expensive first');
select is(tests.report('organization', since, until), wanted, format('from %s to %s', since, until))
from (values
  ('2026-01-02T00:00:00Z'::timestamptz, null::timestamptz, 'all 5 43'), ('2026-01-02T00:00:00.000001Z', null, 'all 4 36'), (null, '2026-01-02T00:00:00Z', 'all 1 5'), (null, '2026-01-02T00:00:00.000001Z', 'all 2 12'),
  ('2026-01-02T00:00:00Z', '2026-01-04T00:00:00Z', 'all 2 8'), ('2027-01-01T00:00:00Z', null, null)
) as v (since, until, wanted);
select tests.refuses(format('select tests.report(%L, null, null, %L)', by, n), 'invalid_input', format('%s, %s', by, n)) from (values ('author', 1), (null, 1), ('topic', 0), ('topic', 1001), ('topic', null)) as v (by, n);
select lives_ok($$select tests.report('topic', null, null, 1000)$$, 'a thousand');

select * from finish();
rollback;
