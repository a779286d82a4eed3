begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('cas'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
update public.organizations set slug = 'tests-blog' where id = tests.org('ada');
select tests.join_org('cas', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
create function tests.render(post uuid) returns void language sql security definer as $$
  select private.blog_record_render(p.id, p.content_hash, '<p>' || p.content_markdown || '</p>', 500) from public.blog_posts as p where p.id = render.post
$$;
create function tests.approval(post uuid) returns uuid language sql security definer as $$
  select a.id from public.approvals as a where a.subject_id = approval.post and a.status = 'pending'
$$;
create function tests.feed(format text) returns text language sql as $$ select convert_from(public.blog_feed('tests-blog', feed.format), 'UTF8') $$;
create function tests.queued(post uuid) returns bigint language sql security definer as $$
  select count(*) from public.jobs as j where j.kind = 'blog_render' and j.payload ->> 'post_id' = queued.post::text
$$;
create function tests.publish_due(post uuid) returns text language plpgsql security definer as $$
begin
  update public.blog_posts as p set scheduled_at = kijko.now() - interval '1 second' where p.id = publish_due.post and p.status = 'scheduled';
  perform private.blog_maintain();
  return (select p.status from public.blog_posts as p where p.id = publish_due.post);
end
$$;

select tests.act_as('mem', tests.org('ada'));
insert into public.topics (title) values ('Rust in databases') returning id as topic \gset
select id as post from public.create_post('Hello, World!', '{"content_markdown": "one\ntwo\nthree", "tags": ["a"]}', :'topic') \gset

-- ---- non-member and anon first
select tests.act_as_anon();
select throws_ok(format('select * from public.%I', t), '42501', null, 'an unauthenticated caller sees no ' || t)
from unnest('{blog_posts,blog_post_revisions,blog_post_slugs,blog_settings,blog_comments}'::text[]) as t;
select throws_ok(format('select public.publish_post(%L, 1)', :'post'), '42501', null, 'and publishes none');
select is((select count(*) from public.published_posts('tests-blog')), 0::bigint, 'a draft is not public');
select tests.refuses($$select public.published_post('tests-blog', 'hello-world')$$, 'not_found', 'nor by its slug');
select tests.refuses($$select public.published_post('no-such-org', 'hello-world')$$, 'not_found', 'as in an organization that is not there');
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from public.blog_posts) + (select count(*) from public.blog_post_revisions), 0::bigint, 'a non-member sees none');
select tests.refuses(format(f, :'post'), 'not_found', 'a non-member: ' || f) from unnest(array[
  'select public.save_post(%L, 1, ''{}'')', 'select public.delete_post(%L)', 'select public.submit_post(%L, 1)', 'select public.publish_post(%L, 1)',
  'select public.schedule_post(%L, 1, now())', 'select public.unschedule_post(%L)', 'select public.unpublish_post(%L)', 'select public.post_seo(%L)',
  'select public.restore_post_revision(%L, 1, 1)', 'select public.compare_post_revisions(%L, 1, 1)', 'select public.create_post(''x'', translation_of => %L, locale => ''nl'')'
]) as f;
select tests.refuses(format('select public.create_post(%L, topic_id => %L)', 'x', :'topic'), 'not_found', 'a topic of another organization is none');
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.blog_posts), 1::bigint, 'a viewer sees it');
select tests.refuses(format(f, :'post'), 'permission_denied', 'a viewer: ' || f) from unnest(array[
  'select public.save_post(%L, 1, ''{}'')', 'select public.delete_post(%L)', 'select public.submit_post(%L, 1)', 'select public.publish_post(%L, 1)'
]) as f;
select tests.refuses($$select public.create_post('x')$$, 'permission_denied', 'and makes none');
select throws_ok($$update public.blog_posts set content_html = '<script>'$$, '42501', null, 'nor writes the HTML');

-- ---- a post
select tests.act_as('mem', tests.org('ada'));
select throws_ok($$update public.blog_posts set content_html = '<script>'$$, '42501', null, 'nobody writes the HTML but the renderer');
select is((select (slug, locale, status, revision, approval_status, content_html, reading_minutes)::text from public.blog_posts), '(hello-world,en,draft,1,none,,1)', 'a post is a draft');
select is((select status from public.topics), 'written', 'its topic is written');
select is((select slug ~ '^hello-world-[0-9a-f]{8}$' from public.create_post('Hello World')), true, 'a slug is there once');
select tests.refuses($$select public.create_post('Hi', '{"slug": "hello-world"}')$$, 'conflict', 'also if it is named');
select tests.refuses(format('select public.create_post(%L, %L)', 'x', f), 'invalid_input', f)
from unnest('{"{\"content_html\": \"x\"}","{\"status\": \"published\"}","{\"org_id\": \"x\"}","{\"tags\": \"x\"}","{\"title\": null}","[]"}'::text[]) as f;
select is(tests.queued(:'post'), 1::bigint, 'its rendering is queued');

