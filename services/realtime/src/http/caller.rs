//! Who sends a request.

use std::{sync::Arc, time::Instant};

use axum::http::HeaderMap;

use super::refusal::Refusal;
use crate::{
    authorize::{Caller, Grants, visible_headers},
    hub::TopicKey,
    socket::Service,
};

/// By the bearer token, else by `X-API-Key`, else by `apikey`.
pub async fn of_request(
    service: &Service,
    headers: &HeaderMap,
    from_query: Option<&str>,
) -> Result<Arc<Caller>, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        let token = token.trim();
        // Keys of other kinds come beside the one that counts.
        let counts = !token.starts_with("sb_");
        (scheme.eq_ignore_ascii_case("bearer") && counts).then_some(token)
    });
    let token = bearer
        .or_else(|| text("x-api-key"))
        .or_else(|| text("apikey"))
        .or(from_query)
        .filter(|token| !token.is_empty())
        .ok_or(Refusal::Unauthorized(None))?;
    let identified = service
        .authorizer
        .identify(token, visible_headers(headers))
        .await;
    Ok(identified?)
}

/// Counts a message against the caller's rate: of the user or key, or of the network.
pub fn count(service: &Service, caller: &Caller) -> Result<(), Refusal> {
    if caller.passes_policies() || service.rates.take(&caller.counted_as(), Instant::now()) {
        return Ok(());
    }
    service.series.refused("rate");
    Err(Refusal::TooMany)
}

/// What the caller may do on a channel.
pub async fn grants(service: &Service, caller: &Caller, key: &TopicKey) -> Result<Grants, Refusal> {
    match key.private {
        true => Ok(service.authorizer.authorize(caller, &key.name).await?),
        false => Ok(Grants::ALL),
    }
}
