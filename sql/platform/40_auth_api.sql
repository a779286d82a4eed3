-- The login API on a plain Postgres: its settings, and how a function here reads a request and answers it.
-- Caddy turns every /auth/v1/* into POST /rpc/handle on a PostgREST of its own; auth_api.handle (69_auth_api_handle.sql) dispatches to one
-- function for each of GoTrue's endpoints. Run once by the superuser; safe to run again. Not applied on Supabase.
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;

create schema if not exists auth_api authorization supabase_auth_admin;
comment on schema auth_api is 'GoTrue''s HTTP API as functions; served only by the login PostgREST, which may call auth_api.handle and nothing else.';

set role supabase_auth_admin;

-- PostgREST's name for an answer of any kind: the function that returns it sets Content-Type.
select 'create domain auth_api."*/*" as text' where to_regtype('auth_api."*/*"') is null
\gexec
comment on domain auth_api."*/*" is 'The body of an answer, as it goes out.';

-- Settings -----------------------------------------------------------------------------------------------------------------------

create table if not exists auth_api.settings (
    id boolean primary key default true check (id),
    issuer text not null default 'http://127.0.0.1:54321/auth/v1',
    access_token_seconds integer not null default 3600 check (access_token_seconds between 900 and 86400),
    inactivity_seconds integer not null default 604800 check (inactivity_seconds between 3600 and 31536000),
    timebox_seconds integer check (timebox_seconds >= 3600),
    single_session_per_device boolean not null default false,
    reuse_interval interval not null default '10 seconds' check (reuse_interval between '0 seconds' and '1 minute'),
    password_min_length integer not null default 6 check (password_min_length between 6 and 72),
    password_required_characters text[] not null default '{}',
    refuse_common_passwords boolean not null default true,
    bcrypt_cost integer not null default 12 check (bcrypt_cost between 4 and 15),
    lockout_attempts integer not null default 5 check (lockout_attempts >= 0),
    lockout_seconds integer not null default 1800 check (lockout_seconds between 1 and 86400),
    disable_signup boolean not null default false,
    mailer_autoconfirm boolean not null default true,
    site_url text not null default 'http://127.0.0.1:54321' check (site_url !~ '[\u0001-\u0020\u007f]'),
    redirect_urls text[] not null default '{}',
    confirm_page boolean not null default false,
    secure_email_change boolean not null default true,
    require_reauthentication boolean not null default false,
    anonymous_users boolean not null default false,
    anonymous_per_hour integer not null default 300 check (anonymous_per_hour > 0),
    one_time_token_seconds integer not null default 3600 check (one_time_token_seconds between 60 and 86400),
    mails_per_hour integer not null default 10 check (mails_per_hour > 0),
    -- GoTrue allows a megabyte; but user_metadata travels in the header of every later request, and no server takes such a header.
    max_body_bytes integer not null default 32768 check (max_body_bytes > 0),
    -- Two hashes at once of a quarter of a second are some 480 a minute: the first figure keeps one address from taking all of them. The
    -- second is for one account from one address, and more than a person needs.
    hashes_per_minute integer not null default 240 check (hashes_per_minute > 0),
    attempts_per_5_minutes integer not null default 30 check (attempts_per_5_minutes > 0),
    refreshes_per_minute integer not null default 1800 check (refreshes_per_minute > 0),
    sends_per_minute integer not null default 300 check (sends_per_minute > 0),
    sends_per_hour integer not null default 500 check (sends_per_hour between 1 and 500000000),
    stranger_sends_per_hour integer not null default 2500 check (stranger_sends_per_hour > 0),
    verifications_per_minute integer not null default 600 check (verifications_per_minute > 0),
    codes_per_hour integer not null default 20 check (codes_per_hour > 0),
    changes_per_minute integer not null default 30 check (changes_per_minute > 0),
    hook_custom_access_token text,
    hook_password_verification_attempt text,
    hook_mfa_verification_attempt text,
    hook_send_email text
);
alter table auth_api.settings enable row level security;
comment on table auth_api.settings is 'One row: what GoTrue takes from its environment. Changes hold from the next request on.';
comment on column auth_api.settings.id is 'Always true: there is one row.';
comment on column auth_api.settings.issuer is 'The iss claim of access tokens: the public URL with /auth/v1.';
comment on column auth_api.settings.access_token_seconds is 'How long an access token is valid.';
comment on column auth_api.settings.inactivity_seconds is 'A session that was not refreshed for so long has ended.';
comment on column auth_api.settings.timebox_seconds is 'A session ends so long after the sign-in, however much it is used; null: it does not.';
comment on column auth_api.settings.single_session_per_device is 'True lets a sign-in end the user''s former session of the same program and address.';
comment on column auth_api.settings.reuse_interval is 'How long a used refresh token still returns the session''s active one, for clients that refresh in parallel.';
comment on column auth_api.settings.password_min_length is 'Shorter passwords are refused with weak_password. In bytes, as in GoTrue.';
comment on column auth_api.settings.password_required_characters is 'A new password has at least one character of each of these.';
comment on column auth_api.settings.refuse_common_passwords is 'True refuses new passwords that a guesser would try early (auth_api.common_passwords).';
comment on column auth_api.settings.bcrypt_cost is 'The cost of new password hashes: each step takes twice the time. Lower ones are replaced at the next sign-in.';
comment on column auth_api.settings.lockout_attempts is 'Wrong passwords in a row that lock an account; 0: none do.';
comment on column auth_api.settings.lockout_seconds is 'How long an account is locked, and how long wrong passwords are remembered.';
comment on column auth_api.settings.disable_signup is 'True refuses POST /signup; the admin API can still make users.';
comment on column auth_api.settings.mailer_autoconfirm is 'True takes every address for confirmed; false gives no session before the address is confirmed by mail.';
comment on column auth_api.settings.site_url is 'Where a link leads when the request names no target, or one that is not allowed.';
comment on column auth_api.settings.redirect_urls is 'Globs of the other targets that a request may name; separators are "." and "/".';
comment on column auth_api.settings.confirm_page is 'True answers a link with a page of one button, so that programs that open links in mails use up none.';
comment on column auth_api.settings.secure_email_change is 'True asks both addresses to confirm a change, false the new one alone.';
comment on column auth_api.settings.require_reauthentication is 'True asks for a code by mail before a password is changed in a session of more than a day.';
comment on column auth_api.settings.anonymous_users is 'True allows sign-in without an address.';
comment on column auth_api.settings.anonymous_per_hour is 'Anonymous sign-ins, for each client address.';
comment on column auth_api.settings.one_time_token_seconds is 'How long a link and a code of a mail are valid.';
comment on column auth_api.settings.mails_per_hour is 'Mails that requests can cause, for each address, whether it has an account or not.';
comment on column auth_api.settings.max_body_bytes is 'Larger request bodies are refused.';
comment on column auth_api.settings.hashes_per_minute is 'Requests that hash a password, for each client address.';
comment on column auth_api.settings.attempts_per_5_minutes is 'Password logins for each pair of client network and account: the account stays open to its owner elsewhere.';
comment on column auth_api.settings.refreshes_per_minute is 'Token refreshes, for each client address.';
comment on column auth_api.settings.sends_per_minute is 'Requests that cause mail, for each client address.';
comment on column auth_api.settings.sends_per_hour is 'Requests that cause mail, for each client address: no network can use up the mails of all, or make users without end by POST /otp. An IPv6 /48 has four times as many.';
comment on column auth_api.settings.stranger_sends_per_hour is 'Requests of all clients that may mail an address without an account; below what mails of login have in all, so that whoever signs up made-up addresses cannot stop recovery mails.';
comment on column auth_api.settings.verifications_per_minute is 'Links, codes and PKCE exchanges, for each client address.';
comment on column auth_api.settings.codes_per_hour is 'Codes that can be tried, for each address: a new mail brings five new tries, this bounds their sum.';
comment on column auth_api.settings.changes_per_minute is 'Requests by which one user changes their account: each may write max_body_bytes of user_metadata.';
comment on column auth_api.settings.hook_custom_access_token is 'The function that may change the claims of access tokens.';
comment on column auth_api.settings.hook_password_verification_attempt is 'The function that hears of each password that was looked at, and may reject it.';
comment on column auth_api.settings.hook_mfa_verification_attempt is 'The function that hears of each code of a second factor, and may reject it.';
comment on column auth_api.settings.hook_send_email is 'The function that sends mails of login instead of the queue.';
insert into auth_api.settings default values on conflict do nothing;
grant select, update on auth_api.settings to :"owner";
grant usage on schema auth_api to :"owner";

