//! Postgres: the metastore of agents.
//!
//! Appending an event is one insert without any row lock. A round locks the one row of `materializer`, skipping it if
//! another agent has it, and does everything in that transaction: its reads come in statements after the lock's, so that
//! they see what the round before committed. Only rounds notify. Times that agents compare are the database's.
//!
//! Every statement has a limit in time, on the server and here; a connection that was left in the middle of a statement or of
//! a transaction is closed, never reused ([`session`]). Arrays and `unnest` carry bulk, so the number of parameters is
//! that of columns. Statement texts are constants, so each is prepared once a connection.

mod changes;
mod connect;
mod errors;
mod group_configs;
mod groups;
mod leases;
mod log;
mod log_admin;
mod offsets;
mod round;
mod round_store;
mod rows;
mod session;
mod topics;

#[cfg(test)]
#[path = "postgres_tests.rs"]
#[allow(clippy::disallowed_methods, reason = "a session of its own dies while another one works")]
mod tests;

pub use connect::{PostgresConfig, SslMode};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgPool;

use super::announce::Subscribers;
use super::{Change, Changes, InlinedObjects, Metastore, Result};
use crate::metrics::PoolUse;
use crate::tasks::Tasks;

/// A pool of connections to one database, shared with other agents.
#[derive(Debug)]
pub struct PostgresMetastore {
    config: PostgresConfig,
    pool: PgPool,
    tasks: Tasks,
    subscribers: Arc<Subscribers>,
    /// True once the listener runs.
    listening: AtomicBool,
    acquires: AtomicU64,
    waited_micros: AtomicU64,
}

/// How long [`Metastore::close`] waits for the listener.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

#[async_trait]
impl Changes for PostgresMetastore {
    fn subscribe_changes(&self) -> tokio::sync::mpsc::Receiver<Change> {
        self.listen_once();
        self.subscribers.subscribe()
    }
}

impl InlinedObjects for PostgresMetastore {}

#[async_trait]
impl Metastore for PostgresMetastore {
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
        self.look_for_missing_migrations().await
    }

    async fn close(&self) {
        if !self.tasks.stop(CLOSE_WITHIN).await {
            tracing::warn!("the listener for announcements did not stop in time");
        }
        self.pool.close().await;
    }

    fn describe(&self) -> String {
        self.config.describe()
    }

    fn pool(&self) -> Option<PoolUse> {
        Some(self.pool_use())
    }
}
