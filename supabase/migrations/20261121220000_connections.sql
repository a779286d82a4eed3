-- ============================================================================
-- Connections: an organization's own accounts at other services.
--
--   1. A member with connections:write calls begin_connection(), opens the address that it returns, and agrees at the provider.
--   2. The sidecar exchanges the provider's code. The token is sealed and waits; the browser goes back with a code of ours.
--   3. The same member, in the same session, calls complete_connection() with that code. Only now the organization has the connection.
--   4. A job renews the token before it expires. Where the provider wants a new consent, the connection is paused, with a notice.
--   5. What is removed or replaced is revoked at the provider.
--
-- An organization may bring an application of its own, by which the provider knows it. Its tokens are good with that one only.
-- A connection belongs to its organization. It outlives the membership, and the account, of the member who made it.
-- ============================================================================

create table public.connections (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade check (org_id <> kijko.platform_org_id()),
  provider text not null check (char_length(provider) <= 32 and provider ~ '^[a-z][a-z0-9_]*$'),
  account_id text not null check (char_length(account_id) between 1 and 255),
  account_name text check (char_length(account_name) between 1 and 255),
  scopes text[] not null default '{}' check (cardinality(scopes) <= 100 and octet_length(scopes::text) <= 8192),
  status text not null default 'active' check (status in ('active', 'paused')),
  paused_reason text check (paused_reason in ('expired', 'revoked', 'refresh_interrupted', 'application_removed')),
  paused_at timestamptz,
  error_code text check (char_length(error_code) <= 100),
  expires_at timestamptz,
  refresh_expires_at timestamptz,
  refreshed_at timestamptz,
  authorized_at timestamptz not null default kijko.now(),
  authorized_by uuid references auth.users (id) on delete set null,
  authorizer_left_at timestamptz,
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, id),
  -- One row for an account, so that to authorize it again keeps the row that others point at.
  unique (org_id, provider, account_id),
  check ((status = 'paused') = (paused_reason is not null) and (status = 'paused') = (paused_at is not null))
);
create index connections_authorized_by_idx on public.connections (authorized_by);
-- For revocations: who else has this account.
create index connections_account_idx on public.connections (provider, account_id);

comment on table public.connections is 'Accounts of an organization at other services. Made by begin_connection() and complete_connection(); a row that is deleted is revoked at its provider. No function for clients returns a token.';
comment on column public.connections.id is 'Identity of the row.';
comment on column public.connections.org_id is 'Organization that owns it; never changes.';
comment on column public.connections.provider is 'Provider, one of list_connection_providers().';
comment on column public.connections.account_id is 'The account, as the provider identifies it; never changes.';
comment on column public.connections.account_name is 'Login name of the account at the provider when it was last authorized; null if the provider tells none.';
comment on column public.connections.scopes is 'What the provider says that the token may do; what was asked for, if it does not say.';
comment on column public.connections.status is 'active, or paused until a member authorizes it again.';
comment on column public.connections.paused_reason is 'expired (its time is over), revoked (the provider does not accept it any more), refresh_interrupted (the answer to a refresh was lost, and the provider gives no other), or application_removed (the application that it was authorized by is gone). Null while active.';
comment on column public.connections.paused_at is 'When it was paused; null while active.';
comment on column public.connections.error_code is 'Why the last refresh failed, for a reason that may pass; null after a success.';
comment on column public.connections.expires_at is 'When the access token expires; null if it does not, or the provider does not say. A token that can be refreshed is, before that.';
comment on column public.connections.refresh_expires_at is 'When a new consent is needed, unless the token is refreshed before; null if the provider does not say.';
comment on column public.connections.refreshed_at is 'When the token was last refreshed; null before the first time.';
comment on column public.connections.authorized_at is 'When a member last authorized it.';
comment on column public.connections.authorized_by is 'Member who last authorized it at the provider; null after that user is deleted.';
comment on column public.connections.authorizer_left_at is 'When the member who last authorized it left the organization. The connection goes on; another member should authorize it.';
comment on column public.connections.created_by is 'User who made it first; null after that user is deleted.';
comment on column public.connections.created_by_key is 'Always null: keys make no connections.';
comment on column public.connections.created_at is 'When it was made.';
comment on column public.connections.updated_at is 'Last change; set by trigger.';

