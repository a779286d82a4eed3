-- Events of blog posts and of social posts: for clients that listen, with ids and states only, and for webhooks.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
create function tests.sent(named text) returns text language sql security definer as $$
  select string_agg(concat_ws(' ', m.payload ->> 'status', m.payload ->> 'approval_status', m.payload ->> 'revision'), ', ' order by m.xid, m.inserted_at, m.ctid)
  from realtime.messages as m where m.topic = 'org:' || tests.org('ada') and m.private and m.event = sent.named
$$;
create function tests.messages() returns text language sql security definer as $$
  select string_agg(concat_ws(' ', m.type, m.payload #>> '{data,slug}', m.payload #>> '{data,platform}', m.payload #>> '{data,error_code}', m.payload #>> '{data,url}'), ', ' order by m.created_at, m.type)
  from public.webhook_messages as m where m.org_id = tests.org('ada')
$$;

select tests.act_as('ada', tests.org('ada'));
insert into public.webhook_endpoints (url, event_types) values ('https://hooks.example.com/x', '{blog_post.published,blog_post.unpublished,social_post.published,social_post.failed,social_post.missed,social_post.unconfirmed}');
select site_url as site from public.set_blog_settings('https://blog.example') \gset

-- ---- a blog post
select id as post from public.create_post('Hello', '{"content_markdown": "one"}') \gset
select revision as edited from public.save_post(:'post', 1, '{"title": "Hello!"}') \gset
select status as submitted from public.submit_post(:'post', 2) \gset
select tests.act_as_superuser();
select private.blog_record_render(p.id, p.content_hash, '<p>one</p>', 1) from public.blog_posts as p where p.id = :'post';
select is(tests.sent('blog_post'), 'draft none 1, draft none 2, ready none 2', 'each state and revision, and no rendering');
select tests.act_as('ada', tests.org('ada'));
select status as published from public.publish_post(:'post', 2) \gset
select status as withdrawn from public.unpublish_post(:'post') \gset
select tests.act_as_superuser();
select is(tests.sent('blog_post'), 'draft none 1, draft none 2, ready none 2, scheduled none 2, published none 2, draft none 2', 'to the end');
select is(tests.messages(), 'blog_post.published hello https://blog.example/hello, blog_post.unpublished hello', 'what everyone may read is sent to webhooks');

-- ---- a social post
delete from public.webhook_messages;
select tests.act_as('ada', tests.org('ada'));
insert into public.social_posts (platform, text) values ('linkedin', 'Hello') returning id as social \gset
select status as asked from public.submit_social_post(:'social') \gset
update public.social_posts set text = 'Hello again' where id = :'social';
select tests.act_as_superuser();
select is(tests.sent('social_post'), 'draft none 1, draft submitted 1, draft none 2', 'an edit, too, whose state a trigger sets');
update public.social_posts set status = 'scheduled', scheduled_at = now() where id = :'social';
update public.social_posts set status = 'publishing' where id = :'social';
update public.social_posts set status = 'failed', error_code = 'duplicate_content' where id = :'social';
update public.social_posts set status = 'missed', error_code = 'too_late' where id = :'social';
update public.social_posts set status = 'unconfirmed', error_code = 'outcome_unknown' where id = :'social';
update public.social_posts set status = 'published', published_at = now(), error_code = null where id = :'social';
select is(
  (select string_agg(t, ', ' order by t) from regexp_split_to_table(tests.messages(), ', ') as t),
  'social_post.failed linkedin duplicate_content, social_post.missed linkedin too_late, social_post.published linkedin, social_post.unconfirmed linkedin outcome_unknown',
  'how it ended is sent to webhooks'
);
select is(
  (select array_agg(distinct k.key order by k.key) from realtime.messages as m cross join lateral jsonb_object_keys(m.payload) as k (key) where m.event in ('blog_post', 'social_post')),
  '{approval_status,blog_post_id,id,revision,social_post_id,status}', 'clients get ids and states only'
);
select is(
  (select count(*) from public.webhook_event_types as t where t.name ~ '^(blog|social)_post\.'), 6::bigint, 'six types'
);
select * from finish();
rollback;
