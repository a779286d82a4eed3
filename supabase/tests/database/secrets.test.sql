begin;
\ir 000_helpers.sql
select plan(89);

select tests.sign_up('ada'), tests.sign_up('bob'), tests.sign_up('adm'), tests.sign_up('mem'), tests.sign_up('vic');
update public.subscriptions set plan = 'TEAMS' where org_id = tests.org('ada');
select tests.join_org('adm', tests.org('ada'), 'admin'), tests.join_org('mem', tests.org('ada'), 'member'), tests.join_org('vic', tests.org('ada'), 'viewer');

-- What only functions of postgres may do.
create function tests.value(who text, name text) returns text language sql security definer as $$
  select private.secrets_value(tests.org(who), value.name)
$$;
create function tests.sealed(who text, name text) returns text language sql security definer as $$
  select v.sealed::text from private.secret_values as v where v.organization = tests.org(who) and v.name = sealed.name
$$;

-- ---- unauthenticated callers and non-members first
select tests.act_as_anon();
select throws_ok('select * from public.secrets', '42501', null, 'anon reads no secrets');
select throws_ok($$select public.set_secret('A', 'x')$$, '42501', null, 'anon sets none');
select throws_ok($$select public.delete_secret('A')$$, '42501', null, 'anon deletes none');

select tests.act_as('ada', tests.org('ada'));
select lives_ok($$select public.set_secret('API_TOKEN', 'the value')$$, 'an owner sets a secret');
select tests.act_as('bob', tests.org('ada'));
select is_empty('select 1 from public.secrets', 'a non-member sees no name');
select tests.refuses($$select public.set_secret('API_TOKEN', 'x')$$, 'not_a_member', 'a non-member sets none');
select tests.refuses($$select public.delete_secret('API_TOKEN')$$, 'not_a_member', 'a non-member deletes none');
select tests.act_as('bob');
select tests.refuses($$select public.delete_secret('API_TOKEN')$$, 'not_found', 'the name in another organization is not there');

-- ---- who may
select tests.act_as('vic', tests.org('ada'));
select is_empty('select 1 from public.secrets', 'a viewer sees no name');
select tests.refuses($$select public.set_secret('B', 'x')$$, 'permission_denied', 'a viewer sets none');
select tests.act_as('mem', tests.org('ada'));
select is_empty('select 1 from public.secrets', 'a member sees no name');
select tests.refuses($$select public.set_secret('B', 'x')$$, 'permission_denied', 'a member sets none');
select tests.refuses($$select public.delete_secret('API_TOKEN')$$, 'permission_denied', 'a member deletes none');
select tests.act_as('adm', tests.org('ada'));
select results_eq('select name, created_by from public.secrets', $$values ('API_TOKEN', tests.id('ada'))$$, 'an admin sees the name');
select lives_ok($$select public.set_secret('B', 'x')$$, 'an admin sets one');
select lives_ok($$select public.delete_secret('B')$$, 'an admin deletes one');

-- ---- nobody reads a value, and nobody writes around the functions
select tests.act_as('ada', tests.org('ada'));
select columns_are('public', 'secrets', array['id', 'org_id', 'name', 'created_by', 'created_by_key', 'created_at', 'updated_at'], 'the face has no value');
select throws_ok('select * from private.secret_values', '42501', null, 'an owner reads no values');
select throws_ok($$select private.secrets_value(tests.org('ada'), 'API_TOKEN')$$, '42501', null, 'an owner calls no reader');
select throws_ok($$select kijko.seal('x', 'x')$$, '42501', null, 'an owner does not seal');
select throws_ok($$select kijko.unseal('x', 'x')$$, '42501', null, 'an owner does not unseal');
select throws_ok($$select kijko.reseal('x', 'x')$$, '42501', null, 'an owner does not seal anew');
select throws_ok($$select kijko.can_unseal('x', 'x')$$, '42501', null, 'an owner does not try');
select throws_ok($$select kijko.seal_key_ids()$$, '42501', null, 'an owner does not see the keys'' ids');
select throws_ok($$insert into public.secrets (name) values ('C')$$, '42501', null, 'an owner inserts no row');
select throws_ok($$update public.secrets set name = 'C'$$, '42501', null, 'an owner renames none');
select throws_ok($$delete from public.secrets$$, '42501', null, 'an owner deletes no row');
select tests.act_as_service();
select results_eq('select name from public.secrets where org_id = tests.org(''ada'')', array['API_TOKEN'], 'service_role sees names');
select throws_ok('select * from private.secret_values', '42501', null, 'service_role reads no values');
select throws_ok($$select private.secrets_value(tests.org('ada'), 'API_TOKEN')$$, '42501', null, 'service_role calls no reader');
select throws_ok($$select kijko.unseal('x', 'x')$$, '42501', null, 'service_role does not unseal');
select throws_ok($$select public.set_secret('A', 'x')$$, '42501', null, 'service_role sets none');
select throws_ok($$insert into public.secrets (org_id, name) values (tests.org('ada'), 'C')$$, '42501', null, 'service_role inserts no row');
select tests.act_as_sidecar();
select throws_ok($$select private.secrets_value(gen_random_uuid(), 'API_TOKEN')$$, '42501', null, 'the sidecar calls no reader');
select throws_ok($$select kijko.unseal('x', 'x')$$, '42501', null, 'the sidecar does not unseal');

