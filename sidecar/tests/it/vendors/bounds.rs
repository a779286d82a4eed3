//! An answer is bounded in bytes, whatever it forms.

use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::{
    fakes::{ALL, Step},
    support::eventually,
};

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused() {
    for vendor in ALL {
        let long = begins(vendor).replace("Hel", &"x".repeat(6_000));
        let fake = Fake::new(vec![
            Step::Send(format!("{STREAM}{long}{long}{long}").into_bytes()),
            Step::Wait(Duration::from_secs(60)),
        ])
        .await;
        let (result, _) = ask(vendor, &fake).await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.code(), error.retryable()),
            ("vendor_too_large", false),
            "{vendor:?}"
        );
    }
}

/// More than all the buffers between the vendor and us together hold; a body that is read on and on passes it at once.
const BUFFERS: usize = 32 << 20;

#[tokio::test]
async fn a_body_without_an_end_is_refused_whatever_it_forms() {
    let error = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    for (what, head, part) in [
        ("no line", STREAM, "x"),
        ("one line", STREAM, "data: x"),
        ("lines without an event", STREAM, "data: x\n"),
        ("comments", STREAM, ": wait\n\n"),
        ("empty lines", STREAM, "\n"),
        ("an error page", error, "x"),
    ] {
        for vendor in ALL {
            let fake = Fake::new(vec![
                Step::Send(head.as_bytes().to_vec()),
                Step::Forever(part.repeat(8_192).into_bytes()),
            ])
            .await;
            let (result, _) = ask(vendor, &fake).await;
            let error = result.unwrap_err();
            assert_eq!(
                (error.code(), error.retryable()),
                ("vendor_too_large", false),
                "{vendor:?} {what}"
            );
            eventually("the vendor is hung up on", || {
                *fake.hung_up.lock().unwrap() == 1
            })
            .await;
            let poured = *fake.poured.lock().unwrap();
            assert!(poured < BUFFERS, "{vendor:?} {what}: {poured} bytes");
        }
    }
}

#[tokio::test]
async fn a_compressed_answer_is_not_unpacked() {
    // A gzip file of a thousand times its length in zeros, sent without having been asked for.
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![0; 4 << 20]).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 10_000, "less than the bound");
    for vendor in ALL {
        let head = STREAM.replacen("\r\n", "\r\ncontent-encoding: gzip\r\n", 1);
        let fake = Fake::new(vec![
            Step::Send(head.as_bytes().to_vec()),
            Step::Send(packed.clone()),
        ])
        .await;
        let (result, _) = ask(vendor, &fake).await;
        assert_eq!(result.unwrap_err().code(), "vendor_malformed", "{vendor:?}");
        assert!(!fake.request().0.to_lowercase().contains("accept-encoding"));
    }
}

#[tokio::test]
async fn an_answer_just_within_the_bound_is_whole() {
    for vendor in ALL {
        let fixed = begins(vendor).len() + ends(vendor).len();
        let text = "x".repeat(10_000 - fixed + "Hel".len());
        let whole = begins(vendor).replace("Hel", &text) + ends(vendor);
        assert_eq!(whole.len(), 10_000);
        let fake = Fake::answering(format!("{STREAM}{whole}")).await;
        assert_eq!(ask(vendor, &fake).await.0.unwrap().text, text + "lo!");
        let longer = whole.replacen("lo!", "lo!!", 1);
        let fake = Fake::answering(format!("{STREAM}{longer}")).await;
        let error = ask(vendor, &fake).await.0.unwrap_err();
        assert_eq!(error.code(), "vendor_too_large", "{vendor:?}");
    }
}
