-- The login API on a plain Postgres: how passwords are hashed, and which are refused.
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;
set role supabase_auth_admin;

-- Hashing --------------------------------------------------------------------------------------------------------------------------

-- A hash takes a core for a quarter of a second. Two at once; four more wait with a connection each, and the rest is refused at once, so that of
-- the pool's ten connections four always answer refreshes. One network has at most four of the six places: it cannot keep all others out. The
-- locks end with the transaction, and are taken once in it.
create or replace function auth_api.take_place(class text, places integer) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    for place in 1..places loop
        if pg_try_advisory_xact_lock(hashtext(class), place) then
            return true;
        end if;
    end loop;
    return false;
end
$$;
comment on function auth_api.take_place(text, integer) is 'Takes one of some numbered places until the end of the transaction; false when all are taken.';

create or replace function auth_api.enter_hashing() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if current_setting('auth_api.hashing', true) in ('waiting', 'running') then
        return;
    elsif auth_api.take_place('auth_api.hash_places ' || coalesce(kijko.client_network()::text, ''), 4) and auth_api.take_place('auth_api.hash_places', 6) then
        perform set_config('auth_api.hashing', 'waiting', true);
        return;
    end if;
    perform auth_api.reject_too_many(1, message => 'Too many sign-ins at once');
end
$$;
comment on function auth_api.enter_hashing() is 'Takes a place among the requests that hash a password or wait for it; refuses when all are taken.';

create or replace function auth_api.take_hash_turn() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
declare
    class constant integer := hashtext('auth_api.hash_turns');
begin
    perform auth_api.enter_hashing();
    if current_setting('auth_api.hashing', true) = 'running' then
        return;
    elsif not pg_try_advisory_xact_lock(class, 1) and not pg_try_advisory_xact_lock(class, 2) then
        perform pg_advisory_xact_lock(class, 1 + pg_backend_pid() % 2);
    end if;
    perform set_config('auth_api.hashing', 'running', true);
exception when lock_not_available then
    perform auth_api.reject_too_many(1, message => 'Too many sign-ins at once');
end
$$;
comment on function auth_api.take_hash_turn() is 'Waits until fewer than two passwords are being hashed.';

create or replace function auth_api.hash_password(password text) returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform auth_api.take_hash_turn();
    return extensions.crypt(password, extensions.gen_salt('bf', (select s.bcrypt_cost from auth_api.settings s)));
end
$$;
comment on function auth_api.hash_password(text) is 'A bcrypt hash.';

create or replace function auth_api.hash_cost(hash text) returns integer
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select substring(hash from '^\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}$')::integer
$$;
comment on function auth_api.hash_cost(text) is 'The cost of a bcrypt hash; null for anything else.';

-- Work of 2^to_cost - 2^from_cost. Added to a hash of the lower cost it makes every answer take as long as one of today's cost.
create or replace function auth_api.burn(from_cost integer, to_cost integer) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    for level in from_cost..to_cost - 1 loop
        perform extensions.crypt('', '$2a$' || lpad(level::text, 2, '0') || '$abcdefghijklmnopqrstuu');
    end loop;
end
$$;
comment on function auth_api.burn(integer, integer) is 'Takes as long as a bcrypt hash of one cost less one of another.';

-- No password, an unknown user (hash null), a hash of a former cost and one that is no bcrypt (GoTrue takes argon2 and scrypt on import) cost the
-- same time: the delay of the answer does not reveal which addresses exist. pgcrypto knows bcrypt by $2a$ alone and would take $2b$ and $2y$,
-- which are the same for it, for old DES hashes.
create or replace function auth_api.password_matches(password text, hash text) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    today constant integer := (select s.bcrypt_cost from auth_api.settings s);
    cost constant integer := auth_api.hash_cost(hash);
    known constant text := case when cost is null then '$2a$' || lpad(today::text, 2, '0') || '$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234'
        else '$2a$' || substr(hash, 5) end;
    matches boolean;
begin
    perform auth_api.take_hash_turn();
    matches := extensions.crypt(coalesce(password, ''), known) = known;
    perform auth_api.burn(cost, today) where cost < today;
    return cost is not null and matches and octet_length(password) between 1 and 72;
end
$$;
comment on function auth_api.password_matches(text, text) is 'Whether the password belongs to the hash; takes as long when there is no usable hash.';

