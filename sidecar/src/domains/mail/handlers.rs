//! Jobs of the kind `mail`.

use std::sync::Arc;

use kijko_core::{
    db::retry_transient,
    jobs::{Failure, Handler, HandlerError, Job, JobClass, JobKind, Queue},
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    message::compose,
    metrics::MailSeries,
    smtp::Smtp,
    store::{Mail, Store},
    unsent::{Class, Reason, Unsent},
};

/// The payload of such a job: it names the mail and has nothing of it.
#[derive(Debug, Deserialize)]
pub struct MailJob {
    /// The mail that is to be sent.
    pub mail_id: Uuid,
}

impl JobKind for MailJob {
    const KIND: &'static str = "mail";
    const CLASS: JobClass = JobClass::Short;
    const HALF_OF_SLOTS: bool = true;
}

/// Sends mails. Neither addresses nor texts reach a log.
pub(super) struct MailHandler {
    store: Store,
    smtp: Smtp,
    series: Arc<MailSeries>,
}

impl MailHandler {
    pub(super) fn new(store: Store, smtp: Smtp, series: Arc<MailSeries>) -> Self {
        Self {
            store,
            smtp,
            series,
        }
    }

    async fn send(&self, queue: &Queue, job: &Job, mail: &Mail) -> Result<Value, HandlerError> {
        let Some((envelope, text)) = compose(&self.smtp.config().from, mail) else {
            self.series.ended("mail_invalid");
            let message = "no mail can be sent to this address";
            return Err(Failure::permanent("mail_invalid", message).into());
        };
        let hand_over = async || match self.store.hand_over(queue, job).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Reason::Superseded),
            // Not repeated: a call whose answer was lost may have counted, and two would end the mail.
            Err(error) => {
                tracing::warn!(%error, "the mail was not handed over");
                Err(Reason::Internal)
            }
        };
        let sending = self.series.sending();
        let sent = self.smtp.send(&envelope, &text, hand_over).await;
        sending.ended(sent.as_ref().err().map_or("sent", Unsent::code));
        match sent {
            Ok(code) => {
                canonical::add("smtp_code", code);
                Ok(json!({ "smtp_code": code }))
            }
            Err(unsent) if unsent.reason == Reason::Superseded => Err(HandlerError::Superseded),
            Err(unsent) => self.not_sent(queue, job, &unsent).await,
        }
    }

    async fn not_sent(
        &self,
        queue: &Queue,
        job: &Job,
        unsent: &Unsent,
    ) -> Result<Value, HandlerError> {
        canonical::add("smtp_step", unsent.step.name());
        if let Some(code) = unsent.smtp_code() {
            canonical::add("smtp_code", code);
        }
        if let Reason::Broken(reason) = &unsent.reason {
            canonical::add("reason", reason.as_str());
        }
        let (code, answered) = (unsent.smtp_code(), unsent.is_answered());
        retry_transient(queue.retry_limit(), || {
            self.store.report(queue, job, code, answered)
        })
        .await?;
        let class = unsent.class();
        Err(Failure {
            retryable: class != Class::Refused,
            outage: class == Class::Unavailable,
            ..Failure::permanent(unsent.code(), unsent.message())
        }
        .into())
    }
}

impl Handler for MailHandler {
    type Payload = MailJob;

    async fn run(&self, queue: &Queue, job: &Job, payload: MailJob) -> Result<Value, HandlerError> {
        canonical::add("mail_id", payload.mail_id.to_string());
        let start = queue
            .begin(|| self.store.start(queue, job))
            .await?
            .ok_or(HandlerError::Superseded)?;
        match start {
            Ok(mail) => {
                canonical::add("mail_template", mail.template.as_str());
                self.send(queue, job, &mail).await
            }
            Err(refusal) => {
                self.series.ended("given_up");
                let message = "the mail is not to be sent any more";
                Err(Failure::permanent(refusal.code, message).into())
            }
        }
    }
}
