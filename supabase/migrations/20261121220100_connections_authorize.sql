-- ============================================================================
-- Connections: a member's consent at the provider, from begin_connection() to complete_connection().
--
-- Three things bind it. The state is good once, in the browser that opened the ticket. The code is good once, for the member and
-- session that began: a stranger who is lured to the address of somebody else's flow gives their account to nobody. And the provider
-- binds its own code to our callback and to a verifier that only that browser's cookie yields. States of login are in a table of their
-- own, and login's callback is another address: neither kind of flow can end as the other.
-- ============================================================================

create function private.connections_lifetime() returns interval
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return interval '10 minutes';
comment on function private.connections_lifetime() is 'How long a member has from begin_connection() to complete_connection().';

create function private.connections_hash(secret text) returns bytea
language sql immutable strict parallel safe set search_path = pg_catalog, pg_temp
return sha256(convert_to(secret, 'UTF8'));
comment on function private.connections_hash(text) is 'What is stored of a ticket, a state, a code or the secret of a browser.';

create function private.connections_new_secret() returns text
language sql volatile set search_path = pg_catalog, pg_temp
-- Two random uuids are 244 bits of the server's strong source.
return replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
comment on function private.connections_new_secret() is 'A new ticket or code.';

-- The public address and the allow-list are login's: there is one of each. Without our login (on self-hosted Supabase) there is none.
create function private.connections_login_url() returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  if to_regclass('auth_api.settings') is null then
    perform kijko.fail('unavailable', 'connections need the login of a plain Postgres');
  end if;
  return (select s.issuer from auth_api.settings as s);
end
$$;
comment on function private.connections_login_url() is 'The public address of login, from its settings and never from a request.';

create function private.connections_callback_url() returns text
language sql stable set search_path = pg_catalog, pg_temp
-- Below login's own callback: GitHub takes addresses below the registered one.
return private.connections_login_url() || '/callback/connection';
comment on function private.connections_callback_url() is 'Where providers send browsers back.';

