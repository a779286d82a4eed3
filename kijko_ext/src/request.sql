comment on function kijko.client_address() is 'The client''s address: the rightmost in X-Forwarded-For that is not a trusted proxy (kijko.trusted_proxies). An IPv4-mapped IPv6 address is returned as IPv4. Null when there is none.';
comment on function kijko.client_network() is 'The network by which unauthenticated requests are counted: the /64 of the client''s IPv6 address, or its IPv4 address. Null when there is none.';
comment on function kijko.subject(text, uuid) is 'The subject of a limit: a uuid of version 8 (RFC 9562) derived from a kind (user, project, api_key, ...) and an id, so that ids of different kinds never collide. For the kind organization it is the id itself.';
comment on function kijko.request_actors(uuid[]) is 'Whose these requests were, by the ids that the proxy gave them: kind, user, API key and organization, of those that are among the latest kijko.request_actor_slots. For the domain, which reads the log of the proxy. Nullable: user_id, api_key_id, org_id.';
comment on function kijko.token_fault() is 'Whether the token of this request, which PostgREST has verified, is an access token: the first claim (role, iss, exp, iat, aud or sub) that is missing or wrong. Null when all are right, and for a request without a token.';
comment on function kijko.claim(text) is 'One claim of kijko.claims() as text; null when there is none.';

create table kijko.rate_limit_policies (
    name text collate "C" not null check (pg_catalog.octet_length(name) <= 63 and name ~ '^[a-z][a-z0-9_-]*$' and name not in ('api_requests', 'api_key_requests', 'api_key_quota', 'connection_time')),
    tier text collate "C" not null default '*' check (pg_catalog.length(tier) between 1 and 63),
    scope text not null check (scope in ('address', 'user', 'organization', 'api_key')),
    method text check (method ~ '^[A-Z]+$'),
    route text check (pg_catalog.length(route) between 1 and 200),
    rate integer not null check (rate between 1 and 1000000000),
    per interval not null check (per between interval '1 millisecond' and interval '366 days'),
    burst integer check (burst between 1 and 1000000000),
    cost integer not null default 1 check (cost >= 1),
    shadow boolean not null default false,
    enabled boolean not null default true,
    primary key (name, tier),
    check (cost <= coalesce(burst, rate)),
    -- What a burst is worth in time has to fit the limiter's clock: 285 years.
    check (extract(epoch from per) * coalesce(burst, rate) / rate < 9000000000)
);
comment on table kijko.rate_limit_policies is 'How often requests may be made, as kijko.admit_request() checks it. For each name the policy of the request''s tier applies, or else the one for every tier; policies of different names apply together, all or nothing (at most 16). Changes apply from the next request on.';
comment on column kijko.rate_limit_policies.name is 'The name in the header RateLimit-Policy.';
comment on column kijko.rate_limit_policies.tier is 'The organization''s tier (kijko.set_tier), anonymous or user for requests without an organization, or * for every tier that has no policy of this name. For the scope user the user''s own tier, if there is one.';
comment on column kijko.rate_limit_policies.scope is 'What is limited: each address (of IPv6: each /64), user, organization or API key. A request that has none is not limited by it.';
comment on column kijko.rate_limit_policies.method is 'Requests of this method only; null for all.';
comment on column kijko.rate_limit_policies.route is 'Requests whose path is like this only, for example /rpc/*; null for all.';
comment on column kijko.rate_limit_policies.rate is 'How many requests are allowed in the time per.';
comment on column kijko.rate_limit_policies.per is 'The time in which rate requests are allowed.';
comment on column kijko.rate_limit_policies.burst is 'How many requests are allowed at once; null for the rate.';
comment on column kijko.rate_limit_policies.cost is 'Units that one request uses.';
comment on column kijko.rate_limit_policies.shadow is 'In shadow mode the policy counts and logs what it would refuse, and refuses nothing.';
comment on column kijko.rate_limit_policies.enabled is 'Whether the policy applies.';

create table kijko.tiers (
    subject uuid primary key,
    tier text collate "C" not null check (pg_catalog.length(tier) between 1 and 63)
);
comment on table kijko.tiers is 'The tier of organizations and users, by which their rate limit policies are chosen.';
comment on column kijko.tiers.subject is 'The organization, or kijko.subject() of a user.';
comment on column kijko.tiers.tier is 'Any name. Kijko uses the plan''s code.';

select pg_catalog.pg_extension_config_dump('kijko.rate_limit_policies', '');
select pg_catalog.pg_extension_config_dump('kijko.tiers', '');

