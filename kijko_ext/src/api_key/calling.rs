//! The API key that makes this request. It is a setting of the transaction, which has what such a state needs: the end of the
//! transaction and a rollback to a savepoint undo it, and parallel workers have it as well. Only this module can set it
//! (guc/api_keys.rs).

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::error;

use super::record::ApiKey;
use crate::guc::api_keys as setting;

thread_local! {
    static PARSED: RefCell<(Vec<u8>, Option<Rc<ApiKey>>)> = RefCell::default();
}

/// The calling key. None for any other caller, which costs a look at a variable.
pub fn current() -> Option<Rc<ApiKey>> {
    let text = setting::calling_key()?;
    PARSED.with_borrow_mut(|(known, key)| {
        if known != text {
            *key = ApiKey::from_text(text).map(Rc::new);
            text.clone_into(known);
        }
        // A malformed value must not pass as "no key".
        Some(
            key.clone()
                .unwrap_or_else(|| error!("kijko.calling_api_key is malformed")),
        )
    })
}

/// Makes a key the caller until the transaction ends. `text` is the key's.
pub fn set(key: &Rc<ApiKey>, text: &str) {
    setting::set_calling_key(text);
    PARSED.set((text.as_bytes().to_vec(), Some(key.clone())));
}

/// Makes the caller one without a key until the transaction ends.
pub fn clear() {
    setting::set_calling_key("");
}
