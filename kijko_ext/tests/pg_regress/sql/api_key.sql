-- API keys: making, storing, identifying and refusing them.
\pset null '<null>'
\set VERBOSITY terse
\set SHOW_CONTEXT never
\set key   'aaaaaaaa-0000-4000-8000-000000000001'
\set mine  'aaaaaaaa-0000-4000-8000-000000000002'
\set page  'aaaaaaaa-0000-4000-8000-000000000003'
\set reads 'aaaaaaaa-0000-4000-8000-000000000004'
\set org   '11111111-1111-4111-8111-111111111111'
\set owner '22222222-2222-4222-8222-222222222222'

-- What a request looks like to the database: PostgREST sets these for a transaction.
create function request(headers jsonb, claims jsonb default '{"role": "anon"}', method text default 'POST') returns void language sql as $$
    select set_config('request.headers', headers::text, true), set_config('request.jwt.claims', claims::text, true),
        set_config('request.method', method, true), set_config('request.path', '/things', true), set_config('response.headers', '', true)
$$;
-- A refusal as the client gets it, or the caller.
create function answer(headers jsonb, claims jsonb default '{"role": "anon"}') returns text language plpgsql as $$
declare
    message text;
    detail text;
    found boolean;
begin
    perform request(headers, claims);
    begin
        found := kijko.authenticate_api_key();
        raise exception using errcode = 'YES00', message = concat_ws(' ', found, (kijko.actor()).kind); -- undoes it
    exception when others then
        get stacked diagnostics message = message_text, detail = pg_exception_detail;
        if sqlstate = 'YES00' then return message; end if;
        if sqlstate <> 'PGRST' then return sqlstate || ' ' || message; end if;
        return concat_ws(' ', detail::jsonb ->> 'status', message::jsonb ->> 'code', message::jsonb ->> 'details',
            detail::jsonb -> 'headers' ->> 'Retry-After');
    end;
end
$$;
create table secrets (name text primary key, secret text);
create function made(name text, id uuid, overlap interval default '0') returns text language plpgsql as $$
begin
    perform kijko.generate_api_key(id), kijko.store_api_key_secret(id, overlap);
    insert into secrets values (made.name, kijko.issued_api_key(id)) on conflict on constraint secrets_pkey do update set secret = excluded.secret;
    return 'made';
end
$$;
create function header(name text, others jsonb default '{}') returns jsonb language sql as $$
    select jsonb_build_object('x-api-key', s.secret) || others from secrets as s where s.name = header.name
$$;

select kijko.put_api_key(:'key', :'org', 'service', null, '{*:read,content:write}', 60, 1000000, null, null, null, null, null);
select kijko.put_api_key(:'mine', :'org', 'personal', :'owner', '{*:read,*:write}', null, null, null, null, null, null, null);
select kijko.put_api_key(:'page', :'org', 'publishable', null, '{events:ingest}', 60, 1000000, 5, null, null, null, '{https://example.com}');
select kijko.put_api_key(:'reads', :'org', 'service', null, '{*:read}', 60, 1000000, null, null, null, null, null);
select kind, user_id, permissions, rate_limit, monthly_quota, daily_quota, origins from kijko.api_keys order by id;
select l.period, l.amount, l.subject = kijko.subject('api_key', :'page') as publishable from kijko.limits as l
where l.subject in (select kijko.subject('api_key', k.id) from kijko.api_keys as k) order by l.amount nulls last, 3 desc;

-- The secret has the documented form, is known to its transaction alone, and only its hash is stored.
begin;
select kijko.generate_api_key(:'key') ~ '^kjk_live_[0-9A-Za-z]{6}$' as prefix;
select kijko.issued_api_key(:'key') ~ '^kjk_live_[0-9A-Za-z]{38}$' as form, kijko.issued_api_key(:'mine') as other;
select kijko.store_api_key_secret(:'key');
select s.hash = sha256(convert_to(kijko.issued_api_key(:'key'), 'UTF8')) as hashed, s.valid_until from kijko.api_key_secrets as s;
-- A later one takes its place; a savepoint that is rolled back gives the former one back.
select kijko.issued_api_key(:'key') as first \gset
savepoint s;
select kijko.generate_api_key(:'key') is not null as again;
select kijko.issued_api_key(:'key') <> :'first' as replaced;
rollback to s;
select kijko.issued_api_key(:'key') = :'first' as former;
savepoint s;
select kijko.generate_api_key(:'mine') is not null as other;
release s;
select kijko.issued_api_key(:'mine') is not null as kept;
rollback;
select kijko.issued_api_key(:'key'), kijko.issued_api_key(:'mine');
select count(*) from kijko.api_key_secrets;
begin;
select kijko.generate_api_key(:'key') is not null as generated;
commit;
select kijko.issued_api_key(:'key');
select kijko.store_api_key_secret(:'key');
begin;
select kijko.generate_api_key(:'owner') is not null as generated;
select kijko.store_api_key_secret(:'owner');
rollback;

