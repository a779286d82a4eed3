-- Images by a model: who asks, what they cost, where the bytes go, and alternative texts before publishing.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
update public.organizations set slug = 'tests-images' where id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');
select private.models_report_providers('{openai}');
insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok, image_microusd) values ('openai/tests-image', 1000000, 2000000, 40000);
create function tests.start() returns jsonb language plpgsql security definer as $$
declare
  job public.jobs;
begin
  select j.* into job from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'blog_image' order by j.created_at desc limit 1;
  update public.jobs as j set status = 'running', locked_by = 'w', locked_until = now() + interval '1 minute', attempt = 1 where j.id = job.id;
  return private.blog_start_image('w', job.id, 1);
end
$$;
create function tests.finish(result jsonb) returns boolean language sql security definer as $$
  select private.blog_finish_image('w', j.id, 1, finish.result) from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'blog_image' and j.status = 'running'
$$;
create function tests.settle() returns void language sql security definer as $$
  select private.llm_settle(c.call_id, '{"status": "succeeded", "images": 1, "prompt_tokens": 0, "completion_tokens": 0}') from private.llm_open_calls as c where c.organization = tests.org('ada')
$$;
create function tests.store(image uuid) returns void language sql security definer as $$
  insert into storage.objects (bucket_id, name, version, metadata)
  values ('blog-images', tests.org('ada') || '/' || image, gen_random_uuid()::text, '{"size": 9, "mimetype": "image/png"}')
$$;
create function tests.facts() returns jsonb language sql as $$
  select jsonb_build_object('content_type', 'image/png', 'width', 1024, 'height', 512, 'bytes', 9, 'content_hash', repeat('a', 64))
