//! What every store promises, as one suite that runs against each of them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::local::LocalStore;
use super::memory::MemoryStore;
use super::s3::{S3Config, S3Store, S3Timeouts};
use super::{Listed, ObjectBody, ObjectStore, StoreError};
use crate::types::{ByteRange, ObjectId};

#[path = "../../tests/support/s3.rs"]
mod s3_server;

use s3_server::{Fault, S3Server};

#[tokio::test]
async fn memory_keeps_the_contract() {
    keeps_the_contract(&(Arc::new(MemoryStore::new()) as Arc<dyn ObjectStore>)).await;
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("directory");
    let store: Arc<dyn ObjectStore> = Arc::new(LocalStore::open(dir.path()).expect("open"));
    keeps_the_contract(&store).await;
    write_foreign(dir.path(), "data/00/not-ours");
    foreign_keys_are_skipped(&store).await;
}

#[tokio::test]
async fn s3_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("directory");
    let server = S3Server::s3s_fs(dir.path()).await;
    let store: Arc<dyn ObjectStore> = Arc::new(S3Store::new(config(&server)).await.expect("client"));
    keeps_the_contract(&store).await;
    let bucket = dir.path().join(s3_server::BUCKET);
    for key in ["data/00/not-ours", "data/not-ours", "elsewhere"] {
        write_foreign(&bucket, key);
    }
    foreign_keys_are_skipped(&store).await;
}

#[tokio::test]
async fn s3_with_signed_payloads_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("directory");
    let server = S3Server::s3s_fs(dir.path()).await;
    let config = S3Config { payload_signing: true, ..config(&server) };
    keeps_the_contract(&(Arc::new(S3Store::new(config).await.expect("client")) as Arc<dyn ObjectStore>)).await;
}

#[tokio::test]
async fn the_benchmark_server_keeps_the_contract() {
    let server = S3Server::in_memory().await;
    keeps_the_contract(&(Arc::new(S3Store::new(config(&server)).await.expect("client")) as Arc<dyn ObjectStore>)).await;
    let dir = tempfile::tempdir().expect("directory");
    let server = S3Server::in_directory(dir.path(), s3_server::any_port()).await.expect("server");
    keeps_the_contract(&(Arc::new(S3Store::new(config(&server)).await.expect("client")) as Arc<dyn ObjectStore>)).await;
}

fn write_foreign(dir: &Path, key: &str) {
    let path = dir.join(key);
    std::fs::create_dir_all(path.parent().expect("below the directory")).expect("directory");
    std::fs::write(path, b"x").expect("write");
}

fn config(server: &S3Server) -> S3Config {
    S3Config {
        endpoint: Some(server.endpoint.clone()),
        region: s3_server::REGION.to_owned(),
        access_key: s3_server::ACCESS_KEY.to_owned(),
        secret_key: s3_server::SECRET_KEY.to_owned(),
        path_style: true,
        bucket: s3_server::BUCKET.to_owned(),
        payload_signing: false,
        timeouts: S3Timeouts::default(),
    }
}

/// The whole suite; the store is empty before and after.
pub(crate) async fn keeps_the_contract(store: &Arc<dyn ObjectStore>) {
    store.check().await.expect("a store that can be used");
    what_is_put_can_be_read_by_ranges(store).await;
    a_range_beyond_the_end_is_an_error_unless_told_otherwise(store).await;
    what_is_not_there_is_not_found(store).await;
    the_same_put_at_the_same_time_succeeds_for_all(store).await;
    pieces_are_put_together_in_order(store).await;
    listings_are_in_the_order_of_keys_and_come_in_pages(store).await;
    deleting_what_is_missing_succeeds(store).await;
    assert_eq!(store.list(None, 10).await.expect("list"), []);
    store.check().await.expect("still");
}

fn id(number: u8) -> ObjectId {
    ObjectId([number; 16])
}

fn range(start: u64, len: u64) -> ByteRange {
    ByteRange { start, len }
}

fn join(pieces: &[Bytes]) -> Vec<u8> {
    pieces.concat()
}

