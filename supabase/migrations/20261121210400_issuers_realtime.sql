-- ============================================================================
-- Issuers: their tokens in realtime.
-- ============================================================================

create function private.issuers_assume_member() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not private.issuers_check_member(kijko.issuer_caller(), false) then
    perform kijko.fail('provision_required', 'no member has this identity yet', 'Call POST rpc/provision once.');
  end if;
  perform kijko.assume_issuer_user();
end
$$;
comment on function private.issuers_assume_member() is 'Makes the member whom the token of an issuer names the caller, as private.issuers_admit() in a request that only reads, and counts no request: for the realtime service, which asks again and again who holds a token. Definer: reads memberships, and only the domain may make the user the caller.';
-- On self-hosted Supabase there is no such role.
do $$
begin
  if to_regrole('kijko_realtime') is not null then
    grant execute on function private.issuers_assume_member() to kijko_realtime;
  end if;
end
$$;
