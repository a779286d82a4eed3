-- Social posts: who may write, schedule and read them, what a platform would refuse, and what a worker may do when.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('adm'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');

create function tests.connect(platform text, org uuid) returns uuid language plpgsql security definer as $$
declare
  connection uuid;
  token private.connection_tokens;
begin
  insert into public.connections (org_id, provider, account_id) values (org, platform, '42') returning id into connection;
  token.id := gen_random_uuid();
  token.organization := org;
  token.provider := platform;
  token := private.connections_seal(token, '{"access_token": "secret"}');
  insert into private.connection_tokens (id, organization, provider, account_id, connection_id, access_token)
  values (token.id, org, platform, '42', connection, token.access_token);
  return connection;
end
$$;
create function tests.post(name text) returns public.social_posts language sql security definer as $$
  select p.* from public.social_posts as p where p.id = current_setting('tests.' || name)::uuid
$$;
create function tests.log(name text) returns text[] language sql security definer as $$
  select array_agg(l.event order by l.created_at, l.id) from public.publish_logs as l where l.social_post_id = current_setting('tests.' || name)::uuid
$$;
create function tests.looks(name text) returns text[] language sql security definer as $$
  select array_agg(l.error_code order by l.created_at, l.id) from public.publish_logs as l
  where l.social_post_id = current_setting('tests.' || name)::uuid and l.event = 'not_found'
$$;
create function tests.write(name text, platform text, connection uuid, words text) returns uuid language plpgsql as $$
declare
  post uuid;
begin
  insert into public.social_posts (org_id, platform, connection_id, text) values (tests.org('ada'), platform, connection, words) returning id into post;
  perform set_config('tests.' || name, post::text, true);
  return post;
end
$$;
-- A worker that holds the post's job.
create table tests.held (name text primary key, job uuid, attempt integer);
grant all on tests.held to public;
create function tests.claim(name text) returns text language plpgsql security definer as $$
begin
  delete from tests.held as h where h.name = claim.name;
  perform private.social_tick();
  insert into tests.held select claim.name, c.id, c.attempt from private.jobs_claim('w', '1 minute', 1000, array['social_publish']) as c
  where c.payload ->> 'post_id' = current_setting('tests.' || claim.name);
  return (select 'claimed' from tests.held as h where h.name = claim.name);
end
$$;
create function tests.begin_post(name text) returns jsonb language sql as $$ select private.social_begin('w', h.job, h.attempt) from tests.held as h where h.name = begin_post.name $$;
create function tests.start_create(name text, call uuid) returns jsonb language sql as $$ select private.social_start_create('w', h.job, h.attempt, call, 10) from tests.held as h where h.name = start_create.name $$;
create function tests.end_post(name text) returns boolean language sql as $$ select private.social_end_job('w', h.job, h.attempt) from tests.held as h where h.name = end_post.name $$;
-- The deadline of its create call is over.
create function tests.pass_deadline(name text) returns void language sql security definer as $$
  update private.social_publications as b set create_deadline = now() - interval '1 second', check_after = now() - interval '1 second'
  where b.post_id = current_setting('tests.' || name)::uuid
$$;

create function tests.refusal_of(name text, class text, wait double precision default null) returns text language plpgsql as $$
declare
  call constant uuid := gen_random_uuid();
begin
  perform tests.begin_post(name), tests.start_create(name, call);
  perform private.social_refused(call, class, 'platform_quota', 'no', 400, wait);
  perform tests.end_post(name);
  return (select format('%s %s %s', p.status, p.attempts, extract(epoch from p.publish_after - kijko.now())::integer) from tests.post(name) as p);
end
$$;

create function tests.lose(name text, call uuid) returns text language plpgsql security definer as $$
begin
  perform tests.claim(name), tests.begin_post(name), tests.start_create(name, call), private.social_lost(call, 'no_answer', 'lost', null);
  return (tests.post(name)).status;
end
$$;

select tests.connect('twitter', tests.org('ada')) as x \gset
select tests.connect('linkedin', tests.org('ada')) as li \gset
select tests.connect('instagram', tests.org('ada')) as ig \gset
select tests.connect('twitter', tests.org('bob')) as theirs \gset
select tests.act_as('mem', tests.org('ada'));
select tests.write('p', 'twitter', :'x', 'Hello') as p \gset

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.' || t, '42501', null, 'anon reads no ' || t) from unnest('{social_posts,publish_logs,social_settings}'::text[]) as t;
select throws_ok(format('select public.%I(%L)', f, :'p'), '42501', null, 'anon does not ' || f)
from unnest('{schedule_social_post,cancel_social_post,submit_social_post,preview_social_post,confirm_social_post,resend_social_post}'::text[]) as f;
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from public.social_posts), 0::bigint, 'a non-member sees none');
select tests.refuses(format('select public.%I(%L)', f, :'p'), 'not_found', 'a non-member does not ' || f)
from unnest('{schedule_social_post,cancel_social_post,submit_social_post,preview_social_post,confirm_social_post,resend_social_post}'::text[]) as f;
select throws_ok(format($$insert into public.social_posts (org_id, platform) values (%L, 'twitter')$$, tests.org('ada')), '42501', null, 'nor writes one');
select throws_ok(format($$insert into public.social_posts (org_id, platform, connection_id) values (%L, 'twitter', %L)$$, tests.org('bob'), :'x'), '23503', null, 'nor uses the account of another organization');
select tests.refuses(format($$insert into public.social_posts (org_id, platform, media) values (%L, 'twitter', '[{"path": "%s/a.jpg"}]')$$, tests.org('bob'), tests.org('ada')), 'invalid_input', 'nor its images');
select tests.act_as('bob', tests.org('ada'));
select tests.refuses($$select public.social_calendar('2026-11-01', '2026-11-30')$$, 'not_a_member', 'nor sees the calendar');
select tests.refuses($$select public.set_social_settings('UTC')$$, 'not_a_member', 'nor changes the settings');

