//! Who sends a request.

use std::{sync::Arc, time::Instant};

use axum::http::HeaderMap;

use super::refusal::Refusal;
use crate::{
    authorize::{Caller, Grants, visible_headers},
    hub::TopicKey,
    socket::Service,
};

/// Why a network is refused that has tried too often.
pub const ATTEMPTS: &str = "TooManySockets: too many attempts from this network; try again later";

/// By the API key, or else by the bearer token, `X-API-Key`, `apikey` or the query. A request has one identity: beside an API key
/// there may be the anon key's token, which says nothing of who calls.
pub async fn of_request(
    service: &Service,
    headers: &HeaderMap,
    from_query: Option<&str>,
) -> Result<Arc<Caller>, Refusal> {
    let Presented { token, api_key } = presented(headers, from_query)?;
    let visible = visible_headers(headers, None);
    let identify = |credential| service.authorizer.identify(credential, visible.clone());
    let caller = match token {
        Some(token) => Some(identify(token).await?),
        None => None,
    };
    match (caller, api_key) {
        (Some(caller), Some(_)) if &*caller.role != "anon" => Err(Refusal::TwoIdentities(
            "the request has a token and an API key",
        )),
        (_, Some(api_key)) => Ok(identify(api_key).await?),
        (Some(caller), None) => Ok(caller),
        (None, None) => Err(Refusal::Unauthorized(None)),
    }
}

/// Who sends messages. Only attempts with a wrong key are counted for their network: a server may send more messages a second than
/// anybody opens connections.
pub async fn of_sender(service: &Service, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
    if !service.may_attempt(headers) {
        service.series.refused("rate");
        return Err(Refusal::Full(ATTEMPTS));
    }
    let caller = of_request(service, headers, None).await;
    if let Err(Refusal::Unauthorized(Some(_))) = &caller {
        service.count_wrong(headers);
    }
    caller
}

#[derive(Debug, PartialEq)]
struct Presented<'a> {
    token: Option<&'a str>,
    api_key: Option<&'a str>,
}

fn presented<'a>(
    headers: &'a HeaderMap,
    from_query: Option<&'a str>,
) -> Result<Presented<'a>, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        let token = token.trim();
        // Keys of other kinds come beside the one that counts.
        let counts = !token.starts_with("sb_");
        (scheme.eq_ignore_ascii_case("bearer") && counts).then_some(token)
    });
    let all = [bearer, text("x-api-key"), text("apikey"), from_query];
    let all = all.into_iter().flatten().filter(|text| !text.is_empty());
    let (api_keys, tokens): (Vec<&str>, Vec<&str>) = all.partition(|text| text.starts_with("kjk_"));
    if api_keys.windows(2).any(|two| two[0] != two[1]) {
        return Err(Refusal::TwoIdentities("the request has two API keys"));
    }
    Ok(Presented {
        token: tokens.first().copied(),
        api_key: api_keys.first().copied(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &'static str)], query: Option<&'static str>) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        match presented(&map, query) {
            Ok(Presented { token, api_key }) => {
                format!("{} {}", token.unwrap_or("-"), api_key.unwrap_or("-"))
            }
            Err(Refusal::TwoIdentities(why)) => why.to_owned(),
            Err(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn a_request_presents_a_token_and_an_api_key_wherever_they_stand() {
        let bearer = ("authorization", "Bearer ey.a.b");
        for (headers, query, expected) in [
            (&[][..], None, "- -"),
            (&[("apikey", ""), ("x-api-key", "")], Some(""), "- -"),
            (&[bearer, ("apikey", "anon")], None, "ey.a.b -"),
            (&[("apikey", "anon")], None, "anon -"),
            (&[], Some("anon"), "anon -"),
            (&[("authorization", "Basic eDp5")], Some("anon"), "anon -"),
            (
                &[("authorization", "Bearer sb_x"), ("apikey", "anon")],
                None,
                "anon -",
            ),
            (&[("authorization", "bearer kjk_a")], None, "- kjk_a"),
            (
                &[("authorization", "Bearer kjk_a"), ("apikey", "kjk_a")],
                None,
                "- kjk_a",
            ),
            (
                &[("apikey", "anon"), ("x-api-key", "kjk_a")],
                None,
                "anon kjk_a",
            ),
            (&[bearer, ("x-api-key", "kjk_a")], None, "ey.a.b kjk_a"),
            (&[bearer, ("apikey", "kjk_a")], None, "ey.a.b kjk_a"),
            (&[bearer], Some("kjk_a"), "ey.a.b kjk_a"),
            (
                &[("apikey", "kjk_b"), ("x-api-key", "kjk_a")],
                None,
                "the request has two API keys",
            ),
        ] {
            assert_eq!(of(headers, query), expected, "{headers:?} {query:?}");
        }
    }
}
