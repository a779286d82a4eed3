-- Images of social posts: what is uploaded is measured, each version once, and what a platform would refuse is refused when a post is
-- scheduled.
begin;
\ir 000_helpers.sql
select no_plan();

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');

-- As the storage service writes an object, and replaces it.
create function tests.upload(name text, type text default 'image/jpeg', bytes bigint default 1000, org uuid default tests.org('ada')) returns text language sql security definer as $$
  insert into storage.objects (bucket_id, name, version, metadata)
  values ('social-media', upload.org || '/' || upload.name, gen_random_uuid()::text, jsonb_build_object('size', upload.bytes, 'mimetype', upload.type))
  on conflict (bucket_id, name) do update set version = excluded.version, metadata = excluded.metadata
  returning name
$$;
create function tests.file(name text) returns public.social_media_files language sql security definer as $$
  select f.* from public.social_media_files as f where f.org_id = tests.org('ada') and f.path = tests.org('ada') || '/' || file.name
$$;
create function tests.queued(name text) returns bigint language sql security definer as $$
  select count(*) from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'social_measurement' and j.payload ->> 'path' = tests.org('ada') || '/' || queued.name
$$;
-- A worker that holds a job of this object, and its answer.
create table tests.held (name text, job uuid, attempt integer, payload jsonb);
create function tests.claim(name text) returns text language plpgsql security definer as $$
begin
  insert into tests.held select claim.name, c.id, c.attempt, c.payload from private.jobs_claim('w', '1 minute', 1000, array['social_measurement']) as c
  where c.payload ->> 'path' = tests.org('ada') || '/' || claim.name;
  return (select 'claimed' from tests.held as h where h.name = claim.name limit 1);
end
$$;
create function tests.record(name text, measured jsonb) returns boolean language plpgsql security definer as $$
declare
  recorded boolean;
begin
  select private.social_record_measurement('w', h.job, h.attempt, measured) into recorded from tests.held as h where h.name = record.name;
  delete from tests.held as h where h.name = record.name;
  return recorded;
end
$$;
-- An object that is measured already.
create function tests.picture(name text, type text, width integer, height integer, frames integer default 1, bytes bigint default 1000) returns void language plpgsql security definer as $$
begin
  perform tests.upload(name, type, bytes);
  update public.social_media_files as f
  set status = 'measured', content_type = type, width = picture.width, height = picture.height, frames = picture.frames, bytes = picture.bytes
  where f.path = tests.org('ada') || '/' || name;
end
$$;
create function tests.problems(platform text, variadic names text[]) returns text[] language sql security definer as $$
  select array_agg(p.value ->> 'code') from jsonb_array_elements(private.social_media_problems(jsonb_populate_record(
    null::public.social_posts, jsonb_build_object(
      'org_id', tests.org('ada'), 'platform', platform,
      'media', (select jsonb_agg(jsonb_build_object('path', tests.org('ada') || '/' || n.name, 'alt_text', 'x')) from unnest(names) as n (name))
    )
  ))) as p
$$;

-- ---- an upload is measured
select tests.upload('a') as a \gset
select is((tests.file('a')).status, 'pending', 'an upload is known at once');
select is(tests.queued('a'), 1::bigint, 'and its measurement queued');
select is(tests.problems('linkedin', 'a'), '{media_not_measured}', 'until then nothing is known of it');
update storage.objects set user_metadata = '{"a": 1}' where name = :'a';
select is(tests.queued('a'), 1::bigint, 'what is said about it is no other version');
select tests.claim('a');
select is((select array(select jsonb_object_keys(h.payload) order by 1) from tests.held as h), '{file_id,path,version}', 'the job names the version');
select is(tests.record('a', '{"content_type": "image/jpeg", "width": 640, "height": 480, "frames": 1, "bytes": 999}'), true, 'the worker records it');
select is((select format('%s %s %sx%s %s %s', f.status, f.content_type, f.width, f.height, f.frames, f.bytes) from tests.file('a') as f), 'measured image/jpeg 640x480 1 999', 'as it is');
select is(tests.queued('a'), 0::bigint, 'and its job is gone');
select is(tests.problems('linkedin', 'a'), null, 'a platform that takes it');