-- Reading a request --------------------------------------------------------------------------------------------------------------

create or replace function auth_api.header(name text) returns text
language sql stable set search_path = '' as $$
    select nullif(current_setting('request.headers', true), '')::jsonb ->> header.name
$$;
comment on function auth_api.header(text) is 'A request header (name in lower case), or null.';

create or replace function auth_api.url_decode(value text) returns text
language sql immutable set search_path = '' as $$
    select coalesce(convert_from(string_agg(
        case when piece[1] ~ '^%[0-9a-fA-F]{2}$' then decode(substr(piece[1], 2), 'hex') else convert_to(piece[1], 'UTF8') end,
        ''::bytea order by n), 'UTF8'), '')
    from regexp_matches(replace(value, '+', ' '), '%[0-9a-fA-F]{2}|[^%]+|%', 'g') with ordinality as pieces (piece, n)
$$;
comment on function auth_api.url_decode(text) is 'Undoes percent encoding; bytes that are no UTF-8 are an error (class 22).';

create or replace function auth_api.query_parameters(uri text) returns jsonb
language sql immutable set search_path = '' as $$
    select coalesce(jsonb_object_agg(auth_api.url_decode(split_part(pair, '=', 1)), auth_api.url_decode(substr(pair, strpos(pair || '=', '=') + 1))), '{}')
    from string_to_table(split_part(uri, '?', 2), '&') as pair
    where pair <> ''
