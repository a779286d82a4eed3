//! Answers that come through, and answers that break.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kijko_sidecar::llm::{Progress, Provider, Vendor};
use serde_json::json;

use super::*;
use crate::{
    fakes::{ALL, Step, chunked, request},
    support::eventually,
};

#[tokio::test]
async fn a_streamed_answer() {
    for vendor in ALL {
        let (result, progress) = ask(vendor, &Fake::answering(answer(vendor)).await).await;
        let completion = result.unwrap();
        assert_eq!(completion.text, "Hello!", "{vendor:?}");
        assert_eq!(completion.finish_reason.as_deref(), Some("stop"));
        assert_eq!(completion.usage, whole(vendor), "{vendor:?}");
        let dated = [
            "gpt-4o-2024-08-06",
            "claude-sonnet-4-5-20250929",
            "gemini-2.5-flash-001",
        ];
        assert!(
            dated.contains(&completion.model.as_str()),
            "{}",
            completion.model
        );
        assert!(progress.state().first_token.is_some());
    }
}

#[tokio::test]
async fn an_answer_in_small_pieces_is_the_same() {
    for vendor in ALL {
        let mut steps = vec![Step::Send(STREAM.into())];
        let body = format!("{}{}", begins(vendor), ends(vendor)).replace("lo!", "l\u{f6}!");
        // Characters are cut in two as well.
        for piece in body.as_bytes().chunks(3) {
            steps.push(Step::Send(piece.to_vec()));
            steps.push(Step::Wait(Duration::from_micros(100)));
        }
        let (result, _) = ask(vendor, &Fake::new(steps).await).await;
        assert_eq!(result.unwrap().text, "Hell\u{f6}!", "{vendor:?}");
    }
}

#[tokio::test]
async fn an_incomplete_or_empty_answer_is_no_success() {
    let (openai, anthropic, gemini) = (Vendor::OpenAi, Vendor::Anthropic, Vendor::Gemini);
    for (vendor, word, reason, code) in [
        (
            anthropic,
            r#""end_turn""#,
            r#""pause_turn""#,
            "model_stopped",
        ),
        (anthropic, r#""end_turn""#, r#""tool_use""#, "model_stopped"),
        (gemini, r#""STOP""#, r#""OTHER""#, "model_stopped"),
        (gemini, r#""STOP""#, r#""LANGUAGE""#, "model_stopped"),
        (
            gemini,
            r#""STOP""#,
            r#""MALFORMED_FUNCTION_CALL""#,
            "model_stopped",
        ),
        (
            gemini,
            r#""STOP""#,
            r#""FINISH_REASON_UNSPECIFIED""#,
            "model_stopped",
        ),
        (openai, r#""stop""#, r#""tool_calls""#, "model_stopped"),
        (
            openai,
            r#""stop""#,
            r#""insufficient_system_resource""#,
            "model_stopped",
        ),
    ] {
        let (result, progress) = ask(
            vendor,
            &Fake::answering(answer(vendor).replace(word, reason)).await,
        )
        .await;
        let error = result.unwrap_err();
        assert_eq!((error.code(), error.retryable()), (code, false), "{reason}");
        assert_eq!(progress.state().usage, whole(vendor), "{reason}");
    }
    for vendor in ALL {
        let silent = answer(vendor).replace("Hel", "").replace("lo!", " ");
        let error = failure(vendor, silent.clone()).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("output_empty", true),
            "{vendor:?}"
        );
        let cut = [r#""stop""#, r#""end_turn""#, r#""STOP""#]
            .iter()
            .zip([r#""length""#, r#""max_tokens""#, r#""MAX_TOKENS""#])
            .fold(silent, |text, (word, cut)| text.replace(*word, cut));
        let error = failure(vendor, cut).await;
        assert_eq!(
            (error.code(), error.retryable()),
            ("output_truncated", false),
            "{vendor:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_cut_at_the_token_limit_says_length() {
    for (vendor, word, cut) in [
        (Vendor::OpenAi, r#""stop""#, r#""length""#),
        (Vendor::Anthropic, r#""end_turn""#, r#""max_tokens""#),
        (Vendor::Gemini, r#""STOP""#, r#""MAX_TOKENS""#),
    ] {
        let (result, _) = ask(
            vendor,
            &Fake::answering(answer(vendor).replace(word, cut)).await,
        )
        .await;
        assert_eq!(
            result.unwrap().finish_reason.as_deref(),
            Some("length"),
            "{vendor:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_no_answer() {
    for vendor in ALL {
        let mut half = ends(vendor).to_owned();
        half.truncate(40);
        for broken in [
            format!("{STREAM}{}", begins(vendor)),
            format!("{STREAM}{}{half}", begins(vendor)),
            chunked(begins(vendor), false),
            chunked(begins(vendor), true),
        ] {
            let (result, progress) = ask(vendor, &Fake::answering(broken).await).await;
            let error = result.unwrap_err();
            assert_eq!(
                (error.code(), error.retryable()),
                ("vendor_truncated", true),
                "{vendor:?} {error}"
            );
            assert_eq!(
                progress.state().usage.input,
                if vendor == Vendor::OpenAi { 0 } else { 100 }
            );
        }
    }
}

#[tokio::test]
async fn an_answer_outside_the_protocol_is_malformed() {
    for vendor in ALL {
        let event = if vendor == Vendor::Anthropic {
            "event: content_block_delta\n"
        } else {
            ""
        };
        for body in [
            String::new(),
            "<html>hello</html>".to_owned(),
            r#"{"choices":[]}"#.to_owned(),
            format!("{}{event}data: {{\"a\": nonsense}}\n\n", begins(vendor)),
        ] {
            let error = failure(vendor, format!("{STREAM}{body}")).await;
            assert_eq!(
                (error.code(), error.retryable()),
                ("vendor_malformed", true),
                "{vendor:?} {body}"
            );
        }
    }
}

#[tokio::test]
async fn a_silent_vendor_times_out() {
    for vendor in ALL {
        let fake = Fake::new(vec![
            Step::Send(format!("{STREAM}{}", begins(vendor)).into_bytes()),
            Step::Wait(Duration::from_secs(60)),
        ])
        .await;
        let start = Instant::now();
        let (result, _) = ask(vendor, &fake).await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_timeout", true),
            "{vendor:?}"
        );
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "long before the limit of the whole call"
        );
    }
}

#[tokio::test]
async fn an_answer_that_only_drips_ends_at_the_total_timeout() {
    let mut steps = vec![Step::Send(STREAM.into())];
    for _ in 0..100 {
        steps.push(Step::Send(": keep-alive\n\n".into()));
        steps.push(Step::Wait(Duration::from_millis(100)));
    }
    let start = Instant::now();
    let (result, _) = ask(Vendor::OpenAi, &Fake::new(steps).await).await;
    assert_eq!(result.unwrap_err().code(), "vendor_timeout");
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_dropped_call_hangs_up_at_once() {
    for vendor in ALL {
        let fake = Fake::new(vec![
            Step::Send(format!("{STREAM}{}", begins(vendor)).into_bytes()),
            Step::Wait(Duration::from_secs(60)),
        ])
        .await;
        let (client, progress) = (Arc::new(fake.client(vendor)), Progress::default());
        let call = tokio::spawn({
            let (client, request) = (client.clone(), request(vendor, &json!({}), &progress));
            async move { client.complete(request).await }
        });
        eventually("the answer begins", || {
            progress.state().first_token.is_some()
        })
        .await;
        call.abort();
        eventually("the connection to the vendor is closed", || {
            *fake.hung_up.lock().unwrap() == 1
        })
        .await;
    }
}
