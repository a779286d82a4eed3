-- ============================================================================
-- Reflexes: the secrets that verify senders.
--
-- The database makes the first secret of a webhook with its row, and shows it in that transaction only, in the computed column
-- signing_secret. It is stored sealed. rotate_reflex_secret() replaces it by a new one or by one that the user gives; the former ones
-- stay valid for the overlap.
-- ============================================================================

create table private.reflex_secrets (
  id uuid primary key default gen_random_uuid(),
  organization uuid not null,
  reflex_id uuid not null,
  sealed kijko.sealed not null check (char_length(sealed) <= 2000),
  expires_at timestamptz,
  created_at timestamptz not null default kijko.now(),
  foreign key (organization, reflex_id) references public.reflexes (org_id, id) on delete cascade
);
create index reflex_secrets_reflex_id_idx on private.reflex_secrets (organization, reflex_id);
create unique index reflex_secrets_current_idx on private.reflex_secrets (reflex_id) where expires_at is null;

comment on table private.reflex_secrets is 'Sealed secrets of reflexes: the current one of each, and former ones during the overlap of a rotation.';
comment on column private.reflex_secrets.id is 'Identity of the secret.';
comment on column private.reflex_secrets.organization is 'Organization of the reflex.';
comment on column private.reflex_secrets.reflex_id is 'The reflex.';
comment on column private.reflex_secrets.sealed is 'The secret, sealed in the context of its row.';
comment on column private.reflex_secrets.expires_at is 'Until when a former secret is accepted; null for the current one.';
comment on column private.reflex_secrets.created_at is 'When it was made or given.';
select private.describe_data('private.reflex_secrets', '{
  "id, organization, reflex_id, expires_at, created_at": {"subject": "organization", "purpose": "whose secret it is, and until when it is accepted", "export": "none"},
  "sealed": "verifies what senders post"
}', 'secret');
alter table private.reflex_secrets enable row level security;

create function private.reflexes_secret_context(secret private.reflex_secrets) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 'reflex_secrets/' || secret.organization::text || '/' || secret.reflex_id::text || '/' || secret.id::text;
comment on function private.reflexes_secret_context(private.reflex_secrets) is 'The context in which the secret of a reflex is sealed.';
select private.seal_column('private.reflex_secrets', 'sealed', context => 'private.reflexes_secret_context(private.reflex_secrets)');

