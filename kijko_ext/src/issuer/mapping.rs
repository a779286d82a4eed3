//! What an issuer's token means for its organization. Free of Postgres.

use serde_json::{Map, Value};

use crate::claims;

/// Roles that an issuer can give, from the lowest. Owners are made by owners.
pub const ROLES: [&str; 3] = ["viewer", "member", "admin"];
/// Values of a claim that are looked at.
const MAX_VALUES: usize = 1_000;

pub type Claims = Map<String, Value>;

/// An issuer with known keys, as an organization enrolled it.
#[derive(Debug)]
pub struct Issuer {
    pub id: [u8; 16],
    pub organization: [u8; 16],
    pub audiences: Vec<String>,
    pub jwks: Value,
    role_claims: Vec<String>,
    role_map: Claims,
    default_role: Option<String>,
    /// A claim, and the value that stands for the organization.
    org: Option<(String, String)>,
    email_domains: Option<Vec<String>>,
}

impl Issuer {
    /// From the row as JSON.
    pub fn parse(text: &str) -> Option<Self> {
        let Value::Object(mut row) = serde_json::from_str(text).ok()? else {
            return None;
        };
        let text = |name| Some(row.get(name)?.as_str()?.to_owned());
        let uuid = |name| claims::parse_uuid(row.get(name)?.as_str()?);
        Some(Self {
            id: uuid("id")?,
            organization: uuid("org_id")?,
            audiences: texts(row.get("audiences")?)?,
            role_claims: texts(row.get("role_claims")?)?,
            role_map: row.get("role_map")?.as_object()?.clone(),
            default_role: text("default_role"),
            org: text("org_claim").zip(text("org_value")),
            email_domains: row.get("email_domains").and_then(texts),
            jwks: row.remove("jwks")?,
        })
    }

    /// Whether the token is for this enrolment: by its audience, and by the claim that names the organization, if there is one.
    pub fn fits(&self, claims: &Claims) -> bool {
        let is_ours = |audience: &str| self.audiences.iter().any(|one| one == audience);
        let audience = values(claims.get("aud")).any(is_ours);
        let organization = self.org.as_ref().is_none_or(|(claim, value)| {
            let mut named = values(find(claims, claim));
            named.any(|one| one == value)
        });
        audience && organization
    }

    /// The highest role that the token's values stand for, or else the default. None: the token gives no access.
    pub fn role(&self, claims: &Claims) -> Option<&'static str> {
        let named = self
            .role_claims
            .iter()
            .flat_map(|claim| values(find(claims, claim)));
        let mapped = named.filter_map(|value| rank(self.role_map.get(value)?.as_str()?));
        let default = self.default_role.as_deref().and_then(rank);
        mapped.max().or(default).map(|rank| ROLES[rank])
    }

    /// Whether the address is of an allowed domain, where the organization has listed any. An issuer that says it has not
    /// verified the address says nothing about its domain.
    pub fn admits_address(&self, claims: &Claims) -> bool {
        let Some(domains) = &self.email_domains else {
            return true;
        };
        let is_verified = claims
            .get("email_verified")
            .is_none_or(|verified| verified == true);
        let address = claims.get("email").and_then(Value::as_str);
        let domain = address.and_then(|address| address.rsplit_once('@'));
        is_verified
            && domain.is_some_and(|(_, domain)| {
                domains.iter().any(|one| one.eq_ignore_ascii_case(domain))
            })
    }
}

fn rank(role: &str) -> Option<usize> {
    ROLES.iter().position(|known| *known == role)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let texts = value.as_array()?.iter();
    texts.map(|text| Some(text.as_str()?.to_owned())).collect()
}

/// A claim by its name, or else by a path of names with points between them: `realm_access.roles`.
pub fn find<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