-- Only a sign-in has the password, so that is when an older hash can be replaced.
create or replace function auth_api.rehash(u auth.users, password text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if auth_api.hash_cost(u.encrypted_password) < (select s.bcrypt_cost from auth_api.settings s) then
        -- The audit log does not count a new hash of the same password as a change.
        perform set_config('kijko_audit.same_password', 'on', true);
        update auth.users set encrypted_password = auth_api.hash_password(password)
        where id = u.id and encrypted_password = u.encrypted_password;
        perform set_config('kijko_audit.same_password', '', true);
    end if;
end
$$;
comment on function auth_api.rehash(auth.users, text) is 'Replaces a hash of a former, lower cost.';

-- Policy ---------------------------------------------------------------------------------------------------------------------------

create table if not exists auth_api.common_passwords (
    word text primary key
);
alter table auth_api.common_passwords enable row level security;
comment on table auth_api.common_passwords is 'What a guesser tries first: words, names, rows of keys. Digits and signs around a word do not make it another password.';
comment on column auth_api.common_passwords.word is 'In lower case, letters only, or a row of digits.';
grant select, insert, delete on auth_api.common_passwords to :"owner";

create or replace function auth_api.is_common_password(password text, address text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    with folded as (
        -- The usual signs for letters, then what is left of a word without what people put around it.
        select lower(password) as whole,
            regexp_replace(lower(password), '^[^a-z]+|[^a-z]+$', '', 'g') as bare,
            regexp_replace(translate(lower(password), '4@310$57!', 'aaeiosstii'), '[^a-z]', '', 'g') as spelled
    )
    select exists (select 1 from auth_api.common_passwords c where c.word in (f.whole, f.bare, f.spelled, regexp_replace(f.bare, '[^a-z]', '', 'g')))
        or f.whole ~ '^(.{1,4})\1+.?$' -- one piece, repeated
        or position(f.whole in '01234567890123456789') > 0
        or position(f.whole in '98765432109876543210') > 0
        or position(f.whole in 'abcdefghijklmnopqrstuvwxyz') > 0
        or f.whole = lower(address)
        or (char_length(split_part(address, '@', 1)) >= 4 and f.bare = lower(split_part(address, '@', 1)))
    from folded f
$$;
comment on function auth_api.is_common_password(text, text) is 'Whether a guesser who knows the address would try this password early.';

create or replace function auth_api.password_faults(password text, address text) returns text[]
language sql stable set search_path = pg_catalog, pg_temp as $$
    select array_remove(array[
        case when octet_length(password) < s.password_min_length then 'length' end,
        case when exists (select 1 from unnest(s.password_required_characters) as wanted (signs) where translate(password, wanted.signs, '') = password) then 'characters' end,
        case when s.refuse_common_passwords and auth_api.is_common_password(password, coalesce(address, '')) then 'pwned' end
    ], null)
    from auth_api.settings s
$$;
comment on function auth_api.password_faults(text, text) is 'What is wrong with a password, in GoTrue''s words; empty when nothing is.';

create or replace function auth_api.weakness(faults text[]) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case faults[1]
        when 'length' then format('Password should be at least %s characters.', s.password_min_length)
        when 'characters' then 'Password should contain at least one character of each: ' || array_to_string(s.password_required_characters, ', ')
        else 'Password is known to be weak and easy to guess, please choose a different one.' end
    from auth_api.settings s
$$;
comment on function auth_api.weakness(text[]) is 'The message of a weak password.';

-- bcrypt reads 72 bytes and ignores the rest, so a longer password would be weaker than it looks: refused, as in GoTrue.
create or replace function auth_api.check_password(password text, address text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    faults text[];
begin
    if octet_length(password) > 72 then
        perform auth_api.reject(400, 'validation_failed', 'Password cannot be longer than 72 characters');
    end if;
    faults := auth_api.password_faults(password, address);
    if faults <> '{}' then
        perform auth_api.reject(422, 'weak_password', auth_api.weakness(faults), more => jsonb_build_object('weak_password', jsonb_build_object('reasons', faults)));
    end if;
end
$$;
comment on function auth_api.check_password(text, text) is 'Refuses a new password that is too short, too long, or easy to guess.';

reset role;