-- ---- edits
select is((select (revision, title)::text from public.save_post(:'post', 1, '{"content_markdown": "one\n2\nthree\nfour"}', 'Numbers')), '(2,"Hello, World!")', 'an edit is a revision');
select tests.refuses(format('select public.save_post(%L, 1, %L)', :'post', '{"title": "Lost"}'), 'conflict', 'a stale edit is a conflict');
select is((select revision from public.save_post(:'post', 2, '{"title": "Hello, World!"}')), 2, 'what changes nothing is no revision');
select is(
  public.compare_post_revisions(:'post', 1, 2),
  '{"fields": [], "lines": [{"op": "=", "lines": 1}, {"op": "-", "text": "two"}, {"op": "+", "text": "2"}, {"op": "=", "lines": 1}, {"op": "+", "text": "four"}]}',
  'revisions are compared line by line'
);
select is((select (revision, content_markdown)::text from public.restore_post_revision(:'post', 2, 1)), E'(3,"one\ntwo\nthree")', 'a former one is restored as a new one');
select tests.refuses(format('select public.restore_post_revision(%L, 2, 1)', :'post'), 'conflict', 'not over a newer one');
select tests.refuses(format('select public.restore_post_revision(%L, 3, 9)', :'post'), 'not_found', 'nor one that is not there');

-- ---- the renderer
select tests.act_as_sidecar();
select tests.act_as_superuser();
select is(private.blog_start_render(:'post', private.topics_hash(E'one\ntwo\nthree')), E'one\ntwo\nthree', 'the renderer gets a text by its hash');
select is(private.blog_record_render(:'post', private.topics_hash(E'one\n2\nthree\nfour'), '<p>old</p>', 4), true, 'the HTML of a former text');
select is((select content_html from public.blog_posts where id = :'post'), null, 'is not the post''s');
select is(private.blog_record_render(:'post', private.topics_hash(E'one\ntwo\nthree'), '<p>new</p>', 500), true, 'that of the newest text');
select is((select (content_html, content_html_hash = content_hash, reading_minutes)::text from public.blog_posts where id = :'post'), '(<p>new</p>,t,3)', 'is');
select is((select array_agg(content_html order by revision) from public.blog_post_revisions where post_id = :'post'), '{<p>new</p>,<p>old</p>,<p>new</p>}', 'each revision has the HTML of its text');
select is(private.blog_start_render(:'post', private.topics_hash(E'one\ntwo\nthree')), null, 'what is rendered is not rendered again');
select throws_ok(format($$update public.blog_posts set content_markdown = 'x' where id = %L$$, :'post'), '23514', null, 'HTML of another text cannot be kept');

-- ---- publication without approvals
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.publish_post(%L, 3)', :'post'), 'permission_denied', 'a member does not publish');
select is((select status from public.submit_post(:'post', 3)), 'ready', 'but says that it is ready');
select tests.act_as('cas', tests.org('ada'));
select tests.refuses(format('select public.publish_post(%L, 2)', :'post'), 'conflict', 'nobody publishes what they have not seen');
select is((select (status, published_revision)::text from public.publish_post(:'post', 3)), '(published,3)', 'an admin publishes it');
select is((select (status, published_revision)::text from public.publish_post(:'post', 3)), '(published,3)', 'twice is once');
select tests.act_as('mem', tests.org('ada'));
select is((select (status, revision)::text from public.save_post(:'post', 3, '{"title": "Unseen", "content_markdown": "unseen", "tags": ["b"]}')), '(published,4)', 'it stays published while it is edited');
select tests.refuses(format('select public.save_post(%L, 4, %L)', :'post', '{"slug": "other"}'), 'permission_denied', 'a member does not move a published post');
select tests.refuses(format('select public.delete_post(%L)', :'post'), 'permission_denied', 'nor deletes it');
select tests.act_as_anon();
select results_eq($$select slug, title, tags, reading_minutes from public.published_posts('tests-blog')$$, $$values ('hello-world', 'Hello, World!', '{a}'::text[], 3)$$, 'everyone reads what was published');
select is((select count(*) from public.published_posts('tests-blog', tag => 'b')), 0::bigint, 'not what is edited');
select is(public.published_post('tests-blog', 'hello-world') ->> 'content_html', '<p>new</p>', 'with its HTML');
select is((select count(*) from public.published_posts('tests-blog', 'nl')) + (select count(*) from public.published_posts('tests')), 0::bigint, 'by language and organization');
select tests.refuses($$select * from public.published_posts('tests-blog', n => 101)$$, 'invalid_input', 'at most 100 at once');
select tests.act_as('cas', tests.org('ada'));
select is((select (status, scheduled_at is null)::text from public.publish_post(:'post', 4)), '(scheduled,f)', 'a text that is not rendered yet waits for that');
select tests.render(:'post');
select is((select (status, published_revision)::text from public.blog_posts where id = :'post'), '(published,4)', 'its rendering publishes it');

