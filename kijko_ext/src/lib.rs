//! Kijko's Postgres extension: the caller of a request, limits, cron, signed tokens and sealed secrets.
//!
//! One module per concern. Each keeps its arithmetic free of Postgres (plain `#[test]`), its SQL functions thin
//! (`#[pg_extern]`), and its tables, plpgsql and comments in an SQL file beside it. Their order is declared here.
//! pg/ has what talks to Postgres' C. Modules import each other in one direction only.

use pgrx::prelude::*;

mod api_key;
mod array_sum;
mod caller;
mod claims;
mod client;
mod clock;
mod cron;
mod errors;
mod flag;
mod funnel;
mod guc;
mod headers;
mod hll;
mod invalidate_cache;
mod issuer;
mod json_fits;
mod jwt;
mod key_file;
mod network;
mod outbox;
mod pg;
mod qr;
mod quota;
mod rate_limit;
mod request;
mod request_counter;
mod seal;
mod session;
mod shmem;
mod stats;
mod subject;
mod subject_rows;
mod text_search;
mod trust;
mod uuid7;
mod verdict;
mod worker;

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("prelude.sql", bootstrap);
extension_sql_file!(
    "errors.sql",
    name = "errors",
    requires = [trust::is_request, headers::request_header]
);
extension_sql_file!("platform.sql", name = "platform", requires = ["errors"]);
extension_sql_file!(
    "entitlement.sql",
    name = "entitlement",
    requires = ["errors"]
);
extension_sql_file!(
    "invalidate_cache.sql",
    name = "invalidate_cache",
    requires = ["errors"]
);
extension_sql_file!(
    "flag.sql",
    name = "flag",
    requires = [
        "errors",
        flag::flag_enabled,
        flag::flag_variant,
        flag::flags,
        flag::flag_problem
    ]
);
extension_sql_file!(
    "subject_rows.sql",
    name = "subject_rows",
    requires = ["errors"]
);
extension_sql_file!(
    "session.sql",
    name = "session",
    requires = [
        "errors",
        claims::claims,
        caller::user_id,
        caller::session_id,
        clock::now
    ]
);
extension_sql_file!("caller.sql", name = "caller", requires = ["errors"]);
extension_sql_file!(
    "array_sum.sql",
    name = "array_sum",
    requires = [
        array_sum::array_sum_add,
        array_sum::array_sum_add_int,
        array_sum::array_sum_final
    ]
);
extension_sql_file!(
    "hll.sql",
    name = "hll",
    requires = [
        hll::hll_add,
        hll::hll_merge,
        hll::hll_final,
        hll::hll_cardinality
    ]
);
extension_sql_file!(
    "funnel.sql",
    name = "funnel",
    requires = [funnel::funnel_add, funnel::funnel_final]
);
extension_sql_file!("json_fits.sql", name = "json_fits", requires = ["errors"]);
extension_sql_file!("qr.sql", name = "qr", requires = [qr::qr_svg]);
extension_sql_file!(
    "api_key.sql",
    name = "api_key",
    requires = [
        "quota_limits",
        "quota_delete_subject",
        api_key::sql::api_key_id,
        api_key::sql::api_key_permissions,
        api_key::sql::assume_api_key,
        api_key::sql::generate_api_key,
        api_key::sql::issued_api_key,
        api_key::sql::issued_api_key_hash,
        api_key::sql::api_key_last_used_at,
        api_key::sql::api_key_valid_until
    ]
);
extension_sql_file!(
    "cron.sql",
    name = "cron",
    requires = [
        "errors",
        cron::cron_problem,
        cron::cron_next_unchecked,
        cron::cron_latest_unchecked,
        cron::cron_upcoming_unchecked
    ]
);
extension_sql_file!(
    "quota/policy/limits.sql",
    name = "quota_limits",
    requires = [
        "errors",
        "invalidate_cache",
        "verdict",
        clock::now,
        quota::policy::period_sql::period_end
    ]
);
extension_sql_file!(
    "quota/ledger/ledger.sql",
    name = "quota_ledger",
    requires = ["quota_limits"]
);
extension_sql_file!(
    "quota/policy/calendars.sql",
    name = "quota_calendars",
    requires = [
        "quota_ledger",
        "subject_rows",
        quota::policy::period_sql::period_at,
        quota::policy::period_sql::is_time_zone,
        quota::policy::period_sql::local_day,
        quota::policy::period_sql::calendar_is_changing
    ]
);
extension_sql_file!(
    "quota/api/consume.sql",
    name = "quota_consume",
    requires = ["quota_calendars"]
);
extension_sql_file!(
    "quota/api/record.sql",
    name = "quota_record",
    requires = ["quota_consume"]
);
extension_sql_file!(
    "quota/hold/holds.sql",
    name = "quota_holds",
    requires = ["quota_record"]
);
extension_sql_file!(
    "quota/ledger/partitions.sql",
    name = "quota_partitions",
    requires = ["quota_holds"]
);
extension_sql_file!(
    "quota/ledger/rollup.sql",
    name = "quota_rollup",
    requires = ["quota_partitions"]
);
extension_sql_file!(
    "quota/ledger/maintain.sql",
    name = "quota_maintain",
    requires = ["quota_rollup", "quota_ingest", "stats"]
);
extension_sql_file!(
    "quota/api/usage.sql",
    name = "quota_usage",
    requires = ["quota_record"]
);
extension_sql_file!(
    "quota/api/report.sql",
    name = "quota_report",
    requires = ["quota_usage"]
);
extension_sql_file!(
    "quota/api/explain.sql",
    name = "quota_explain",
    requires = ["quota_usage"]
);
extension_sql_file!(
    "quota/api/ingest.sql",
    name = "quota_ingest",
    requires = ["quota_record", quota::api::event_time::event_time]
);
extension_sql_file!(
    "rate_limit.sql",
    name = "rate_limit",
    requires = [
        "verdict",
        rate_limit::sql::allow,
        rate_limit::sql::rate_limit,
        rate_limit::sql::rate_limits
    ]
);
extension_sql_file!(
    "stats.sql",
    name = "stats",
    requires = [stats::stats, stats::count_maintenance_failure]
);
extension_sql_file!(
    "request.sql",
    name = "request",
    requires = [
        "quota_limits",
        "rate_limit",
        "subject_rows",
        claims::claim,
        client::client_address,
        client::client_network,
        request::actors::request_actors,
        request::token::token_fault,
        subject::subject
    ]
);
extension_sql_file!(
    "quota/api/delete_subject.sql",
    name = "quota_delete_subject",
    requires = ["quota_holds", "quota_ingest", "request"]
);
extension_sql_file!(
    "jwt.sql",
    name = "jwt",
    requires = [
        jwt::sql::sign_jwt,
        jwt::sql::sign_jwt_with_key,
        jwt::sql::verify_jwt,
        jwt::sql::verify_jwt_with_keys,
        jwt::sql::verify_jwt_reason,
        jwt::sql::access_token_fault,
        jwt::sql::jwks,
        jwt::sql::pre_config
    ]
);
extension_sql_file!(
    "text_search.sql",
    name = "text_search",
    requires = [
        text_search::text_grams,
        text_search::name_grams,
        text_search::find_lines
    ]
);
extension_sql_file!(
    "seal.sql",
    name = "seal",
    requires = ["errors", seal::sql::seal_key_id]
);
extension_sql_file!(
    "outbox.sql",
    name = "outbox",
    requires = [
        "seal",
        outbox::request::http_public_key,
        outbox::request::http_request_problem,
        outbox::request::http_secret_names,
        outbox::request::http_origin,
        outbox::request::http_body_text
    ]
);
extension_sql_file!(
    "issuer.sql",
    name = "issuer",
    requires = [
        "outbox",
        "request",
        issuer::document::issuer_document,
        issuer::document::issuer_keys
    ]
);
// Last, so that no function can be added without passing through it.
extension_sql_file!("grants.sql", name = "grants", finalize);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    guc::refuse_unless_preloaded();
    guc::init();
    pg::malloc_tuning::init();
    shmem::init(&[
        rate_limit::limiter::SHMEM_REGION,
        quota::counter::slot_table::SHMEM_REGION,
        request_counter::pending::SHMEM_REGION,
        request::actors::SHMEM_REGION,
        request::counters::SHMEM_REGION,
        request::in_flight::SHMEM_REGION,
        session::revocation_cache::SHMEM_REGION,
        api_key::last_use::SHMEM_REGION,
        flag::counts::SHMEM_REGION,
        outbox::SHMEM_REGION,
        worker::figures::SHMEM_REGION,
    ]);
    worker::launcher::register();
    request::statement::init();
    request::memory_limit::init();
    request::read_only_key::init();
    request::brief::init();
    request::error_log::init();
}
