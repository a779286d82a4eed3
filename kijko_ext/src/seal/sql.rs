//! The SQL functions of sealed text (seal.sql). Their refusals name no secret and no part of the file of keys.

use std::cell::RefCell;
use std::rc::Rc;

use aws_lc_rs::aead::NONCE_LEN;
use pgrx::prelude::*;
use zeroize::Zeroizing;

use super::envelope::{self, MAX_CONTEXT, MAX_PLAINTEXT};
use super::keys::Keys;
use crate::guc;
use crate::key_file::Cache;
use crate::pg::datum::text_datum;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};

sql_function!(kijko_seal, pg_finfo_kijko_seal, seal);
sql_function!(kijko_unseal, pg_finfo_kijko_unseal, unseal);
sql_function!(kijko_reseal, pg_finfo_kijko_reseal, reseal);
sql_function!(kijko_can_unseal, pg_finfo_kijko_can_unseal, can_unseal);
sql_function!(
    kijko_seal_key_ids,
    pg_finfo_kijko_seal_key_ids,
    seal_key_ids
);

/// The id of the key that a sealed text names, or null.
#[pg_extern(immutable, parallel_safe)]
fn seal_key_id(sealed: &str) -> Option<&str> {
    envelope::key_id(sealed)
}

fn seal(arguments: Arguments) -> Answer {
    let Some(plaintext) = arguments.text(0) else {
        return Err(bad("the plaintext must not be null"));
    };
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(bad("the plaintext is longer than 65536 bytes"));
    }
    let context = context(arguments)?;
    let keys = keys()?;
    Ok(text_datum(&seal_by_first(&keys, plaintext, context)?))
}

fn unseal(arguments: Arguments) -> Answer {
    let (sealed, context) = (sealed(arguments)?, context(arguments)?);
    let keys = keys()?;
    let plaintext =
        envelope::unseal(&keys, sealed, context.as_bytes()).ok_or_else(cannot_unseal)?;
    Ok(text_datum(&plaintext))
}

/// For the extension itself. None as for `unseal`, and while the file of keys cannot be used.
pub fn open(sealed: &str, context: &str) -> Option<Zeroizing<String>> {
    envelope::unseal(&*keys().ok()?, sealed, context.as_bytes())
}

fn reseal(arguments: Arguments) -> Answer {
    let (sealed, context) = (sealed(arguments)?, context(arguments)?);
    let keys = keys()?;
    let plaintext =
        envelope::unseal(&keys, sealed, context.as_bytes()).ok_or_else(cannot_unseal)?;
    if envelope::key_id(sealed) == Some(&keys.first().id) {
        return Ok(text_datum(sealed));
    }
    Ok(text_datum(&seal_by_first(&keys, &plaintext, context)?))
}

/// False for null, so that it can guard.
fn can_unseal(arguments: Arguments) -> Answer {
    let keys = keys()?;
    let can = match (arguments.text(0), arguments.text(1)) {
        (Some(sealed), Some(context)) => {
            envelope::unseal(&keys, sealed, context.as_bytes()).is_some()
        }
        _ => false,
    };
    Ok(can.into())
}

fn seal_key_ids(_: Arguments) -> Answer {
    let ids = keys()?.ids();
    ids.into_datum()
        .ok_or_else(|| Refusal::new("internal", "the ids of the keys are not an array", None))
}

fn sealed(arguments: Arguments<'_>) -> Result<&str, Refusal> {
    arguments
        .text(0)
        .ok_or_else(|| bad("the sealed text must not be null"))
}

fn context(arguments: Arguments<'_>) -> Result<&str, Refusal> {
    match arguments.text(1) {
        Some(context) if (1..=MAX_CONTEXT).contains(&context.len()) => Ok(context),
        _ => Err(bad("the context must have 1 to 1024 bytes")),
    }
}

fn seal_by_first(keys: &Keys, plaintext: &str, context: &str) -> Result<String, Refusal> {
    let mut nonce = [0; NONCE_LEN];
    let random = aws_lc_rs::rand::fill(&mut nonce).is_ok();
    random
        .then(|| {
            envelope::seal(
                keys.first(),
                nonce,
                plaintext.as_bytes(),
                context.as_bytes(),
            )
        })
        .flatten()
        .ok_or_else(|| Refusal::new("unavailable", "the server could not encrypt", None))
}

fn bad(details: &str) -> Refusal {
    Refusal::new("bad_request", details, None)
}

/// One for every cause: it must not help to guess contexts or to forge a text.
fn cannot_unseal() -> Refusal {
    Refusal::new(
        "cannot_unseal",
        "the text was not sealed in this context by a key of kijko.seal_key_file",
        None,
    )
}

/// The keys of the configured file, read again when the file has changed.
fn keys() -> Result<Rc<Keys>, Refusal> {
    thread_local! {
        static CACHE: RefCell<Cache<Keys>> = const { RefCell::new(Cache::new()) };
    }
    let unavailable = |details: &str, hint| Refusal::new("unavailable", details, Some(hint));
    let path = guc::seal_key_file().ok_or_else(|| {
        unavailable(
            "kijko.seal_key_file is not set",
            "Set it to a file of keys and reload the configuration.",
        )
    })?;
    CACHE
        .with_borrow_mut(|cache| cache.get(&path, Keys::read))
        .map_err(|error| {
            unavailable(
                &format!("the file of kijko.seal_key_file cannot be used: {error}"),
                "Put the file back or mend it: it is read again at the next call.",
            )
        })
}