async fn read(store: &Arc<dyn ObjectStore>, object: ObjectId, range: ByteRange) -> Result<Vec<u8>, StoreError> {
    store.get_range(object, range).await.map(|pieces| join(&pieces))
}

async fn what_is_put_can_be_read_by_ranges(store: &Arc<dyn ObjectStore>) {
    let body = ObjectBody::new(vec![Bytes::from_static(b"hello"), Bytes::new(), Bytes::from_static(b" world")]);
    store.put(id(1), body).await.expect("put");
    for (start, len, expected) in [(0, 11, "hello world"), (0, 1, "h"), (10, 1, "d"), (4, 3, "o w"), (5, 6, " world"), (3, 0, "")] {
        assert_eq!(read(store, id(1), range(start, len)).await.expect("read"), expected.as_bytes(), "{start}+{len}");
    }
    store.delete(&[id(1)]).await.expect("delete");
}

async fn a_range_beyond_the_end_is_an_error_unless_told_otherwise(store: &Arc<dyn ObjectStore>) {
    store.put(id(2), ObjectBody::new(vec![Bytes::from_static(b"0123456789")])).await.expect("put");
    for (start, len) in [(0, 11), (9, 2), (10, 1), (1_000, 5)] {
        let error = read(store, id(2), range(start, len)).await.expect_err("beyond the end");
        assert!(matches!(error, StoreError::OutOfRange { object, .. } if object == id(2)), "{start}+{len}: {error}");
    }
    assert_eq!(join(&store.get_up_to(id(2), range(7, 100)).await.expect("up to the end")), b"789");
    assert_eq!(join(&store.get_up_to(id(2), range(0, 10)).await.expect("exactly")), b"0123456789");
    for (start, len) in [(10, 1), (1_000, 5)] {
        let error = store.get_up_to(id(2), range(start, len)).await.expect_err("begins behind the end");
        assert!(matches!(error, StoreError::OutOfRange { .. }), "{start}+{len}: {error}");
    }
    store.delete(&[id(2)]).await.expect("delete");
}

async fn what_is_not_there_is_not_found(store: &Arc<dyn ObjectStore>) {
    for error in
        [store.get_range(id(3), range(0, 1)).await.expect_err("missing"), store.get_up_to(id(3), range(5, 1)).await.expect_err("missing")]
    {
        assert!(matches!(error, StoreError::NotFound(object) if object == id(3)), "{error}");
    }
}

async fn the_same_put_at_the_same_time_succeeds_for_all(store: &Arc<dyn ObjectStore>) {
    let pieces: Vec<Bytes> = (0..64u8).map(|n| Bytes::from(vec![n; 16 * 1024])).collect();
    let body = ObjectBody::new(pieces);
    let puts = (0..8).map(|_| store.put(id(4), body.clone()));
    let reads = (0..8).map(|_| store.get_range(id(4), range(0, body.len())));
    let (puts, reads) = futures_util::future::join(join_all(puts), join_all(reads)).await;
    for put in puts {
        put.expect("every put");
    }
    let whole = join(body.pieces());
    for read in reads {
        match read {
            Ok(pieces) => assert!(join(&pieces) == whole, "a torn object was visible"),
            Err(error) => assert!(matches!(error, StoreError::NotFound(_)), "{error}"),
        }
    }
    assert!(read(store, id(4), range(0, body.len())).await.expect("read") == whole);
    store.delete(&[id(4)]).await.expect("delete");
}

async fn pieces_are_put_together_in_order(store: &Arc<dyn ObjectStore>) {
    let len = 20 * 1024 * 1024;
    let whole: Bytes = (0..len).map(|i| (i / 251 + i % 251) as u8).collect::<Vec<u8>>().into();
    // Uneven pieces, more than one system call takes, some of them empty.
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < len {
        let next = (at + 1 + (at * 7 + pieces.len() * 13) % 16_001).min(len);
        pieces.push(whole.slice(at..next));
        pieces.extend((next % 10 == 0).then(Bytes::new));
        at = next;
    }
    assert!(pieces.len() > 2_000);
    store.put(id(5), ObjectBody::new(pieces)).await.expect("put");
    assert!(read(store, id(5), range(0, len as u64)).await.expect("read") == whole);
    assert!(read(store, id(5), range(5_000_001, 9_000_000)).await.expect("read") == whole[5_000_001..14_000_001]);
    store.put(id(6), ObjectBody::default()).await.expect("an empty object");
    assert!(matches!(read(store, id(6), range(0, 1)).await, Err(StoreError::OutOfRange { .. })));
    store.delete(&[id(5), id(6)]).await.expect("delete");
}