$$;
comment on function auth_api.query_parameters(text) is 'The query of a URI as an object; of a repeated name the last value.';

create or replace function auth_api.is_uuid(value text) returns boolean
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select value ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
$$;
comment on function auth_api.is_uuid(text) is 'Whether a text is a UUID in its usual form, of which Postgres accepts several; null of null.';

-- A body is an object, or null for none of its fields, as Go's decoder has it. `types` names the fields an endpoint reads with their JSON
-- types; an unknown field is ignored, a known one of another type refused: Go would not decode it.
create or replace function auth_api.parse_body(body text, types jsonb) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
    parsed jsonb;
    wrong text;
begin
    if octet_length(body) > (select s.max_body_bytes from auth_api.settings s) then
        perform auth_api.reject(413, 'request_entity_too_large', 'Request body too large');
    end if;
    begin
        parsed := body::jsonb;
    exception when data_exception or program_limit_exceeded then -- not JSON, \u0000, nested too deep
        parsed := null;
    end;
    if parsed is null or jsonb_typeof(parsed) not in ('object', 'null') then
        perform auth_api.reject(400, 'bad_json', 'Could not parse request body as JSON');
    end if;
    if jsonb_typeof(parsed) = 'null' then
        return '{}'::jsonb;
    end if;
    -- 1e131071 is a text of 131,072 digits. Go's decoder refuses such numbers, too. Most bodies have none that looks like it.
    if body ~ '[eE][+-]?\d{4}' and exists (
        select 1 from jsonb_path_query(parsed, 'strict $.** ? (@.type() == "number")') as n (value)
        where abs(n.value::numeric) >= 1e400 or scale(n.value::numeric) > 400
    ) then
        perform auth_api.reject(400, 'bad_json', 'Could not parse request body as JSON: a number has more than 400 digits');
    end if;
    select key into wrong
    from jsonb_each_text(types) as wanted (key, type)
    where jsonb_typeof(parsed -> key) not in (type, 'null')
    limit 1;
    if wrong is not null then
        perform auth_api.reject(400, 'bad_json', format('Could not parse request body as JSON: %s must be of type %s', wrong, types ->> wrong));
    end if;
    return parsed;
end
$$;
comment on function auth_api.parse_body(text, jsonb) is 'The request body as an object whose named fields have the types asked for; anything else is refused with bad_json.';

-- Answering ----------------------------------------------------------------------------------------------------------------------

