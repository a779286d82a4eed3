-- GoTrue's tables for second factors, for a plain Postgres. Run once by the superuser; safe to run again. Not applied on Supabase. Columns and
-- types are GoTrue's (tests/journeys/gotrue_columns.json).
\set ON_ERROR_STOP on
\ir owner.psql

set client_min_messages = warning;
set role supabase_auth_admin;

select format('create type auth.%I as enum (%s)', wanted.name, wanted.labels)
from (values
    ('factor_type', '''totp'', ''webauthn'', ''phone'', ''recovery_code'''),
    ('factor_status', '''unverified'', ''verified''')
) as wanted (name, labels)
where to_regtype('auth.' || wanted.name) is null
\gexec
comment on type auth.factor_type is 'Kinds of second factors; here totp and recovery_code.';
comment on type auth.factor_status is 'Whether a factor was shown to work once: only then it counts.';

create table if not exists auth.mfa_factors (
    id uuid not null constraint mfa_factors_pkey primary key,
    user_id uuid not null constraint mfa_factors_user_id_fkey references auth.users on delete cascade,
    friendly_name text,
    factor_type auth.factor_type not null,
    status auth.factor_status not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    secret text,
    phone text,
    last_challenged_at timestamptz constraint mfa_factors_last_challenged_at_key unique,
    web_authn_credential jsonb,
    web_authn_aaguid uuid,
    last_webauthn_challenge_data jsonb
);
create unique index if not exists mfa_factors_user_friendly_name_unique on auth.mfa_factors (friendly_name, user_id) where btrim(friendly_name) <> '';
create index if not exists factor_id_created_at_idx on auth.mfa_factors (user_id, created_at);
create index if not exists mfa_factors_user_id_idx on auth.mfa_factors (user_id);
create unique index if not exists unique_phone_factor_per_user on auth.mfa_factors (user_id, phone);

comment on table auth.mfa_factors is 'Second factors of users: authenticator apps, and their recovery codes.';
comment on column auth.mfa_factors.id is 'The factor_id of the API.';
comment on column auth.mfa_factors.user_id is 'Whose factor it is.';
comment on column auth.mfa_factors.friendly_name is 'The user''s name for it.';
comment on column auth.mfa_factors.factor_type is 'What it is.';
comment on column auth.mfa_factors.status is 'verified once a code of it was right.';
comment on column auth.mfa_factors.created_at is 'When it was enrolled.';
comment on column auth.mfa_factors.updated_at is 'When the row last changed.';
comment on column auth.mfa_factors.secret is 'The seed of an authenticator app, sealed: no reader of the table can make codes from it.';
comment on column auth.mfa_factors.phone is 'Unused here: phones are no factor.';
comment on column auth.mfa_factors.last_challenged_at is 'When a challenge was last asked for.';
comment on column auth.mfa_factors.web_authn_credential is 'Unused here.';
comment on column auth.mfa_factors.web_authn_aaguid is 'Unused here.';
comment on column auth.mfa_factors.last_webauthn_challenge_data is 'Unused here.';

create table if not exists auth.mfa_challenges (
    id uuid not null constraint mfa_challenges_pkey primary key,
    factor_id uuid not null constraint mfa_challenges_auth_factor_id_fkey references auth.mfa_factors on delete cascade,
    created_at timestamptz not null,
    verified_at timestamptz,
    ip_address inet not null,
    otp_code text,
    web_authn_session_data jsonb
);
create index if not exists mfa_challenge_created_at_idx on auth.mfa_challenges (created_at desc);
create index if not exists mfa_challenges_factor_id_idx on auth.mfa_challenges (factor_id);

comment on table auth.mfa_challenges is 'Requests for a code, each valid for five minutes and once.';
comment on column auth.mfa_challenges.id is 'The challenge_id of the API.';
comment on column auth.mfa_challenges.factor_id is 'The factor that is asked for a code.';
comment on column auth.mfa_challenges.created_at is 'When it was asked for.';
comment on column auth.mfa_challenges.verified_at is 'When it was answered.';
comment on column auth.mfa_challenges.ip_address is 'Who asked: the answer has to come from the same address.';
comment on column auth.mfa_challenges.otp_code is 'Unused here.';
comment on column auth.mfa_challenges.web_authn_session_data is 'Unused here.';

alter table auth.mfa_factors enable row level security;
alter table auth.mfa_challenges enable row level security;
grant select, insert, update, delete, references, trigger on auth.mfa_factors, auth.mfa_challenges to :"owner";

reset role;
