//! Spans of calls, as a collector reads them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, routing::post};
use kijko_core::telemetry::traces::{Exporting, Tracer, Traces, TracesConfig};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Proto},
    trace::v1::Span,
};
use prost::Message;
use serde_json::{Value, json};

use super::{
    ANTHROPIC, OPENAI, VENDORS, call, chat,
    fakes::Stack,
    question, send, streamed,
    vendor::{Vendor, broken, sse, status, whole},
};
use crate::service::SERVICE;

/// A collector, and what sends to it.
struct Collector {
    tracer: Tracer,
    exporting: Exporting,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn new(captures_content: bool) -> Self {
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let kept = spans.clone();
        let take = async move |body: Bytes| {
            let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
            for resource in request.resource_spans {
                for scope in resource.scope_spans {
                    kept.lock().unwrap().extend(scope.spans);
                }
            }
        };
        let routes = Router::new().route("/v1/traces", post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, routes).into_future());
        let (tracer, exporting) = exporting(&endpoint, captures_content);
        Self {
            tracer,
            exporting,
            spans,
        }
    }

    /// The only span, once all is flushed.
    async fn span(self, stack: &Stack) -> (Span, BTreeMap<String, Value>) {
        stack.settled().await;
        stack.gateway.tasks.close();
        stack.gateway.tasks.wait().await;
        self.exporting.finish(Duration::from_secs(20)).await;
        let mut spans = std::mem::take(&mut *self.spans.lock().unwrap());
        assert_eq!(spans.len(), 1, "{spans:?}");
        let span = spans.remove(0);
        assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        let attributes = read(&span.attributes);
        assert_eq!(
            attributes.len(),
            span.attributes.len(),
            "a name occurs once"
        );
        (span, attributes)
    }
}

fn exporting(endpoint: &str, captures_content: bool) -> (Tracer, Exporting) {
    let config = TracesConfig {
        ratio: 1.0,
        endpoint: endpoint.parse().unwrap(),
        headers: axum::http::HeaderMap::new(),
        timeout: Duration::from_secs(10),
        resource: BTreeMap::new(),
        captures_content,
    };
    let traces = Traces::new(SERVICE, Some(&config)).unwrap();
    (traces.tracer.clone(), traces.start().unwrap())
}