async fn listings_are_in_the_order_of_keys_and_come_in_pages(store: &Arc<dyn ObjectStore>) {
    let mut all: Vec<Listed> = (10..50).map(|n| Listed { object: id(n), bytes: u64::from(n) }).collect();
    for listed in &all {
        let body = ObjectBody::new(vec![Bytes::from(vec![0; listed.bytes as usize])]);
        store.put(listed.object, body).await.expect("put");
    }
    all.sort_by_key(|listed| listed.object.key());
    assert_eq!(store.list(None, 1_000).await.expect("list"), all);
    assert_eq!(store.list(None, 40).await.expect("list"), all);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(after, 7).await.expect("list");
        seen.extend(page.iter().cloned());
        if page.len() < 7 {
            break;
        }
        after = page.last().map(|listed| listed.object);
    }
    assert_eq!(seen, all);
    assert_eq!(store.list(None, 0).await.expect("list"), []);
    // An object that is not there can be gone on from too: it may have been deleted meanwhile.
    store.delete(&[all[20].object]).await.expect("delete");
    assert_eq!(store.list(Some(all[20].object), 100).await.expect("list"), all[21..]);
    let objects: Vec<ObjectId> = all.iter().map(|listed| listed.object).collect();
    store.delete(&objects).await.expect("delete");
}

async fn deleting_what_is_missing_succeeds(store: &Arc<dyn ObjectStore>) {
    store.delete(&[]).await.expect("nothing");
    store.put(id(60), ObjectBody::new(vec![Bytes::from_static(b"x")])).await.expect("put");
    store.delete(&[id(61), id(60), id(62)]).await.expect("delete");
    assert!(matches!(read(store, id(60), range(0, 1)).await, Err(StoreError::NotFound(_))));
    let many: Vec<ObjectId> = (0..2_500u32).map(|n| ObjectId(u128::from(n).to_be_bytes())).collect();
    store.delete(&many).await.expect("more than one request takes");
}

/// The caller has put keys there that are not ours, among them `data/00/not-ours`.
async fn foreign_keys_are_skipped(store: &Arc<dyn ObjectStore>) {
    let mut all: Vec<Listed> = (1..30).map(|n| Listed { object: id(n), bytes: 1 }).collect();
    for listed in &all {
        store.put(listed.object, ObjectBody::new(vec![Bytes::from_static(b"x")])).await.expect("put");
    }
    all.sort_by_key(|listed| listed.object.key());
    assert_eq!(store.list(None, 1_000).await.expect("list"), all);
    assert_eq!(store.list(None, 3).await.expect("list"), all[..3]);
}

mod s3_only {
    use std::time::Duration;

    use super::*;

    const SOON: S3Timeouts =
        S3Timeouts { connect: Duration::from_millis(500), attempt: Duration::from_millis(500), operation: Duration::from_secs(2) };

    async fn client(config: S3Config) -> S3Store {
        S3Store::new(config).await.expect("client")
    }

    fn body() -> ObjectBody {
        ObjectBody::new(vec![Bytes::from_static(b"some"), Bytes::from_static(b"thing")])
    }

    #[tokio::test]
    async fn a_missing_bucket_is_refused_and_can_be_made() {
        let server = S3Server::in_memory().await;
        let store = client(S3Config { bucket: "another".to_owned(), ..config(&server) }).await;
        for error in [
            store.check().await.expect_err("no bucket"),
            store.put(id(1), body()).await.expect_err("no bucket"),
            store.list(None, 1).await.expect_err("no bucket"),
        ] {
            assert!(matches!(&error, StoreError::Refused(why) if why.contains("another") && why.contains("YAKS_S3_BUCKET")), "{error}");
        }
        store.ensure_bucket().await.expect("made");
        store.ensure_bucket().await.expect("there already");
        store.check().await.expect("usable");
        store.put(id(1), body()).await.expect("put");
    }

