-- What the plan holds for uploads under way, and how long bytes of deleted objects are kept.
begin;
\ir 000_helpers.sql
select plan(24);

select tests.sign_up('ada'), tests.sign_up('eve');
select tests.org('ada') as org, tests.org('eve') as other \gset
update public.subscriptions set plan = 'TEAMS' where org_id in (:'org', :'other');
insert into storage.buckets (id, name) values ('metered', 'metered'), ('free', 'free');
select private.storage_meter_bucket('metered');
select kijko.set_limit(:'org', 'storage_bytes', 'lifetime', 1000);

create function tests.upload(number integer) returns uuid language sql immutable as $$
  select ('00000000-0000-4000-8000-' || lpad(number::text, 12, '0'))::uuid
$$;
create function tests.code_of(answer jsonb) returns text language sql as $$
  select c.code from kijko.error_codes as c where c.sqlstate = answer -> 'problem' ->> 'state'
$$;
-- What was refused, or the code of the problem, or null.
create function tests.begin_upload(number integer, path text, bytes bigint, written jsonb default null, bucket text default 'metered', most integer default 20)
returns text language sql as $$
  select coalesce(b ->> 'refused', tests.code_of(b))
  from storage_service.begin_upload(tests.upload(number), bucket, path, null, null, true, '{}', written, 'test', bytes, '1 minute', most) as b
$$;
create function tests.admit(number integer, bytes bigint, ahead bigint) returns text language sql as $$
  select coalesce(a ->> 'admitted', tests.code_of(a)) from storage_service.admit_bytes(tests.upload(number), bytes, ahead) as a
$$;
create function tests.finish(number integer, size bigint) returns boolean language sql as $$
  select storage_service.finish_upload(tests.upload(number), jsonb_build_object('size', size)) ? 'row'
$$;
create function tests.bytes(org uuid) returns bigint language sql security definer as $$
  select coalesce((select u.used from kijko.usage(org) as u where u.meter = 'storage_bytes'), 0)
$$;

-- ---- two uploads of unknown length
select is(tests.begin_upload(1, :'org' || '/a', null), null, 'an upload of unknown length begins');
select is(tests.begin_upload(2, :'org' || '/b', null), null, 'and another one');
select is(tests.admit(1, 300, 300), '600', 'it holds what has come, and some bytes ahead');
select is(tests.admit(2, 300, 300), '300', 'the other one only what has come: with more ahead both would pass the plan');
select is(tests.admit(2, 401, 300), 'quota_exceeded', 'and no byte more than the plan has left');
select is(tests.admit(1, 601, 99), '700', 'of which the first one takes the last');
select is(tests.begin_upload(3, :'org' || '/c', 1), 'quota_exceeded', 'an upload of known length has none');
select is((select count(*) from storage_service.uploads as u where u.version = tests.upload(3)), 0::bigint, 'and is not under way');
select is(tests.bytes(:'org'), 0::bigint, 'nothing counts before it is stored');
select is(tests.begin_upload(4, :'other' || '/a', 5000), null, 'another organization has its own plan');
select is(tests.begin_upload(5, 'x', 5000, bucket => 'free'), null, 'and a bucket that is not metered none');

-- ---- what ends
select ok(tests.finish(1, 700), 'the first one is stored');
select is(tests.bytes(:'org'), 700::bigint, 'its bytes count in place of its hold');
select is(tests.admit(2, 300, 1), '300', 'the second one still has what it held');
select storage_service.give_up_upload(tests.upload(2));
select is(tests.begin_upload(6, :'org' || '/c', 300), null, 'what was given up holds nothing any more');
select storage_service.give_up_upload(tests.upload(6));

-- ---- replacing
select is(tests.begin_upload(7, :'org' || '/a', 1000), null, 'the bytes of an object that is replaced are the upload''s');
select is(tests.begin_upload(8, :'org' || '/a', 1), 'quota_exceeded', 'but not twice');
select ok(tests.finish(7, 1000), 'it is stored');
select is(tests.bytes(:'org'), 1000::bigint, 'in place of the former one');
select kijko.set_limit(:'org', 'storage_bytes', 'lifetime', 1020);
select is(tests.begin_upload(9, :'org' || '/d', 10, '{"note": "abc"}'), 'quota_exceeded', 'what the uploader writes counts as well');
select is(tests.begin_upload(10, :'org' || '/d', 5, '{"note": "abc"}'), null, 'until it fits');
select ok(tests.finish(10, 5), 'and is stored');
select is(tests.bytes(:'org'), 1020::bigint, 'with its 15 bytes');

-- ---- how long bytes are kept
select is(
  array[
    storage_service.keep_time('3 seconds', '0'), storage_service.keep_time('3 seconds', '60 seconds'), storage_service.keep_time('3 seconds', '10 minutes'),
    storage_service.keep_time('1 hour', '10 minutes')
  ],
  array['2 minutes', '2 minutes', '20 minutes', '10 hours']::interval[],
  'an object that lived for seconds is kept until the archive of WAL has it'
);

select * from finish();
rollback;
