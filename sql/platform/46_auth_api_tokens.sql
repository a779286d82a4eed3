-- The login API on a plain Postgres: one-time tokens. A mail carries two: a link with a long token and a code of six digits to type. In
-- GoTrue the link's token is the stored hash of address and code, so that a reader of the table holds every link, and a guesser of codes
-- has a second door that counts nothing. Here the two are independent: the link's token has 224 random bits and only its hash is stored; the
-- code is burnt after five wrong tries.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create table if not exists auth_api.one_time_codes (
    token_id uuid primary key references auth.one_time_tokens on delete cascade,
    code_hash text not null,
    keeps_password boolean not null default false,
    flow_state_id uuid references auth.flow_state on delete set null
);
alter table auth_api.one_time_codes enable row level security;
comment on table auth_api.one_time_codes is 'What GoTrue''s table of one-time tokens has no column for.';
comment on column auth_api.one_time_codes.token_id is 'The token of the same mail.';
comment on column auth_api.one_time_codes.code_hash is 'SHA-256 of the token''s id, the address and the code. A reader of this table can try all codes against it: it keeps them from sight, the few minutes and tries keep them from use.';
comment on column auth_api.one_time_codes.keeps_password is 'Whether using the token shows that the address belongs to who set the password: true for a sign-up''s own mail.';
comment on column auth_api.one_time_codes.flow_state_id is 'The PKCE flow that asked for the mail.';
create index if not exists one_time_codes_flow_state_id_idx on auth_api.one_time_codes (flow_state_id);

create table if not exists auth_api.code_attempts (
    subject uuid primary key,
    attempts integer not null check (attempts > 0),
    tried_at timestamptz not null
);
create index if not exists code_attempts_tried_at_idx on auth_api.code_attempts (tried_at);
alter table auth_api.code_attempts enable row level security;
comment on table auth_api.code_attempts is 'Codes that were tried, for tokens and for addresses that have none, by the same statements: the time of an answer does not say which. Rows go some time after the last try.';
comment on column auth_api.code_attempts.subject is 'The token; or of an address without one the MD5 of the address. No foreign key: the second kind has no row.';
comment on column auth_api.code_attempts.attempts is 'How often a code was tried.';
comment on column auth_api.code_attempts.tried_at is 'When one was last tried.';

create or replace function auth_api.random_code() returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    random bytea;
    drawn bigint;
begin
    loop
        random := extensions.gen_random_bytes(4);
        drawn := (get_byte(random, 0)::bigint << 24) | (get_byte(random, 1) << 16) | (get_byte(random, 2) << 8) | get_byte(random, 3);
        -- 2^32 is no multiple of a million: what is above the last multiple would favour small codes.
        exit when drawn < 4294000000;
    end loop;
    return lpad((drawn % 1000000)::text, 6, '0');
end
$$;
comment on function auth_api.random_code() is 'Six digits, all equally likely.';

create or replace function auth_api.token_hash(token text) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select coalesce(substring(token from '^pkce_'), '') || encode(sha224(convert_to(token, 'UTF8')), 'hex')
$$;
comment on function auth_api.token_hash(text) is 'What is stored of the token in a link.';

create or replace function auth_api.code_hash(token_id uuid, address text, code text) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select encode(sha256(convert_to(token_id || ':' || address || ':' || code, 'UTF8')), 'hex')
$$;
comment on function auth_api.code_hash(uuid, text, text) is 'What is stored of a code.';

-- GoTrue keeps the hash in auth.users as well, and when the mail went out.
create or replace function auth_api.note_token(u auth.users, type auth.one_time_token_type, hash text) returns auth.users
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    moment constant timestamptz := case when hash <> '' then kijko.now() end;
begin
    update auth.users as users
    set confirmation_token = case type when 'confirmation_token' then hash else users.confirmation_token end,
        confirmation_sent_at = case type when 'confirmation_token' then coalesce(moment, users.confirmation_sent_at) else users.confirmation_sent_at end,
        recovery_token = case type when 'recovery_token' then hash else users.recovery_token end,
        recovery_sent_at = case type when 'recovery_token' then coalesce(moment, users.recovery_sent_at) else users.recovery_sent_at end,
        email_change_token_new = case type when 'email_change_token_new' then hash else users.email_change_token_new end,
        email_change_token_current = case type when 'email_change_token_current' then hash else users.email_change_token_current end,
        email_change_sent_at = case when type in ('email_change_token_new', 'email_change_token_current') then coalesce(moment, users.email_change_sent_at) else users.email_change_sent_at end,
        reauthentication_token = case type when 'reauthentication_token' then hash else users.reauthentication_token end,
        reauthentication_sent_at = case type when 'reauthentication_token' then coalesce(moment, users.reauthentication_sent_at) else users.reauthentication_sent_at end,
        updated_at = kijko.now()
    where users.id = u.id
    returning * into u;
    return u;
end
$$;
comment on function auth_api.note_token(auth.users, auth.one_time_token_type, text) is 'Writes a token''s hash into its column of auth.users, or empties it when the token is used.';

-- The caller has locked the user, so that two mails of one kind leave one valid token: the one that was sent last.
create or replace function auth_api.issue_token(u auth.users, type auth.one_time_token_type, address text, flow uuid default null, keeps_password boolean default false,
    out token text, out code text)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    id uuid := gen_random_uuid();
    moment timestamp := kijko.now() at time zone 'UTC';
