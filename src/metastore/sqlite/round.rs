//! One round in SQLite: read what is pending and what it touches, decide, store.
//!
//! Reading needs no transaction: the round has the only connection that writes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{Row as _, SqliteConnection};

use super::at_once::AtOnce;
use super::errors::{committing, reading};
use super::json::Rows;
use super::round_store::store;
use super::{SqliteMetastore, rows};
use crate::metastore::round::{INDEX_BYTES, Taken, decode_parked, decode_verdicts, due_in, pending_event, report};
use crate::metastore::{Decide, MetaError, Result, Round, RoundLimits, RoundReport};
use crate::partition::{ParkedBatch, ProducerKey, ProducerState, Snapshot, Touched, touched};
use crate::types::{ObjectId, ProducerEpoch, ProducerId, Timestamp, TopicPartition};

type Decoded<T> = std::result::Result<T, sqlx::Error>;

/// Marks that a round runs, until it is dropped.
#[derive(Debug)]
struct Rounding<'a>(&'a AtomicBool);

impl<'a> Rounding<'a> {
    fn begin(flag: &'a AtomicBool) -> Option<Self> {
        flag.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).ok().map(|_| Rounding(flag))
    }
}

impl Drop for Rounding<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl SqliteMetastore {
    pub(super) async fn round(&self, limits: RoundLimits, decide: &Decide) -> Result<Round> {
        let Some(_rounding) = Rounding::begin(&self.rounding) else { return Ok(Round::Busy) };
        if let Some(report) = self.at_once.as_ref().and_then(AtOnce::tell) {
            return Ok(Round::Done(report));
        }
        let mut connection = self.writer().await?;
        let now = self.clock.now();
        let (taken, due) = take(&mut connection, limits).await.map_err(reading)?;
        self.settle(taken.events.is_empty() && due.is_none());
        if taken.events.is_empty() && due.is_none_or(|at| at > now) {
            return Ok(Round::Done(RoundReport { next_due: due_in(due, now), ..RoundReport::default() }));
        }
        let snapshot = snapshot(&mut connection, &taken, due.is_some(), now).await?;
        let decisions = decide(snapshot);
        store(&mut connection, &taken, &decisions, now).await.map_err(committing)?;
        let any_parked = due.is_some() || !decisions.park.is_empty();
        // Stored is stored: that the next deadline cannot be read is no failure of this round. The next one will see it.
        let next = if any_parked { next_deadline(&mut connection).await.unwrap_or(Some(now)) } else { None };
        self.settle(!taken.more && next.is_none());
        Ok(Round::Done(report(&taken, now, decisions, next)))
    }

    /// To be called by the holder of the writing connection.
    pub(super) fn settle(&self, settled: bool) {
        if let Some(at_once) = &self.at_once {
            at_once.set_settled(settled);
        }
    }
}

/// What is pending, and when the first parked batch is due.
async fn take(connection: &mut SqliteConnection, limits: RoundLimits) -> Decoded<(Taken, Option<Timestamp>)> {
    // One more than the limit is looked at, to know whether there is one.
    let pending = sqlx::query(
        "SELECT d.deadline, e.* FROM (SELECT min(deadline) AS deadline FROM parked_batches) d LEFT JOIN \
         (SELECT object_id, object_bytes, body, created_at, total, id FROM \
         (SELECT *, sum(length(body)) OVER (ORDER BY id) - length(body) AS before, row_number() OVER (ORDER BY id) AS position, \
          count(*) OVER () AS total FROM \
         (SELECT object_id, object_bytes, body, created_at, id FROM write_events ORDER BY id LIMIT ?1 + 1)) \
         WHERE before < ?2 AND position <= ?1) e ORDER BY e.id",
    );
    let limit = i64::try_from(limits.events).unwrap_or(i64::MAX - 1);
    let found = pending.bind(limit).bind(INDEX_BYTES.cast_signed()).fetch_all(connection).await?;
    let (mut taken, mut due) = (Taken::default(), None);
    for row in &found {
        due = row.try_get::<Option<i64>, _>("deadline")?.map(Timestamp);
        if row.try_get::<Option<i64>, _>("id")?.is_none() {
            break;
        }
        taken.more = rows::size::<usize>(row, "total")? > found.len();
        let at = rows::timestamp(row, "created_at")?;
        taken.oldest = Some(taken.oldest.map_or(at, |oldest| oldest.min(at)));
        taken.events.push(pending_event(rows::object(row)?, rows::size(row, "object_bytes")?, row.try_get("body")?));
    }
    Ok((taken, due))
}

async fn next_deadline(connection: &mut SqliteConnection) -> Decoded<Option<Timestamp>> {
    let first = sqlx::query("SELECT min(deadline) AS deadline FROM parked_batches").fetch_one(connection).await?;
    Ok(first.try_get::<Option<i64>, _>("deadline")?.map(Timestamp))
}

