-- GoTrue's tables for links and codes by mail and for PKCE, for a plain Postgres. Run once by the superuser; safe to run again. Not applied
-- on Supabase. Columns and types are GoTrue's (tests/journeys/gotrue_columns.json); what is stored in them is stricter: see
-- 46_auth_api_tokens.sql.
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;
set role supabase_auth_admin;

select format('create type auth.%I as enum (%s)', wanted.name, wanted.labels)
from (values
    ('one_time_token_type', '''confirmation_token'', ''reauthentication_token'', ''recovery_token'', ''email_change_token_new'', '
        || '''email_change_token_current'', ''phone_change_token'''),
    ('code_challenge_method', '''s256'', ''plain''')
) as wanted (name, labels)
where to_regtype('auth.' || wanted.name) is null
\gexec
comment on type auth.one_time_token_type is 'What a one-time token of a mail is for.';
comment on type auth.code_challenge_method is 'How a PKCE challenge is made from its verifier.';

create table if not exists auth.one_time_tokens (
    id uuid not null constraint one_time_tokens_pkey primary key,
    user_id uuid not null constraint one_time_tokens_user_id_fkey references auth.users on delete cascade,
    token_type auth.one_time_token_type not null,
    token_hash text not null constraint one_time_tokens_token_hash_check check (char_length(token_hash) > 0),
    relates_to text not null,
    created_at timestamp not null default now(),
    updated_at timestamp not null default now()
);
create index if not exists one_time_tokens_token_hash_hash_idx on auth.one_time_tokens using hash (token_hash);
create index if not exists one_time_tokens_relates_to_hash_idx on auth.one_time_tokens using hash (relates_to);
create unique index if not exists one_time_tokens_user_id_token_type_key on auth.one_time_tokens (user_id, token_type);

comment on table auth.one_time_tokens is 'The links and codes that were mailed and not used yet, at most one for each user and purpose.';
comment on column auth.one_time_tokens.id is 'The row''s own id; a token that is sent again gets a new one.';
comment on column auth.one_time_tokens.user_id is 'Whom the token was made for.';
comment on column auth.one_time_tokens.token_type is 'What it is for.';
comment on column auth.one_time_tokens.token_hash is 'SHA-224 of the token in the link, so that a reader of this table cannot use it. It begins with pkce_ for a client with PKCE.';
comment on column auth.one_time_tokens.relates_to is 'The address that the mail went to.';
comment on column auth.one_time_tokens.created_at is 'When the token was made, in UTC (GoTrue''s column has no zone): it expires some time after that.';
comment on column auth.one_time_tokens.updated_at is 'When the row last changed, in UTC.';

create table if not exists auth.flow_state (
    id uuid not null constraint flow_state_pkey primary key,
    user_id uuid,
    auth_code text,
    code_challenge_method auth.code_challenge_method,
    code_challenge text,
    provider_type text not null,
    provider_access_token text,
    provider_refresh_token text,
    created_at timestamptz,
    updated_at timestamptz,
    authentication_method text not null,
    auth_code_issued_at timestamptz,
    invite_token text,
    referrer text,
    oauth_client_state_id uuid,
    linking_target_id uuid,
    email_optional boolean not null default false
);
create index if not exists idx_auth_code on auth.flow_state (auth_code);
create index if not exists idx_user_id_auth_method on auth.flow_state (user_id, authentication_method);
create index if not exists flow_state_created_at_idx on auth.flow_state (created_at desc);

comment on table auth.flow_state is 'Sign-ins with PKCE that a client has begun: the code in the link''s answer is worth a session only to the client that holds the verifier.';
comment on column auth.flow_state.id is 'The row''s own id.';
comment on column auth.flow_state.user_id is 'Who is signing in.';
comment on column auth.flow_state.auth_code is 'The code that the redirect carries.';
comment on column auth.flow_state.code_challenge_method is 'How the challenge was made from the verifier.';
comment on column auth.flow_state.code_challenge is 'The challenge that the client sent when it began.';
comment on column auth.flow_state.provider_type is 'email for links by mail, else the outside provider.';
comment on column auth.flow_state.provider_access_token is 'Unused here: auth_api.provider_tokens has them, sealed.';
comment on column auth.flow_state.provider_refresh_token is 'Unused here: auth_api.provider_tokens has them, sealed.';
comment on column auth.flow_state.created_at is 'When the client began.';
comment on column auth.flow_state.updated_at is 'When the row last changed.';
comment on column auth.flow_state.authentication_method is 'What the client began: magiclink, recovery, email/signup, email_change, oauth, …';
comment on column auth.flow_state.auth_code_issued_at is 'When the link was opened. The code can be exchanged for five minutes from then on, and never before.';
comment on column auth.flow_state.invite_token is 'Unused here.';
comment on column auth.flow_state.referrer is 'Unused here: the link, or auth_api.oauth_flows, names where to go.';
comment on column auth.flow_state.oauth_client_state_id is 'Unused here.';
comment on column auth.flow_state.linking_target_id is 'The user to whom the exchange of the code links an identity; null for a sign-in.';
comment on column auth.flow_state.email_optional is 'Unused here.';

alter table auth.one_time_tokens enable row level security;
alter table auth.flow_state enable row level security;
grant select, insert, update, delete, references, trigger on auth.one_time_tokens, auth.flow_state to :"owner";

reset role;
