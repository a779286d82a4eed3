-- The login API on a plain Postgres: second factors. Enrol, ask for a challenge, answer it with a code: the session reaches aal2.
\set ON_ERROR_STOP on

set client_min_messages = warning;
set role supabase_auth_admin;

create or replace function auth_api.has_factor(user_id uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select exists (select 1 from auth.mfa_factors f where f.user_id = has_factor.user_id and f.status = 'verified' and f.factor_type <> 'recovery_code')
$$;
comment on function auth_api.has_factor(uuid) is 'Whether the user has a second factor that was shown to work.';

create or replace function auth_api.mfa_caller(out u auth.users, out session auth.sessions)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    caller record;
begin
    select * into caller from auth_api.caller();
    u := caller.u;
    session := caller.session;
    if u.is_anonymous then
        perform auth_api.reject(403, 'no_authorization', 'Anonymous user not allowed to perform these actions');
    end if;
end
$$;
comment on function auth_api.mfa_caller() is 'The signed-in user who is calling; an anonymous one is refused.';

create or replace function auth_api.find_factor(u auth.users, factor_id text) returns auth.mfa_factors
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    factor auth.mfa_factors;
begin
    if not auth_api.is_uuid(factor_id) then
        perform auth_api.reject(404, 'validation_failed', 'factor_id must be an UUID');
    end if;
    select * into factor from auth.mfa_factors f where f.id = factor_id::uuid and f.user_id = u.id for update;
    if factor.id is null then
        perform auth_api.reject(404, 'mfa_factor_not_found', 'Factor not found');
    end if;
    return factor;
end
$$;
comment on function auth_api.find_factor(auth.users, text) is 'A factor of the user, locked; another''s is as unknown as one that does not exist.';

-- Enrol ----------------------------------------------------------------------------------------------------------------------------

-- Who has only the password of a member must not choose the member's second factor.
create or replace function auth_api.lacks_mail_proof(u auth.users, session auth.sessions) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select 1 from auth.mfa_amr_claims a where a.session_id = session.id and a.authentication_method <> 'password') then
        return false;
    end if;
    return private.tenancy_must_have_factor(u.id);
exception when undefined_function or invalid_schema_name or insufficient_privilege then
    return false; -- the domain is not installed
end
$$;
comment on function auth_api.lacks_mail_proof(auth.users, auth.sessions) is 'Whether the session began with a password alone, and an organization of the user requires a second factor.';