-- ---- addresses and search engines
select public.set_blog_settings(site_url => 'https://blog.example.com/', site_title => 'Tests & <more>') is not null as set \gset
select is((select (slug, revision, published_revision, status)::text from public.save_post(:'post', 4, '{"slug": "moved"}')), '(moved,5,5,published)', 'a slug changes, for readers at once');
select tests.refuses(format('select public.save_post(%L, 4, %L)', :'post', '{"slug": "stale"}'), 'conflict', 'a stale change of it is a conflict');
select tests.refuses($$select public.create_post('Hi', '{"slug": "hello-world"}')$$, 'conflict', 'the former one is not free');
select id as dutch from public.create_post('Hallo', '{"content_markdown": "een", "meta_title": "</script><script>alert(1)"}', locale => 'nl', translation_of => :'post') \gset
select tests.refuses(format('select public.create_post(%L, locale => %L, translation_of => %L)', 'Hallo', 'nl', :'post'), 'conflict', 'a language has one');
select tests.render(:'dutch');
select status as ready from public.submit_post(:'dutch', 1) \gset
select status as published from public.publish_post(:'dutch', 1) \gset
select tests.act_as_anon();
select is(public.published_post('tests-blog', 'hello-world'), '{"redirect_to": "moved", "locale": "en", "url": "https://blog.example.com/moved"}', 'a former slug leads on');
select is(public.published_post('tests-blog', 'moved') #>> '{seo,canonical}', 'https://blog.example.com/moved', 'a post has a canonical address');
select is(public.published_post('tests-blog', 'moved') #> '{seo,alternates}', '[{"href": "https://blog.example.com/moved", "hreflang": "en"}, {"href": "https://blog.example.com/hallo", "hreflang": "nl"}]', 'and its translations');
select is(strpos(public.published_post('tests-blog', 'hallo') #>> '{seo,json_ld}', '<'), 0, 'nothing ends the script of its JSON-LD');
select is((public.published_post('tests-blog', 'moved') #>> '{seo,json_ld}')::jsonb ->> 'headline', 'Unseen', 'which is JSON');
select tests.act_as('vic', tests.org('ada'));
select is((select array_agg(w ->> 'code') from jsonb_array_elements(public.post_seo(:'dutch') -> 'warnings') as w), '{description_missing,image_missing}'::text[], 'editors are warned');

-- ---- feeds
select tests.act_as_superuser();
-- Both were published in this transaction, at one time.
update public.blog_posts set published_at = published_at - interval '1 minute' where id = :'post';
select tests.act_as_anon();
select is((xpath('count(//item)', tests.feed('rss')::xml))[1]::text, '2', 'RSS has the posts');
select is((xpath('//channel/title/text()', tests.feed('rss')::xml))[1]::text, 'Tests &amp; &lt;more&gt;', 'and is XML, whatever their titles say');
select is((xpath('count(//*[local-name()="entry"]/*[local-name()="content"])', tests.feed('atom')::xml))[1]::text, '2', 'Atom has their HTML');
select is(tests.feed('json')::jsonb #>> '{items,0,url}', 'https://blog.example.com/hallo', 'JSON Feed has the newest first');
select is((xpath('count(//*[local-name()="loc"])', tests.feed('sitemap')::xml))[1]::text, '2', 'the sitemap has them');
select tests.refuses($$select tests.feed('x')$$, 'invalid_input', 'there is no other format');
select tests.refuses($$select public.blog_feed('no-such-org')$$, 'not_found', 'nor a feed of an organization that is not there');

-- ---- approvals
select tests.act_as('mem', tests.org('ada'));
select tests.refuses('select public.set_blog_settings(require_approval => true)', 'permission_denied', 'a member does not change the settings');
select tests.act_as('cas', tests.org('ada'));
select require_approval as required from public.set_blog_settings(require_approval => true) \gset
select is((select site_url from public.blog_settings), 'https://blog.example.com', 'null leaves a setting');
select tests.act_as('mem', tests.org('ada'));
select id as second from public.create_post('Second', '{"content_markdown": "text"}') \gset
select tests.render(:'second');
select is((select (status, approval_status)::text from public.submit_post(:'second', 1, 'Please')), '(ready,submitted)', 'a post is submitted');
select tests.refuses(format('select public.submit_post(%L, 1)', :'second'), 'conflict', 'once');
select tests.act_as('cas', tests.org('ada'));
select tests.refuses(format('select public.publish_post(%L, 1)', :'second'), 'conflict', 'and not published before it is approved');
select is((select status from public.reject_change(tests.approval(:'second'), 'Too short')), 'rejected', 'it is rejected');
select is((select approval_status from public.blog_posts where id = :'second'), 'rejected', 'as the post says');
select tests.act_as('mem', tests.org('ada'));
select status as again from public.submit_post(:'second', 1) \gset
select tests.act_as('cas', tests.org('ada'));
select is((select status from public.approve_change(tests.approval(:'second'))), 'approved', 'it is approved');
select is((select approval_status from public.blog_posts where id = :'second'), 'approved', 'as the post says');
select is((select status from public.schedule_post(:'second', 1, kijko.now() + interval '1 hour')), 'scheduled', 'and scheduled');
select tests.refuses(format('select public.save_post(%L, 1, %L)', :'second', '{"title": "x"}'), 'conflict', 'a scheduled post is not edited');
select is((select status from public.unschedule_post(:'second')), 'ready', 'it is taken back');
select is((select (approval_status, status)::text from public.save_post(:'second', 1, '{"title": "Edited"}')), '(none,draft)', 'an edit takes the approval back');
select tests.refuses(format('select public.schedule_post(%L, 2, kijko.now())', :'second'), 'conflict', 'so that it is not published');
select status as again from public.submit_post(:'second', 2) \gset
select is((select (approval_status, revision)::text from public.save_post(:'second', 2, '{"title": "Edited again"}')), '(none,3)', 'an edit of what waits');
select is(tests.approval(:'second'), null, 'withdraws the request');
select approval_status as again from public.submit_post(:'second', 3) \gset
select tests.refuses(format('select public.approve_change(%L)', tests.approval(:'second')), 'permission_denied', 'nobody approves what they have submitted');
select tests.act_as('ada', tests.org('ada'));
select is((select status from public.approve_change(tests.approval(:'second'))), 'approved', 'another one does');
select tests.refuses(format('select public.schedule_post(%L, 3, kijko.now() - interval %L)', :'second', '1 day'), 'invalid_input', 'not in the past');
select status as planned from public.schedule_post(:'second', 3, kijko.now() + interval '1 hour') \gset
select tests.act_as_superuser();
select is(private.blog_maintain(), 0, 'the clock leaves what is not due');
select is(tests.publish_due(:'second'), 'published', 'and publishes what is');
select tests.act_as('ada', tests.org('ada'));
select is((select (status, published_revision)::text from public.unpublish_post(:'second')), '(draft,)', 'a post is withdrawn');
select tests.act_as_anon();
select tests.refuses($$select public.published_post('tests-blog', 'second')$$, 'not_found', 'and nobody reads it');

-- ---- an address is approved with its post
select tests.act_as('mem', tests.org('ada'));
select id as fourth from public.create_post('Fourth', '{"content_markdown": "text"}') \gset
select status as ready from public.submit_post(:'fourth', 1) \gset
select tests.act_as('cas', tests.org('ada'));
select status as approved from public.approve_change(tests.approval(:'fourth')) \gset
select tests.act_as('mem', tests.org('ada'));
select is((select (approval_status, status, revision)::text from public.save_post(:'fourth', 1, '{"slug": "we-are-sorry"}')), '(none,draft,2)', 'another one takes the approval back');

-- ---- what was scheduled before approvals were required
select tests.act_as('ada', tests.org('ada'));
select require_approval as required from public.set_blog_settings(require_approval => false) \gset
select id as third from public.create_post('Third', '{"content_markdown": "text"}') \gset
select tests.render(:'third');
select status as ready from public.submit_post(:'third', 1) \gset
select is((select status from public.schedule_post(:'third', 1, kijko.now() + interval '1 hour')), 'scheduled', 'a post is scheduled without an approval');
select is((select status from public.schedule_post(:'third', 1, kijko.now() + interval '2 hours')), 'scheduled', 'and again, for another time');
select require_approval as required from public.set_blog_settings(require_approval => true) \gset
select tests.refuses(format('select public.publish_post(%L, 1)', :'third'), 'conflict', 'which is needed now');
select tests.act_as_superuser();
select is(tests.publish_due(:'third'), 'ready', 'the clock takes it back');
select is((select published_revision from public.blog_posts where id = :'third'), null, 'and publishes nothing');

-- ---- comments
select tests.act_as('mem', tests.org('ada'));
insert into public.blog_comments (post_id, body, mentions) values (:'post', 'Look at this', array[tests.id('vic'), tests.id('bob')]) returning id as comment \gset
select tests.act_as('cas', tests.org('ada'));
insert into public.blog_comments (post_id, parent_id, body) values (:'post', :'comment', 'Done') returning id as answer \gset
select throws_ok(format($$insert into public.blog_comments (post_id, parent_id, body) values (%L, %L, 'x')$$, :'second', :'comment'), '23503', null, 'an answer belongs to the post of what it answers');
select tests.refuses(format($$update public.blog_comments set body = 'x' where id = %L$$, :'comment'), 'permission_denied', 'only its author changes a comment');
update public.blog_comments set resolved = true where id = :'comment';
select is((select resolved from public.blog_comments where id = :'comment'), true, 'who may write says that it is settled');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format($$delete from public.blog_comments where id = %L$$, :'answer'), 'permission_denied', 'a member deletes only their own');
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from public.blog_comments), 0::bigint, 'a non-member sees none');
select throws_ok(format($$insert into public.blog_comments (post_id, body) values (%L, 'x')$$, :'post'), '23503', null, 'and writes none');
select tests.act_as_superuser();
select results_eq(
  $$select n.user_id, n.type from public.notifications as n where n.org_id = tests.org('ada') and n.type like 'comment.%' order by n.type$$,
  $$values (tests.id('vic'), 'comment.mention'), (tests.id('mem'), 'comment.reply')$$, 'members are told, and nobody else'
);

-- ---- many posts at once
create function tests.blocks() returns numeric language sql security definer as $$
  select sum(pg_stat_get_xact_blocks_fetched(c.reltoastrelid)) from pg_class as c where c.oid in ('public.blog_posts'::regclass, 'public.blog_post_revisions'::regclass)
$$;
select tests.act_as('ada', tests.org('ada'));
select require_approval as required from public.set_blog_settings(require_approval => false) \gset
select count(public.submit_post(p.id, 1)) as ready
from generate_series(1, 23) as n, lateral public.create_post('Many ' || n, jsonb_build_object('content_markdown', 'text', 'noindex', n > 2)) as p \gset
select tests.act_as_superuser();
update public.blog_posts set status = 'scheduled', scheduled_at = kijko.now() - make_interval(mins => substr(title, 6)::integer) where title like 'Many %';
-- The HTML of each is longer than what a row has in itself; that of the one that has waited longest is not there.
select set_config('session_replication_role', 'replica', true) is not null as quiet \gset
update public.blog_posts set content_html_hash = content_hash, content_html = (select string_agg(md5(n::text), '') from generate_series(1, 500) as n)
where title like 'Many %' and title <> 'Many 23';
update public.blog_post_revisions as r set content_html = p.content_html from public.blog_posts as p where p.id = r.post_id and p.title like 'Many %';
select set_config('session_replication_role', 'origin', true) is not null as loud \gset
delete from public.jobs where kind = 'blog_render' and org_id = tests.org('ada');
select is(private.blog_maintain(1), 1, 'a post that is not rendered keeps no other one waiting');
select is((select count(*) from public.jobs where kind = 'blog_render' and org_id = tests.org('ada')), 1::bigint, 'and is rendered again');
select is(private.blog_maintain(), 21, 'the others follow');
select tests.act_as_anon();
select is((select count(distinct p.published_at) from public.published_posts('tests-blog', n => 100) as p where p.title like 'Many %'), 22::bigint, 'each at a time of its own, by which a list goes on');
select is(jsonb_path_query_array(tests.feed('json')::jsonb, '$.items[*].title'), '["Many 1", "Many 2", "Hallo", "Unseen"]', 'a feed has the newest that it may have, however many it may not');
select tests.blocks() as before \gset
select is((select count(*) from public.published_posts('tests-blog', tag => 'none')) + char_length(tests.feed('sitemap')) * 0, 0::bigint, 'a list and the sitemap');
select is(tests.blocks(), :before::numeric, 'read no text');
select cmp_ok(char_length(tests.feed('atom')) * 0 + tests.blocks(), '>', :before::numeric, 'as a feed with the HTML does');

select tests.act_as('ada', tests.org('ada'));
select public.delete_post(:'post');
select is((select count(*) from public.blog_post_revisions where post_id = :'post') + (select count(*) from public.blog_comments), 0::bigint, 'a post goes with all of it');
select * from finish();
rollback;