-- ---- values
select tests.act_as('ada', tests.org('ada'));
select is(tests.value('ada', 'API_TOKEN'), 'the value', 'a function of postgres reads the value');
select is(tests.value('ada', 'OTHER'), null, 'null without a secret');
select is(tests.value('bob', 'API_TOKEN'), null, 'null in another organization');
select matches(tests.sealed('ada', 'API_TOKEN'), '^kjs1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{123}$', 'what is stored is sealed');
select tests.sealed('ada', 'API_TOKEN') as before \gset
select tests.travel('1 hour');
select results_eq(
  $$select (s).name, (s).created_by, (s).updated_at > (s).created_at from (select public.set_secret('API_TOKEN', 'the value')) as r (s)$$,
  $$values ('API_TOKEN', tests.id('ada'), true)$$, 'setting it again keeps the row and moves updated_at'
);
select isnt(tests.sealed('ada', 'API_TOKEN'), :'before', 'the same value is sealed anew: nobody sees that it is the same');
select is((select count(*) from public.secrets), 1::bigint, 'there is one row');
select public.set_secret('API_TOKEN', e' línes\n\tand blanks \u20ac ');
select is(tests.value('ada', 'API_TOKEN'), e' línes\n\tand blanks \u20ac ', 'a value comes back as it was sent');
select public.set_secret('API_TOKEN', repeat('x', 16384));
select is(tests.value('ada', 'API_TOKEN'), repeat('x', 16384), 'the longest value');
select ok(char_length(tests.sealed('ada', 'API_TOKEN')) < 24000, 'fits into its column');
select tests.act_as('bob');
select public.set_secret('API_TOKEN', 'of bob');
select is(tests.value('bob', 'API_TOKEN') || tests.value('ada', 'API_TOKEN'), 'of bob' || repeat('x', 16384), 'each organization has its own');

-- ---- bad input changes nothing, and no refusal has the value in it
select tests.refuses(format('select public.set_secret(%L, %L)', name, value), 'invalid_input', format('%s, %s is refused', left(name, 10), left(value, 10)))
from (values ('', 'x'), (null, 'x'), ('1A', 'x'), ('_A', 'x'), ('A B', 'x'), ('A/B', 'x'), ('Ä', 'x'), (e'A\n', 'x'), (repeat('a', 101), 'x'),
  ('A', ''), ('A', null), ('A', repeat('x', 16385))) as bad (name, value);
select is((select count(*) from public.secrets), 1::bigint, 'nothing was stored');
select ok(tests.refusal(format($$select public.set_secret('A', %L)$$, repeat('topsecret', 2000)))::text !~ 'topsecret', 'the refusal does not repeat the value');
select lives_ok(format($$select public.set_secret(%L, 'x')$$, repeat('a', 100)), 'the longest name');

-- ---- a value belongs to its organization and name
select tests.act_as_superuser();
set local role postgres;
update private.secret_values as v set sealed = (select o.sealed from private.secret_values as o where o.organization = tests.org('bob') and o.name = 'API_TOKEN')
where v.organization = tests.org('ada') and v.name = 'API_TOKEN';
select tests.refuses($$select private.secrets_value(tests.org('ada'), 'API_TOKEN')$$, 'cannot_unseal', 'a value of another organization does not open');
update private.secret_values as v set sealed = (select o.sealed from private.secret_values as o where o.organization = tests.org('bob') and o.name = 'API_TOKEN')
where v.organization = tests.org('bob') and v.name = repeat('a', 100);
select tests.refuses($$select private.secrets_value(tests.org('bob'), repeat('a', 100))$$, 'cannot_unseal', 'a value of another name does not open');
select results_eq(
  $$select row_count from private.count_unsealable_rows() where table_name = 'private.secret_values'$$, array[2::bigint], 'both are counted'
);
select is(private.secrets_value(tests.org('bob'), 'API_TOKEN'), 'of bob', 'the others still open');
select throws_ok($$update public.secrets set name = 'RENAMED' where org_id = tests.org('bob') and name = 'API_TOKEN'$$, '23503', null, 'a secret cannot be renamed');
select throws_ok(
  $$update private.secret_values set sealed = 'plaintext' where organization = tests.org('bob')$$, '23514', null, 'a plaintext cannot be stored'
);
select throws_ok(
  $$insert into private.secret_values values (tests.org('bob'), 'NO_FACE', kijko.seal('x', 'x'))$$, '23503', null, 'a value needs its name'
);

