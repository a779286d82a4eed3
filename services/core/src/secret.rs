//! Values that must not reach a log, an error message or a response.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// A secret string. `Debug` prints `***`; there is no `Display`, so that it cannot be formatted by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value read from the environment.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, to be handed to the one party it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Replaces the secret in a text that came from outside: vendors like to quote the key back.
    pub fn redact(&self, text: &str) -> String {
        if self.0.is_empty() {
            text.to_owned()
        } else {
            text.replace(&self.0, "***")
        }
    }
}

/// From the answer of the party that gives it.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("sk-very-secret");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
    }

    #[test]
    fn redacts_itself_from_foreign_text() {
        assert_eq!(Secret::new("sk-1").redact("bad key sk-1!"), "bad key ***!");
        assert_eq!(Secret::new("").redact("as it was"), "as it was");
    }
}
