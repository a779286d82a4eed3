-- One session of the subscriber. It caches what it reads, then the publisher changes the row, and the session must see it.
\set org '00000000-0000-4000-8000-00000000000a'
\set who '00000000-0000-4000-8000-00000000000c'
\set key '00000000-0000-4000-8000-00000000000d'

-- Waits until a query is true. Each try is a transaction of its own, as requests are.
create procedure wait_for(query text) language plpgsql as $$
declare
    answer boolean;
begin
    for try in 1 .. 100 loop
        execute query into answer;
        if answer then
            return;
        end if;
        commit;
        perform pg_sleep(0.05);
    end loop;
    raise exception 'not seen: %', query;
end
$$;
-- Waits until the row is there, by a query that no cache answers, and looks at the cached answer once.
create procedure expect(arrived text, cached text) language plpgsql as $$
declare
    answer boolean;
begin
    call wait_for(arrived);
    commit;
    execute cached into answer;
    if answer is not true then
        raise exception 'the cache is stale: %', cached;
    end if;
end
$$;
create function admitted() returns text language plpgsql as $$
begin
    perform kijko.admit_request('00000000-0000-4000-8000-00000000000a');
    return coalesce(nullif(current_setting('statement_timeout'), '0'), 'none') || ' ' ||
        coalesce(substring(translate(kijko.response_headers()::text, '"\', '') from 'RateLimit-Policy: ([^;]*;q=\d+)'), 'no policy');
end
$$;
create function authenticated(secret text) returns boolean language plpgsql as $$
begin
    perform set_config('request.headers', json_build_object('x-api-key', secret)::text, true), set_config('request.jwt.claims', '{"role": "anon"}', true);
    return kijko.authenticate_api_key();
exception when others then
    return false;
end
$$;
create temp table secret (text text);

-- A copied row, and the first rows of each table.
\setenv source :source
\! $source -c "select kijko.set_limit('00000000-0000-4000-8000-00000000000a', 'x', 'month', 10)" > /dev/null
call wait_for('select count(*) = 1 from kijko.limits');
select allowed, "limit" from kijko.try_consume(:'org', 'x');
\! $source -c "select kijko.set_limit('00000000-0000-4000-8000-00000000000a', 'x', 'month', 1)" > /dev/null
call expect('select amount = 1 from kijko.limits', $$select not allowed from kijko.try_consume('00000000-0000-4000-8000-00000000000a', 'x')$$);
\! $source -c "delete from kijko.limits" > /dev/null
call expect('select count(*) = 0 from kijko.limits', $$select allowed from kijko.try_consume('00000000-0000-4000-8000-00000000000a', 'x')$$);
\! $source -c "select kijko.set_calendar('00000000-0000-4000-8000-00000000000a', 'Asia/Tokyo')" > /dev/null
call expect('select count(*) = 1 from kijko.calendars', $$select extract(hour from reset_at at time zone 'UTC') = 15 from kijko.try_consume('00000000-0000-4000-8000-00000000000a', 'x')$$);

set request.method = 'GET';
set request.path = '/projects';
set request.headers = '{}';
begin;
select admitted();
commit;
\! $source -c "select kijko.set_rate_limit_policy('requests', 'organization', 100, '1 hour')" > /dev/null
call expect('select count(*) = 1 from kijko.rate_limit_policies', $$select admitted() = 'none requests;q=100'$$);
\! $source -c "select kijko.set_rate_limit_policy('requests', 'organization', 200, '1 hour', 'PRO')" -c "select kijko.set_statement_timeout('PRO', '9 s')" > /dev/null
call expect('select count(*) = 1 from kijko.statement_timeouts', $$select admitted() = 'none requests;q=100'$$);
\! $source -c "select kijko.set_tier('00000000-0000-4000-8000-00000000000a', 'PRO')" > /dev/null
call expect('select count(*) = 1 from kijko.tiers', $$select admitted() = '9s requests;q=200'$$);
\! $source -c "select kijko.set_statement_timeout('PRO', '7 s')" > /dev/null
call expect('select milliseconds = 7000 from kijko.statement_timeouts', $$select admitted() = '7s requests;q=200'$$);
\! $source -c "truncate kijko.rate_limit_policies, kijko.tiers" > /dev/null
call expect('select count(*) = 0 from kijko.tiers', $$select admitted() = 'none no policy'$$);

\! $source -At -c "select kijko.put_api_key('00000000-0000-4000-8000-00000000000d', '00000000-0000-4000-8000-00000000000a', 'service', null, '{content:read}', null, null, null, null, null, null, null)" -c "begin" -c "select kijko.generate_api_key('00000000-0000-4000-8000-00000000000d')" -c "select kijko.store_api_key_secret('00000000-0000-4000-8000-00000000000d')" -c "\o /tmp/kijko_replication_secret" -c "select kijko.issued_api_key('00000000-0000-4000-8000-00000000000d')" -c "\o" -c "commit" > /dev/null
\copy secret from /tmp/kijko_replication_secret
\! rm -f /tmp/kijko_replication_secret
call expect('select count(*) = 1 from kijko.api_key_secrets', 'select authenticated(text) from secret');
\! $source -c "update kijko.api_keys set revoked_at = now()" > /dev/null
call expect('select revoked_at is not null from kijko.api_keys', 'select not authenticated(text) from secret');
\! $source -c "update kijko.api_keys set revoked_at = null" > /dev/null
call expect('select revoked_at is null from kijko.api_keys', 'select authenticated(text) from secret');
\! $source -c "delete from kijko.api_key_secrets" > /dev/null
call expect('select count(*) = 0 from kijko.api_key_secrets', 'select not authenticated(text) from secret');

set request.headers = '{}';
set request.jwt.claims = '{"sub": "00000000-0000-4000-8000-00000000000c", "role": "authenticated", "aud": "authenticated", "iss": "here", "exp": 4102444800}';
select kijko.cache_membership(kijko.membership_epoch(), :'who', null, :'org');
select kijko.admit_cached_member();
\! $source -c "insert into memberships values ('00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000c')" > /dev/null
call expect('select count(*) = 1 from memberships', 'select not kijko.admit_cached_member()');
select kijko.cache_membership(kijko.membership_epoch(), :'who', null, :'org');
select kijko.admit_cached_member();
\! $source -c "delete from memberships" > /dev/null
call expect('select count(*) = 0 from memberships', 'select not kijko.admit_cached_member()');
