//! Refusals in upstream's shapes: HTTP 400 with the status inside, and a code that programs act on.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kijko_core::{db::DbError, http::Accepted, telemetry::canonical};
use serde_json::{Value, json};

/// Why a request is refused.
#[derive(Debug, Clone)]
pub struct StorageError {
    /// The status of the answer. 400 for nearly everything, as upstream.
    pub http: StatusCode,
    /// The status in the body.
    pub status: u16,
    /// What programs act on.
    pub code: Cow<'static, str>,
    /// Upstream's older name of it.
    pub error: Cow<'static, str>,
    /// For a person.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Headers of limits.
    pub headers: Box<[(String, String)]>,
    /// Whether the database has counted this request against its caller.
    pub admitted: bool,
}

/// A refusal with a code, a status and a message.
pub fn refusal(
    code: &'static str,
    status: u16,
    error: &'static str,
    message: impl Into<String>,
) -> StorageError {
    StorageError {
        http: StatusCode::BAD_REQUEST,
        status,
        code: code.into(),
        error: error.into(),
        message: message.into(),
        hint: None,
        headers: Box::default(),
        admitted: false,
    }
}

/// No such bucket.
pub fn no_such_bucket() -> StorageError {
    refusal("NoSuchBucket", 404, "Bucket not found", "Bucket not found")
}

/// No such object, or none that the caller may see.
pub fn no_such_key() -> StorageError {
    refusal("NoSuchKey", 404, "not_found", "Object not found")
}

/// There is one already.
pub fn already_exists() -> StorageError {
    refusal(
        "ResourceAlreadyExists",
        409,
        "Duplicate",
        "The resource already exists",
    )
}

/// The caller may not.
pub fn access_denied(message: impl Into<String>) -> StorageError {
    refusal("AccessDenied", 403, "Unauthorized", message)
}

/// A path that no object may have.
pub fn invalid_key(name: &str) -> StorageError {
    refusal(
        "InvalidKey",
        400,
        "InvalidKey",
        format!("Invalid key: {name}"),
    )
}

/// A name that no bucket may have.
pub fn invalid_bucket(_: &str) -> StorageError {
    refusal(
        "InvalidBucketName",
        400,
        "Invalid Input",
        "Bucket name invalid",
    )
}

/// A body or parameter that makes no sense.
pub fn invalid_request(message: impl Into<String>) -> StorageError {
    refusal("InvalidRequest", 400, "InvalidRequest", message)
}

/// Too many bytes.
pub fn too_large() -> StorageError {
    refusal(
        "EntityTooLarge",
        413,
        "Payload too large",
        "The object exceeded the maximum allowed size",
    )
}

/// A type that the bucket does not take.
pub fn invalid_mime_type(kind: &str) -> StorageError {
    refusal(
        "InvalidMimeType",
        415,
        "invalid_mime_type",
        format!("mime type {kind} is not supported"),
    )
}

/// A signed URL that was changed, or whose token is another one's.
pub fn invalid_signature() -> StorageError {
    refusal(
        "InvalidSignature",
        400,
        "InvalidSignature",
        "Invalid signature",
    )
}

/// Something that upstream serves and this service does not.
pub fn not_served(what: &str) -> StorageError {
    refusal(
        "FeatureNotEnabled",
        404,
        "FeatureNotEnabled",
        format!("{what} is not served here"),
    )
}

/// Our own fault: the log has the cause.
pub fn internal(cause: impl std::fmt::Display) -> StorageError {
    let cause = cause.to_string();
    tracing::error!(cause, "a request failed");
    canonical::add("cause", cause);
    StorageError {
        http: StatusCode::INTERNAL_SERVER_ERROR,
        ..refusal(
            "InternalError",
            500,
            "Internal Server Error",
            "Internal Server Error",
        )
    }
}

impl StorageError {
    /// With what to do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Of a request whose caller was admitted.
    pub fn after_admission(mut self) -> Self {
        self.admitted = true;
        self
    }

    /// What the database reports, see `storage_service.problem()`.
    pub fn from_problem(problem: &Value) -> Self {
        match problem["kind"].as_str() {
            Some("refused") => refused(&problem["body"], &problem["answer"]),
            _ => by_sqlstate(
                problem["state"].as_str().unwrap_or_default(),
                problem["message"].as_str().unwrap_or_default(),
            ),
        }
    }
}

/// A refusal of `kijko.fail()`.
fn refused(body: &Value, answer: &Value) -> StorageError {
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let status = answer["status"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok())
        .unwrap_or(400);
    let code = text("code").unwrap_or_default();
    let message = text("details")
        .or_else(|| text("message"))
        .unwrap_or_default();
    let headers = answer["headers"].as_object().into_iter().flatten();
    StorageError {
        http: match (&*code, status) {
            ("rate_limited", _) => StatusCode::TOO_MANY_REQUESTS,
            (_, 500..) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        },
        status: if code == "not_identified" {
            403
        } else {
            status
        },
        error: if code == "not_identified" {
            "Unauthorized".into()
        } else {
            code.clone().into()
        },
        code: if code == "not_identified" {
            "AccessDenied".into()
        } else {
            code.into()
        },
        message,
        hint: text("hint"),
        headers: headers
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        admitted: status != 401,
    }
}

fn by_sqlstate(state: &str, message: &str) -> StorageError {
    match state {
        "KJSTJ" => access_denied(message),
        "42501" => access_denied(message).after_admission(),
        "25006" => access_denied("the key only reads").after_admission(),
        "23505" => already_exists().after_admission(),
        "23503" => no_such_bucket().after_admission(),
        "55P03" => refusal(
            "ResourceLocked",
            423,
            "ResourceLocked",
            "The resource is locked",
        )
        .after_admission(),
        "22023" => refusal("InvalidParameter", 400, "InvalidParameter", message).after_admission(),
        "23514" => invalid_request("a value is outside its bounds").after_admission(),
        state if state.starts_with("22") => {
            invalid_request("a value is malformed").after_admission()
        }
        _ => internal(format_args!("{state} {message}")),
    }
}

impl From<DbError> for StorageError {
    fn from(error: DbError) -> Self {
        let timeout = matches!(&error, DbError::TimedOut(_))
            || matches!(&error, DbError::Refused { code, .. } if code == "57014");
        // What a client sent cannot be a parameter: a NUL, or a number that is too large.
        if error.is_about_the_data() {
            return invalid_request("a value cannot be stored");
        }
        if !error.is_transient() {
            return internal(error);
        }
        tracing::warn!(%error, "the database did not do it");
        let (http, code) = match timeout {
            true => (
                StatusCode::from_u16(544).expect("a status"),
                "DatabaseTimeout",
            ),
            false => (StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        };
        Self {
            http,
            ..refusal(code, http.as_u16(), code, "not available at the moment")
        }
    }
}

impl IntoResponse for StorageError {
    fn into_response(self) -> Response {
        canonical::add("error_code", &*self.code);
        let mut body = json!({
            "statusCode": self.status.to_string(),
            "error": self.error,
            "message": self.message,
            "code": self.code,
        });
        if let Some(hint) = self.hint {
            body["hint"] = hint.into();
        }
        let mut response = (self.http, Json(body)).into_response();
        let headers = self.headers.iter().filter_map(|(name, value)| {
            Some((
                name.parse::<HeaderName>().ok()?,
                value.parse::<HeaderValue>().ok()?,
            ))
        });
        response.headers_mut().extend(headers);
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.admitted {
            response.extensions_mut().insert(Accepted);
        }
        response
    }
}
