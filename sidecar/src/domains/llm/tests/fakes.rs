//! The API, the store of calls, and the gateway between them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use futures_util::future::BoxFuture;
use kijko_core::{db::DbError, secret::Secret, telemetry::traces::Tracer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    api::Api,
    app::test,
    domains::llm::{
        config::GatewayConfig,
        gateway::Gateway,
        routes,
        store::{Calls, KeySet, Opened, Raised, Settled, SettledCalls, Spent},
    },
};

/// The store of calls.
#[derive(Default)]
pub(crate) struct Store {
    pub opened: Mutex<Option<Opened>>,
    pub raises: Mutex<Vec<(i32, Spent)>>,
    pub is_calling: Mutex<bool>,
    pub refuses_raise: Mutex<Option<&'static str>>,
    pub settled: Mutex<Vec<Value>>,
    /// So many settlements fail first.
    pub failures: Mutex<usize>,
    /// A settlement with content is refused for good.
    pub refuses_content: Mutex<bool>,
    /// Settlements of this one wait until they are let go.
    pub holds_settlements: Arc<tokio::sync::Mutex<()>>,
    pub batches: Mutex<Vec<usize>>,
    pub keys: Mutex<usize>,
}

impl Store {
    fn fails(&self) -> Result<(), DbError> {
        let mut failures = self.failures.lock().unwrap();
        if *failures == 0 {
            return Ok(());
        }
        *failures -= 1;
        Err(DbError::Unreachable("away".to_owned()))
    }
}

const SETTLED: Settled = Settled {
    cost_microusd: Some(1_234),
    estimated: false,
};

impl Calls for Store {
    fn is_calling(&self, _: Uuid) -> BoxFuture<'_, Result<bool, DbError>> {
        Box::pin(async { Ok(*self.is_calling.lock().unwrap()) })
    }

    fn pass(&self) -> BoxFuture<'_, Result<Secret, DbError>> {
        Box::pin(async { Ok(Secret::new("the-pass")) })
    }

    fn key(&self, _: Uuid) -> BoxFuture<'_, Result<Option<KeySet>, DbError>> {
        *self.keys.lock().unwrap() += 1;
        let (key, key_set_at) = (Some(Secret::new("sk-very-secret-0")), Some(7));
        Box::pin(async move { Ok(Some(KeySet { key, key_set_at })) })
    }

    fn open(&self, ticket: String) -> BoxFuture<'_, Result<Option<Opened>, DbError>> {
        let opened = self.opened.lock().unwrap().clone();
        Box::pin(async move { Ok(opened.filter(|_| ticket == "good")) })
    }

    fn raise(
        &self,
        _: Uuid,
        target: i32,
        spent: Spent,
    ) -> BoxFuture<'_, Result<Option<Raised>, DbError>> {
        self.raises.lock().unwrap().push((target, spent));
        let refused = self.refuses_raise.lock().unwrap().map(str::to_owned);
        let message = refused.clone();
        Box::pin(async move { Ok(Some(Raised { refused, message })) })
    }

    fn settle(&self, _: Uuid, usage: Value) -> BoxFuture<'_, Result<Option<Settled>, DbError>> {
        Box::pin(async {
            self.fails()?;
            if *self.refuses_content.lock().unwrap() && usage.get("prompt").is_some() {
                return Err(DbError::Refused {
                    code: "22P02".to_owned(),
                    message: "no".to_owned(),
                    detail: None,
                    hint: None,
                    transient: false,
                });
            }
            self.batches.lock().unwrap().push(1);
            let _held = self.holds_settlements.lock().await;
            self.settled.lock().unwrap().push(usage);
            Ok(Some(SETTLED))
        })
    }

    fn settle_many(
        &self,
        calls: Vec<(Uuid, Value)>,
    ) -> BoxFuture<'_, Result<SettledCalls, DbError>> {
        Box::pin(async move {
            self.fails()?;
            self.batches.lock().unwrap().push(calls.len());
            let _held = self.holds_settlements.lock().await;
            let (ids, usages): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
            self.settled.lock().unwrap().extend(usages);
            Ok(ids.into_iter().map(|id| (id, Some(SETTLED))).collect())
        })
    }
}

/// Everything together.
pub(crate) struct Stack {
    pub app: Router,
    pub store: Arc<Store>,
    pub gateway: Arc<Gateway>,
    /// Arguments of `authorize_llm_call`.
    pub asked: Arc<Mutex<Vec<Value>>>,
    /// What it answers instead, once.
    pub answers: Arc<Mutex<Vec<(u16, Value)>>>,
}

impl Stack {
    /// With these targets: kind and address.
    pub(crate) async fn new(targets: &[(&str, &str)]) -> Self {
        Self::with(targets, json!({})).await
    }

    pub(crate) async fn with(targets: &[(&str, &str)], more: Value) -> Self {
        Self::traced(targets, more, Tracer::off()).await
    }

