//! Mail: jobs of the kind `mail`, sent to a mail server by SMTP.
//!
//! The database makes a mail, limits and renders it. This domain begins an attempt (`private.mail_start`), talks to the server, asks
//! before it hands the text over (`private.mail_hand_over`), and records the answer. A worker without `SMTP_URL` claims no mails.

mod config;
mod handlers;
mod message;
mod metrics;
mod smtp;
mod store;
mod stream;
mod unsent;

use std::sync::Arc;

use config::MailConfig;
use handlers::MailHandler;
use kijko_core::{Context, Domain, Setup, SetupError, config::Reader};
use metrics::{MailCheck, MailSeries};
use smtp::Smtp;
use store::Store;

/// Reads `SMTP_URL` and the settings of mail.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let config = MailConfig::read(env);
    Box::new(move |context| domain(config, context))
}

fn domain(config: MailConfig, context: &Context) -> Result<Domain, SetupError> {
    let series = Arc::new(MailSeries::new(context.db.clone()));
    let check = MailCheck {
        db: context.db.clone(),
        configured: config.server.is_some(),
        series: series.clone(),
    };
    let mut domain = Domain {
        series: vec![series.clone()],
        checks: vec![Arc::new(check)],
        ..Domain::default()
    };
    if let Some(server) = config.server {
        let smtp = Smtp::new(server)
            .map_err(|error| format!("the mail server's certificates: {error}"))?;
        let handler = MailHandler::new(Store::new(context.db.clone()), smtp, series);
        domain.jobs.register(Arc::new(handler));
    }
    Ok(domain)
}
