//! Spans of executions, as a collector reads them.

use std::{collections::BTreeMap, sync::Mutex};

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use kijko_core::telemetry::traces::{Exporting, Traces, TracesConfig};
use kijko_sidecar::service::SERVICE;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value as Proto,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;

use super::*;

type Spans = Arc<Mutex<Vec<Span>>>;

async fn collector() -> (Tracer, Exporting, Spans) {
    let spans = Spans::default();
    let kept = spans.clone();
    let take = async move |body: Bytes| {
        let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
        let scopes = request
            .resource_spans
            .into_iter()
            .flat_map(|it| it.scope_spans);
        kept.lock().unwrap().extend(scopes.flat_map(|it| it.spans));
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/", post(take));
    tokio::spawn(axum::serve(listener, routes).into_future());
    let config = TracesConfig {
        ratio: 1.0,
        endpoint: endpoint.parse().unwrap(),
        headers: HeaderMap::new(),
        timeout: Duration::from_secs(10),
        resource: BTreeMap::new(),
        captures_content: true,
    };
    let traces = Traces::new(SERVICE, Some(&config)).unwrap();
    (traces.tracer.clone(), traces.start().unwrap(), spans)
}

fn read(span: &Span) -> BTreeMap<String, Value> {
    let attributes = span.attributes.iter().map(|it| {
        let value = match it.value.as_ref().unwrap().value.as_ref().unwrap() {
            Proto::StringValue(text) => json!(text),
            Proto::IntValue(number) => json!(number),
            Proto::BoolValue(flag) => json!(flag),
            other => json!(format!("{other:?}")),
        };
        (it.key.clone(), value)
    });
    attributes.collect()
}

#[tokio::test]
async fn an_execution_has_a_span_and_its_call_another_in_its_trace() {
    let refusal = LlmError::new(LlmFault::Rejected, "the prompt says Say hello");
    for (vendor, code) in [
        (answer("done"), None),
        (Err(refusal), Some("vendor_rejected")),
    ] {
        let (tracer, exporting, spans) = collector().await;
        let bench = Bench {
            tracer,
            ..Bench::new().await
        };
        let (job, execution) = bench.execution(fixed_skill(), json!({})).await;
        bench.run(&job, Some(Fixed(vendor))).await;
        exporting.finish(Duration::from_secs(20)).await;
        let spans = std::mem::take(&mut *spans.lock().unwrap());
        let [whole, call] = spans.as_slice() else {
            panic!("{spans:?}")
        };
        assert_eq!(
            (whole.name.as_str(), call.name.as_str()),
            ("invoke_agent", "chat one")
        );
        assert_eq!(
            (whole.kind, call.kind),
            (SpanKind::Internal.into(), SpanKind::Client.into())
        );
        assert_eq!(whole.trace_id, execution.as_bytes());
        assert_eq!(
            (&call.trace_id, &call.parent_span_id),
            (&whole.trace_id, &whole.span_id)
        );
        assert!(
            whole.parent_span_id.is_empty()
                && whole.start_time_unix_nano <= call.start_time_unix_nano
        );
        let (whole, attributes) = (read(whole), read(call));
        assert_eq!(whole["kijko.execution.id"], execution.to_string());
        for (name, wanted) in [
            ("gen_ai.operation.name", json!("chat")),
            ("gen_ai.provider.name", json!("fixed")),
            ("gen_ai.request.model", json!("one")),
            ("gen_ai.usage.input_tokens", json!(1_000)),
            (
                "gen_ai.usage.output_tokens",
                json!(if code.is_some() { 10 } else { 500 }),
            ),
            ("kijko.llm.estimated", json!(false)),
            ("kijko.org.id", json!(bench.tenant.org_id.to_string())),
        ] {
            assert_eq!(attributes[name], wanted, "{name}");
        }
        for attributes in [&whole, &attributes] {
            assert_eq!(
                attributes.get("error.type"),
                code.map(|code| json!(code)).as_ref()
            );
        }
        assert!(!format!("{spans:?}").contains("Say hello"));
        let sql = "select jsonb_build_array(c.trace_id, c.status, c.error_code) from public.llm_calls as c where c.org_id = $1";
        let recorded: Value = bench.tenant.value(sql, &[&bench.tenant.org_id]).await;
        let status = if code.is_some() {
            "failed"
        } else {
            "succeeded"
        };
        assert_eq!(
            recorded,
            json!([execution.simple().to_string(), status, code])
        );
    }
}

#[tokio::test]
async fn an_execution_that_calls_nobody_has_a_span_alone() {
    let (tracer, exporting, spans) = collector().await;
    let bench = Bench {
        tracer,
        ..Bench::new().await
    };
    let broken = Skill {
        template: "{{ nothing.at.all }}",
        ..fixed_skill()
    };
    let (job, _) = bench.execution(broken, json!({})).await;
    bench.run(&job, Some(Fixed(answer("done")))).await;
    exporting.finish(Duration::from_secs(20)).await;
    let spans = spans.lock().unwrap();
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert!(read(&spans[0]).contains_key("error.type"));
}
