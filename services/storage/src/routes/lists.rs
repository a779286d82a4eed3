//! Lists of a bucket.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use crate::{
    caller::Caller,
    error::{StorageError, refusal},
    names::BucketName,
};

const MAX_LIMIT: i64 = 1_000;
const MAX_OFFSET: i64 = 1_000_000;
const COLUMNS: [&str; 4] = ["name", "updated_at", "created_at", "last_accessed_at"];
const COLUMNS_V2: [&str; 3] = ["name", "updated_at", "created_at"];
/// The end of the year 9999.
const MAX_MOMENT: i64 = 253_402_300_799_999;

#[derive(Deserialize, Default)]
#[serde(default)]
struct SortBy {
    column: Option<String>,
    order: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    prefix: String,
    limit: Option<i64>,
    offset: Option<i64>,
    search: Option<String>,
    #[serde(rename = "sortBy", default)]
    sort_by: Option<SortBy>,
}

pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    BucketName(bucket): BucketName,
    request: Request,
) -> Result<Json<Value>, StorageError> {
    let (_, incoming) = app.incoming(request);
    let body: Listed = incoming.json().await?;
    let sort = body.sort_by.unwrap_or_default();
    let column = sort.column.unwrap_or_else(|| "name".into());
    if !COLUMNS.contains(&&*column) {
        return Err(invalid_column(&column));
    }
    let folder = body.prefix.trim_matches('/');
    let prefix = if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    };
    let arguments = json!({
        "bucket_id": bucket,
        "prefix": prefix,
        "limit": body.limit.unwrap_or(100).clamp(0, MAX_LIMIT),
        "offset": body.offset.unwrap_or(0).clamp(0, MAX_OFFSET),
        "search": body.search.unwrap_or_default(),
        "column": column,
        "order": order(sort.order.as_deref()),
    });
    let mut answer = app
        .database()
        .call(&caller, "storage.object.list", "object_list", arguments)
        .await?;
    for row in answer.answer.as_array_mut().into_iter().flatten() {
        row.as_object_mut().map(|row| row.remove("place"));
    }
    Ok(Json(answer.answer))
}

#[derive(Deserialize)]
struct ListedV2 {
    #[serde(default)]
    prefix: String,
    limit: Option<i64>,
    cursor: Option<String>,
    #[serde(default)]
    with_delimiter: bool,
    #[serde(rename = "sortBy", default)]
    sort_by: Option<SortBy>,
}

pub async fn list_v2(
    State(app): State<Arc<App>>,
    caller: Caller,
    BucketName(bucket): BucketName,
    request: Request,
) -> Result<Json<Value>, StorageError> {
    let (_, incoming) = app.incoming(request);
    let body: ListedV2 = incoming.json().await?;
    let at = match body.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        None => Cursor::start(&body.sort_by.unwrap_or_default())?,
        Some(cursor) => Cursor::decode(cursor).ok_or_else(foreign_cursor)?,
    };
    let limit = body.limit.unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT) as usize;
    let arguments = json!({
        "bucket_id": bucket,
        "prefix": body.prefix,
        "delimited": body.with_delimiter,
        "after": at.key,
        "after_moment": at.moment,
        "column": at.column,
        "order": at.order,
        // One more tells whether there is more.
        "limit": limit + 1,
    });
    let answer = app
        .database()
        .call(
            &caller,
            "storage.object.list_v2",
            "object_list_v2",
            arguments,
        )
        .await?;
    let Value::Array(mut rows) = answer.answer else {
        return Err(crate::error::internal("a list is no list"));
    };
    let has_next = rows.len() > limit;
    rows.truncate(limit);
    let next = has_next.then(|| at.after(rows.last()));
    Ok(Json(page(rows, next)))
}

/// Where a page begins, and the order of its list. The cursor has both, as upstream's does.
#[derive(Debug, PartialEq, Eq)]
struct Cursor {
    /// The last key before the page; empty at the start.
    key: String,
    order: &'static str,
    column: &'static str,
    /// The time of that key in milliseconds since 1970, if the list has the order of times.
    moment: i64,
}

