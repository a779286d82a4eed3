-- The extension, its grants and the sidecar's role. Run once by a superuser; safe to run again.
-- This is the one platform file that self-hosted Supabase needs as well (docs/operations/self-hosted-supabase.md).
\set ON_ERROR_STOP on
\ir owner.psql
\getenv sidecar_password KIJKO_SIDECAR_PASSWORD
\getenv gateway_password KIJKO_GATEWAY_PASSWORD
\getenv indexer_password KIJKO_INDEXER_PASSWORD

set client_min_messages = warning;

create extension if not exists pg_cron;
create extension if not exists kijko;

grant usage on schema cron to :"owner";

-- Functions meant for everybody are granted to public by the extension itself; the schema is not exposed by PostgREST.
grant usage on schema kijko to :"owner", anon, authenticated, service_role, authenticator, supabase_auth_admin;

-- Limits: the domain's definer functions are owned by postgres; service_role is the back office. Nobody else may spend or raise a limit.
grant execute on function
    kijko.set_limit(uuid, text, text, bigint, text),
    kijko.set_limits(uuid[], text[], text[], bigint[], text[]),
    kijko.quota_status(uuid, text),
    kijko.try_consume(uuid, text, bigint, text),
    kijko.consume(uuid, text, bigint, text),
    kijko.try_consume_many(uuid[], text, bigint, text, jsonb),
    kijko.consume_many(uuid[], text, bigint, text, jsonb),
    kijko.reserve(uuid, text, bigint, interval, text),
    kijko.try_reserve_many(uuid[], text[], bigint[], timestamptz),
    kijko.settle(uuid, bigint, uuid, text),
    kijko.try_settle_many(uuid[], bigint[], jsonb[]),
    kijko.release(uuid),
    kijko.adjust_gauge(uuid, text, bigint),
    kijko.set_gauge(uuid, text, bigint),
    kijko.set_calendar(uuid, text, timestamptz),
    kijko.record_usage(uuid, text, bigint, timestamptz, text, jsonb, text),
    kijko.correct_usage(uuid, text, bigint, text, timestamptz, text),
    kijko.period_at(uuid, text, timestamptz, text),
    kijko.period_usage(uuid, text, timestamptz, timestamptz),
    kijko.usage(uuid),
    kijko.usage_by_day(uuid, text, date, date),
    kijko.maintain_usage(),
    kijko.rate_limit(text, integer, interval, integer, integer),
    kijko.allow(text, integer, interval, integer, integer),
    kijko.revoke_session(uuid, timestamptz),
    kijko.restore_session(uuid)
to :"owner", service_role;
grant execute on function
    kijko.admit_request(uuid, uuid, uuid),
    kijko.rate_limits(text[], integer[], interval[], integer[], integer[]),
    kijko.set_rate_limit_policy(text, text, integer, interval, text, integer, integer, text, text, boolean, boolean),
    kijko.drop_rate_limit_policy(text, text),
    kijko.set_statement_timeout(text, interval),
    kijko.set_tier(uuid, text),
    kijko.set_entitlements(uuid, text[]),
    kijko.delete_subject(uuid)
to :"owner", service_role;
-- Only the domain may fill the cache of memberships. The sidecar admits its requests through a function of the domain.
grant execute on function
    kijko.membership_epoch(),
    kijko.cache_membership(bigint, uuid, uuid, uuid),
    kijko.invalidate_cache(),
    kijko.admit_external(text, text, text),
    kijko.request_actors(uuid[])
to :"owner";
-- API keys: the domain's functions and triggers make and change them.
grant execute on function
    kijko.put_api_key(uuid, uuid, text, uuid, text[], bigint, bigint, bigint, timestamptz, timestamptz, timestamptz, text[]),
    kijko.generate_api_key(uuid),
    kijko.issued_api_key(uuid),
    kijko.store_api_key_secret(uuid, interval),
    kijko.delete_api_key(uuid),
    kijko.api_key_last_used_at(uuid),
    kijko.assume_api_key(uuid)