create trigger invalidate_cache after insert or update or delete on kijko.rate_limit_policies
    for each row execute function kijko.invalidate_cache('rate_limit_policies');
create trigger invalidate_cache_truncated after truncate on kijko.rate_limit_policies
    for each statement execute function kijko.invalidate_cache('rate_limit_policies');
alter table kijko.rate_limit_policies enable always trigger invalidate_cache;
alter table kijko.rate_limit_policies enable always trigger invalidate_cache_truncated;
create trigger invalidate_cache after insert or update or delete on kijko.tiers
    for each row execute function kijko.invalidate_cache('tiers', 'subject');
create trigger invalidate_cache_truncated after truncate on kijko.tiers
    for each statement execute function kijko.invalidate_cache('tiers');
alter table kijko.tiers enable always trigger invalidate_cache;
alter table kijko.tiers enable always trigger invalidate_cache_truncated;

create function kijko.set_rate_limit_policy(
    name text, scope text, rate integer, per interval, tier text default '*', burst integer default null,
    cost integer default 1, method text default null, route text default null, shadow boolean default false,
    enabled boolean default true
)
    returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into kijko.rate_limit_policies as p (name, tier, scope, method, route, rate, per, burst, cost, shadow, enabled)
    values (
        set_rate_limit_policy.name, set_rate_limit_policy.tier, set_rate_limit_policy.scope, set_rate_limit_policy.method,
        set_rate_limit_policy.route, set_rate_limit_policy.rate, set_rate_limit_policy.per, set_rate_limit_policy.burst,
        set_rate_limit_policy.cost, set_rate_limit_policy.shadow, set_rate_limit_policy.enabled
    )
    on conflict on constraint rate_limit_policies_pkey do update set
        scope = excluded.scope, method = excluded.method, route = excluded.route, rate = excluded.rate, per = excluded.per,
        burst = excluded.burst, cost = excluded.cost, shadow = excluded.shadow, enabled = excluded.enabled;
exception
    when check_violation or not_null_violation then
        perform kijko.fail('invalid_input', sqlerrm);
end
$$;
comment on function kijko.set_rate_limit_policy(text, text, integer, interval, text, integer, integer, text, text, boolean, boolean) is 'Makes or changes a rate limit policy of a name and a tier.';

create function kijko.drop_rate_limit_policy(name text, tier text default '*') returns boolean
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from kijko.rate_limit_policies as p
    where p.name = drop_rate_limit_policy.name and p.tier = drop_rate_limit_policy.tier;
    return found;
end
$$;
comment on function kijko.drop_rate_limit_policy(text, text) is 'Deletes a rate limit policy; false when there was none.';

create function kijko.find_tier(subject uuid) returns text
    language c stable parallel safe as 'MODULE_PATHNAME', 'kijko_find_tier';
comment on function kijko.find_tier(uuid) is 'Internal: the tier of a subject as the running statement sees it, null without one. It takes no predicate lock, as kijko.find_limit().';

create function kijko.set_tier(subject uuid, tier text) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    if subject is null or pg_catalog.length(tier) not between 1 and 63 then
        perform kijko.fail('invalid_input', 'a tier needs a subject, and a name of 1 to 63 characters');
    end if;
    -- Every write has all backends read the subject's tier again, so an unchanged tier is not written.
    if tier is not distinct from kijko.find_tier(subject) then
        return;
    end if;
    if tier is null then
        perform kijko.delete_subject_rows('kijko.tiers', subject);
        return;
    end if;
    insert into kijko.tiers as t (subject, tier) values (set_tier.subject, set_tier.tier)
    on conflict on constraint tiers_pkey do update set tier = excluded.tier where t.tier <> excluded.tier;
end
$$;
comment on function kijko.set_tier(uuid, text) is 'Sets the tier of an organization, or of a user (kijko.subject), by which its rate limit policies are chosen, from its next request on; null removes it.';

create table kijko.statement_timeouts (
    tier text collate "C" primary key check (pg_catalog.length(tier) between 1 and 63),
    milliseconds integer not null check (milliseconds between 1 and 3600000)
);
comment on table kijko.statement_timeouts is 'How long a statement of a request may take, by tier: kijko.admit_request() sets statement_timeout for the rest of the transaction. Changes apply from the next request on.';
comment on column kijko.statement_timeouts.tier is 'The organization''s tier (kijko.set_tier), anonymous or user for requests without an organization, or * for every tier that has none.';
comment on column kijko.statement_timeouts.milliseconds is 'How long.';
select pg_catalog.pg_extension_config_dump('kijko.statement_timeouts', '');
create trigger invalidate_cache after insert or update or delete on kijko.statement_timeouts
    for each row execute function kijko.invalidate_cache('statement_timeouts');
