//! Configuration: from the environment only, checked at start, all problems reported at once.

mod database;
mod reader;
mod stripe;

use std::{fmt, net::SocketAddr, time::Duration};

pub use database::{DatabaseConfig, Tls};
use reader::Reader;
use reqwest::Url;
pub use stripe::StripeConfig;

use crate::secret::Secret;

/// Where the vendors themselves answer.
const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";
const ANTHROPIC_BASE_URL: &str = "https://api.anthropic.com";
const GEMINI_BASE_URL: &str = "https://generativelanguage.googleapis.com";

/// Everything the sidecar can be told, in groups by the part that reads it.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to reach Postgres.
    pub database: DatabaseConfig,
    /// The HTTP server.
    pub http: HttpConfig,
    /// The job worker.
    pub worker: WorkerConfig,
    /// Model vendors.
    pub llm: LlmConfig,
    /// Stripe.
    pub stripe: StripeConfig,
    /// Logging.
    pub log: LogConfig,
}

/// The HTTP server's settings.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Address to listen on. Loopback by default: Caddy is the one origin.
    pub bind: SocketAddr,
    /// A request that takes longer is logged as slow.
    pub slow_request: Duration,
    /// A request that takes longer is answered with 503.
    pub request_timeout: Duration,
    /// Larger request bodies are refused with 413.
    pub max_body_bytes: usize,
}

/// The worker's settings.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How many jobs run at once; 0 means that this process only serves HTTP.
    pub concurrency: usize,
    /// How long a claimed job stays ours without a heartbeat.
    pub lease: Duration,
    /// How often to look for jobs when no notification comes.
    pub poll: Duration,
    /// How long a transient error of the database is retried before the attempt counts as failed.
    pub patience: Duration,
    /// How long running jobs may go on after SIGTERM before they are handed back.
    pub shutdown_grace: Duration,
    /// Readiness becomes degraded when the oldest due job has waited longer.
    pub queue_age_warning: Duration,
}

/// The model vendors' settings.
#[derive(Debug, Clone)]
pub struct LlmConfig {
    /// Whether `echo/…` models answer. For development: they cost nothing and say nothing new.
    pub echo: bool,
    /// `max_tokens` of a skill that sets none.
    pub default_max_tokens: u64,
    /// Any service that speaks OpenAI's chat completions; each is `None` when neither its key nor its base URL is set.
    pub openai: Option<VendorConfig>,
    /// Claude.
    pub anthropic: Option<VendorConfig>,
    /// Google's.
    pub gemini: Option<VendorConfig>,
}

/// One vendor.
#[derive(Debug, Clone)]
pub struct VendorConfig {
    /// The base URL, without a trailing slash; the path of a call is appended.
    pub base_url: Url,
    /// The key, if the vendor wants one.
    pub api_key: Option<Secret>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a whole call may take; a job's own timeout may be shorter.
    pub timeout: Duration,
    /// How long the vendor may be silent in the middle of an answer.
    pub idle_timeout: Duration,
    /// Larger replies are refused.
    pub max_response_bytes: usize,
}

/// The log's settings.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Levels, such as `info` or `info,kijko_sidecar=debug`.
    pub levels: tracing_subscriber::filter::Targets,
    /// JSON lines (the default), or text for a person at a terminal.
    pub json: bool,
}

/// Every problem found in the environment. It never repeats a secret value.
#[derive(Debug)]
pub struct ConfigError {
    /// One sentence per problem, each starting with the variable's name.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "kijko-sidecar cannot start, its environment needs attention (docs/reference/settings.md):"
        )?;
        self.problems
            .iter()
            .try_for_each(|problem| writeln!(f, "  {problem}"))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the process environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(&|name| std::env::var(name).ok())
    }

    /// Reads any source of variables; an empty value counts as not set, as in an `.env` file.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut env = Reader::new(lookup);
        let database = DatabaseConfig::read(&mut env);
        let http = HttpConfig::read(&mut env);
        let worker = WorkerConfig::read(&mut env);
        let llm = LlmConfig::read(&mut env);
        let stripe = StripeConfig::read(&mut env);
        let log = LogConfig::read(&mut env);
        match (database, log, env.problems) {
            (Some(database), Some(log), problems) if problems.is_empty() => Ok(Self {
                database,
                http,
                worker,
                llm,
                stripe,
                log,
            }),
            (_, _, problems) => Err(ConfigError { problems }),
        }
    }
}

