begin;
\ir 000_helpers.sql
select plan(2);

-- ---- default privileges: what a migration makes starts without rights for anybody but its owner
set local role postgres;
create function public.new_function() returns void language sql as 'select';
create function private.new_function() returns void language sql as 'select';
create procedure public.new_procedure() language sql as 'select';
create table public.new_table (id bigint generated always as identity);
create view public.new_view as select 1;
create sequence public.new_sequence;
reset role;
create view tests.rights as
  select p.oid::regprocedure::text as object, x.grantee from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as x
  where p.proname in ('new_function', 'new_procedure')
  union all
  select c.oid::regclass::text, x.grantee from pg_class as c, aclexplode(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))) as x
  where c.relname in ('new_table', 'new_table_id_seq', 'new_view', 'new_sequence');
select is((select count(distinct object) from tests.rights), 7::bigint, 'seven new objects');
select is_empty($$select object, grantee::regrole from tests.rights where grantee <> 'postgres'::regrole$$, 'a new object gives rights to its owner alone');

select * from finish();
rollback;
