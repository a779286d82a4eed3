-- The tables of GoTrue that a password login needs, for a plain Postgres. Run once by the superuser; safe to run again.
-- Not applied on Supabase, where GoTrue makes them itself. Names, types, defaults and generated columns are GoTrue's to the letter, so
-- that a data-only dump of auth.users and auth.identities restores there (docs/internals/login.md); tests/journeys/auth_schema.test.mjs pins them down.
-- One-time tokens and second factors are in the next files. GoTrue's tables for SSO and for its own OAuth server are left out: nothing here would fill them.
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;

create schema if not exists auth authorization supabase_auth_admin;
comment on schema auth is 'Who can sign in: GoTrue''s tables, and functions that identify the caller for policies.';

-- Owned by a role that is no superuser: a trigger that the domain puts on auth.users runs with this role's rights at most.
set role supabase_auth_admin;

select 'create type auth.aal_level as enum (''aal1'', ''aal2'', ''aal3'')'
where to_regtype('auth.aal_level') is null
\gexec
comment on type auth.aal_level is 'Authenticator assurance level: aal1 is one factor (the password), aal2 two.';

create table if not exists auth.users (
    instance_id uuid,
    id uuid not null constraint users_pkey primary key,
    aud varchar(255),
    role varchar(255),
    email varchar(255),
    encrypted_password varchar(255),
    email_confirmed_at timestamptz,
    invited_at timestamptz,
    confirmation_token varchar(255),
    confirmation_sent_at timestamptz,
    recovery_token varchar(255),
    recovery_sent_at timestamptz,
    email_change_token_new varchar(255),
    email_change varchar(255),
    email_change_sent_at timestamptz,
    last_sign_in_at timestamptz,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    is_super_admin boolean,
    created_at timestamptz,
    updated_at timestamptz,
    phone text default null constraint users_phone_key unique,
    phone_confirmed_at timestamptz,
    phone_change text default '',
    phone_change_token varchar(255) default '',
    phone_change_sent_at timestamptz,
    confirmed_at timestamptz generated always as (least(email_confirmed_at, phone_confirmed_at)) stored,
    email_change_token_current varchar(255) default '',
    email_change_confirm_status smallint default 0
        constraint users_email_change_confirm_status_check check (email_change_confirm_status between 0 and 2),
    banned_until timestamptz,
    reauthentication_token varchar(255) default '',
    reauthentication_sent_at timestamptz,
    is_sso_user boolean not null default false,
    deleted_at timestamptz,
    is_anonymous boolean not null default false
);
create index if not exists users_instance_id_idx on auth.users (instance_id);
create index if not exists users_instance_id_email_idx on auth.users (instance_id, lower(email::text));
create index if not exists users_is_anonymous_idx on auth.users (is_anonymous);
create unique index if not exists users_email_partial_key on auth.users (email) where is_sso_user = false;
create unique index if not exists confirmation_token_idx on auth.users (confirmation_token) where confirmation_token::text !~ '^[0-9 ]*$';
create unique index if not exists recovery_token_idx on auth.users (recovery_token) where recovery_token::text !~ '^[0-9 ]*$';
create unique index if not exists email_change_token_current_idx on auth.users (email_change_token_current) where email_change_token_current::text !~ '^[0-9 ]*$';
create unique index if not exists email_change_token_new_idx on auth.users (email_change_token_new) where email_change_token_new::text !~ '^[0-9 ]*$';
create unique index if not exists reauthentication_token_idx on auth.users (reauthentication_token) where reauthentication_token::text !~ '^[0-9 ]*$';

