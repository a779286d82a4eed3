-- The login API on a plain Postgres: the endpoints for the holder of the service key. auth_api.dispatch_admin has checked that already.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create or replace function auth_api.admin_body(request_body text) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"id": "string", "role": "string", "email": "string", "phone": "string", "password": "string",
        "password_hash": "string", "email_confirm": "boolean", "user_metadata": "object", "app_metadata": "object", "ban_duration": "string"}');
begin
    if coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.reject(400, 'phone_provider_disabled', 'Phone logins are disabled');
    end if;
    return body;
end
$$;
comment on function auth_api.admin_body(text) is 'The body of an admin request that makes or changes a user.';

-- Go writes durations as 24h, 1h30m, 300ms. Digits are bounded so that the sum fits an interval.
create or replace function auth_api.banned_until(duration text) returns timestamptz
language plpgsql volatile set search_path = '' as $$
declare
    span interval;
begin
    if duration = 'none' then
        return null;
    elsif duration !~ '^(\d{1,8}(\.\d{1,9})?(ns|us|ms|s|m|h))+$' then
        perform auth_api.reject(400, 'validation_failed', format('invalid format for ban duration: time: invalid duration %s', to_json(duration)));
    end if;
    select sum(part[1]::double precision * case part[2]
        when 'h' then interval '1 hour' when 'm' then interval '1 minute' when 's' then interval '1 second'
        when 'ms' then interval '1 millisecond' when 'us' then interval '1 microsecond' else interval '0' end)
    into span
    from regexp_matches(duration, '(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)', 'g') as part;
    return case when span > '0' then kijko.now() + span end;
end
$$;
comment on function auth_api.banned_until(text) is 'The end of a ban of this duration from now on; null for "none".';

-- A ban takes effect at once: the sign-in rules refuse refreshes, and a trigger of the domain revokes the sessions, and so their access
-- tokens, until the ban ends. The sessions stay, so that a refresh fails with user_banned and not as an unknown token, and so that they
-- continue when the ban is lifted.
create or replace function auth_api.ban(u auth.users, duration text) returns auth.users
language plpgsql volatile set search_path = '' as $$
begin
    if coalesce(duration, '') = '' then
        return u;
    end if;
    update auth.users set banned_until = auth_api.banned_until(duration), updated_at = kijko.now() where id = u.id returning * into u;
    return u;
end
$$;
comment on function auth_api.ban(auth.users, text) is 'Bans the user for a duration, or ends the ban ("none").';

-- The user behind /admin/users/{id}.
create or replace function auth_api.admin_find(id text) returns auth.users
language plpgsql volatile set search_path = '' as $$
declare
    u auth.users;
begin
    if not auth_api.is_uuid(id) then
        perform auth_api.reject(404, 'validation_failed', 'user_id must be an UUID');
    end if;
    select * into u from auth.users where users.id = admin_find.id::uuid;
    if u.id is null then
        perform auth_api.reject(404, 'user_not_found', 'User not found');
    end if;
    return u;
end
$$;
comment on function auth_api.admin_find(text) is 'The user of this id; an unknown one is refused with 404.';

create or replace function auth_api.page_number(value text, fallback integer) returns integer
language plpgsql volatile set search_path = '' as $$
begin
    if coalesce(value, '') = '' then
        return fallback;
    elsif value !~ '^\d{1,8}$' then
        perform auth_api.reject(400, 'validation_failed', 'Bad Pagination Parameters');
    end if;
    return greatest(value::integer, 1);
end
$$;
comment on function auth_api.page_number(text, integer) is 'A page or page size from the query; what is no number is refused.';

-- supabase-js reads the page from what follows the first "=" of each link, so page comes first in the query.
create or replace function auth_api.add_page_headers(page integer, per_page integer, total bigint) returns void
language plpgsql volatile set search_path = '' as $$
declare
    last_page bigint := ceil(total::numeric / per_page);
    link constant text := '</admin/users?page=%s&per_page=%s>; rel="%s"';