    pub(crate) async fn traced(targets: &[(&str, &str)], more: Value, tracer: Tracer) -> Self {
        let targets: Vec<_> = targets.iter().enumerate().map(|(index, (kind, url))| {
            json!({
                "index": index, "provider": kind, "kind": kind, "base_url": url, "key": format!("sk-very-secret-{index}"),
                "own_key": true, "model": "the-model", "max_output_tokens": 100, "max_concurrency": null, "provider_id": Uuid::new_v4(),
                "allowed_hosts": "localhost",
            })
        }).collect();
        let mut opened = json!({
            "call_id": Uuid::new_v4(), "org_id": Uuid::new_v4(), "input_tokens": 40, "targets": targets, "retries": 0,
            "time_budget_seconds": 20, "first_token_seconds": 10, "idle_seconds": 10,
        });
        let more = more.as_object().unwrap().clone();
        opened.as_object_mut().unwrap().extend(more);
        let store = Arc::new(Store::default());
        *store.opened.lock().unwrap() = Some(serde_json::from_value(opened).unwrap());
        let asked = Arc::<Mutex<Vec<Value>>>::default();
        let answers = Arc::<Mutex<Vec<(u16, Value)>>>::default();
        let url = fake_api(asked.clone(), answers.clone()).await;
        let api = Api::new(url.parse().unwrap()).unwrap();
        let gateway = Gateway::new(&config(), Some(api), store.clone(), tracer).unwrap();
        let gateway = Arc::new(gateway);
        let mut server = test::server(&test::context());
        server.limits = Arc::new(routes::limits());
        Self {
            app: kijko_core::http::public(&server, routes::routes(gateway.clone())),
            store,
            gateway,
            asked,
            answers,
        }
    }

    /// The settlement, which comes by itself.
    pub(crate) async fn settled(&self) -> Value {
        self.settlement(0).await
    }

    /// The n-th one.
    pub(crate) async fn settlement(&self, n: usize) -> Value {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(usage) = self.store.settled.lock().unwrap().get(n) {
                return usage.clone();
            }
            assert!(Instant::now() < end, "the call was not settled");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn stop(&self) -> CancellationToken {
        let stop = CancellationToken::new();
        let background = self.gateway.clone().stopping(Duration::from_millis(50));
        tokio::spawn(background(stop.clone()));
        stop
    }
}

fn config() -> GatewayConfig {
    let values = HashMap::from([("KIJKO_LLM_MAX_BODY_BYTES", "1048576")]);
    let lookup = |name: &str| values.get(name).map(|value| (*value).to_owned());
    let mut env = kijko_core::config::Reader::new(crate::service::SERVICE, &lookup);
    let config = GatewayConfig::read(&mut env);
    env.finish(Some(config)).unwrap()
}

/// An API that answers by the model's name.
async fn fake_api(asked: Arc<Mutex<Vec<Value>>>, answers: Arc<Mutex<Vec<(u16, Value)>>>) -> String {
    let authorize = async move |headers: HeaderMap, Json(body): Json<Value>| {
        let refuse = |status: u16, code: &str| {
            let body = json!({"code": code, "message": "refused", "details": "details"});
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("retry-after", "60")], Json(body)).into_response()
        };
        asked.lock().unwrap().push(body.clone());
        if let Some((status, mut answer)) = answers.lock().unwrap().pop() {
            let id = headers["x-kijko-call"].to_str().unwrap();
            assert_eq!(headers["x-kijko-gateway"], "the-pass");
            if answer.get("opened").is_some() {
                answer["opened"]["call_id"] = json!(id);
            }
            // Beside its body, a refusal names its limit in a header.
            let resource = answer.get("x-ratelimit-resource").and_then(Value::as_str);
            let resource = resource.map(str::to_owned);
            let status = StatusCode::from_u16(status).unwrap();
            let mut response = (status, Json(answer)).into_response();
            if let Some(resource) = resource {
                let resource = resource.parse().unwrap();
                response
                    .headers_mut()
                    .insert("x-ratelimit-resource", resource);
            }
            return response;
        }
        match body["model"].as_str().unwrap() {
            "poor" => refuse(429, "budget_exceeded"),
            "forbidden" => refuse(403, "model_not_allowed"),
            "missing" => refuse(404, "model_not_found"),
            "expired" => Json(json!({"ticket": "bad"})).into_response(),
            _ => Json(json!({"ticket": "good"})).into_response(),
        }
    };
    let models = async || {
        Json(json!([
            {"id": "fast", "owned_by": "route", "created_at": "1970-01-01T00:01:00+00:00"},
            {"id": "openai/gpt-4o", "owned_by": "openai", "created_at": "1970-01-01T00:00:07+00:00"},
        ]))
    };
    let identify = async |headers: HeaderMap| match headers.get("authorization") {
        Some(key) if key == "Bearer homeless" => Json(Value::Null).into_response(),
        Some(_) => Json(json!(Uuid::from_u128(7))).into_response(),
        None => (StatusCode::UNAUTHORIZED, Json(json!({"code": "42501"}))).into_response(),
    };
    let routes = Router::new()
        .route("/rpc/authorize_llm_call", post(authorize))
        .route("/rpc/org_id", post(identify))
        .route("/rpc/list_llm_models", post(models));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, routes).into_future());
    url
}
