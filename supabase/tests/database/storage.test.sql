begin;
\ir 000_helpers.sql
select plan(45);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('eve');
select tests.org('ada') as org, tests.org('eve') as other \gset
update public.subscriptions set plan = 'TEAMS' where org_id = :'org';
select tests.join_org('bob', :'org', 'viewer');

insert into storage.buckets (id, name) values ('metered', 'metered'), ('free', 'free');
create policy "metered select" on storage.objects for select to authenticated
  using (bucket_id = 'metered' and private.storage_org_id(name) = any (array(select private.org_ids_with('content:read'))));
create policy "metered insert" on storage.objects for insert to authenticated
  with check (bucket_id = 'metered' and private.storage_org_id(name) = any (array(select private.org_ids_with('content:write'))));
select private.storage_meter_bucket('metered');

create function tests.bytes(org uuid) returns bigint language sql security definer as $$
  select coalesce((select u.used from kijko.usage(org) as u where u.meter = 'storage_bytes'), 0)
$$;
create function tests.object(bucket text, name text, bytes bigint) returns void language sql as $$
  insert into storage.objects (bucket_id, name, version, metadata) values (bucket, name, gen_random_uuid()::text, jsonb_build_object('size', bytes))
$$;

-- ---- helpers of paths, as on Supabase

select is(storage.foldername('a/b/c.txt'), '{a,b}', 'the folders of a path');
select is(storage.foldername('c.txt'), '{}', 'a file at the top has no folders');
select is(storage.filename('a/b/c.tar.gz'), 'c.tar.gz', 'the last segment');
select is(storage.extension('a/b/c.tar.gz'), 'gz', 'what is behind the last dot');
select is(storage.extension('a.b/c'), 'c', 'the whole name without a dot');
select is(private.storage_org_id(:'org' || '/x'), :'org'::uuid, 'the first segment is the organization');
select is(private.storage_org_id(upper(:'org') || '/x'), null, 'in its one spelling');
select is(private.storage_org_id('x/' || :'org'), null, 'and nowhere else');

-- ---- the gauge

select tests.object('metered', :'org' || '/a', 1000);
select is(tests.bytes(:'org'), 1000::bigint, 'an object counts');
select tests.object('free', 'anything', 5000);
select is(tests.bytes(:'org'), 1000::bigint, 'one of another bucket does not');
update storage.objects set metadata = '{"size": 300}' where name = :'org' || '/a';
select is(tests.bytes(:'org'), 300::bigint, 'another size counts instead');
update storage.objects set name = :'other' || '/a' where name = :'org' || '/a';
select is(array[tests.bytes(:'org'), tests.bytes(:'other')], array[0, 300]::bigint[], 'a move to another organization takes its bytes along');
update storage.objects set bucket_id = 'free' where name = :'other' || '/a';
select is(tests.bytes(:'other'), 0::bigint, 'a move out of the bucket ends counting');
update storage.objects set bucket_id = 'metered' where name = :'other' || '/a';
select is(tests.bytes(:'other'), 300::bigint, 'and back again');
insert into storage.objects (bucket_id, name, metadata)
select 'metered', o.org || '/many/' || n, '{"size": 10}' from (values (:'org'), (:'other')) as o (org), generate_series(1, 5) as n;
select is(array[tests.bytes(:'org'), tests.bytes(:'other')], array[50, 350]::bigint[], 'many objects of several organizations in one statement');
insert into storage.objects (bucket_id, name, metadata) values ('metered', :'org' || '/odd', '{"size": "many"}'), ('metered', :'org' || '/none', null);
select is(tests.bytes(:'org'), 50::bigint, 'a row without a size counts nothing');

select tests.refuses(format('select tests.object(%L, %L, 1)', 'metered', 'x'), 'bad_request', 'a path without an organization');
select tests.refuses(format('select tests.object(%L, %L, 0)', 'metered', gen_random_uuid() || '/x'), 'bad_request', 'an organization that does not exist, also without bytes');
select tests.refuses(format('select tests.object(%L, %L, 1)', 'metered', '/' || :'org' || '/x'), 'bad_request', 'a path that begins with a slash');
select kijko.set_limit(:'org', 'storage_bytes', 'lifetime', 100);
select tests.refuses(format('select tests.object(%L, %L, 51)', 'metered', :'org' || '/large'), 'quota_exceeded', 'one byte beyond the limit');
select lives_ok(format('select tests.object(%L, %L, 50)', 'metered', :'org' || '/fits'), 'the last byte');
select is(tests.bytes(:'org'), 100::bigint, 'a refused object counts nothing');
select tests.refuses(format('select private.storage_admit_bytes(%L, %L, 1)', 'metered', :'org' || '/x'), 'quota_exceeded', 'what would be refused is known before');
select lives_ok(format('select private.storage_admit_bytes(%L, %L, 1)', 'free', 'x'), 'another bucket has no limit');