-- ---- roles
select tests.act_as('vic', tests.org('ada'));
select is((select count(*) from public.social_posts), 1::bigint, 'a viewer reads');
select throws_ok(format($$insert into public.social_posts (org_id, platform) values (%L, 'twitter')$$, tests.org('ada')), '42501', null, 'and writes none');
select is(tests.changed(format($$update public.social_posts set text = 'x' where id = %L$$, :'p')), 0::bigint, 'nor edits');
select tests.refuses(format('select public.%I(%L)', f, :'p'), 'permission_denied', 'a viewer does not ' || f)
from unnest('{schedule_social_post,cancel_social_post,submit_social_post,confirm_social_post,resend_social_post}'::text[]) as f;
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.%I(%L)', f, :'p'), 'permission_denied', 'a member does not ' || f)
from unnest('{schedule_social_post,confirm_social_post,resend_social_post}'::text[]) as f;
select tests.refuses($$select public.set_social_settings('UTC')$$, 'permission_denied', 'nor change the settings');
select throws_ok(format($$update public.social_posts set status = 'published' where id = %L$$, :'p'), '42501', null, 'nor write states');
select throws_ok($$insert into public.publish_logs (social_post_id, platform, attempt, event) values (gen_random_uuid(), 'x', 1, 'started')$$, '42501', null, 'nor the log');
select tests.act_as_superuser();
select tests.make_key(tests.org('ada'), '["content:read", "content:publish", "content:approve"]') as key \gset
select is(tests.by_key(:'key', $$select public.set_social_settings('UTC')$$), '42501', 'a key does not change the settings');

-- ---- what a platform would refuse
create function tests.problems(platform text, words text, tags text[] default '{}', media jsonb default '[]') returns text[] language sql security definer as $$
  select array_agg(p.value ->> 'code') from jsonb_array_elements(private.social_problems(jsonb_populate_record(
    null::public.social_posts, jsonb_build_object('org_id', tests.org('ada'), 'platform', platform, 'text', words, 'hashtags', tags, 'media', media)
  ))) as p where p.value ->> 'code' <> 'connection_missing'