-- ---- another version is measured again
select tests.upload('a');
select is((select array[f.status, f.width::text, f.content_type] from tests.file('a') as f), '{pending,NULL,NULL}', 'of a replaced image nothing is known');
select tests.claim('a');
select tests.upload('a');
select is(tests.record('a', '{"content_type": "image/jpeg", "width": 1, "height": 1, "frames": 1, "bytes": 9}'), true, 'the answer about an older version');
select is((tests.file('a')).status, 'pending', 'says nothing of this one');
select is(tests.queued('a'), 1::bigint, 'whose job is queued');
select tests.claim('a');
select is(tests.record('a', '{"reason": "incomplete", "bytes": 9}'), true, 'a file that cannot be read');
select is((select array[f.status, f.reason, f.width::text] from tests.file('a') as f), '{unreadable,incomplete,NULL}', 'is a problem and no crash');
select is(tests.problems('linkedin', 'a'), '{media_unreadable}', 'of each post that shows it');
-- A measurement of a version that is not the one in storage, as after a restore.
update public.social_media_files as f set version = 'older' where f.path = :'a';
select is(tests.problems('linkedin', 'a'), '{media_not_measured}', 'what is known of another version is not used');
select is(private.social_record_measurement('w', gen_random_uuid(), 1, '{}'), false, 'without a lease nothing is recorded');

-- ---- what is no image of a post
insert into storage.objects (bucket_id, name, version) values ('social-media', tests.org('ada') || '/begun', 'v');
select is((tests.file('begun')).id, null, 'an upload that has not ended is not measured');
select tests.upload('x/../../y'), tests.upload('a b'), tests.upload('ü');
select is((select count(*) from public.social_media_files as f where f.org_id = tests.org('ada')), 1::bigint, 'nor what no post can name: an address would mean something else');
select tests.refuses(format($$select tests.upload('x', org => %L)$$, gen_random_uuid()), 'bad_request', 'a folder of nobody');
insert into storage.buckets (id, name) values ('elsewhere', 'elsewhere');
insert into storage.objects (bucket_id, name, version, metadata) values ('elsewhere', tests.org('ada') || '/a', 'v', '{"size": 1}');
select is((tests.file('a')).version, 'older', 'nor another bucket');
update storage.objects set name = tests.org('ada') || '/b' where name = :'a' and bucket_id = 'social-media';
select is((select array[(tests.file('a')).status, (tests.file('b')).status]), '{NULL,pending}', 'a moved image is another one');
select set_config('storage.allow_delete_query', 'true', true);
delete from storage.objects where name = tests.org('ada') || '/b';
select is((tests.file('b')).id, null, 'a deleted one is forgotten');

-- ---- a job that ended without an answer
select tests.upload('c');
delete from public.jobs as j where j.org_id = tests.org('ada') and j.kind = 'social_measurement';
select private.social_measure_pending() is not null as looked;
select is(tests.queued('c'), 0::bigint, 'is not queued again at once');
select tests.travel('10 minutes 1 second');
select private.social_measure_pending() is not null as looked;
select is(tests.queued('c'), 1::bigint, 'but ten minutes later');
select private.social_measure_pending() is not null as looked;
select is(tests.queued('c'), 1::bigint, 'once');

-- ---- types and bytes, on both sides of each edge
select tests.picture('jpg', 'image/jpeg', 1080, 1080), tests.picture('png', 'image/png', 1080, 1080), tests.picture('gif', 'image/gif', 640, 480, 2);
select is(tests.problems(p, 'jpg'), null, p || ' takes a JPEG') from unnest('{linkedin,facebook,instagram,twitter}'::text[]) as p;
select is(tests.problems(p, 'png'), null, p || ' takes a PNG') from unnest('{linkedin,facebook,twitter}'::text[]) as p;
select is(tests.problems('instagram', 'png'), '{media_type}', 'Instagram does not');
select is(tests.problems(p, 'gif'), null, p || ' takes a GIF') from unnest('{linkedin,twitter}'::text[]) as p;
select is(tests.problems(p, 'gif'), '{media_type}', p || ' takes none') from unnest('{facebook,instagram}'::text[]) as p;
update public.social_media_files as f set content_type = 'image/png' where f.path = tests.org('ada') || '/jpg';
select is(tests.problems(p, 'jpg'), '{media_type}', p || ' looks at the bytes, not at what the uploader said') from unnest('{linkedin,facebook,instagram,twitter}'::text[]) as p;
select tests.picture('jpg', 'image/jpeg', 1080, 1080);
create function tests.of_bytes(platform text, bytes bigint) returns text[] language plpgsql as $$
begin
  perform tests.picture('big', 'image/jpeg', 1080, 1080, 1, bytes);
  return tests.problems(platform, 'big');