select made('key', :'key'), made('mine', :'mine'), made('page', :'page'), made('reads', :'reads');

-- Without the header, or with an empty one, there is no key.
select answer('{}'), answer('{"x-api-key": ""}'), answer('{"x-api-key": null}');
-- Who calls.
select answer(header('key')), answer(header('mine')), answer(header('page', '{"origin": "https://example.com"}'));
begin;
select request(header('key'));
select kijko.authenticate_api_key();
select * from kijko.actor();
select kijko.user_id(), kijko.api_key_id() = :'key' as key, kijko.session_id(), kijko.api_key_permissions();
select kijko.claims();
-- Once more says the same. The secret is gone from the request.
select kijko.authenticate_api_key();
select kijko.request_header('x-api-key'), current_setting('request.headers');
show transaction_read_only;
commit;
select kijko.api_key_id(), kijko.api_key_permissions();
begin;
select request(header('mine'));
select kijko.authenticate_api_key();
select * from kijko.actor();
select kijko.user_id() = :'owner' as owner, kijko.session_id();
rollback;
select kijko.api_key_id(), (kijko.actor()).kind;
-- A rollback to a savepoint undoes it, its release does not, and an error ends it.
begin;
select request(header('key'));
savepoint s;
select kijko.authenticate_api_key();
rollback to s;
select kijko.api_key_id();
savepoint s;
select kijko.authenticate_api_key();
release s;
select kijko.api_key_id() = :'key' as key;
select 1 / 0;
rollback;
select kijko.api_key_id();

-- Refused: typos, unknown, and what is no key at all.
select answer(jsonb_build_object('x-api-key', overlay(secret placing translate(substr(secret, 12, 1), '0123456789', '1234567890') || case when substr(secret, 12, 1) ~ '[0-9]' then '' else '_' end from 12 for 1)))
    ~ '^401 not_identified' as typo from secrets where name = 'key';
select answer('{"x-api-key": "kjk_live_0123456789ABCDEFGHIJKLMNOPQRSTUV0ScoqP"}');
select answer('{"x-api-key": "kjk_live_0123456789ABCDEFGHIJKLMNOPQRSTUV0ScoqQ"}');
select answer('{"x-api-key": "sk_live_1"}'), answer('{"x-api-key": 7}');
-- Two identities.
select answer(header('key'), '{"role": "authenticated", "sub": "22222222-2222-4222-8222-222222222222"}');
select answer(header('key'), '{"role": "service_role"}'), answer(header('key'), '{"role": null}');
select answer(jsonb_build_object('x-api-key', a.secret || ',' || b.secret)) from secrets as a, secrets as b where a.name = 'key' and b.name = 'mine';
-- The anon key's token is none; one that is not an access token is refused.
select answer(header('key'), '{"role": "anon", "exp": 4102444800, "iss": "x"}'), answer(header('key'), '{"role": "anon", "iss": "x"}');
-- A publishable key counts on its pages.
select answer(header('page')), answer(header('page', '{"origin": "https://example.org"}'));
-- Revoked, expired, suspended: from the next request on, and back.
create function changed(expires_at timestamptz default null, revoked_at timestamptz default null, suspended_until timestamptz default null) returns text language sql as $$
    select kijko.put_api_key('aaaaaaaa-0000-4000-8000-000000000001', '11111111-1111-4111-8111-111111111111', 'service', null, '{*:read,content:write}', 60, 1000000, null,
        expires_at, revoked_at, suspended_until, null);
    select answer(header('key'))
$$;
select changed(expires_at => kijko.now()), changed(expires_at => kijko.now() + '1 hour'), changed(revoked_at => now()),
    changed(suspended_until => 'infinity'), changed(suspended_until => kijko.now() - interval '1 second'), changed();
-- Product time counts.
select changed(expires_at => now() + '1 day');
set kijko.clock_offset = '1 day';
select answer(header('key'));
reset kijko.clock_offset;
select changed();

