begin;
\ir 000_helpers.sql
select plan(32);

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

-- ---- names: what a reader cannot see is no name
select is(private.is_name(v.value), true, 'a name: ' || v.what)
from (values ('Ada', 'letters'), (' x ', 'a letter between spaces'), ('日本', 'other scripts'), (U&'\+01F680', 'a picture'), (U&'a\200db', 'joined letters')) as v (value, what);
select is_empty(
  $$select to_hex(c) from unnest(array[
      1, 9, 10, 13, 27, 32, 127, 133, 159, 160, 173, 847, 1564, 4447, 5760, 6158, 8192, 8203, 8205, 8207, 8232, 8233, 8238, 8239, 8287, 8288, 8298,
      10240, 12288, 12644, 65024, 65279, 65440, 65529, 917505, 917631
    ]) as c where private.has_visible_text(repeat(chr(c), 3))$$,
  'blank, control and format characters alone are not visible'
);
select is_empty(
  $$select to_hex(c) from generate_series(1, 159) as c where (c < 32 or c > 126) and private.is_name('a' || chr(c) || 'b')$$,
  'a control character is refused inside a name, too'
);
select is_empty(
  $$select to_hex(c) from unnest(array[
      173, 1564, 6158, 8203, 8206, 8207, 8232, 8233, 8234, 8235, 8236, 8237, 8238, 8288, 8289, 8292, 8294, 8295, 8296, 8297, 8298, 8303, 65279,
      65529, 65530, 65531, 113824, 119155, 917505, 917536, 917631
    ]) as c where private.is_name('a' || chr(c) || 'b')$$,
  'a character that reorders the line or shows nothing is refused inside a name'
);
select is_empty(
  $$select to_hex(c) from unnest(array[847, 4447, 4448, 6068, 6069, 10240, 12644, 65440]) as c where private.is_name('a' || chr(c) || 'b')$$,
  'so is a letter that is drawn as a blank or as nothing'
);
select is_empty(
  $$select v.value from (values (U&'A\030angstro\0308m'), (U&'\212B'), (U&'\1100\1161'), (U&'a\0327\0301\0327')) as v (value)
    where private.is_name(v.value) or not private.is_name(normalize(v.value, nfc))$$,
  'a name is in normal form C, so that what looks the same is the same'
);
select is(private.is_name(null), null, 'null stays null: whether there must be a name is for the column to say');
select is_empty(
  $$select to_hex(c) from unnest(array[8204, 8205, 65038, 65039]) as c where not private.is_name('a' || chr(c) || 'b')$$,
  'joiners and variants of pictures are not'
);
select is(private.is_name(''), false, 'nothing is not a name');
-- Each table asks it of each name that clients give.
select is(
  (
    select string_agg(c.conrelid::regclass::text || '.' || a.attname, ' ' order by c.conrelid::regclass::text)
    from pg_constraint as c
    join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = any (c.conkey)
    where pg_get_constraintdef(c.oid) ~ 'private\.is_name\('
  ),
  'api_keys.name billing_details.name custom_roles.name discoveries.name feature_flags.name features.name flag_segments.name habits.name llm_budgets.name notifications.title organizations.name plans.name profiles.display_name projects.name reflexes.name skills.name',
  'every name of a table is checked'
);

-- ---- JSON is measured before its text is made
select is(private.json_fits(j.value::jsonb, 100), j.fits, left(j.value, 60))
from (values
  ('{}', true), ('null', true), ('"x"', true), ('[1, 2.5, 1e20]', true), (jsonb_build_object('a', repeat('x', 91))::text, true),
  (jsonb_build_object('a', repeat('x', 95))::text, false), (to_jsonb(repeat(E'\u0001', 20))::text, false), ('1e99', true), ('1e100', false),
  ('1e131071', false), ('{"a": [{"b": -1e401}]}', false), ('0e-16383', false), ('1e-401', false)
) as j (value, fits);
select is(private.json_fits(null, 100), null, 'null fits, for a check');
-- Ten thousand numbers of 400 digits, and a value that is stored compressed.
select is(private.json_fits((select jsonb_agg(1e399) from generate_series(1, 10000)), 1048576), false, 'numbers are added up');
create temporary table packed as select jsonb_build_object('a', repeat('x', 300000)) as value;
select is((select private.json_fits(p.value, 262144) from pg_temp.packed as p), false, 'a compressed value has the size of its text');

select * from finish();
rollback;