to :"owner";
-- Histograms of statistics.
grant execute on function kijko.array_sum(bigint[]), kijko.array_sum(integer[]) to :"owner";
-- Distinct counts and funnels of product events.
grant execute on function
    kijko.hll_add_agg(uuid), kijko.hll_union_agg(bytea), kijko.hll_cardinality(bytea),
    kijko.funnel_depth(timestamptz, integer, integer, bigint, boolean)
to :"owner";
-- Headers of limits that the domain itself enforces.
grant execute on function kijko.limit_headers(kijko.verdict) to :"owner";

-- Reports and explanations, events from other services, and the repair of gauges.
grant execute on function
    kijko.usage_by(uuid, text, text, date, date),
    kijko.usage_forecast(uuid),
    kijko.list_threshold_crossings(uuid, timestamptz),
    kijko.explain_limit(uuid, text),
    kijko.ingest_usage(uuid, jsonb, jsonb),
    kijko.reload_counters(uuid)
to :"owner", service_role;

-- Crossings of thresholds, for what the domain makes of them. service_role may only list them.
grant execute on function
    kijko.take_threshold_crossings(integer, interval),
    kijko.end_threshold_crossing(uuid, text, timestamptz, smallint)
to :"owner";

-- Sealed text: functions of postgres seal and unseal, each in the context of its own rows. Login gets its grant in 25_login_roles.sql.
grant execute on function
    kijko.seal(text, text),
    kijko.unseal(text, text),
    kijko.reseal(text, text),
    kijko.can_unseal(text, text),
    kijko.seal_key_ids()
to :"owner";

-- Outside issuers: the domain decides who enrols one, and who its subjects are.
grant execute on function
    kijko.put_issuer(uuid, text, text[], text[], jsonb, text, text, text, text[], boolean, boolean),
    kijko.delete_issuer(uuid),
    kijko.list_issuers(uuid),
    kijko.put_issuer_identity(uuid, text, uuid),
    kijko.delete_issuer_identity(uuid),
    kijko.issuer_caller(),
    kijko.assume_issuer_user(),
    kijko.verify_jwt(text, jsonb, text, text[], interval),
    kijko.verify_jwt_reason(text, jsonb, text, text[], interval)
to :"owner";
grant select on kijko.issuers, kijko.issuer_identities to :"owner";

-- The outbox: functions of postgres decide what is sent on whose behalf. Nobody else may send anything, or see what was.
grant execute on function
    kijko.http_enqueue(text, text, jsonb, text, text, interval, integer, text, integer, timestamptz, uuid, jsonb, timestamptz),
    kijko.http_cancel(uuid),
    kijko.http_replay(uuid),
    kijko.http_replay_dead(uuid, text, timestamptz, timestamptz, integer),
    kijko.http_response(uuid),
    kijko.http_queue(),
    kijko.http_request_problem(text, text, jsonb, text, jsonb),
    kijko.http_body_text(bytea),
    kijko.http_origin(text),
    kijko.http_public_key(text),
    kijko.set_http_secret(text, text, uuid),
    kijko.copy_http_secret(text, text, uuid),
    kijko.drop_http_secret(text, uuid)
to :"owner";
-- Headers and signatures name secrets; the tables hold none.
grant select on kijko.http_requests, kijko.http_attempts to :"owner";
-- The platform's flags: the owner of the domain writes their definitions, and says which of them a caller asks for.
grant execute on function
    kijko.put_flag_snapshot(text, jsonb),
    kijko.take_flag_evaluations(integer),
    kijko.flags(jsonb, text),
    kijko.flag_problem(text, jsonb)
to :"owner";
grant usage on sequence kijko.flag_revision to :"owner";
-- The search in code: lines of files.
grant execute on function kijko.find_lines(text, text, boolean, boolean, integer, integer), kijko.event_time(text) to :"owner";
-- The figures of shared memory, for the metrics that functions of the domain give to the sidecar. They name nobody.
grant execute on function kijko.stats() to :"owner";