-- Rotation: the former secret counts until the overlap ends.
insert into secrets select 'former', secret from secrets where name = 'key';
select made('key', :'key', '1 hour'), answer(header('key')), answer(header('former'));
set kijko.clock_offset = '1 hour';
select answer(header('key')), answer(header('former'));
reset kijko.clock_offset;
select made('key', :'key'), answer(header('key')), answer(header('former'));
select made('key', :'key'), answer(header('key')), answer(header('former'));
select made('key', :'key', '-1 second');
select made('key', :'key', null);
-- At most ten former ones at once.
do $$ begin for i in 1..10 loop perform made('key', 'aaaaaaaa-0000-4000-8000-000000000001', '1 hour'); end loop; end $$;
select made('key', :'key', '1 hour');
select made('key', :'key');
select count(*), count(valid_until) from kijko.api_key_secrets where api_key_id = :'key' and coalesce(valid_until, 'infinity') > now();

-- A key that only reads.
create table things (n integer);
create function quiet_write() returns void language sql as 'insert into things values (1)';
create function reset_and_write() returns void language plpgsql as $$
begin
    execute 'reset transaction_read_only';
    insert into things values (1);
end
$$;
-- PostgreSQL 16 and later know no such function.
do $do$
begin
    create function set_and_write() returns void language plpgsql set transaction_read_only = off as $$ begin insert into things values (1); end $$;
exception when feature_not_supported then
    create function set_and_write() returns void language plpgsql as $$ begin insert into things values (1); end $$;
end
$do$;
create function reset_and_define() returns void language plpgsql as $$
begin
    perform set_config('transaction_read_only', null, true);
    execute 'create table mine ()';
end
$$;
create function refused(statement text) returns text language plpgsql as $$
begin
    execute statement;
    return 'done';
exception when others then
    return sqlstate || ' ' || coalesce(case when sqlstate = 'PGRST' then sqlerrm::jsonb ->> 'code' end, sqlerrm);
end
$$;
begin;
select request(header('reads'));
select kijko.authenticate_api_key();
show transaction_read_only;
select refused(statement), statement from unnest(array[
    'select * from things', 'insert into things values (1)', 'with w as (insert into things values (1) returning n) select * from w',
    'update things set n = 2', 'delete from things', 'select from things for update', 'truncate things', 'create table mine ()',
    'select quiet_write()', 'set transaction read write', 'set transaction_read_only = off',
    'set session authorization default', 'reset all', 'copy things from program ''echo 1''']) as statement;
-- Each version refuses these in another way.
select refused(statement) <> 'done' as refused, statement from unnest(array[
    'select reset_and_write()', 'select set_and_write()', 'select reset_and_define()']) as statement;
show transaction_read_only;
select kijko.try_consume(:'org', 'x');
rollback;
select count(*) from things;
-- One that may write is not concerned.
begin;
select request(header('key'));
select kijko.authenticate_api_key();
select refused('insert into things values (1)');
rollback;

-- Nobody sets the caller but the extension.
set kijko.calling_api_key = '["aaaaaaaa-0000-4000-8000-000000000001"]';
create role web login;
set role web;
set kijko.calling_api_key = '';
\set VERBOSITY sqlstate
show kijko.calling_api_key;
\set VERBOSITY terse
select kijko.assume_api_key(:'key');
select kijko.generate_api_key(:'key');
select kijko.issued_api_key(:'key');
select kijko.issued_api_key_hash(:'key');
select kijko.store_api_key_secret(:'key');
select kijko.delete_api_key(:'key');
select kijko.api_key_last_used_at(:'key');
select kijko.put_api_key(:'key', :'org', 'service', null, '{*:write}', null, null, null, null, null, null, null);
select from kijko.api_keys;
select from kijko.api_key_secrets;
select from kijko.api_key_uses;
reset role;
-- A login that is not trusted cannot become a key by setting a request's headers.
select secret from secrets where name = 'key' \gset
set session authorization web;
begin;
select set_config('request.headers', jsonb_build_object('x-api-key', :'secret')::text, true) is not null as set,
    set_config('request.method', 'GET', true) is not null as set, set_config('request.jwt.claims', '{"role": "anon"}', true) is not null as set;
select kijko.authenticate_api_key(), kijko.api_key_id(), (kijko.actor()).kind;
rollback;
reset session authorization;
-- Nor are those outside a request.
begin;
select set_config('request.headers', jsonb_build_object('x-api-key', :'secret')::text, true) is not null as set;
select kijko.authenticate_api_key();
rollback;

