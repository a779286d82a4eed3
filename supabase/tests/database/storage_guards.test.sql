-- What lists look at, and what a trigger of postgres on storage.objects can do as the owner of the service's functions.
begin;
\ir 000_helpers.sql
select plan(27);

select tests.sign_up('ada'), tests.sign_up('eve');
select tests.org('ada') as org, tests.org('eve') as other \gset
update public.subscriptions set plan = 'TEAMS' where org_id in (:'org', :'other');
insert into storage.buckets (id, name) values ('metered', 'metered'), ('free', 'free');

-- Counts the rows that policies are asked about.
create sequence tests.asked;
create function tests.ask() returns boolean language sql volatile security definer as $$ select nextval('tests.asked') > 0 $$;
create function tests.rows_asked() returns bigint language sql volatile security definer as $$
  select last_value - 1 + case when is_called then 1 else 0 end from tests.asked
$$;
create policy "lists" on storage.objects for select to anon, authenticated
  using (tests.ask() and bucket_id in ('metered', 'free') and private.storage_org_id(name) = any (array(select private.org_ids_with('content:read'))));
select private.storage_meter_bucket('metered');
insert into storage.objects (bucket_id, name, created_at, metadata)
select b.id, o.org || '/' || f.name, timestamptz '2026-01-01' + f.n * interval '1 minute', '{"size": 1}'
from (values ('metered'), ('free')) as b (id)
cross join (values (:'org', 6), (:'other', 200)) as o (org, objects)
cross join lateral (select n, case when n % 2 = 0 then 'folder/' else '' end || lpad(n::text, 4, '0') as name from generate_series(1, o.objects) as n) as f;

create function tests.list(prefix text, delimited boolean default true, bucket text default 'metered', descending boolean default false)
returns table (key text, asked boolean) language plpgsql as $$
declare
  before constant bigint := tests.rows_asked();
  keys text[];
begin
  keys := array(select e.key from storage.list_entries(bucket, prefix, delimited, '', descending, 1000) as e);
  return query select coalesce(array_to_string(keys, ','), ''), tests.rows_asked() > before;
end
$$;

-- ---- a list of a metered bucket looks at the caller's own organizations
select tests.act_as('ada');
select is((select l.key from tests.list('') as l), :'org' || '/', 'the root of a metered bucket: the caller''s organization');
select cmp_ok((select tests.rows_asked()), '<=', 1::bigint, 'for which one row was looked at, of all that are there');
select results_eq(format('select * from tests.list(%L)', :'other' || '/'), $$values ('', false)$$, 'below another organization nothing is looked at');
select results_eq(format('select * from tests.list(%L, false, descending => true)', left(:'other', 8)), $$values ('', false)$$, 'nor by the beginning of its id');
select is(
  (select l.key from tests.list(:'org' || '/') as l), :'org' || '/0001,' || :'org' || '/0003,' || :'org' || '/0005,' || :'org' || '/folder/', 'a folder'
);
select is(
  (select l.key from tests.list(:'org' || '/', descending => true) as l), :'org' || '/folder/,' || :'org' || '/0005,' || :'org' || '/0003,' || :'org' || '/0001', 'and backwards'
);
select is((select l.key from tests.list(left(:'org', 9), true) as l), :'org' || '/', 'the beginning of the caller''s id');
select is((select count(*) from storage.list_entries('metered', '', false, '', false, 1000)), 6::bigint, 'without folders');
select is((select l.key from tests.list('', bucket => 'free') as l), :'org' || '/', 'a bucket that is not metered is looked at as a whole');
select is((select count(*) from storage.search('', 'metered')), 1::bigint, 'the first version of lists');
select is((select count(*) from storage.search_v2('', 'metered')), 1::bigint, 'the second one');
select is((select count(*) from storage.search_v2(:'other' || '/', 'metered', sort_column => 'created_at')), 0::bigint, 'and by time');
select tests.act_as_anon();
select results_eq($$select * from tests.list('')$$, $$values ('', false)$$, 'an unauthenticated caller has no organization');

