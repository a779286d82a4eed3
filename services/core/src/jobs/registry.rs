//! The kinds of jobs that this service runs. A kind is the type of its payload; a domain registers a handler for it. The worker
//! claims the registered kinds and no others, and dispatches by them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    job::{Failure, HandlerError, Job},
    queue::Queue,
};
use crate::db::DbError;

/// How long jobs of a kind take, which decides the slots that they run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobClass {
    /// Seconds at most: somebody may wait for it. Such jobs also run in the slots that long ones leave free for them.
    Short,
    /// Perhaps minutes, as a call of a model.
    Long,
}

/// The type of a kind's payload, `jobs.payload`. Its fields are part of the contract with the functions that queue such jobs.
pub trait JobKind: DeserializeOwned + Send + Sync {
    /// `jobs.kind`, or the part of it before the dot for a kind with variants.
    const KIND: &'static str;

    /// How long such jobs take.
    const CLASS: JobClass = JobClass::Long;

    /// Whether such jobs take at most half of the slots of their class, if the worker has other kinds, and all such kinds together leave
    /// one: they wait for servers that somebody else runs, and when these are slow, jobs of other kinds must go on.
    const HALF_OF_SLOTS: bool = false;

    /// Whether [`Handler::record_success`] may take longer than a lease. Then it must be one statement that locks the job first and
    /// ends it: no heartbeat extends a lease meanwhile, but no other worker gets the job either.
    const RECORDS_FOR_LONG: bool = false;
}

/// What is done for one kind of job. A handler computes; what it returns is recorded by the runner, which keeps trying
/// while the lease lasts. Its future may be dropped at any await.
pub trait Handler: Send + Sync + 'static {
    /// What it needs to know.
    type Payload: JobKind;

    /// Does the work.
    fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: Self::Payload,
    ) -> impl Future<Output = Result<Value, HandlerError>> + Send;

    /// Records a result; false when the database did not take it as a success.
    fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> impl Future<Output = Result<bool, DbError>> + Send {
        queue.complete(job, result)
    }

    /// Records a failure; the new status, or `None` when the lease was lost.
    fn record_failure(
        &self,
        queue: &Queue,
        job: &Job,
        failure: &Failure,
    ) -> impl Future<Output = Result<Option<String>, DbError>> + Send {
        queue.fail_job(job, failure)
    }

    /// Hands a job back at shutdown, or one that is held; false when it is not ours.
    fn record_release(
        &self,
        queue: &Queue,
        job: &Job,
        pause: Duration,
    ) -> impl Future<Output = Result<bool, DbError>> + Send {
        queue.release(job, pause)
    }
}

/// A handler whose payload's type is hidden, as the registry keeps it. Every [`Handler`] is one.
pub trait AnyHandler: Send + Sync {
    /// Reads the payload and does the work. A payload that is not of the kind's type fails at once: another attempt would
    /// read the same.
    fn run<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
    ) -> BoxFuture<'a, Result<Value, HandlerError>>;

    /// [`JobKind::RECORDS_FOR_LONG`].
    fn records_for_long(&self) -> bool;

    /// [`Handler::record_success`].
    fn record_success<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        result: &'a Value,
    ) -> BoxFuture<'a, Result<bool, DbError>>;

    /// [`Handler::record_failure`].
    fn record_failure<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        failure: &'a Failure,
    ) -> BoxFuture<'a, Result<Option<String>, DbError>>;

    /// [`Handler::record_release`].
    fn record_release<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        pause: Duration,
    ) -> BoxFuture<'a, Result<bool, DbError>>;
}

impl<H: Handler> AnyHandler for H {
    fn run<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
    ) -> BoxFuture<'a, Result<Value, HandlerError>> {
        match H::Payload::deserialize(&job.payload) {
            Ok(payload) => Box::pin(Handler::run(self, queue, job, payload)),
            Err(error) => Box::pin(async move { Err(invalid_payload(&error).into()) }),
        }
    }

    fn records_for_long(&self) -> bool {
        H::Payload::RECORDS_FOR_LONG
    }

    fn record_success<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        result: &'a Value,
    ) -> BoxFuture<'a, Result<bool, DbError>> {
        Box::pin(Handler::record_success(self, queue, job, result))
    }

    fn record_failure<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        failure: &'a Failure,
    ) -> BoxFuture<'a, Result<Option<String>, DbError>> {
        Box::pin(Handler::record_failure(self, queue, job, failure))
    }

    fn record_release<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        pause: Duration,
    ) -> BoxFuture<'a, Result<bool, DbError>> {
        Box::pin(Handler::record_release(self, queue, job, pause))
    }
}

/// The message may quote a value of the payload, which the organization owns.
fn invalid_payload(error: &serde_json::Error) -> Failure {
    let reason: String = error.to_string().chars().take(200).collect();
    Failure::permanent(
        "invalid_payload",
        format!("the payload is not what jobs of this kind have: {reason}"),
    )
}