begin
    perform kijko.add_header('X-Total-Count', total::text);
    perform kijko.add_header('Link', concat_ws(', ',
        case when page < last_page then format(link, page + 1, per_page, 'next') end,
        format(link, last_page, per_page, 'last')));
end
$$;
comment on function auth_api.add_page_headers(integer, integer, bigint) is 'GoTrue''s paging headers: X-Total-Count and Link.';

create or replace function auth_api.admin_list(query jsonb) returns json
language plpgsql volatile set search_path = '' as $$
declare
    page integer := auth_api.page_number(query ->> 'page', 1);
    per_page integer := auth_api.page_number(query ->> 'per_page', 50);
    pattern text := '%' || regexp_replace(coalesce(query ->> 'filter', ''), '([\\%_])', '\\\1', 'g') || '%';
    total bigint;
    users jsonb;
begin
    select count(*) into total from auth.users u
    where u.email like pattern or u.raw_user_meta_data ->> 'full_name' ilike pattern or pattern = '%%';
    select coalesce(jsonb_agg(auth_api.user_json(listed) order by listed.created_at desc, listed.id), '[]') into users
    from (
        select * from auth.users u
        where u.email like pattern or u.raw_user_meta_data ->> 'full_name' ilike pattern or pattern = '%%'
        order by u.created_at desc, u.id
        limit per_page offset (page - 1)::bigint * per_page
    ) as listed;
    perform auth_api.add_page_headers(page, per_page, total);
    return jsonb_build_object('users', users, 'aud', 'authenticated');
end
$$;
comment on function auth_api.admin_list(jsonb) is 'GET /admin/users: a page of users, newest first; filter looks in address and full_name.';

-- password_hash takes a bcrypt hash from elsewhere, so that users can be moved here with their passwords.
create or replace function auth_api.admin_hash(body jsonb) returns text
language plpgsql volatile set search_path = '' as $$
declare
    password text := body ->> 'password';
    hash text := nullif(body ->> 'password_hash', '');
begin
    if password is not null and hash is not null then
        perform auth_api.reject(400, 'validation_failed', 'Only a password or a password hash should be provided');
    elsif hash is not null and auth_api.hash_cost(hash) is null then
        perform auth_api.reject(400, 'validation_failed', 'The password hash must be bcrypt of cost 4 to 15');
    elsif octet_length(password) > 72 then
        perform auth_api.reject(400, 'validation_failed', 'bcrypt: password length exceeds 72 bytes');
    end if;
    return coalesce(hash, auth_api.hash_password(coalesce(nullif(password, ''), encode(extensions.gen_random_bytes(32), 'hex'))));
end
$$;
comment on function auth_api.admin_hash(jsonb) is 'The hash for a new user: given, of the given password, or of a random one that nobody knows.';

