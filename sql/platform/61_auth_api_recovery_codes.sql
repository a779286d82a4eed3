-- The login API on a plain Postgres: recovery codes, for who has lost the authenticator app.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create table if not exists auth_api.recovery_codes (
    factor_id uuid references auth.mfa_factors on delete cascade,
    code_hash text,
    used_at timestamptz,
    primary key (factor_id, code_hash)
);
alter table auth_api.recovery_codes enable row level security;
comment on table auth_api.recovery_codes is 'Recovery codes of users with a second factor; each works once.';
comment on column auth_api.recovery_codes.factor_id is 'The factor that stands for the user''s codes.';
comment on column auth_api.recovery_codes.code_hash is 'SHA-256 of the code, which has 80 random bits.';
comment on column auth_api.recovery_codes.used_at is 'When it was used.';

create or replace function auth_api.recovery_code_hash(code text) returns text
language sql immutable strict set search_path = pg_catalog, pg_temp as $$
    select encode(sha256(convert_to(regexp_replace(lower(code), '[\s-]', '', 'g'), 'UTF8')), 'hex')
$$;
comment on function auth_api.recovery_code_hash(text) is 'What is stored of a recovery code; case, blanks and dashes do not count.';

create or replace function auth_api.recovery_factor(u auth.users) returns auth.mfa_factors
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    factor auth.mfa_factors;
begin
    select * into factor from auth.mfa_factors f where f.user_id = u.id and f.factor_type = 'recovery_code';
    return factor;
end
$$;
comment on function auth_api.recovery_factor(auth.users) is 'The factor that stands for the user''s recovery codes, or null.';

create or replace function auth_api.require_recovery_factor(u auth.users) returns auth.mfa_factors
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    factor auth.mfa_factors := auth_api.recovery_factor(u);
begin
    if factor.id is null then
        perform auth_api.reject(404, 'mfa_factor_not_found', 'No recovery codes found');
    end if;
    return factor;
end
$$;
comment on function auth_api.require_recovery_factor(auth.users) is 'The factor that stands for the user''s recovery codes; refuses when there are none.';

-- Whoever holds a session of one factor must not make or see codes that stand in for the second.
create or replace function auth_api.recovery_caller(out u auth.users, out session auth.sessions)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    caller record;
begin
    select * into caller from auth_api.mfa_caller();
    u := auth_api.lock_user((caller.u).id);
    session := caller.session;
    if not auth_api.has_aal2(session) then
        perform auth_api.reject(403, 'insufficient_aal', 'AAL2 required to manage recovery codes');
    end if;
end
$$;
comment on function auth_api.recovery_caller() is 'The signed-in user with a session of two factors.';

create or replace function auth_api.new_recovery_codes(factor auth.mfa_factors) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    codes text[];
begin
    delete from auth_api.recovery_codes c where c.factor_id = factor.id;
    select array_agg(lower(auth_api.base32(extensions.gen_random_bytes(10)))) into codes from generate_series(1, 10);
    insert into auth_api.recovery_codes (factor_id, code_hash) select factor.id, auth_api.recovery_code_hash(code) from unnest(codes) as code;
    return jsonb_build_object('id', factor.id, 'type', 'recovery_code', 'friendly_name', factor.friendly_name, 'total', 10, 'codes', codes);
end
$$;
comment on function auth_api.new_recovery_codes(auth.mfa_factors) is 'Ten new recovery codes in place of the former ones; shown this once.';

create or replace function auth_api.get_recovery_codes() returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    factor auth.mfa_factors := auth_api.require_recovery_factor((select c.u from auth_api.mfa_caller() c));
begin
    return (
        select jsonb_build_object('id', factor.id, 'type', 'recovery_code', 'total', count(*), 'remaining', count(*) filter (where c.used_at is null))
        from auth_api.recovery_codes c where c.factor_id = factor.id);
end
$$;
comment on function auth_api.get_recovery_codes() is 'GET /factors/recovery-codes: how many are left.';

create or replace function auth_api.create_recovery_codes(request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users := (select c.u from auth_api.recovery_caller() c);
    body jsonb := case when btrim(request_body, E' \t\r\n') = '' then '{}'::jsonb else auth_api.parse_body(request_body, '{"friendly_name": "string"}') end;
    factor auth.mfa_factors;
begin
    if (auth_api.recovery_factor(u)).id is not null then
        perform auth_api.reject(422, 'mfa_verified_factor_exists', 'Recovery codes already exist, regenerate or unenroll them');
    elsif not auth_api.has_factor(u.id) then
        perform auth_api.reject(422, 'mfa_recovery_codes_sole_factor', 'Recovery codes need another verified factor');
    end if;
    insert into auth.mfa_factors (id, user_id, friendly_name, factor_type, status, created_at, updated_at)
    values (gen_random_uuid(), u.id, coalesce(nullif(left(body ->> 'friendly_name', 200), ''), 'Recovery codes'), 'recovery_code', 'verified', kijko.now(), kijko.now())
    on conflict do nothing
    returning * into factor;
    if factor.id is null then
        perform auth_api.reject(422, 'mfa_factor_name_conflict', 'A factor with this friendly name for this user already exists');
    end if;
    return auth_api.new_recovery_codes(factor);
end
$$;
comment on function auth_api.create_recovery_codes(text) is 'POST /factors/recovery-codes: makes ten codes.';

create or replace function auth_api.regenerate_recovery_codes() returns json
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select auth_api.new_recovery_codes(auth_api.require_recovery_factor(c.u)) from auth_api.recovery_caller() c
$$;
comment on function auth_api.regenerate_recovery_codes() is 'POST /factors/recovery-codes/regenerate: ten new codes; the former ones are void.';

create or replace function auth_api.delete_recovery_codes() returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    factor auth.mfa_factors := auth_api.require_recovery_factor((select c.u from auth_api.recovery_caller() c));
begin
    delete from auth.mfa_factors f where f.id = factor.id;
    return jsonb_build_object('id', factor.id);
end
$$;
comment on function auth_api.delete_recovery_codes() is 'DELETE /factors/recovery-codes: removes them.';

-- Tries count in shared memory, right ones too: a refusal undoes nothing of that, and the right code is refused once there were too many.
create or replace function auth_api.verify_recovery_code(request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    caller record;
    u auth.users;
    factor auth.mfa_factors;
    body jsonb;
    retry_after integer;
    refusal json;
    hash text;
    valid boolean;
begin
    select * into caller from auth_api.mfa_caller();
    u := auth_api.lock_user((caller.u).id);
    factor := auth_api.require_recovery_factor(u);
    body := auth_api.parse_body(request_body, '{"code": "string"}');
    retry_after := auth_api.count_request('auth:recovery:' || factor.id, 5, '30 minutes');
    if retry_after is not null then
        perform auth_api.reject_too_many(retry_after, 'mfa_recovery_codes_locked', 'Too many recovery codes were tried');
    end if;
    hash := auth_api.recovery_code_hash(coalesce(body ->> 'code', ''));
    valid := exists (select from auth_api.recovery_codes c where c.factor_id = factor.id and c.code_hash = hash and c.used_at is null);
    refusal := auth_api.code_refusal(u, factor, valid);
    if refusal is not null then
        return refusal;
    end if;
    update auth_api.recovery_codes c set used_at = kijko.now() where c.factor_id = factor.id and c.code_hash = hash;
    return auth_api.raise_session(u, caller.session, factor, 'mfa/recovery_code');
end
$$;
comment on function auth_api.verify_recovery_code(text) is 'POST /factors/recovery-codes/verify: uses a code up; the session reaches aal2.';

reset role;
