-- ============================================================================
-- Requests: what happens before each one.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Before every request (PostgREST: db-pre-request)
--
-- before_request is an invoker function: it must see, and may later switch, the
-- request's role, which a definer function cannot. Mostly the extension knows whose
-- request it is, and does everything in one call. Otherwise requests_admit finds out,
-- behind row level security, and tells the extension for the next time.
-- A GET runs READ ONLY, so nothing here writes a row: rates and requests are counted
-- in shared memory.
-- ----------------------------------------------------------------------------

create function private.requests_admit() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- Never an argument: a caller could spend someone else's rate.
  caller constant uuid := kijko.user_id();
  fault constant text := kijko.token_fault();
  requested uuid;
  epoch bigint;
  org uuid;
begin
  -- Authentication: the signature is ours, but the token may be no access token, or its session may have ended.
  if fault is not null then
    perform kijko.fail('not_identified', format('this is no access token: its claim %s is missing or wrong', fault));
  end if;
  if caller is null and current_setting('role') <> 'anon' then
    perform kijko.fail('not_identified', 'the session of this token has ended, or the token names no user');
  end if;

  requested := kijko.requested_org_id();
  if caller is not null then
    epoch := kijko.membership_epoch(); -- before the look-up: what changes after it must not be remembered
    org := public.org_id();
    if org is not null then
      perform kijko.remember_membership(epoch, caller, requested, org);
    end if;
  end if;

  -- Rate and quota. Counted before the refusal, so that probing other organizations is limited, too.
  if kijko.admit_request(org, caller) is not true then
    perform kijko.fail('rate_limited'); -- it refuses by failing; anything but true must not pass either
  end if;
  if org is null and kijko.request_header('x-org-id') <> '' then
    perform kijko.fail('not_a_member', 'x-org-id names no organization of yours');
  end if;
end
$$;
comment on function private.requests_admit() is 'Identifies the caller and the organization; then kijko.admit_request checks rate limits and the quota of requests and sets their headers. Definer: it reads memberships, and only the domain may name a request''s organization.';
-- For service_role it only refuses tokens that are no access tokens.
grant execute on function private.requests_admit() to anon, authenticated, service_role;

-- The extension caches what requests_admit finds until one of these tables changes. Also fires for rows that a replica applies.
create trigger memberships_changed after insert or update or delete or truncate on public.memberships
  for each statement execute function kijko.membership_changed();
alter table public.memberships enable always trigger memberships_changed;
create trigger active_organizations_changed after insert or update or delete or truncate on private.active_organizations
  for each statement execute function kijko.membership_changed();
alter table private.active_organizations enable always trigger active_organizations_changed;

-- One expression of a void function, so that Postgres puts it in place of the call: no function is left to start.
create function public.before_request() returns void
language sql
begin atomic
  select case
    when current_user = 'service_role' and kijko.token_fault() is null then kijko.check_request()
    when kijko.admit_known_request() then null
    else private.requests_admit()
  end;
end;
comment on function public.before_request() is 'Runs before every request: checks its headers, identifies the caller and the organization, applies rate limits and the quota of requests, and sets the statement timeout.';
grant execute on function public.before_request() to anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Requests that the sidecar takes
--
-- Nobody is known there but an address. What it refuses (a webhook without a valid
-- signature, a path that is not there) is limited for each; what it takes is not.
-- ----------------------------------------------------------------------------

create function private.requests_admit_external(forwarded_for text, method text, path text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
  return kijko.admit_outside(forwarded_for, method, path);
end
$$;
comment on function private.requests_admit_external(text, text, text) is 'Asks the rate limit policies of the tier outside about a request that the sidecar took: {code, details, headers}, code null when it may go on. Definer: the sidecar may spend no other limits.';
grant execute on function private.requests_admit_external(text, text, text) to kijko_sidecar;

select kijko.set_rate_limit_policy('failed_requests', 'address', 60, interval '1 minute', 'outside');
