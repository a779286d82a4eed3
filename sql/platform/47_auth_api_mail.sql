-- The login API on a plain Postgres: what goes out by mail. The domain's private.mail_send queues a mail in the transaction of the request.
-- What a caller can see or time never depends on whether an address has an account: limits count every address, and for an unknown one
-- the work of a mail is done and undone.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

-- One site has 65,536 networks of IPv6: were each counted alone, it could use up what all have.
create or replace function auth_api.client_site() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select network(set_masklen(n.network, 48))::text
    from (select kijko.client_network()::inet) as n (network)
    where family(n.network) = 6
$$;
comment on function auth_api.client_site() is 'The IPv6 /48 of the client, which one site gets; null for IPv4.';

-- Requests of a network count whatever their address: were it only those that mail a stranger, the refusal would say who has an account. What may
-- go to strangers has a share of its own, by endpoint: whoever uses it up with made-up addresses stops sign-ups, and no recovery.
create or replace function auth_api.charge_mail(address text, to_strangers boolean default false) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    site constant text := auth_api.client_site();
    s auth_api.settings;
    retry_after integer;
begin
    perform auth_api.charge_address('send');
    select * into s from auth_api.settings;
    retry_after := coalesce(
        auth_api.count_request(format('auth:sends:%s', kijko.client_network()), s.sends_per_hour, '1 hour'),
        case when site is not null then auth_api.count_request('auth:sends:site:' || site, 4 * s.sends_per_hour, '1 hour') end,
        auth_api.count_request('auth:mail:' || md5(address), s.mails_per_hour, '1 hour'),
        case when to_strangers then auth_api.count_request('auth:sends:strangers', s.stranger_sends_per_hour, '1 hour') end);
    if retry_after is not null then
        perform auth_api.refuse_mail(retry_after);
    end if;
end
$$;
comment on function auth_api.charge_mail(text, boolean) is 'Counts a request that causes a mail against the client''s network and the address, and what may go to an address without an account against the share of those, too. Refuses with 429 when there were too many.';

create or replace function auth_api.mail_locale(u auth.users) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(
        lower(substring(u.raw_user_meta_data ->> 'locale' from '^[A-Za-z]{2}')),
        lower(substring(auth_api.header('accept-language') from '^[A-Za-z]{2}')),
        'en')
$$;
comment on function auth_api.mail_locale(auth.users) is 'The language of a user''s mails: user_metadata.locale, else the client''s first language.';