select private.make_tenant_table('public.connections', resource => 'connections', writable => '{}', max_rows => 50, catalogue => '{
  "provider, account_id, account_name": "which account of the organization it is",
  "scopes": "what the account lets the product do",
  "status, paused_reason, paused_at, error_code": "whether it works",
  "expires_at, refresh_expires_at, refreshed_at, authorized_at": "when a new consent is needed",
  "authorized_by": {"subject": "person", "purpose": "who gave the consent", "export": "organization"},
  "authorizer_left_at": "shows that nobody of the organization may be able to renew the consent"
}');
-- Rows are made by complete_connection() only, because consent takes a browser.
grant delete on public.connections to authenticated, service_role;
create policy connections_delete on public.connections for delete to authenticated
  using (org_id = any (array(select private.org_ids_with('connections:write'))));

-- ----------------------------------------------------------------------------
-- Providers: what the operator configured, as sidecars say
-- ----------------------------------------------------------------------------

create table private.connection_providers (
  name text primary key check (char_length(name) <= 32 and name ~ '^[a-z][a-z0-9_]*$'),
  scopes text[] not null,
  registered_at timestamptz not null
);
comment on table private.connection_providers is 'The providers of connections that sidecars are configured with, as they say themselves.';
comment on column private.connection_providers.name is 'Name of the provider.';
comment on column private.connection_providers.scopes is 'What a connection may ask for.';
comment on column private.connection_providers.registered_at is 'When a sidecar last named it, by the real clock; each does so every minute.';
select private.describe_data('private.connection_providers', '{"name, scopes, registered_at": "which providers there are"}', 'platform');
alter table private.connection_providers enable row level security;

-- A provider that no sidecar has named for five minutes is switched off.
create function private.connections_register_providers(providers jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from private.connection_providers as p where p.registered_at < now() - interval '1 day';
  insert into private.connection_providers as p (name, scopes, registered_at)
  select distinct on (g.name) g.name, g.scopes, now()
  from jsonb_to_recordset(providers) as g (name text, scopes text[])
  order by g.name
  on conflict on constraint connection_providers_pkey do update set scopes = excluded.scopes, registered_at = excluded.registered_at;
end
$$;
comment on function private.connections_register_providers(jsonb) is 'Notes the providers of a sidecar''s configuration: an array of objects with name and scopes. Definer: the sidecar holds no table rights.';
grant execute on function private.connections_register_providers(jsonb) to kijko_sidecar;

create function private.connections_provider(name text) returns private.connection_providers
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select p.* from private.connection_providers as p where p.name = connections_provider.name and p.registered_at > now() - interval '5 minutes'
$$;
comment on function private.connections_provider(text) is 'A provider that is switched on; null for any other.';

create type public.connection_provider as (provider text, scopes text[]);
comment on type public.connection_provider is 'A provider of connections, and what a connection may ask it for.';

create function public.list_connection_providers() returns setof public.connection_provider
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.tenancy_require_org_with('connections:read');
  return query
  select p.name, p.scopes from private.connection_providers as p where p.registered_at > now() - interval '5 minutes' order by p.name;
end
$$;
comment on function public.list_connection_providers() is 'The providers at which the organization of the request can connect accounts, with the scopes that it may ask for. Requires connections:read. Definer: the table is private.';
grant execute on function public.list_connection_providers() to authenticated;

-- ----------------------------------------------------------------------------
-- Applications: an organization's own client of a provider
-- ----------------------------------------------------------------------------

create table public.connection_applications (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade check (org_id <> kijko.platform_org_id()),
  provider text not null check (char_length(provider) <= 32 and provider ~ '^[a-z][a-z0-9_]*$'),
  client_id text not null check (char_length(client_id) <= 255 and client_id ~ '^[!-~]+$'),
  secret_set_at timestamptz not null default kijko.now(),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, provider)
);
comment on table public.connection_applications is 'Applications of an organization at providers, one for each: new connections are authorized by it instead of the operator''s. Written by set_connection_application(); no function for clients returns its secret.';
comment on column public.connection_applications.id is 'Identity of the row. Another client_id is another application.';
comment on column public.connection_applications.org_id is 'Organization that owns it.';
comment on column public.connection_applications.provider is 'Provider, one of list_connection_providers().';
comment on column public.connection_applications.client_id is 'By what the provider knows it.';
comment on column public.connection_applications.secret_set_at is 'When its secret was last set.';
comment on column public.connection_applications.created_by is 'User who created it; null after that user is deleted.';
comment on column public.connection_applications.created_by_key is 'API key that created it; null for a user.';
comment on column public.connection_applications.created_at is 'When it was created.';
comment on column public.connection_applications.updated_at is 'Last change; set by trigger.';
select private.make_tenant_table('public.connection_applications', resource => 'connections', writable => '{}', max_rows => 50, catalogue => '{
  "provider, client_id, secret_set_at": "by which application accounts are connected"
}');
grant delete on public.connection_applications to authenticated, service_role;
create policy connection_applications_delete on public.connection_applications for delete to authenticated
  using (org_id = any (array(select private.org_ids_with('connections:write'))));