impl HttpConfig {
    fn read(env: &mut Reader<'_>) -> Self {
        Self {
            bind: env.parsed(
                "KIJKO_SIDECAR_BIND",
                "127.0.0.1:54333",
                "an address such as 127.0.0.1:54333",
            ),
            slow_request: env.millis("KIJKO_SLOW_REQUEST_MS", 1_000, 1..=600_000),
            request_timeout: env.seconds("KIJKO_REQUEST_TIMEOUT_SECONDS", 30, 1..=600),
            max_body_bytes: env.number("KIJKO_MAX_BODY_BYTES", 1 << 20, 1_024..=64 << 20) as usize,
        }
    }
}

impl WorkerConfig {
    fn read(env: &mut Reader<'_>) -> Self {
        Self {
            concurrency: env.number("KIJKO_WORKER_CONCURRENCY", 8, 0..=1_000) as usize,
            lease: env.seconds("KIJKO_LEASE_SECONDS", 60, 3..=3_600),
            poll: env.seconds("KIJKO_POLL_SECONDS", 5, 1..=300),
            patience: env.seconds("KIJKO_RECORD_SECONDS", 60, 1..=3_600),
            shutdown_grace: env.seconds("KIJKO_SHUTDOWN_SECONDS", 25, 0..=3_600),
            queue_age_warning: env.seconds("KIJKO_QUEUE_AGE_WARN_SECONDS", 300, 1..=86_400),
        }
    }
}

impl LlmConfig {
    fn read(env: &mut Reader<'_>) -> Self {
        let echo = env.flag("KIJKO_LLM_ECHO");
        let default_max_tokens = env.number("KIJKO_LLM_DEFAULT_MAX_TOKENS", 8_192, 1..=10_000_000);
        let limits = VendorLimits::read(env);
        Self {
            echo,
            default_max_tokens,
            openai: VendorConfig::read(env, "OPENAI", OPENAI_BASE_URL, &limits),
            anthropic: VendorConfig::read(env, "ANTHROPIC", ANTHROPIC_BASE_URL, &limits),
            gemini: VendorConfig::read(env, "GEMINI", GEMINI_BASE_URL, &limits),
        }
    }
}

/// What is the same for all vendors.
struct VendorLimits {
    connect_timeout: Duration,
    timeout: Duration,
    idle_timeout: Duration,
    max_response_bytes: usize,
}

impl VendorLimits {
    fn read(env: &mut Reader<'_>) -> Self {
        let connect_timeout = env.seconds("KIJKO_LLM_CONNECT_TIMEOUT_SECONDS", 10, 1..=120);
        let timeout = env.seconds("KIJKO_LLM_TIMEOUT_SECONDS", 120, 1..=3_600);
        let idle_timeout = env.seconds("KIJKO_LLM_IDLE_TIMEOUT_SECONDS", 60, 1..=3_600);
        let max_response_bytes =
            env.number("KIJKO_LLM_MAX_RESPONSE_BYTES", 16 << 20, 1_024..=256 << 20) as usize;
        Self {
            connect_timeout,
            timeout,
            idle_timeout,
            max_response_bytes,
        }
    }
}

impl VendorConfig {
    fn read(
        env: &mut Reader<'_>,
        vendor: &str,
        default_url: &str,
        limits: &VendorLimits,
    ) -> Option<Self> {
        let (key_name, url_name) = (format!("{vendor}_API_KEY"), format!("{vendor}_BASE_URL"));
        let api_key = env.text(&key_name).map(Secret::new);
        let base_url = env.text(&url_name);
        if api_key.is_none() && base_url.is_none() {
            return None;
        }
        if api_key
            .as_ref()
            .is_some_and(|key| reqwest::header::HeaderValue::from_str(key.expose()).is_err())
        {
            env.problem(&key_name, "has characters that no HTTP header may carry");
        }
        let base_url = vendor_url(env, &url_name, base_url.as_deref().unwrap_or(default_url))?;
        Some(Self {
            base_url,
            api_key,
            connect_timeout: limits.connect_timeout,
            timeout: limits.timeout,
            idle_timeout: limits.idle_timeout,
            max_response_bytes: limits.max_response_bytes,
        })
    }
}

