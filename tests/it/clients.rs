//! The client programs of tests/clients, each against both ways of running; skipped where a toolchain is missing.

use std::process::Command;

use super::support::{Broker, Services, blocking};

const SKIPPED: i32 = 77;

async fn judge(client: &'static str) {
    let dir = tempfile::tempdir().expect("a directory");
    let services = Services::start().await;
    let brokers = [Broker::dev(dir.path(), &[]), Broker::agent(&services, &[])];
    for broker in brokers {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/run"));
        command.args([client, "--bootstrap", &broker.address]);
        let output = blocking(move || command.output().expect("the script")).await;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{said}");
        assert!(output.status.success() || output.status.code() == Some(SKIPPED), "{client}:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn java() {
    judge("java").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn franz_go() {
    judge("franz-go").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_python() {
    judge("python").await;
}

/// Kafka's own command-line tools, once: they are slow to start, and how yaks runs makes no difference to them.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_tools() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &[]);
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/tools/run"));
    command.args(["--bootstrap", &broker.address]);
    let output = blocking(move || command.output().expect("the script")).await;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success() || output.status.code() == Some(SKIPPED), "{said}");
}