create or replace function auth_api.knows_error_codes() returns boolean
language sql stable set search_path = '' as $$
    select coalesce(version ~ '^\d{4}-\d\d-\d\d$' and version >= '2024-01-01', false)
    from auth_api.header('x-supabase-api-version') as version
$$;
comment on function auth_api.knows_error_codes() is 'Whether the client asked for API version 2024-01-01 or later, which has the error code in "code"; before that it was the HTTP status.';

-- A refusal that must leave a trace returns this: what was written before it is committed.
create or replace function auth_api.refusal(status integer, code text, message text, more jsonb default '{}', headers jsonb default '{}') returns json
language plpgsql volatile set search_path = '' as $$
begin
    perform set_config('response.status', status::text, true);
    perform kijko.add_header('X-Sb-Error-Code', code);
    perform kijko.add_header(key, value) from jsonb_each_text(headers);
    if auth_api.knows_error_codes() then
        return jsonb_build_object('code', code, 'message', message) || more;
    end if;
    return jsonb_build_object('code', status, 'error_code', code, 'msg', message) || more;
end
$$;
comment on function auth_api.refusal(integer, text, text, jsonb, jsonb) is 'Sets status and headers of a refusal and returns its body in the shape the client''s API version expects.';

-- Everything else refuses with this: it never returns, and what the endpoint wrote is rolled back. SQLSTATE KJA01 exists between here and
-- auth_api.handle only.
create or replace function auth_api.reject(status integer, code text, message text, more jsonb default '{}', headers jsonb default '{}') returns void
language plpgsql volatile set search_path = '' as $$
begin
    raise sqlstate 'KJA01' using
        message = message,
        detail = jsonb_build_object('status', status, 'code', code, 'more', more, 'headers', headers);
end
$$;
comment on function auth_api.reject(integer, text, text, jsonb, jsonb) is 'Ends the request with a refusal and undoes what it wrote. Not for refusals that must leave a trace: see auth_api.refusal.';

create or replace function auth_api.reject_too_many(retry_after integer, code text default 'over_request_rate_limit', message text default 'Request rate limit reached') returns void
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select auth_api.reject(429, code, message, headers => jsonb_build_object('Retry-After', greatest(retry_after, 1)::text))
$$;
comment on function auth_api.reject_too_many(integer, text, text) is 'Refuses one request too many with 429 and Retry-After.';

-- Rate limits live in shared memory, so an attempt counts even when its transaction rolls back.
create or replace function auth_api.count_request(key text, rate integer, per interval) returns integer
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select case when allowed is not true then greatest(retry_after, 1) end from kijko.rate_limit(key, rate, per, rate)
$$;
comment on function auth_api.count_request(text, integer, interval) is 'Counts one request against a rate limit; null when it is allowed, else the seconds until the next one is.';

create or replace function auth_api.charge(key text, rate integer, per interval) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    retry_after constant integer := auth_api.count_request(key, rate, per);
begin
    if retry_after is not null then
        perform auth_api.reject_too_many(retry_after);
    end if;
end
$$;
comment on function auth_api.charge(text, integer, interval) is 'Counts one request against a rate limit and refuses with 429 and Retry-After when there were too many.';

create or replace function auth_api.charge_address(kind text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    s auth_api.settings;
begin
    select * into s from auth_api.settings;
    perform auth_api.charge(
        format('auth:%s:%s', kind, kijko.client_network()),
        case kind when 'hash' then s.hashes_per_minute when 'refresh' then s.refreshes_per_minute when 'send' then s.sends_per_minute
            when 'verify' then s.verifications_per_minute when 'anonymous' then s.anonymous_per_hour end,
        case kind when 'anonymous' then '1 hour' else '1 minute' end::interval);
end
$$;
comment on function auth_api.charge_address(text) is 'Counts one request of a kind (hash, refresh, send, verify, anonymous) against the network of its client.';

create or replace function auth_api.rfc3339(value timestamptz) returns text
language sql stable set search_path = '' as $$
    select to_char(value at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;
comment on function auth_api.rfc3339(timestamptz) is 'A point in time as GoTrue writes it: RFC 3339, in UTC.';

reset role;
