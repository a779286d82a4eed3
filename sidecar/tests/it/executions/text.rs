//! The text of a running execution can be read while the model writes.

use super::*;

/// Says one word, then another, each when it is told to, and then answers or breaks off.
struct Speaking(
    tokio::sync::Mutex<tokio::sync::mpsc::Receiver<&'static str>>,
    Result<Completion, LlmError>,
);

impl Provider for Speaking {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn complete(&self, request: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        Box::pin(async move {
            while let Some(word) = self.0.lock().await.recv().await {
                request.progress.push_text(word);
            }
            self.1.clone()
        })
    }
}

impl Bench {
    async fn text(&self, execution: Uuid) -> String {
        let sql = "select coalesce(string_agg(text, '' order by seq), '') from public.execution_text_chunks where execution_id = $1";
        self.tenant.value(sql, &[&execution]).await
    }

    async fn wait_for_text(&self, execution: Uuid, wanted: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.text(execution).await != wanted {
            assert!(Instant::now() < deadline, "{wanted:?} was not written");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What becomes of the execution and of its text.
    async fn spoken(&self, end: Result<Completion, LlmError>) -> (Value, String) {
        let (job, execution) = self.execution(fixed_skill(), json!({})).await;
        let (say, words) = tokio::sync::mpsc::channel(1);
        let vendor = Arc::new(Speaking(words.into(), end));
        let lease = lease(&job);
        let reading = async {
            say.send("Once ").await.unwrap();
            self.wait_for_text(execution, "Once ").await;
            say.send("upon").await.unwrap();
            self.wait_for_text(execution, "Once upon").await;
            drop(say);
        };
        tokio::join!(self.run_leased(&job, Some(vendor), &lease), reading);
        (self.read(execution).await, self.text(execution).await)
    }
}

#[tokio::test]
async fn a_text_grows_and_the_output_replaces_it() {
    let (execution, text) = Bench::new().await.spoken(answer("Once upon a time")).await;
    assert_eq!(
        execution["output"]["text"], "Once upon a time",
        "{execution}"
    );
    assert_eq!(text, "");
}

#[tokio::test]
async fn an_attempt_that_fails_takes_its_text_with_it() {
    let broken = LlmError::new(LlmFault::Truncated, "the answer broke off");
    let (execution, text) = Bench::new().await.spoken(Err(broken)).await;
    assert_eq!(execution["status"], "queued", "{execution}");
    assert_eq!(text, "");
}