comment on table auth.users is 'One row for each person who can sign in. GoTrue''s table; the domain refers to it by id only.';
comment on column auth.users.instance_id is 'All zeros. GoTrue looks users up by it, so a row without it cannot sign in there.';
comment on column auth.users.id is 'The subject (sub) of access tokens and what auth.uid() returns.';
comment on column auth.users.aud is 'The audience (aud) of access tokens: authenticated.';
comment on column auth.users.role is 'The database role of access tokens: authenticated, unless the admin API says otherwise.';
comment on column auth.users.email is 'Lower case; unique among users that do not come from SSO.';
comment on column auth.users.encrypted_password is 'A bcrypt hash ($2a$). Null or empty: no password login.';
comment on column auth.users.email_confirmed_at is 'When the address was confirmed; null refuses password login with email_not_confirmed.';
comment on column auth.users.invited_at is 'When the user was invited by mail.';
comment on column auth.users.confirmation_token is 'Hash of a pending confirmation link. Empty, never null: GoTrue cannot read null here. auth.one_time_tokens decides.';
comment on column auth.users.confirmation_sent_at is 'When the confirmation mail went out.';
comment on column auth.users.recovery_token is 'Hash of a pending password recovery link; empty, never null.';
comment on column auth.users.recovery_sent_at is 'When the recovery mail went out.';
comment on column auth.users.email_change_token_new is 'Hash of the link sent to the new address of a pending change; empty, never null.';
comment on column auth.users.email_change is 'The new address of a pending change; empty, never null.';
comment on column auth.users.email_change_sent_at is 'When the mails of a pending address change went out.';
comment on column auth.users.last_sign_in_at is 'When the user last signed in or refreshed a session.';
comment on column auth.users.raw_app_meta_data is 'app_metadata of the API and the token: only the admin API writes it, so policies may rely on it.';
comment on column auth.users.raw_user_meta_data is 'user_metadata of the API and the token: the user writes it, so no policy may rely on it.';
comment on column auth.users.is_super_admin is 'Unused; GoTrue keeps it for old installations.';
comment on column auth.users.created_at is 'When the user was made.';
comment on column auth.users.updated_at is 'When the row last changed.';
comment on column auth.users.phone is 'Unused here: phone login is off.';
comment on column auth.users.phone_confirmed_at is 'Unused here: phone login is off.';
comment on column auth.users.phone_change is 'Unused here: phone login is off.';
comment on column auth.users.phone_change_token is 'Unused here: phone login is off.';
comment on column auth.users.phone_change_sent_at is 'Unused here: phone login is off.';
comment on column auth.users.confirmed_at is 'The earlier of the two confirmations. Generated, so no dump carries it.';
comment on column auth.users.email_change_token_current is 'Hash of the link sent to the old address of a pending change.';
comment on column auth.users.email_change_confirm_status is 'How many of the two addresses of a pending change have confirmed.';
comment on column auth.users.banned_until is 'Until then the user can neither sign in nor refresh.';
comment on column auth.users.reauthentication_token is 'Hash of a pending reauthentication code.';
comment on column auth.users.reauthentication_sent_at is 'When the reauthentication code went out.';
comment on column auth.users.is_sso_user is 'From SSO: such a user may share an address with another.';
comment on column auth.users.deleted_at is 'Soft deletion: address and metadata are hashed or emptied, the id stays.';
comment on column auth.users.is_anonymous is 'Signed in without an address, and has none yet.';

create table if not exists auth.identities (
    provider_id text not null,
    user_id uuid not null constraint identities_user_id_fkey references auth.users on delete cascade,
    identity_data jsonb not null,
    provider text not null,
    last_sign_in_at timestamptz,
    created_at timestamptz,
    updated_at timestamptz,
    email text generated always as (lower(identity_data ->> 'email')) stored,
    id uuid not null default gen_random_uuid() constraint identities_pkey primary key,
    constraint identities_provider_id_provider_unique unique (provider_id, provider)
);
create index if not exists identities_user_id_idx on auth.identities (user_id);
create index if not exists identities_email_idx on auth.identities (email text_pattern_ops);

comment on table auth.identities is 'The ways a user can sign in: one row for each identity at a provider, and one for the address.';
comment on column auth.identities.provider_id is 'The user''s id at the provider; for email it is the user''s own id.';
comment on column auth.identities.user_id is 'Whose identity it is.';
comment on column auth.identities.identity_data is 'What the provider says of the user: sub, email, email_verified, …';
comment on column auth.identities.provider is 'email, google, github, …';
comment on column auth.identities.last_sign_in_at is 'When the identity was made (GoTrue updates it for outside providers only).';
comment on column auth.identities.created_at is 'When the identity was made.';
comment on column auth.identities.updated_at is 'When the row last changed.';
comment on column auth.identities.email is 'The address in identity_data. Generated, so no dump carries it.';
comment on column auth.identities.id is 'The identity''s own id (identity_id in the API).';

create table if not exists auth.sessions (
    id uuid not null constraint sessions_pkey primary key,
    user_id uuid not null constraint sessions_user_id_fkey references auth.users on delete cascade,
    created_at timestamptz,
    updated_at timestamptz,
    factor_id uuid,
    aal auth.aal_level,
    not_after timestamptz,
    refreshed_at timestamp,
    user_agent text,
    ip inet,
    tag text,
    oauth_client_id uuid,
    refresh_token_hmac_key text,
    refresh_token_counter bigint,
    scopes text constraint sessions_scopes_length check (char_length(scopes) <= 4096)
);
create index if not exists sessions_user_id_idx on auth.sessions (user_id);
create index if not exists user_id_created_at_idx on auth.sessions (user_id, created_at);
create index if not exists sessions_not_after_idx on auth.sessions (not_after desc);