end
$$;
select is(tests.of_bytes(p.platform, p.bytes), null, format('%s takes %s bytes', p.platform, p.bytes)) from (values ('linkedin', 8388608), ('facebook', 4194304), ('instagram', 8388608), ('twitter', 5242880)) as p (platform, bytes);
select is(tests.of_bytes(p.platform, p.bytes), '{media_too_large}', format('%s does not take %s bytes', p.platform, p.bytes)) from (values ('linkedin', 8388609), ('facebook', 4194305), ('instagram', 8388609), ('twitter', 5242881)) as p (platform, bytes);

-- ---- X takes four photos or one GIF
select is(tests.problems('twitter', 'jpg', 'jpg', 'png', 'png'), null, 'X takes four photos');
select is(tests.problems('twitter', 'jpg', 'jpg', 'png', 'png', 'png'), '{too_many_media}', 'and not five');
select is(tests.problems('twitter', 'jpg', 'gif'), '{media_mixed}', 'a GIF is alone');
select is(tests.problems('linkedin', 'jpg', 'gif'), null, 'elsewhere it is one of several');

-- ---- sizes, on both sides of each edge
create function tests.of_size(platform text, type text, width integer, height integer, frames integer) returns text language sql as $$
  select coalesce(string_agg(concat_ws(' ', p.value ->> 'code', nullif(p.value ->> 'severity', 'error')), ','), '')
  from jsonb_array_elements(private.social_size_problems(platform, 1, 'image/' || type, width, height, frames)) as p
$$;
select is(tests.of_size(t.platform, t.type, t.width, t.height, t.frames), t.code, format('%s: %s of %s x %s, %s frames', t.platform, t.type, t.width, t.height, t.frames))
from (values
  ('instagram', 'jpeg', 1080, 1350, 1, ''), ('instagram', 'jpeg', 1080, 1351, 1, 'media_aspect_ratio'),
  ('instagram', 'jpeg', 1079, 1350, 1, 'media_aspect_ratio'),
  ('instagram', 'jpeg', 955, 500, 1, ''), ('instagram', 'jpeg', 956, 500, 1, 'media_aspect_ratio'), ('instagram', 'jpeg', 955, 499, 1, 'media_aspect_ratio'),
  ('instagram', 'jpeg', 320, 320, 1, ''), ('instagram', 'jpeg', 319, 320, 1, 'media_scaled warning'),
  ('instagram', 'jpeg', 1440, 1440, 1, ''), ('instagram', 'jpeg', 1441, 1440, 1, 'media_scaled warning'),
  ('instagram', 'jpeg', 65535, 1, 1, 'media_aspect_ratio'), ('instagram', 'jpeg', 1, 65535, 1, 'media_aspect_ratio'),
  ('linkedin', 'png', 36152319, 1, 1, ''), ('linkedin', 'png', 36152320, 1, 1, 'media_too_many_pixels'), ('linkedin', 'jpeg', 65535, 65535, 1, 'media_too_many_pixels'),
  ('linkedin', 'png', 2147483647, 2147483647, 1, 'media_too_many_pixels'),
  ('linkedin', 'gif', 10, 10, 250, ''), ('linkedin', 'gif', 10, 10, 251, 'media_too_many_frames'),
  ('twitter', 'jpeg', 4, 4, 1, ''), ('twitter', 'jpeg', 3, 4, 1, 'media_dimensions'), ('twitter', 'jpeg', 4, 3, 1, 'media_dimensions'),
  ('twitter', 'png', 8192, 8192, 1, ''), ('twitter', 'png', 8193, 8192, 1, 'media_dimensions'), ('twitter', 'png', 8192, 8193, 1, 'media_dimensions'),
  ('twitter', 'gif', 1280, 1080, 217, ''), ('twitter', 'gif', 1281, 1080, 1, 'media_dimensions'), ('twitter', 'gif', 1280, 1081, 1, 'media_dimensions'),
  ('twitter', 'gif', 1280, 1080, 218, 'media_too_many_pixels'),
  ('twitter', 'gif', 1000, 1000, 300, ''), ('twitter', 'gif', 1000, 1000, 301, 'media_too_many_pixels'),
  ('twitter', 'gif', 10, 10, 350, ''), ('twitter', 'gif', 10, 10, 351, 'media_too_many_frames'),
  ('facebook', 'jpeg', 1, 65535, 1, ''), ('facebook', 'png', 10000, 10000, 1, '')
) as t (platform, type, width, height, frames, code);
select is(
  private.social_size_problems('instagram', 2, 'image/jpeg', 1000, 1300, 1) -> 0 ->> 'message',
  'image 2 is 1000 x 1300 pixels, an aspect ratio of 0.769:1; Instagram takes 4:5 (0.8:1) to 1.91:1', 'a problem names the platform, the rule and the figure'
);

