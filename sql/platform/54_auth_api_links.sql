-- The login API on a plain Postgres: invitations and links that the holder of the service key makes.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- An unconfirmed user may be invited again; a confirmed one not.
create or replace function auth_api.invited_user(address text, data jsonb) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users := auth_api.lock_user((auth_api.find_by_email(address)).id);
begin
    if u.email_confirmed_at is not null then
        perform auth_api.reject(422, 'email_exists', 'A user with this email address has already been registered');
    elsif u.id is null then
        u := auth_api.create_email_user(address, null, data);
    end if;
    if u.id is null then
        perform auth_api.reject(422, 'email_exists', 'A user with this email address has already been registered');
    end if;
    update auth.users set invited_at = kijko.now(), updated_at = kijko.now() where id = u.id returning * into u;
    return u;
end
$$;
comment on function auth_api.invited_user(text, jsonb) is 'The user of an invitation, made when there is none.';

create or replace function auth_api.invite(query jsonb, request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"email": "string", "data": "object"}');
    address text := auth_api.valid_email(body ->> 'email');
    u auth.users := auth_api.invited_user(address, body -> 'data');
begin
    return auth_api.user_json(auth_api.mail_token(u, 'invite', 'invite', 'confirmation_token', address, auth_api.redirect_target(query)));
end
$$;
comment on function auth_api.invite(jsonb, text) is 'POST /invite: makes a user without a password and mails them a link.';

-- The user that a link is for, and what kind of link it becomes.
create or replace function auth_api.link_user(body jsonb, address text, out u auth.users, out action text)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    action := body ->> 'type';
    u := auth_api.lock_user((auth_api.find_by_email(address)).id);
    if action = 'magiclink' and u.id is null then
        action := 'signup';
        u := auth_api.create_email_user(address, null, body -> 'data');
    elsif action = 'signup' then
        if u.email_confirmed_at is not null then
            perform auth_api.reject(422, 'email_exists', 'A user with this email address has already been registered');
        elsif coalesce(body ->> 'password', '') = '' then
            perform auth_api.reject(400, 'validation_failed', 'Signup requires a valid password');
        end if;
        perform auth_api.check_password(body ->> 'password', address);
        if u.id is null then
            u := auth_api.create_email_user(address, null, body -> 'data');
        end if;
        perform auth_api.drop_external_identities(u);
        update auth.users set encrypted_password = auth_api.hash_password(body ->> 'password') where id = u.id returning * into u;
    elsif action = 'invite' then
        u := auth_api.invited_user(address, body -> 'data');
    elsif action not in ('magiclink', 'recovery', 'email_change_current', 'email_change_new') or action is null then
        perform auth_api.reject(400, 'validation_failed', 'Invalid email action link type requested');
    end if;
    if u.id is null then
        perform auth_api.reject(404, 'user_not_found', 'User with this email not found');
    end if;
end
$$;
comment on function auth_api.link_user(jsonb, text) is 'Whom a link of the admin API is for, and its kind; made where the kind allows it.';

create or replace function auth_api.generate_link(query jsonb, request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"type": "string", "email": "string", "new_email": "string", "password": "string", "data": "object", "redirect_to": "string"}');
    address text := auth_api.valid_email(body ->> 'email');
    target text := auth_api.redirect_target(body || query);
    wanted record;
    new_email text;
    issued record;
    type auth.one_time_token_type;
    action text;
begin
    select * into wanted from auth_api.link_user(body, address);
    action := wanted.action;
    if action in ('email_change_current', 'email_change_new') then
        new_email := auth_api.valid_email(body ->> 'new_email');
        if (auth_api.find_by_email(new_email)).id is not null then
            perform auth_api.reject(422, 'email_exists', 'A user with this email address has already been registered');
        end if;
        update auth.users set email_change = new_email, email_change_confirm_status = case when email_change = new_email then email_change_confirm_status else 0 end
        where id = (wanted.u).id;
        type := case action when 'email_change_current' then 'email_change_token_current' else 'email_change_token_new' end;
        address := case action when 'email_change_new' then new_email else address end;
    else
        type := case when action in ('signup', 'invite') then 'confirmation_token' else 'recovery_token' end;
    end if;
    select * into issued from auth_api.issue_token(wanted.u, type, address, null, keeps_password => action = 'signup' and (wanted.u).encrypted_password is not null);
    return auth_api.user_json((select u from auth.users u where u.id = (wanted.u).id)) || jsonb_build_object(
        'action_link', auth_api.link(issued.token, case when new_email is null then action else 'email_change' end, target),
        'email_otp', issued.code,
        'hashed_token', issued.token,
        'verification_type', action,
        'redirect_to', target);
end
$$;
comment on function auth_api.generate_link(jsonb, text) is 'POST /admin/generate_link: a link and a code as a mail would carry them, for the holder of the service key to send.';

reset role;