create or replace function auth_api.link(token text, action text, redirect_to text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select s.issuer || '/verify?token=' || token || '&type=' || action || '&redirect_to=' || auth_api.url_encode(redirect_to) from auth_api.settings s
$$;
comment on function auth_api.link(text, text, text) is 'The link of a mail: the public URL, never the Host header of a request.';

create or replace function auth_api.refuse_mail(retry_after integer) returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select auth_api.reject_too_many(retry_after, 'over_email_send_rate_limit',
        format('For security purposes, you can only request this after %s seconds.', greatest(retry_after, 1)))
$$;
comment on function auth_api.refuse_mail(integer) is 'Refuses a request that would cause one mail too many.';

-- The domain may not be installed. Its refusals by rate are errors of the domain: outside a request of the API their message begins with a code.
create or replace function auth_api.queue_mail(template text, recipient text, locale text, data jsonb, pretend boolean default false) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    hook constant text := (select s.hook_send_email from auth_api.settings s);
    message text;
begin
    if hook is not null then -- counts no mail, so an address without an account must not either
        perform auth_api.email_hook(hook, template, recipient, data) where not pretend;
    elsif pretend then
        perform private.mail_pretend(recipient, template, locale, data);
        raise sqlstate 'KJA02'; -- undoes it
    else
        perform private.mail_send(recipient, template, locale, data);
    end if;
exception
    when sqlstate 'KJA02' then
        null;
    when undefined_function or invalid_schema_name or insufficient_privilege then
        get stacked diagnostics message = message_text;
        raise warning 'auth_api: no mail can be queued: %', message;
        perform auth_api.reject(503, 'mail_unavailable', 'Mail is not set up on this server');
    when others then
        get stacked diagnostics message = message_text;
        if message like 'rate\_limited:%' then
            perform auth_api.refuse_mail(private.mail_limited(recipient));
        end if;
        raise;
end
$$;
comment on function auth_api.queue_mail(text, text, text, jsonb, boolean) is 'Queues a mail with the transaction of the request, or does the same work and undoes it.';

create or replace function auth_api.mail_data(u auth.users, token text, code text, action text, redirect_to text) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
    select jsonb_build_object(
        'user_id', u.id,
        'token', code,
        'token_hash', token,
        'site_url', s.site_url,
        'redirect_to', redirect_to,
        'email', u.email,
        'new_email', u.email_change,
        'link', auth_api.link(token, action, redirect_to))
    from auth_api.settings s
$$;
comment on function auth_api.mail_data(auth.users, text, text, text, text) is 'The variables of a mail''s template.';

-- The caller has locked the user.
create or replace function auth_api.mail_token(u auth.users, template text, action text, type auth.one_time_token_type, recipient text, redirect_to text,
    flow uuid default null, keeps_password boolean default false, pretend boolean default false) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    issued record;
begin
    select * into issued from auth_api.issue_token(u, type, recipient, flow, keeps_password);
    perform auth_api.queue_mail(template, recipient, auth_api.mail_locale(u), auth_api.mail_data(u, issued.token, issued.code, action, redirect_to), pretend);
    select * into u from auth.users where id = u.id;
    return u;
end
$$;
comment on function auth_api.mail_token(auth.users, text, text, auth.one_time_token_type, text, text, uuid, boolean, boolean) is 'Makes a token and mails its link and its code; pretend makes the token and mails nothing.';

create or replace function auth_api.create_decoy(data jsonb, hash text default null) returns auth.users
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select auth_api.create_email_user(encode(extensions.gen_random_bytes(16), 'hex') || '@invalid.example', hash, data)
$$;
comment on function auth_api.create_decoy(jsonb, text) is 'A user with an address that nobody has. Its caller undoes it.';

-- For every address the same statements: a decoy is made and undone, one user is locked, one token is made, one mail is written. An address with
-- an account keeps the last two, one without loses them with its decoy.
create or replace function auth_api.mail_address(u auth.users, body jsonb, template text, action text, type auth.one_time_token_type, address text,
    redirect_to text, method text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    known constant boolean := u.id is not null;
    decoy auth.users;
begin
    begin
        decoy := auth_api.create_decoy(body -> 'data');
        if not known then
            decoy := auth_api.lock_user_alone(decoy.id);
            perform auth_api.mail_token(decoy, template, action, type, address, redirect_to, auth_api.begin_flow(decoy, body, method), pretend => true);
        end if;
        raise sqlstate 'KJA02';
    exception when sqlstate 'KJA02' then
        null;
    end;
    if known then
        u := auth_api.lock_user_alone(u.id);
        if u.id is not null then -- not deleted meanwhile
            perform auth_api.mail_token(u, template, action, type, address, redirect_to, auth_api.begin_flow(u, body, method));
        end if;
    end if;
end
$$;
comment on function auth_api.mail_address(auth.users, jsonb, text, text, auth.one_time_token_type, text, text, text) is 'Mails a link and a code to the user of an address; for an address without one, u null, it does the same work and undoes it.';

create or replace function auth_api.recover(query jsonb, request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"email": "string", "code_challenge": "string", "code_challenge_method": "string"}');
    address text := auth_api.valid_email(body ->> 'email');
    target text := auth_api.redirect_target(query);
begin
    perform auth_api.check_challenge(body);
    perform auth_api.charge_mail(address);
    perform auth_api.mail_address(auth_api.find_by_email(address), body, 'recovery', 'recovery', 'recovery_token', address, target, 'recovery');
    return '{}';
end
$$;
comment on function auth_api.recover(jsonb, text) is 'POST /recover: mails a link and a code that sign in, for who forgot the password.';

-- What the mail confirms is the latest sign-up of the address, and whether that set the password.
create or replace function auth_api.resend_confirmation(u auth.users, target text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    former auth_api.one_time_codes;
begin
    select c.* into former
    from auth.one_time_tokens t join auth_api.one_time_codes c on c.token_id = t.id
    where t.user_id = u.id and t.token_type = 'confirmation_token';
    perform auth_api.mail_token(u, 'confirmation', 'signup', 'confirmation_token', u.email, target, former.flow_state_id, coalesce(former.keeps_password, true));
end
$$;
comment on function auth_api.resend_confirmation(auth.users, text) is 'Mails the confirmation of a sign-up once more; the former link is void.';

create or replace function auth_api.resend(query jsonb, request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    body jsonb := auth_api.parse_body(request_body, '{"type": "string", "email": "string", "phone": "string"}');
    type text := coalesce(body ->> 'type', '');
    target text := auth_api.redirect_target(query);
    address text;
    u auth.users;
begin
    if type in ('sms', 'phone_change') or coalesce(body ->> 'phone', '') <> '' then
        perform auth_api.check_one_address(body);
        perform auth_api.reject(400, 'phone_provider_disabled', 'Phone logins are disabled');
    elsif type not in ('signup', 'email_change') then
        perform auth_api.reject(400, 'validation_failed', 'Missing one of these types: signup, email_change, sms, phone_change');
    end if;
    address := auth_api.valid_email(body ->> 'email');
    perform auth_api.charge_mail(address, to_strangers => true);
    u := auth_api.lock_user_alone((auth_api.find_by_email(address)).id);
    if type = 'signup' and u.id is not null and u.email_confirmed_at is null then
        perform auth_api.resend_confirmation(u, target);
    elsif type = 'email_change' and coalesce(u.email_change, '') <> '' then
        perform auth_api.resend_email_change(u, target);
    else
        perform auth_api.mail_address(null, '{}', 'confirmation', 'signup', 'confirmation_token', address, target, 'email/signup');
    end if;
    return '{}';
end
$$;
comment on function auth_api.resend(jsonb, text) is 'POST /resend: mails a confirmation once more.';

reset role;
