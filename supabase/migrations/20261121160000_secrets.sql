-- ============================================================================
-- Secrets: values that an organization stores and only functions of the server read.
--
-- set_secret() takes a value in; nothing that a client can call gives it back. It is stored sealed (kijko.seal()), bound to
-- its organization and name. Functions of other domains read it by private.secrets_value().
-- ============================================================================

create table public.secrets (
  id uuid primary key default gen_random_uuid(),
  org_id uuid not null default public.org_id() references public.organizations (id) on delete cascade,
  name text not null check (char_length(name) <= 100 and name ~ '^[A-Za-z][A-Za-z0-9_.-]*$'),
  created_by uuid default kijko.user_id() references auth.users (id) on delete set null,
  created_by_key uuid default kijko.api_key_id(),
  created_at timestamptz not null default kijko.now(),
  updated_at timestamptz not null default kijko.now(),
  unique (org_id, name)
);
comment on table public.secrets is 'Names of an organization''s secrets. Their values cannot be read back. Written by set_secret() and delete_secret().';
comment on column public.secrets.id is 'Identity of the row.';
comment on column public.secrets.org_id is 'Organization that owns it; never changes.';
comment on column public.secrets.name is 'Name by which functions of the product find the value, for example OPENAI_API_KEY; never changes.';
comment on column public.secrets.created_by is 'User who set it first; null after that user is deleted.';
comment on column public.secrets.created_by_key is 'API key that set it first; null for a user.';
comment on column public.secrets.created_at is 'When it was set first.';
comment on column public.secrets.updated_at is 'When its value was last set.';

-- 200 values are at most 5 MB.
select private.make_tenant_table('public.secrets', resource => 'secrets', writable => '{}', max_rows => 200, catalogue => '{
  "name": "what functions of the product call the secret by"
}');

-- Not a column of secrets, whose rows users read.
create table private.secret_values (
  organization uuid not null,
  name text not null check (char_length(name) <= 100),
  sealed kijko.sealed not null check (char_length(sealed) <= 24000),
  primary key (organization, name),
  -- A value without its name cannot exist, and a name that has a value cannot change.
  foreign key (organization, name) references public.secrets (org_id, name) on delete cascade
);
comment on table private.secret_values is 'Sealed values of secrets. Only functions of postgres read them, by private.secrets_value().';
comment on column private.secret_values.organization is 'Organization that owns the secret.';
comment on column private.secret_values.name is 'Name of the secret.';
comment on column private.secret_values.sealed is 'The value, sealed in the context of its organization and name.';
select private.describe_data('private.secret_values', '{
  "organization, name": {"subject": "organization", "purpose": "whose value it is, and of which secret", "export": "none"},
  "sealed": "the value, for functions of the product that need it"
}', 'secret');

alter table private.secret_values enable row level security;

create function private.secrets_context(org uuid, name text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return 'secrets/' || org::text || '/' || name;
comment on function private.secrets_context(uuid, text) is 'The context in which a secret''s value is sealed. A value that is copied to another organization or name cannot be unsealed.';

create function private.secrets_row_context(value private.secret_values) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return private.secrets_context(value.organization, value.name);
comment on function private.secrets_row_context(private.secret_values) is 'The context of a row of secret_values.';

select private.seal_column('private.secret_values', 'sealed', context => 'private.secrets_row_context(private.secret_values)');

create function private.secrets_value(org uuid, name text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select kijko.unseal(v.sealed, private.secrets_row_context(v))
    from private.secret_values as v
    where v.organization = secrets_value.org and v.name = secrets_value.name
  );
end
$$;
comment on function private.secrets_value(uuid, text) is 'The value of a secret, for functions of postgres that need it; they check the organization, and return or log no value. Null if there is no such secret. Nullable: result.';

-- ----------------------------------------------------------------------------
-- RPC
-- ----------------------------------------------------------------------------

create function public.set_secret(name text, value text) returns public.secrets
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org_with('secrets:write');
  secret public.secrets;
begin
  if set_secret.name is null or char_length(set_secret.name) > 100 or set_secret.name !~ '^[A-Za-z][A-Za-z0-9_.-]*$' then
    perform kijko.fail('invalid_input', 'name: letters, digits and _ . -, begins with a letter, at most 100 characters');
  end if;
  -- No refusal names the value.
  if set_secret.value is null or octet_length(set_secret.value) not between 1 and 16384 then
    perform kijko.fail('invalid_input', 'value: 1 to 16384 bytes');
  end if;
  insert into public.secrets as s (org_id, name) values (org, set_secret.name)
  on conflict on constraint secrets_org_id_name_key do update set updated_at = kijko.now()
  returning s.* into secret;
  insert into private.secret_values as v (organization, name, sealed)
  values (org, set_secret.name, kijko.seal(set_secret.value, private.secrets_context(org, set_secret.name)))
  on conflict on constraint secret_values_pkey do update set sealed = excluded.sealed;
  return secret;
end
$$;
comment on function public.set_secret(text, text) is 'Stores a secret of the organization of the request, or replaces its value. Requires secrets:write. Returns its name and times; no function returns the value. Send it in the body of a POST: an address is logged. Definer: values are private.';
grant execute on function public.set_secret(text, text) to authenticated;

create function public.delete_secret(name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  org constant uuid := private.tenancy_require_org_with('secrets:write');
begin
  delete from public.secrets as s where s.org_id = org and s.name = delete_secret.name;
  if not found then
    perform kijko.fail('not_found', 'there is no secret of this name');
  end if;
end
$$;
comment on function public.delete_secret(text) is 'Deletes a secret of the organization of the request, with its value. Requires secrets:write; fails with not_found if there is none of this name. Definer: users do not delete rows of secrets.';
grant execute on function public.delete_secret(text) to authenticated;