$$;
select is(tests.problems('twitter', repeat('a', 280)), null, 'X takes 280');
select is(tests.problems('twitter', repeat('a', 281)), '{text_too_long}', 'and not 281');
select is(tests.problems('twitter', repeat('語', 141)), '{text_too_long}', 'others count twice');
select is(tests.problems('twitter', repeat('a', 256) || ' https://example.com/' || repeat('b', 300)), null, 'a link counts 23');
select is(tests.problems('twitter', repeat('a', 270), '{abc,defgh}'), '{text_too_long}', 'with its hashtags');
select is(tests.problems('twitter', 'buy $ABC or $DEF'), '{too_many_cashtags}', 'one cashtag');
select is(tests.problems('linkedin', repeat('a', 3001)), '{text_too_long}', 'LinkedIn takes 3,000');
select is(tests.problems('facebook', repeat('a', 63207)), '{text_too_long}', 'Facebook takes 63,206');
select is(tests.problems('instagram', repeat('a', 2201)), '{media_required,text_too_long}', 'Instagram takes 2,200, with an image');
select is(tests.problems('instagram', 'x', '{}', '[{"path": "gone", "alt_text": "x"}]'), '{media_not_found}', 'which is there');
select is(tests.problems('linkedin', ' '), '{empty}', 'a post says something');
select is(tests.problems('linkedin', 'x', '{#a}'), '{hashtag_invalid}', 'a hashtag has no #');
select is(tests.problems('linkedin', 'x', '{1}'), '{hashtag_invalid}', 'and a letter');

-- ---- scheduling, with the clock of Amsterdam
select tests.act_as('adm', tests.org('ada'));
select is((public.set_social_settings('Europe/Amsterdam')).time_zone, 'Europe/Amsterdam', 'an admin sets the time zone');
select tests.refuses($$select public.set_social_settings('Mars')$$, 'invalid_timezone', 'of this world');
select is((public.schedule_social_post(:'p', '2027-07-01 09:00')).scheduled_at, '2027-07-01 07:00+00'::timestamptz, 'summer');
select is((public.schedule_social_post(:'p', '2027-01-10 09:00')).scheduled_at, '2027-01-10 08:00+00'::timestamptz, 'winter');
select tests.refuses(format($$select public.schedule_social_post(%L, '2027-03-28 02:30')$$, :'p'), 'invalid_input', 'a time that the clocks skip is none');
select is((public.schedule_social_post(:'p', '2027-10-31 02:30')).scheduled_at, '2027-10-31 00:30+00'::timestamptz, 'of a time that comes twice the first one is meant');
select is((public.schedule_social_post(:'p', '2027-07-01 09:00', 'Asia/Tokyo')).scheduled_at, '2027-07-01 00:00+00'::timestamptz, 'another zone');
select tests.refuses(format($$select public.schedule_social_post(%L, '2026-01-01 09:00')$$, :'p'), 'invalid_input', 'not the past');
select is((select c.local_time from public.social_calendar('2027-07-01', '2027-07-01') as c), '2027-07-01 02:00'::timestamp, 'the calendar is in the zone of the settings');
select tests.write('q', 'twitter', :'x', ' hello ') as q \gset
select public.schedule_social_post(:'q', '2027-07-01 02:59') is not null as scheduled;
select is((select array[c.conflicts_with = array[:'q'::uuid], c.duplicate_of = array[:'q'::uuid]] from public.social_calendar('2027-07-01', '2027-07-01') as c where c.post_id = :'p'), '{t,t}', 'with conflicts and duplicates');
select tests.refuses($$select public.social_calendar('2027-01-01', '2027-12-31')$$, 'invalid_input', 'at most 92 days');
select tests.write('w', 'twitter', :'li', 'wrong') as w \gset
select tests.refuses(format('select public.schedule_social_post(%L)', :'w'), 'invalid_input', 'an account of another platform');
select is((public.cancel_social_post(:'q')).status, 'cancelled', 'cancelled');
select tests.refuses(format('select public.cancel_social_post(%L)', :'q'), 'conflict', 'once');

-- ---- an edit
select tests.act_as('mem', tests.org('ada'));
update public.social_posts set text = 'Hello again' where id = :'p';
select is((tests.post('p')).status, 'draft', 'a member who edits a scheduled post does not change what is published');
select is((tests.post('p')).revision, 2, 'the revision counts');

