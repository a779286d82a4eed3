begin;
\ir 000_helpers.sql
select plan(53);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('vic'), tests.sign_up('mem');
select tests.join_org('vic', tests.org('ada'), 'viewer'), tests.join_org('mem', tests.org('ada'), 'member');

-- ---- make_tenant_table refuses what is no tenant table, and says why
create function tests.faults(called text) returns text language plpgsql as $$
declare
  found_faults text;
begin
  execute called;
  return null;
exception when data_exception then
  get stacked diagnostics found_faults = pg_exception_detail;
  return found_faults;
end
$$;

set local role postgres;
create table public.gadgets (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  project_id uuid,
  name text not null check (char_length(name) <= 100),
  score integer not null default 0,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, name)
);
create table public.shapeless (id integer, org_id uuid, created_at timestamptz default now());

select matches(tests.faults($$select private.make_tenant_table('public.shapeless', 'content', '{}', 5)$$), f.fault, 'without ' || f.fault)
from unnest(array[
  'needs id uuid not null', 'needs org_id uuid not null default public\.org_id\(\)', 'needs created_by uuid default kijko\.user_id\(\)',
  'needs created_by_key uuid default kijko\.api_key_id\(\)', 'needs created_at timestamp with time zone not null default kijko\.now\(\)',
  'needs updated_at timestamp with time zone not null default kijko\.now\(\)', 'needs primary key \(id\)',
  'needs org_id references public\.organizations \(id\) on delete cascade'
]) as f (fault);
select matches(
  tests.faults($$select private.make_tenant_table('public.gadgets', 'content', '{"project_id, name, score": "x"}', 5)$$),
  'needs foreign key \(org_id, project_id\)', 'a project of another organization could be named'
);
alter table public.gadgets add foreign key (org_id, project_id) references public.projects (org_id, id) on delete cascade;
select matches(tests.faults($$select private.make_tenant_table('public.gadgets', 'contents', '{}', 5)$$), 'no role holds contents:read; no role holds contents:write', 'a permission that no role holds');
select matches(tests.faults($$select private.make_tenant_table('public.gadgets', 'content', '{}')$$), 'needs a gauge or max_rows', 'nothing bounds the rows');
select matches(tests.faults($$select private.make_tenant_table('public.gadgets', 'content', '{}', 5, 'gadgets')$$), 'needs a gauge or max_rows, and not both', 'two bounds');
select matches(tests.faults($$select private.make_tenant_table('public.gadgets', 'content', '{}', 0)$$), 'max_rows: 1 or more', 'a limit of nothing');
select matches(
  tests.faults($$select private.make_tenant_table('public.gadgets', 'content', '{"project_id, score": "x", "name": {"purpose": "x", "subject": "secret"}}', 5)$$),
  'name: a secret', 'a secret that users would read'
);
select matches(
  tests.faults($$select private.make_tenant_table('public.gadgets', 'content', '{"project_id, name, score": "x"}', 5, writable => array['name', 'created_by', 'created_at'])$$),
  'created_by: the database keeps it.*created_at: the database keeps it', 'users would write in another''s name'
);
alter table public.gadgets rename to a_name_so_long_that_those_of_its_triggers_are_cut;
select matches(
  tests.faults($$select private.make_tenant_table('public.a_name_so_long_that_those_of_its_triggers_are_cut', 'content', '{"project_id, name, score": "x"}', 5)$$),
  'name: 48 bytes at most', 'names that would be cut'
);
alter table public.a_name_so_long_that_those_of_its_triggers_are_cut rename to gadgets;
select is(
  tests.faults($$select private.make_tenant_table('public.gadgets', 'content', '{"name": "x", "nane": "x"}', 5)$$),
  'catalogue of public.gadgets: nane: no such column, project_id: not described, score: not described', 'a catalogue that does not fit the columns'
);
select throws_ok(
  $$select private.make_tenant_table('public.gadgets', 'content', '{"project_id, name, score": {"purpose": "x", "subject": "everybody"}}', 5)$$, '23514', null,
  'a subject that is not known'
);
select is_empty($$select 1 from pg_policy where polrelid = 'public.gadgets'::regclass$$, 'a refusal leaves nothing behind');

-- ---- what it makes
select private.make_tenant_table(
  'public.gadgets', resource => 'content', max_rows => 3, writable => array['project_id', 'name'],
  catalogue => '{"project_id, score": "x", "name": {"subject": "person", "purpose": "y", "erasure": "retention"}}'
);
reset role;
create function tests.counted(who text) returns bigint language sql security definer as $$
  select max(c.row_count) from private.tenant_row_counts as c where c.table_name = 'public.gadgets' and c.organization = tests.org(who)
$$;
create function tests.line(which text) returns text language sql security definer as $$
  select concat_ws(' ', d.subject, d.purpose, d.export, d.erasure) from private.data_catalogue as d where d.table_name = 'public.gadgets' and d.column_name = which
$$;
select is(tests.line('score'), 'organization x organization organization', 'a purpose alone is about the organization');
select is(tests.line('name'), 'person y person retention', 'an object says the rest');
select is(tests.line('created_by'), 'person who made the row organization person', 'standard columns describe themselves');
select is(tests.line('project_id'), tests.line('score'), 'one line describes several columns');