/// The texts of a claim: of a list each, of a text itself.
fn values(claim: Option<&Value>) -> impl Iterator<Item = &str> {
    let (one, list) = match claim {
        Some(Value::String(text)) => (Some(text.as_str()), [].as_slice()),
        Some(Value::Array(list)) => (None, list.as_slice()),
        _ => (None, [].as_slice()),
    };
    let list = list.iter().take(MAX_VALUES).filter_map(Value::as_str);
    one.into_iter().chain(list)
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::*;

    fn issuer(changes: Value) -> Issuer {
        let mut row = json!({
            "id": "11111111-1111-4111-8111-111111111111", "org_id": "22222222-2222-4222-8222-222222222222",
            "audiences": ["kijko"], "role_claims": ["realm_access.roles", "groups", "https://example.com/roles"],
            "role_map": {"kijko-admin": "admin", "kijko-user": "member", "/readers": "viewer", "kijko-owner": "owner", "odd": 7},
            "default_role": null, "org_claim": null, "org_value": null, "email_domains": null, "jwks": {"keys": []},
        });
        for (name, value) in changes.as_object().unwrap() {
            row[name] = value.clone();
        }
        Issuer::parse(&row.to_string()).unwrap()
    }

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_highest_role_counts_and_never_owner() {
        let issuer = issuer(json!({}));
        for (token, role) in [
            (json!({}), None),
            (
                json!({"realm_access": {"roles": ["kijko-user", "else"]}}),
                Some("member"),
            ),
            (
                json!({"realm_access": {"roles": ["kijko-user"]}, "groups": ["/readers"]}),
                Some("member"),
            ),
            (
                json!({"groups": ["/readers", "kijko-admin"]}),
                Some("admin"),
            ),
            (json!({"groups": "kijko-admin"}), Some("admin")),
            (
                json!({"https://example.com/roles": ["kijko-user"]}),
                Some("member"),
            ),
            (
                json!({"realm_access.roles": ["kijko-user"]}),
                Some("member"),
            ),
            (json!({"groups": ["kijko-owner"]}), None),
            (json!({"groups": ["odd", "admin", "owner"]}), None),
            (json!({"groups": {"kijko-admin": true}}), None),
            (json!({"groups": [["kijko-admin"], 1, null]}), None),
            (json!({"realm_access": "roles", "role": "admin"}), None),
        ] {
            assert_eq!(issuer.role(&claims(token.clone())), role, "{token}");
        }
    }

    #[test]
    fn the_default_is_for_those_whom_nothing_maps() {
        let member = issuer(json!({"default_role": "member"}));
        assert_eq!(member.role(&claims(json!({}))), Some("member"));
        assert_eq!(
            member.role(&claims(json!({"groups": ["/readers"]}))),
            Some("viewer")
        );
        assert_eq!(
            issuer(json!({"default_role": "owner"})).role(&claims(json!({}))),
            None
        );
    }

    #[test]
    fn a_token_fits_by_audience_and_organization() {
        let plain = issuer(json!({}));
        assert!(plain.fits(&claims(json!({"aud": "kijko"}))));
        assert!(plain.fits(&claims(json!({"aud": ["account", "kijko"]}))));
        assert!(!plain.fits(&claims(json!({"aud": ["account"]}))));
        assert!(!plain.fits(&claims(json!({}))));
        let named = issuer(json!({"org_claim": "org_id", "org_value": "acme"}));
        assert!(named.fits(&claims(json!({"aud": "kijko", "org_id": "acme"}))));
        assert!(named.fits(&claims(
            json!({"aud": "kijko", "org_id": ["acme", "other"]})
        )));
        assert!(!named.fits(&claims(json!({"aud": "kijko", "org_id": "other"}))));
        assert!(!named.fits(&claims(json!({"aud": "kijko"}))));
    }

    #[test]
    fn addresses_are_of_the_listed_domains() {
        let any = issuer(json!({}));
        assert!(any.admits_address(&claims(json!({}))));
        let listed = issuer(json!({"email_domains": ["example.com"]}));
        for (token, admitted) in [
            (json!({"email": "a@example.com"}), true),
            (
                json!({"email": "a@EXAMPLE.com", "email_verified": true}),
                true,
            ),
            (
                json!({"email": "a@example.com", "email_verified": false}),
                false,
            ),
            (
                json!({"email": "a@example.com", "email_verified": "true"}),
                false,
            ),
            (json!({"email": "a@sub.example.com"}), false),
            (json!({"email": "a@example.com@evil.com"}), false),
            (json!({"email": "example.com"}), false),
            (json!({}), false),
        ] {
            assert_eq!(
                listed.admits_address(&claims(token.clone())),
                admitted,
                "{token}"
            );
        }
    }
}
