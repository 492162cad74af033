//! Opening the file, its schema, and transactions on the writing connection.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Executor as _, Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::SqliteMetastore;
use super::errors::{committing, migrating, reading};
use super::{one_segment, round_store};
use crate::clock::Clock;
use crate::metastore::announce::Subscribers;
use crate::metastore::schema::{applied_is_known, schema_is_current};
use crate::metastore::{MetaError, Result};

const DATABASE_FILE: &str = "metadata.db";
const LOCK_FILE: &str = "lock";
/// Pages in the log, 4 KiB each, before they are written to their places. The ends of logs are written by every commit: the later this is, the
/// more of that happens once.
const CHECKPOINT_PAGES: &str = "8192";

/// How to open the file.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The data directory; made if it is not there.
    pub directory: PathBuf,
    /// Connections that read.
    pub readers: u32,
    /// How long to wait for a connection, or for a lock on the file.
    pub wait: Duration,
}

impl SqliteConfig {
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        SqliteConfig { directory: directory.into(), readers: 4, wait: Duration::from_secs(10) }
    }
}

impl SqliteMetastore {
    /// Takes the data directory's lock and opens the database in it, making both if they are not there.
    pub async fn open(config: SqliteConfig, clock: Arc<dyn Clock>) -> Result<SqliteMetastore> {
        let SqliteConfig { directory, readers, wait } = config;
        let lock = lock(&directory)?;
        let file = directory.join(DATABASE_FILE);
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(wait)
            .pragma("temp_store", "memory")
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("cache_size", "-16384");
        let writer = open_writer(&options).await?;
        let readers = pool(readers, wait).connect_lazy_with(options.clone().create_if_missing(false).read_only(true));
        Ok(SqliteMetastore {
            file,
            options,
            writer: Mutex::new(Some(writer)),
            wait,
            readers,
            clock,
            at_once: None,
            rounding: AtomicBool::new(false),
            groups_swept_at: AtomicI64::new(0),
            subscribers: Subscribers::default(),
            _lock: lock,
        })
    }

    pub(super) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The connection that writes, when those before are done with it, for whoever may change anything.
    pub(super) async fn writer(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>> {
        let writer = self.writer_for_append().await?;
        if let Some(at_once) = &self.at_once {
            at_once.forget();
        }
        Ok(writer)
    }

    /// The same for who appends, and keeps what is remembered up to date.
    pub(super) async fn writer_for_append(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>> {
        let late = |_| MetaError::Unavailable(format!("{} was not free to write within {:?}", self.file.display(), self.wait));
        let mut writer = tokio::time::timeout(self.wait, self.writer.lock()).await.map_err(late)?;
        if let Some(connection) = writer.as_mut()
            && has_lost_transaction(connection).await
        {
            *connection = open_writer(&self.options).await?;
            tracing::warn!(
                "{} was rolled back by SQLite itself, perhaps on a full disk; it is written by a new connection",
                self.file.display()
            );
        }
        let closed = |_| MetaError::Unavailable(format!("{} is closed", self.file.display()));
        MutexGuard::try_map(writer, Option::as_mut).map_err(closed)
    }

    pub(super) async fn close_all(&self) {
        self.readers.close().await;
        if let Some(writer) = self.writer.lock().await.take()
            && let Err(error) = writer.close().await
        {
            tracing::warn!(%error, "{} was not closed in good order; what was committed is safe", self.file.display());
        }
    }

    pub(super) async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.readers).await.map_err(reading)?;
        Ok(())
    }

    pub(super) async fn apply_migrations(&self) -> Result<()> {
        let migrations = migrations();
        applied_is_known(&versions(&migrations), &self.applied_migrations().await?)?;
        // No lock is needed: this process has the file for itself. A connection of their own, since what rounds have prepared names tables that
        // migrations may rename.
        let unprepared = pool(1, self.wait).connect_with(self.options.clone()).await.map_err(reading)?;
        migrations.run(&unprepared).await.map_err(migrating)?;
        unprepared.close().await;
        // For the same reason whoever still has a lease is dead: a broker that was killed comes back under the id it had.
        sqlx::query("DELETE FROM agents").execute(&mut *self.writer().await?).await.map(drop).map_err(reading)
    }

    pub(super) async fn compare_schema(&self) -> Result<()> {
        schema_is_current(&versions(&migrations()), &self.applied_migrations().await?)
    }

    async fn applied_migrations(&self) -> Result<Vec<i64>> {
        let known = sqlx::query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'");
        let mut writer = self.writer().await?;
        if known.fetch_optional(&mut *writer).await.map_err(reading)?.is_none() {
            return Ok(Vec::new());
        }
        let applied = sqlx::query("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version");
        applied.fetch_all(&mut *writer).await.map_err(reading)?.iter().map(|row| row.try_get(0).map_err(reading)).collect()
    }
}

