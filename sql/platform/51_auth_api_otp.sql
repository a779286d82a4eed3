-- The login API on a plain Postgres: sign-up with confirmation, and sign-in by link or code. An address that has an account and one that has
-- none get the same answer after the same work.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- Everything that a new user causes, for an address that somebody has, and undone.
create or replace function auth_api.pretend_user(address text, hash text, data jsonb) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    decoy auth.users;
    shown text;
begin
    decoy := auth_api.create_decoy(data, hash); -- here, where the exception undoes it
    decoy := auth_api.mail_token(decoy, 'confirmation', 'signup', 'confirmation_token', address, (select s.site_url from auth_api.settings s), pretend => true);
    shown := replace(auth_api.user_json(decoy)::text, decoy.email, address);
    raise sqlstate 'KJA02';
exception when sqlstate 'KJA02' then
    return shown::jsonb;
end
$$;
comment on function auth_api.pretend_user(text, text, jsonb) is 'What sign-up answers for a new user with this address; there is none afterwards.';

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
            return auth_api.pretend_user(address, hash, body -> 'data');
        end if;
        perform auth_api.drop_external_identities(u);
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

-- They count as confirmed by the click and not before, also where sign-up confirms at once: the mail is on its way anyway.
create or replace function auth_api.otp_new_user(address text, data jsonb) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users := auth_api.create_email_user(address, null, data);
begin
    if u.id is null then -- somebody was faster
        u := auth_api.find_by_email(address);
    end if;
    return auth_api.lock_user_alone(u.id);
end
$$;
comment on function auth_api.otp_new_user(text, jsonb) is 'The user who signs up by a sign-in by mail.';

create or replace function auth_api.otp(query jsonb, request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"email": "string", "phone": "string", "channel": "string", "create_user": "boolean", "data": "object",
        "code_challenge": "string", "code_challenge_method": "string"}');
    target text := auth_api.redirect_target(query);
    address text;
    u auth.users;
    is_open constant boolean := auth_api.otp_signs_up(body);
    must_confirm constant boolean := not (select s.mailer_autoconfirm from auth_api.settings s);
    signs_up boolean;
    confirms boolean;
    template text;
    action text;
    type auth.one_time_token_type;
    method text;
begin
    if coalesce(body ->> 'email', '') <> '' and coalesce(body ->> 'channel', '') <> '' then
        perform auth_api.reject(400, 'validation_failed', 'Channel should only be specified with Phone OTP');
    elsif coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.check_one_address(body);
        perform auth_api.reject(400, 'phone_provider_disabled', 'Unsupported phone provider');
    end if;
    address := auth_api.valid_email(body ->> 'email');
    perform auth_api.check_challenge(body);
    perform auth_api.charge_mail(address, to_strangers => is_open);
    u := auth_api.find_by_email(address);
    signs_up := u.id is null and is_open;
    if signs_up then
        u := auth_api.otp_new_user(address, body -> 'data');
    end if;
    confirms := must_confirm and u.id is not null and u.email_confirmed_at is null;
    template := case when confirms then 'confirmation' else 'magic_link' end;
    action := case when confirms then 'signup' else 'magiclink' end;
    type := case when confirms then 'confirmation_token' else 'recovery_token' end;
    method := case when confirms then 'email/signup' else 'magiclink' end;
    if signs_up then -- the user that was made takes the place of the decoy
        perform auth_api.mail_token(u, template, action, type, address, target, auth_api.begin_flow(u, body, method));
    else
        perform auth_api.mail_address(u, body, template, action, type, address, target, method);
    end if;
    return '{}';
end
$$;
comment on function auth_api.otp(jsonb, text) is 'POST /otp and /magiclink: mails a link and a code that sign in.';

reset role;
