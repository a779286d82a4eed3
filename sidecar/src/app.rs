//! The service and the one list of its domains.

use kijko_core::{FromEnv, Settings, config::ConfigError};

pub use crate::service::SERVICE;
use crate::{domains, login};

/// The domains. A new one is a folder under `domains/` and a line here. Login is no domain of the migrations: the platform has its SQL.
pub const DOMAINS: [FromEnv; 23] = [
    domains::analytics::from_env,
    domains::billing::from_env,
    domains::blog::from_env,
    domains::code::from_env,
    domains::connections::from_env,
    domains::documents::from_env,
    domains::executions::from_env,
    domains::flags::from_env,
    domains::functions::from_env,
    domains::issuers::from_env,
    domains::llm::from_env,
    domains::mail::from_env,
    domains::notifications::from_env,
    domains::observability::from_env,
    domains::privacy::from_env,
    domains::prompts::from_env,
    domains::reflexes::from_env,
    domains::skills::from_env,
    domains::social::from_env,
    domains::stripe::from_env,
    domains::topics::from_env,
    domains::webhooks::from_env,
    login::from_env,
];

/// Reads the process environment.
pub fn settings() -> Result<Settings, ConfigError> {
    Settings::from_env(SERVICE, &DOMAINS)
}

/// The argument of a program that only reads the log of requests, to its end: beside a proxy, which it outlives.
pub const REQUESTS: &str = "requests";

/// The settings of that program.
pub fn request_settings() -> Result<Settings, ConfigError> {
    Settings::from_env(SERVICE, &[domains::observability::reader_from_env])
}