pub(super) fn migrations() -> Migrator {
    sqlx::migrate!("migrations/sqlite")
}

fn versions(migrations: &Migrator) -> Vec<i64> {
    migrations.iter().map(|m| m.version).collect()
}

/// A transaction that may write, from its beginning.
pub(super) async fn begin(writer: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>> {
    writer.begin_with("BEGIN IMMEDIATE").await.map_err(reading)
}

async fn open_writer(options: &SqliteConnectOptions) -> Result<SqliteConnection> {
    let mut writer = SqliteConnection::connect_with(options).await.map_err(reading)?;
    for statements in [round_store::PREPARE, one_segment::PREPARE] {
        writer.execute(statements).await.map_err(reading)?;
    }
    Ok(writer)
}

/// On a full disk SQLite rolls back by itself. The driver's own ROLLBACK then fails, and it counts that transaction as open for ever, and begins no
/// other. To be asked by the holder of the connection, who has begun none.
async fn has_lost_transaction(writer: &mut SqliteConnection) -> bool {
    if !writer.is_in_transaction() {
        return false;
    }
    // It may just be ending; what comes next is done after that.
    let answers = writer.ping().await;
    answers.is_err() || writer.is_in_transaction()
}

/// Ends a transaction; only here can it be unknown whether it happened.
pub(super) async fn commit(transaction: Transaction<'_, Sqlite>) -> Result<()> {
    transaction.commit().await.map_err(committing)
}

fn pool(connections: u32, wait: Duration) -> SqlitePoolOptions {
    // A connection to a file does not go stale: nothing to test, nothing to renew.
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(wait)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

fn lock(directory: &Path) -> Result<File> {
    let refused = |what: &str, error: &dyn std::fmt::Display| MetaError::Refused(format!("{what} {}: {error}", directory.display()));
    std::fs::create_dir_all(directory).map_err(|e| refused("cannot make the data directory", &e))?;
    let file = File::create(directory.join(LOCK_FILE)).map_err(|e| refused("cannot write in the data directory", &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(MetaError::Refused(format!("the data directory {} is in use by another yaks process", directory.display())))
        }
        Err(TryLockError::Error(error)) => Err(refused("cannot lock the data directory", &error)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::SystemClock;
    use crate::metastore::Topics as _;
    use crate::metastore::contract::scene::rules;
    use crate::types::{TopicId, TopicName};

    #[tokio::test]
    async fn a_second_process_on_one_data_directory_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || SqliteMetastore::open(SqliteConfig::new(directory.path()), Arc::new(SystemClock));
        let first = open().await.expect("the first one opens");
        let refused = open().await.expect_err("the second is refused");
        assert!(matches!(&refused, MetaError::Refused(why) if why.contains("in use by another yaks process")), "{refused}");
        drop(first);
        open().await.expect("it can be opened again");
    }

    /// Else who looks into the file with a tool would take SQLite's log for left over, and remove it.
    #[tokio::test]
    async fn other_programs_see_that_the_log_is_in_use() {
        let directory = tempfile::tempdir().expect("a directory");
        let opened = SqliteMetastore::open(SqliteConfig::new(directory.path()), Arc::new(SystemClock)).await.expect("opened");
        opened.apply_migrations().await.expect("migrated");
        opened.ping().await.expect("read");
        for shared in ["metadata.db-wal", "metadata.db-shm"] {
            assert!(directory.path().join(shared).exists(), "{shared}");
        }
    }

    #[tokio::test]
    async fn after_the_disk_was_full_it_goes_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let opened = SqliteMetastore::open(SqliteConfig::new(directory.path()), Arc::new(SystemClock)).await;
        let metastore = opened.expect("opened").deciding_at_once(rules());
        metastore.apply_migrations().await.expect("migrated");
        let room = async |pages: u32| {
            let room = sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")));
            room.execute(&mut *metastore.writer().await.expect("free")).await.expect("set");
        };
        // Of the two ways in which a transaction may fail: SQLite has rolled back, and SQLite waits for us to do so.
        let long_value = BTreeMap::from([("long".to_owned(), "x".repeat(1 << 20))]);
        for (number, partitions, configs) in [(1, 1, long_value), (2, 5_000, BTreeMap::new())] {
            let name = TopicName::parse(&format!("t{number}")).expect("a name");
            let create = async || metastore.create_topic(TopicId([number; 16]), &name, partitions, &configs).await;
            // That is as many as there are.
            room(1).await;
            let error = create().await.expect_err("there is no room");
            assert!(matches!(error, MetaError::Full(_)), "{error}");
            room(1_000_000).await;
            create().await.expect("created");
        }
    }
}