fn read(attributes: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |value: &AnyValue| match value.value.as_ref().expect("a value") {
        Proto::StringValue(text) => json!(text),
        Proto::IntValue(number) => json!(number),
        Proto::DoubleValue(number) => json!(number),
        Proto::BoolValue(flag) => json!(flag),
        Proto::ArrayValue(items) => items
            .values
            .iter()
            .map(|item| match &item.value {
                Some(Proto::StringValue(text)) => json!(text),
                other => panic!("{other:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    };
    let read = |it: &KeyValue| (it.key.clone(), value(it.value.as_ref().unwrap()));
    attributes.iter().map(read).collect()
}

fn shown(attributes: &BTreeMap<String, Value>, wanted: &Value) {
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(
            attributes.get(name),
            Some(value),
            "{name} in {attributes:#?}"
        );
    }
}

#[tokio::test]
async fn each_vendors_stream_has_a_span_by_the_conventions() {
    for (kind, wire, model) in VENDORS {
        let vendor = Vendor::new(vec![sse(wire)]).await;
        let collector = Collector::new(false).await;
        let stack =
            Stack::traced(&[(kind, &vendor.url)], json!({}), collector.tracer.clone()).await;
        let mut body = streamed();
        body["temperature"] = json!(0.5);
        body["stop"] = json!("END");
        chat(&stack, &body).await;
        let (span, attributes) = collector.span(&stack).await;
        assert_eq!(
            (span.name.as_str(), span.kind, span.status),
            ("chat the-model", 3, None)
        );
        let provider = if kind == "gemini" { "gcp.gemini" } else { kind };
        let opened = stack.store.opened.lock().unwrap().clone().unwrap();
        let port: i64 = vendor
            .url
            .split([':', '/'])
            .nth(4)
            .unwrap()
            .parse()
            .unwrap();
        shown(
            &attributes,
            &json!({
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": provider,
                "gen_ai.request.model": "the-model",
                "gen_ai.request.max_tokens": 100,
                "gen_ai.request.temperature": 0.5,
                "gen_ai.request.stop_sequences": ["END"],
                "gen_ai.request.stream": true,
                "gen_ai.output.type": "text",
                "gen_ai.response.model": model,
                "gen_ai.response.finish_reasons": ["stop"],
                // Cached ones are among them, also of Anthropic, whose own count is 7.
                "gen_ai.usage.input_tokens": 11,
                "gen_ai.usage.cache_read.input_tokens": 4,
                "gen_ai.usage.output_tokens": 5,
                "server.address": "localhost",
                "server.port": port,
                "kijko.llm.called_model": "m",
                "kijko.llm.attempts": 1,
                "kijko.llm.estimated": false,
                "kijko.llm.cost_microusd": 1_234,
                "kijko.llm.call.id": opened.call_id.to_string(),
                "kijko.org.id": opened.org_id.to_string(),
                "langfuse.observation.cost_details": "{\"total\":0.001234}",
            }),
        );
        assert!(
            attributes["gen_ai.response.time_to_first_chunk"]
                .as_f64()
                .unwrap()
                > 0.0
        );
        let details = attributes["langfuse.observation.usage_details"]
            .as_str()
            .unwrap();
        let details: BTreeMap<String, u64> = serde_json::from_str(details).unwrap();
        assert_eq!(
            details.values().sum::<u64>(),
            16,
            "kinds that do not overlap: {details:?}"
        );
        let all = format!("{attributes:?}{:?}", span.events);
        for secret in ["Hel", "Say hello", "sk-very-secret", "very-secret"] {
            assert!(!all.contains(secret), "{secret}: {all}");
        }
    }
}

#[tokio::test]
async fn a_call_joins_the_trace_of_its_caller_and_its_record_names_it() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (header, joins) in [
        (format!("00-{TRACE}-00f067aa0ba902b7-01"), true),
        ("nonsense".to_owned(), false),
    ] {
        let vendor = Vendor::new(vec![sse(OPENAI)]).await;
        let collector = Collector::new(false).await;
        let stack = Stack::traced(
            &[("openai", &vendor.url)],
            json!({}),
            collector.tracer.clone(),
        )
        .await;
        let head = super::post("/llm/v1/chat/completions").header("traceparent", header);
        send(&stack.app, head, &streamed()).await;
        let asked = stack.asked.lock().unwrap()[0]["trace_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let (span, _) = collector.span(&stack).await;
        let trace: String = span
            .trace_id
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(trace, asked);
        assert_eq!(trace == TRACE, joins);
        let parent: &[u8] = if joins {
            &0x00f0_67aa_0ba9_02b7_u64.to_be_bytes()
        } else {
            &[]
        };
        assert_eq!(span.parent_span_id, parent);
    }
}

#[tokio::test]
async fn a_fallback_is_one_span_with_its_attempts_as_events() {
    let busy =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let first = Vendor::new(vec![status(529, "", &busy)]).await;
    let second = Vendor::new(vec![sse(ANTHROPIC)]).await;
    let collector = Collector::new(false).await;
    let targets = [
        ("openai", first.url.as_str()),
        ("anthropic", second.url.as_str()),
    ];
    let stack = Stack::traced(&targets, json!({}), collector.tracer.clone()).await;
    chat(&stack, &question(json!({}))).await;
    let (span, attributes) = collector.span(&stack).await;
    shown(
        &attributes,
        &json!({"gen_ai.provider.name": "anthropic", "kijko.llm.attempts": 2, "gen_ai.request.stream": false}),
    );
    assert!(!attributes.contains_key("error.type") && span.status.is_none());
    let events: Vec<_> = span
        .events
        .iter()
        .map(|event| read(&event.attributes))
        .collect();
    assert_eq!(events.len(), 2);
    assert_eq!(
        (
            &events[0]["kijko.llm.provider"],
            &events[1]["kijko.llm.provider"]
        ),
        (&json!("openai"), &json!("anthropic"))
    );
    assert_ne!(events[0]["kijko.llm.outcome"], "answered");
    assert_eq!(events[1]["kijko.llm.outcome"], "answered");
}

#[tokio::test]
async fn failures_say_their_code_and_never_what_the_vendor_quotes() {
    let refusal = json!({"error": {"message": "your prompt 'Say hello' is bad", "type": "invalid_request_error"}});
    let cut = OPENAI.split("data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"index\":0,\"delta\":{},").next();
    for (script, code) in [
        (status(400, "", &refusal), "vendor_rejected"),
        (broken(cut.unwrap()), "vendor_truncated"),
    ] {
        let vendor = Vendor::new(vec![script]).await;
        let collector = Collector::new(false).await;
        let stack = Stack::traced(
            &[("openai", &vendor.url)],
            json!({}),
            collector.tracer.clone(),
        )
        .await;
        chat(&stack, &streamed()).await;
        let (span, attributes) = collector.span(&stack).await;
        assert_eq!(attributes["error.type"], code);
        let status = span.status.clone().unwrap();
        assert_eq!((status.code, status.message.as_str()), (2, code));
        assert!(!format!("{span:?}").contains("Say hello"));
    }
}

#[tokio::test]
async fn embeddings_and_images_have_operations_of_their_own() {
    let embedding = json!({"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 3}});
    let image = json!({"created": 1, "data": [{"b64_json": "AAAA"}]});
    for (path, body, answer, operation) in [
        (
            "/llm/v1/embeddings",
            json!({"model": "m", "input": "x", "encoding_format": "base64"}),
            embedding,
            "embeddings",
        ),
        (
            "/llm/v1/images/generations",
            json!({"model": "m", "prompt": "x"}),
            image,
            "generate_content",
        ),
    ] {
        let vendor = Vendor::new(vec![whole(&answer)]).await;
        let collector = Collector::new(false).await;
        let stack = Stack::traced(
            &[("openai", &vendor.url)],
            json!({}),
            collector.tracer.clone(),
        )
        .await;
        assert_eq!(call(&stack.app, path, &body).await.status, 200);
        let (span, attributes) = collector.span(&stack).await;
        assert_eq!(attributes["gen_ai.operation.name"], operation);
        assert_eq!(span.name, format!("{operation} the-model"));
    }
}

#[tokio::test]
async fn contents_are_sent_only_if_operator_and_organization_want_it() {
    for (operator, organization) in [(true, true), (true, false), (false, true)] {
        let vendor = Vendor::new(vec![sse(OPENAI)]).await;
        let collector = Collector::new(operator).await;
        let more = json!({"record_content": organization});
        let stack = Stack::traced(&[("openai", &vendor.url)], more, collector.tracer.clone()).await;
        chat(&stack, &streamed()).await;
        let (_, attributes) = collector.span(&stack).await;
        let content = |name: &str| {
            attributes
                .get(name)
                .map(|it| serde_json::from_str(it.as_str().unwrap()).unwrap())
        };
        let said = |role: &str, text: &str| json!({"role": role, "parts": [{"type": "text", "content": text}]});
        let both = operator && organization;
        assert_eq!(
            content("gen_ai.input.messages"),
            both.then(|| json!([said("user", "Say hello")]))
        );
        let mut answer = said("assistant", "Hello");
        answer["finish_reason"] = json!("stop");
        assert_eq!(
            content("gen_ai.output.messages"),
            both.then(|| json!([answer]))
        );
    }
}

/// Collectors that do not answer, refuse, or are not there.
#[tokio::test]
async fn a_hostile_collector_does_not_slow_calls() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}/v1/traces", silent.local_addr().unwrap());
    let vendor = Vendor::new(vec![whole(&json!({"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 3}}))]).await;
    let calls = async |tracer: Tracer| {
        let stack = Stack::traced(&[("openai", &vendor.url)], json!({}), tracer).await;
        let begin = Instant::now();
        for _ in 0..50 {
            let got = call(
                &stack.app,
                "/llm/v1/embeddings",
                &json!({"model": "m", "input": "x"}),
            )
            .await;
            assert_eq!(got.status, 200);
        }
        begin.elapsed()
    };
    calls(Tracer::off()).await;
    let without = calls(Tracer::off()).await;
    for endpoint in [silent_url.as_str(), "http://127.0.0.1:1/v1/traces"] {
        let (tracer, exporting) = exporting(endpoint, false);
        let with = calls(tracer).await;
        // A timeout of it is ten seconds, and a machine is sometimes busy.
        assert!(
            with < without * 3 + Duration::from_secs(2),
            "{with:?} {without:?}"
        );
        exporting.finish(Duration::from_millis(10)).await;
    }
}
