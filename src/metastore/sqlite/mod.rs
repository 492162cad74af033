//! The metastore of one process: a SQLite file in the data directory.
//!
//! One connection writes, a few read; the write-ahead log is synced at every commit, so that what was acknowledged survives
//! the loss of power. A lock on a file beside the database keeps a second process away. The writing connection is the
//! materializer's lock: a round is one transaction on it. Nothing is announced, since the one round reports to its caller. Small objects are stored
//! with their events (docs/adr/0003-small-objects-with-their-events.md).
//!
//! Bulk goes through `json_each`, one statement a table whatever the number of rows, so no limit on parameters is ever near.

mod at_once;
mod connect;
mod errors;
mod group_configs;
mod groups;
mod inlined;
mod json;
mod leases;
mod log;
mod log_admin;
mod offsets;
mod one_segment;
mod round;
mod round_store;
mod rows;
mod topics;

pub use connect::SqliteConfig;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::Mutex;

use at_once::AtOnce;

use super::announce::Subscribers;
use super::{Change, Changes, Decide, Metastore, Result};
use crate::clock::Clock;

/// A SQLite file, owned by this process alone.
#[derive(Debug)]
pub struct SqliteMetastore {
    file: PathBuf,
    options: SqliteConnectOptions,
    /// The one connection that writes; `None` when closed. A pool of one would ask it, each time it comes back, whether it still lives: a call more
    /// for each of ours.
    writer: Mutex<Option<SqliteConnection>>,
    /// How long to wait for it.
    wait: Duration,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
    /// If events are decided while they are appended.
    at_once: Option<AtOnce>,
    /// True while a round runs.
    rounding: AtomicBool,
    /// When groups were swept last, by this process; 0: not yet.
    groups_swept_at: AtomicI64,
    /// Never told anything: their channels only have to stay open.
    subscribers: Subscribers,
    /// Held for as long as the metastore lives; the system gives it back if the process dies.
    _lock: std::fs::File,
}

impl SqliteMetastore {
    /// From now on events are decided by this rule as they are appended, where nothing is in the way; the next rounds tell.
    #[must_use]
    pub fn deciding_at_once(self, decide: Decide) -> Self {
        SqliteMetastore { at_once: Some(AtOnce::new(decide)), ..self }
    }
}

#[async_trait]
impl Changes for SqliteMetastore {
    fn subscribe_changes(&self) -> tokio::sync::mpsc::Receiver<Change> {
        self.subscribers.subscribe()
    }
}

#[async_trait]
impl Metastore for SqliteMetastore {
    async fn check(&self) -> Result<()> {
        self.ping().await
    }

    async fn migrate(&self) -> Result<()> {
        self.apply_migrations().await
    }

    async fn check_schema(&self) -> Result<()> {
        self.compare_schema().await
    }

    async fn check_migrations(&self) -> Result<()> {
        self.compare_schema().await
    }

    async fn close(&self) {
        self.close_all().await;
    }

    fn describe(&self) -> String {
        format!("SQLite {}", self.file.display())
    }
}
