-- The login API on a plain Postgres: what a signed-in user changes about their account.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- A change of address --------------------------------------------------------------------------------------------------------------

-- A stolen session must not be enough to take the account away, so the old address confirms, too. A new address that is somebody's gets no
-- mail, and whoever asks does not learn that it is taken.
create or replace function auth_api.begin_email_change(u auth.users, address text, body jsonb, target text) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    is_double boolean := coalesce(u.email, '') <> '' and (select s.secure_email_change from auth_api.settings s);
    taken boolean := (auth_api.find_by_email(address)).id is not null;
    changed auth.users;
begin
    update auth.users set email_change = address, email_change_confirm_status = 0, updated_at = kijko.now() where id = u.id returning * into u;
    delete from auth.one_time_tokens t where t.user_id = u.id and t.token_type in ('email_change_token_new', 'email_change_token_current');
    if is_double then
        u := auth_api.mail_token(u, 'email_change', 'email_change', 'email_change_token_current', u.email, target, auth_api.begin_flow(u, body, 'email_change'));
    end if;
    begin
        changed := auth_api.mail_token(u, 'email_change_new', 'email_change', 'email_change_token_new', address, target,
            auth_api.begin_flow(u, body, 'email_change'), pretend => taken);
        if taken then
            raise sqlstate 'KJA02';
        end if;
    exception when sqlstate 'KJA02' then
        update auth.users set email_change_sent_at = kijko.now() where id = u.id returning * into changed;
    end;
    return changed;
end
$$;
comment on function auth_api.begin_email_change(auth.users, text, jsonb, text) is 'Mails both addresses of a change; the user has the old one until both have confirmed.';