create function private.reflexes_store_secret(org uuid, reflex_id uuid, secret text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  fresh private.reflex_secrets;
begin
  fresh.id := gen_random_uuid();
  fresh.organization := org;
  fresh.reflex_id := reflexes_store_secret.reflex_id;
  insert into private.reflex_secrets (id, organization, reflex_id, sealed)
  values (fresh.id, fresh.organization, fresh.reflex_id, kijko.seal(secret, private.reflexes_secret_context(fresh)));
end
$$;
comment on function private.reflexes_store_secret(uuid, uuid, text) is 'Stores the current secret of a reflex that has none, sealed.';

create function private.reflexes_new_secret() returns text
language sql volatile set search_path = pg_catalog, pg_temp
-- Two random uuids are 244 bits of the server's strong source. The form is that of Standard Webhooks and serves every verification.
return 'whsec_' || encode(decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'), 'base64');
comment on function private.reflexes_new_secret() is 'A new secret of a reflex.';

create function private.reflexes_base64_length(value text) returns integer
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  return octet_length(decode(value, 'base64'));
exception when invalid_parameter_value then
  return null;
end
$$;
comment on function private.reflexes_base64_length(text) is 'How many bytes a text is in base64; null if it is no base64.';

create function private.reflexes_secret_fault(verification text, secret text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
return case
  when secret is null or char_length(secret) not between 16 and 255 or secret !~ '^[\u0021-\u007e]+$'
    then 'secret: 16 to 255 visible ASCII characters without blanks'
  when verification = 'standard_webhooks'
    and (private.reflexes_base64_length(regexp_replace(secret, '^whsec_', '')) between 24 and 64) is not true
    then 'secret: for Standard Webhooks 24 to 64 bytes in base64, with or without whsec_ before it'
end;
comment on function private.reflexes_secret_fault(text, text) is 'Why a text cannot be a secret for this verification; null if it can. Names no part of it.';

-- ----------------------------------------------------------------------------
-- The first secret
-- ----------------------------------------------------------------------------

-- Made before the row, which has its prefix, and stored after it.
create function private.reflexes_make_secret() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  secret constant text := private.reflexes_new_secret();
begin
  new.secret_prefix := left(secret, 10);
  perform private.issue_secret(new.id, secret);
  return new;
end
$$;
comment on function private.reflexes_make_secret() is 'Trigger: makes the secret of a new webhook. Definer: helpers of the domain are private.';

create function private.reflexes_keep_secret() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.reflexes_store_secret(new.org_id, new.id, private.issued_secret(new.id));
  return null;
end
$$;
comment on function private.reflexes_keep_secret() is 'Trigger: stores the secret of a new webhook. Definer: secrets are private.';

create trigger reflexes_make_secret before insert on public.reflexes
  for each row when (new.source = 'webhook') execute function private.reflexes_make_secret();
create trigger reflexes_keep_secret after insert on public.reflexes
  for each row when (new.source = 'webhook') execute function private.reflexes_keep_secret();

-- Not called secret: PostgREST reads computed columns of written rows from an anonymous record, so Postgres must find one function
-- of the name, and api_keys has that one.
create function public.signing_secret(reflex public.reflexes) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  issued constant text := private.issued_secret(reflex.id);
begin
  -- An upsert of an existing row has made a secret that was not stored.
  return case when starts_with(issued, nullif(reflex.secret_prefix, '')) then issued end;
end
$$;
comment on function public.signing_secret(public.reflexes) is 'Computed column of reflexes: the secret of the webhook, in the statement that makes it; null ever after. Nullable: result. Definer: helpers of the domain are private.';
grant execute on function public.signing_secret(public.reflexes) to authenticated, service_role;

-- ----------------------------------------------------------------------------
-- A change of the verification, and rotation
-- ----------------------------------------------------------------------------

create function private.reflexes_current_secret(reflex public.reflexes) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select kijko.unseal(s.sealed, private.reflexes_secret_context(s))
  from private.reflex_secrets as s
  where s.organization = reflex.org_id and s.reflex_id = reflex.id and s.expires_at is null
$$;
comment on function private.reflexes_current_secret(public.reflexes) is 'The current secret of a reflex, for functions of postgres; null for an event.';

create function private.reflexes_check_verification() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  fault constant text := private.reflexes_secret_fault(new.verification, private.reflexes_current_secret(new));
begin
  if fault is not null then
    perform kijko.fail('conflict', 'verification: the current secret does not fit', 'Rotate the secret first: rotate_reflex_secret().');
  end if;
  return null;
end
$$;
comment on function private.reflexes_check_verification() is 'Trigger: the secret fits the new verification, so that a change does not refuse every sender. Definer: secrets are private.';
create trigger reflexes_check_verification after update of verification on public.reflexes
  for each row when (new.source = 'webhook' and old.verification <> new.verification) execute function private.reflexes_check_verification();

create function private.reflexes_require(reflex_id uuid, permission text) returns public.reflexes
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  reflex public.reflexes;
begin
  perform private.tenancy_require_caller();
  select r.* into reflex from public.reflexes as r
  where r.id = reflexes_require.reflex_id and r.org_id = any (array(select private.org_ids_with('reflexes:read')))
    and private.skills_is_visible(r.skill_id);
  -- The same answer if it does not exist and if the caller may not read it.
  if reflex.id is null then
    perform kijko.fail('not_found', 'no such reflex');
  end if;
  if not public.can(reflex.org_id, reflexes_require.permission) then
    perform kijko.fail('permission_denied', format('requires the permission %s', reflexes_require.permission));
  end if;
  if reflexes_require.permission = 'reflexes:write' then
    perform private.projects_require_open((select s.project_id from public.skills as s where s.id = reflex.skill_id));
  end if;
  return reflex;
end
$$;
comment on function private.reflexes_require(uuid, text) is 'The reflex, if the caller sees it and holds the permission; to write, its project must not be archived and the caller more than its viewer. Fails otherwise. Called by definer functions only.';

create type public.issued_reflex_secret as (reflex_id uuid, secret text, secret_prefix text, former_expires_at timestamptz);
comment on type public.issued_reflex_secret is 'Result of rotate_reflex_secret(): the secret, which no later call returns, and until when the former one is accepted. Nullable: former_expires_at.';

create function public.rotate_reflex_secret(reflex_id uuid, secret text default null, overlap interval default '0')
returns public.issued_reflex_secret
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  reflex public.reflexes := private.reflexes_require(rotate_reflex_secret.reflex_id, 'reflexes:write');
  fresh constant text := coalesce(rotate_reflex_secret.secret, private.reflexes_new_secret());
  fault text;
  former timestamptz;
begin
  if (rotate_reflex_secret.overlap between interval '0' and interval '30 days') is not true then
    perform kijko.fail('invalid_input', 'overlap: 0 to 30 days');
  end if;
  if reflex.source <> 'webhook' then
    perform kijko.fail('conflict', 'an event has no secret');
  end if;
  -- Two rotations take turns.
  select r.* into reflex from public.reflexes as r where r.id = reflex.id for no key update;
  fault := private.reflexes_secret_fault(reflex.verification, fresh);
  if fault is not null then
    perform kijko.fail('invalid_input', fault);
  end if;
  -- At most one former secret: an earlier one ends now.
  delete from private.reflex_secrets as s
  where s.reflex_id = reflex.id and (s.expires_at is not null or rotate_reflex_secret.overlap = interval '0');
  update private.reflex_secrets as s set expires_at = kijko.now() + rotate_reflex_secret.overlap
  where s.reflex_id = reflex.id
  returning s.expires_at into former;
  perform private.reflexes_store_secret(reflex.org_id, reflex.id, fresh);
  update public.reflexes as r set secret_prefix = left(fresh, case when rotate_reflex_secret.secret is null then 10 else 4 end)
  where r.id = reflex.id
  returning r.* into reflex;
  return (reflex.id, fresh, reflex.secret_prefix, former)::public.issued_reflex_secret;
end
$$;
comment on function public.rotate_reflex_secret(uuid, text, interval) is 'Replaces the secret of a webhook by a new one, or by the given one, and returns it once. The former secret is accepted for the overlap, at most 30 days; an earlier one no longer. Needs reflexes:write. Send a secret in the body of a POST: an address is logged. Definer: secrets are private.';
grant execute on function public.rotate_reflex_secret(uuid, text, interval) to authenticated;

-- ----------------------------------------------------------------------------
-- For the sidecar
-- ----------------------------------------------------------------------------

create function private.reflexes_verifier(reflex_id uuid) returns table (verification text, signature_header text, secrets text[])
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select r.verification, r.signature_header, array(
    select kijko.unseal(s.sealed, private.reflexes_secret_context(s))
    from private.reflex_secrets as s
    where s.organization = r.org_id and s.reflex_id = r.id and (s.expires_at is null or s.expires_at > kijko.now())
  )
  from public.reflexes as r
  where r.id = reflexes_verifier.reflex_id and r.source = 'webhook';
  if not found then
    -- As much work as for a reflex that exists.
    perform kijko.unseal(kijko.seal('decoy', 'reflex_secrets/decoy'), 'reflex_secrets/decoy');
  end if;
end
$$;
comment on function private.reflexes_verifier(uuid) is 'How requests to a reflex are verified, with the secrets that count now; nothing for an unknown id. Definer: the sidecar holds no table rights.';
grant execute on function private.reflexes_verifier(uuid) to kijko_sidecar;

create function private.reflexes_rejected(reflex_id uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- A stranger who floods the URL must not make the row grow and wait.
  if exists (select 1 from public.reflexes as r where r.id = reflexes_rejected.reflex_id)
    and (kijko.rate_limit('reflex-rejected:' || reflexes_rejected.reflex_id, 60, '1 minute')).allowed
  then
    update public.reflexes as r set rejected_count = r.rejected_count + 1, last_rejected_at = kijko.now()
    where r.id = any (array(
      select k.id from public.reflexes as k where k.id = reflexes_rejected.reflex_id for no key update skip locked
    ));
  end if;
end
$$;
comment on function private.reflexes_rejected(uuid) is 'Counts a request whose signature was missing or wrong; nothing else of it is stored. Definer: the sidecar holds no table rights.';
grant execute on function private.reflexes_rejected(uuid) to kijko_sidecar;
