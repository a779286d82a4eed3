//! What policies allow, and which bytes have a row. Each function here is one statement, and one transaction.

use std::time::Duration;

use kijko_core::db::Db;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio_postgres::types::{Json, ToSql};
use uuid::Uuid;

use crate::{
    caller::Caller,
    error::{StorageError, already_exists, internal, no_such_bucket, refusal},
    names::ObjectName,
};

/// A row of `storage.objects`.
#[derive(Debug, Clone, Deserialize)]
pub struct Object {
    /// Identity.
    pub id: Uuid,
    /// The bucket.
    pub bucket_id: String,
    /// The path.
    pub name: String,
    /// Where the bytes lie.
    pub version: Option<String>,
    /// What the service knows.
    pub metadata: Option<Value>,
    /// What the uploader wrote.
    pub user_metadata: Option<Value>,
    /// When it was made.
    pub created_at: Value,
    /// When it was changed.
    pub updated_at: Value,
    /// The same in seconds since 1970, of a row that was read.
    #[serde(default)]
    pub modified_at: u64,
}

impl Object {
    /// Where the bytes lie, for a row that the service has written.
    pub fn blob(&self) -> Option<Uuid> {
        self.version.as_deref()?.parse().ok()
    }

    /// A text of the metadata.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(name)?.as_str()
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.metadata
            .as_ref()
            .and_then(|all| all.get("size"))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }
}

/// An answer of `storage_service.call()`.
#[derive(Debug, Deserialize)]
pub struct Answer {
    /// The role of the token.
    pub role: Option<String>,
    /// What the operation returned.
    #[serde(default)]
    pub answer: Value,
    problem: Option<Value>,
}

/// Who writes.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Owner {
    /// The subject of the token, if it is a UUID.
    pub owner: Option<Uuid>,
    /// The subject of the token.
    pub owner_id: Option<String>,
    /// Whose uploads are counted together.
    pub started_by: Option<String>,
}

/// What was tried as a caller before an upload.
#[derive(Debug, Clone)]
pub struct Tried {
    /// The caller.
    pub caller: Caller,
    /// Upstream's name of it.
    pub operation: &'static str,
    /// The operation.
    pub action: &'static str,
    /// What it takes.
    pub arguments: Value,
}

/// An upload that begins.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Where the bytes will lie.
    pub version: Uuid,
    /// What they become.
    pub target: ObjectName,
    /// Whose.
    pub owner: Owner,
    /// Whether an object is replaced.
    pub upsert: bool,
    /// Which one may be: `{id, owner_id}`. None: any.
    pub may_replace: Option<Value>,
    /// What was tried as the caller. It is tried again if another object has come meanwhile. None: that object is not replaced.
    pub tried: Option<Tried>,
    /// What the uploader chose: the cache control.
    pub metadata: Value,
    /// What the uploader wrote.
    pub user_metadata: Option<Value>,
    /// How many bytes there will be, if it is known.
    pub bytes: Option<u64>,
}

/// What a bucket allows.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct BucketLimits {
    /// Bytes of an object.
    pub file_size_limit: Option<u64>,
    /// Types.
    pub allowed_mime_types: Option<Vec<String>>,
    refused: Option<String>,
    problem: Option<Value>,
}

/// The database, as the service uses it.
#[derive(Debug, Clone)]
pub struct Database(pub Db);

impl Database {
    /// Does an operation as a caller.
    pub async fn call(
        &self,
        caller: &Caller,
        operation: &str,
        action: &str,
        arguments: Value,
    ) -> Result<Answer, StorageError> {
        self.ask(caller, operation, action, arguments, false).await
    }

    /// Tries an operation as a caller, and undoes it.
    pub async fn probe(
        &self,
        caller: &Caller,
        operation: &str,
        action: &str,
        arguments: Value,
    ) -> Result<Answer, StorageError> {
        self.ask(caller, operation, action, arguments, true).await
    }