-- ---- approval
select tests.act_as('adm', tests.org('ada'));
select public.set_social_settings(require_approval => true) is not null as required;
select tests.refuses(format('select public.schedule_social_post(%L)', :'p'), 'conflict', 'without an approval');
select tests.act_as('mem', tests.org('ada'));
select (public.submit_social_post(:'p', 'please')).id as approval \gset
select is((tests.post('p')).approval_status, 'submitted', 'submitted');
select tests.refuses(format('select public.submit_social_post(%L)', :'p'), 'conflict', 'once');
select tests.refuses(format('select public.approve_change(%L)', :'approval'), 'permission_denied', 'who asks does not approve');
update public.social_posts set text = 'Hello third' where id = :'p';
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.approve_change(%L)', :'approval'), 'conflict', 'an edited post is not approved');
select is((select a.status from public.approvals as a where a.id = :'approval'), 'withdrawn', 'its request is withdrawn');
select is((tests.post('p')).approval_status, 'none', 'which says nothing of this revision');
select tests.act_as('mem', tests.org('ada'));
select (public.submit_social_post(:'p')).id as approval \gset
select tests.act_as('adm', tests.org('ada'));
select public.reject_change(:'approval', 'no') is not null as rejected;
select is((tests.post('p')).approval_status, 'rejected', 'rejected');
select tests.act_as('mem', tests.org('ada'));
select (public.submit_social_post(:'p')).id as approval \gset
select tests.act_as('adm', tests.org('ada'));
select public.approve_change(:'approval') is not null as approved;
select is((tests.post('p')).approval_status, 'approved', 'approved');
select is((public.schedule_social_post(:'p')).status, 'scheduled', 'now it is scheduled');
select tests.act_as('mem', tests.org('ada'));
update public.social_posts set text = 'Hello fourth' where id = :'p';
select is((tests.post('p')).approval_status, 'none', 'an edit needs it again');
select tests.act_as('adm', tests.org('ada'));
select public.set_social_settings(require_approval => false) is not null as free;

-- ---- an image that is approved is not exchanged
select tests.org('ada') || '/' || gen_random_uuid() || '.jpg' as image \gset
select tests.act_as('mem', tests.org('ada'));
insert into public.social_posts (org_id, platform, connection_id, text, media)
values (tests.org('ada'), 'instagram', :'ig', 'Look', jsonb_build_array(jsonb_build_object('path', :'image')));
select p.id as i from public.social_posts as p where p.text = 'Look' \gset
select tests.refuses(format('select public.submit_social_post(%L)', :'i'), 'invalid_input', 'nobody approves an image that is not there');
insert into storage.objects (bucket_id, name, metadata) values ('social-media', :'image', '{"mimetype": "image/jpeg", "size": 9}');
-- As Storage deletes.
select set_config('storage.allow_delete_query', 'true', true);
select is(tests.changed(format($$delete from storage.objects where bucket_id = 'social-media' and name = %L$$, :'image')), 1::bigint, 'of a draft it is deleted');
insert into storage.objects (bucket_id, name, metadata) values ('social-media', :'image', '{"mimetype": "image/jpeg", "size": 9}');
select public.submit_social_post(:'i') is not null as submitted;
select is(tests.changed(format($$delete from storage.objects where bucket_id = 'social-media' and name = %L$$, :'image')), 0::bigint, 'once it is submitted, it stays');
select tests.act_as_superuser();
select approval_status = 'submitted' as submitted from public.social_posts where id = :'i';
update public.social_posts set approval_status = 'none', status = 'scheduled', scheduled_at = now() + interval '1 day' where id = :'i';
select tests.act_as('mem', tests.org('ada'));
select is(tests.changed(format($$delete from storage.objects where bucket_id = 'social-media' and name = %L$$, :'image')), 0::bigint, 'and while it is scheduled');
update public.social_posts set text = 'Look here' where id = :'i';
select is(tests.changed(format($$delete from storage.objects where bucket_id = 'social-media' and name = %L$$, :'image')), 1::bigint, 'until the post is a draft again');
select tests.act_as('adm', tests.org('ada'));

