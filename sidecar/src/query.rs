//! The parameters of an address.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};

/// The parameters, as they were sent.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn read(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// None: it was not sent, or is empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The error is for the caller.
    pub(crate) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, String> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.parse().ok();
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("{name}: {least} to {most}")),
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::read(parts.uri.query()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_an_address_are_bounded() {
        let query = Query::read(Some("page=0&limit=5&name=a%2Fb&label="));
        assert!(query.number("page", 1, 1_000).is_err());
        assert_eq!(query.number("limit", 1, 100).unwrap(), Some(5));
        assert_eq!(query.number("version", 1, 9).unwrap(), None);
        assert_eq!(
            (query.text("name"), query.text("label")),
            (Some("a/b"), None)
        );
    }
}