    async fn ask(
        &self,
        caller: &Caller,
        operation: &str,
        action: &str,
        arguments: Value,
        undo: bool,
    ) -> Result<Answer, StorageError> {
        let request = caller.request(operation);
        let sql = "select storage_service.call($1, $2, $3, $4)";
        let answer: Answer = self
            .json(sql, &[&request, &action, &arguments, &undo])
            .await?;
        match &answer.problem {
            Some(problem) => Err(StorageError::from_problem(problem)),
            None => Ok(answer),
        }
    }

    /// The row of an object that a caller sees.
    pub async fn object(
        &self,
        caller: &Caller,
        operation: &str,
        target: &ObjectName,
    ) -> Result<Option<Object>, StorageError> {
        let arguments = json!({ "bucket_id": target.bucket, "name": target.name });
        let answer = self
            .call(caller, operation, "object_read", arguments)
            .await?;
        read(answer.answer)
    }

    /// The row of an object past the policies: of a public bucket, or by a signed URL.
    pub async fn object_unchecked(
        &self,
        target: &ObjectName,
    ) -> Result<Option<Object>, StorageError> {
        let arguments = json!({ "bucket_id": target.bucket, "name": target.name });
        self.json(
            "select storage_service.as_service('object_read', $1)",
            &[&arguments],
        )
        .await
    }

    /// Whether anybody may read the objects of a bucket.
    pub async fn is_public(&self, bucket: &str) -> Result<bool, StorageError> {
        let sql = "select storage_service.is_public($1)";
        Ok(self.0.scalar(sql, &[&bucket]).await?)
    }

    /// Whether there is such a bucket.
    pub async fn bucket_exists(&self, bucket: &str) -> Result<bool, StorageError> {
        let sql = "select storage_service.bucket_exists($1)";
        Ok(self.0.scalar(sql, &[&bucket]).await?)
    }

    /// Makes an upload known before its first byte.
    pub async fn begin(
        &self,
        intent: &Intent,
        lease: Duration,
        most: i32,
    ) -> Result<BucketLimits, StorageError> {
        let sql = "select storage_service.begin_upload($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, make_interval(secs => $11), $12, $13)";
        let started_by = intent.owner.started_by.as_deref().unwrap_or("service");
        let bytes = intent.bytes.map(|bytes| bytes as i64);
        let limits: BucketLimits = self
            .json(
                sql,
                &[
                    &intent.version,
                    &intent.target.bucket,
                    &intent.target.name,
                    &intent.owner.owner,
                    &intent.owner.owner_id,
                    &intent.upsert,
                    &intent.metadata,
                    &intent.user_metadata,
                    &started_by,
                    &bytes,
                    &lease.as_secs_f64(),
                    &most,
                    &intent.may_replace,
                ],
            )
            .await?;
        match (limits.refused.as_deref(), &limits.problem) {
            (None, None) => Ok(limits),
            (_, Some(problem)) => Err(StorageError::from_problem(problem)),
            (Some("NoSuchBucket"), _) => Err(no_such_bucket().after_admission()),
            (Some("ResourceAlreadyExists"), _) => Err(already_exists().after_admission()),
            (Some(_), _) => {
                let mut refused =
                    refusal("SlowDown", 429, "SlowDown", "too many uploads at a time");
                refused.http = axum::http::StatusCode::TOO_MANY_REQUESTS;
                Err(refused.after_admission())
            }
        }
    }

    /// Holds bytes that have come, and some ahead if the plan has them: how many. Refuses an upload for which it does not.
    pub async fn admit_bytes(
        &self,
        version: Uuid,
        bytes: u64,
        ahead: u64,
    ) -> Result<u64, StorageError> {
        let sql = "select storage_service.admit_bytes($1, $2, $3)";
        let (held, ahead) = (bytes as i64, ahead as i64);
        let held: Value = self.json(sql, &[&version, &held, &ahead]).await?;
        match held.get("problem") {
            Some(problem) => Err(StorageError::from_problem(problem).after_admission()),
            None => Ok(held["admitted"].as_u64().unwrap_or(bytes)),
        }
    }

