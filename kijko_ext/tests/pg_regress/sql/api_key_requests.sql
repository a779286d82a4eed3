-- Requests by API keys: their own rate and quota, whose other limits apply, and what refused ones cost.
-- Workers count the requests of the databases in kijko.databases.
\c postgres
\pset null '<null>'
\set VERBOSITY terse
\set SHOW_CONTEXT never
create extension kijko;
\set key   'aaaaaaaa-0000-4000-8000-000000000001'
\set mine  'aaaaaaaa-0000-4000-8000-000000000002'
\set page  'aaaaaaaa-0000-4000-8000-000000000003'
\set org   '11111111-1111-4111-8111-111111111111'
\set other '11111111-1111-4111-8111-111111111112'
\set owner '22222222-2222-4222-8222-222222222222'
create table secrets (name text primary key, secret text);
create function made(name text, id uuid) returns text language plpgsql as $$
begin
    perform kijko.generate_api_key(id), kijko.store_api_key_secret(id);
    insert into secrets values (made.name, kijko.issued_api_key(id));
    return 'made';
end
$$;
-- What the client gets: the status and code of a refusal, and the limits' names with what is left.
create function answer(name text, others jsonb default '{}') returns text language plpgsql as $$
declare
    body text; envelope text; headers jsonb;
begin
    perform set_config('request.headers', (jsonb_build_object('x-api-key', (select s.secret from secrets as s where s.name = answer.name)) || others)::text, true),
        set_config('request.jwt.claims', '{"role": "anon"}', true), set_config('request.method', 'GET', true), set_config('response.headers', '', true);
    begin
        perform kijko.authenticate_api_key() and kijko.admit_cached_member();
        raise exception using errcode = 'YES00', message = kijko.response_headers()::text; -- undoes who calls
    exception
        when sqlstate 'YES00' then
            select jsonb_object_agg(k.key, k.value) into headers from jsonb_array_elements(sqlerrm::jsonb) as h, jsonb_each(h) as k;
        when sqlstate 'PGRST' then
            get stacked diagnostics body = message_text, envelope = pg_exception_detail;
            headers := envelope::jsonb -> 'headers';
    end;
    return concat_ws(' ', envelope::jsonb ->> 'status', body::jsonb ->> 'code', headers ->> 'X-RateLimit-Resource', (headers ->> 'Retry-After')::integer > 0,
        regexp_replace(headers ->> 'RateLimit', ';t=\d+', '', 'g'));
end
$$;
select kijko.put_api_key(:'key', :'org', 'service', null, '{*:read}', 3, 1000, null, null, null, null, null);
select kijko.put_api_key(:'mine', :'org', 'personal', :'owner', '{*:read}', 100, null, null, null, null, null, null);
select kijko.put_api_key(:'page', :'org', 'publishable', null, '{events:ingest}', null, null, 1000, null, null, null, '{https://example.com}');
select made('key', :'key'), made('mine', :'mine'), made('page', :'page');

-- The key's own rate, and the organization's.
select kijko.set_rate_limit_policy('requests', 'organization', 10, '1 hour'), kijko.set_rate_limit_policy('user_requests', 'user', 2, '1 hour'),
    kijko.set_rate_limit_policy('requests', 'address', 3, '1 hour', 'anonymous');
select kijko.set_limit(:'org', 'api_requests', 'month', 1000);
select regexp_replace(answer('key'), 'r=(9\d\d)', 'r=...', 'g') from generate_series(1, 4);
-- The user's for a personal key; the organization's has been used by both. A key without a quota has no quota's state.
select regexp_replace(answer('mine'), 'r=(9\d\d)', 'r=...', 'g') from generate_series(1, 3);
-- A changed rate counts from the next request on.
select kijko.put_api_key(:'key', :'org', 'service', null, '{*:read}', 4, 1000, null, null, null, null, null);
select regexp_replace(answer('key'), 'r=(9\d\d)', 'r=...', 'g');
select kijko.set_rate_limit_policy('requests', 'organization', 1000, '1 hour');
-- Another organization: refused after the limits.
select answer('key', jsonb_build_object('x-org-id', :'org')) ~ '^"api_key_requests"' as own, answer('key', '{"x-org-id": ""}') ~ '^"api_key_requests"' as none;
select answer('page', jsonb_build_object('x-org-id', :'other', 'origin', 'https://example.com')), answer('page', '{"x-org-id": "mine", "origin": "https://example.com"}');
-- All that was counted arrives in the ledger, for the organization and for the key.
create function counted(subject uuid) returns bigint language plpgsql as $$
begin
    for i in 1..500 loop
        exit when not exists (select from kijko.stats() where metric = 'request_counter.used' and value > 0);
        perform pg_sleep(0.02);
    end loop;
    return (select sum(used) from kijko.usage(subject));