-- ---- who schedules
insert into public.connections (org_id, provider, account_id) values (tests.org('ada'), 'instagram', '42') returning id as connection \gset
select tests.picture('tall', 'image/jpeg', 1000, 1300), tests.picture('small', 'image/jpeg', 300, 300);
select tests.upload('fresh');
create function tests.write(name text) returns uuid language sql as $$
  insert into public.social_posts (org_id, platform, connection_id, text, media)
  select tests.org('ada'), 'instagram', c.id, write.name, jsonb_build_array(jsonb_build_object('path', tests.org('ada') || '/' || write.name, 'alt_text', 'x'))
  from public.connections as c where c.org_id = tests.org('ada')
  returning id
$$;
select tests.act_as('ada', tests.org('ada'));
select tests.write('tall') as tall \gset
select tests.write('small') as small \gset
select tests.write('fresh') as fresh \gset
select tests.refuses(format('select public.schedule_social_post(%L)', :'tall'), 'invalid_input', 'a post that the platform would refuse is not scheduled');
select tests.refuses(format('select public.schedule_social_post(%L)', :'fresh'), 'conflict', 'one whose image is being measured is to wait');
select is((public.schedule_social_post(:'small', now()::timestamp + interval '1 day')).status, 'scheduled', 'a warning is none');
select is(
  public.preview_social_post(:'small') -> 'media' -> 0, jsonb_build_object(
    'path', tests.org('ada') || '/small', 'alt_text', 'x', 'content_type', 'image/jpeg', 'bytes', 1000, 'status', 'measured', 'width', 300, 'height', 300, 'frames', 1
  ), 'the preview shows the size'
);
select is((select array[m ->> 'status', m ->> 'width'] from (select public.preview_social_post(:'fresh') -> 'media' -> 0) as p (m)), '{pending,NULL}', 'and what it waits for');
select is((select array_agg(p.value ->> 'code') from jsonb_array_elements(public.preview_social_post(:'fresh') -> 'problems') as p), '{media_not_measured}', 'as a problem');
select tests.act_as_superuser();
update public.social_media_files as f set status = 'measured', content_type = 'image/jpeg', width = 1000, height = 1000, frames = 1 where f.path = tests.org('ada') || '/fresh';
update public.social_media_files as f set status = 'pending', content_type = null, width = null, height = null, frames = null where f.path = tests.org('ada') || '/tall';
select tests.act_as('ada', tests.org('ada'));
select is((public.schedule_social_post(:'fresh')).status, 'scheduled', 'then it is scheduled');
update public.social_posts set media = media || jsonb_build_array(jsonb_build_object('path', tests.org('ada') || '/gone', 'alt_text', 'x')) where id = :'tall';
select tests.refuses(format('select public.schedule_social_post(%L)', :'tall'), 'invalid_input', 'waiting does not help a post with another problem');

-- ---- who reads
select tests.act_as_anon();
select throws_ok('select * from public.social_media_files', '42501', null, 'anon reads none');
select tests.act_as('bob', tests.org('bob'));
select is((select count(*) from public.social_media_files), 0::bigint, 'a non-member sees none');
select tests.act_as('vic', tests.org('ada'));
select is((select f.width from public.social_media_files as f where f.path = tests.org('ada') || '/small'), 300, 'a viewer reads');
select tests.act_as('mem', tests.org('ada'));
select throws_ok(s.q, '42501', null, 'a member does not write: ' || s.q) from unnest(array[
  $$insert into public.social_media_files (path, version) values ('x', 'y')$$, $$update public.social_media_files set width = 1080$$, $$delete from public.social_media_files$$
]) as s (q);
select throws_ok($$select private.social_record_measurement('w', gen_random_uuid(), 1, '{}')$$, '42501', null, 'nor say what an image is');

-- ---- an organization that is deleted
select tests.act_as_superuser();
delete from public.organizations as o where o.id = tests.org('ada');
select is((select count(*) from public.social_media_files as f where f.path like tests.org('ada') || '/%'), 0::bigint, 'takes its images along');

select * from finish();
rollback;
