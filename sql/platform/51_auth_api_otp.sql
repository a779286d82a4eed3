-- The login API on a plain Postgres: sign-up with confirmation, and sign-in by link or code. An address that has an account and one that has
-- none get the same answer after the same work.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- Everything that a new user causes, for an address that nobody has, and undone.
create or replace function auth_api.pretend_user(address text, hash text, data jsonb, with_mail boolean) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    alias constant text := encode(extensions.gen_random_bytes(16), 'hex') || '@invalid.example';
    u auth.users;
    shown text;
begin
    u := auth_api.create_email_user(alias, hash, data);
    if with_mail then
        u := auth_api.mail_token(u, 'confirmation', 'signup', 'confirmation_token', alias, (select s.site_url from auth_api.settings s));
        shown := replace(auth_api.user_json(u)::text, alias, address);
    end if;
    raise sqlstate 'KJA02';
exception when sqlstate 'KJA02' then
    return shown::jsonb;
end
$$;
comment on function auth_api.pretend_user(text, text, jsonb, boolean) is 'What sign-up answers for a new user with this address; there is none afterwards.';

-- Of several sign-ups with one address before its confirmation, the last counts: with its password, and by its link alone.
create or replace function auth_api.signup_unconfirmed(address text, hash text, body jsonb, target text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users;
begin
    u := auth_api.create_email_user(address, hash, body -> 'data');
    if u.id is null then
        u := auth_api.lock_user((auth_api.find_by_email(address)).id);
        if u.id is null or u.email_confirmed_at is not null then
            return auth_api.pretend_user(address, hash, body -> 'data', with_mail => true);
        end if;
        update auth.users
        set encrypted_password = hash, raw_user_meta_data = auth_api.sign_up_metadata(body -> 'data', confirmed => false)
        where id = u.id
        returning * into u;
    end if;
    u := auth_api.mail_token(u, 'confirmation', 'signup', 'confirmation_token', address, target, auth_api.begin_flow(u, body, 'email/signup'), keeps_password => true);
    return auth_api.user_json(u);
end
$$;
comment on function auth_api.signup_unconfirmed(text, text, jsonb, text) is 'Sign-up where addresses have to be confirmed: mails a link and a code, and returns the user without a session.';

create or replace function auth_api.otp_signs_up(body jsonb) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce((body ->> 'create_user')::boolean, true) and not s.disable_signup from auth_api.settings s
$$;
comment on function auth_api.otp_signs_up(jsonb) is 'Whether a sign-in by mail makes the user when there is none.';

-- A sign-in by mail makes the user when there is none. They count as confirmed by the click and not before, also where sign-up confirms at
-- once: the mail is on its way anyway.
create or replace function auth_api.otp_user(address text, body jsonb) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users := auth_api.find_by_email(address);
    open_to_all constant boolean := auth_api.otp_signs_up(body);
begin
    if u.id is null and open_to_all then
        u := auth_api.create_email_user(address, null, body -> 'data');
        if u.id is null then -- somebody was faster
            u := auth_api.find_by_email(address);
        end if;
    elsif open_to_all then
        perform auth_api.pretend_user(address, null, body -> 'data', with_mail => false);
    end if;
    return auth_api.lock_user(u.id);
end
$$;
comment on function auth_api.otp_user(text, jsonb) is 'The user who signs in by mail, made when there is none and sign-up is open; else null.';

create or replace function auth_api.otp(query jsonb, request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"email": "string", "phone": "string", "channel": "string", "create_user": "boolean", "data": "object",
        "code_challenge": "string", "code_challenge_method": "string"}');
    target text := auth_api.redirect_target(query);
    address text;
    u auth.users;
begin
    if coalesce(body ->> 'email', '') <> '' and coalesce(body ->> 'channel', '') <> '' then
        perform auth_api.reject(400, 'validation_failed', 'Channel should only be specified with Phone OTP');
    elsif coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.reject(400, 'phone_provider_disabled', 'Unsupported phone provider');
    end if;
    address := auth_api.valid_email(body ->> 'email');
    perform auth_api.check_challenge(body);
    perform auth_api.charge_mail(address, to_strangers => auth_api.otp_signs_up(body));
    u := auth_api.otp_user(address, body);
    if u.id is null then
        perform auth_api.pretend_mail('magiclink', address, target);
    elsif u.email_confirmed_at is null and not (select s.mailer_autoconfirm from auth_api.settings s) then
        perform auth_api.mail_token(u, 'confirmation', 'signup', 'confirmation_token', address, target, auth_api.begin_flow(u, body, 'email/signup'));
    else
        perform auth_api.mail_token(u, 'magic_link', 'magiclink', 'recovery_token', address, target, auth_api.begin_flow(u, body, 'magiclink'));
    end if;
    return '{}';
end
$$;
comment on function auth_api.otp(jsonb, text) is 'POST /otp and /magiclink: mails a link and a code that sign in.';

reset role;