end
$$;
select counted(:'org') as organization, counted(kijko.subject('api_key', :'key')) as key, counted(kijko.subject('api_key', :'mine')) as mine,
    counted(kijko.subject('api_key', :'page')) as page;
-- The key's own quota; of a publishable key by the day.
select kijko.put_api_key(:'key', :'org', 'service', null, '{*:read}', null, 6, null, null, null, null, null);
select kijko.put_api_key(:'page', :'org', 'publishable', null, '{events:ingest}', null, null, 2, null, null, null, '{https://example.com}');
select regexp_replace(answer('key'), 'r=(9\d\d)', 'r=...', 'g');
select regexp_replace(answer('page', '{"origin": "https://example.com"}'), 'r=(9\d\d)', 'r=...', 'g') from generate_series(1, 2);
select kijko.put_api_key(:'key', :'org', 'service', null, '{*:read}', null, null, null, null, null, null, null);
select regexp_replace(answer('key'), 'r=(9\d\d)', 'r=...', 'g');
-- The organization's quota stops a key, too.
select kijko.set_limit(:'org', 'api_requests', 'month', 1);
select answer('key');
select kijko.set_limit(:'org', 'api_requests', 'month', null);
-- admit_request() uses what is stored about the key that it is given.
select kijko.put_api_key(:'key', :'org', 'service', null, '{*:read}', 1, null, null, null, null, null, null);
set request.method = 'POST';
select kijko.admit_request(:'org', null, :'key');
select kijko.admit_request(:'org', null, :'key');
select kijko.admit_request(:'org', null, :'other'), kijko.admit_request(:'org', null, :'other');
reset request.method;

-- Refused keys count against the client's network. A good key of that network is not concerned.
insert into secrets values ('typo', 'kjk_live_0123456789ABCDEFGHIJKLMNOPQRSTUV0ScoqQ'), ('unknown', 'kjk_live_0123456789ABCDEFGHIJKLMNOPQRSTUV0ScoqP');
select answer('typo', '{"x-forwarded-for": "192.0.2.1"}'), answer('unknown', '{"x-forwarded-for": "192.0.2.1"}'), answer('page', '{"x-forwarded-for": "192.0.2.1"}');
select answer('typo', '{"x-forwarded-for": "192.0.2.1"}'), answer('unknown', '{"x-forwarded-for": "192.0.2.1"}'), answer('typo', '{"x-forwarded-for": "192.0.2.2"}');
select answer('key', '{"x-forwarded-for": "192.0.2.1"}') ~ 'api_key_requests' as good;

-- Until when a secret identifies its key: the end of the key, or of a rotation's overlap if that is earlier.
select kijko.api_key_valid_until(s.secret), kijko.api_key_valid_until(s.secret || 'x') as unknown from secrets as s where s.name = 'key';
begin;
select secret as former from secrets where name = 'key' \gset
select kijko.generate_api_key(:'key') is not null as generated;
select kijko.store_api_key_secret(:'key', '1 hour');
select kijko.api_key_valid_until(:'former') = now() + interval '1 hour' as overlap, kijko.api_key_valid_until(kijko.issued_api_key(:'key')) as present;
update kijko.api_keys set expires_at = '2100-01-01Z' where id = :'key';
select kijko.api_key_valid_until(:'former') = now() + interval '1 hour' as overlap, kijko.api_key_valid_until(kijko.issued_api_key(:'key')) = '2100-01-01Z' as expiry;
rollback;

-- The last use is known at once, and written soon.
select kijko.api_key_last_used_at(:'mine') between now() - interval '1 hour' and now() as used, kijko.api_key_last_used_at(:'other') as never;
do $$
begin
    for i in 1..500 loop
        exit when (select count(*) = 3 from kijko.api_key_uses);
        perform pg_sleep(0.02);
    end loop;
end
$$;
select count(*) from kijko.api_key_uses where last_used_at between now() - interval '1 hour' and now();
-- Not again within a minute.
select answer('mine') is not null as used;
select pg_sleep(1.5);
select u.last_used_at < kijko.api_key_last_used_at(:'mine') as later from kijko.api_key_uses as u where u.api_key_id = :'mine';
select metric, value > 0 as positive from kijko.stats() where metric like 'api_key.%' order by metric;

drop function answer, made, counted;
drop table secrets;
drop extension kijko;