create or replace function auth_api.resend_email_change(u auth.users, target text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    pending record;
begin
    for pending in
        select t.token_type, t.relates_to, c.flow_state_id
        from auth.one_time_tokens t join auth_api.one_time_codes c on c.token_id = t.id
        where t.user_id = u.id and t.token_type in ('email_change_token_new', 'email_change_token_current')
    loop
        perform auth_api.mail_token(u, case pending.token_type when 'email_change_token_new' then 'email_change_new' else 'email_change' end, 'email_change',
            pending.token_type, pending.relates_to, target, pending.flow_state_id);
    end loop;
end
$$;
comment on function auth_api.resend_email_change(auth.users, text) is 'Mails what is still to be confirmed of a change of address once more.';

-- An address makes an anonymous user a permanent one.
create or replace function auth_api.set_email(u auth.users, address text) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    u := auth_api.change_email(u, address, confirmed => true);
    update auth.users
    set is_anonymous = false,
        raw_app_meta_data = case when u.is_anonymous then auth_api.merge(raw_app_meta_data, '{"provider": "email", "providers": ["email"]}') else raw_app_meta_data end,
        raw_user_meta_data = auth_api.merge(raw_user_meta_data, '{"email_verified": true}')
    where id = u.id;
    return auth_api.void_tokens(u);
end
$$;
comment on function auth_api.set_email(auth.users, text) is 'Gives the user a confirmed address; mails to the former one are void.';

create or replace function auth_api.apply_email_change(u auth.users, token auth.one_time_tokens) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    is_double boolean := coalesce(u.email, '') <> '' and (select s.secure_email_change from auth_api.settings s);
begin
    if is_double and u.email_change_confirm_status = 0 then
        update auth.users set email_change_confirm_status = 1, updated_at = kijko.now() where id = u.id;
        return null;
    elsif not is_double and token.token_type = 'email_change_token_current' then
        return null;
    end if;
    return auth_api.set_email(u, u.email_change);
end
$$;
comment on function auth_api.apply_email_change(auth.users, auth.one_time_tokens) is 'Counts one confirmation of a change of address, and changes it when none is missing; null until then.';

-- Reauthentication -----------------------------------------------------------------------------------------------------------------

create or replace function auth_api.reauthenticate() returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users := auth_api.lock_user((select (c.u).id from auth_api.caller() c));
begin
    if coalesce(u.email, '') = '' then
        perform auth_api.reject(400, 'validation_failed', 'Reauthentication requires the user to have an email or a phone number');
    elsif u.email_confirmed_at is null then
        perform auth_api.reject(422, 'email_not_confirmed', 'Please verify your email first.');
    end if;
    perform auth_api.charge_mail(u.email);
    perform auth_api.mail_token(u, 'reauthentication', 'reauthentication', 'reauthentication_token', u.email, (select s.site_url from auth_api.settings s));
    return '{}';
end
$$;
comment on function auth_api.reauthenticate() is 'GET /reauthenticate: mails the signed-in user a code that PUT /user takes as nonce.';

-- Null, or the answer that refuses: a wrong code has been counted.
create or replace function auth_api.nonce_refusal(u auth.users, session auth.sessions, nonce text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    id uuid;
begin
    if not (select s.require_reauthentication from auth_api.settings s) or session.created_at > kijko.now() - interval '24 hours' then
        return null;
    elsif coalesce(nonce, '') = '' then
        return auth_api.refusal(400, 'reauthentication_needed', 'Password update requires reauthentication');
    end if;
    id := auth_api.token_of_code(u.email, '{reauthentication_token}', nonce);
    if id is null or ((auth_api.use_token(id)).token).id is null then
        perform auth_api.audit_refusal(u.id, 'reauthentication_not_valid');
        return auth_api.refusal(422, 'reauthentication_not_valid', 'Nonce has expired or is invalid');
    end if;
    return null;
end
$$;
comment on function auth_api.nonce_refusal(auth.users, auth.sessions, text) is 'Why a change of password is refused without a fresh proof of who is asking; null when it is not.';

-- PUT /user ------------------------------------------------------------------------------------------------------------------------

create or replace function auth_api.check_metadata(u auth.users) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    -- Several small changes add up: beyond this the user's own token would be refused everywhere, and with it the change back.
    if octet_length(u.raw_user_meta_data::text) > (select s.max_body_bytes from auth_api.settings s) then
        perform auth_api.reject(422, 'validation_failed', 'user_metadata is larger than an access token can carry');
    end if;
end
$$;
comment on function auth_api.check_metadata(auth.users) is 'Refuses user_metadata that no token can carry.';

create or replace function auth_api.change_metadata(u auth.users, changes jsonb) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    update auth.users set raw_user_meta_data = auth_api.merge(raw_user_meta_data, changes), updated_at = kijko.now() where id = u.id returning * into u;
    perform auth_api.check_metadata(u);
    return u;
end
$$;
comment on function auth_api.change_metadata(auth.users, jsonb) is 'Merges changes into user_metadata and refuses what no token can carry.';

create or replace function auth_api.put_user_body(request_body text, u auth.users) returns jsonb
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"email": "string", "phone": "string", "password": "string", "nonce": "string", "data": "object",
        "app_metadata": "object", "code_challenge": "string", "code_challenge_method": "string"}');
    email text := nullif(body ->> 'email', '');
begin
    if jsonb_typeof(body -> 'app_metadata') = 'object' then
        perform auth_api.reject(403, 'not_admin', 'Updating app_metadata requires admin privileges');
    elsif coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.reject(400, 'phone_provider_disabled', 'Phone logins are disabled');
    elsif u.is_anonymous and body ->> 'password' is not null and email is null then
        perform auth_api.reject(422, 'validation_failed', 'Updating password of an anonymous user without an email or phone is not allowed');
    end if;
    perform auth_api.check_challenge(body);
    if body ->> 'password' is not null then
        perform auth_api.check_password(body ->> 'password', coalesce(email, u.email));
    end if;
    return body || jsonb_build_object('email', case when email is not null then nullif(auth_api.valid_email(email), u.email) end);
end
$$;
comment on function auth_api.put_user_body(text, auth.users) is 'What PUT /user asks for, checked; email is null when it is not to change.';

create or replace function auth_api.put_user(query jsonb, request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    caller record;
    u auth.users;
    body jsonb;
    refusal json;
begin
    select * into caller from auth_api.caller();
    perform auth_api.charge('auth:change:' || (caller.u).id, (select s.changes_per_minute from auth_api.settings s), '1 minute');
    body := auth_api.put_user_body(request_body, caller.u);
    if (body ->> 'password' is not null or body ->> 'email' is not null) and not auth_api.has_aal2(caller.session) and auth_api.has_factor((caller.u).id) then
        perform auth_api.reject(401, 'insufficient_aal', 'AAL2 session is required to update email or password when MFA is enabled.');
    end if;
    if body ->> 'password' is not null then
        perform auth_api.charge_address('hash');
        if auth_api.password_matches(body ->> 'password', (caller.u).encrypted_password) then
            perform auth_api.reject(422, 'same_password', 'New password should be different from the old password.');
        end if;
        refusal := auth_api.nonce_refusal(caller.u, caller.session, body ->> 'nonce');
        if refusal is not null then
            return refusal;
        end if;
        u := auth_api.change_password(caller.u, body ->> 'password', keep_session => (caller.session).id);
    end if;
    u := auth_api.lock_user((caller.u).id);
    if body ->> 'email' is not null and (select s.mailer_autoconfirm from auth_api.settings s) then
        u := auth_api.set_email(u, body ->> 'email');
    elsif body ->> 'email' is not null then
        perform auth_api.charge_mail(body ->> 'email', to_strangers => true);
        u := auth_api.begin_email_change(u, body ->> 'email', body, auth_api.redirect_target(query));
    end if;
    return auth_api.user_json(auth_api.change_metadata(u, body -> 'data'));
end
$$;
comment on function auth_api.put_user(jsonb, text) is 'PUT /user: the signed-in user changes their password, address or user_metadata.';

reset role;
