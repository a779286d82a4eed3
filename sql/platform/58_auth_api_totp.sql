-- The login API on a plain Postgres: codes of authenticator apps (RFC 6238: SHA-1, six digits, thirty seconds).
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create or replace function auth_api.base32(bytes bytea) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    -- Twenty bytes are 32 characters without a rest; each character is five bits.
    select string_agg(substr('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567', 1 + (
        select sum(get_bit(bytes, (5 * place + bit) / 8 * 8 + 7 - (5 * place + bit) % 8) << (4 - bit))::integer from generate_series(0, 4) as bit), 1), '' order by place)
    from generate_series(0, octet_length(bytes) * 8 / 5 - 1) as place
$$;
comment on function auth_api.base32(bytea) is 'Bytes in base 32, as authenticator apps read them; a multiple of five bytes.';

create or replace function auth_api.base32_decode(value text) returns bytea
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    -- Four characters are twenty bits, and so five hexadecimal digits.
    select decode(string_agg(lpad(to_hex((
        select sum((strpos('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567', substr(value, 4 * place + n, 1)) - 1) << (20 - 5 * n))::integer from generate_series(1, 4) as n)), 5, '0'), '' order by place), 'hex')
    from generate_series(0, length(value) / 4 - 1) as place
$$;
comment on function auth_api.base32_decode(text) is 'The bytes of base 32; a multiple of eight characters.';

create or replace function auth_api.totp(secret text, step bigint) returns text
language plpgsql immutable strict set search_path = pg_catalog, pg_temp as $$
declare
    mac constant bytea := extensions.hmac(int8send(step), auth_api.base32_decode(secret), 'sha1');
    place constant integer := get_byte(mac, 19) & 15;
begin
    return lpad(((((get_byte(mac, place) & 127) << 24) | (get_byte(mac, place + 1) << 16) | (get_byte(mac, place + 2) << 8) | get_byte(mac, place + 3)) % 1000000)::text, 6, '0');
end
$$;
comment on function auth_api.totp(text, bigint) is 'The code of a seed for a step of thirty seconds since 1970.';

-- Clocks differ, so the steps before and after are right, too. A code is right once: who looked over a shoulder comes too late.
create or replace function auth_api.totp_step(secret text, code text, last_step bigint) returns bigint
language sql stable set search_path = pg_catalog, pg_temp as $$
    select step
    from generate_series(floor(extract(epoch from kijko.now()) / 30)::bigint - 1, floor(extract(epoch from kijko.now()) / 30)::bigint + 1) as step
    where auth_api.totp(secret, step) = code and step > coalesce(last_step, 0)
    order by step limit 1
$$;
comment on function auth_api.totp_step(text, text, bigint) is 'The step that a code belongs to, if it is right now and newer than the last one used; else null.';

-- A seed makes codes for ever, so it is sealed with a key that no SQL can read, in the context of its factor. The domain registers the column
-- for the change of keys (private.secrets_factor_context has the same context).
create or replace function auth_api.totp_context(factor_id uuid) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select 'auth.mfa_factors:' || factor_id
$$;
comment on function auth_api.totp_context(uuid) is 'The context in which a factor''s seed is sealed: copied to another factor it cannot be opened.';

create or replace function auth_api.seal_seed(seed text, factor_id uuid) returns text
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select kijko.seal(seed, auth_api.totp_context(factor_id))
$$;
comment on function auth_api.seal_seed(text, uuid) is 'A factor''s seed as it is stored in auth.mfa_factors.';

create table if not exists auth_api.totp_steps (
    factor_id uuid primary key references auth.mfa_factors on delete cascade,
    step bigint not null
);
alter table auth_api.totp_steps enable row level security;
comment on table auth_api.totp_steps is 'The last code of each authenticator app that was used.';
comment on column auth_api.totp_steps.factor_id is 'The factor.';
comment on column auth_api.totp_steps.step is 'The code''s step of thirty seconds since 1970: it and earlier ones are right no more.';

reset role;