impl LogConfig {
    fn read(env: &mut Reader<'_>) -> Option<Self> {
        let levels = env.text("KIJKO_LOG").unwrap_or_else(|| "info".to_owned());
        let levels = levels.parse().map_err(|_| {
            env.problem(
                "KIJKO_LOG",
                "must be levels such as info or info,kijko_sidecar=debug",
            );
        });
        let format = env.text("KIJKO_LOG_FORMAT");
        let json = match format.as_deref() {
            None | Some("json") => true,
            Some("text") => false,
            Some(_) => {
                env.problem("KIJKO_LOG_FORMAT", "must be json or text");
                true
            }
        };
        levels.ok().map(|levels| Self { levels, json })
    }
}

/// A vendor's base URL. Credentials in it are refused, because URLs end up in logs and keys must not.
fn vendor_url(env: &mut Reader<'_>, name: &str, value: &str) -> Option<Url> {
    match Url::parse(value.trim_end_matches('/')) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            env.problem(name, "must start with http:// or https://")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            env.problem(
                name,
                "must not carry a user or password; the key has its own variable",
            );
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            env.problem(name, "must not have a query or fragment")
        }
        Ok(url) => return Some(url),
        Err(_) => env.problem(name, "is not a URL"),
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let map: HashMap<String, String> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Config::from_lookup(&|name| map.get(name).cloned())
    }

    const URL: (&str, &str) = (
        "DATABASE_URL",
        "postgres://kijko_sidecar:hunter2@127.0.0.1:54322/postgres",
    );

    #[test]
    fn only_the_database_is_required() {
        let config = config(&[URL, ("OPENAI_API_KEY", "")]).unwrap();
        assert_eq!(config.http.bind.to_string(), "127.0.0.1:54333");
        assert_eq!(config.worker.concurrency, 8);
        assert!(!config.llm.echo);
        assert!(config.llm.openai.is_none());
        assert!(config.log.json);
    }

    #[test]
    fn all_problems_come_at_once_and_each_names_its_variable() {
        let error = config(&[
            ("KIJKO_SIDECAR_BIND", "here"),
            ("KIJKO_LEASE_SECONDS", "1"),
            ("KIJKO_LLM_ECHO", "perhaps"),
            ("KIJKO_LOG", "kijko_sidecar=loudly"),
            ("OPENAI_BASE_URL", "https://user:pw@llm.example"),
        ])
        .unwrap_err();
        let names = [
            "DATABASE_URL",
            "KIJKO_SIDECAR_BIND",
            "KIJKO_LEASE_SECONDS",
            "KIJKO_LLM_ECHO",
            "OPENAI_BASE_URL",
            "KIJKO_LOG",
        ];
        let found: Vec<_> = error
            .problems
            .iter()
            .filter_map(|problem| problem.split(' ').next())
            .collect();
        assert_eq!(found, names);
    }

    #[test]
    fn secrets_are_in_no_debug_output_and_no_problem() {
        let keys = [
            URL,
            ("OPENAI_API_KEY", "sk-topsecret"),
            ("ANTHROPIC_API_KEY", "sk-ant-topsecret"),
            ("GEMINI_API_KEY", "AIza-topsecret"),
        ];
        let debug = format!("{:?}", config(&keys).unwrap());
        assert!(
            !debug.contains("hunter2") && !debug.contains("topsecret"),
            "{debug}"
        );

        let bad = [
            ("DATABASE_URL", "postgres://user:hunter2@host:port/db"),
            ("OPENAI_API_KEY", "sk-top\nsecret"),
        ];
        let text = self::config(&bad).unwrap_err().to_string();
        assert!(
            text.contains("DATABASE_URL") && text.contains("OPENAI_API_KEY"),
            "{text}"
        );
        assert!(
            !text.contains("hunter2") && !text.contains("sk-top"),
            "{text}"
        );
    }

    #[test]
    fn a_key_alone_turns_a_vendor_on_at_its_own_address() {
        let config = config(&[URL, ("ANTHROPIC_API_KEY", "k"), ("GEMINI_API_KEY", "k")]).unwrap();
        assert!(config.llm.openai.is_none());
        let address = |vendor: Option<VendorConfig>| vendor.unwrap().base_url.to_string();
        assert_eq!(address(config.llm.anthropic), "https://api.anthropic.com/");
        assert_eq!(
            address(config.llm.gemini),
            "https://generativelanguage.googleapis.com/"
        );
    }

    #[test]
    fn a_base_url_alone_turns_the_vendor_on() {
        let config = config(&[URL, ("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1/")]).unwrap();
        let openai = config.llm.openai.unwrap();
        assert_eq!(openai.base_url.as_str(), "http://127.0.0.1:11434/v1");
        assert!(openai.api_key.is_none());
    }
}