-- ---- the worker: the intent is committed once
select public.schedule_social_post(:'p') is not null as scheduled;
select tests.act_as_superuser();
select is(tests.claim('p'), 'claimed', 'a due post has a job');
select tests.act_as_sidecar();
select throws_ok('select * from private.social_publications', '42501', null, 'the sidecar reads no table');
select is((select array[b ->> 'action', b ->> 'text', b ->> 'access_token'] from tests.begin_post('p') as b), '{publish,Hello fourth,secret}', 'the worker gets the post and the token');
select is((tests.post('p')).status, 'publishing', 'it is being published');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format($$update public.social_posts set text = 'late' where id = %L$$, :'p'), 'conflict', 'and cannot be edited');
select tests.refuses(format($$delete from public.social_posts where id = %L$$, :'p'), 'conflict', 'or deleted');
select tests.act_as_sidecar();
select is(private.social_prepared('w', h.job, h.attempt, '{"media": ["1"]}'), true, 'what is prepared is kept') from tests.held as h where h.name = 'p';
select set_config('synchronous_commit', 'off', true);
select is(tests.start_create('p', tests.id('call1')), '{"started": true}', 'the intent is committed');
select is(current_setting('synchronous_commit'), 'on', 'and on the disk, whatever the server is set to');
select is(tests.start_create('p', tests.id('call1')), '{"started": true}', 'the same call asks again after a lost answer');
select is(tests.start_create('p', tests.id('call2')), '{"started": false}', 'another call is not made');
select is(tests.used(tests.org('ada'), 'publish_cost_microusd'), 15000::bigint, 'what X charges is held');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.cancel_social_post(%L)', :'p'), 'conflict', 'it cannot be cancelled any more');
select tests.act_as_sidecar();
select is((tests.begin_post('p') ->> 'wait')::integer between 10 and 17, true, 'another worker waits for the deadline');
select tests.pass_deadline('p');
select is(tests.begin_post('p') ->> 'action', 'check', 'and then asks the platform, without a new call');
select is(private.social_not_found(tests.id('call1'), true, null), true, 'which does not show it') from generate_series(1, 3);
select is(private.social_not_found(tests.id('call1'), true, 'no_answer: down'), true, 'or does not answer');
select is(tests.looks('p'), '{NULL,NULL,NULL,check_failed}', 'as the log says');
select is((tests.post('p')).status, 'publishing', 'yet');
select is(private.social_not_found(tests.id('call1'), true, 'no_answer: down'), true, 'the fifth time');
select is((tests.post('p')).status, 'unconfirmed', 'members decide');
select matches((tests.post('p')).error, 'could not be asked .*down', 'and know that nobody has looked');
select is(tests.begin_post('p'), '{}', 'and no worker');
select tests.act_as_superuser();
select is((select count(*) from public.notifications as n where n.type = 'social.attention' and n.org_id = tests.org('ada')), 1::bigint, 'they are told');

-- ---- a late answer, a resent post
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format('select public.resend_social_post(%L)', :'p'), 'permission_denied', 'a member does not resend');
select tests.act_as('adm', tests.org('ada'));
select is((public.resend_social_post(:'p')).status, 'scheduled', 'an admin does, once the deadline is over');
select tests.refuses(format('select public.confirm_social_post(%L)', :'p'), 'conflict', 'then there is nothing to confirm');
select tests.act_as_sidecar();
select is(private.social_published(tests.id('call1'), '7', null, 201), false, 'the former call says nothing any more');
select tests.end_post('p');
select tests.act_as_superuser();
select is(tests.claim('p'), 'claimed', 'it is queued again');
select tests.act_as_sidecar();
select is(tests.begin_post('p') ->> 'prepared', '{}', 'with nothing prepared');
select tests.start_create('p', tests.id('call3'));
select is(private.social_published(tests.id('call3'), '8', 'https://x.com/8', 201), true, 'published');
select is(private.social_published(tests.id('call3'), '8', 'https://x.com/8', 201), false, 'once');
select is((select array[p.status, p.platform_post_id, p.cost_microusd::text, p.cost_usd::numeric(4, 3)::text] from tests.post('p') as p), '{published,8,30000,0.030}', 'with its cost: both calls may have cost something');
select is(tests.used(tests.org('ada'), 'publish_cost_microusd'), 30000::bigint, 'as the meter says');
select tests.act_as('mem', tests.org('ada'));
select tests.refuses(format($$delete from public.social_posts where id = %L$$, :'p'), 'permission_denied', 'who may not publish does not delete it with its log');
select tests.act_as_sidecar();
select is(
  tests.log('p'), '{started,prepared,create_started,outcome_unknown,not_found,not_found,not_found,not_found,unconfirmed,resent,started,prepared,create_started,published}',
  'the log has each step'
);