-- ---- by time: a folder has the time of its first object
select tests.act_as('ada');
select is(
  array(select substr(e.key, 38) from storage.list_entries_by_time('metered', :'org' || '/', true, 'created_at', 'epoch', '', false, 10) as e),
  '{0001,folder/,0003,0005}', 'by creation, with folders'
);
select is(
  array(select substr(e.key, 38) from storage.list_entries_by_time('metered', :'org' || '/', false, 'created_at', '2026-01-01 00:04', :'org' || '/folder/0004', true, 2) as e),
  '{0003,folder/0002}', 'backwards, after a time and a key'
);
select is((select count(*) from storage.list_entries_by_time('metered', :'other' || '/', false, 'created_at', 'epoch', '', false, 10)), 0::bigint, 'nothing of others');

-- ---- postgres owns the table of objects, so it can make a trigger that runs as the owner of the service's functions
select tests.act_as_superuser();
create table tests.tried (command text, state text);
grant insert on tests.tried to public;
grant usage on schema tests to public;
set local role postgres;
create function public.try_everything() returns trigger language plpgsql as $$
declare
  command text;
begin
  foreach command in array array[
    'create or replace function storage_service.enter(request jsonb) returns text language sql as ''select null::text''',
    'create or replace function storage_service.begin_upload(upload uuid, bucket text, object_name text, owner uuid, owner_id text, upsert boolean, metadata jsonb, user_metadata jsonb, started_by text, bytes bigint, lease interval, most integer, may_replace jsonb default null) returns jsonb language sql as ''select null::jsonb''',
    'create function storage_service.mine() returns void language sql as ''''',
    'create table storage_service.mine ()',
    'drop schema storage_service cascade',
    'set role postgres', 'set role supabase_admin', 'set session authorization postgres',
    'alter role kijko_storage superuser',
    'grant kijko_storage_admin to postgres',
    'select kijko.sign_jwt(''{}''::jsonb)',
    'select * from kijko.api_key_secrets',
    'select * from auth.users',
    'select * from public.organizations',
    'copy storage.objects to program ''true'''
  ] loop
    begin
      execute command;
      insert into tests.tried values (command, current_user);
    exception when others then
      insert into tests.tried values (command, sqlstate);
    end;
  end loop;
  return null;
end
$$;
create trigger try_everything after insert on storage.objects for each statement execute function public.try_everything();
reset role;
select storage_service.begin_upload(u, 'free', 'x', null, null, false, '{}', null, 'test', 1, '1 minute', 10) is not null as begun,
  storage_service.finish_upload(u, '{"size": 1}') ? 'row' as written
from gen_random_uuid() as u \gset
select is(:'written'::text, 't', 'the service writes a row, and the trigger runs as its functions'' owner');
select is_empty($$select t.command, t.state from tests.tried as t where t.state <> '42501'$$, 'which may do none of this');
select is((select count(*) from tests.tried), 15::bigint, 'of which all was tried');
select is_empty(
  $$select p.oid::regprocedure from pg_proc as p where p.pronamespace = 'storage_service'::regnamespace and p.prosecdef
    and p.proowner <> 'kijko_storage_admin'::regrole$$, 'the definer functions of the service have that owner'
);
select is_empty(
  $$select p.oid::regprocedure from pg_proc as p where p.pronamespace = 'storage_service'::regnamespace and not p.prosecdef
    and pg_has_role('postgres', p.proowner, 'member')$$, 'and postgres owns none of the others'
);

-- ---- signed URLs are counted for who signs them
select tests.act_as('eve');
select throws_ok($$select private.storage_admit_signer('{}')$$, '42501', null, 'users name nobody whom a request counts for');
select tests.act_as_superuser();
select tests.refuses($$select private.storage_admit_signer(jsonb_build_object('api_key_id', gen_random_uuid()))$$, 'invalid_api_key', 'a key that is gone signs nothing more');
select lives_ok($$select private.storage_admit_signer(jsonb_build_object('user_id', tests.id('eve'), 'org_id', gen_random_uuid()))$$, 'an organization that is gone is not counted');
select tests.refuses(format($$select private.storage_admit_signer(jsonb_build_object('user_id', tests.id('eve'), 'org_id', %L))$$, :'org'), 'not_a_member', 'who has left signs nothing more');
select lives_ok(format($$select private.storage_admit_signer(jsonb_build_object('user_id', tests.id('ada'), 'org_id', %L))$$, :'org'), 'a member does');
update auth.users set banned_until = kijko.now() + interval '1 day' where id = tests.id('ada');
select tests.refuses(format($$select private.storage_admit_signer(jsonb_build_object('user_id', tests.id('ada'), 'org_id', %L))$$, :'org'), 'not_a_member', 'until they are banned');

select * from finish();
rollback;
