-- ============================================================================
-- Audit: what is recorded.
-- ============================================================================

-- Somebody's own organization has their name.
select private.audit_table(
  'public.organizations', 'organization', '{personal_for,mfa_required,sso_required}', personal => '{name,slug}', subject => 'personal_for', org_column => 'id'
);
select private.audit_table('public.memberships', 'member', '{user_id,role,custom_role_id,is_break_glass}', subject => 'user_id');
select private.audit_table('public.custom_roles', 'role', '{name,description,base_role,permissions}');
select private.audit_table(
  'public.invitations', 'invitation', '{role,custom_role_id,status,sent_at,expires_at,accepted_by}', personal => '{email}', subject => 'accepted_by'
);
select private.audit_table(
  'public.api_keys', 'api_key',
  '{name,kind,permissions,prefix,user_id,rate_limit,monthly_quota,daily_quota,origins,expires_at,revoked_at}', subject => 'user_id'
);
-- Its only column besides the name: a new value sets it.
select private.audit_table('public.secrets', 'secret', '{name,updated_at}');
select private.audit_table('public.connection_applications', 'connection_application', '{provider,client_id,secret_set_at}');
select private.audit_table(
  'public.webhook_endpoints', 'webhook_endpoint',
  '{url:host,event_types,filter,include_private_projects,signature,enabled,disabled_reason,former_secret_until}'
);
-- The row of a new organization says nothing.
select private.audit_table('public.subscriptions', 'subscription', '{plan,plan_override,status,current_period_end}', events => 'update,delete');
select private.audit_table('public.plan_overrides', 'plan_override', '{meter,amount,feature,included,reason,ends_at,ended_at}');
select private.audit_table(
  'public.connections', 'connection', '{provider,account_id,account_name,scopes,status,paused_reason,authorized_by,authorized_at,authorizer_left_at}'
);
select private.audit_table('private.issuer_enrolments', 'issuer', '{url,settings}');
select private.audit_table('public.usage_meters', 'usage_meter', '{event_type,meter,amount_field}');
-- What operators decide for all organizations.
select private.audit_table('public.plan_limits', 'plan_limit', '{plan,meter,period,amount,overage_policy}', org_column => '', id_column => 'meter');
select private.audit_table('public.plan_features', 'plan_feature', '{plan,feature}', org_column => '', id_column => 'feature');
select private.audit_table('public.plans', 'plan', '{name,rank,rate_per_minute,statement_seconds}', org_column => '', id_column => 'code');
select private.audit_table('private.audit_retention', 'audit_retention', '{days}', org_column => '', id_column => 'plan');
select private.audit_table('private.audit_settings', 'audit_settings', '{platform_days}', org_column => '');
select private.audit_table('private.invitation_settings', 'invitation_settings', '{bind_to_address}', org_column => '');

-- The receiver of an update at the same address may be another one, which scheme and host do not show.
create function private.audit_webhook_address() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.audit_record(
    new.org_id, 'webhook_endpoint.updated', 'webhook_endpoint', new.id::text,
    before => jsonb_build_object('url_digest', encode(sha256(convert_to(old.url, 'UTF8')), 'hex')),
    after => jsonb_build_object('url_digest', encode(sha256(convert_to(new.url, 'UTF8')), 'hex'))
  );
  return null;
end
$$;
comment on function private.audit_webhook_address() is 'Trigger: writes the digests of an endpoint''s addresses when only path or query changed. Definer: nobody else writes entries.';
create trigger webhook_endpoints_audit_address after update of url on public.webhook_endpoints
  for each row when (old.url <> new.url and substring(old.url from '^[a-z]+://[^/?#@]*') is not distinct from substring(new.url from '^[a-z]+://[^/?#@]*'))
  execute function private.audit_webhook_address();

-- ----------------------------------------------------------------------------
-- People: what concerns an account is an entry of each organization of the user
-- ----------------------------------------------------------------------------

create function private.audit_orgs_of(person uuid) returns uuid[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(m.org_id), array[kijko.platform_org_id()]) from public.memberships as m where m.user_id = person
$$;
comment on function private.audit_orgs_of(uuid) is 'The organizations of a user; that of the platform if there are none.';

create function private.audit_session() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  session constant auth.sessions := case when tg_op = 'DELETE' then old else new end;
begin
  perform private.audit_insert(
    private.audit_orgs_of(session.user_id), tg_argv[0], 'session', session.id::text, subject => session.user_id,
    before => case when tg_op <> 'INSERT' then jsonb_build_object('aal', old.aal) end,
    after => case
      when tg_op <> 'DELETE' then jsonb_build_object('aal', new.aal)
      else jsonb_build_object('cause', nullif(current_setting('kijko_notifications.session_end', true), ''))
    end,
    actor => case when tg_op = 'INSERT' then session.user_id end,
    address => case when tg_op <> 'DELETE' then session.ip end,
    user_agent => case when tg_op <> 'DELETE' then session.user_agent end
  );
  return null;
end
$$;
comment on function private.audit_session() is 'Trigger: writes that a session began, reached another level of assurance, or ended. Definer: the login role may write auth only.';
create trigger kijko_session_audit_insert after insert on auth.sessions
  for each row execute function private.audit_session('session.started');
create trigger kijko_session_audit_update after update on auth.sessions
  for each row when (old.aal is distinct from new.aal) execute function private.audit_session('session.updated');
