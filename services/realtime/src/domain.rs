//! The service's one domain: sockets, broadcasts over HTTP, the reader of messages from SQL, and the link to other instances.

use std::sync::{Arc, atomic::Ordering};

use kijko_core::{
    Context, Domain, Setup,
    config::Reader,
    db::{Channel, Wake},
};
use tokio::sync::{Notify, mpsc};

use crate::{
    access,
    config::Limits,
    delivery::{self, Wake as DeliveryWake},
    http,
    hub::Hub,
    metrics::RealtimeSeries,
    relay::{self, Link, Relay},
    socket::Service,
};

/// Postgres notifies here when messages were sent.
const MESSAGES: &str = "kijko_realtime";
/// Other instances notify here when they have passed something on.
const RELAYED: &str = "kijko_realtime_relay";
/// Triggers of the product notify here when somebody's access has changed.
const ACCESS: &str = "kijko_realtime_access";
/// The extension notifies here when the tokens of an outside issuer may no longer count.
const ISSUERS: &str = "kijko_issuers";

/// Reads the limits of sockets.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let limits = Limits::read(env);
    Box::new(move |context| Ok(domain(context, limits)))
}

fn domain(context: &Context, limits: Limits) -> Domain {
    let db = &context.db;
    let instance = relay::draw_instance();
    let (relay, outgoing) = Relay::new();
    let hub = Arc::new(Hub::new(relay.clone()));
    let series = Arc::new(RealtimeSeries::new(relay.lost()));
    let service = Service::new(db.clone(), hub.clone(), instance, limits, series.clone());
    let service = Arc::new(service);
    let wake = Arc::<DeliveryWake>::default();
    let relayed = Arc::<Notify>::default();
    let link = Arc::new(Link {
        db: db.clone(),
        hub: hub.clone(),
        relay,
        instance,
        peers: Default::default(),
        wake: relayed.clone(),
    });
    let (changes, gaps) = (service.access.clone(), wake.clone());
    let (sender, notifications) = mpsc::unbounded_channel();
    let (reads, maintains) = (db.clone(), db.clone());
    let (reader_series, drained) = (series.clone(), service.clone());
    Domain {
        routes: http::routes(service),
        series: vec![series],
        channels: vec![
            channel(MESSAGES, Wake::Look(wake.messages.clone())),
            channel(RELAYED, Wake::Look(relayed)),
            channel(ACCESS, Wake::LookAt(sender.clone())),
            channel(ISSUERS, Wake::LookAt(sender)),
        ],
        background: vec![
            Box::new(move |stop| {
                let reader = delivery::Reader::new(reads, hub, reader_series);
                Box::pin(reader.run(wake, stop))
            }),
            Box::new(move |stop| Box::pin(delivery::maintain(maintains, stop))),
            Box::new(move |stop| Box::pin(relay::run(link, outgoing, stop))),
            Box::new(move |stop| {
                Box::pin(access::run(changes, notifications, stop, move || {
                    gaps.gap.store(true, Ordering::SeqCst);
                    gaps.messages.notify_one();
                }))
            }),
            Box::new(move |stop| {
                Box::pin(async move {
                    stop.cancelled().await;
                    drained.drain().await;
                })
            }),
        ],
        ..Domain::default()
    }
}

fn channel(name: &'static str, wake: Wake) -> Channel {
    Channel { name, wake }
}
