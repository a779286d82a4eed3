//! Removes data of the operator's account from a vendor's message. A refusal may quote the organization, the project, the account
//! or a part of a key; the tenant whose execution it ends must not learn them.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

/// Its replacement.
const HIDDEN: &str = "***";

/// Each pattern matches everything that may belong to the secret; an extra word is no loss. Vendors and proxies change the
/// case of names and keys, so case does not matter. The more specific ones come first.
static SECRETS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // user:password@ of an address
        r"\b([a-z][a-z0-9+.-]*://)[^\s/@]+@",
        // headers: Authorization: Bearer …, x-api-key: …, api_key=…, "key": "…"
        r#"\b((?:authorization|proxy-authorization)["']?\s*[:=]\s*["']?(?:bearer\s+|basic\s+)?)[^\s"',;]+"#,
        r"\b((?:bearer|basic)\s+)[a-z0-9._~+/=*-]{8,}",
        r#"\b((?:x-)?(?:goog-)?api[-_ ]?key(?:\s+provided)?["']?\s*[:=]\s*["']?)[^\s"',;]{4,}"#,
        r"([?&](?:key|api_key|apikey|access_token|token|sig|signature)=)[^\s&#]+",
        // signed tokens
        r"()\beyJ[a-z0-9_-]{8,}(?:\.[a-z0-9_-]*){0,2}",
        // keys by their vendor's prefix, also with their middle left out by the vendor (sk-proj-********abcd)
        r"()\b(?:sk|pk|rk)[-_][a-z0-9*_.…-]{4,}",
        r"()\bAIza[a-z0-9*_.…-]{4,}",
        r"()\bya29\.[a-z0-9*_.-]{4,}",
        r"()\b(?:gsk|xai|hf|r8|nvapi|fw|csk|tgp_v1|pplx|co|kjk|whsec|ghp|gho|ghs|github_pat|glpat)[-_][a-z0-9*_.-]{8,}",
        r"()\b(?:AKIA|ASIA)[a-z0-9]{12,}",
        // identities of organizations, projects, accounts, users, service accounts
        r#"\b((?:(?:consumer|gcp|google|cloud|aws|azure|billing)\s+)?(?:organi[sz]ation|project|account|workspace|tenant|subscription|consumer)(?:[ _-]?(?:id|number|name|uuid))?["']?\s*(?:[:=#]|is\b)?\s*["'`(]?)(?:\d{6,}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22})\b"#,
        r#"\b((?:projects?|organizations?|accounts?|folders?|billingAccounts?|subscriptions?|workspaces?|tenants?)/)[a-z0-9._:*-]+"#,
        r"()\b(?:org|proj|project|user|acct|account|svcacct|ws|wrkspc|workspace|team|key|apikey|ten|tenant)[-_][a-z0-9*]{6,}\b",
        // no count of tokens and no date has so many digits
        r"()\b\d{9,}\b",
        // addresses of people and service accounts
        r"()\b[a-z0-9._%+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+\b",
        // identities without a name
        r"()\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        // any other word that is long and random enough to be a key: the mixture of cases distinguishes it from other words
        r"(?-i)()\b[A-Za-z0-9_-]*(?:[0-9][A-Za-z_-]*[A-Z]|[A-Z][a-z0-9_-]*[0-9])[A-Za-z0-9_-]{28,}",
    ]
    .iter()
    .map(|pattern| {
        RegexBuilder::new(pattern)
            .case_insensitive(true)
            .build()
            .expect("the pattern is valid")
    })
    .collect()
});

