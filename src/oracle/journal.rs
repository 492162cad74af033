//! The oracle's book: every record stands here before it is sent, every outcome as soon as it is known.
//!
//! One `SQLite` file for each run, written by one task. Many producers note at the same time; what waits is written in
//! one transaction, so that the book costs one commit for many records. The file outlives a crash of the oracle (WAL,
//! without an fsync per commit): an attempt without an outcome then counts as unknown.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{Connection, QueryBuilder, Row, Sqlite, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::history::{Attempt, Content, Fingerprint, Outcome, Promise, RecordId};
use crate::types::{Offset, PartitionIndex, Timestamp, TopicName};

/// Messages that may wait for the writer.
const QUEUE: usize = 1024;
/// Messages written in one transaction.
const GROUP: usize = 1024;
/// Rows of one INSERT: nine values each, and `SQLite` takes 32,766.
const ROWS: usize = 500;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS run (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
    producer INTEGER NOT NULL, sequence INTEGER NOT NULL, promise TEXT NOT NULL,
    topic TEXT NOT NULL, partition INTEGER,
    key INTEGER NOT NULL, value INTEGER NOT NULL, headers INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    PRIMARY KEY (producer, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outcomes (
    producer INTEGER NOT NULL, sequence INTEGER NOT NULL, outcome TEXT NOT NULL,
    partition INTEGER, log_offset INTEGER, error TEXT,
    PRIMARY KEY (producer, sequence)) WITHOUT ROWID;";

/// Why the book could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal: {0}")]
    Sqlite(#[from] sqlx::Error),
    #[error("the journal's writer has ended")]
    Closed,
    #[error("the journal holds {0:?}, which is not one of its words")]
    Unreadable(String),
}

/// What became of one record, with the client's words where it was no success.
#[derive(Clone, Debug)]
pub struct Settled {
    pub id: RecordId,
    pub outcome: Outcome,
    pub error: Option<String>,
}

enum Note {
    /// Answered when the attempts are written.
    Attempts(Vec<Attempt>, oneshot::Sender<()>),
    Settled(Settled),
}

/// A handle on the writer; clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    notes: mpsc::Sender<Note>,
}

/// The writing task; ends when every [`Journal`] is dropped.
#[derive(Debug)]
pub struct Writer {
    task: JoinHandle<Result<SqliteConnection, JournalError>>,
}

/// Opens the book `file`, notes what `run` is (names and values), and starts its writer.
///
/// # Errors
/// The file cannot be made or written.
pub async fn open(file: &Path, run: &[(&str, String)]) -> Result<(Journal, Writer), JournalError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
    for (name, value) in run {
        sqlx::query("INSERT INTO run (name, value) VALUES (?, ?)").bind(*name).bind(value).execute(&mut connection).await?;
    }
    let (notes, inbox) = mpsc::channel(QUEUE);
    Ok((Journal { notes }, Writer { task: tokio::spawn(write_all(connection, inbox)) }))
}

impl Journal {
    /// Returns when all of `attempts` are in the file.
    ///
    /// # Errors
    /// [`JournalError::Closed`]: the writer failed; [`Writer::finish`] says why.
    pub async fn attempts(&self, attempts: Vec<Attempt>) -> Result<(), JournalError> {
        let (written, is_written) = oneshot::channel();
        self.notes.send(Note::Attempts(attempts, written)).await.map_err(|_| JournalError::Closed)?;
        is_written.await.map_err(|_| JournalError::Closed)
    }

    /// Notes an outcome; it is in the file at the latest when the writer has finished.
    ///
    /// # Errors
    /// [`JournalError::Closed`]: the writer failed; [`Writer::finish`] says why.
    pub async fn settled(&self, settled: Settled) -> Result<(), JournalError> {
        self.notes.send(Note::Settled(settled)).await.map_err(|_| JournalError::Closed)
    }
}

impl Writer {
    /// Waits until everything is written, and reads the book back. Every [`Journal`] must have been dropped.
    ///
    /// # Errors
    /// Why the writer failed, or what cannot be read.
    pub async fn finish(self) -> Result<Vec<Attempt>, JournalError> {
        let mut connection = self.task.await.map_err(|_| JournalError::Closed)??;
        read_attempts(&mut connection).await
    }
}