create or replace function auth_api.admin_create(request_body text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    body jsonb := auth_api.admin_body(request_body);
    id text := nullif(body ->> 'id', '');
    email text;
    u auth.users;
begin
    if coalesce(body ->> 'email', '') = '' then
        perform auth_api.reject(400, 'validation_failed', 'Cannot create a user without either an email or phone');
    elsif not auth_api.is_uuid(id) or id ~ '^[0-]+$' then
        perform auth_api.reject(400, 'validation_failed', 'ID must conform to the uuid v4 format');
    end if;
    email := auth_api.valid_email(body ->> 'email');
    u := auth_api.create_user(coalesce(id::uuid, gen_random_uuid()), email, auth_api.admin_hash(body),
        coalesce(nullif(btrim(body ->> 'role'), ''), 'authenticated'),
        auth_api.merge('{"provider": "email", "providers": ["email"]}', body -> 'app_metadata'),
        auth_api.merge(body -> 'user_metadata', case when (body ->> 'email_confirm')::boolean then '{"email_verified": true}'::jsonb end),
        confirmed => coalesce((body ->> 'email_confirm')::boolean, false));
    if u.id is null then
        perform auth_api.reject(422, 'email_exists', 'A user with this email address has already been registered');
    end if;
    return auth_api.user_json(auth_api.ban(u, body ->> 'ban_duration'));
end
$$;
comment on function auth_api.admin_create(text) is 'POST /admin/users: makes a user; unless email_confirm is true they cannot sign in yet.';

create or replace function auth_api.admin_update(user_id text, request_body text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    u auth.users := auth_api.admin_find(user_id);
    body jsonb := auth_api.admin_body(request_body);
    confirm boolean := coalesce((body ->> 'email_confirm')::boolean, false);
begin
    if body ->> 'password' is not null then
        perform auth_api.check_password(body ->> 'password', u.email);
        u := auth_api.change_password(u, body ->> 'password', keep_session => null);
    end if;
    if coalesce(body ->> 'email', '') <> '' and confirm then
        u := auth_api.set_email(u, auth_api.valid_email(body ->> 'email'));
    elsif coalesce(body ->> 'email', '') <> '' then
        u := auth_api.change_email(u, auth_api.valid_email(body ->> 'email'), confirmed => false);
    elsif confirm then
        u := auth_api.change_email(u, u.email, confirm);
    end if;
    update auth.users
    set role = coalesce(nullif(btrim(body ->> 'role'), ''), role),
        raw_app_meta_data = auth_api.merge(raw_app_meta_data, body -> 'app_metadata'),
        raw_user_meta_data = auth_api.merge(auth_api.merge(raw_user_meta_data, body -> 'user_metadata'), case when confirm then '{"email_verified": true}'::jsonb end),
        updated_at = kijko.now()
    where id = u.id
    returning * into u;
    perform auth_api.check_metadata(u);
    return auth_api.user_json(auth_api.ban(u, body ->> 'ban_duration'));
end
$$;
comment on function auth_api.admin_update(text, text) is 'PUT /admin/users/{id}: changes a user without any confirmation; a new password ends all sessions.';

create or replace function auth_api.soft_delete(u auth.users) returns void
language plpgsql volatile set search_path = '' as $$
begin
    delete from auth.sessions where user_id = u.id;
    u := auth_api.void_tokens(u);
    update auth.users
    set email = encode(sha256(convert_to(u.id || coalesce(u.email, ''), 'UTF8')), 'hex'),
        phone = null, email_change = '', phone_change = '', encrypted_password = null,
        confirmation_token = '', recovery_token = '', email_change_token_current = '', email_change_token_new = '', phone_change_token = '',
        raw_user_meta_data = '{}', raw_app_meta_data = '{}', deleted_at = kijko.now(), updated_at = kijko.now()
    where id = u.id and deleted_at is null;
    -- Their names, telephones and devices say who it was.
    delete from auth.mfa_factors f where f.user_id = u.id;
    delete from auth_api.known_devices d where d.user_id = u.id;
    -- Outside providers are to forget the user, too.
    update auth_api.provider_tokens t set identity_id = null, flow_state_id = null
    where t.identity_id in (select i.id from auth.identities i where i.user_id = u.id);
    update auth.identities
    set identity_data = '{}', provider_id = encode(sha256(convert_to(user_id || provider || ':' || provider_id, 'UTF8')), 'hex'), updated_at = kijko.now()
    where user_id = u.id and identity_data <> '{}';
end
$$;
comment on function auth_api.soft_delete(auth.users) is 'Takes everything personal from a user and keeps the id for what refers to it.';

create or replace function auth_api.admin_delete(user_id text, request_body text) returns json
language plpgsql volatile set search_path = '' as $$
declare
    u auth.users := auth_api.admin_find(user_id);
    body jsonb := case when btrim(request_body, E' \t\r\n') = '' then '{}'::jsonb else auth_api.parse_body(request_body, '{"should_soft_delete": "boolean"}') end;
begin
    if (body ->> 'should_soft_delete')::boolean then
        perform auth_api.soft_delete(u);
    else
        delete from auth.sessions s where s.user_id = u.id;
        delete from auth.users where id = u.id;
    end if;
    return '{}'::json;
end
$$;
comment on function auth_api.admin_delete(text, text) is 'DELETE /admin/users/{id}: deletes a user, or with should_soft_delete empties them.';

reset role;
