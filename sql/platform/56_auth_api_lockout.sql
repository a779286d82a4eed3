-- The login API on a plain Postgres: wrong passwords. Some in a row lock an account for a while. An address without an account is locked alike, and
-- a device that has signed in before is counted apart: whoever guesses elsewhere cannot lock its owner out.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create table if not exists auth_api.password_failures (
    bucket text primary key,
    failures integer not null check (failures > 0),
    failed_at timestamptz not null,
    locked_until timestamptz,
    unlock_hash text
);
create index if not exists password_failures_failed_at_idx on auth_api.password_failures (failed_at);
create index if not exists password_failures_unlock_hash_idx on auth_api.password_failures (unlock_hash) where unlock_hash is not null;
alter table auth_api.password_failures enable row level security;
comment on table auth_api.password_failures is 'Wrong passwords in a row, for addresses with an account and without. Rows go some time after the last one.';
comment on column auth_api.password_failures.bucket is 'SHA-256 of the address, and of the device if it has signed in to the account before.';
comment on column auth_api.password_failures.failures is 'How many in a row.';
comment on column auth_api.password_failures.failed_at is 'When the last one was tried.';
comment on column auth_api.password_failures.locked_until is 'Until then the right password is refused, too.';
comment on column auth_api.password_failures.unlock_hash is 'SHA-224 of the token that ends the lock, from the mail to the owner.';

create table if not exists auth_api.known_devices (
    user_id uuid references auth.users on delete cascade,
    device text,
    seen_at timestamptz not null,
    primary key (user_id, device)
);
alter table auth_api.known_devices enable row level security;
comment on table auth_api.known_devices is 'Where a user has signed in, the last twenty. A device is a network and a program; clients of other origins can keep no cookie here.';
comment on column auth_api.known_devices.user_id is 'The user.';
comment on column auth_api.known_devices.device is 'SHA-256 of the client''s network and User-Agent.';
comment on column auth_api.known_devices.seen_at is 'When they last signed in there.';

create or replace function auth_api.device() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select encode(sha256(convert_to(coalesce(kijko.client_network()::text, '') || ' ' || coalesce(auth_api.header('user-agent'), ''), 'UTF8')), 'hex')
$$;
comment on function auth_api.device() is 'The device of this request.';

create or replace function auth_api.remember_device(u auth.users) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    insert into auth_api.known_devices (user_id, device, seen_at) values (u.id, auth_api.device(), kijko.now())
    on conflict (user_id, device) do update set seen_at = excluded.seen_at;
    delete from auth_api.known_devices d
    where d.user_id = u.id and d.device in (
        select o.device from auth_api.known_devices o where o.user_id = u.id order by o.seen_at desc, o.device offset 20);
end
$$;
comment on function auth_api.remember_device(auth.users) is 'Notes that the user signed in on this device.';

