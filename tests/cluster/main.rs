//! The whole cluster, from outside: several real agents, a PostgreSQL, an S3 server and nginx with the nginx.conf of this repository, while agents
//! are killed, stopped, rolled and added and the services fail. The oracle sends, reads and judges meanwhile.
//!
//! Each test has the machine to itself. What happened is printed at the end of each, also when all is well.
//!
//! `YAKS_TEST_CLUSTER_MINUTES=60` makes the two runs with faults as long; `YAKS_TEST_SEED` repeats their schedule.
#![allow(unreachable_pub, reason = "a test crate has no outside")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "from outside there is only the real clock")]

mod agents;
mod failover;
mod faults;
mod idle;
mod load;
mod measure;
mod nginx;
mod share;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "shared with tests/it")]
mod support;
mod whole;

use std::io::Write as _;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

/// One test at a time: each measures, and two cores are few.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// A line of the report, past the capture of test output: what was seen is worth reading when all is well, too.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "cluster: {line}");
}

async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}