    #[tokio::test]
    async fn wrong_keys_are_refused_with_the_variables_to_check() {
        let server = S3Server::in_memory().await;
        let wrong_secret = client(S3Config { secret_key: "wrong".to_owned(), ..config(&server) }).await;
        let wrong_key = client(S3Config { access_key: "nobody".to_owned(), ..config(&server) }).await;
        for store in [wrong_secret, wrong_key] {
            for error in [
                store.check().await.expect_err("refused"),
                store.put(id(1), body()).await.expect_err("refused"),
                store.get_range(id(1), range(0, 1)).await.expect_err("refused"),
                store.delete(&[id(1)]).await.expect_err("refused"),
            ] {
                assert!(matches!(&error, StoreError::Refused(why) if why.contains("YAKS_S3_SECRET_KEY")), "{error}");
            }
        }
        for (access_key, secret_key) in [("", "x"), ("x", "")] {
            let half = S3Config { access_key: access_key.to_owned(), secret_key: secret_key.to_owned(), ..config(&server) };
            assert!(matches!(S3Store::new(half).await, Err(StoreError::Refused(_))));
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_unavailable() {
        let server = S3Server::in_memory().await;
        let config = config(&server);
        drop(server);
        let store = client(S3Config { timeouts: SOON, ..config }).await;
        // The accepting task is told to stop and may take a moment.
        while !matches!(store.check().await, Err(StoreError::Unavailable(_))) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_broken_answer_is_tried_again_and_two_are_unavailable() {
        let server = S3Server::in_memory().await;
        let store = client(config(&server)).await;
        for fault in [Fault::SlowDown, Fault::LostAnswer, Fault::Cut, Fault::CutAfterDoing] {
            server.faults.next(1, fault);
            store.put(id(1), body()).await.unwrap_or_else(|error| panic!("{fault:?} once: {error}"));
            server.faults.next(2, fault);
            let error = store.put(id(1), body()).await.expect_err("twice");
            assert!(matches!(error, StoreError::Unavailable(_)), "{fault:?} twice: {error}");
        }
        assert_eq!(server.faults.puts(), 16);
        assert_eq!(store.get_range(id(1), range(0, 9)).await.expect("whole").concat(), b"something");
    }

    #[tokio::test]
    async fn silence_ends_with_the_timeout() {
        let server = S3Server::in_memory().await;
        let store = client(S3Config { timeouts: SOON, ..config(&server) }).await;
        server.faults.always(Fault::Hang);
        assert!(matches!(store.put(id(1), body()).await, Err(StoreError::Unavailable(_))));
        server.faults.heal();
        client(config(&server)).await.put(id(1), body()).await.expect("put");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_no_answer() {
        let server = S3Server::in_memory().await;
        let store = client(config(&server)).await;
        let whole = Bytes::from(vec![7; 8 * 1024 * 1024]);
        let all = range(0, whole.len() as u64);
        store.put(id(1), ObjectBody::new(vec![whole.clone()])).await.expect("put");
        for after in [0, 1, 300_000, 7_000_000, whole.len() - 1] {
            server.faults.next(1, Fault::CutBody(after));
            match store.get_up_to(id(1), all).await {
                // Where not even the headers came through, it was tried again.
                Ok(pieces) => assert!(after < 7_000_000 && pieces.concat() == whole, "{after} bytes are taken for the whole"),
                Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "after {after}: {error}"),
            }
        }
        assert!(store.get_up_to(id(1), all).await.expect("whole").concat() == whole);
    }

    #[tokio::test]
    async fn no_secret_is_shown() {
        let server = S3Server::in_memory().await;
        let store = client(S3Config { secret_key: "hush".to_owned(), ..config(&server) }).await;
        let shown = format!("{store:?} {}", store.describe());
        assert!(!shown.contains("hush"), "{shown}");
        assert!(store.describe().contains(&server.endpoint) && store.describe().contains(s3_server::BUCKET));
    }
}