create or replace function auth_api.failure_bucket(address text, device text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select encode(sha256(convert_to(address || ' ' || coalesce(device, ''), 'UTF8')), 'hex')
$$;
comment on function auth_api.failure_bucket(text, text) is 'Where wrong passwords for an address are counted; device is null unless it has signed in before.';

create or replace function auth_api.request_bucket(u auth.users, address text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select auth_api.failure_bucket(address, (select d.device from auth_api.known_devices d where d.user_id = u.id and d.device = auth_api.device()))
$$;
comment on function auth_api.request_bucket(auth.users, text) is 'Where this request''s wrong password would be counted.';

-- Null, or the answer that refuses.
create or replace function auth_api.lock_refusal(bucket text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    ends timestamptz := (select f.locked_until from auth_api.password_failures f where f.bucket = lock_refusal.bucket);
begin
    if ends > kijko.now() then
        return auth_api.refusal(429, 'account_locked', 'Too many wrong passwords: try again later, or reset the password',
            headers => jsonb_build_object('Retry-After', ceil(extract(epoch from ends - kijko.now()))::text));
    end if;
    return null;
end
$$;
comment on function auth_api.lock_refusal(text) is 'Why a sign-in is refused before its password is looked at; null when it is not.';

-- Guesses at one account come one after the other, or a hundred at once would all be looked at before the first is counted. Only requests that
-- have a place for hashing wait here.
create or replace function auth_api.enter_sign_in(bucket text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp set lock_timeout = '5s' as $$
begin
    perform auth_api.enter_hashing();
    perform pg_advisory_xact_lock(hashtextextended('auth_api.sign_in ' || bucket, 0));
exception when lock_not_available then
    perform auth_api.reject_too_many(1, message => 'Too many sign-ins at once');
end
$$;
comment on function auth_api.enter_sign_in(text) is 'Waits for the other sign-ins of this account.';

-- The owner hears of a lock once. An address without an account costs the same work.
create or replace function auth_api.mail_unlock(u auth.users, address text, token text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform auth_api.queue_mail('unlock', address, auth_api.mail_locale(u), jsonb_build_object(
        'user_id', coalesce(u.id, gen_random_uuid()), 'email', address, 'token_hash', token, 'site_url', s.site_url, 'link', s.issuer || '/unlock?token=' || token),
        pretend => u.id is null)
    from auth_api.settings s;
exception when sqlstate 'KJA01' then
    null; -- no mail, or one too many: the lock ends by itself, and /recover ends it, too
end
$$;
comment on function auth_api.mail_unlock(auth.users, text, text) is 'Mails the owner of a locked account how to unlock it.';

create or replace function auth_api.count_failure(bucket text, u auth.users, address text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    s auth_api.settings;
    failure auth_api.password_failures;
    token text := encode(extensions.gen_random_bytes(28), 'hex');
begin
    select * into s from auth_api.settings;
    insert into auth_api.password_failures as f (bucket, failures, failed_at) values (count_failure.bucket, 1, kijko.now())
    on conflict on constraint password_failures_pkey do update
    set failures = case when f.failed_at > kijko.now() - make_interval(secs => s.lockout_seconds) and f.locked_until is null then f.failures + 1 else 1 end,
        failed_at = excluded.failed_at, locked_until = null, unlock_hash = null
    returning f.* into failure;
    if s.lockout_attempts > 0 and failure.failures >= s.lockout_attempts then
        update auth_api.password_failures f
        set locked_until = kijko.now() + make_interval(secs => s.lockout_seconds), unlock_hash = auth_api.token_hash(token)
        where f.bucket = count_failure.bucket;
        perform auth_api.mail_unlock(u, address, token);
        perform auth_api.audit_lock(u.id);
    end if;
    -- A few of those that count no more, so that the table does not grow.
    delete from auth_api.password_failures f where f.bucket in (
        select o.bucket from auth_api.password_failures o
        where o.failed_at < kijko.now() - make_interval(secs => s.lockout_seconds) and o.bucket <> count_failure.bucket
        order by o.failed_at limit 10 for update skip locked);
end
$$;
comment on function auth_api.count_failure(text, auth.users, text) is 'Counts a wrong password, and locks the account after too many in a row.';

create or replace function auth_api.forgive(address text) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    delete from auth_api.password_failures f where f.bucket = auth_api.failure_bucket(address, null)
$$;
comment on function auth_api.forgive(text) is 'Ends the lock of an address: its owner has shown that they read its mail.';

create or replace function auth_api.unlock(query jsonb) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    site constant text := (select s.site_url from auth_api.settings s);
begin
    perform auth_api.charge_address('verify');
    delete from auth_api.password_failures f where f.unlock_hash = auth_api.token_hash(coalesce(query ->> 'token', ''));
    if not found then
        return auth_api.redirect_error(site, 403, 'otp_expired', 'Email link is invalid or has expired', pkce => false);
    end if;
    return auth_api.redirect(site, '{"message": "unlocked", "sb": ""}');
end
$$;
comment on function auth_api.unlock(jsonb) is 'GET and POST /unlock: the link of the mail about a lock.';

-- The endpoint ---------------------------------------------------------------------------------------------------------------------

create or replace function auth_api.password_session(u auth.users, password text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    faults text[] := auth_api.password_faults(password, u.email);
    session jsonb;
begin
    perform auth_api.rehash(u, password);
    select * into u from auth.users where id = u.id;
    session := auth_api.open_session(u, 'password')::jsonb;
    if faults <> '{}' then
        session := session || jsonb_build_object('weak_password', jsonb_build_object('reasons', faults, 'message', auth_api.weakness(faults)));
    end if;
    return session::json;
end
$$;
comment on function auth_api.password_session(auth.users, text) is 'Signs in who gave the right password, and says when today''s rules would refuse it.';

-- Refusals are returned and not raised: the attempt has been counted and stays counted.
create or replace function auth_api.password_grant(request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"email": "string", "phone": "string", "password": "string"}');
    address text := lower(btrim(body ->> 'email') collate "C");
    u auth.users;
    counter text;
    locked json;
    refusal json;
    valid boolean;
begin
    if coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.check_one_address(body);
        perform auth_api.reject(422, 'phone_provider_disabled', 'Phone logins are disabled');
    elsif coalesce(address, '') = '' then
        perform auth_api.reject(400, 'validation_failed', 'missing email or phone');
    end if;
    perform auth_api.charge_address('hash');
    perform auth_api.charge(format('auth:login:%s:%s', kijko.client_network(), md5(address)),
        (select s.attempts_per_5_minutes from auth_api.settings s), '5 minutes');
    u := auth_api.find_by_email(address);
    counter := auth_api.request_bucket(u, address);
    locked := auth_api.lock_refusal(counter);
    if locked is null then
        perform auth_api.enter_sign_in(counter);
        locked := auth_api.lock_refusal(counter);
    end if;
    if locked is not null then
        perform auth_api.audit_refusal(u.id, 'account_locked');
        return locked;
    end if;
    valid := auth_api.password_matches(body ->> 'password', u.encrypted_password);
    refusal := auth_api.password_hook(u, valid);
    if not valid then
        perform auth_api.count_failure(counter, u, address);
        perform auth_api.audit_refusal(u.id, 'invalid_credentials');
        return coalesce(refusal, auth_api.refusal(400, 'invalid_credentials', 'Invalid login credentials'));
    elsif refusal is not null then
        perform auth_api.audit_refusal(u.id, 'rejected_by_hook');
        return refusal;
    end if;
    delete from auth_api.password_failures f where f.bucket = counter;
    -- Only a caller who knows the password learns of these two.
    if auth_api.is_banned(u) then
        perform auth_api.audit_refusal(u.id, 'user_banned');
        return auth_api.refusal(400, 'user_banned', 'User is banned');
    elsif u.email_confirmed_at is null then
        perform auth_api.audit_refusal(u.id, 'email_not_confirmed');
        return auth_api.refusal(400, 'email_not_confirmed', 'Email not confirmed');
    end if;
    return auth_api.password_session(u, body ->> 'password');
end
$$;
comment on function auth_api.password_grant(text) is 'POST /token?grant_type=password: signs in with address and password.';

reset role;