pub(super) async fn snapshot(connection: &mut SqliteConnection, taken: &Taken, any_parked: bool, now: Timestamp) -> Result<Snapshot> {
    let mut snapshot = Snapshot { events: taken.events.clone(), now, ..Snapshot::default() };
    if any_parked {
        let logs = touched(&taken.events, &[]).logs;
        let (parked, verdicts) = load_parked(connection, &logs, now).await?;
        snapshot.parked_verdicts = decode_verdicts(verdicts)?;
        snapshot.parked = parked;
    }
    let touched = touched(&taken.events, &snapshot.parked);
    load_states(connection, &touched, &mut snapshot).await?;
    Ok(snapshot)
}

type Parked = (Vec<ParkedBatch>, Vec<(ObjectId, Vec<u8>)>);

/// The parked batches of `logs`, and of every log where one is due.
async fn load_parked(connection: &mut SqliteConnection, logs: &BTreeSet<TopicPartition>, now: Timestamp) -> Result<Parked> {
    let parked = sqlx::query(
        "SELECT p.object_id, p.run, p.batch, p.deadline, p.body FROM parked_batches p \
         WHERE (p.topic_id, p.partition) IN (SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?1) \
         UNION SELECT topic_id, partition FROM parked_batches WHERE deadline <= ?2) ORDER BY p.id",
    );
    let found = parked.bind(Rows::of_logs(logs)).bind(now.0).fetch_all(&mut *connection).await.map_err(reading)?;
    let mut parked = Vec::with_capacity(found.len());
    for row in &found {
        let object = rows::object(row).map_err(reading)?;
        let (run, batch) = (rows::size(row, "run").map_err(reading)?, rows::size(row, "batch").map_err(reading)?);
        let deadline = rows::timestamp(row, "deadline").map_err(reading)?;
        parked.push(decode_parked(object, run, batch, deadline, row.try_get("body").map_err(reading)?)?);
    }
    let verdicts = load_verdicts(connection, &parked).await.map_err(reading)?;
    Ok((parked, verdicts))
}

/// The verdicts so far on the objects of `parked`: each once, however many of its batches are parked.
async fn load_verdicts(connection: &mut SqliteConnection, parked: &[ParkedBatch]) -> Decoded<Vec<(ObjectId, Vec<u8>)>> {
    let objects: BTreeSet<[u8; 16]> = parked.iter().map(|parked| parked.object.0).collect();
    if objects.is_empty() {
        return Ok(Vec::new());
    }
    let verdicts = sqlx::query("SELECT object_id, verdict FROM objects WHERE object_id IN (SELECT unhex(value ->> 0) FROM json_each(?1))");
    let found = verdicts.bind(Rows::of_ids(objects.iter())).fetch_all(connection).await?;
    found.iter().map(|row| Ok((rows::object(row)?, row.try_get("verdict")?))).collect()
}

/// Heads and producer states of what a round touches, in one call.
async fn load_states(connection: &mut SqliteConnection, touched: &Touched, snapshot: &mut Snapshot) -> Result<()> {
    // Parameters have names, as numbered ones would count anew in each statement.
    let states = sqlx::query(
        "SELECT NULL AS producer_id, p.topic_id, p.partition, p.log_start, p.high_watermark, p.last_stable, \
           p.max_timestamp AS head_max_timestamp, p.bytes \
         FROM json_each($1) j CROSS JOIN partitions p ON p.topic_id = unhex(j.value ->> 0) AND p.partition = j.value ->> 1; \
         SELECT s.* FROM json_each($2) j CROSS JOIN producer_states s \
         ON s.topic_id = unhex(j.value ->> 0) AND s.partition = j.value ->> 1 AND s.producer_id = j.value ->> 2",
    );
    let mut wanted = Rows::new();
    for (log, producer) in &touched.producers {
        wanted.row().log(log).int(producer.0);
    }
    let found = states.bind(Rows::of_logs(&touched.logs)).bind(wanted.finish()).fetch_all(connection).await.map_err(reading)?;
    for row in &found {
        if row.try_get::<Option<i64>, _>("producer_id").map_err(reading)?.is_some() {
            let (key, state) = producer_state(row)?;
            snapshot.producers.insert(key, state);
        } else {
            snapshot.heads.insert(rows::log(row).map_err(reading)?, rows::head(row).map_err(reading)?);
        }
    }
    Ok(())
}

pub(super) fn producer_state(row: &sqlx::sqlite::SqliteRow) -> Result<(ProducerKey, ProducerState)> {
    let log = rows::log(row).map_err(reading)?;
    let producer = ProducerId(row.try_get("producer_id").map_err(reading)?);
    let epoch = ProducerEpoch(row.try_get("epoch").map_err(reading)?);
    let last_used = rows::timestamp(row, "last_used").map_err(reading)?;
    let state = ProducerState::decode(epoch, row.try_get("batches").map_err(reading)?, last_used);
    let state = state.ok_or_else(|| MetaError::Corrupt(format!("the state of producer {} in {log}", producer.0)))?;
    Ok(((log, producer), state))
}
