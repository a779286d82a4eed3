-- ============================================================================
-- Secrets: what login seals in tables of its own role.
--
-- On a plain Postgres login seals the seeds of authenticator apps, in GoTrue's column. A change of the key must reach them.
-- On self-hosted Supabase the column is GoTrue's alone: its values are not sealed by this key, and are passed over.
-- ============================================================================

do $$
begin
  if to_regclass('auth.mfa_factors') is null then
    return;
  end if;
  create function private.secrets_factor_context(factor auth.mfa_factors) returns text
  language sql immutable parallel safe set search_path = pg_catalog, pg_temp
  return 'auth.mfa_factors:' || factor.id::text;
  comment on function private.secrets_factor_context(auth.mfa_factors) is 'The context in which login seals the seed of an authenticator app.';
  perform private.seal_column('auth.mfa_factors', 'secret', context => 'private.secrets_factor_context(auth.mfa_factors)');
end
$$;

-- The tokens of outside providers, too. On self-hosted Supabase GoTrue keeps none.
do $$
begin
  if to_regclass('auth_api.provider_tokens') is null then
    return;
  end if;
  create function private.secrets_access_token_context(token auth_api.provider_tokens) returns text
  language sql immutable parallel safe set search_path = pg_catalog, pg_temp
  return 'auth_api.provider_tokens.access_token:' || token.id::text;
  comment on function private.secrets_access_token_context(auth_api.provider_tokens) is 'The context in which login seals the access token of an outside provider.';
  create function private.secrets_refresh_token_context(token auth_api.provider_tokens) returns text
  language sql immutable parallel safe set search_path = pg_catalog, pg_temp
  return 'auth_api.provider_tokens.refresh_token:' || token.id::text;
  comment on function private.secrets_refresh_token_context(auth_api.provider_tokens) is 'The context in which login seals the refresh token of an outside provider.';
  perform private.seal_column('auth_api.provider_tokens', 'access_token', context => 'private.secrets_access_token_context(auth_api.provider_tokens)');
  perform private.seal_column('auth_api.provider_tokens', 'refresh_token', context => 'private.secrets_refresh_token_context(auth_api.provider_tokens)');
end
$$;
