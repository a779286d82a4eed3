\set SHOW_CONTEXT never
\pset null '<null>'
-- A signed token is verified; no claims are added.
select kijko.verify_jwt(kijko.sign_jwt('{"sub": "x", "aud": "authenticated", "exp": 4102444800, "deep": {"a": [1, 2.5, null]}}'));
create function part(token text, n integer) returns jsonb language sql as $$
    select convert_from(decode(rpad(translate(split_part(token, '.', n), '-_', '+/'), (length(split_part(token, '.', n)) + 3) / 4 * 4, '='), 'base64'), 'UTF8')::jsonb
$$;
select part(token, 1) - 'kid' as header, part(token, 1) -> 'kid' = kijko.jwks() #> '{keys,0,kid}' as kid, part(token, 2) as claims
from kijko.sign_jwt('{"exp": 4102444800}') as token;
-- The key set holds public parts only.
select jsonb_array_length(j -> 'keys') as keys, array(select jsonb_object_keys(j #> '{keys,0}') order by 1) as fields from kijko.jwks() as j;
-- Null for a token that is expired, not yet valid, without exp, changed, unsigned, or signed by another key.
create function valid(claims jsonb) returns boolean language sql as $$ select kijko.verify_jwt(kijko.sign_jwt(claims)) is not null $$;
select valid(jsonb_build_object('exp', extract(epoch from clock_timestamp())::bigint + 5)) as valid,
    valid(jsonb_build_object('exp', floor(extract(epoch from clock_timestamp()))::bigint - 1)) as expired,
    valid('{"sub": "x"}') as without_end,
    valid('{"exp": "4102444800"}') as text_end,
    valid('{"exp": null}') as null_end,
    valid(jsonb_build_object('exp', 4102444800, 'nbf', extract(epoch from clock_timestamp())::bigint + 60)) as not_yet;
select kijko.verify_jwt(t) from (
    select unnest(array[null, '', 'x', 'a.b.c', split_part(good, '.', 1) || '.' || split_part(good, '.', 2) || '.',
        split_part(good, '.', 1) || '.' || split_part(other, '.', 2) || '.' || split_part(good, '.', 3),
        'eyJhbGciOiJub25lIn0.' || split_part(good, '.', 2) || '.', upper(good), good || 'x'])
    from kijko.sign_jwt('{"exp": 4102444800}') as good, kijko.sign_jwt('{"exp": 4102444801}') as other
) as tokens(t);
-- Expiry follows the real clock.
set kijko.clock_offset = '-2 days';
select valid(jsonb_build_object('exp', extract(epoch from clock_timestamp())::bigint - 5)) as expired;
reset kijko.clock_offset;
select kijko.sign_jwt(null);
select kijko.sign_jwt('null');
select kijko.sign_jwt('[]');
-- By another key of the file, which does not sign otherwise. Every key of the set verifies.
select bool_and(kijko.verify_jwt(kijko.sign_jwt_with_key('{"exp": 4102444800}', key ->> 'kid')) is not null) as valid, count(*) as keys
from jsonb_array_elements(kijko.jwks() -> 'keys') as key;
select kijko.sign_jwt('{"exp": 4102444800}') = kijko.sign_jwt_with_key('{"exp": 4102444800}', kijko.jwks() #>> '{keys,0,kid}') as first;
select part(kijko.sign_jwt_with_key('{}', kijko.jwks() #>> '{keys,2,kid}'), 1) ->> 'alg' as alg;
select kijko.sign_jwt_with_key('{}', 'unknown');
select kijko.sign_jwt_with_key('{}', null);
select kijko.sign_jwt_with_key(null, kijko.jwks() #>> '{keys,1,kid}');
-- PostgREST's keys, for one transaction.
begin;
select kijko.pre_config();
select current_setting('pgrst.jwt_secret')::jsonb = kijko.jwks() as handed_over;
commit;
select current_setting('pgrst.jwt_secret', true);
-- The key file: only superusers see its path, and only the configuration file sets it.
create role reader;
set role reader;
\set VERBOSITY sqlstate
show kijko.signing_key_file;
\set VERBOSITY default
reset role;
set kijko.signing_key_file = '/etc/passwd';
drop role reader;
drop function part, valid;
