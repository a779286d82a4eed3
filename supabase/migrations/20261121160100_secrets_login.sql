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