async fn write_all(mut connection: SqliteConnection, mut inbox: mpsc::Receiver<Note>) -> Result<SqliteConnection, JournalError> {
    let mut group = Vec::with_capacity(GROUP);
    while inbox.recv_many(&mut group, GROUP).await > 0 {
        let mut attempts = Vec::new();
        let mut settled = Vec::new();
        let mut waiting = Vec::new();
        for note in group.drain(..) {
            match note {
                Note::Attempts(some, written) => {
                    attempts.extend(some);
                    waiting.push(written);
                }
                Note::Settled(one) => settled.push(one),
            }
        }
        let mut transaction = connection.begin().await?;
        insert_attempts(&mut transaction, &attempts).await?;
        insert_outcomes(&mut transaction, &settled).await?;
        transaction.commit().await?;
        for written in waiting {
            // A producer that no longer waits has given up; its attempts stay without an outcome.
            let _: Result<(), ()> = written.send(());
        }
    }
    Ok(connection)
}

async fn insert_attempts(connection: &mut SqliteConnection, attempts: &[Attempt]) -> Result<(), JournalError> {
    for some in attempts.chunks(ROWS) {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new("INSERT INTO attempts (producer, sequence, promise, topic, partition, key, value, headers, timestamp) ");
        query.push_values(some, |mut row, a| {
            row.push_bind(i64::from(a.id.producer)).push_bind(a.id.sequence.cast_signed());
            row.push_bind(promise_word(a.promise)).push_bind(a.topic.as_str().to_owned()).push_bind(a.partition.map(|p| p.0));
            for fingerprint in [a.content.key, a.content.value, a.content.headers] {
                row.push_bind(fingerprint.0.cast_signed());
            }
            row.push_bind(a.content.timestamp.0);
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn insert_outcomes(connection: &mut SqliteConnection, settled: &[Settled]) -> Result<(), JournalError> {
    for some in settled.chunks(ROWS) {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new("INSERT INTO outcomes (producer, sequence, outcome, partition, log_offset, error) ");
        query.push_values(some, |mut row, s| {
            let (word, partition, offset) = outcome_words(s.outcome);
            row.push_bind(i64::from(s.id.producer)).push_bind(s.id.sequence.cast_signed());
            row.push_bind(word).push_bind(partition).push_bind(offset).push_bind(s.error.clone());
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

fn promise_word(promise: Promise) -> &'static str {
    match promise {
        Promise::Idempotent => "idempotent",
        Promise::Sequential => "sequential",
        Promise::Pipelined => "pipelined",
    }
}

fn outcome_words(outcome: Outcome) -> (&'static str, Option<i32>, Option<i64>) {
    match outcome {
        Outcome::Acked { partition, offset } => ("acked", Some(partition.0), offset.map(|o| o.0)),
        Outcome::Unknown => ("unknown", None, None),
        Outcome::Failed => ("failed", None, None),
    }
}

async fn read_attempts(connection: &mut SqliteConnection) -> Result<Vec<Attempt>, JournalError> {
    let rows = sqlx::query(
        "SELECT a.producer, a.sequence, a.promise, a.topic, a.partition, a.key, a.value, a.headers, a.timestamp,
                o.outcome, o.partition, o.log_offset
         FROM attempts a LEFT JOIN outcomes o ON o.producer = a.producer AND o.sequence = a.sequence
         ORDER BY a.producer, a.sequence",
    );
    rows.fetch_all(connection).await?.iter().map(read_attempt).collect()
}

fn read_attempt(row: &SqliteRow) -> Result<Attempt, JournalError> {
    let fingerprint = |i: usize| row.try_get::<i64, _>(i).map(|n| Fingerprint(n.cast_unsigned()));
    let topic: String = row.try_get(3)?;
    let producer: i64 = row.try_get(0)?;
    Ok(Attempt {
        id: RecordId {
            producer: u32::try_from(producer).map_err(|_| JournalError::Unreadable(producer.to_string()))?,
            sequence: row.try_get::<i64, _>(1)?.cast_unsigned(),
        },
        promise: read_promise(row.try_get(2)?)?,
        topic: TopicName::parse(&topic).map_err(|_| JournalError::Unreadable(topic.clone()))?,
        partition: row.try_get::<Option<i32>, _>(4)?.map(PartitionIndex),
        content: Content { key: fingerprint(5)?, value: fingerprint(6)?, headers: fingerprint(7)?, timestamp: Timestamp(row.try_get(8)?) },
        outcome: read_outcome(row.try_get(9)?, row.try_get(10)?, row.try_get(11)?)?,
    })
}

fn read_promise(word: &str) -> Result<Promise, JournalError> {
    let all = [Promise::Idempotent, Promise::Sequential, Promise::Pipelined];
    all.into_iter().find(|p| promise_word(*p) == word).ok_or_else(|| JournalError::Unreadable(word.to_owned()))
}

fn read_outcome(word: Option<&str>, partition: Option<i32>, offset: Option<i64>) -> Result<Outcome, JournalError> {
    match (word, partition) {
        (Some("acked"), Some(partition)) => Ok(Outcome::Acked { partition: PartitionIndex(partition), offset: offset.map(Offset) }),
        (Some("failed"), None) => Ok(Outcome::Failed),
        // Without an outcome: the oracle ended before it was told.
        (None | Some("unknown"), None) => Ok(Outcome::Unknown),
        (word, _) => Err(JournalError::Unreadable(word.unwrap_or_default().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(sequence: u64, outcome: Outcome) -> Attempt {
        Attempt {
            id: RecordId { producer: (sequence % 3) as u32, sequence },
            promise: [Promise::Idempotent, Promise::Sequential, Promise::Pipelined][sequence as usize % 3],
            topic: TopicName::parse("t").unwrap(),
            partition: (!sequence.is_multiple_of(2)).then_some(PartitionIndex(4)),
            content: Content {
                key: Fingerprint(u64::MAX - sequence),
                value: Fingerprint(sequence),
                headers: Fingerprint(7),
                timestamp: Timestamp(1_700_000_000_000),
            },
            outcome,
        }
    }

    fn outcome(sequence: u64) -> Outcome {
        let offset = (sequence % 8 > 3).then_some(Offset(sequence as i64));
        let acked = Outcome::Acked { partition: PartitionIndex(4), offset };
        [acked, Outcome::Unknown, Outcome::Failed, acked][sequence as usize % 4]
    }

    fn file(directory: &tempfile::TempDir) -> std::path::PathBuf {
        directory.path().join("journal.sqlite")
    }

    #[tokio::test]
    async fn what_is_noted_is_read_back_and_the_unsettled_are_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, writer) = open(&file(&directory), &[("seed", "1".to_owned())]).await.unwrap();
        let mut expected: Vec<Attempt> = (0..1200).map(|s| attempt(s, outcome(s))).collect();
        journal.attempts(expected.clone()).await.unwrap();
        for attempt in &expected[..1100] {
            journal.settled(Settled { id: attempt.id, outcome: attempt.outcome, error: None }).await.unwrap();
        }
        drop(journal);
        for unsettled in &mut expected[1100..] {
            unsettled.outcome = Outcome::Unknown;
        }
        expected.sort_by_key(|a| a.id);
        assert_eq!(writer.finish().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn attempts_are_in_the_file_before_the_answer() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _writer) = open(&file(&directory), &[]).await.unwrap();
        journal.attempts(vec![attempt(5, Outcome::Unknown)]).await.unwrap();
        // A second connection sees them although the writer still has the file open.
        let options = SqliteConnectOptions::new().filename(file(&directory));
        let mut other = SqliteConnection::connect_with(&options).await.unwrap();
        assert_eq!(read_attempts(&mut other).await.unwrap(), vec![attempt(5, Outcome::Unknown)]);
    }

    #[tokio::test]
    async fn a_record_that_is_noted_twice_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, writer) = open(&file(&directory), &[]).await.unwrap();
        journal.attempts(vec![attempt(5, Outcome::Unknown)]).await.unwrap();
        assert!(journal.attempts(vec![attempt(5, Outcome::Unknown)]).await.is_err());
        assert!(matches!(writer.finish().await, Err(JournalError::Sqlite(_))));
    }
}