create function private.connections_target(redirect_to text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.connections_login_url();
  if redirect_to is null then
    return (select s.site_url from auth_api.settings as s);
  elsif char_length(redirect_to) > 2048 or auth_api.is_allowed_redirect(redirect_to) is not true then
    perform kijko.fail('invalid_input', 'redirect_to: neither the site nor on the allow-list', 'The operator adds it to redirect_urls of login.');
  end if;
  return redirect_to;
end
$$;
comment on function private.connections_target(text) is 'Where the browser goes in the end: the given address, if login''s allow-list has it, or the site. Fails with invalid_input otherwise.';

-- Names of our own: supabase-js takes code and error in an address for those of a sign-in.
create function private.connections_location(target text, fields jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  base constant text := split_part(target, '#', 1);
begin
  return base || case when base like '%?%' then '&' else '?' end || auth_api.form_encode(jsonb_strip_nulls(fields))
    || coalesce('#' || substring(target from '#(.*)$'), '');
end
$$;
comment on function private.connections_location(text, jsonb) is 'The target with the fields in its query.';

select private.set_retention('private.connection_flows', null, 'a consent at a provider that is under way', kept_by => 'private.connections_lifetime()');
select private.set_retention('private.connection_application_secrets', null, 'authorizes and revokes tokens', kept_by => 'the application; once that is removed, its tokens');
select private.set_retention('private.connection_tokens', null, 'lets the product act by the account', kept_by => 'the connection; once that is removed, the revocation at the provider, at most some seventeen hours');

create function private.connections_prune() returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  delete from private.connection_flows as f where f.id in (
    select o.id from private.connection_flows as o where o.created_at < kijko.now() - private.connections_lifetime()
    order by o.created_at limit 200 for update skip locked
  );
  delete from private.connection_application_secrets as s where s.application_id in (
    select r.application_id from private.connection_application_secrets as r
    where r.retired_at is not null
      and not exists (select from private.connection_flows as f where f.application_id = r.application_id)
      and not exists (select from private.connection_tokens as t where t.application_id = r.application_id)
    order by r.retired_at limit 200 for update skip locked
  )
$$;
comment on function private.connections_prune() is 'Deletes flows that have expired, whose tokens are then revoked, and secrets of removed applications that no token needs any more.';

-- ----------------------------------------------------------------------------
-- Beginning
-- ----------------------------------------------------------------------------

create function private.connections_check_scopes(provider private.connection_providers, scopes text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  strange text;
begin
  if cardinality(scopes) > 50 or array_ndims(scopes) > 1 then
    perform kijko.fail('invalid_input', 'scopes: a list of at most 50');
  end if;
  select s.scope into strange from unnest(scopes) as s (scope) where s.scope is null or s.scope <> all (provider.scopes) limit 1;
  if found then
    perform kijko.fail('invalid_input', format('scopes: %s is not one of %s', coalesce(left(strange, 60), 'null'), array_to_string(provider.scopes, ', ')));
  end if;
end
$$;
comment on function private.connections_check_scopes(private.connection_providers, text[]) is 'Fails with invalid_input unless the operator allows each scope.';

create type public.begun_connection as (url text, expires_at timestamptz);
comment on type public.begun_connection is 'Result of begin_connection(): the address that the member''s browser opens, once, and until when the connection can be completed.';

create function public.begin_connection(
  provider text default null, scopes text[] default null, redirect_to text default null, connection_id uuid default null
) returns public.begun_connection
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  member constant uuid := private.tenancy_require_user();
  org constant uuid := private.tenancy_require_org_with('connections:write');
  ticket constant text := private.connections_new_secret();
  former public.connections;
  found_provider private.connection_providers;
  application uuid;
begin
  if begin_connection.connection_id is not null then
    select c.* into former from public.connections as c where c.id = begin_connection.connection_id and c.org_id = org;
    if former.id is null then
      perform kijko.fail('not_found', 'no such connection');
    elsif begin_connection.provider <> former.provider then
      perform kijko.fail('conflict', 'the connection is at another provider');
    end if;
  end if;
  found_provider := private.connections_provider(coalesce(begin_connection.provider, former.provider));
  if found_provider.name is null then
    perform kijko.fail('invalid_input', 'provider: not one of list_connection_providers()');
  end if;
  if begin_connection.scopes is not null then
    perform private.connections_check_scopes(found_provider, begin_connection.scopes);
  end if;
  perform private.limit_rate('connection:' || org, 60, interval '1 hour', 'an organization begins at most %s connections an hour');
  perform private.connections_prune();
  -- It is not removed before this flow is seen.
  select a.id into application from public.connection_applications as a where a.org_id = org and a.provider = found_provider.name for key share;
  insert into private.connection_flows (organization, user_id, session_id, provider, scopes, redirect_to, application_id, connection_id, ticket_hash)
  values (
    org, member, kijko.session_id(), found_provider.name,
    -- Without scopes: those that it had, as far as they are still allowed.
    coalesce(
      begin_connection.scopes,
      array(select s.scope from unnest(former.scopes) as s (scope) where s.scope = any (found_provider.scopes))
    ),
    private.connections_target(begin_connection.redirect_to), application, former.id, private.connections_hash(ticket)
  );
  return (
    private.connections_login_url() || '/authorize/connection?ticket=' || ticket, kijko.now() + private.connections_lifetime()
  )::public.begun_connection;
end
$$;
comment on function public.begin_connection(text, text[], text, uuid) is 'Begins to connect an account of the organization of the request at a provider, or to authorize the given connection again. The browser of the member opens the address that it returns, and comes back to redirect_to (the site by default) with connection_code or connection_error in the query. Requires connections:write; not for API keys. Definer: flows are private.';
grant execute on function public.begin_connection(text, text[], text, uuid) to authenticated;

-- ----------------------------------------------------------------------------
-- What the sidecar asks
-- ----------------------------------------------------------------------------

create function private.connections_take_ticket(ticket text, state text, browser text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  flow private.connection_flows;
begin
  update private.connection_flows as f
  set ticket_hash = null, state_hash = private.connections_hash(state), browser_hash = private.connections_hash(browser)
  where f.ticket_hash = private.connections_hash(ticket) and f.created_at + private.connections_lifetime() > kijko.now()
  returning f.* into flow;
  return case when flow.id is not null then
    jsonb_build_object(
      'flow', flow.id, 'provider', flow.provider, 'scopes', flow.scopes, 'callback', private.connections_callback_url(),
      'application', private.connections_application(flow.application_id)
    )
  end;
end
$$;
comment on function private.connections_take_ticket(text, text, text) is 'Binds a flow to the browser that opened its address. Null if the ticket is unknown, used or expired. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_take_ticket(text, text, text) to kijko_sidecar;

-- Committed before the provider is asked: of two callbacks with one state the second is refused, whatever becomes of the first. A
-- callback of another browser uses nothing up.
create function private.connections_take_state(state text, browser text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  flow private.connection_flows;
begin
  update private.connection_flows as f set used_at = kijko.now()
  where f.state_hash = private.connections_hash(state) and f.browser_hash = private.connections_hash(browser) and f.used_at is null
    and f.created_at + private.connections_lifetime() > kijko.now()
  returning f.* into flow;
  return case when flow.id is not null then
    jsonb_build_object(
      'flow', flow.id, 'provider', flow.provider, 'callback', private.connections_callback_url(),
      'application', private.connections_application(flow.application_id)
    )
  end;
end
$$;
comment on function private.connections_take_state(text, text) is 'Takes the state of a provider''s answer, once and from the browser that began. Null if it is unknown, used, expired or of another browser. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_take_state(text, text) to kijko_sidecar;

create function private.connections_end_flow(flow_id uuid) returns private.connection_flows
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  flow private.connection_flows;
begin
  update private.connection_flows as f set ended_at = kijko.now()
  where f.id = flow_id and f.ended_at is null
  returning f.* into flow;
  return flow;
end
$$;
comment on function private.connections_end_flow(uuid) is 'The flow whose answer has come; once. Called by definer functions only.';

-- A provider's words are cut and lose what is not plain text.
create function private.connections_refuse(flow private.connection_flows, error text, description text) returns text
language sql stable set search_path = pg_catalog, pg_temp
return private.connections_location(flow.redirect_to, jsonb_build_object(
  'connection_error', case when error ~ '^[a-z_]+$' and char_length(error) <= 50 then error else 'server_error' end,
  'connection_error_description', left(regexp_replace(coalesce(description, ''), '[^ -~]', '', 'g'), 200)
));
comment on function private.connections_refuse(private.connection_flows, text, text) is 'The target with an error. Called by definer functions only.';

create function private.connections_fail(flow_id uuid, error text, description text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  flow constant private.connection_flows := private.connections_end_flow(flow_id);
begin
  return case when flow.id is not null then private.connections_refuse(flow, connections_fail.error, connections_fail.description) end;
end
$$;
comment on function private.connections_fail(uuid, text, text) is 'Ends a flow: the provider refused, or did not answer. Returns where the browser goes; null if the flow has ended. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_fail(uuid, text, text) to kijko_sidecar;

-- The sidecar fetched the keys from the issuer that it is configured with. Whether the token is theirs and for this flow is decided here.
create function private.connections_claims(answer jsonb) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  clients constant text[] := array(select jsonb_array_elements_text(answer -> 'client_ids'));
  claims jsonb;
begin
  if not answer ? 'id_token' then
    return answer -> 'profile';
  end if;
  claims := kijko.verify_jwt(answer ->> 'id_token', answer -> 'jwks', answer ->> 'issuer', clients, interval '30 seconds');
  if claims is null or claims ->> 'nonce' is distinct from answer ->> 'nonce' or claims ->> 'azp' <> all (clients)
    or (jsonb_typeof(claims -> 'aud') = 'array' and jsonb_array_length(claims -> 'aud') > 1 and claims ->> 'azp' is null)
  then
    return null;
  elsif answer #>> '{userinfo,sub}' = claims ->> 'sub' then
    return (answer -> 'userinfo') || claims;
  end if;
  return claims;
end
$$;
comment on function private.connections_claims(jsonb) is 'What the provider says of the account; null if its identity token is not valid or not of this flow. Nullable: result.';

create function private.connections_account(flow private.connection_flows, answer jsonb) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  claims constant jsonb := private.connections_claims(answer);
  granted constant text := answer #>> '{tokens,scope}';
begin
  if coalesce(claims ->> 'sub', '') = '' or char_length(claims ->> 'sub') > 255 then
    return null;
  end if;
  return jsonb_build_object(
    'id', claims ->> 'sub',
    'name', left(coalesce(
      nullif(claims ->> 'preferred_username', ''), nullif(claims ->> 'email', ''), nullif(claims ->> 'name', '')
    ), 255),
    -- GitHub separates by commas.
    'scopes', case when granted is null then to_jsonb(flow.scopes) else (
      select coalesce(jsonb_agg(distinct s.scope), '[]') from regexp_split_to_table(granted, '[ ,]+') as s (scope) where s.scope <> ''
    ) end
  );
end
$$;
comment on function private.connections_account(private.connection_flows, jsonb) is 'Id, name and scopes of the account; null if the answer does not identify one. Nullable: result.';

create function private.connections_lock_application(flow_id uuid) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  application constant uuid := (select f.application_id from private.connection_flows as f where f.id = flow_id);
begin
  perform 1 from public.connection_applications as a where a.id = application for key share;
  return found or application is null;
end
$$;
comment on function private.connections_lock_application(uuid) is 'Holds off the removal of the application of a flow; false if it is removed. Before the connection and the flow, as its removal does. Called by definer functions only.';

create function private.connections_authorized(flow_id uuid, answer jsonb) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  has_application constant boolean := private.connections_lock_application(flow_id);
  flow constant private.connection_flows := private.connections_end_flow(flow_id);
  named constant jsonb := private.connections_account(flow, answer);
  code constant text := private.connections_new_secret();
  token private.connection_tokens;
begin
  if flow.id is null then
    return null;
  elsif coalesce(answer #>> '{tokens,access_token}', '') = '' then
    return private.connections_refuse(flow, 'server_error', 'The provider gave no token');
  end if;
  token.id := gen_random_uuid();
  token.organization := flow.organization;
  token := private.connections_seal(token, answer -> 'tokens');
  insert into private.connection_tokens (
    id, organization, provider, account_id, application_id, flow_id, access_token, refresh_token, expires_at, refresh_expires_at, check_at
  )
  values (
    -- Without an account, or its application, it waits to be revoked.
    token.id, token.organization, flow.provider, named ->> 'id', flow.application_id, case when named is not null and has_application then flow.id end,
    token.access_token, token.refresh_token, token.expires_at, token.refresh_expires_at, token.check_at
  );
  if not has_application then
    return private.connections_refuse(flow, 'server_error', 'The application was removed');
  elsif named is null then
    return private.connections_refuse(flow, 'account_unknown', 'The provider does not say whose account it is');
  end if;
  update private.connection_flows as f set account = named, code_hash = private.connections_hash(code) where f.id = flow.id;
  return private.connections_location(flow.redirect_to, jsonb_build_object('connection_code', code));
end
$$;
comment on function private.connections_authorized(uuid, jsonb) is 'Ends a flow: keeps the provider''s tokens, sealed, until the member completes it. Returns where the browser goes; null if the flow has ended. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_authorized(uuid, jsonb) to kijko_sidecar;
