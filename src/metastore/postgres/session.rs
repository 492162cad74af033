//! One connection in use: statements with a limit in time, and transactions that cannot leak.
//!
//! A caller may drop its future at any moment, and a server may never answer again. In both cases the connection is in a state nobody
//! knows, perhaps with a transaction open that holds a lock. Such a connection is closed: the server then rolls back.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Database, Postgres};

use super::errors::{Failure, committing, reading};
use crate::metastore::Result;

/// How much longer than the server we wait for a statement: the time it takes on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(3);

type Statement<'q> = Query<'q, Postgres, PgArguments>;
type Done<T> = std::result::Result<T, Failure>;

#[derive(Debug)]
pub(super) struct Session {
    connection: PoolConnection<Postgres>,
    patience: Duration,
    /// A statement was sent and its answer not read to the end.
    in_statement: bool,
    in_transaction: bool,
}

impl Session {
    pub(super) fn new(connection: PoolConnection<Postgres>, statement_timeout: Duration) -> Self {
        Session { connection, patience: statement_timeout + ON_ITS_WAY, in_statement: false, in_transaction: false }
    }

    pub(super) async fn fetch_all(&mut self, statement: Statement<'_>) -> Done<Vec<PgRow>> {
        self.in_statement = true;
        let outcome = tokio::time::timeout(self.patience, statement.fetch_all(&mut *self.connection)).await;
        self.answered(outcome)
    }

    /// The rows affected.
    pub(super) async fn execute(&mut self, statement: Statement<'_>) -> Done<u64> {
        self.in_statement = true;
        let outcome = tokio::time::timeout(self.patience, statement.execute(&mut *self.connection)).await;
        self.answered(outcome).map(|done: <Postgres as Database>::QueryResult| done.rows_affected())
    }

    /// Several statements without parameters in one round trip.
    async fn script(&mut self, statements: &'static str) -> Done<Vec<PgRow>> {
        self.in_statement = true;
        let outcome = tokio::time::timeout(self.patience, sqlx::raw_sql(statements).fetch_all(&mut *self.connection)).await;
        self.answered(outcome)
    }

    fn answered<T>(&mut self, outcome: std::result::Result<std::result::Result<T, sqlx::Error>, tokio::time::error::Elapsed>) -> Done<T> {
        match outcome {
            Ok(Ok(value)) => {
                self.in_statement = false;
                Ok(value)
            }
            Ok(Err(sqlx::Error::Database(error))) => {
                self.in_statement = false;
                Err(Failure::Driver(sqlx::Error::Database(error)))
            }
            Ok(Err(error)) => Err(Failure::Driver(error)),
            Err(_) => Err(Failure::TimedOut(self.patience)),
        }
    }

    /// Begins a transaction and tries for the materializer's lock; false if another has it.
    pub(super) async fn begin_round(&mut self) -> Result<bool> {
        self.in_transaction = true;
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT only_row FROM materializer FOR UPDATE SKIP LOCKED";
        Ok(!self.script(begin).await.map_err(reading)?.is_empty())
    }

    /// Begins a transaction and waits for the materializer's lock.
    pub(super) async fn begin_between_rounds(&mut self) -> Result<()> {
        self.in_transaction = true;
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT only_row FROM materializer FOR UPDATE";
        self.script(begin).await.map(drop).map_err(reading)
    }

    /// Begins a transaction and waits until nobody else is taking a node id.
    pub(super) async fn begin_leasing(&mut self) -> Result<()> {
        self.in_transaction = true;
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT only_row FROM lease_turns FOR UPDATE";
        self.script(begin).await.map(drop).map_err(reading)
    }

    /// Ends the transaction; only here can it be unknown whether it happened.
    pub(super) async fn commit(mut self) -> Result<()> {
        self.script("COMMIT").await.map_err(committing)?;
        self.in_transaction = false;
        Ok(())
    }

    pub(super) async fn roll_back(mut self) -> Result<()> {
        self.script("ROLLBACK").await.map_err(reading)?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.in_statement || self.in_transaction {
            self.connection.close_on_drop();
        }
    }
}
