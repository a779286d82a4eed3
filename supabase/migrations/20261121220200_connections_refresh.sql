-- ============================================================================
-- Connections: using, refreshing, pausing and revoking tokens.
--
-- A provider that rotates refresh tokens takes each one once. So a refresh is claimed in a transaction of its own: another one waits
-- until it ends, or for a minute. Its answer is stored under the generation that it was asked for. If the answer is lost (the process
-- was killed, the connection broke), the next attempt tries the former token. If the provider refuses that, nobody but a member can help:
-- the connection is paused and says refresh_interrupted.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Pausing
-- ----------------------------------------------------------------------------

create function private.connections_pause(connection_id uuid, reason text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update public.connections as c set status = 'paused', paused_reason = reason, paused_at = kijko.now(), error_code = null
  where c.id = connections_pause.connection_id and c.status = 'active';
  update private.connection_tokens as t set check_at = null, refresh_started_at = null where t.connection_id = connections_pause.connection_id;
end
$$;
comment on function private.connections_pause(uuid, text) is 'Pauses an active connection. Called by definer functions only.';

create function private.connections_notify_pause() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  key constant text := format('connection.paused:%s:%s', new.id, extract(epoch from new.paused_at));
  data constant jsonb := jsonb_build_object(
    'connection_id', new.id, 'provider', new.provider, 'account', coalesce(new.account_name, new.account_id), 'reason', new.paused_reason
  );
begin
  perform private.notifications_send(new.org_id, null, 'connection.paused', data, key);
  -- Who gave the consent can renew it, also without the right to read the notice above.
  perform private.notifications_send(new.org_id, m.user_id, 'connection.paused', data, key || ':' || m.user_id)
  from public.memberships as m
  where m.org_id = new.org_id and m.user_id = new.authorized_by
    and 'connections:write' <> all (private.tenancy_member_permissions(m.user_id, m.org_id));
  return null;
end
$$;
comment on function private.connections_notify_pause() is 'Trigger: tells members with connections:write, and the member who authorized it, that a connection was paused. Definer: whoever pauses one may not write notifications.';
create trigger connections_paused after update of status on public.connections
  for each row when (old.status = 'active' and new.status = 'paused') execute function private.connections_notify_pause();

create function private.connections_broadcast() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  connection constant public.connections := case tg_op when 'DELETE' then old else new end;
begin
  perform private.notifications_broadcast(
    array['org:' || connection.org_id], 'connection',
    jsonb_build_object('connection_id', connection.id, 'status', case tg_op when 'DELETE' then 'removed' else connection.status end)
  );
  return null;
end
$$;
comment on function private.connections_broadcast() is 'Trigger: sends the status of a connection to the organization. Definer: users may not send to this topic.';
create trigger connections_broadcast after insert or delete or update of status, authorized_at on public.connections
  for each row execute function private.connections_broadcast();

-- ----------------------------------------------------------------------------
-- Who authorized it leaves
-- ----------------------------------------------------------------------------

create function private.connections_on_membership() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' then
    update public.connections as c set authorizer_left_at = kijko.now() where c.org_id = old.org_id and c.authorized_by = old.user_id;
  else
    update public.connections as c set authorizer_left_at = null where c.org_id = new.org_id and c.authorized_by = new.user_id;
  end if;
  return null;
end
$$;
comment on function private.connections_on_membership() is 'Trigger: shows on a connection that the member who authorized it has left, or is back. Definer: whoever removes members may not write connections.';
create trigger memberships_connections after insert or delete on public.memberships
  for each row execute function private.connections_on_membership();

create function private.connections_on_authorizer_deleted() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.authorizer_left_at := coalesce(new.authorizer_left_at, kijko.now());
  return new;
end
$$;
comment on function private.connections_on_authorizer_deleted() is 'Trigger: the user who authorized the connection is deleted.';
create trigger connections_authorizer before update of authorized_by on public.connections
  for each row when (old.authorized_by is not null and new.authorized_by is null) execute function private.connections_on_authorizer_deleted();

-- ----------------------------------------------------------------------------
-- Refreshing
-- ----------------------------------------------------------------------------

create function private.connections_enqueue(connection public.connections) returns uuid
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select private.jobs_enqueue(
    connection.org_id, 'connection_refresh', jsonb_build_object('connection_id', connection.id), timeout_seconds => 120,
    unique_key => connection.id::text
  )
$$;
comment on function private.connections_enqueue(public.connections) is 'Queues the refresh of a connection; null if one is queued. Called by definer functions only.';

create function private.connections_enqueue_due(max_connections integer default 500) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
  due public.connections;
  queued integer := 0;
begin
  perform private.connections_prune();
  for due in
    select c.*
    from private.connection_tokens as t
    join public.connections as c on c.org_id = t.organization and c.id = t.connection_id
    where t.check_at <= kijko.now() and c.status = 'active'
    order by t.check_at
    limit max_connections
    for update of t skip locked
  loop
    continue when due.org_id = any (private.passed_over());
    -- If the job ends without a result (its worker was killed for good), this lets another one be queued.
    update private.connection_tokens as t set check_at = kijko.now() + interval '10 minutes' where t.connection_id = due.id;
    -- One that fails stops no other.
    begin
      queued := queued + (private.connections_enqueue(due) is not null)::integer;
    exception when others then
      raise warning 'connection %: %', due.id, sqlerrm;
      perform private.pass_over(due.org_id, sqlstate);
    end;
  end loop;
  return queued;
end
$$;
comment on function private.connections_enqueue_due(integer) is 'Queues the refreshes that are due, and returns how many. Runs every minute.';

-- In one order everywhere, the connection first: removing one and authorizing it again lock it before its token.
create function private.connections_lock_token(org uuid, connection_id uuid) returns private.connection_tokens
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  token private.connection_tokens;
begin
  perform 1 from public.connections as c
  where c.org_id = org and c.id = connections_lock_token.connection_id and c.status = 'active' for no key update;
  if found then
    select t.* into token from private.connection_tokens as t
    where t.organization = org and t.connection_id = connections_lock_token.connection_id for update;
  end if;
  return token;
end
$$;
comment on function private.connections_lock_token(uuid, uuid) is 'Locks an active connection of the organization and its token; null if there is none. Called by definer functions only.';

create function private.connections_lock_refreshed(token_id uuid, generation integer) returns private.connection_tokens
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  token private.connection_tokens;
begin
  perform 1 from public.connections as c
  where c.id = (select t.connection_id from private.connection_tokens as t where t.id = token_id) for no key update;
  select t.* into token from private.connection_tokens as t
  where t.id = token_id and t.generation = connections_lock_refreshed.generation for update;
  return token;
end
$$;
comment on function private.connections_lock_refreshed(uuid, integer) is 'Locks the token of a refresh, with its connection if it has one; null if a later refresh was stored. Called by definer functions only.';

create function private.connections_start_refresh(worker text, job_id uuid, attempt integer) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  max_refresh constant interval := interval '1 minute';
  job constant public.jobs := private.jobs_lock_leased(worker, job_id, attempt);
  token private.connection_tokens;
begin
  if job.id is null then
    return null;
  end if;
  token := private.connections_lock_token(job.org_id, private.as_uuid(job.payload ->> 'connection_id'));
  if token.id is null then
    return '{}'::jsonb;
  elsif token.refresh_started_at > clock_timestamp() - max_refresh then
    return jsonb_build_object('wait', ceil(extract(epoch from token.refresh_started_at + max_refresh - clock_timestamp())));
  elsif token.refresh_token is null and token.expires_at <= kijko.now() then
    perform private.connections_pause(token.connection_id, 'expired');
    return '{}'::jsonb;
  end if;
  update private.connection_tokens as t
  set refresh_started_at = clock_timestamp(), unanswered = t.unanswered + (t.refresh_token is not null)::integer
  where t.id = token.id;
  return jsonb_strip_nulls(jsonb_build_object(
    'token', token.id, 'generation', token.generation, 'provider', token.provider,
    'application', private.connections_application(token.application_id),
    'refresh_token', case when token.refresh_token is not null then kijko.unseal(token.refresh_token, private.connections_refresh_context(token)) end,
    'access_token', case when token.refresh_token is null then kijko.unseal(token.access_token, private.connections_access_context(token)) end
  ));
end
$$;
comment on function private.connections_start_refresh(text, uuid, integer) is 'Claims the refresh of the connection of a held job: its refresh token, or the access token that is only to be tried. An object with wait (seconds) while another refresh is under way, and an empty one if there is nothing to do. Null when the lease was lost. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_start_refresh(text, uuid, integer) to kijko_sidecar;

-- Needs no lease of the job: what the provider has given is kept, also if another worker holds the job by now. If the connection was
-- removed meanwhile, its token is then revoked.
create function private.connections_refreshed(token_id uuid, generation integer, tokens jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  token private.connection_tokens := private.connections_lock_refreshed(token_id, connections_refreshed.generation);
begin
  if token.id is null then
    return false;
  end if;
  token := case when tokens is null then token else private.connections_seal(token, tokens) end;
  update private.connection_tokens as t
  set access_token = token.access_token, refresh_token = token.refresh_token, expires_at = token.expires_at,
    refresh_expires_at = token.refresh_expires_at, check_at = private.connections_next_check(token), generation = t.generation + 1,
    refresh_started_at = null, unanswered = 0, failures = 0
  where t.id = token.id;
  update public.connections as c
  set expires_at = token.expires_at, refresh_expires_at = token.refresh_expires_at, error_code = null,
    refreshed_at = case when tokens is null then c.refreshed_at else kijko.now() end
  where c.id = token.connection_id;
  return true;
end
$$;
comment on function private.connections_refreshed(uuid, integer, jsonb) is 'Stores what a refresh gave; without tokens, that the provider still accepts the access token. False if a later refresh was stored. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_refreshed(uuid, integer, jsonb) to kijko_sidecar;

create function private.connections_refresh_failed(token_id uuid, generation integer, refused boolean, answered boolean, error_code text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  token constant private.connection_tokens := private.connections_lock_refreshed(token_id, connections_refresh_failed.generation);
begin
  if token.id is null then
    return;
  elsif refused and token.connection_id is not null then
    perform private.connections_pause(token.connection_id, case
      when token.refresh_expires_at <= kijko.now() then 'expired'
      when token.unanswered > 1 then 'refresh_interrupted'
      else 'revoked'
    end);
    return;
  end if;
  update private.connection_tokens as t
  set refresh_started_at = null, failures = t.failures + 1, unanswered = case when answered then greatest(t.unanswered - 1, 0) else t.unanswered end,
    check_at = kijko.now() + least(interval '1 minute' * power(2, t.failures), interval '1 hour')
  where t.id = token.id;
  update public.connections as c set error_code = "left"(connections_refresh_failed.error_code, 100) where c.id = token.connection_id;
end
$$;
comment on function private.connections_refresh_failed(uuid, integer, boolean, boolean, text) is 'Says why a refresh failed. refused: the provider does not accept the token, and the connection is paused. Otherwise it stays active and is tried again, at most an hour later. answered: the provider said no or was not asked, so that this attempt has lost no new token. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_refresh_failed(uuid, integer, boolean, boolean, text) to kijko_sidecar;

-- ----------------------------------------------------------------------------
-- Using a connection, for jobs of other domains
-- ----------------------------------------------------------------------------

create function private.connections_use(org uuid, connection_id uuid) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  connection public.connections;
  token private.connection_tokens;
begin
  select c.* into connection from public.connections as c where c.org_id = org and c.id = connections_use.connection_id;
  select t.* into token from private.connection_tokens as t where t.organization = org and t.connection_id = connection.id;
  if connection.id is null then
    return null;
  elsif connection.status = 'paused' then
    return jsonb_build_object('status', 'paused', 'reason', connection.paused_reason);
  elsif token.expires_at <= kijko.now() + interval '30 seconds' then
    perform private.connections_enqueue(connection);
    return jsonb_build_object('status', 'refreshing');
  end if;
  return jsonb_build_object(
    'status', 'active', 'provider', connection.provider, 'account_id', connection.account_id, 'account_name', connection.account_name,
    'scopes', connection.scopes, 'generation', token.generation, 'expires_at', token.expires_at,
    'own_application', token.application_id is not null,
    'access_token', kijko.unseal(token.access_token, private.connections_access_context(token))
  );
end
$$;
comment on function private.connections_use(uuid, uuid) is 'The access token of an organization''s connection, for a job of that organization: {"status": "active", "access_token": …}; own_application says whose application the provider charges. Without a token while it is paused (try no more), or refreshing (try again in a few seconds). Null if the organization has no such connection. Nullable: result. Definer: the sidecar holds no table rights, and no other role may call it.';
grant execute on function private.connections_use(uuid, uuid) to kijko_sidecar;

create function private.connections_reject(org uuid, connection_id uuid, generation integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  token constant private.connection_tokens := private.connections_lock_token(org, connections_reject.connection_id);
begin
  if token.id is null or token.generation is distinct from connections_reject.generation then
    return;
  elsif token.refresh_token is null then
    perform private.connections_pause(token.connection_id, 'revoked');
    return;
  end if;
  update private.connection_tokens as t set expires_at = least(t.expires_at, kijko.now()) where t.id = token.id;
  perform private.connections_enqueue(c) from public.connections as c where c.id = token.connection_id;
end
$$;
comment on function private.connections_reject(uuid, uuid, integer) is 'Says that the provider answered 401 to the token of connections_use(), with the generation that it had: the token is refreshed, or the connection paused if it cannot be. Nothing if there is a newer one. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_reject(uuid, uuid, integer) to kijko_sidecar;

-- ----------------------------------------------------------------------------
-- Revoking
-- ----------------------------------------------------------------------------

-- A claim is a lease of a minute and twice as long after each attempt; after ten attempts, in some seventeen hours, the provider is
-- given up. A refresh that is under way ends first: its answer is what is to be revoked.
create function private.connections_claim_revocations() returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  claimed jsonb;
begin
  delete from private.connection_tokens as t
  where t.connection_id is null and t.flow_id is null and t.revocation_attempts >= 10 and t.revoke_at <= now();
  with due as (
    select t.id from private.connection_tokens as t
    where t.connection_id is null and t.flow_id is null and coalesce(t.revoke_at <= now(), true)
      and coalesce(t.refresh_started_at < clock_timestamp() - interval '1 minute', true)
    order by t.created_at limit 10 for update skip locked
  ), leased as (
    update private.connection_tokens as t
    set revocation_attempts = t.revocation_attempts + 1, revoke_at = now() + interval '1 minute' * power(2, t.revocation_attempts)
    from due where t.id = due.id
    returning t.*
  )
  select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
    'id', l.id, 'provider', l.provider, 'application', private.connections_application(l.application_id),
    -- Also by a connection of another organization: some providers end all tokens of an account with one.
    'replaced', l.replaced or exists (
      select 1 from public.connections as c where c.provider = l.provider and c.account_id = l.account_id and c.status = 'active'
    ),
    'access_token', kijko.unseal(l.access_token, private.connections_access_context(l)),
    'refresh_token', case when l.refresh_token is not null then kijko.unseal(l.refresh_token, private.connections_refresh_context(l)) end
  ))), '[]') into claimed
  from leased as l;
  return claimed;
end
$$;
comment on function private.connections_claim_revocations() is 'Tokens that are to be revoked now, leased for a while. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_claim_revocations() to kijko_sidecar;

create function private.connections_end_revocation(token_id uuid) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$ delete from private.connection_tokens as t where t.id = token_id and t.connection_id is null and t.flow_id is null $$;
comment on function private.connections_end_revocation(uuid) is 'Forgets a token that was revoked, or that its provider cannot revoke. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_end_revocation(uuid) to kijko_sidecar;

select private.schedule('kijko-connections', '* * * * *', 'perform private.connections_enqueue_due()');
