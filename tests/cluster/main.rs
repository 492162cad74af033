//! The whole cluster, from outside: several real agents, a PostgreSQL, an S3 server and nginx with the nginx.conf of this repository, while agents
//! are killed, stopped, rolled and added and the services fail. The oracle (librdkafka) and the client programs of tests/clients send and read meanwhile,
//! and are judged; a program whose toolchain is missing is left out, and that is said.
//!
//! Two tests run at a time, and the one that measures an idle cluster alone. What happened is printed as it happens, also when all is well.
//!
//! `YAKS_TEST_CLUSTER_MINUTES=60` makes the two runs with faults as long, with two members of each client's group instead of one;
//! `YAKS_TEST_SEED` repeats their schedule; `YAKS_TEST_CLUSTER_FAULTS=Kill,Roll` and `YAKS_TEST_CLUSTER_CLIENTS=java,kafkajs` leave others out.
#![allow(unreachable_pub, reason = "a test crate has no outside")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "from outside there is only the real clock")]

mod agents;
mod failover;
mod faults;
mod idle;
mod load;
mod measure;
#[path = "../support/members.rs"]
#[allow(dead_code, reason = "shared with tests/it")]
mod members;
mod nginx;
#[path = "../support/process.rs"]
mod process;
mod programs;
mod share;
mod story;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "shared with tests/it")]
mod support;
mod whole;

use std::io::Write as _;
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, Semaphore, SemaphorePermit};

/// How many tests run at a time: clusters mostly wait, but two cores are few.
const AT_A_TIME: u32 = 2;
static PLACES: Semaphore = Semaphore::const_new(AT_A_TIME as usize);

/// All share one Postgres: who restarts it takes it alone.
static POSTGRES: RwLock<()> = RwLock::const_new(());

/// For who needs a Postgres that stays up: a cluster that starts, or one whose own faults are others.
async fn postgres_stays() -> RwLockReadGuard<'static, ()> {
    POSTGRES.read().await
}

async fn beside_another() -> SemaphorePermit<'static> {
    PLACES.acquire().await.expect("never closed")
}

async fn alone() -> SemaphorePermit<'static> {
    PLACES.acquire_many(AT_A_TIME).await.expect("never closed")
}

/// A line of the report, past the capture of test output: what was seen is worth reading when all is well, too.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "cluster: {line}");
}

async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}
