//! Opening the two seams, with patience: a Postgres or an S3 that comes up a little later is waited for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::StartError;
use super::inlined::WithInlined;
use super::rooms::rules;
use crate::clock::Clock;
use crate::config::{Backends, Config, DbSettings, S3Settings};
use crate::materialize::decide_by;
use crate::metastore::postgres::{PostgresConfig, PostgresMetastore, SslMode};
use crate::metastore::sqlite::{SqliteConfig, SqliteMetastore};
use crate::metastore::{MetaError, Metastore};
use crate::store::local::LocalStore;
use crate::store::s3::{S3Config, S3Store, S3Timeouts};
use crate::store::{ObjectStore, StoreError};
use crate::tasks::Tasks;

const PATIENCE: Duration = Duration::from_mins(1);
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// Opens the metastore and waits until it answers, then sees to its schema.
pub(super) async fn open_metastore(config: &Config, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<Arc<dyn Metastore>, StartError> {
    let (metastore, migrate): (Arc<dyn Metastore>, bool) = match &config.backends {
        Backends::Local { data_dir } => {
            let alone = SqliteMetastore::open(SqliteConfig::new(data_dir), clock).await?;
            (Arc::new(alone.deciding_at_once(decide_by(rules(&config.materialize)))), true)
        }
        Backends::Shared { db, .. } => (Arc::new(PostgresMetastore::new(postgres_config(db)?, tasks)), config.run_migrations),
    };
    let what = metastore.describe();
    // A single try can take seconds, in which nobody should have to guess.
    tracing::info!("looking for {what}");
    let see_to_schema = || async {
        metastore.check().await?;
        if migrate { metastore.migrate().await } else { metastore.check_schema().await }
    };
    patiently(&what, see_to_schema, is_worth_waiting).await?;
    Ok(metastore)
}

/// Brings the schema up to date and nothing else.
pub(super) async fn migrate(config: &Config, clock: Arc<dyn Clock>) -> Result<(), StartError> {
    let config = Config { run_migrations: true, ..config.clone() };
    let tasks = Tasks::new();
    let metastore = open_metastore(&config, clock, &tasks).await?;
    tracing::info!(metastore = metastore.describe(), "the schema is up to date");
    metastore.close().await;
    tasks.stop(BETWEEN_TRIES).await;
    Ok(())
}

fn postgres_config(db: &DbSettings) -> Result<PostgresConfig, StartError> {
    let ssl_mode = SslMode::parse(&db.sslmode).map_err(StartError::Failed)?;
    let max_connections = db.max_connections;
    Ok(PostgresConfig { ssl_mode, max_connections, ..PostgresConfig::new(&db.host, db.port, &db.user, &db.password, &db.name) })
}

/// Opens the store and waits until it answers. What `metastore` keeps of it is read through the store, too.
pub(super) async fn open_store(config: &Config, metastore: &Arc<dyn Metastore>) -> Result<Arc<dyn ObjectStore>, StartError> {
    match &config.backends {
        Backends::Local { data_dir } => {
            let files = Arc::new(LocalStore::open(data_dir)?);
            Ok(Arc::new(WithInlined::new(files, Arc::clone(metastore))))
        }
        Backends::Shared { s3, .. } => {
            let store = S3Store::new(s3_config(s3)).await?;
            let unavailable = |error: &StoreError| matches!(error, StoreError::Unavailable(_));
            tracing::info!("looking for {}", store.describe());
            patiently(&store.describe(), || store.ensure_bucket(), unavailable).await?;
            Ok(Arc::new(store))
        }
    }
}

fn s3_config(s3: &S3Settings) -> S3Config {
    S3Config {
        endpoint: (!s3.endpoint.is_empty()).then(|| s3.endpoint.clone()),
        region: s3.region.clone(),
        access_key: s3.access_key.clone(),
        secret_key: s3.secret_key.clone(),
        path_style: s3.path_style,
        bucket: s3.bucket.clone(),
        payload_signing: s3.payload_signing,
        timeouts: S3Timeouts::default(),
    }
}

/// Every question of a start can be asked again, also when nobody knows what became of it.
pub(super) fn is_worth_waiting(error: &MetaError) -> bool {
    matches!(error, MetaError::Unavailable(_) | MetaError::Indeterminate(_))
}

/// Tries for a minute, says so, and goes on the moment it works.
pub(super) async fn patiently<T, E, F, R>(what: &str, mut attempt: F, worth_waiting: impl Fn(&E) -> bool) -> Result<T, E>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    let deadline = Instant::now() + PATIENCE;
    let mut said = false;
    loop {
        let error = match attempt().await {
            Ok(done) => {
                if said {
                    tracing::info!("{what} answers");
                }
                return Ok(done);
            }
            Err(error) => error,
        };
        if !worth_waiting(&error) || Instant::now() >= deadline {
            return Err(error);
        }
        if !said {
            tracing::warn!(%error, "{what} does not answer yet; trying for {PATIENCE:?}");
            said = true;
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_late_backend_is_waited_for_and_a_wrong_one_is_not() {
        let tries = AtomicU32::new(0);
        let late = || async {
            if tries.fetch_add(1, Ordering::Relaxed) < 10 { Err(MetaError::Unavailable("refused".to_owned())) } else { Ok(()) }
        };
        patiently("a database", late, is_worth_waiting).await.expect("it came up");
        let wrong = || async { Err::<(), _>(MetaError::Refused("password".to_owned())) };
        let began = Instant::now();
        patiently("a database", wrong, is_worth_waiting).await.expect_err("no patience");
        assert_eq!(began.elapsed(), Duration::ZERO);
        let down = || async { Err::<(), _>(MetaError::Unavailable("refused".to_owned())) };
        patiently("a database", down, is_worth_waiting).await.expect_err("not for ever");
        assert!(began.elapsed() >= PATIENCE);
    }
}
