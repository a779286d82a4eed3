-- ============================================================================
-- Connections: their completion, by the member who began.
-- ============================================================================

create function private.connections_attach_token(connection public.connections, flow private.connection_flows) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  fresh private.connection_tokens;
begin
  -- The former one is revoked, unless the provider gave the same one again.
  delete from private.connection_tokens as t
  using private.connection_tokens as n
  where t.connection_id = connection.id and n.flow_id = flow.id
    and kijko.unseal(t.access_token, private.connections_access_context(t)) = kijko.unseal(n.access_token, private.connections_access_context(n));
  update private.connection_tokens as t set connection_id = null, check_at = null, replaced = true where t.connection_id = connection.id;
  update private.connection_tokens as t set connection_id = connection.id, flow_id = null where t.flow_id = flow.id
  returning t.* into fresh;
  update public.connections as c set expires_at = fresh.expires_at, refresh_expires_at = fresh.refresh_expires_at where c.id = connection.id;
end
$$;
comment on function private.connections_attach_token(public.connections, private.connection_flows) is 'Gives a connection the token of a flow. Called by definer functions only.';

-- The same answer for a code of somebody else, which stays good for them.
create function private.connections_find_flow(code text, member uuid) returns private.connection_flows
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select f.* from private.connection_flows as f
  where f.code_hash = private.connections_hash(code) and f.user_id = member and f.session_id is not distinct from kijko.session_id()
    and f.created_at + private.connections_lifetime() > kijko.now()
$$;
comment on function private.connections_find_flow(text, uuid) is 'The flow of a code, if this member began it in this session and it is not too old; null otherwise. Called by definer functions only.';

create function public.complete_connection(code text) returns public.connections
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  member constant uuid := private.tenancy_require_user();
  flow private.connection_flows := private.connections_find_flow(complete_connection.code, member);
  former public.connections;
  connection public.connections;
begin
  if not private.connections_lock_application(flow.id) then
    flow.id := null;
  end if;
  -- The connection first, as everywhere: removing it deletes the flow.
  select c.* into former from public.connections as c where c.id = flow.connection_id for no key update;
  select f.* into flow from private.connection_flows as f where f.id = flow.id for update;
  if flow.id is null then
    perform kijko.fail('not_found', 'no such code: it is unknown, used, expired, or of another session', 'Call begin_connection() again.');
  elsif public.can(flow.organization, 'connections:write') is not true then
    perform kijko.fail('permission_denied', 'requires the permission connections:write');
  end if;
  if former.id is not null and former.account_id <> flow.account ->> 'id' then
    perform kijko.fail('conflict', 'the provider was asked by another account than that of the connection', 'Sign in there with its account, or begin a new connection.');
  end if;
  insert into public.connections as c (org_id, provider, account_id, account_name, scopes, authorized_by)
  values (
    flow.organization, flow.provider, flow.account ->> 'id', flow.account ->> 'name',
    array(select jsonb_array_elements_text(flow.account -> 'scopes')), member
  )
  on conflict on constraint connections_org_id_provider_account_id_key do update set
    account_name = excluded.account_name, scopes = excluded.scopes, status = 'active', paused_reason = null, paused_at = null, error_code = null,
    refreshed_at = null, authorized_at = kijko.now(), authorized_by = excluded.authorized_by, authorizer_left_at = null
  returning c.* into connection;
  perform private.connections_attach_token(connection, flow);
  delete from private.connection_flows as f where f.id = flow.id;
  select c.* into connection from public.connections as c where c.id = connection.id;
  return connection;
end
$$;
comment on function public.complete_connection(text) is 'Completes a connection by the connection_code with which the browser came back. Only the member who began can, in the same session and within ten minutes. An account that the organization has connected already keeps its row, which is active again. Requires connections:write; not for API keys. Definer: users may not insert connections.';
grant execute on function public.complete_connection(text) to authenticated;