-- Parallel workers know the caller.
create table many as select n from generate_series(1, 50000) as n;
analyze many;
grant select on many to web;
begin;
select request(header('mine'));
select kijko.authenticate_api_key();
set local request.method = ''; -- whose checks refuse plans
set local role web;
set local parallel_setup_cost = 0;
set local parallel_tuple_cost = 0;
set local min_parallel_table_scan_size = 0;
select set_config(name, 'on', true) from pg_settings where name in ('force_parallel_mode', 'debug_parallel_query');
explain (costs off) select count(*) from many where kijko.user_id() = :'owner';
select count(*) filter (where kijko.user_id() = :'owner') as owners, count(*) filter (where kijko.api_key_id() = :'mine') as keys,
    count(*) filter (where (kijko.actor()).kind = 'personal_key') as kinds, count(*) filter (where kijko.api_key_permissions() = '{*:read,*:write}') as permitted
from many;
rollback;

-- A key without its secret, for explanations.
begin;
select kijko.assume_api_key(:'owner'), kijko.api_key_id();
select kijko.assume_api_key(:'mine'), kijko.api_key_id() = :'mine' as key, kijko.user_id() = :'owner' as owner;
savepoint s;
select kijko.assume_api_key(:'reads'), kijko.api_key_id() = :'reads' as key;
select refused('insert into things values (1)');
rollback to s;
select kijko.api_key_id() = :'mine' as key, refused('insert into things values (1)');
savepoint s;
select kijko.assume_api_key(null), kijko.api_key_id();
rollback to s;
select kijko.api_key_id() = :'mine' as key;
rollback;
select changed(revoked_at => now());
select kijko.assume_api_key(:'key');
select changed();

-- Attributes that make no sense.
select kijko.put_api_key(null, :'org', 'service', null, '{}', null, null, null, null, null, null, null);
select kijko.put_api_key(gen_random_uuid(), :'org', 'other', null, '{}', null, null, null, null, null, null, null);
select kijko.put_api_key(gen_random_uuid(), :'org', 'service', :'owner', '{}', null, null, null, null, null, null, null);
select kijko.put_api_key(gen_random_uuid(), :'org', 'personal', null, '{}', null, null, null, null, null, null, null);
select kijko.put_api_key(gen_random_uuid(), :'org', 'service', null, '{read}', null, null, null, null, null, null, null);
select kijko.put_api_key(gen_random_uuid(), :'org', 'service', null, '{NULL}', null, null, null, null, null, null, null);
select kijko.put_api_key(gen_random_uuid(), :'org', 'service', null, '{}', 0, null, null, null, null, null, null);
select kijko.put_api_key(gen_random_uuid(), :'org', 'service', null, '{}', null, -1, null, null, null, null, null);
select kijko.put_api_key(gen_random_uuid(), :'org', 'service', null, '{}', null, null, 1, null, null, null, null);
select kijko.put_api_key(gen_random_uuid(), :'org', 'publishable', null, '{content:write}', null, null, 1, null, null, null, '{https://example.com}');
select kijko.put_api_key(gen_random_uuid(), :'org', 'publishable', null, '{}', null, null, 1, null, null, null, null);
select kijko.put_api_key(gen_random_uuid(), :'org', 'publishable', null, '{}', null, null, 1, null, null, null, '{}');
select kijko.put_api_key(gen_random_uuid(), :'org', 'publishable', null, '{}', null, null, null, null, null, null, '{https://example.com}');
select kijko.put_api_key(gen_random_uuid(), :'org', 'publishable', null, '{}', null, null, 1, null, null, null, '{https://example.com/}');
select kijko.put_api_key(gen_random_uuid(), :'org', 'publishable', null, '{}', null, null, 1, null, null, null, '{null}');
select kijko.put_api_key(:'key', :'owner', 'service', null, '{}', null, null, null, null, null, null, null);
select kijko.put_api_key(:'key', :'org', 'personal', :'owner', '{}', null, null, null, null, null, null, null);

-- A deleted key is unknown, and nothing of it stays.
select kijko.delete_api_key(:'key'), kijko.delete_api_key(:'key');
select answer(header('key'));
select count(*) from kijko.api_key_secrets where api_key_id = :'key';
select count(*) from kijko.limits where subject = kijko.subject('api_key', :'key');

select kijko.delete_api_key(id) from unnest(array[:'mine', :'page', :'reads']::uuid[]) as id;
drop table things, many, secrets;
drop function request, answer, made, header, changed, quiet_write, reset_and_write, set_and_write, reset_and_define, refused;
drop role web;
