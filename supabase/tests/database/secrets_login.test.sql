begin;
\ir 000_helpers.sql
select plan(6);

select tests.sign_up('ada');

-- As login enrols an authenticator app.
insert into auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at, secret)
select f.id, tests.id('ada'), 'totp', 'unverified', now(), now(), auth_api.seal_seed(f.seed, f.id)
from (values (gen_random_uuid(), 'FIRSTSEED'), (gen_random_uuid(), 'SECONDSEED')) as f (id, seed);
-- As GoTrue does on Supabase, where the column is its own.
insert into auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at, secret)
values (gen_random_uuid(), tests.id('ada'), 'totp', 'unverified', now(), now(), 'PLAINSEED');

set local role postgres;
select is(
  (select c.row_count from private.count_sealed_rows() as c where c.table_name = 'auth.mfa_factors'), 2::bigint,
  'seeds that login has sealed are counted, and others are not'
);
select is_empty($$select 1 from private.count_unsealable_rows() where table_name = 'auth.mfa_factors'$$, 'they open in the context that is registered for them');
select is(private.reseal_rows(), 0::bigint, 'none is under a former key');
update auth.mfa_factors set secret = (select max(f.secret) from auth.mfa_factors as f where kijko.seal_key_id(f.secret) is not null)
where kijko.seal_key_id(secret) is not null;
select is(
  (select c.row_count from private.count_unsealable_rows() as c where c.table_name = 'auth.mfa_factors'), 1::bigint, 'a seed that is copied to another factor does not open'
);
reset role;

select tests.act_as('ada');
select throws_ok($$select secret from auth.mfa_factors$$, '42501', null, 'a user reads no seed, sealed or not');
select throws_ok($$select auth_api.seal_seed('x', gen_random_uuid())$$, '42501', null, 'a user seals none');

select * from finish();
rollback;
