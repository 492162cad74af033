//! Where the database is, the pool, and the schema.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgPool};
use tokio::time::Instant;

use super::PostgresMetastore;
use super::errors::{connecting, migrating, reading};
use super::session::Session;
use crate::metastore::announce::Subscribers;
use crate::metastore::schema::{applied_is_known, nothing_is_missing, schema_is_current};
use crate::metastore::{MetaError, Result};
use crate::metrics::PoolUse;
use crate::tasks::Tasks;

/// How much the connection is to be trusted, as libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslMode {
    #[default]
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    const ALL: [(&'static str, SslMode); 6] = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];

    /// # Errors
    /// What is allowed, in words for the operator.
    pub fn parse(text: &str) -> std::result::Result<SslMode, String> {
        let found = SslMode::ALL.iter().find(|(name, _)| *name == text);
        let names = SslMode::ALL.map(|(name, _)| name).join(", ");
        found.map(|(_, mode)| *mode).ok_or_else(|| format!("{text:?} is not one of {names}"))
    }

    fn for_driver(self) -> PgSslMode {
        match self {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Allow => PgSslMode::Allow,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyCa => PgSslMode::VerifyCa,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        }
    }
}

/// Where the database is and how it is used.
#[derive(Clone)]
pub struct PostgresConfig {
    /// A name, an address, or the directory of a Unix socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    pub ssl_mode: SslMode,
    /// Connections of this agent at most, besides one that listens for announcements.
    pub max_connections: u32,
    /// How long to wait for a connection, new or free.
    pub acquire_timeout: Duration,
    /// How long one statement may take, on the server.
    pub statement_timeout: Duration,
}

impl PostgresConfig {
    #[must_use]
    pub fn new(host: &str, port: u16, user: &str, password: &str, database: &str) -> Self {
        PostgresConfig {
            host: host.to_owned(),
            port,
            user: user.to_owned(),
            password: password.to_owned(),
            database: database.to_owned(),
            ssl_mode: SslMode::default(),
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
        }
    }

    pub(super) fn describe(&self) -> String {
        format!("Postgres {}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().application_name("yaks").ssl_mode(self.ssl_mode.for_driver());
        options.host(&self.host).port(self.port).username(&self.user).password(&self.password).database(&self.database)
    }

    /// What every session says first.
    ///
    /// - Limits in time: an agent that was paused or cut off must not keep the materializer's lock. The server notices a dead
    ///   agent by TCP keep-alive, and one that hangs in the middle of a transaction by the idle timeout.
    /// - A commit is on disk before it is acknowledged, even if the server's default says otherwise.
    /// - Every statement is made for an index, and parameters are arrays whose length the planner cannot see. Without these three settings it
    ///   might settle, while tables are young and small, for a plan that reads them from end to end, and keep it.
    fn preamble(&self) -> String {
        let statement = self.statement_timeout.as_millis();
        format!(
            "SET statement_timeout = {statement}; SET lock_timeout = {lock}; SET idle_in_transaction_session_timeout = 5000; \
             SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 10000; \
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
             SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off",
            lock = statement / 2
        )
    }

    /// A pool of sessions; makes no connection yet.
    pub(super) fn pool(&self, connections: u32) -> PgPool {
        let preamble: Arc<str> = self.preamble().into();
        let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(self.acquire_timeout).test_before_acquire(false);
        let pool = pool.after_connect(move |connection, _| {
            let preamble = Arc::clone(&preamble);
            Box::pin(async move { sqlx::raw_sql(AssertSqlSafe(preamble)).execute(connection).await.map(drop) })
        });
        // Asking a connection whether it lives costs a round trip: only those are asked that nobody has used for a while.
        let pool = pool.before_acquire(|connection, used| {
            Box::pin(async move {
                if used.idle_for > Duration::from_secs(1) {
                    connection.ping().await?;
                }
                Ok(true)
            })
        });
        pool.connect_lazy_with(self.options())
    }
}

impl std::fmt::Debug for PostgresConfig {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("place", &self.describe())
            .field("ssl_mode", &self.ssl_mode)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl PostgresMetastore {
    /// Makes no connection yet, so it cannot fail: start-up asks [`crate::metastore::Metastore::check`] until it answers.
    #[must_use]
    pub fn new(config: PostgresConfig, tasks: &Tasks) -> PostgresMetastore {
        PostgresMetastore {
            pool: config.pool(config.max_connections),
            config,
            tasks: tasks.group(),
            subscribers: Arc::new(Subscribers::default()),
            listening: AtomicBool::new(false),
            acquires: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
        }
    }

    pub(super) fn pool_use(&self) -> PoolUse {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        PoolUse {
            used: self.pool.size().saturating_sub(idle),
            idle,
            most: self.config.max_connections,
            acquires: self.acquires.load(Ordering::Relaxed),
            waited: Duration::from_micros(self.waited_micros.load(Ordering::Relaxed)),
        }
    }

    pub(super) async fn session(&self) -> Result<Session> {
        let began = Instant::now();
        let acquired = self.pool.acquire().await;
        self.acquires.fetch_add(1, Ordering::Relaxed);
        self.waited_micros.fetch_add(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let connection = acquired.map_err(connecting)?;
        Ok(Session::new(connection, self.config.statement_timeout))
    }

    pub(super) async fn ping(&self) -> Result<()> {
        match self.session().await {
            Ok(mut session) => session.execute(sqlx::query("SELECT 1")).await.map(drop).map_err(reading),
            // The pool says only that it waited in vain; the driver knows why.
            Err(MetaError::Unavailable(waited)) => Err(self.why_unreachable(waited).await),
            Err(error) => Err(error),
        }
    }

    async fn why_unreachable(&self, waited: String) -> MetaError {
        let options = self.config.options();
        match tokio::time::timeout(self.config.acquire_timeout, options.connect()).await {
            Ok(Ok(connection)) => {
                drop(connection);
                MetaError::Unavailable(waited)
            }
            Ok(Err(error)) => connecting(error),
            Err(_) => MetaError::Unavailable(format!("{} does not answer", self.describe_place())),
        }
    }

    fn describe_place(&self) -> String {
        format!("{}:{}", self.config.host, self.config.port)
    }

    /// Runs on a connection without our limits in time: a migration may take what it needs.
    ///
    /// The migrator's lock is an advisory one, held while migrations run and at no other time; on a database without advisory locks, run
    /// one `yaks migrate` at a time.
    pub(super) async fn apply_migrations(&self) -> Result<()> {
        let migrations = migrations();
        applied_is_known(&versions(&migrations), &self.applied_migrations().await?)?;
        let one = PgPoolOptions::new().max_connections(1).acquire_timeout(self.config.acquire_timeout);
        let one = one.connect_lazy_with(self.config.options());
        let migrated = migrations.run(&one).await.map_err(migrating);
        one.close().await;
        migrated
    }

    pub(super) async fn compare_schema(&self) -> Result<()> {
        schema_is_current(&versions(&migrations()), &self.applied_migrations().await?)
    }

    pub(super) async fn look_for_missing_migrations(&self) -> Result<()> {
        nothing_is_missing(&versions(&migrations()), &self.applied_migrations().await?)
    }

    async fn applied_migrations(&self) -> Result<Vec<i64>> {
        let mut session = self.session().await?;
        let known = session.fetch_all(sqlx::query("SELECT 1 WHERE to_regclass('_sqlx_migrations') IS NOT NULL")).await.map_err(reading)?;
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let applied = sqlx::query("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version");
        let applied = session.fetch_all(applied).await.map_err(reading)?;
        applied
            .iter()
            .map(|row| sqlx::Row::try_get(row, "version"))
            .collect::<std::result::Result<_, sqlx::Error>>()
            .map_err(|e| reading(e.into()))
    }
}

fn migrations() -> Migrator {
    sqlx::migrate!("migrations/postgres")
}

fn versions(migrations: &Migrator) -> Vec<i64> {
    migrations.iter().map(|m| m.version).collect()
}