begin
    token := case when flow is null then '' else 'pkce_' end || encode(extensions.gen_random_bytes(28), 'hex');
    code := auth_api.random_code();
    delete from auth.one_time_tokens t where t.user_id = u.id and t.token_type = type;
    insert into auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to, created_at, updated_at)
    values (id, u.id, type, auth_api.token_hash(token), address, moment, moment);
    insert into auth_api.one_time_codes (token_id, code_hash, keeps_password, flow_state_id)
    values (id, auth_api.code_hash(id, address, code), keeps_password, flow);
    perform auth_api.note_token(u, type, auth_api.token_hash(token));
end
$$;
comment on function auth_api.issue_token(auth.users, auth.one_time_token_type, text, uuid, boolean) is 'A new token of a user for one purpose, in its two forms; the former one of that purpose is void.';

create or replace function auth_api.is_fresh(token auth.one_time_tokens) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select token.created_at at time zone 'UTC' + make_interval(secs => s.one_time_token_seconds) > kijko.now() from auth_api.settings s
$$;
comment on function auth_api.is_fresh(auth.one_time_tokens) is 'Whether a token has not expired.';

-- Of two requests with one token the second waits for the user's lock, and then its delete finds nothing.
create or replace function auth_api.use_token(token_id uuid, out u auth.users, out token auth.one_time_tokens, out code auth_api.one_time_codes)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    u := auth_api.lock_user((select t.user_id from auth.one_time_tokens t where t.id = use_token.token_id));
    select c.* into code from auth_api.one_time_codes c where c.token_id = use_token.token_id;
    delete from auth.one_time_tokens t where t.id = use_token.token_id returning * into token;
    if token.id is not null then
        u := auth_api.note_token(u, token.token_type, '');
    end if;
end
$$;
comment on function auth_api.use_token(uuid) is 'Takes a token out of circulation and returns whose it was; its id is null when somebody was faster.';

create or replace function auth_api.token_of_link(token text, types auth.one_time_token_type[]) returns uuid
language sql stable set search_path = pg_catalog, pg_temp as $$
    select t.id from auth.one_time_tokens t
    where t.token_hash = auth_api.token_hash(token) and t.token_type = any (types) and auth_api.is_fresh(t)
$$;
comment on function auth_api.token_of_link(text, auth.one_time_token_type[]) is 'The valid token that a link carries, or null.';

-- Counted before it is compared, and the row stays locked until the end of the transaction: of many tries at once five are compared.
create or replace function auth_api.count_code(subject uuid) returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    counted integer;
begin
    insert into auth_api.code_attempts as a (subject, attempts, tried_at) values (count_code.subject, 1, kijko.now())
    on conflict on constraint code_attempts_pkey do update set attempts = a.attempts + 1, tried_at = excluded.tried_at
    returning a.attempts into counted;
    -- A few of those whose token has expired, so that the table does not grow.
    delete from auth_api.code_attempts a where a.subject in (
        select o.subject from auth_api.code_attempts o
        where o.tried_at < kijko.now() - make_interval(secs => (select s.one_time_token_seconds from auth_api.settings s))
        order by o.tried_at limit 10 for update skip locked);
    return counted;
end
$$;
comment on function auth_api.count_code(uuid) is 'Counts a code that is tried; returns which try it is.';

-- What an address that was mailed nothing has instead of a token: tries of it are counted, and no code is right.
create or replace function auth_api.decoy_token(address text) returns auth.one_time_tokens
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    decoy auth.one_time_tokens;
begin
    decoy.id := md5('auth_api.decoy_token ' || address)::uuid;
    decoy.relates_to := address;
    decoy.created_at := kijko.now() at time zone 'UTC';
    return decoy;
end
$$;
comment on function auth_api.decoy_token(text) is 'A token that is in no table.';

-- One address can have several tokens: a sign-up and a recovery, or a change of address that two users began. A try counts against each, and what
-- is written here has to stay: the caller refuses by an answer and not by raising. Only the code is burnt: if its link were, too, anybody
-- could keep a person from recovering their account. Users are not locked before the code is right (auth_api.use_token): a user with many
-- sessions would take longer.
create or replace function auth_api.token_of_code(address text, types auth.one_time_token_type[], guess text) returns uuid
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    max_attempts constant integer := 5;
    candidates auth.one_time_tokens[] := array(
        select t from auth.one_time_tokens t where t.relates_to = address and t.token_type = any (types) order by t.id);
    candidate auth.one_time_tokens;
    attempt integer;
    code text;
begin
    if candidates = '{}' then
        candidates := array[auth_api.decoy_token(address)];
    end if;
    foreach candidate in array candidates loop
        attempt := auth_api.count_code(candidate.id);
        select c.code_hash into code from auth_api.one_time_codes c where c.token_id = candidate.id;
        if coalesce(code, '') = auth_api.code_hash(candidate.id, address, guess) and attempt <= max_attempts and auth_api.is_fresh(candidate) then
            return candidate.id;
        end if;
    end loop;
    return null;
end
$$;
comment on function auth_api.token_of_code(text, auth.one_time_token_type[], text) is 'The valid token that this code was mailed with to this address, or null; five wrong codes burn a code, and its link stays valid.';

reset role;