create or replace function auth_api.check_enrolment(u auth.users, session auth.sessions, name text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    delete from auth.mfa_factors f where f.user_id = u.id and f.status = 'unverified' and f.created_at < kijko.now() - interval '5 minutes';
    if exists (select 1 from auth.mfa_factors f where f.user_id = u.id and f.friendly_name = name and btrim(name) <> '') then
        perform auth_api.reject(422, 'mfa_factor_name_conflict', format('A factor with the friendly name %s for this user already exists', to_json(name)));
    elsif (select count(*) from auth.mfa_factors f where f.user_id = u.id) >= 10 then
        perform auth_api.reject(422, 'too_many_enrolled_mfa_factors', 'Maximum number of verified factors reached, unenroll to continue');
    elsif auth_api.has_factor(u.id) and not auth_api.has_aal2(session) then
        perform auth_api.reject(403, 'insufficient_aal', 'AAL2 required to enroll a new factor');
    elsif not auth_api.has_factor(u.id) and auth_api.lacks_mail_proof(u, session) then
        perform auth_api.reject(400, 'reauthentication_needed', 'An organization of yours requires a second factor: sign in by a mail to add the first one');
    end if;
end
$$;
comment on function auth_api.check_enrolment(auth.users, auth.sessions, text) is 'Refuses a further factor without the first one, the first one of a member who has shown a password alone where an organization requires a factor, one too many, and a name that is taken.';

create or replace function auth_api.enroll(request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    caller record;
    body jsonb;
    u auth.users;
    id uuid := gen_random_uuid();
    seed text := auth_api.base32(extensions.gen_random_bytes(20));
    name text;
    issuer text;
    uri text;
begin
    select * into caller from auth_api.mfa_caller();
    u := auth_api.lock_user((caller.u).id);
    body := auth_api.parse_body(request_body, '{"factor_type": "string", "friendly_name": "string", "issuer": "string"}');
    name := left(coalesce(body ->> 'friendly_name', ''), 200);
    if body ->> 'factor_type' = 'phone' then
        perform auth_api.reject(422, 'mfa_phone_enroll_not_enabled', 'MFA enroll is disabled for Phone');
    elsif body ->> 'factor_type' = 'webauthn' then
        perform auth_api.reject(422, 'mfa_web_authn_enroll_not_enabled', 'MFA enroll is disabled for WebAuthn');
    elsif coalesce(body ->> 'factor_type', '') <> 'totp' then
        perform auth_api.reject(400, 'validation_failed', 'factor_type needs to be totp, phone, or webauthn');
    end if;
    perform auth_api.check_enrolment(u, caller.session, name);
    issuer := left(coalesce(nullif(body ->> 'issuer', ''), (select p.host from auth_api.settings s, auth_api.url_parts(s.site_url) p)), 100);
    uri := format('otpauth://totp/%s:%s?algorithm=SHA1&digits=6&issuer=%s&period=30&secret=%s',
        auth_api.url_encode(issuer), auth_api.url_encode(u.email), auth_api.url_encode(issuer), seed);
    insert into auth.mfa_factors (id, user_id, friendly_name, factor_type, status, created_at, updated_at, secret)
    values (id, u.id, name, 'totp', 'unverified', kijko.now(), kijko.now(), auth_api.seal_seed(seed, id));
    return jsonb_build_object('id', id, 'type', 'totp', 'friendly_name', name,
        'totp', jsonb_build_object('qr_code', kijko.qr_svg(uri), 'secret', seed, 'uri', uri));
end
$$;
comment on function auth_api.enroll(text) is 'POST /factors: a new authenticator app, which counts once a code of it was right.';

-- Challenge and answer ---------------------------------------------------------------------------------------------------------------

create or replace function auth_api.challenge(factor_id text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    caller record;
    factor auth.mfa_factors;
    id uuid := gen_random_uuid();
begin
    select * into caller from auth_api.mfa_caller();
    factor := auth_api.find_factor(caller.u, factor_id);
    perform auth_api.charge('auth:challenge:' || factor.id, 15, '1 minute');
    delete from auth.mfa_challenges c where c.factor_id = factor.id and c.created_at < kijko.now() - interval '5 minutes';
    insert into auth.mfa_challenges (id, factor_id, created_at, ip_address) values (id, factor.id, kijko.now(), coalesce(kijko.client_address(), '0.0.0.0'));
    update auth.mfa_factors f set last_challenged_at = clock_timestamp() where f.id = factor.id;
    return jsonb_build_object('id', id, 'type', factor.factor_type, 'expires_at', floor(extract(epoch from kijko.now() + interval '5 minutes'))::bigint);
end
$$;
comment on function auth_api.challenge(text) is 'POST /factors/{id}/challenge: asks for a code of the factor.';

-- What aal1 could do must not be continued by its tokens: the refresh token dies with this answer, and sessions without the factor end.
create or replace function auth_api.raise_session(u auth.users, session auth.sessions, factor auth.mfa_factors, method text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    delete from auth.sessions s where s.user_id = u.id and s.id <> session.id and coalesce(s.aal, 'aal1') < 'aal2';
    delete from auth.refresh_tokens t where t.session_id = session.id;
    update auth.sessions s set aal = 'aal2', factor_id = factor.id, updated_at = kijko.now() where s.id = session.id returning s.* into session;
    insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, authentication_method)
    values (gen_random_uuid(), session.id, kijko.now(), kijko.now(), method)
    on conflict on constraint mfa_amr_claims_session_id_authentication_method_pkey do update set updated_at = excluded.updated_at;
    return auth_api.token_response(u, session, auth_api.issue_refresh_token(session));
end
$$;
comment on function auth_api.raise_session(auth.users, auth.sessions, auth.mfa_factors, text) is 'Lifts a session to aal2 after a right code, and ends the user''s sessions that have less.';

create or replace function auth_api.open_challenge(factor auth.mfa_factors, challenge_id text) returns auth.mfa_challenges
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    challenge auth.mfa_challenges;
begin
    if auth_api.is_uuid(challenge_id) then
        select * into challenge from auth.mfa_challenges c where c.id = challenge_id::uuid and c.factor_id = factor.id and c.verified_at is null for update;
    end if;
    if challenge.id is null then
        perform auth_api.reject(422, 'mfa_factor_not_found', 'MFA factor with the provided challenge ID not found');
    elsif challenge.created_at < kijko.now() - interval '5 minutes' then
        perform auth_api.reject(422, 'mfa_challenge_expired', 'MFA challenge has expired, verify against another challenge or create a new challenge.');
    elsif challenge.ip_address is distinct from coalesce(kijko.client_address(), '0.0.0.0') then
        perform auth_api.reject(422, 'mfa_ip_address_mismatch', 'Challenge and verify IP addresses mismatch.');
    end if;
    return challenge;
end
$$;
comment on function auth_api.open_challenge(auth.mfa_factors, text) is 'A challenge of the factor that can still be answered.';

-- Returned and not raised: what a hook writes about an attempt must stay.
create or replace function auth_api.code_refusal(u auth.users, factor auth.mfa_factors, valid boolean) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    refusal constant json := auth_api.mfa_hook(u, factor, valid);
begin
    if not valid or refusal is not null then
        perform auth_api.audit_refusal(u.id, case when valid then 'mfa_verification_rejected' else 'mfa_verification_failed' end);
    end if;
    if refusal is null and not valid then
        return auth_api.refusal(422, 'mfa_verification_failed', 'Invalid code entered');
    end if;
    return refusal;
end
$$;
comment on function auth_api.code_refusal(auth.users, auth.mfa_factors, boolean) is 'Why a code of a factor is refused: the hook rejects it, or it is wrong; null when it is not.';

-- The seed is looked at last. Wrong codes count in shared memory: a refusal undoes what was written, and not that.
create or replace function auth_api.verify_factor(factor_id text, request_body text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    caller record;
    u auth.users;
    factor auth.mfa_factors;
    challenge auth.mfa_challenges;
    body jsonb;
    found_step bigint;
    refusal json;
begin
    select * into caller from auth_api.mfa_caller();
    u := auth_api.lock_user((caller.u).id);
    factor := auth_api.find_factor(u, factor_id);
    if factor.factor_type <> 'totp' then
        perform auth_api.reject(422, 'mfa_factor_not_found', 'MFA factor with the provided challenge ID not found');
    end if;
    body := auth_api.parse_body(request_body, '{"challenge_id": "string", "code": "string"}');
    if coalesce(body ->> 'code', '') = '' then
        perform auth_api.reject(400, 'validation_failed', 'Code needs to be non-empty');
    elsif not auth_api.is_uuid(body ->> 'challenge_id') then
        perform auth_api.reject(400, 'bad_json', 'Could not parse request body as JSON: challenge_id must be a UUID');
    end if;
    perform auth_api.charge('auth:factor:' || factor.id, 10, '15 minutes');
    challenge := auth_api.open_challenge(factor, body ->> 'challenge_id');
    found_step := auth_api.totp_step(kijko.unseal(factor.secret, auth_api.totp_context(factor.id)), body ->> 'code',
        (select t.step from auth_api.totp_steps t where t.factor_id = factor.id));
    refusal := auth_api.code_refusal(u, factor, found_step is not null);
    if refusal is not null then
        return refusal;
    end if;
    insert into auth_api.totp_steps (factor_id, step) values (factor.id, found_step)
    on conflict on constraint totp_steps_pkey do update set step = excluded.step;
    update auth.mfa_challenges c set verified_at = kijko.now() where c.id = challenge.id;
    update auth.mfa_factors f set status = 'verified', updated_at = kijko.now() where f.id = factor.id;
    delete from auth.mfa_factors f where f.user_id = u.id and f.factor_type = factor.factor_type and f.status = 'unverified';
    return auth_api.raise_session(u, caller.session, factor, 'totp');
end
$$;
comment on function auth_api.verify_factor(text, text) is 'POST /factors/{id}/verify: answers a challenge with a code; the session reaches aal2.';

-- Unenrol --------------------------------------------------------------------------------------------------------------------------

-- Recovery codes stand in for a factor: without one they are none.
create or replace function auth_api.remove_factor(factor auth.mfa_factors) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    delete from auth.mfa_factors f where f.id = factor.id;
    if not auth_api.has_factor(factor.user_id) then
        delete from auth.mfa_factors f where f.user_id = factor.user_id;
        delete from auth.mfa_amr_claims a using auth.sessions s
        where s.id = a.session_id and s.user_id = factor.user_id and a.authentication_method in ('totp', 'mfa/recovery_code');
        update auth.sessions s set aal = 'aal1', factor_id = null, updated_at = kijko.now() where s.user_id = factor.user_id and s.aal <> 'aal1';
    end if;
end
$$;
comment on function auth_api.remove_factor(auth.mfa_factors) is 'Deletes a factor; with the last one every session falls to aal1.';

create or replace function auth_api.unenroll(factor_id text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    caller record;
    factor auth.mfa_factors;
begin
    select * into caller from auth_api.mfa_caller();
    perform auth_api.lock_user((caller.u).id);
    factor := auth_api.find_factor(caller.u, factor_id);
    if factor.status = 'verified' and not auth_api.has_aal2(caller.session) then
        perform auth_api.reject(422, 'insufficient_aal', 'AAL2 required to unenroll verified factor');
    end if;
    perform auth_api.remove_factor(factor);
    return jsonb_build_object('id', factor.id);
end
$$;
comment on function auth_api.unenroll(text) is 'DELETE /factors/{id}: removes a factor of the signed-in user.';

create or replace function auth_api.admin_factors(user_id text) returns json
language sql volatile set search_path = pg_catalog, pg_temp as $$
    select coalesce(auth_api.factors_json((auth_api.admin_find(user_id)).id), '[]')::json
$$;
comment on function auth_api.admin_factors(text) is 'GET /admin/users/{id}/factors: a user''s factors.';

create or replace function auth_api.admin_delete_factor(user_id text, factor_id text) returns json
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    u auth.users := auth_api.lock_user((auth_api.admin_find(user_id)).id);
    factor auth.mfa_factors := auth_api.find_factor(u, factor_id);
begin
    perform auth_api.remove_factor(factor);
    return auth_api.factor_json(factor);
end
$$;
comment on function auth_api.admin_delete_factor(text, text) is 'DELETE /admin/users/{id}/factors/{id}: for who has lost the app and the recovery codes.';

reset role;