create trigger kijko_session_audit_delete after delete on auth.sessions
  for each row execute function private.audit_session('session.ended');

create function private.audit_refuse_sign_in(person uuid, reason text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- An address without an account costs the same insert: the time of the answer must not tell one from the other.
  perform private.audit_insert(
    private.audit_orgs_of(person), 'session.refused', 'user', person::text, subject => person,
    after => jsonb_build_object('reason', "left"(reason, 100))
  );
end
$$;
comment on function private.audit_refuse_sign_in(uuid, text) is 'Writes that a sign-in was refused. Without a user it is an entry of the platform. Called by login. Definer: the login role may write auth only.';

create function private.audit_lock_user(person uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.audit_insert(private.audit_orgs_of(person), 'user.locked', 'user', person::text, subject => person);
end
$$;
comment on function private.audit_lock_user(uuid) is 'Writes that wrong passwords have locked an account for a while. Without a user it is an entry of the platform. Called by login. Definer: the login role may write auth only.';
do $$
begin
  if to_regrole('supabase_auth_admin') is not null then
    grant execute on function private.audit_refuse_sign_in(uuid, text), private.audit_lock_user(uuid) to supabase_auth_admin;
  end if;
end
$$;

create function private.audit_password() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.audit_insert(
    private.audit_orgs_of(new.id), 'user.password_changed', 'user', new.id::text, subject => new.id,
    before => jsonb_build_object('has_password', coalesce(old.encrypted_password, '') <> ''),
    after => jsonb_build_object('has_password', coalesce(new.encrypted_password, '') <> '')
  );
  return null;
end
$$;
comment on function private.audit_password() is 'Trigger: writes that a password was set, changed or removed; not which. Definer: the login role may write auth only.';
-- A sign-in may replace the hash of the same password: login says so by a setting.
create trigger kijko_user_audit_password after update of encrypted_password on auth.users
  for each row when (
    coalesce(old.encrypted_password, '') <> coalesce(new.encrypted_password, '') and new.deleted_at is null
    and coalesce(current_setting('kijko_audit.same_password', true), '') <> 'on'
  )
  execute function private.audit_password();

create function private.audit_address() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.audit_insert(
    private.audit_orgs_of(new.id), tg_argv[0], 'user', new.id::text, subject => new.id,
    personal => nullif(jsonb_strip_nulls(jsonb_build_object(
      'before', jsonb_build_object('email', "left"(old.email, 320)),
      'after', jsonb_build_object('email', "left"(case tg_argv[0] when 'user.email_changed' then new.email else new.email_change end, 320))
    )), '{}')
  );
  return null;
end
$$;
comment on function private.audit_address() is 'Trigger: writes that a change of address was asked for, or done. The addresses are data of a person. Definer: the login role may write auth only.';
create trigger kijko_user_audit_email after update of email on auth.users
  for each row when (old.email is distinct from new.email and new.deleted_at is null)
  execute function private.audit_address('user.email_changed');
create trigger kijko_user_audit_email_change after update of email_change on auth.users
  for each row when (old.email_change is distinct from new.email_change and new.email_change <> '' and new.deleted_at is null)
  execute function private.audit_address('user.email_change_requested');

create function private.audit_user() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.audit_insert(
    private.audit_orgs_of(old.id), tg_argv[0], 'user', old.id::text, subject => old.id,
    before => jsonb_build_object('banned_until', old.banned_until, 'deleted_at', old.deleted_at),
    after => case when tg_op = 'UPDATE' then jsonb_build_object('banned_until', new.banned_until, 'deleted_at', new.deleted_at) end
  );
  return case when tg_op = 'UPDATE' then new else old end;
end
$$;
comment on function private.audit_user() is 'Trigger: writes that a user was banned, restored or deleted. Definer: the login role may write auth only.';
-- Before the user's memberships go. The names sort before those of the triggers that end them.
create trigger kijko_audit_user_update before update on auth.users
  for each row when (old.banned_until is distinct from new.banned_until or old.deleted_at is distinct from new.deleted_at)
  execute function private.audit_user('user.updated');
create trigger kijko_audit_user_delete before delete on auth.users
  for each row execute function private.audit_user('user.deleted');

create function private.audit_mfa_factor() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  factor constant auth.mfa_factors := case when tg_op = 'DELETE' then old else new end;
  kind constant jsonb := jsonb_build_object('factor_type', factor.factor_type);
begin
  perform private.audit_insert(
    private.audit_orgs_of(factor.user_id), tg_argv[0], 'mfa_factor', factor.id::text, subject => factor.user_id,
    before => case when tg_op = 'DELETE' then kind end, after => case when tg_op <> 'DELETE' then kind end
  );
  return null;
end
$$;
comment on function private.audit_mfa_factor() is 'Trigger: writes that a second factor was added or removed. Definer: the login role may write auth only.';
create trigger kijko_mfa_factor_audit_verify after update on auth.mfa_factors
  for each row when (new.status = 'verified' and old.status <> 'verified') execute function private.audit_mfa_factor('mfa_factor.created');
create trigger kijko_mfa_factor_audit_delete after delete on auth.mfa_factors
  for each row when (old.status = 'verified') execute function private.audit_mfa_factor('mfa_factor.deleted');

-- Organizations that are older than the log have a first entry, too: an empty log is a deleted one.
insert into public.audit_log (org_id, action, actor_kind, target_type, target_id)
select o.id, 'audit.started', 'system', 'organization', o.id::text from public.organizations as o;
