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
    let sort = body.sort_by.unwrap_or_default();
    if let Some(column) = sort.column.filter(|column| column != "name") {
        return Err(invalid_column(&column));
    }
    let after = match body.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        None => String::new(),
        Some(cursor) => {
            let decoded = BASE64
                .decode(cursor)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            decoded.ok_or_else(|| {
                refusal(
                    "InvalidParameter",
                    400,
                    "InvalidParameter",
                    "the cursor is not one of this list",
                )
            })?
        }
    };
    let limit = body.limit.unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT) as usize;
    let arguments = json!({
        "bucket_id": bucket,
        "prefix": body.prefix,
        "delimited": body.with_delimiter,
        "after": after,
        "order": order(sort.order.as_deref()),
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
    Ok(Json(page(rows, has_next)))
}

fn page(rows: Vec<Value>, has_next: bool) -> Value {
    let last = rows
        .last()
        .and_then(|row| row["key"].as_str())
        .unwrap_or_default()
        .to_owned();
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
    let mut page = json!({ "hasNext": has_next, "folders": folders, "objects": objects });
    if has_next {
        page["nextCursor"] = BASE64.encode(&last).into();
        page["nextCursorKey"] = last.into();
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