comment on table auth.sessions is 'One row for each sign-in. Deleting it ends the session: its refresh tokens go with it, and a trigger of the domain revokes its access tokens.';
comment on column auth.sessions.id is 'The session_id of access tokens.';
comment on column auth.sessions.user_id is 'Whose session it is.';
comment on column auth.sessions.created_at is 'When the user signed in.';
comment on column auth.sessions.updated_at is 'When the row last changed.';
comment on column auth.sessions.factor_id is 'The second factor that lifted the session to aal2.';
comment on column auth.sessions.aal is 'The assurance level reached.';
comment on column auth.sessions.not_after is 'The session cannot be refreshed after this; null: no end.';
comment on column auth.sessions.refreshed_at is 'When it was last refreshed, in UTC (GoTrue''s column has no zone).';
comment on column auth.sessions.user_agent is 'The client''s User-Agent at the last sign-in or refresh.';
comment on column auth.sessions.ip is 'The client''s address at the last sign-in or refresh.';
comment on column auth.sessions.tag is 'GoTrue''s label for single-session rules. Unused here.';
comment on column auth.sessions.oauth_client_id is 'The OAuth client of the session. Unused here.';
comment on column auth.sessions.refresh_token_hmac_key is 'Key of GoTrue''s signed refresh tokens. Unused here: tokens are rows of auth.refresh_tokens.';
comment on column auth.sessions.refresh_token_counter is 'Counter of GoTrue''s signed refresh tokens. Unused here.';
comment on column auth.sessions.scopes is 'OAuth scopes of the session. Unused here.';

create table if not exists auth.refresh_tokens (
    instance_id uuid,
    id bigserial not null constraint refresh_tokens_pkey primary key,
    token varchar(255) constraint refresh_tokens_token_unique unique,
    user_id varchar(255),
    revoked boolean,
    created_at timestamptz,
    updated_at timestamptz,
    parent varchar(255),
    session_id uuid constraint refresh_tokens_session_id_fkey references auth.sessions on delete cascade
);
create index if not exists refresh_tokens_instance_id_idx on auth.refresh_tokens (instance_id);
create index if not exists refresh_tokens_instance_id_user_id_idx on auth.refresh_tokens (instance_id, user_id);
create index if not exists refresh_tokens_parent_idx on auth.refresh_tokens (parent);
create index if not exists refresh_tokens_session_id_revoked_idx on auth.refresh_tokens (session_id, revoked);
create index if not exists refresh_tokens_updated_at_idx on auth.refresh_tokens (updated_at desc);

comment on table auth.refresh_tokens is 'The chain of refresh tokens of each session; one of them is active, the others are kept to notice that one is used twice. In plain text, as in GoTrue: who can read this table can become any user.';
comment on column auth.refresh_tokens.instance_id is 'All zeros, as in auth.users.';
comment on column auth.refresh_tokens.id is 'Order of issue.';
comment on column auth.refresh_tokens.token is 'The token: 12 characters of a-z and 2-7 (60 random bits), the form GoTrue accepts.';
comment on column auth.refresh_tokens.user_id is 'The user''s id as text (GoTrue''s type).';
comment on column auth.refresh_tokens.revoked is 'Used up: a newer token of the session exists.';
comment on column auth.refresh_tokens.created_at is 'When it was issued.';
comment on column auth.refresh_tokens.updated_at is 'When it was used up; the reuse interval counts from here.';
comment on column auth.refresh_tokens.parent is 'The token that was exchanged for this one; empty or null for a session''s first.';
comment on column auth.refresh_tokens.session_id is 'The session it continues.';

create table if not exists auth.mfa_amr_claims (
    session_id uuid not null constraint mfa_amr_claims_session_id_fkey references auth.sessions on delete cascade,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    authentication_method text not null,
    id uuid not null constraint amr_id_pk primary key,
    constraint mfa_amr_claims_session_id_authentication_method_pkey unique (session_id, authentication_method)
);

comment on table auth.mfa_amr_claims is 'How each session was authenticated (the amr claim), so that a refreshed token still says "password", and when.';
comment on column auth.mfa_amr_claims.session_id is 'The session.';
comment on column auth.mfa_amr_claims.created_at is 'When the method was first used in the session.';
comment on column auth.mfa_amr_claims.updated_at is 'When the method was last used in the session: the timestamp of the claim.';
comment on column auth.mfa_amr_claims.authentication_method is 'password, otp, oauth, …';
comment on column auth.mfa_amr_claims.id is 'The row''s own id.';

-- No policies: the owner and BYPASSRLS roles pass, and a role that is granted a table by mistake sees nothing.
alter table auth.users enable row level security;
alter table auth.identities enable row level security;
alter table auth.sessions enable row level security;
alter table auth.refresh_tokens enable row level security;
alter table auth.mfa_amr_claims enable row level security;

-- As on Supabase: the API's roles may call auth.uid() and see no table; postgres has every right on the tables, refresh tokens and
-- password hashes included, because migrations refer to auth.users and put triggers on it, and seeds insert into it.
grant usage on schema auth to anon, authenticated, service_role, :"owner";
grant select, insert, update, delete, references, trigger on
    auth.users, auth.identities, auth.sessions, auth.refresh_tokens, auth.mfa_amr_claims
to :"owner";
grant usage, select on sequence auth.refresh_tokens_id_seq to :"owner";

reset role;