-- ---- two posts that say the same, of which the platform shows one
select tests.act_as('adm', tests.org('ada'));
insert into public.topics (title) values ('Twins') returning id as topic \gset
select b.id as article from public.create_post('Twins', topic_id => :'topic') as b \gset
select tests.write('t1', 'twitter', :'x', 'Twins') as t1, tests.write('t2', 'twitter', :'x', 'Twins') as t2 \gset
update public.social_posts set blog_post_id = :'article' where id = :'t1';
select public.schedule_social_post(:'t1') is not null as scheduled;
select tests.act_as_superuser();
select tests.lose('t1', tests.id('twin1'));
select tests.act_as('adm', tests.org('ada'));
select public.schedule_social_post(:'t2') is not null as scheduled;
select tests.act_as_superuser();
select is(tests.lose('t2', tests.id('twin2')), 'publishing', 'both answers are lost');
select tests.act_as_sidecar();
select is(private.social_published(tests.id('twin1'), '77', null, 200), true, 'one is found');
select is(private.social_published(tests.id('twin2'), '77', null, 200), false, 'and is not the other one');
select is(private.social_not_found(tests.id('twin2'), false, null), true, 'which nobody knows');
select tests.act_as_superuser();
select tests.pass_deadline('t2');
select is((select c.topic_id from public.content_costs as c where c.social_post_id = :'t1'), :'topic'::uuid, 'what it cost is a cost of the topic of its article');
select tests.act_as('adm', tests.org('ada'));
select tests.refuses(format('select public.confirm_social_post(%L, %L)', :'t2', '77'), 'conflict', 'also if a member says so');
select is((public.confirm_social_post(:'t2', '78')).status, 'published', 'it has an id of its own');
select tests.act_as_superuser(), tests.end_post('t1'), tests.end_post('t2');