-- PostgREST asks for its public keys before it has switched roles.
grant execute on function kijko.pre_config() to authenticator;

-- The sidecar: EXECUTE on the worker functions and on four functions of auth_api (granted where they are made). It belongs to no
-- other role.
select 'create role kijko_sidecar login noinherit nocreatedb nocreaterole nobypassrls'
where not exists (select from pg_catalog.pg_roles where rolname = 'kijko_sidecar')
\gexec
alter role kijko_sidecar password :'sidecar_password';
alter role kijko_sidecar set statement_timeout = '30s';
alter role kijko_sidecar set idle_in_transaction_session_timeout = '30s';
select format('grant connect on database %I to kijko_sidecar', current_database())
\gexec
-- The indexer: EXECUTE on its functions and on those of the queue. Without a password it cannot log in: a stack without an
-- indexer needs none. What it writes is a batch of files or a whole tree, hence the longer time.
select 'create role kijko_indexer login noinherit nocreatedb nocreaterole nobypassrls'
where not exists (select from pg_catalog.pg_roles where rolname = 'kijko_indexer')
\gexec
\if :{?indexer_password}
alter role kijko_indexer password :'indexer_password';
\endif
alter role kijko_indexer set statement_timeout = '15min';
alter role kijko_indexer set idle_in_transaction_session_timeout = '30s';
select format('grant connect on database %I to kijko_indexer', current_database())
\gexec
-- The sidecar's second login, by which it asks some functions as their callers, and can become no more than a caller. What else it may
-- call, private.requests_enter(), is granted where that is made. Without a password it cannot log in. The sidecar asks PostgREST only if
-- KIJKO_GATEWAY_DATABASE_URL is not set: with a URL whose login is refused, it answers 503.
select 'create role kijko_gateway login noinherit nocreatedb nocreaterole nobypassrls'
where not exists (select from pg_catalog.pg_roles where rolname = 'kijko_gateway')
\gexec
\if :{?gateway_password}
alter role kijko_gateway password :'gateway_password';
\endif
alter role kijko_gateway set statement_timeout = '15s';
alter role kijko_gateway set idle_in_transaction_session_timeout = '30s';
grant anon, authenticated to kijko_gateway;
select format('grant connect on database %I to kijko_gateway', current_database())
\gexec
grant usage on schema kijko to kijko_gateway;
grant execute on function kijko.verify_jwt(text), kijko.access_token_fault(jsonb) to kijko_gateway;
-- Functions of the domain run as postgres with an empty search path, where a caller's temporary types come before those of
-- Postgres: the check of a domain type of such a name would run as postgres. So only postgres may create temporary objects.
select format('revoke temporary on database %I from public', current_database())
\gexec
select format('grant temporary on database %I to %I', current_database(), :'owner')
\gexec
-- Tokens, API keys, passwords and tenants' texts are parameters of these logins' statements. They must not get into the log,
-- whatever is logged: log_statement and log_min_duration_statement write parameters, and auto_explain writes them as constants
-- of a verbose plan. The login PostgREST has the same (25_login_roles.sql).
select format('alter role %I set %s', rolname, setting)
from pg_catalog.pg_roles,
    unnest(array['log_parameter_max_length = 0', 'log_parameter_max_length_on_error = 0', 'auto_explain.log_verbose = off']) as setting
where rolname in ('authenticator', 'kijko_sidecar', 'kijko_gateway', 'kijko_indexer')
\gexec
-- With jit on, Postgres compiles every plan with a high estimated cost, each time it runs, in some 40 ms. Estimates are too high for tables
-- that have just grown, and no statement of these logins gains so much.
select format('alter role %I set jit = off', rolname)
from pg_catalog.pg_roles where rolname in ('authenticator', 'kijko_sidecar', 'kijko_gateway', 'kijko_indexer')
\gexec
