//! The metastore of one process: a SQLite file in the data directory.
//!
//! One connection writes, a few read; the write-ahead log is synced at every commit, so that what was acknowledged survives
//! the loss of power. A lock on a file beside the database keeps a second process away. The writing connection is the
//! materializer's lock: a round is one transaction on it. Nothing is announced, since the one round reports to its caller.
//!
//! Bulk goes through `json_each`, one statement a table whatever the number of rows, so no limit on parameters is ever near.

mod connect;
mod errors;
mod group_configs;
mod groups;
mod json;
mod leases;
mod log;
mod log_admin;
mod offsets;
mod round;
mod round_store;
mod rows;
mod topics;

pub use connect::SqliteConfig;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use async_trait::async_trait;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

use super::announce::Subscribers;
use super::{Change, Changes, Metastore, Result};
use crate::clock::Clock;

/// A SQLite file, owned by this process alone.
#[derive(Debug)]
pub struct SqliteMetastore {
    file: PathBuf,
    options: SqliteConnectOptions,
    /// One connection.
    writer: SqlitePool,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
    /// True while a round runs.
    rounding: AtomicBool,
    /// When groups were swept last, by this process; 0: not yet.
    groups_swept_at: AtomicI64,
    /// Never told anything: their channels only have to stay open.
    subscribers: Subscribers,
    /// Held for as long as the metastore lives; the system gives it back if the process dies.
    _lock: std::fs::File,
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
        self.readers.close().await;
        self.writer.close().await;
    }

    fn describe(&self) -> String {
        format!("SQLite {}", self.file.display())
    }
}
