//! The sandbox as a real child process: what would hurt the worker must only hurt the job.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Instant,
};

use kijko_sidecar::sandbox::{DocumentRequest, Engine, PromptError, PromptRequest, Sandbox};
use serde_json::{Value, json};
use uuid::Uuid;

fn sandbox() -> Sandbox {
    Sandbox::new(PathBuf::from(env!("CARGO_BIN_EXE_kijko-sidecar")))
}

fn request(template: &str, input: Value, schema: Value) -> PromptRequest {
    PromptRequest {
        template: template.to_owned(),
        engine: Engine::default(),
        input,
        schema,
    }
}

async fn assert_still_renders(sandbox: &Sandbox) {
    let fine = request("fine", json!({}), json!({}));
    assert_eq!(sandbox.make_prompt(&fine).await, Ok("fine".to_owned()));
}

#[tokio::test]
async fn it_checks_and_renders() {
    let sandbox = sandbox();
    let schema = json!({"type": "object", "required": ["topic"]});
    let good = request(
        "On {{ topic }}:\n\"{{ input.topic }}\"",
        json!({"topic": "Zoë\n"}),
        schema.clone(),
    );
    assert_eq!(
        sandbox.make_prompt(&good).await,
        Ok("On Zoë\n:\n\"Zoë\n\"".to_owned())
    );
    let bad = request("x", json!({}), schema);
    assert_eq!(
        sandbox.make_prompt(&bad).await.unwrap_err().code(),
        "invalid_input"
    );
}

#[tokio::test]
async fn hostile_documents_fail_alone() {
    let sandbox = sandbox();
    let document = |text: &str| {
        let mut request = DocumentRequest::new(text.as_bytes(), "https://a.example/", None);
        request.most = 50;
        request
    };
    let deep = "<item><title>".repeat(300_000);
    let wide = format!(
        "<rss version=\"2.0\"><channel>{}</channel></rss>",
        "<item><title>x</title><link>https://a.example/</link></item>".repeat(60_000)
    );
    let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaaaaaaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;\">]><rss><channel><title>&b;</title></channel></rss>";
    for text in [
        format!("<rss version=\"2.0\"><channel>{deep}"),
        wide,
        bomb.to_owned(),
        "[".repeat(4 << 20),
        "{".repeat(4 << 20),
    ] {
        let start = Instant::now();
        if let Ok(feed) = sandbox.read_feed(&document(&text)).await {
            assert!(feed.items.len() <= 50);
        }
        assert!(start.elapsed().as_secs() < 30, "{}", &text[..40]);
        assert_still_renders(&sandbox).await;
    }
    let nested = format!("<html><body>{}", "<div>".repeat(400_000));
    let crossed = format!(
        "<html><body>{}",
        "<table><tr><td><a><b><i><p>".repeat(60_000)
    );
    for text in [nested, crossed, "&#0;<!--".repeat(300_000)] {
        let start = Instant::now();
        let read = sandbox.read_page(&document(&text)).await;
        assert!(!matches!(read, Err(PromptError::Sandbox(_))), "{read:?}");
        assert!(start.elapsed().as_secs() < 30, "{}", &text[..40]);
        assert_still_renders(&sandbox).await;
    }
}

#[tokio::test]
async fn a_template_that_doubles_a_string_forty_times_fails_alone() {
    let sandbox = sandbox();
    let bomb = format!(
        "{{% set x = 'xxxxxxxx' %}}{}{{{{ x | length }}}}",
        "{% set x = x ~ x %}".repeat(40)
    );
    let start = Instant::now();
    let error = sandbox
        .make_prompt(&request(&bomb, json!({}), json!({})))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "template_error", "{error}");
    assert!(start.elapsed().as_secs() < 8);
    assert_still_renders(&sandbox).await;
}

#[tokio::test]
async fn a_schema_without_end_fails_alone() {
    let sandbox = sandbox();
    for schema in [
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
    ] {
        let result = sandbox
            .make_prompt(&request("fine", json!({"a": 1}), schema.clone()))
            .await;
        assert!(
            !matches!(result, Err(PromptError::Sandbox(_))),
            "{schema}: {result:?}"
        );
    }
    assert_still_renders(&sandbox).await;
}

#[tokio::test]
async fn deep_nesting_fails_alone() {
    let sandbox = sandbox();
    let template = format!("{{{{ {}1{} }}}}", "(".repeat(40_000), ")".repeat(40_000));
    let result = sandbox
        .make_prompt(&request(&template, json!({}), json!({})))
        .await;
    assert_eq!(result.unwrap_err().code(), "template_error");
}

#[tokio::test]
async fn a_child_sees_no_secret_of_ours() {
    // The test's own environment stands for the sidecar's. The child is found by a path that no other one is started with.
    assert!(std::env::vars_os().next().is_some());
    let name = format!("sandbox-{}", Uuid::new_v4().simple());
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kijko-sidecar"), &program).unwrap();
    let sandbox = Sandbox::new(program.clone());
    assert_still_renders(&sandbox).await;
    std::fs::remove_file(&program).unwrap();
    let child = process_of(&program).expect("the child waits for its next prompt");
    assert_eq!(std::fs::read(child.join("environ")).unwrap(), b"");
}

/// The folder under `/proc` of the process that was started by this path.
fn process_of(program: &Path) -> Option<PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|process| {
            let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).next() == Some(program.as_os_str().as_bytes())
        })
}

#[tokio::test]
async fn a_program_that_is_not_there_is_our_fault() {
    let sandbox = Sandbox::new(PathBuf::from("/nonexistent/kijko-sidecar"));
    let error = sandbox
        .make_prompt(&request("x", json!({}), json!({})))
        .await
        .unwrap_err();
    assert!(matches!(error, PromptError::Sandbox(_)), "{error}");
}

#[tokio::test]
async fn many_at_once() {
    let sandbox = sandbox();
    let requests: Vec<_> = (0..16)
        .map(|n| request("{{ n }}", json!({"n": n}), json!({})))
        .collect();
    let prompts =
        futures_util::future::join_all(requests.iter().map(|request| sandbox.make_prompt(request)))
            .await;
    let wanted: Vec<_> = (0..16).map(|n| Ok(n.to_string())).collect();
    assert_eq!(prompts, wanted);
}