impl Cursor {
    fn start(sort: &SortBy) -> Result<Self, StorageError> {
        let wanted = sort.column.as_deref().unwrap_or(COLUMNS_V2[0]);
        Ok(Self {
            key: String::new(),
            order: order(sort.order.as_deref()),
            column: column_v2(wanted).ok_or_else(|| invalid_column(wanted))?,
            moment: 0,
        })
    }

    fn after(&self, row: Option<&Value>) -> Self {
        let of_row = |name: &str| row.map_or(&Value::Null, |row| &row[name]);
        Self {
            key: of_row("key").as_str().unwrap_or_default().to_owned(),
            moment: of_row("moment").as_i64().unwrap_or(0),
            ..*self
        }
    }

    /// The parts have upstream's letters. A key has no line break.
    fn encode(&self) -> String {
        let Self {
            key,
            order,
            column,
            moment,
        } = self;
        BASE64.encode(format!("l:{key}\no:{order}\nc:{column}\na:{moment}"))
    }

    fn decode(text: &str) -> Option<Self> {
        let decoded = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
        let mut parts = decoded.split('\n');
        let mut part = |letter| parts.next()?.strip_prefix(letter);
        let cursor = Self {
            key: part("l:")?.to_owned(),
            order: order(part("o:")),
            column: column_v2(part("c:")?)?,
            moment: part("a:")?.parse().ok()?,
        };
        let plausible = (0..=MAX_MOMENT).contains(&cursor.moment) && !cursor.key.contains('\0');
        (plausible && parts.next().is_none()).then_some(cursor)
    }
}

fn column_v2(wanted: &str) -> Option<&'static str> {
    COLUMNS_V2.into_iter().find(|column| *column == wanted)
}

fn foreign_cursor() -> StorageError {
    refusal(
        "InvalidParameter",
        400,
        "InvalidParameter",
        "the cursor is not one of this list",
    )
}

fn page(rows: Vec<Value>, next: Option<Cursor>) -> Value {
    let (mut folders, mut objects) = (Vec::new(), Vec::new());
    for row in rows {
        let key = &row["key"];
        match row["is_folder"] == true {
            true => folders.push(json!({ "name": key, "key": key })),
            false => objects.push(json!({
                "id": row["id"], "key": key, "name": key, "updated_at": row["updated_at"],
                "created_at": row["created_at"], "last_accessed_at": row["last_accessed_at"], "metadata": row["metadata"],
            })),
        }
    }
    let mut page = json!({ "hasNext": next.is_some(), "folders": folders, "objects": objects });
    if let Some(next) = next {
        page["nextCursor"] = next.encode().into();
        page["nextCursorKey"] = next.key.into();
    }
    page
}

fn order(given: Option<&str>) -> &'static str {
    match given {
        Some(order) if order.eq_ignore_ascii_case("desc") => "desc",
        _ => "asc",
    }
}

fn invalid_column(column: &str) -> StorageError {
    let column: String = column.chars().take(80).collect();
    refusal(
        "InvalidParameter",
        400,
        "InvalidParameter",
        format!("this list is not sorted by {column}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_keeps_the_place_and_the_order() {
        let cursor = Cursor {
            key: "a/b:c".into(),
            order: "desc",
            column: "created_at",
            moment: 1_764_388_605_123,
        };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
    }

    #[test]
    fn a_cursor_that_was_made_up_is_none() {
        for text in [
            "a",
            "l:a\no:asc\nc:owner\na:0",
            "l:a\no:asc\nc:name\na:x",
            "l:a\no:asc\nc:name\na:-1",
            "l:a\no:asc\nc:name\na:253402300800000",
            "l:\0\no:asc\nc:name\na:0",
            "l:a\no:asc\nc:name\na:0\nx",
        ] {
            assert_eq!(Cursor::decode(&BASE64.encode(text)), None, "{text:?}");
        }
        assert_eq!(Cursor::decode("%"), None);
    }
}