create table private.connection_application_secrets (
  application_id uuid primary key,
  organization uuid not null,
  client_id text not null check (char_length(client_id) <= 255),
  client_secret kijko.sealed not null check (char_length(client_secret) <= 6000),
  -- No foreign keys: it outlives the application, and the organization, until its tokens are revoked.
  retired_at timestamptz
);
create index connection_application_secrets_retired_idx on private.connection_application_secrets (retired_at) where retired_at is not null;
comment on table private.connection_application_secrets is 'Sealed secrets of applications. That of a removed one is kept until its tokens are revoked.';
comment on column private.connection_application_secrets.application_id is 'The application.';
comment on column private.connection_application_secrets.organization is 'Its organization; stays when that is gone.';
comment on column private.connection_application_secrets.client_id is 'By what the provider knows it.';
comment on column private.connection_application_secrets.client_secret is 'Sealed in the context of its application.';
comment on column private.connection_application_secrets.retired_at is 'When the application was removed or replaced, by the real clock; null before.';
select private.describe_data('private.connection_application_secrets', '{
  "application_id, organization, client_id, retired_at": {"subject": "organization", "purpose": "which application has given tokens", "export": "none", "erasure": "retention"},
  "client_secret": {"purpose": "authorizes and revokes tokens of the application", "erasure": "retention"}
}', 'secret');
alter table private.connection_application_secrets enable row level security;

create function private.connections_application_context(application private.connection_application_secrets) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 'connection_application_secrets/' || application.organization::text || '/' || application.application_id::text;
comment on function private.connections_application_context(private.connection_application_secrets) is 'The context in which the secret of an application is sealed.';
select private.seal_column('private.connection_application_secrets', 'client_secret', context => 'private.connections_application_context(private.connection_application_secrets)');

create function private.connections_application(id uuid) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select jsonb_build_object('client_id', s.client_id, 'client_secret', kijko.unseal(s.client_secret, private.connections_application_context(s)))
    from private.connection_application_secrets as s where s.application_id = connections_application.id
  );
end
$$;
comment on function private.connections_application(uuid) is 'Id and secret of an application of an organization, for the sidecar; null for the operator''s. Nullable: result. Called by definer functions only.';

-- ----------------------------------------------------------------------------
-- Flows: connections that have begun
-- ----------------------------------------------------------------------------

create table private.connection_flows (
  id uuid primary key default gen_random_uuid(),
  organization uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  session_id uuid,
  provider text not null check (char_length(provider) <= 32),
  scopes text[] not null check (cardinality(scopes) <= 50),
  redirect_to text not null check (char_length(redirect_to) <= 2048),
  application_id uuid references private.connection_application_secrets (application_id),
  connection_id uuid,
  account jsonb check (private.json_fits(account, 16384)),
  ticket_hash bytea unique,
  state_hash bytea unique,
  browser_hash bytea,
  code_hash bytea unique,
  created_at timestamptz not null default kijko.now(),
  used_at timestamptz,
  ended_at timestamptz,
  foreign key (organization, connection_id) references public.connections (org_id, id) on delete cascade
);
create index connection_flows_organization_idx on private.connection_flows (organization, connection_id);
create index connection_flows_user_id_idx on private.connection_flows (user_id);
create index connection_flows_application_id_idx on private.connection_flows (application_id) where application_id is not null;
create index connection_flows_created_at_idx on private.connection_flows (created_at);
comment on table private.connection_flows is 'Connections that have begun. A row is good for one callback and one completion within ten minutes, by the member who began. Ticket, state, browser and code are stored as SHA-256.';
comment on column private.connection_flows.id is 'The flow.';
comment on column private.connection_flows.organization is 'For which organization.';
comment on column private.connection_flows.user_id is 'Member who began: nobody else completes it.';
comment on column private.connection_flows.session_id is 'Session in which it began, and in which it is completed; null for a user of an issuer.';
comment on column private.connection_flows.provider is 'Where the browser is sent.';
comment on column private.connection_flows.scopes is 'What is asked for; checked against the provider''s list.';
comment on column private.connection_flows.redirect_to is 'Where the browser goes in the end; checked against the allow-list of login.';
comment on column private.connection_flows.application_id is 'Application of the organization that asks; null for the operator''s.';
comment on column private.connection_flows.connection_id is 'Connection that is authorized again: the account must be the same. Null for any account.';
comment on column private.connection_flows.account is 'What the provider says: id, name, scopes. Null before it has answered.';
comment on column private.connection_flows.ticket_hash is 'Of the ticket by which a browser takes the flow over; null once that happened.';
comment on column private.connection_flows.state_hash is 'Of the state that the provider sends back.';
comment on column private.connection_flows.browser_hash is 'Of the secret in the cookie of the browser that took the flow over.';
comment on column private.connection_flows.code_hash is 'Of the code by which the member completes it.';
comment on column private.connection_flows.created_at is 'When it began.';
comment on column private.connection_flows.used_at is 'When its callback came. A second one is refused.';
comment on column private.connection_flows.ended_at is 'When the answer of the provider was handled.';
select private.describe_data('private.connection_flows', '{
  "id, organization, provider, scopes, redirect_to, application_id, connection_id, account, created_at, used_at, ended_at": {"purpose": "what is being connected", "export": "none", "erasure": "retention"},
  "user_id, session_id": {"subject": "person", "purpose": "who may complete it", "export": "none", "erasure": "person"},
  "ticket_hash, state_hash, browser_hash, code_hash": {"subject": "secret", "purpose": "bind the flow to one browser and one member"}
}');
alter table private.connection_flows enable row level security;