/// The text without keys, tokens, credentials and identities.
pub(super) fn account(text: &str) -> String {
    let mut text = text.to_owned();
    for secret in SECRETS.iter() {
        if let std::borrow::Cow::Owned(redacted) = secret
            .replace_all(&text, |found: &regex::Captures<'_>| {
                format!("{}{HIDDEN}", &found[1])
            })
        {
            text = redacted;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_the_account_is_gone() {
        for (text, secret) in [
            (
                "Rate limit reached for gpt-4o in organization org-Ab12Cd34Ef56Gh78 on tokens",
                "Ab12Cd34",
            ),
            (
                "Project `proj_AbCdEf0123456789` does not have access to model gpt-4o",
                "AbCdEf01",
            ),
            (
                "Incorrect API key provided: sk-proj-abcd****************wxyz.",
                "wxyz",
            ),
            (
                "Incorrect API key provided: abcdef12. You can find it",
                "abcdef12",
            ),
            ("invalid x-api-key: sk-ant-api03-Zm9vYmFy_x-y", "Zm9vYmFy"),
            (
                "API key not valid: AIzaSyD-0123456789abcdefghijklmnopqrstu",
                "SyD-0123",
            ),
            (
                "Generative Language API has not been used in project 123456789012 before",
                "123456789012",
            ),
            (
                "Permission denied on resource project projects/my-secret-project-42",
                "my-secret",
            ),
            (
                "consumer 'project_number:998877665544' is suspended",
                "998877665544",
            ),
            (
                "Quota exceeded for consumer project_number: 998877665544",
                "998877665544",
            ),
            (
                "organization 5f3b0c1e-1111-4222-8333-444455556666 is disabled",
                "5f3b0c1e",
            ),
            ("Authorization: Bearer abc.def-ghi_123", "abc.def"),
            (r#"{"authorization":"Basic dXNlcjpwYXNz"}"#, "dXNlcjpwYXNz"),
            (
                "sent with bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln",
                "eyJzdWIi",
            ),
            (
                "upstream https://admin:hunter2@llm.internal/v1 said no",
                "hunter2",
            ),
            (
                "GET https://example.test/v1?key=AbC123&alt=sse failed",
                "AbC123",
            ),
            ("account acct_1A2b3C4d5E is past due", "1A2b3C4d5E"),
            ("billing account 0123456789 is closed", "0123456789"),
            ("user-AbCdEfGhIjKl exceeded", "AbCdEfGh"),
            (
                "service account robot@my-project.iam.gserviceaccount.com lacks access",
                "my-project",
            ),
            (
                "AWS account 123456789012 is not authorized, key AKIAIOSFODNN7EXAMPLE",
                "IOSFODNN7",
            ),
            ("gsk_abcdefgh12345678 is revoked", "abcdefgh1234"),
            (
                "token 9aF3kQ7LmN2xV8cB5zT1yW4eR6uI0oP3 is unknown",
                "kQ7LmN2x",
            ),
        ] {
            let redacted = account(text);
            assert!(
                !redacted.contains(secret) && redacted.contains(HIDDEN),
                "{redacted}"
            );
        }
        let aws = account("AWS account 123456789012 is not authorized");
        assert!(!aws.contains("123456789012"), "{aws}");
    }

    #[test]
    fn the_case_of_names_and_keys_does_not_matter() {
        for (text, secret) in [
            ("in organization Org-Ab12Cd34Ef56Gh78 on tokens", "Ab12Cd34"),
            ("in ORG-AB12CD34EF56GH78", "AB12CD34"),
            ("Project `PROJ_AbCdEf0123456789` has no access", "AbCdEf01"),
            ("key SK-PROJ-ABCD************WXYZ", "WXYZ"),
            ("key Sk-Ant-Api03-Zm9vYmFy", "Zm9vYmFy"),
            ("key aizasyd-0123456789abcdefghijk", "syd-0123"),
            ("key akiaiosfodnn7example", "iosfodnn7"),
            ("GSK_ABCDEFGH12345678 is revoked", "ABCDEFGH1234"),
            ("YA29.A0ARRDAM-X", "A0ARRDAM"),
            ("KJK_LIVE_ABCDEFGHIJKL", "LIVE_ABCD"),
            ("sent with EYJHBGCIOIJIUZI1.EYJZDWIIOIJ4", "HBGCIOIJ"),
            ("ACCT_1A2B3C4D5E is past due", "1A2B3C4D5E"),
        ] {
            let redacted = account(text);
            assert!(
                !redacted.contains(secret) && redacted.contains(HIDDEN),
                "{redacted}"
            );
        }
    }

    #[test]
    fn what_helps_the_author_stays() {
        for text in [
            "temperature: must be at most 2",
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 140000 tokens.",
            "prompt is too long: 210000 tokens > 200000 maximum",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048575).",
            "Invalid schema for response_format 'answer': In context=('properties', 'name'), 'additionalProperties' is required",
            "models/gemini-2.5-flash-preview-05-20 is not found for API version v1beta",
            "claude-sonnet-4-5-20250929 does not support thinking.budget_tokens below 1024",
        ] {
            assert_eq!(account(text), text);
        }
    }
}
