//! What uploads to S3 hold in memory: those that are slow to come nothing, those that are being sent a bounded sum.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::future::try_join_all;
use kijko_core::secret::Secret;
use kijko_storage::{
    blobs::{Blobs, Writer},
    config::{Place, S3Settings},
};
use tokio::{net::TcpListener, sync::Semaphore};
use uuid::Uuid;

const MIB: usize = 1 << 20;
const SLOW: usize = 40;
/// Less than a part, so that it waits for the rest.
const WAITING: usize = 7 * MIB;

/// A store that answers when the test lets it, and counts bytes that it has taken and not yet answered for.
#[derive(Clone)]
struct Store {
    gate: Arc<Semaphore>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    taken: Arc<AtomicUsize>,
}

async fn answer(State(store): State<Store>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let method = request.method().clone();
    let body = to_bytes(request.into_body(), 64 * MIB).await.unwrap();
    if method == Method::PUT {
        store.taken.fetch_add(body.len(), SeqCst);
        let open = store.open.fetch_add(body.len(), SeqCst) + body.len();
        store.most.fetch_max(open, SeqCst);
        let _passed = store.gate.acquire().await.unwrap();
        store.open.fetch_sub(body.len(), SeqCst);
        return ([(header::ETAG, "\"tag\"")], Body::empty()).into_response();
    }
    if method == Method::POST && query.starts_with("uploads") {
        let begun = "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";
        return begun.into_response();
    }
    if method == Method::POST {
        let complete =
            "<CompleteMultipartUploadResult><ETag>tag</ETag></CompleteMultipartUploadResult>";
        return complete.into_response();
    }
    StatusCode::NOT_FOUND.into_response()
}

async fn store() -> (Store, Blobs, PathBuf) {
    let store = Store {
        gate: Arc::new(Semaphore::new(0)),
        open: Arc::default(),
        most: Arc::default(),
        taken: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(store.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let spool = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(Uuid::new_v4().to_string());
    let settings = S3Settings {
        bucket: "objects".into(),
        endpoint: Some(endpoint),
        region: "us-east-1".into(),
        prefix: String::new(),
        access_key_id: "id".into(),
        secret_access_key: Secret::new("secret"),
        spool: spool.clone(),
        buffer_bytes: 16 << 20,
    };
    (store, Blobs::open(&Place::S3(settings)).unwrap(), spool)
}

/// Memory of this process that no file backs.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<usize>().unwrap() << 10
}

/// What a service does with bytes as they come.
async fn receive(writer: &mut Writer, bytes: usize) {
    let chunk = vec![b'x'; 16 << 10];
    for _ in 0..bytes / chunk.len() {
        writer.take(&chunk).await.unwrap();
        if writer.is_full() {
            writer.begin().await.unwrap();
            writer.store_parts().await.unwrap();
        }
    }
}

#[tokio::test]
async fn slow_uploads_hold_no_memory_and_all_together_send_within_the_buffer() {
    let (store, blobs, spool) = store().await;
    let before = resident();
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut writer = blobs.writer(Uuid::new_v4(), 1 << 30);
        receive(&mut writer, WAITING).await;
        slow.push(writer);
    }
    // They would be 280 MiB.
    let grown = resident().saturating_sub(before);
    assert!(grown < 96 * MIB, "{SLOW} slow uploads hold {grown} bytes");
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
    // None of them is in the way of one that comes at once, in parts.
    store.gate.add_permits(1);
    let mut fast = blobs.writer(Uuid::new_v4(), 1 << 30);
    receive(&mut fast, 20 * MIB).await;
    let passed = tokio::time::timeout(Duration::from_secs(30), fast.complete()).await;
    passed.expect("a fast upload waits for slow ones").unwrap();
    assert_eq!(store.taken.swap(0, SeqCst), 20 * MIB);
    // All end at once, and the store is slow.
    store.gate.forget_permits(1);
    store.most.store(0, SeqCst);
    let ending = tokio::spawn(try_join_all(slow.into_iter().map(Writer::complete)));
    while store.open.load(SeqCst) < 2 * WAITING {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.gate.add_permits(SLOW);
    ending.await.unwrap().unwrap();
    assert_eq!(store.taken.load(SeqCst), SLOW * WAITING);
    assert_eq!(store.most.load(SeqCst), 2 * WAITING);
    std::fs::remove_dir(spool).unwrap();
}

#[tokio::test]
async fn a_waiting_part_that_is_given_up_leaves_room_for_others() {
    let (store, blobs, spool) = store().await;
    let begun: Vec<_> = try_join_all((0..3).map(|_| async {
        let mut writer = blobs.writer(Uuid::new_v4(), 1 << 30);
        receive(&mut writer, WAITING).await;
        Ok::<_, ()>(writer)
    }))
    .await
    .unwrap();
    let ending: Vec<_> = begun
        .into_iter()
        .map(|writer| tokio::spawn(writer.complete()))
        .collect();
    while store.open.load(SeqCst) < 2 * WAITING {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ending.iter().for_each(|ending| ending.abort());
    store.gate.add_permits(1);
    let mut next = blobs.writer(Uuid::new_v4(), 1 << 30);
    receive(&mut next, WAITING).await;
    let passed = tokio::time::timeout(Duration::from_secs(30), next.complete()).await;
    passed.expect("the buffer was not given back").unwrap();
    std::fs::remove_dir(spool).unwrap();
}