-- ---- a recount

select is_empty('select * from private.storage_recount_bytes()', 'the gauges are right');
alter table storage.objects disable trigger kijko_bytes_delete;
select set_config('storage.allow_delete_query', 'true', true);
delete from storage.objects where name = :'org' || '/fits';
alter table storage.objects enable trigger kijko_bytes_delete;
select results_eq('select was, became from private.storage_recount_bytes()', 'values (100::bigint, 50::bigint)', 'a gauge that is wrong is corrected');
select is(tests.bytes(:'org'), 50::bigint, 'to the bytes of the rows');
select set_config('storage.allow_delete_query', 'false', true);

-- ---- a bucket that has objects when it is metered

insert into storage.buckets (id, name) values ('later', 'later');
select tests.object('later', :'org' || '/a', 7), tests.object('later', 'nobody/a', 7);
select private.storage_meter_bucket('later'), private.storage_meter_bucket('later');
select is(tests.bytes(:'org'), 57::bigint, 'they count, once');
select is_empty('select * from private.storage_recount_bytes()', 'and a recount finds the same');

-- ---- rights

select tests.act_as('eve');
select is((select count(*) from storage.objects where name like :'org' || '%'), 0::bigint, 'a non-member sees nothing');
select throws_ok(format('insert into storage.objects (bucket_id, name) values (%L, %L)', 'metered', :'org' || '/eve'), '42501', null, 'and writes nothing');
select throws_ok('select * from private.metered_buckets', '42501', null, 'users do not read the list of buckets');
select tests.act_as('bob');
select isnt((select count(*) from storage.objects where name like :'org' || '%'), 0::bigint, 'a viewer sees');
select throws_ok(format('insert into storage.objects (bucket_id, name) values (%L, %L)', 'metered', :'org' || '/bob'), '42501', null, 'and writes nothing');
select tests.act_as_anon();
select is((select count(*) from storage.objects), 0::bigint, 'an unauthenticated caller sees no object');
select tests.act_as_superuser();
select throws_ok('delete from storage.objects', '42501', null, 'no statement deletes by accident');

-- ---- bytes of deleted objects

select tests.object('free', name, 1) from unnest('{long,short}'::text[]) as name;
alter table storage.objects disable trigger update_objects_updated_at;
update storage.objects set updated_at = clock_timestamp() - interval '1 hour' where bucket_id = 'free' and name = 'long';
alter table storage.objects enable trigger update_objects_updated_at;
select version as long from storage.objects where bucket_id = 'free' and name = 'long' \gset
select version as short from storage.objects where bucket_id = 'free' and name = 'short' \gset
create function tests.taken(keep interval, version text) returns bigint language sql as $$
  select count(*) from storage_service.take_deletions(100000, keep) as t where t.blob = version::uuid
$$;
select set_config('storage.allow_delete_query', 'true', true);
delete from storage.objects where bucket_id = 'free' and name in ('long', 'short');
select set_config('storage.allow_delete_query', 'false', true);
select is(
  (select array_agg(round(extract(epoch from d.keep_until - d.deleted_at) / 60) order by d.keep_until) from storage_service.deletions as d where d.version in (:'long', :'short')),
  '{2,600}', 'are kept ten times as long as the object lived, and at least two minutes'
);
select is(tests.taken('1 day', :'long'), 0::bigint, 'and not deleted before');
update storage_service.deletions set deleted_at = deleted_at - interval '1 day', keep_until = keep_until - interval '1 hour' where version in (:'long', :'short');
select is(tests.taken('2 days', :'short'), 1::bigint, 'an object that lived for a short time goes first');
select is(tests.taken('2 days', :'long'), 0::bigint, 'the others stay for the days that are set');
select is(tests.taken('1 day', :'long'), 1::bigint, 'and go then');
select is(storage_service.queue_strays(array[:'long', gen_random_uuid()]::uuid[]), 1, 'bytes without a row are queued once');
select is(storage_service.queue_strays(array(select o.version::uuid from storage.objects as o where o.version ~ '^[0-9a-f-]{36}$')), 0, 'and never those of an object');

-- ---- an organization that goes

delete from public.organizations where id = :'org';
select is((select count(*) from storage.objects where bucket_id = 'metered' and name like :'org' || '%'), 0::bigint, 'its objects go with it');
select is(
  (select count(*) from storage.objects where bucket_id = 'metered' and name like :'other' || '%'), 6::bigint, 'and no others'
);

select * from finish();
rollback;