$$;
create function tests.seo(post uuid) returns text language sql as $$
  select (s #>> '{open_graph,og:image}') || ' ' || (s #>> '{open_graph,og:image:alt}') || ' ' || (s #>> '{open_graph,twitter:card}') from public.post_seo(post) as s
$$;

select tests.act_as('mem', tests.org('ada'));
select id as post from public.create_post('Cats', '{"content_markdown": "text"}') \gset

-- ---- who asks
select tests.act_as_anon();
select throws_ok(format('select public.generate_image(%L, 1, %L, %L)', :'post', 'a cat', 'openai/tests-image'), '42501', null, 'an unauthenticated caller asks for no image');
select throws_ok('select * from public.images', '42501', null, 'and sees none');
select tests.act_as('bob', tests.org('bob'));
select tests.refuses(format('select public.generate_image(%L, 1, %L, %L)', :'post', 'a cat', 'openai/tests-image'), 'not_found', 'nor does a non-member');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.generate_image(%L, 1, %L, %L)', :'post', 'a cat', 'openai/tests-image'), 'permission_denied', 'nor a viewer');
select tests.act_as('ada', tests.org('ada'));
select tests.make_key(tests.org('ada'), '["content:read", "content:write", "llm:call"]') as key \gset
select is(tests.by_key(:'key', format('select public.generate_image(%L, 1, %L, %L)', :'post', 'a cat', 'openai/tests-image')), '42501', 'nor a service key, which is no member');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.generate_image(%L, 1, %L, %L, %L, %L)', :'post', p, 'openai/tests-image', k, s), 'invalid_input', concat_ws(', ', p, k, s))
from (values (' ', 'hero', '1024x1024'), ('a', 'logo', '1024x1024'), ('a', 'hero', '0x5'), (repeat('a', 4001), 'hero', '1024x1024')) as t (p, k, s);
select tests.refuses(format('select public.save_post(%L, 1, %L)', :'post', f), e, f)
from (values ('{"hero_image_id": "x"}', 'invalid_input'), ('{"hero_image_id": "00000000-0000-4000-8000-000000000000"}', 'not_found')) as t (f, e);
select tests.refuses($$select public.create_post('x', '{"hero_image_id": "00000000-0000-4000-8000-000000000000"}')$$, 'invalid_input', 'a post that is new has none');

-- ---- a hero image
select id as image from public.generate_image(:'post', 1, 'a cat', 'openai/tests-image') \gset
select tests.refuses(format('select public.delete_post(%L)', :'post'), 'conflict', 'its post is not deleted meanwhile');
select tests.refuses(format('select public.delete_image(%L)', :'image'), 'conflict', 'nor the image');
select tests.refuses(format('select public.save_post(%L, 1, %L)', :'post', format('{"hero_image_id": "%s"}', :'image')), 'not_found', 'and no post shows it');
select tests.act_as_superuser();
select tests.start() as started \gset
select is(:'started'::jsonb -> 'request', '{"n": 1, "size": "1024x1024", "model": "openai/tests-image", "prompt": "a cat"}', 'the model is asked');
select is((select (c.kind, c.status, c.member_id = tests.id('mem'), c.held_microusd >= 40000)::text from public.llm_calls as c where c.org_id = tests.org('ada')), '(images,reserved,t,t)', 'its price is held, of the member');
select is(private.blog_redeem_image(:'started'::jsonb ->> 'upload') ->> 'name', format('%s/%s', tests.org('ada'), :'image'), 'the ticket names one object');
select is(private.blog_redeem_image(t), null, 'no other text does') from unnest(array['', 'x', :'started'::jsonb ->> 'ticket', null]) as t;
select private.llm_open(:'started'::jsonb ->> 'ticket') is not null as opened \gset
select tests.settle();
select tests.store(:'image');
select is(tests.finish(tests.facts()), true, 'it ends');
select is((select (i.status, i.provider, i.width, i.applied_revision, i.cost_microusd, i.costs_pending)::text from public.images as i), '(succeeded,openai,1024,2,40000,f)', 'it is there, and has cost its price');
select is((select (c.source, c.blog_post_id, c.created_by)::text from public.content_costs as c where c.org_id = tests.org('ada')), format('(image,%s,%s)', :'post', tests.id('mem')), 'which is recorded');
select is((select (p.revision, p.hero_image_id)::text from public.blog_posts as p where p.id = :'post'), format('(2,%s)', :'image'), 'the post has it, as a new revision');
select is(private.blog_redeem_image(:'started'::jsonb ->> 'upload'), null, 'the ticket writes nothing any more');
select is((select count(*) from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'blog_image'), 0::bigint, 'its job is gone');

-- ---- alternative texts
select tests.act_as('ada', tests.org('ada'));
select status as submitted from public.submit_post(:'post', 2) \gset
select tests.refuses(format('select public.publish_post(%L, 2)', :'post'), 'conflict', 'without an alternative text nothing is published');
select tests.refuses(format('select public.schedule_post(%L, 2, now() + interval %L)', :'post', '1 hour'), 'conflict', 'nor scheduled');
select tests.act_as('bob', tests.org('bob'));
select tests.refuses(format('select public.set_image_alt_text(%L, %L)', :'image', 'x'), 'not_found', 'a non-member writes none');
select tests.refuses(format('select public.delete_image(%L)', :'image'), 'not_found', 'nor deletes it');
select tests.act_as('vic', tests.org('ada'));
select tests.refuses(format('select public.set_image_alt_text(%L, %L)', :'image', 'x'), 'permission_denied', 'nor does a viewer');
select tests.act_as('mem', tests.org('ada'));
select is((select alt_text from public.set_image_alt_text(:'image', 'A "cat" <3')), 'A "cat" <3', 'a member does');
select matches(tests.seo(:'post'), format('/storage/v1/object/public/blog-images/%s/%s A "cat" <3 summary_large_image$', tests.org('ada'), :'image'), 'social networks get it');
select tests.act_as_superuser();
select private.blog_record_render(p.id, p.content_hash, '<p>text</p>', 1) from public.blog_posts as p where p.id = :'post';
select tests.act_as('ada', tests.org('ada'));
select is((select status from public.publish_post(:'post', 2)), 'published', 'then the post is');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.set_image_alt_text(%L, %L)', :'image', 'x'), 'permission_denied', 'what everyone reads is for those who publish');
select tests.refuses(format('select public.delete_image(%L)', :'image'), 'conflict', 'what everyone sees is not deleted');
select revision as edited from public.save_post(:'post', 2, '{"hero_image_id": null}') \gset
select tests.refuses(format('select public.delete_image(%L)', :'image'), 'conflict', 'also when the newest revision is without');
select tests.act_as('ada', tests.org('ada'));
select site_url as site from public.set_blog_settings('https://blog.example') \gset
select is((select (p.image_url like '%' || :'image', p.image_alt_text)::text from public.published_posts('tests-images') as p), '(t,"A ""cat"" <3")', 'lists have the image that is published');
select is(convert_from(public.blog_feed('tests-images', f), 'UTF8') like '%' || :'image' || '%', true, 'and so has ' || f) from unnest('{rss,atom,json}'::text[]) as f;
select is(public.published_post('tests-images', 'cats') ->> 'image_alt_text', 'A "cat" <3', 'and the page');

-- ---- in the text
select tests.act_as('mem', tests.org('ada'));
select id as other from public.create_post('Dogs', '{"content_markdown": "![ ](https://a.example/x.png)"}') \gset
select status as submitted from public.submit_post(:'other', 1) \gset
select tests.act_as('ada', tests.org('ada'));
select tests.refuses(format('select public.publish_post(%L, 1)', :'other'), 'conflict', 'an image in the text needs one, too');
select tests.act_as_superuser();
select is(private.blog_lacks_alt_text(jsonb_populate_record(null::public.blog_posts, jsonb_build_object('content_html', h))), l, h)
from (values
  ('<img src="x">', true), ('<img src="x" alt="">', true), ('<img src="x" alt=" ">', true), ('<p>alt="x"</p><img title="alt=&quot;x&quot;">', true),
  ('<img alt="A > B" src="x">', false), ('<img title="a>b" alt="x">', false), ('<img src="x" alt="y"><img src="x">', true), ('<p>![](x)</p>', false)
) as t (h, l);
update public.blog_posts set status = 'scheduled', scheduled_at = kijko.now(), content_html = '<img src="x">', content_html_hash = content_hash where id = :'other';
select private.blog_maintain() as published \gset
select is((select p.status from public.blog_posts as p where p.id = :'other'), 'ready', 'one that shows when it is rendered takes the post back');

-- ---- a changed post, an approval, and failures
update public.blog_settings set require_approval = true where org_id = tests.org('ada');
select tests.act_as('mem', tests.org('ada'));
select id as third from public.create_post('Birds', '{"content_markdown": "text"}') \gset
select id as late from public.generate_image(:'third', 1, 'a bird', 'openai/tests-image') \gset
select revision as edited from public.save_post(:'third', 1, '{"title": "Birds!"}') \gset
select tests.act_as_superuser();
select tests.start() is not null as started \gset
select tests.store(:'late');
select is(tests.finish(tests.facts()), true, 'an image that comes late');
select tests.settle();
select is((select (p.revision, p.hero_image_id)::text from public.blog_posts as p where p.id = :'third'), '(2,)', 'changes nothing');
select tests.act_as('mem', tests.org('ada'));
select is((select revision from public.save_post(:'third', 2, format('{"hero_image_id": "%s"}', :'late')::jsonb)), 3, 'and can be chosen');
select alt_text as alt from public.set_image_alt_text(:'late', 'A bird') \gset
select approval_status as asked from public.submit_post(:'third', 3) \gset
select alt_text as alt from public.set_image_alt_text(:'late', 'Two birds') \gset
select is((select (p.status, p.approval_status)::text from public.blog_posts as p where p.id = :'third'), '(draft,none)', 'another text needs another approval');
select is((select count(*) from public.approvals as a where a.subject_id = :'third' and a.status = 'pending'), 0::bigint, 'whose request is withdrawn');
select id as lost from public.generate_image(:'third', 3, 'a bird', 'openai/tests-image', 'supporting') \gset
select tests.act_as_superuser();
select tests.start() is not null as started \gset
select is(tests.finish(tests.facts()), true, 'an image without its bytes');
select tests.settle();
select is((select (i.status, i.error_code)::text from public.images as i where i.id = :'lost'), '(failed,empty_answer)', 'is none');
select tests.refuses(format('select tests.store(%L)', :'lost'), 'conflict', 'whose bytes are not taken any more');
select tests.act_as('mem', tests.org('ada'));
select lives_ok(format('select public.delete_image(%L)', :'lost'), 'and is deleted once its cost is known');
select tests.refuses(format('select tests.store(%L)', :'lost'), 'conflict', 'nor then');
select status as asked from public.generate_image(:'third', 3, 'a bird', 'openai/nobody') \gset
select tests.act_as_superuser();
select is(tests.start() ->> 'refused', 'model_not_priced', 'a model without a price is refused');
select is(tests.finish('{"failed": "model_not_priced", "message": "x"}'), true, 'which ends the image');
update public.jobs set status = 'cancelled' where org_id = tests.org('ada') and kind = 'blog_image';
insert into public.images (org_id, blog_post_id, kind, prompt, model, size, base_revision, updated_at) values (tests.org('ada'), :'third', 'hero', 'x', 'x', '1024x1024', 1, now());
select set_config('session_replication_role', 'replica', true) is not null as quiet \gset
update public.images set updated_at = kijko.now() - interval '2 minutes' where status = 'queued';
select set_config('session_replication_role', 'origin', true) is not null as loud \gset
select is(private.blog_maintain_images(), 1, 'one whose job is gone ends');

-- ---- a revision whose image is gone
select tests.act_as('mem', tests.org('ada'));
select revision as edited from public.save_post(:'third', 3, '{"hero_image_id": null, "title": "Fish"}') \gset
select public.delete_image(:'late');
select is((select (p.revision, p.title, p.hero_image_id)::text from public.restore_post_revision(:'third', 4, 3) as p), '(5,Birds!,)', 'is restored without it');

-- ---- the bytes go with the image
select tests.act_as('ada', tests.org('ada'));
select public.delete_post(:'third');
select tests.act_as_superuser();
select is((select array_agg(o.name) from storage.objects as o where o.bucket_id = 'blog-images' and o.name like tests.org('ada') || '/%'), array[format('%s/%s', tests.org('ada'), :'image')], 'those of deleted posts are gone');
select tests.act_as('mem', tests.org('ada'));
select throws_ok(format('insert into storage.objects (bucket_id, name) values (%L, %L)', 'blog-images', tests.org('ada') || '/x'), '42501', null, 'nobody else writes the bucket');
select is((select count(*) from storage.objects as o where o.bucket_id = 'blog-images'), 1::bigint, 'members see what is in it');
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from storage.objects as o where o.bucket_id = 'blog-images'), 0::bigint, 'non-members do not');

select * from finish();
rollback;
