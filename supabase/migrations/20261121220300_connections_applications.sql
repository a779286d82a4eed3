-- ============================================================================
-- Connections: applications of organizations.
--
-- A token is good with the application that got it. So a row stands for one client_id: another one replaces it, and removing it pauses
-- the connections that it was used for and has their tokens revoked. Its sealed secret is kept until that is done.
-- Locks: the application, then connections, then their tokens.
-- ============================================================================

create function private.connections_retire_application() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  connection uuid;
begin
  update private.connection_application_secrets as s set retired_at = clock_timestamp() where s.application_id = old.id;
  -- One whose answer is under way finds no application when it comes.
  delete from private.connection_flows as f where f.application_id = old.id and (f.used_at is null or f.ended_at is not null);
  for connection in
    select c.id from public.connections as c
    where c.org_id = old.org_id
      and c.id in (select t.connection_id from private.connection_tokens as t where t.organization = old.org_id and t.application_id = old.id)
    order by c.id for no key update
  loop
    update private.connection_tokens as t set connection_id = null, check_at = null
    where t.organization = old.org_id and t.connection_id = connection and t.application_id = old.id;
    -- Of an organization that is deleted nobody is told.
    if found and exists (select from public.organizations as o where o.id = old.org_id) then
      perform private.connections_pause(connection, 'application_removed');
    end if;
  end loop;
  return null;
end
$$;
comment on function private.connections_retire_application() is 'Trigger: what was authorized by a removed application is paused, and its tokens wait to be revoked. Definer: who removes it may not touch tokens.';
create trigger connection_applications_retired after delete on public.connection_applications
  for each row execute function private.connections_retire_application();

create function public.set_connection_application(provider text, client_id text, client_secret text) returns public.connection_applications
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  org uuid;
  application public.connection_applications;
  kept private.connection_application_secrets;
begin
  perform private.tenancy_require_caller();
  org := private.tenancy_require_org_with('connections:write');
  if (private.connections_provider(set_connection_application.provider)).name is null then
    perform kijko.fail('invalid_input', 'provider: not one of list_connection_providers()');
  elsif (char_length(set_connection_application.client_id) <= 255 and set_connection_application.client_id ~ '^[!-~]+$') is not true then
    perform kijko.fail('invalid_input', 'client_id: 1 to 255 visible ASCII characters without blanks');
  elsif (char_length(set_connection_application.client_secret) <= 2048 and set_connection_application.client_secret ~ '^[!-~]+$') is not true then
    -- No refusal names the secret.
    perform kijko.fail('invalid_input', 'client_secret: 1 to 2048 visible ASCII characters without blanks');
  end if;
  perform private.limit_rate('connection_application:' || org, 60, interval '1 hour', 'an organization sets at most %s applications an hour');
  -- Two at once: the later one sees the row of the first.
  perform pg_advisory_xact_lock(hashtextextended('connection_applications/' || org || '/' || set_connection_application.provider, 0));
  delete from public.connection_applications as a
  where a.org_id = org and a.provider = set_connection_application.provider and a.client_id <> set_connection_application.client_id;
  insert into public.connection_applications as a (org_id, provider, client_id)
  values (org, set_connection_application.provider, set_connection_application.client_id)
  on conflict on constraint connection_applications_org_id_provider_key do update set secret_set_at = kijko.now()
  returning a.* into application;
  kept.application_id := application.id;
  kept.organization := org;
  insert into private.connection_application_secrets as s (application_id, organization, client_id, client_secret)
  values (
    application.id, org, application.client_id, kijko.seal(set_connection_application.client_secret, private.connections_application_context(kept))
  )
  on conflict on constraint connection_application_secrets_pkey do update set client_secret = excluded.client_secret;
  return application;
end
$$;
comment on function public.set_connection_application(text, text, text) is 'Has connections of the organization of the request at a provider be authorized by its own application from now on, or changes the secret of that. Another client_id replaces the application: connections that it was used for are paused until they are authorized again. Requires connections:write. Send the secret in the body of a POST: an address is logged. Definer: secrets are private.';
grant execute on function public.set_connection_application(text, text, text) to authenticated;

create function private.connections_has_application(org uuid, connection_id uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
return exists (
  select from private.connection_tokens as t
  where t.organization = org and t.connection_id = connections_has_application.connection_id and t.application_id is not null
);
comment on function private.connections_has_application(uuid, uuid) is 'Whether a connection was authorized by an application of the organization, which the provider then charges.';
