-- ============================================================================
-- Requests: what happens before each one.
-- ============================================================================

-- ----------------------------------------------------------------------------
-- Before every request (PostgREST: db-pre-request)
--
-- before_request is an invoker function: it sees the request's role, which a definer function does not. If the extension
-- knows the caller's membership, it does everything in one call. Otherwise requests_admit reads the membership and reports
-- it to the extension. A GET runs READ ONLY, so nothing here writes a row: rates and requests are counted in shared memory.
-- ----------------------------------------------------------------------------

create function private.requests_admit() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- Not an argument: the caller could use the rate of another user.
  caller constant kijko.caller := kijko.actor();
  fault constant text := kijko.token_fault();
  requested uuid;
  epoch bigint;
  org uuid;
begin
  -- PostgREST has checked the signature. The token may still not be an access token, or its session may have ended.
  if fault is not null then
    perform kijko.fail('not_identified', format('not an access token: claim %s is missing or wrong', fault));
  end if;
  if caller.kind = 'none' and current_setting('role') <> 'anon' then
    perform kijko.fail('not_identified', 'the session of the token has ended, or the token names no user');
  end if;

  requested := kijko.requested_org_id();
  if caller.user_id is not null then
    epoch := kijko.membership_epoch(); -- before the look-up, so that a later change makes its result outdated
    org := public.org_id();
    if org is not null then
      perform kijko.cache_membership(epoch, caller.user_id, requested, org);
    end if;
  end if;

  -- Rate and quota come before not_a_member, so that probing for other organizations is limited, too.
  if kijko.admit_request(org, caller.user_id, caller.api_key_id) is not true then
    perform kijko.fail('rate_limited'); -- admit_request() fails by itself; any other answer than true is refused, too
  end if;
  if org is null and kijko.request_header('x-org-id') <> '' then
    perform private.tenancy_refuse_closed();
    perform kijko.fail('not_a_member', 'x-org-id: not an organization of the caller');
  end if;
end
$$;
comment on function private.requests_admit() is 'Identifies the caller and the organization; then kijko.admit_request checks rate limits and the quota of requests and sets their headers. Definer: it reads memberships, and only the domain may name a request''s organization.';
-- For service_role it only refuses tokens that are not access tokens.
grant execute on function private.requests_admit() to anon, authenticated, service_role;

-- The extension caches the result of requests_admit until one of these tables changes. ALWAYS: also for rows that a replica applies.
create trigger memberships_changed after insert or update or delete on public.memberships
  for each row execute function kijko.invalidate_cache('memberships', 'user_id');
create trigger memberships_truncated after truncate on public.memberships
  for each statement execute function kijko.invalidate_cache('memberships');
alter table public.memberships enable always trigger memberships_changed;
alter table public.memberships enable always trigger memberships_truncated;
create trigger active_organizations_changed after insert or update or delete on private.active_organizations
  for each row execute function kijko.invalidate_cache('memberships', 'user_id');
create trigger active_organizations_truncated after truncate on private.active_organizations
  for each statement execute function kijko.invalidate_cache('memberships');
alter table private.active_organizations enable always trigger active_organizations_changed;
alter table private.active_organizations enable always trigger active_organizations_truncated;

-- A later domain, which has the members by issuers, decides about their requests.
create function private.requests_admit_issuer_caller() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.issuers_admit();
end
$$;
comment on function private.requests_admit_issuer_caller() is 'Admits the request of whom the token of an outside issuer names, by private.issuers_admit(). Definer: only the domain may make the user the caller.';
-- Postgres asks for the right to call every function of an expression, also of a branch that is not taken.
grant execute on function private.requests_admit_issuer_caller() to anon, authenticated, service_role;

-- Only an invoker function may switch the role.
create function private.requests_admit_unknown() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if kijko.authenticate_issuer_token() then
    perform set_config('role', 'authenticated', true);
    perform private.requests_admit_issuer_caller();
  else
    perform private.requests_admit();
  end if;
end
$$;
comment on function private.requests_admit_unknown() is 'Admits a request that kijko.admit_known_request() does not know. A token of an outside issuer comes as anon, and becomes authenticated, whatever it says.';
grant execute on function private.requests_admit_unknown() to anon, authenticated, service_role;

-- One expression, which Postgres inlines: there is no function call. A request with an API key comes as anon and becomes
-- authenticated. The extension knows the key's organization, so it needs no membership.
create function public.before_request() returns void
language sql
begin atomic
  select case when not kijko.admit_known_request() then private.requests_admit_unknown() end;
end;
comment on function public.before_request() is 'Runs before every request: checks its headers, identifies the caller (a user, a user by an issuer, or an API key) and the organization, applies rate limits and the quota of requests, and sets the statement timeout.';
grant execute on function public.before_request() to anon, authenticated, service_role;

-- ----------------------------------------------------------------------------
-- Requests that the sidecar answers
--
-- By its second login, kijko_gateway, the sidecar does what PostgREST does: in one transaction it admits the request of a caller, and then
-- calls one function as them.
-- ----------------------------------------------------------------------------

-- Invoker: only an invoker function may switch the role.
create function private.requests_enter(request jsonb) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  token constant text := request ->> 'token';
  headers constant jsonb := request -> 'headers';
  -- A request with an API key has no token. To verify one, a backend first reads the server's keys.
  claims constant jsonb := case when token is not null then kijko.verify_jwt(token) end;
  role_name constant text := case when token is null then 'anon' else claims ->> 'role' end;
begin
  -- No error: anybody can send such a token, and the log would have a line for each.
  if (role_name in ('anon', 'authenticated')) is not true or (token is not null and kijko.access_token_fault(claims) is not null) then
    return false;
  end if;
  perform
    set_config('request.method', 'POST', true),
    set_config('request.path', request ->> 'path', true),
    set_config('request.headers', headers::text, true),
    set_config('request.jwt.claims', coalesce(claims::text, ''), true),
    set_config('role', role_name, true);
  if token is not null and headers ->> 'x-kijko-token' <> '' then
    perform kijko.fail('bad_request', 'the request has two tokens');
  end if;
  perform public.before_request();
  return true;
end
$$;
comment on function private.requests_enter(jsonb) is 'Becomes the caller of a request {token, path, headers} for the rest of the transaction, and admits the request as PostgREST does, by public.before_request(). False, and nothing is changed, for a token that this database did not sign or that is no access token of a user: PostgREST says why. The sidecar calls it by its login kijko_gateway, which may become a caller and nothing else.';
grant execute on function private.requests_enter(jsonb) to kijko_gateway;

-- ----------------------------------------------------------------------------
-- Requests that the sidecar takes
--
-- The sidecar knows only the client's address. Requests that it refuses (a webhook without a valid signature, an unknown path)
-- are limited for each address. Those that it accepts are not.
-- ----------------------------------------------------------------------------

create function private.requests_admit_external(forwarded_for text, method text, path text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
  return kijko.admit_external(forwarded_for, method, path);
end
$$;
comment on function private.requests_admit_external(text, text, text) is 'Applies the rate limit policies of the tier external to a request to the sidecar. Returns {code, details, headers}; code is null when the request may continue. Definer: the sidecar may use no other limits.';
grant execute on function private.requests_admit_external(text, text, text) to kijko_sidecar;
-- The realtime service does the same. On self-hosted Supabase there is none.
do $$
begin
  if to_regrole('kijko_realtime') is not null then
    grant usage on schema private to kijko_realtime;
    grant execute on function private.requests_admit_external(text, text, text) to kijko_realtime;
  end if;
end
$$;

select kijko.set_rate_limit_policy('failed_requests', 'address', 60, interval '1 minute', 'external');
