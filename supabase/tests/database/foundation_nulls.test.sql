-- What a function returns is null only where its comment says "Nullable: …": the generated types and the OpenAPI document promise the rest.
-- Each function that callers may call is called as several of them, with nulls and with values of nothing in particular.
begin;
\ir 000_helpers.sql
select plan(4);

select tests.sign_up('ada'), tests.sign_up('bob');

create type tests.role_play as enum ('anon', 'ada', 'service');

create function tests.play(who tests.role_play) returns void language plpgsql as $$
begin
  case who
    when 'anon' then perform tests.act_as_anon();
    when 'ada' then perform tests.act_as('ada', tests.org('ada'));
    when 'service' then perform tests.act_as_service();
  end case;
end
$$;

-- A literal for an argument: null, or a value of its type, where it can be one of Ada's own.
create function tests.argument(name text, type regtype, given text) returns text language sql stable as $$
  select case
    when given = 'null' then 'null::' || type
    when name in ('org', 'org_id', 'organization', 'organization_id') and type = 'uuid'::regtype then format('%L::uuid', tests.org('ada'))
    when name in ('user_id', 'member_id', 'person', 'id') and type = 'uuid'::regtype and given = 'own' then format('%L::uuid', tests.id('ada'))
    when type = 'uuid'::regtype then format('%L::uuid', gen_random_uuid())
    when type in ('text'::regtype, 'varchar'::regtype) then quote_literal('x')
    when type in ('json'::regtype, 'jsonb'::regtype) then format('%L::%s', '{}', type)
    when type in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'float8'::regtype) then format('1::%s', type)
    when type = 'bool'::regtype then 'true'
    when type in ('timestamptz'::regtype, 'date'::regtype) then format('%L::%s', '2026-11-28', type)
    when type::text like '%[]' then format('%L::%s', '{}', type)
    else 'null::' || type
  end
$$;

-- Why the answer to one call is not as promised; null if it is, or if the call is refused. Nothing stays.
create function tests.broken_promise(fn oid, who tests.role_play, given text) returns text language plpgsql as $$
declare
  f pg_catalog.pg_proc;
  nullable text[];
  outputs text[];
  required text[];
  arguments text;
  answer jsonb;
  answers integer := 0;
  broken text;
begin
  select p.* into f from pg_catalog.pg_proc as p where p.oid = fn;
  nullable := regexp_split_to_array(substring(obj_description(fn, 'pg_proc') from '\mNullable: ([\w, ]+)\.'), ',\s*');
  -- Of one output it is the answer itself; of a table's row the columns that are not null.
  if cardinality(f.proallargtypes) - cardinality(f.proargtypes::oid[]) > 1 or 't' = any (f.proargmodes) then
    outputs := array(select n from unnest(f.proargnames, f.proargmodes) as a (n, m) where m in ('o', 'b', 't'));
    required := array(select unnest(outputs) except select unnest(nullable));
  else
    required := array(
      select a.attname from pg_catalog.pg_type as t join pg_catalog.pg_attribute as a on a.attrelid = t.typrelid
      where t.oid = f.prorettype and a.attnum > 0 and a.attnotnull and not a.attisdropped
    );
  end if;
  -- Arguments with a default are left out, as far as they are the last.
  select coalesce(string_agg(tests.argument(f.proargnames[i], f.proargtypes[i - 1]::regtype, given), ', ' order by i), '') into arguments
  from generate_series(1, f.pronargs - case given when 'required' then f.pronargdefaults else 0 end) as i;
  begin
    perform tests.play(who);
    for answer in execute format('select to_jsonb(a) from (select public.%I(%s) as a) as called limit 3', f.proname, arguments) loop
      answers := answers + 1;
      if answer is null or answer = 'null' then
        if not 'result' = any (coalesce(nullable, '{}')) then
          broken := 'null';
        end if;
      elsif jsonb_typeof(answer) = 'object' then
        broken := coalesce(broken, (select string_agg(r, ', ') from unnest(required) as r where answer -> r = 'null'));
      end if;
    end loop;
    raise exception using errcode = 'UNDO0';
  exception
    when sqlstate 'UNDO0' then
      null;
    when others then
      return null;
  end;
  return format('%s(%s) as %s: %s', f.proname, arguments, who, broken) where broken is not null;
end
$$;

create table tests.callable as
select p.oid as fn, r as who
from pg_catalog.pg_proc as p, unnest(enum_range(null::tests.role_play)) as r
where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype, 'void'::regtype)
  and not exists (select from pg_catalog.pg_depend as d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
  and has_function_privilege(case r when 'anon' then 'anon' when 'ada' then 'authenticated' else 'service_role' end, p.oid, 'execute');
grant select on tests.callable to public;

-- It would see one.
create function public.tests_promise(x text) returns text language sql strict as $$ select x $$;
create function public.tests_said(x text) returns text language sql strict as $$ select x $$;
comment on function public.tests_said(text) is 'Says it. Nullable: result.';
create function public.tests_pair(out one text, out two text) language sql as $$ select 'x', null $$;
comment on function public.tests_pair() is 'Two. Nullable: one.';
grant execute on function public.tests_promise(text), public.tests_said(text), public.tests_pair() to anon;
select is(
  array[tests.broken_promise('public.tests_promise(text)'::regprocedure, 'anon', 'null'), tests.broken_promise('public.tests_promise(text)'::regprocedure, 'anon', 'own'),
    tests.broken_promise('public.tests_said(text)'::regprocedure, 'anon', 'null'), tests.broken_promise('public.tests_pair()'::regprocedure, 'anon', 'null')],
  array['tests_promise(null::text) as anon: null', null, null, 'tests_pair() as anon: two'],
  'a null that nobody has announced is noticed'
);

select is_empty(
  format('select broken from tests.callable, tests.broken_promise(fn, who, %L) as broken where broken is not null', given),
  'no function returns a null that it has not announced: ' || what
) from (values ('null', 'all arguments null'), ('required', 'without those that have a default'), ('own', 'all arguments given')) as v (given, what);

select * from finish();
rollback;
