-- What a trigger of postgres on realtime.messages can do as the owner of the realtime service's functions.
begin;
\ir 000_helpers.sql
select plan(7);

create table tests.tried (command text, state text, seen_as name);
grant insert on tests.tried to public;
-- postgres owns the table of messages, so it can make a trigger that runs as the owner of the service's functions.
set local role postgres;
create function public.try_everything() returns trigger language plpgsql as $$
declare
  command text;
begin
  foreach command in array array[
    'create or replace function realtime_service.identify(token text, headers jsonb) returns jsonb language sql as ''select null::jsonb''',
    'create or replace function realtime_service.insert_probes(topic text, ids uuid[], extensions text[]) returns void language sql as ''''',
    'create or replace function realtime_service.verify(token text) returns jsonb language sql as ''select null::jsonb''',
    'create function realtime_service.mine() returns void language sql as ''''',
    'create table realtime_service.mine ()',
    'alter function realtime_service.identify(text, jsonb) security definer',
    'alter function realtime_service.insert_probes(text, uuid[], text[]) rename to mine',
    'drop schema realtime_service cascade',
    'set role postgres', 'set role supabase_admin', 'set session authorization postgres',
    'alter role kijko_realtime superuser',
    'grant kijko_realtime_admin to postgres',
    'select kijko.sign_jwt(''{}''::jsonb)',
    'select * from kijko.api_key_secrets',
    'select * from auth.users',
    'select * from public.organizations',
    'copy realtime.messages_default to program ''true'''
  ] loop
    begin
      execute command;
      insert into tests.tried values (command, 'done', current_user);
    exception when others then
      insert into tests.tried values (command, sqlstate, current_user);
    end;
  end loop;
  return null;
end
$$;
create trigger try_everything after insert on realtime.messages for each statement execute function public.try_everything();
reset role;
select realtime_service.insert_probes('topic', array[gen_random_uuid()], array['broadcast']);
select is(
  (select array_agg(distinct t.seen_as) from tests.tried as t), array['kijko_realtime_admin'::name], 'the trigger runs as the owner of the service''s functions'
);
select is_empty($$select t.command, t.state from tests.tried as t where t.state <> '42501'$$, 'which may do none of this');
select is((select count(*) from tests.tried), 18::bigint, 'of which all was tried');
select is_empty(
  $$select p.oid::regprocedure from pg_proc as p where p.pronamespace = 'realtime_service'::regnamespace and p.prosecdef
    and p.proowner <> 'kijko_realtime_admin'::regrole$$, 'the definer functions of the service have that owner'
);
select is_empty(
  $$select p.oid::regprocedure from pg_proc as p where p.pronamespace = 'realtime_service'::regnamespace and not p.prosecdef
    and (pg_has_role('postgres', p.proowner, 'member') or pg_has_role('kijko_realtime_admin', p.proowner, 'member'))$$,
  'and neither that role nor postgres owns one of the others'
);
select ok(not has_schema_privilege('kijko_realtime_admin', 'realtime_service', 'create'), 'it makes nothing in the schema of the service');
select is_empty(
  $$select c.oid::regclass from pg_class as c where c.relnamespace = 'realtime'::regnamespace and c.relkind in ('r', 'p')
    and c.relowner not in ('supabase_realtime_admin'::regrole, 'kijko_realtime_admin'::regrole)$$, 'partitions belong to who maintains them'
);

select * from finish();
rollback;