select tests.act_as_anon();
select throws_ok('select * from public.gadgets', '42501', null, 'anon reads nothing');
select throws_ok($$insert into public.gadgets (name) values ('x')$$, '42501', null, 'anon writes nothing');
select tests.act_as('bob');
select throws_ok($$insert into public.gadgets (org_id, name) values (tests.org('ada'), 'x')$$, '42501', null, 'a non-member writes nothing');
select tests.act_as('mem', tests.org('ada'));
insert into public.gadgets (name) values ('one');
select results_eq(
  'select org_id, created_by, created_by_key, score from public.gadgets', $$values (tests.org('ada'), tests.id('mem'), null::uuid, 0)$$, 'a member writes in their own name'
);
select throws_ok($$insert into public.gadgets (name, score) values ('x', 9)$$, '42501', null, 'and only what users may write');
select throws_ok($$insert into public.gadgets (name, created_by) values ('x', tests.id('ada'))$$, '42501', null, 'not in another''s name');
select throws_ok($$insert into public.gadgets (name, created_by_key) values ('x', gen_random_uuid())$$, '42501', null, 'not in a key''s name');
select tests.act_as('bob');
select is_empty('select 1 from public.gadgets', 'a non-member sees nothing');
select is(tests.changed($$update public.gadgets set name = 'x'$$), 0::bigint, 'a non-member changes nothing');
select is(tests.changed('delete from public.gadgets'), 0::bigint, 'a non-member deletes nothing');
select tests.act_as('vic', tests.org('ada'));
select results_eq('select name from public.gadgets', array['one'], 'a viewer reads');
select throws_ok($$insert into public.gadgets (name) values ('x')$$, '42501', null, 'and does not write');
select tests.act_as_service();
select tests.refuses($$update public.gadgets set org_id = tests.org('bob')$$, 'permission_denied', 'a row does not move');
select tests.refuses($$update public.gadgets set created_by_key = gen_random_uuid()$$, 'permission_denied', 'nor get another maker');
select tests.act_as_superuser();
select tests.travel('1 hour');
select tests.act_as('mem', tests.org('ada'));
update public.gadgets set name = 'first' where name = 'one';
select ok((select updated_at >= created_at + interval '1 hour' from public.gadgets where name = 'first'), 'updated_at follows product time');

-- ---- max_rows
insert into public.gadgets (name) values ('two'), ('three');
select is(tests.counted('ada'), 3::bigint, 'rows are counted');
select tests.refuses($$insert into public.gadgets (name) values ('four')$$, 'quota_exceeded', 'a row above the limit is refused');
select is(tests.answer($$insert into public.gadgets (name) values ('four')$$) ->> 'status', '429', 'as 429');
select is(tests.changed($$insert into public.gadgets (name) values ('two') on conflict (org_id, name) do update set name = excluded.name$$), 1::bigint, 'an upsert of a row that is there is not');
select is(tests.counted('ada'), 3::bigint, 'and counts nothing');
select tests.act_as('bob');
select tests.refuses($$insert into public.gadgets (name) select n::text from generate_series(1, 4) as n$$, 'quota_exceeded', 'several at once are refused together');
select is(tests.changed($$insert into public.gadgets (name) values ('one')$$), 1::bigint, 'another organization has its own limit');
select tests.act_as('mem', tests.org('ada'));
delete from public.gadgets where name in ('two', 'three');
select is(tests.counted('ada'), 1::bigint, 'deleting makes room');
select tests.act_as_superuser();
delete from public.organizations where id = tests.org('bob');
select is((select count(*) from private.tenant_row_counts where table_name = 'public.gadgets'), 1::bigint, 'a deleted organization leaves no count');
truncate public.gadgets;
select is((select count(*) from private.tenant_row_counts where table_name = 'public.gadgets'), 0::bigint, 'nor does an emptied table');
create table public.notes (
  like public.gadgets including defaults, primary key (id), foreign key (org_id) references public.organizations (id) on delete cascade
);
alter table public.notes drop column project_id;
insert into public.notes (org_id, name) values (tests.org('ada'), 'one'), (tests.org('ada'), 'two');
create table public.former (
  like public.notes including defaults, primary key (id), foreign key (org_id) references public.organizations (id) on delete cascade
);
insert into private.tenant_row_counts values ('public.former', tests.org('ada'), 3);
select private.make_tenant_table('public.' || t, 'content', '{"name, score": "x"}', 3) from unnest(array['notes', 'former']) as t;
select is((select row_count from private.tenant_row_counts where table_name = 'public.notes'), 2::bigint, 'rows that were there before are counted');
select is((select count(*) from private.tenant_row_counts where table_name = 'public.former'), 0::bigint, 'rows of a dropped table of the same name are not');

-- ---- why clients send org_id=eq.… with a list: only then does the index give the order
insert into public.gadgets (org_id, name, created_at)
select tests.org('ada'), 'gadget ' || n, now() - n * interval '1 second' from generate_series(1, 3) as n;
alter table public.gadgets disable trigger gadgets_rows_insert;
insert into public.gadgets (org_id, name, created_at)
select tests.org('ada'), 'gadget ' || n, now() - n * interval '1 second' from generate_series(4, 20000) as n;
analyze public.gadgets;
select tests.act_as('mem', tests.org('ada'));
select matches(tests.explain('select * from public.gadgets order by created_at desc, id desc limit 20'), '\mSort\M', 'a list without org_id is sorted');
select tests.explain(format('select * from public.gadgets where org_id = %L order by created_at desc, id desc limit 20', tests.org('ada'))) as listed \gset
select matches(:'listed'::text, 'Index Scan using gadgets_list_idx', 'a list with org_id reads the index');
select doesnt_match(:'listed'::text, '\mSort\M', 'in its order');

select * from finish();
rollback;