-- ---- the registry of sealed columns
select results_eq(
  $$select table_name, column_name, key_id = (kijko.seal_key_ids())[1], row_count >= 3 from private.count_sealed_rows() where table_name = 'private.secret_values'$$,
  $$values ('private.secret_values', 'sealed', true, true)$$, 'values are counted by key'
);
select is(private.reseal_rows(), 0::bigint, 'nothing is under a former key');
create table public.sealed_words (word text, sealed kijko.sealed);
create function public.words_context(w public.sealed_words) returns text language sql immutable as $q$ select 'words/' || w.word $q$;
create function public.words_number(w public.sealed_words) returns integer language sql immutable as $q$ select 1 $q$;
select tests.refuses($$select private.seal_column('public.sealed_words', 'word', 'public.words_context(public.sealed_words)')$$, 'invalid_input', 'a column of another type is refused');
select tests.refuses($$select private.seal_column('public.sealed_words', 'missing', 'public.words_context(public.sealed_words)')$$, 'invalid_input', 'a column that is not there is refused');
select tests.refuses($$select private.seal_column('public.sealed_words', 'sealed', 'public.words_number(public.sealed_words)')$$, 'invalid_input', 'a context that is no text is refused');
select tests.refuses($$select private.seal_column('public.sealed_words', 'sealed', 'private.secrets_row_context(private.secret_values)')$$, 'invalid_input', 'the context of another table is refused');
select lives_ok($$select private.seal_column('public.sealed_words', 'sealed', 'public.words_context(public.sealed_words)')$$, 'one that fits is registered');
insert into public.sealed_words values ('a', kijko.seal('x', 'words/a')), ('b', kijko.seal('x', 'words/a')), ('c', null);
select results_eq(
  $$select u.row_count, c.row_count from private.count_unsealable_rows() as u join private.count_sealed_rows() as c using (table_name, column_name)
    where table_name = 'public.sealed_words'$$, 'values (1::bigint, 2::bigint)', 'its values are counted, too'
);

-- A table of another role: a column of type text, in which plaintexts of that role are passed over.
reset role;
create table auth.sealed_seeds (id integer, secret text);
alter table auth.sealed_seeds owner to supabase_auth_admin;
set local role postgres;
create function private.seeds_context(s auth.sealed_seeds) returns text language sql immutable as $q$ select 'seeds/' || s.id $q$;
select tests.refuses($$select private.seal_column('auth.sealed_seeds', 'secret', 'private.seeds_context(auth.sealed_seeds)')$$, 'invalid_input', 'a column that postgres may not update is refused');
reset role;
grant select, insert, update on auth.sealed_seeds to postgres;
set local role postgres;
select tests.refuses($$select private.seal_column('auth.sealed_seeds', 'id', 'private.seeds_context(auth.sealed_seeds)')$$, 'invalid_input', 'a column that is no text is refused');
select lives_ok($$select private.seal_column('auth.sealed_seeds', 'secret', 'private.seeds_context(auth.sealed_seeds)')$$, 'one that it may is registered');
insert into auth.sealed_seeds values (1, kijko.seal('x', 'seeds/1')), (2, 'of that role'), (3, null), (4, kijko.seal('x', 'seeds/1'));
select results_eq(
  $$select u.row_count, c.row_count from private.count_unsealable_rows() as u join private.count_sealed_rows() as c using (table_name, column_name)
    where table_name = 'auth.sealed_seeds'$$, 'values (1::bigint, 2::bigint)', 'what is not sealed is not counted'
);
reset role;

-- ---- limits and deletion
select tests.act_as('ada', tests.org('ada'));
select count(*) from generate_series(1, 199) as n, lateral public.set_secret('N' || n, 'x');
select tests.refuses($$select public.set_secret('ONE_MORE', 'x')$$, 'quota_exceeded', 'an organization has at most 200 secrets');
select lives_ok($$select public.set_secret('N1', 'y')$$, 'one that is there can still be replaced');
select lives_ok($$select public.delete_secret('N1')$$, 'a secret is deleted');
select is(tests.sealed('ada', 'N1'), null, 'its value goes with it');
select tests.refuses($$select public.delete_secret('N1')$$, 'not_found', 'a second time it is not there');
select tests.refuses($$select public.delete_secret(null)$$, 'not_found', 'null is the name of none');
select lives_ok($$select public.set_secret('ONE_MORE', 'x')$$, 'there is room again');
select lives_ok($$delete from public.organizations where id = tests.org('ada')$$, 'the organization is deleted');
select tests.act_as_superuser();
select is((select count(*) from private.secret_values where name = 'ONE_MORE'), 0::bigint, 'its values go with it');

select * from finish();
rollback;
