//! The client programs of tests/clients, each against both ways of running; skipped where a toolchain is missing.

use std::process::Command;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::groups::{self, Balanced, SHORT_SESSIONS};
use super::members::Program;
use super::support::{Broker, Services, blocking};

const SKIPPED: i32 = 77;

/// How much runs at a time: processes that start all at once take longer than a session, and than a client's patience.
const AT_A_TIME: u32 = 2;
static PLACES: Semaphore = Semaphore::const_new(AT_A_TIME as usize);

/// A place for a client; those that need a Java machine for each process need all.
async fn place(client: &str) -> SemaphorePermit<'static> {
    let heavy = ["java", "tools"].contains(&client);
    PLACES.acquire_many(if heavy { AT_A_TIME } else { 1 }).await.expect("never closed")
}

/// A broker that runs already, for the groups: `YAKS_TEST_BROKER=HOST:PORT`.
const RUNNING: &str = "YAKS_TEST_BROKER";

/// All scenarios of a client in both ways of running; and groups of its members that come, go and die, one for each of its names for a protocol,
/// where members of one group talk to different agents. One protocol after the other.
async fn judge(client: &'static str, protocols: &[&'static str]) {
    let _place = place(client).await;
    if run(&[client, "--build-only"]).await.is_none() {
        return;
    }
    let services = Services::start().await;
    let agents = Balanced::start(&services, 2).await;
    let scenarios = async {
        let dir = tempfile::tempdir().expect("a directory");
        for address in [&Broker::dev(dir.path(), &SHORT_SESSIONS).address, &agents.address] {
            run(&[client, "--bootstrap", address]).await;
        }
    };
    let groups = async {
        let running = std::env::var(RUNNING);
        for protocol in protocols {
            let name = format!("{client}-{protocol}-{}", std::process::id());
            groups::live(running.as_ref().unwrap_or(&agents.address), &name, Program::Script { client, protocol }).await;
        }
    };
    tokio::join!(scenarios, groups);
}

/// kafka-python 3.0.12 now and then stands still for good where processes compete for the machine: a member that leads its group says that it assigns partitions,
/// and nothing after that, also when its connection ends; its main thread waits in `ensure_coordinator_ready`. A fault of the broker would show in each try.
async fn judge_one_that_may_hang(client: &'static str, protocols: &'static [&'static str]) {
    for _ in 0..2 {
        match tokio::spawn(judge(client, protocols)).await {
            Ok(()) => return,
            Err(failed) => println!("{client} is judged once more: {failed}"),
        }
    }
    judge(client, protocols).await;
}

/// What the script says, or nothing if a toolchain is missing.
async fn run(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/run"));
    command.args(arguments);
    let output = blocking(move || command.output().expect("the script")).await;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    let skipped = output.status.code() == Some(SKIPPED);
    assert!(output.status.success() || skipped, "{arguments:?}:\n{said}");
    (!skipped).then_some(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn java() {
    judge("java", &["eager", "cooperative", "server"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn franz_go() {
    judge("franz-go", &["eager", "cooperative", "server"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sarama() {
    judge("sarama", &["eager", "sticky", "cooperative"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_python() {
    judge_one_that_may_hang("python", &["eager", "sticky", "cooperative"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aiokafka() {
    judge("aiokafka", &["eager", "sticky"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkajs() {
    judge("kafkajs", &["eager"]).await;
}

/// Kafka's own command-line tools, once: they are slow to start, and how yaks runs makes no difference to them.
#[tokio::test(flavor = "multi_thread")]
async fn kafka_tools() {
    let _place = place("tools").await;
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &[]);
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/tools/run"));
    command.args(["--bootstrap", &broker.address]);
    let output = blocking(move || command.output().expect("the script")).await;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success() || output.status.code() == Some(SKIPPED), "{said}");
}