create trigger invalidate_cache_truncated after truncate on kijko.statement_timeouts
    for each statement execute function kijko.invalidate_cache('statement_timeouts');
alter table kijko.statement_timeouts enable always trigger invalidate_cache;
alter table kijko.statement_timeouts enable always trigger invalidate_cache_truncated;

create function kijko.set_statement_timeout(tier text, timeout interval) returns void
    language plpgsql volatile parallel unsafe security definer -- callers have no rights on the table
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tier is null or pg_catalog.length(tier) not between 1 and 63
        or timeout not between interval '1 millisecond' and interval '1 hour'
    then
        perform kijko.fail('invalid_input', 'a tier of 1 to 63 characters, and a timeout of 1 millisecond to 1 hour');
    end if;
    if timeout is null then
        delete from kijko.statement_timeouts as t where t.tier = set_statement_timeout.tier;
        return;
    end if;
    insert into kijko.statement_timeouts as t (tier, milliseconds)
    values (set_statement_timeout.tier, (extract(epoch from timeout) * 1000)::pg_catalog.int4)
    on conflict on constraint statement_timeouts_pkey do update set milliseconds = excluded.milliseconds;
end
$$;
comment on function kijko.set_statement_timeout(text, interval) is 'Sets how long a statement of a request of a tier may take, from the next request on; null removes it, and then the role''s own timeout applies.';

create function kijko.check_request() returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_check_request';
comment on function kijko.check_request() is 'The header checks of kijko.admit_request(), for requests that are not limited: fails with bad_request when a header is not UTF-8, or when Prefer asks for count=planned, count=estimated or tx=rollback.';

create function kijko.admit_request(organization uuid, member uuid default null, api_key uuid default null) returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_admit_request';
comment on function kijko.admit_request(uuid, uuid, uuid) is 'Admits a request of an organization, of a user without one, or of an address (kijko.client_network), before anything of it runs: counts it as api_requests of the organization, applies the rate limit policies and the limit of api_requests, and adds RateLimit and RateLimit-Policy to the response. True, or fails with rate_limited or quota_exceeded, with X-RateLimit-* and Retry-After. kijko.rate_limit_headers says whether X-RateLimit-* are sent in any case. Works in READ ONLY transactions.';

create function kijko.admit_cached_member() returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_admit_cached_member';
comment on function kijko.admit_cached_member() is 'kijko.admit_request() for the user and the organization of this request, if the membership is cached (kijko.cache_membership). False when it is not: the domain then reads memberships.';

create function kijko.admit_known_request() returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_admit_known_request';
comment on function kijko.admit_known_request() is 'All that comes before a request whose caller the extension knows by itself, in one call: kijko.authenticate_api_key(), and then the role authenticated, kijko.authenticate_issuer_token(), kijko.check_request() for service_role, and kijko.admit_cached_member(). False for a token of an outside issuer and when the membership is not cached: the domain then admits the request.';

create function kijko.admit_external(forwarded_for text, method text, path text) returns jsonb
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_admit_external';
comment on function kijko.admit_external(text, text, text) is 'Applies the rate limit policies of the tier external to a request that another server takes, by the client''s network in X-Forwarded-For (as kijko.client_network), method and path. Returns {code, details, headers}: code is null when the request may go on, else rate_limited, or unavailable when the limiter failed and kijko.on_rate_limit_failure is closed.';

create function kijko.requested_org_id() returns uuid
    language c stable parallel safe as 'MODULE_PATHNAME', 'kijko_requested_org_id';
comment on function kijko.requested_org_id() is 'The organization that the request names: header x-org-id, else the claim org_id; null when it names none. Fails with bad_request when the header is not a uuid. Says nothing of whether the caller is a member.';

create function kijko.membership_epoch() returns bigint
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_membership_epoch';
comment on function kijko.membership_epoch() is 'The epoch of this connection''s membership cache. Call it before memberships are read, and pass it to kijko.cache_membership(): a membership that changed since is not used from the cache. Tables of memberships need the trigger kijko.invalidate_cache(''memberships'', column of the member).';

create function kijko.cache_membership(epoch bigint, member uuid, wanted uuid, organization uuid) returns void
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_cache_membership';
comment on function kijko.cache_membership(bigint, uuid, uuid, uuid) is 'Caches in this connection the organization of a member''s requests that name wanted (null: that name none), as read after kijko.membership_epoch() returned epoch. Does nothing in REPEATABLE READ and SERIALIZABLE transactions.';