    /// Admits a request for who signed its URL; whose uploads it counts among.
    pub async fn admit_signer(
        &self,
        request: &Value,
        signer: Option<&Value>,
    ) -> Result<Option<String>, StorageError> {
        #[derive(Deserialize)]
        struct Admitted {
            started_by: Option<String>,
            problem: Option<Value>,
        }
        let sql = "select storage_service.admit_signer($1, $2)";
        let admitted: Admitted = self.json(sql, &[request, &signer]).await?;
        match admitted.problem {
            Some(problem) => Err(StorageError::from_problem(&problem).after_admission()),
            None => Ok(admitted.started_by),
        }
    }

    /// False when the upload was given up.
    pub async fn extend(&self, version: Uuid, lease: Duration) -> Result<bool, StorageError> {
        let sql = "select storage_service.extend_upload($1, make_interval(secs => $2))";
        Ok(self
            .0
            .scalar(sql, &[&version, &lease.as_secs_f64()])
            .await?)
    }

    /// Makes a multipart upload known before its first part; false when the upload was given up.
    pub async fn note_multipart(&self, version: Uuid, id: &str) -> Result<bool, StorageError> {
        let sql = "select storage_service.note_multipart($1, $2)";
        Ok(self.0.scalar(sql, &[&version, &id]).await?)
    }

    /// Gives stored bytes their row; None if the object that is there is not the one that may be replaced.
    pub async fn finish(
        &self,
        version: Uuid,
        facts: &Value,
    ) -> Result<Option<Object>, StorageError> {
        let sql = "select storage_service.finish_upload($1, $2)";
        let answer: Value = self.json(sql, &[&version, facts]).await?;
        if answer["refused"] == "replaced" {
            return Ok(None);
        }
        let object = written(answer)?.map(Some);
        object.ok_or_else(|| internal("an upload was given up before it ended"))
    }

    /// Asks the policies about the object that is there now, and lets an upload replace it.
    pub async fn try_again(&self, version: Uuid, tried: &Tried) -> Result<(), StorageError> {
        let arguments = tried.arguments.clone();
        let answer = self
            .probe(&tried.caller, tried.operation, tried.action, arguments)
            .await?;
        let replaces: Option<Uuid> = read(answer.answer["replaces"].clone())?;
        let sql = "select storage_service.allow_replacing($1, $2)";
        self.0.query(sql, &[&version, &replaces]).await?;
        Ok(())
    }

    /// Ends an upload without an object.
    pub async fn give_up(&self, version: Uuid) -> Result<(), StorageError> {
        self.0
            .query("select storage_service.give_up_upload($1)", &[&version])
            .await?;
        Ok(())
    }

    /// Gives an object another name; None when there is none any more.
    pub async fn rename(
        &self,
        from: &ObjectName,
        to: &ObjectName,
        owner: &Owner,
    ) -> Result<Option<Object>, StorageError> {
        let sql = "select storage_service.move_object($1, $2, $3, $4, $5, $6)";
        let names: [&(dyn ToSql + Sync); 6] = [
            &from.bucket,
            &from.name,
            &to.bucket,
            &to.name,
            &owner.owner,
            &owner.owner_id,
        ];
        written(self.json(sql, &names).await?)
    }

    /// Deletes some of the objects of a bucket; how many.
    pub async fn empty(&self, bucket: &str, most: i32) -> Result<i32, StorageError> {
        let sql = "select storage_service.empty_bucket($1, $2)";
        Ok(self.0.scalar(sql, &[&bucket, &most]).await?)
    }

    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<T, StorageError> {
        let answer: Option<Json<Value>> = self.0.scalar(sql, parameters).await?;
        read(answer.map_or(Value::Null, |Json(value)| value))
    }
}

/// `{row}` or `{problem}`.
fn written(mut answer: Value) -> Result<Option<Object>, StorageError> {
    if let Some(problem) = answer.get("problem") {
        return Err(StorageError::from_problem(problem).after_admission());
    }
    read(answer["row"].take())
}

/// JSON of the database as a type.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, StorageError> {
    serde_json::from_value(value).map_err(internal)
}
