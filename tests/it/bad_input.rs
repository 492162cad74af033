//! Clients that misbehave, and others that must not notice.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::support::{Broker, blocking, create_topic, producer, send};

fn connect(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(&broker.address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// True if the broker closes the connection.
fn is_closed(mut stream: TcpStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Ok(0)) || stream.take_error().is_ok_and(|e| e.is_some())
}

fn resident_kib(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("a process");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_frame_is_refused_and_others_notice_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &[]);
    create_topic(&broker.address, "t", 1).await;
    let producer = producer(&broker.address, &[]);
    send(&producer, "t", 0, "before").await;
    for head in [i32::MAX, -1, i32::MIN, 100 * 1024 * 1024 + 1] {
        let mut stream = connect(&broker);
        stream.write_all(&head.to_be_bytes()).expect("written");
        assert!(is_closed(stream), "a frame of {head} bytes was not refused");
    }
    // An API that does not exist.
    let mut stream = connect(&broker);
    stream.write_all(&[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).expect("written");
    assert!(is_closed(stream));
    assert_eq!(send(&producer, "t", 0, "after").await.1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_bytes_cost_nothing_until_they_arrive() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &[]);
    create_topic(&broker.address, "t", 1).await;
    let producer = producer(&broker.address, &[]);
    send(&producer, "t", 0, "before").await;
    let before = resident_kib(&broker);
    let silent: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = connect(&broker);
            stream.write_all(&(40i32 << 20).to_be_bytes()).expect("written");
            stream.write_all(&[0, 0, 0, 9, 0, 0, 0, 1]).expect("written");
            stream
        })
        .collect();
    assert_eq!(send(&producer, "t", 0, "after").await.1, 1);
    let grown = resident_kib(&broker).saturating_sub(before);
    assert!(grown < 20 * 1024, "fifty promises cost {grown} KiB");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_idle_connections_cost_little() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &[]);
    let before = resident_kib(&broker);
    let idle: Vec<_> = (0..400).map(|_| connect(&broker)).collect();
    create_topic(&broker.address, "t", 1).await;
    assert_eq!(send(&producer(&broker.address, &[]), "t", 0, "hello").await, (0, 0));
    let grown = resident_kib(&broker).saturating_sub(before);
    assert!(grown < 30 * 1024, "{} idle connections cost {grown} KiB", idle.len());
    blocking(move || drop(idle)).await;
}