-- ----------------------------------------------------------------------------
-- Tokens
-- ----------------------------------------------------------------------------

create table private.connection_tokens (
  id uuid primary key,
  organization uuid not null,
  provider text not null check (char_length(provider) <= 32),
  account_id text check (char_length(account_id) <= 255),
  application_id uuid references private.connection_application_secrets (application_id),
  connection_id uuid unique,
  flow_id uuid unique references private.connection_flows (id) on delete set null,
  access_token kijko.sealed not null check (char_length(access_token) <= 24000),
  refresh_token kijko.sealed check (char_length(refresh_token) <= 24000),
  generation integer not null default 1,
  expires_at timestamptz,
  refresh_expires_at timestamptz,
  check_at timestamptz,
  refresh_started_at timestamptz,
  unanswered integer not null default 0,
  failures integer not null default 0,
  replaced boolean not null default false,
  revocation_attempts integer not null default 0,
  revoke_at timestamptz,
  created_at timestamptz not null default kijko.now(),
  -- Without connection and flow it waits to be revoked, also after its organization is gone.
  foreign key (organization, connection_id) references public.connections (org_id, id) on delete set null (connection_id)
);
create index connection_tokens_connection_idx on private.connection_tokens (organization, connection_id);
create index connection_tokens_application_id_idx on private.connection_tokens (application_id) where application_id is not null;
create index connection_tokens_check_at_idx on private.connection_tokens (check_at) where check_at is not null and connection_id is not null;
create index connection_tokens_orphaned_idx on private.connection_tokens (created_at) where connection_id is null and flow_id is null;
comment on table private.connection_tokens is 'Sealed tokens of connections. One without connection and flow waits to be revoked at its provider.';
comment on column private.connection_tokens.id is 'The row; part of the context in which its tokens are sealed.';
comment on column private.connection_tokens.organization is 'Organization of the connection; stays when it is gone.';
comment on column private.connection_tokens.provider is 'Whose token it is.';
comment on column private.connection_tokens.account_id is 'The account at the provider; null if it did not say.';
comment on column private.connection_tokens.application_id is 'Application of the organization that got it, and refreshes and revokes it; null for the operator''s.';
comment on column private.connection_tokens.connection_id is 'The connection; null before it is completed, and once it is removed.';
comment on column private.connection_tokens.flow_id is 'The flow that waits to be completed.';
comment on column private.connection_tokens.access_token is 'Sealed.';
comment on column private.connection_tokens.refresh_token is 'Sealed; null if the provider gave none.';
comment on column private.connection_tokens.generation is 'Counts refreshes: the answer to an earlier one is not taken.';
comment on column private.connection_tokens.expires_at is 'When the access token expires; null if it does not, or the provider does not say.';
comment on column private.connection_tokens.refresh_expires_at is 'When the refresh token expires; null if the provider does not say.';
comment on column private.connection_tokens.check_at is 'When a job refreshes it, or asks whether it is still accepted; null while paused.';
comment on column private.connection_tokens.refresh_started_at is 'Since when a refresh is under way, by the real clock: another one waits a minute. Null if none.';
comment on column private.connection_tokens.unanswered is 'Refreshes since the last success of which nobody knows whether the provider gave a new token: the one under way, and those whose answer was lost.';
comment on column private.connection_tokens.failures is 'Failed refreshes since the last success; each doubles the time to the next.';
comment on column private.connection_tokens.replaced is 'Whether the connection has a newer token of the same account.';
comment on column private.connection_tokens.revocation_attempts is 'How often its revocation was tried.';
comment on column private.connection_tokens.revoke_at is 'Not before then is its revocation tried again, by the real clock.';
comment on column private.connection_tokens.created_at is 'When the provider gave it.';
select private.describe_data('private.connection_tokens', '{
  "id, organization, provider, account_id, application_id, connection_id, flow_id, generation, expires_at, refresh_expires_at, check_at, refresh_started_at, unanswered, failures, replaced, revocation_attempts, revoke_at, created_at": {"subject": "organization", "purpose": "whose token it is, and when it is refreshed or revoked", "export": "none", "erasure": "retention"},
  "access_token, refresh_token": {"purpose": "lets the product act by the account", "erasure": "retention"}
}', 'secret');
alter table private.connection_tokens enable row level security;

