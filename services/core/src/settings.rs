//! All settings of a service, from its environment.

use crate::{
    config::{ConfigError, Reader},
    db::DatabaseConfig,
    domain::{FromEnv, Setup},
    http::HttpConfig,
    jobs::WorkerConfig,
    service::Service,
    telemetry::{logs::LogConfig, sentry::SentryConfig, traces::TracesConfig},
};

/// The settings, in groups by the part that reads it.
pub struct Settings {
    /// The service.
    pub service: Service,
    /// How to reach Postgres.
    pub database: DatabaseConfig,
    /// The HTTP server.
    pub http: HttpConfig,
    /// The job worker.
    pub worker: WorkerConfig,
    /// Logging.
    pub log: LogConfig,
    /// Where errors are reported; none: nowhere.
    pub sentry: Option<SentryConfig>,
    /// Where spans go; none: nowhere.
    pub traces: Option<TracesConfig>,
    /// The domains, in the order of their list.
    pub domains: Vec<Setup>,
}

impl Settings {
    /// Reads the process environment.
    pub fn from_env(service: Service, domains: &[FromEnv]) -> Result<Self, ConfigError> {
        Self::from_lookup(service, domains, &|name| std::env::var(name).ok())
    }

    /// Reads any source of variables.
    pub fn from_lookup(
        service: Service,
        domains: &[FromEnv],
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut env = Reader::new(service, lookup);
        let database = DatabaseConfig::read(&mut env);
        let http = HttpConfig::read(&mut env);
        let worker = WorkerConfig::read(&mut env);
        let domains = domains.iter().map(|read| read(&mut env)).collect();
        let log = LogConfig::read(&mut env);
        let sentry = SentryConfig::read(&mut env);
        let traces = match service.traces {
            true => TracesConfig::read(&mut env),
            false => None,
        };
        let settings = database.map(|database| Self {
            service,
            database,
            http,
            worker,
            log,
            sentry,
            traces,
            domains,
        });
        env.finish(settings)
    }
}