-- ---- alternative texts, which X charges before there is a post
insert into storage.objects (bucket_id, name, metadata) select 'social-media', tests.org('ada') || '/' || n || '.jpg', '{"mimetype": "image/jpeg", "size": 9}' from generate_series(1, 3) as n;
update public.social_media_files as f set status = 'measured', content_type = 'image/jpeg', width = 640, height = 480, frames = 1 where f.org_id = tests.org('ada');
select tests.act_as('adm', tests.org('ada'));
select count(tests.write(name, 'twitter', :'x', 'Pictures ' || name)) from unnest('{a,b}'::text[]) as name;
update public.social_posts as p set media = (
  select jsonb_agg(jsonb_build_object('path', tests.org('ada') || '/' || n || '.jpg', 'alt_text', case n when 3 then ' ' else 'x' end) order by n) from generate_series(1, 3) as n
) where p.text like 'Pictures %';
select public.schedule_social_post(current_setting('tests.a')::uuid) is not null as scheduled;
select tests.act_as_superuser();
select tests.claim('a');
select tests.act_as_sidecar();
select is((select b #> '{media,2}' ->> 'alt_text' from tests.begin_post('a') as b), '', 'a blank one is none');
select is(tests.used(tests.org('ada'), 'publish_cost_microusd'), 70000::bigint, 'they are charged before the first is sent');
select tests.begin_post('a');
select is(tests.used(tests.org('ada'), 'publish_cost_microusd'), 70000::bigint, 'once');
select tests.act_as('adm', tests.org('ada'));
select is((public.cancel_social_post(current_setting('tests.a')::uuid)).cost_microusd, 10000::bigint, 'also if the post is cancelled then');
select tests.act_as_superuser();
select is((select sum(c.cost_microusd) from public.content_costs as c where c.social_post_id = current_setting('tests.a')::uuid), 10000::numeric, 'and are in the report');
select tests.end_post('a');
select kijko.reserve(tests.org('ada'), 'publish_cost_microusd', u."limit" - u.used - 9999) is not null as held
from kijko.usage(tests.org('ada')) as u where u.meter = 'publish_cost_microusd';
select tests.act_as('adm', tests.org('ada'));
select public.schedule_social_post(current_setting('tests.b')::uuid) is not null as scheduled;
select tests.act_as_superuser();
select tests.claim('b');
select tests.act_as_sidecar();
select is(tests.begin_post('b'), '{}', 'when the plan holds no more, none is sent');
select is((tests.post('b')).error_code, 'quota_exceeded', 'and the post says why');
select tests.act_as_superuser();
select tests.end_post('b');

-- ---- refusals
select tests.act_as('adm', tests.org('ada'));
select tests.write('r', 'linkedin', :'li', 'Refused') as r \gset
select public.schedule_social_post(:'r') is not null as scheduled;
select tests.act_as_superuser();
select tests.claim('r');
select tests.act_as_sidecar();
select is(tests.refusal_of('r', 'quota', 10800), 'scheduled 0 10800', 'a quota reschedules and is no attempt');
select tests.act_as_superuser();
select tests.travel('3 hours 1 minute');
select is(tests.claim('r'), 'claimed', 'three hours later, past the limit of late posts, it is tried again: the platform had asked for that');
select tests.act_as_sidecar();
select is(array[tests.begin_post('r') ->> 'action', tests.begin_post('r') ->> 'action'], '{publish,publish}', 'also if a worker is lost then');
select is(tests.refusal_of('r', 'transient'), 'scheduled 3 120', 'what may pass is tried again');
select tests.act_as_superuser();
select tests.travel('6 hours');
select tests.claim('r');
select tests.act_as_sidecar();
select is(tests.begin_post('r'), '{}', 'but not hours late');
select is((tests.post('r')).status, 'missed', 'then it is missed');
select tests.end_post('r');
select tests.act_as_superuser();
select tests.travel('0');
update public.connections set status = 'paused', paused_reason = 'revoked', paused_at = now() where id = :'li';
select tests.act_as('adm', tests.org('ada'));
select tests.write('s', 'linkedin', :'li', 'Paused') as s \gset
select public.schedule_social_post(:'s') is not null as scheduled;
select tests.act_as_superuser();
select tests.claim('s');
select tests.act_as_sidecar();
select is(tests.begin_post('s'), '{}', 'a paused connection publishes nothing');
select is((select array[p.status, p.error_code, p.attempts::text] from tests.post('s') as p), '{scheduled,connection_paused,0}', 'and the post stays scheduled');
select is(private.social_begin('other', gen_random_uuid(), 1), '{}', 'no job, no post');
select tests.act_as_superuser();

-- ---- turns
select tests.end_post('s');
create function tests.queued(org uuid) returns bigint language sql as $$
  select count(*) from public.jobs as j where j.org_id = org and j.kind = 'social_publish' and j.status = 'queued'
$$;
select tests.travel('2 minutes');
select private.social_tick();
select is(tests.queued(tests.org('ada')), 0::bigint, 'one that waits for a consent waits for its connection, not for a minute');
select tests.travel('2 hours 1 minute');
select private.social_tick();
select is(tests.queued(tests.org('ada')), 1::bigint, 'until it is too late');
select tests.travel('0');
insert into public.social_posts (org_id, platform, connection_id, text, status, scheduled_at)
select tests.org('ada'), 'twitter', :'x', 'Many ' || n, 'scheduled', now() - interval '1 hour' from generate_series(1, 20) as n;
insert into public.social_posts (org_id, platform, connection_id, text, status, scheduled_at)
select tests.org('bob'), 'twitter', :'theirs', 'One', 'scheduled', now();
select is(private.social_tick(4), 4, 'a look takes as many as it may');
select is(tests.queued(tests.org('bob')), 1::bigint, 'of each organization in turn');
select is(private.social_tick(4), 4, 'and the next look takes others');
delete from public.organizations as o where o.id = tests.org('ada');
select is((select count(*) from public.social_posts as p where p.org_id = tests.org('ada')), 0::bigint, 'posts go with their organization');
select * from finish();
rollback;