/// Handlers by kind.
#[derive(Default)]
pub struct Registry(BTreeMap<String, Registered>);

/// A handler and what its kind says of itself.
#[derive(Clone)]
pub struct Registered {
    /// How long its jobs take.
    pub class: JobClass,
    /// [`JobKind::HALF_OF_SLOTS`].
    pub half_of_slots: bool,
    /// Whether its kind is one of several variants.
    pub has_siblings: bool,
    /// What does the work.
    pub handler: Arc<dyn AnyHandler>,
}

impl Registry {
    /// The kind `KIND` alone.
    pub fn register<H: Handler>(&mut self, handler: Arc<H>) {
        self.insert(H::Payload::KIND.to_owned(), Registered::of(handler));
    }

    /// The kinds `KIND.variant`, for each of these variants. Of several, none takes the last slot from the others.
    pub fn register_variants<H: Handler>(
        &mut self,
        variants: impl IntoIterator<Item = impl AsRef<str>>,
        handler: Arc<H>,
    ) {
        let variants: Vec<_> = variants.into_iter().collect();
        for variant in &variants {
            let kind = format!("{}.{}", H::Payload::KIND, variant.as_ref());
            let registered = Registered {
                has_siblings: variants.len() > 1,
                ..Registered::of(handler.clone())
            };
            self.insert(kind, registered);
        }
    }

    /// Takes over another registry's kinds.
    pub fn merge(&mut self, other: Self) {
        for (kind, registered) in other.0 {
            self.insert(kind, registered);
        }
    }

    fn insert(&mut self, kind: String, registered: Registered) {
        let earlier = self.0.insert(kind.clone(), registered);
        assert!(earlier.is_none(), "jobs of kind {kind} have two handlers");
    }

    /// All kinds in order. All workers have the same order, since claims for the same kinds share the tenants' turns.
    pub fn kinds(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Those of [`JobClass::Short`], in the same order.
    pub fn short_kinds(&self) -> Vec<String> {
        self.kinds_of(JobClass::Short)
    }

    /// Those of [`JobClass::Long`], in the same order.
    pub fn long_kinds(&self) -> Vec<String> {
        self.kinds_of(JobClass::Long)
    }

    fn kinds_of(&self, class: JobClass) -> Vec<String> {
        let of_class = self.0.iter().filter(|(_, it)| it.class == class);
        of_class.map(|(kind, _)| kind.clone()).collect()
    }

    /// Those of [`JobKind::HALF_OF_SLOTS`], with their class.
    pub fn halved_kinds(&self) -> Vec<(String, JobClass)> {
        let halved = self.0.iter().filter(|(_, it)| it.half_of_slots);
        halved.map(|(kind, it)| (kind.clone(), it.class)).collect()
    }

    /// Those that are one of several variants, with their class.
    pub fn sibling_kinds(&self) -> Vec<(String, JobClass)> {
        let siblings = self.0.iter().filter(|(_, it)| it.has_siblings);
        siblings
            .map(|(kind, it)| (kind.clone(), it.class))
            .collect()
    }

    /// The handler of a kind.
    pub fn find(&self, kind: &str) -> Option<Registered> {
        self.0.get(kind).cloned()
    }
}

impl Registered {
    fn of<H: Handler>(handler: Arc<H>) -> Self {
        Self {
            class: H::Payload::CLASS,
            half_of_slots: H::Payload::HALF_OF_SLOTS,
            has_siblings: false,
            handler,
        }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registry").field(&self.kinds()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Mail {
        #[allow(dead_code, reason = "its presence is what counts")]
        to: String,
    }

    impl JobKind for Mail {
        const KIND: &'static str = "mail";
    }

    struct Post;

    impl Handler for Post {
        type Payload = Mail;

        async fn run(&self, _: &Queue, _: &Job, mail: Mail) -> Result<Value, HandlerError> {
            Ok(mail.to.into())
        }
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        registry.register_variants(["fast", "slow"], Arc::new(Post));
        registry.register(Arc::new(Post));
        registry
    }

    #[test]
    fn kinds_are_what_was_registered_and_nothing_else() {
        let registry = registry();
        assert_eq!(registry.kinds(), ["mail", "mail.fast", "mail.slow"]);
        assert!(registry.find("mail.fast").is_some());
        for unknown in ["", "mai", "mail.", "mail.other", "report"] {
            assert!(registry.find(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    #[should_panic(expected = "jobs of kind mail have two handlers")]
    fn a_kind_has_one_handler() {
        registry().merge(registry());
    }

    #[test]
    fn a_payload_of_another_type_is_a_permanent_failure() {
        let error = Mail::deserialize(&serde_json::json!({"to": 7}))
            .err()
            .unwrap();
        let failure = invalid_payload(&error);
        assert_eq!(
            (failure.code.as_ref(), failure.retryable),
            ("invalid_payload", false)
        );
    }
}
