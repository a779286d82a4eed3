-- ============================================================================
-- Webhooks: the secrets that sign.
--
-- The outbox has two secrets of each endpoint, webhook.<id>.current and webhook.<id>.former, and every request names both: which
-- ones sign is decided when it is sent, so that a repeated request is signed by the secrets of its time. Without a rotation
-- under way both are the same, and the outbox sends one signature. Nothing but the outbox can read a secret after the
-- statement that made it.
-- ============================================================================

create function private.webhooks_secret_name(endpoint_id uuid, slot text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 'webhook.' || endpoint_id::text || '.' || slot;
comment on function private.webhooks_secret_name(uuid, text) is 'What the outbox calls a secret of an endpoint. slot: current or former.';

create function private.webhooks_new_secret(signature text) returns text
language sql volatile set search_path = pg_catalog, pg_temp
-- 32 bytes from three random uuids, which have 366 bits of the server's strong source.
return case signature when 'ed25519' then 'whsk_' else 'whsec_' end || encode(
  sha256(convert_to(concat(gen_random_uuid(), gen_random_uuid(), gen_random_uuid()), 'UTF8')), 'base64'
);
comment on function private.webhooks_new_secret(text) is 'A new secret of an endpoint: a shared one, or the private key of Ed25519.';

-- Made before the row, which has the public key, and stored after it.
create function private.webhooks_make_secret() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  secret constant text := private.webhooks_new_secret(new.signature);
begin
  new.public_key := case new.signature when 'ed25519' then kijko.http_public_key(secret) end;
  perform private.issue_secret(new.id, secret);
  return new;
end
$$;
comment on function private.webhooks_make_secret() is 'Trigger: makes the secret of a new endpoint. Definer: helpers of the domain are private.';

create function private.webhooks_store_secret() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  secret constant text := private.issued_secret(new.id);
begin
  perform kijko.set_http_secret(private.webhooks_secret_name(new.id, s.slot), secret, new.org_id)
  from (values ('current'), ('former')) as s (slot);
  return null;
end
$$;
comment on function private.webhooks_store_secret() is 'Trigger: gives the secret of a new endpoint to the outbox. Definer: only postgres may.';

create function private.webhooks_drop_secrets() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform kijko.drop_http_secret(private.webhooks_secret_name(old.id, s.slot), old.org_id)
  from (values ('current'), ('former')) as s (slot);
  return null;
end
$$;
comment on function private.webhooks_drop_secrets() is 'Trigger: deletes the secrets of a deleted endpoint. Definer: only postgres may.';

create trigger webhook_endpoints_make_secret before insert on public.webhook_endpoints
  for each row execute function private.webhooks_make_secret();
create trigger webhook_endpoints_store_secret after insert on public.webhook_endpoints
  for each row execute function private.webhooks_store_secret();
create trigger webhook_endpoints_drop_secrets after delete on public.webhook_endpoints
  for each row execute function private.webhooks_drop_secrets();

-- PostgREST reads computed columns of written rows from an anonymous record, so its name is no other computed column's.
create function public.webhook_secret(endpoint public.webhook_endpoints) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- An upsert of an existing row has made a secret that was not stored: only an insert has equal times.
  return case when endpoint.signature = 'hmac' and endpoint.created_at = kijko.now() and endpoint.updated_at = endpoint.created_at
    then private.issued_secret(endpoint.id) end;
end
$$;
comment on function public.webhook_secret(public.webhook_endpoints) is 'Computed column of webhook_endpoints: the shared secret, in the statement that makes the endpoint; null ever after, and for ed25519. Nullable: result. Definer: helpers of the domain are private.';
grant execute on function public.webhook_secret(public.webhook_endpoints) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Rotation
-- ----------------------------------------------------------------------------

create type public.issued_webhook_secret as (endpoint_id uuid, secret text, public_key text, former_secret_until timestamptz);
comment on type public.issued_webhook_secret is 'Result of rotate_webhook_secret(): the shared secret, which no later call returns, or the public key; and until when the former one signs, too. Nullable: secret, public_key, former_secret_until.';

create function public.rotate_webhook_secret(endpoint_id uuid, overlap interval default '1 day') returns public.issued_webhook_secret
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  endpoint public.webhook_endpoints := private.webhooks_require(rotate_webhook_secret.endpoint_id, 'webhooks:write');
  secret constant text := private.webhooks_new_secret(endpoint.signature);
  has_overlap constant boolean := rotate_webhook_secret.overlap > interval '0';
begin
  -- The secret signs events: who may not read them must not be able to make some.
  perform private.webhooks_require_types(endpoint.org_id, endpoint.event_types, true);
  if (rotate_webhook_secret.overlap between interval '0' and interval '30 days') is not true then
    perform kijko.fail('invalid_input', 'overlap: 0 to 30 days');
  end if;
  -- Two rotations take turns.
  perform 1 from public.webhook_endpoints as e where e.id = endpoint.id for no key update;
  if not found then
    perform kijko.fail('not_found', 'no such endpoint');
  end if;
  if has_overlap then
    -- At most one former secret: an earlier one ends now.
    perform kijko.copy_http_secret(
      private.webhooks_secret_name(endpoint.id, 'current'), private.webhooks_secret_name(endpoint.id, 'former'), endpoint.org_id
    );
  else
    perform kijko.set_http_secret(private.webhooks_secret_name(endpoint.id, 'former'), secret, endpoint.org_id);
  end if;
  perform kijko.set_http_secret(private.webhooks_secret_name(endpoint.id, 'current'), secret, endpoint.org_id);
  update public.webhook_endpoints as e
  set public_key = case e.signature when 'ed25519' then kijko.http_public_key(secret) end,
    former_secret_until = case when has_overlap then kijko.now() + rotate_webhook_secret.overlap end
  where e.id = endpoint.id
  returning e.* into endpoint;
  return (
    endpoint.id, case endpoint.signature when 'hmac' then secret end, endpoint.public_key, endpoint.former_secret_until
  )::public.issued_webhook_secret;
end
$$;
comment on function public.rotate_webhook_secret(uuid, interval) is 'Replaces the secret of an endpoint and returns it once, or for ed25519 the new public key. For the overlap, at most 30 days, requests carry signatures by the new and by the former secret; an earlier one ends. Needs webhooks:write. Definer: only postgres may store secrets of the outbox.';
grant execute on function public.rotate_webhook_secret(uuid, interval) to authenticated;

create function private.webhooks_end_overlaps() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  endpoint public.webhook_endpoints;
  ended integer := 0;
begin
  for endpoint in
    select e.* from public.webhook_endpoints as e where e.former_secret_until <= kijko.now() order by e.id limit 1000
    for no key update skip locked
  loop
    begin
      perform kijko.copy_http_secret(
        private.webhooks_secret_name(endpoint.id, 'current'), private.webhooks_secret_name(endpoint.id, 'former'), endpoint.org_id
      );
      update public.webhook_endpoints as e set former_secret_until = null where e.id = endpoint.id;
      ended := ended + 1;
    exception when others then
      raise warning 'webhook endpoint %: %', endpoint.id, sqlerrm;
    end;
  end loop;
  return ended;
end
$$;
comment on function private.webhooks_end_overlaps() is 'Ends the former secrets of endpoints whose overlap is over, and returns how many.';