/// Reads any source of variables.
pub fn settings_from(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Settings, ConfigError> {
    Settings::from_lookup(SERVICE, &DOMAINS, lookup)
}

/// What the tests of domains share.
#[cfg(test)]
pub(crate) mod test {
    use std::sync::Arc;

    use kijko_core::{Context, db::Db, http::Server, telemetry::traces::Tracer};

    use super::*;

    /// Port 1 of this machine: connections are refused at once.
    pub(crate) fn settings(more: &[(&str, &str)]) -> Settings {
        settings_from(&|name| match name {
            "DATABASE_URL" => {
                Some("postgres://nobody:secret@127.0.0.1:1/none?sslmode=disable".to_owned())
            }
            _ => more
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned()),
        })
        .expect("the settings are valid")
    }

    pub(crate) fn context() -> Context {
        let settings = settings(&[]);
        Context {
            db: Db::new(&settings.database).expect("a pool"),
            max_body_bytes: settings.http.max_body_bytes,
            request_timeout: settings.http.request_timeout,
            shutdown_grace: settings.worker.shutdown_grace,
            tracer: Tracer::off(),
            runs_jobs: true,
        }
    }

    pub(crate) fn server(context: &Context) -> Server {
        Server {
            service: SERVICE,
            config: settings(&[]).http,
            limits: Arc::default(),
            series: Arc::default(),
            db: context.db.clone(),
            has_queue: true,
            tracer: Tracer::off(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::{
        Router,
        body::{Body, to_bytes},
        http::Request,
    };
    use kijko_core::runtime::{Assembly, assemble};
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use super::{test::settings, *};

    fn assembly(more: &[(&str, &str)]) -> (Assembly, CancellationToken) {
        let stop = CancellationToken::new();
        (assemble(settings(more), &stop).unwrap(), stop)
    }

    async fn fetch(app: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn ready(app: &Router) -> Value {
        serde_json::from_str(&fetch(app, "/ready").await.1).unwrap()
    }

    #[tokio::test]
    async fn the_kinds_of_jobs_are_those_of_the_configured_vendors() {
        let (assembly, _) = assembly(&[("KIJKO_LLM_ECHO", "1"), ("ANTHROPIC_API_KEY", "k")]);
        let kinds = [
            "blog_draft",
            "blog_image",
            "blog_render",
            "connection_refresh",
            "document_ingestion",
            "execution",
            "execution.anthropic",
            "execution.echo",
            "prompt_check",
            "reflex_delivery",
            "skill_check",
            "skill_test",
            "social_measurement",
            "social_publish",
            "topic_discovery",
            "topic_embedding",
        ];
        assert_eq!(assembly.kinds, kinds);
    }

    #[tokio::test]
    async fn operators_pages_are_on_the_operators_router_only() {
        let (assembly, _) = assembly(&[]);
        for page in ["/metrics", "/ready"] {
            assert_eq!(fetch(&assembly.public, page).await.0, 404, "{page}");
            assert_ne!(fetch(&assembly.operators, page).await.0, 404, "{page}");
        }
        assert_eq!(fetch(&assembly.operators, "/webhooks/stripe").await.0, 404);
        assert_eq!(fetch(&assembly.public, "/webhooks/stripe").await.0, 405);
    }

    #[tokio::test]
    async fn without_a_database_it_is_down_and_says_which_part() {
        let (assembly, stop) = assembly(&[("KIJKO_LLM_ECHO", "1")]);
        let body = ready(&assembly.operators).await;
        assert_eq!(body["status"], "down");
        let checks = &body["checks"];
        for (name, status) in [
            ("database", "down"),
            ("issuers", "degraded"),
            ("listener", "degraded"),
            ("llm", "ok"),
            ("mail", "degraded"),
            ("queue", "degraded"),
            ("stripe", "degraded"),
            ("worker", "ok"),
        ] {
            assert_eq!(checks[name]["status"], status, "{name}: {body}");
        }
        assert_eq!(checks["stripe"]["configured"], false);
        assert_eq!(checks["worker"]["slots"], 10);
        assert_eq!(checks["llm"]["providers"], json!(["echo"]));
        assert!(!body.to_string().contains("secret"));
        stop.cancel();
        let worker = &ready(&assembly.operators).await["checks"]["worker"];
        assert_eq!(
            (&worker["stopping"], &worker["status"]),
            (&json!(true), &json!("down"))
        );
    }

    /// Names in the first column of the documentation's table.
    fn documented() -> BTreeSet<String> {
        let page = include_str!("../../docs/operations/sidecar.md");
        let section = page.split("\n## Metrics\n").nth(1).unwrap();
        let table = section.split("\n## ").next().unwrap();
        table
            .lines()
            .filter_map(|line| line.strip_prefix("| `kijko_")?.split('|').next())
            .flat_map(|cell| cell.split('`'))
            .map(|name| name.trim_start_matches("kijko_").to_owned())
            .filter(|name| !name.is_empty() && !name.contains([',', ' ']))
            .collect()
    }

    #[tokio::test]
    async fn the_documentation_explains_exactly_the_series_that_exist() {
        let (assembly, _) = assembly(&[]);
        let (_, text) = fetch(&assembly.operators, "/metrics").await;
        assert!(text.contains("kijko_database_up 0"), "{text}");
        assert_eq!(*assembly.metrics.names(), documented());
    }

    #[test]
    fn only_the_database_is_required() {
        let settings = settings(&[("OPENAI_API_KEY", "")]);
        assert_eq!(settings.http.public.to_string(), "127.0.0.1:54333");
        assert_eq!(settings.http.operators.to_string(), "127.0.0.1:54336");
        assert_eq!(settings.worker.concurrency, 8);
        assert!(settings.log.json);
    }

    #[test]
    fn all_problems_come_at_once_and_each_names_its_variable() {
        let given = [
            ("KIJKO_SIDECAR_BIND", "here"),
            ("KIJKO_SIDECAR_OPERATORS_BIND", "there"),
            ("KIJKO_LEASE_SECONDS", "1"),
            ("KIJKO_LLM_ECHO", "perhaps"),
            ("OPENAI_BASE_URL", "https://user:pw@llm.example"),
            ("SMTP_URL", "smtp://user:pw@mail.example/hidden"),
            ("STRIPE_WEBHOOK_SECRET", "sk_live_hidden"),
            ("KIJKO_LOG", "kijko_sidecar=loudly"),
        ];
        let lookup = |name: &str| {
            let found = given.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let error = settings_from(&lookup).err().unwrap();
        let found: BTreeSet<_> = error
            .problems
            .iter()
            .filter_map(|problem| problem.split(' ').next())
            .collect();
        let names = given.iter().map(|(name, _)| *name).chain(["DATABASE_URL"]);
        assert_eq!(found, names.collect());
        let text = error.to_string();
        assert!(!text.contains("hidden") && !text.contains("pw@"), "{text}");
    }
}
