//! Each vendor on the wire: the request, every kind of answer, and the usage that is known afterwards.

mod answers;
mod bounds;
mod errors;
mod refusals;
mod requests;
mod usage;

use kijko_sidecar::llm::{LlmError, Usage, Vendor};

use crate::fakes::{Fake, STREAM, ask, begins, ends};

fn answer(vendor: Vendor) -> String {
    format!("{STREAM}{}{}", begins(vendor), ends(vendor))
}

async fn failure(vendor: Vendor, answer: String) -> LlmError {
    let (result, _) = ask(vendor, &Fake::answering(answer).await).await;
    result.unwrap_err()
}

/// The usage that the vendor reports in `begins` and `ends`.
fn whole(vendor: Vendor) -> Usage {
    let usage = Usage {
        input: 100,
        output: 12,
        cache_read: 60,
        ..Usage::default()
    };
    match vendor {
        Vendor::Anthropic => Usage {
            cache_write: 30,
            cache_write_1h: 20,
            ..usage
        },
        _ => Usage {
            reasoning: 10,
            ..usage
        },
    }
}