create function private.connections_access_context(token private.connection_tokens) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 'connection_tokens.access_token/' || token.organization::text || '/' || token.id::text;
comment on function private.connections_access_context(private.connection_tokens) is 'The context in which an access token is sealed: in another row or column it cannot be opened.';
create function private.connections_refresh_context(token private.connection_tokens) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 'connection_tokens.refresh_token/' || token.organization::text || '/' || token.id::text;
comment on function private.connections_refresh_context(private.connection_tokens) is 'The context in which a refresh token is sealed.';
select private.seal_column('private.connection_tokens', 'access_token', context => 'private.connections_access_context(private.connection_tokens)');
select private.seal_column('private.connection_tokens', 'refresh_token', context => 'private.connections_refresh_context(private.connection_tokens)');

-- A token that cannot be refreshed is looked at once a day: it may have been revoked at the provider. At different times, so that
-- many of them do not ask at once.
create function private.connections_next_check(token private.connection_tokens) returns timestamptz
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select case
    when token.refresh_token is null then least(token.expires_at, kijko.now() + interval '22 hours' + random() * interval '4 hours')
    when token.expires_at is null then kijko.now() + interval '22 hours' + random() * interval '4 hours'
    else kijko.now() + greatest((token.expires_at - kijko.now()) * 0.75, interval '1 minute')
  end
$$;
comment on function private.connections_next_check(private.connection_tokens) is 'When a token is refreshed: after three quarters of its time, so that some failures pass unnoticed; without a time, once a day.';

create function private.connections_seal(token private.connection_tokens, tokens jsonb) returns private.connection_tokens
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  max_seconds constant double precision := 315360000;
  access_seconds constant double precision := (tokens ->> 'expires_in')::double precision;
  refresh_seconds constant double precision := (tokens ->> 'refresh_expires_in')::double precision;
begin
  token.access_token := kijko.seal(tokens ->> 'access_token', private.connections_access_context(token));
  -- A provider that sends no new refresh token lets the former one go on.
  if coalesce(tokens ->> 'refresh_token', '') <> '' then
    token.refresh_token := kijko.seal(tokens ->> 'refresh_token', private.connections_refresh_context(token));
    token.refresh_expires_at := kijko.now() + case when refresh_seconds < max_seconds then refresh_seconds end * interval '1 second';
  end if;
  token.expires_at := kijko.now() + case when access_seconds < max_seconds then access_seconds end * interval '1 second';
  token.check_at := private.connections_next_check(token);
  return token;
end
$$;
comment on function private.connections_seal(private.connection_tokens, jsonb) is 'A row with the provider''s tokens, sealed, and their times. tokens: access_token, and where given refresh_token, expires_in and refresh_expires_in in seconds. Called by definer functions only.';

-- Wakes the sidecar when the transaction commits. It also looks by itself from time to time.
create function private.connections_announce_revocation() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  notify kijko_connections;
  return null;
end
$$;
comment on function private.connections_announce_revocation() is 'Trigger: tells the sidecar of a token that is to be revoked. Definer: whoever removes a connection may not touch tokens.';
create trigger connection_tokens_orphaned after update of connection_id, flow_id on private.connection_tokens
  for each row when (new.connection_id is null and new.flow_id is null)
  execute function private.connections_announce_revocation();
