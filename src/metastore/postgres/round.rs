//! One round in Postgres: lock, read what is pending and what it touches, decide, store, announce, commit.
//!
//! Round trips: begin and lock, events, heads, producers if there are any, store, commit; three more where batches are parked.

use std::collections::{BTreeSet, HashMap};

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::errors::{Failure, reading};
use super::round_store::{Heads, store};
use super::session::Session;
use super::{PostgresMetastore, rows};
use crate::metastore::round::{INDEX_BYTES, Taken, decode_parked, decode_verdicts, due_in, pending_event, report};
use crate::metastore::{Decide, MetaError, Result, Round, RoundLimits, RoundReport};
use crate::partition::{ParkedBatch, ProducerKey, ProducerState, Snapshot, Touched, touched};
use crate::types::{ObjectId, ProducerEpoch, ProducerId, Timestamp, TopicPartition};

/// A pending event's row, beside what `decide` sees of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventRow {
    pub(super) id: i64,
    pub(super) object: ObjectId,
    pub(super) node: i32,
    pub(super) object_bytes: i64,
    pub(super) created_at: Timestamp,
}

/// What the first look of a round finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) taken: Taken,
    /// Rows of the events taken, and of repeated ones, which are to be removed and nothing else.
    pub(super) rows: Vec<EventRow>,
    pub(super) now: Timestamp,
    /// The earliest deadline of all that is parked.
    pub(super) deadline: Option<Timestamp>,
}

impl PostgresMetastore {
    pub(super) async fn round(&self, limits: RoundLimits, decide: &Decide) -> Result<Round> {
        let mut session = self.session().await?;
        if !session.begin_round().await? {
            session.roll_back().await?;
            return Ok(Round::Busy);
        }
        let found = find(&mut session, limits).await.map_err(reading)?;
        if found.rows.is_empty() && found.deadline.is_none_or(|at| at > found.now) {
            session.roll_back().await?;
            return Ok(Round::Done(RoundReport { next_due: due_in(found.deadline, found.now), ..RoundReport::default() }));
        }
        let snapshot = snapshot(&mut session, &found).await?;
        let before: Heads = snapshot.heads.clone();
        let decisions = decide(snapshot);
        let moved = store(&mut session, &found, &before, &decisions).await.map_err(reading)?;
        if moved != decisions.heads.len() as u64 {
            return Err(MetaError::Unavailable("heads changed in the middle of a round: it is not stored".to_owned()));
        }
        let mut next = None;
        if found.deadline.is_some() || !decisions.park.is_empty() {
            next = next_deadline(&mut session).await.map_err(reading)?;
        }
        session.commit().await?;
        Ok(Round::Done(report(&found.taken, found.now, decisions, next)))
    }
}

/// Pending events, oldest first; one more than the limit is looked at, to know whether there is one.
async fn find(session: &mut Session, limits: RoundLimits) -> std::result::Result<Found, Failure> {
    let pending = sqlx::query(
        "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now, \
         (SELECT min(deadline) FROM parked_batches) AS deadline, \
         e.id, e.object_id, e.node, e.object_bytes, e.body, e.total, e.repeated, \
         floor(extract(epoch FROM e.created_at) * 1000)::bigint AS created_ms \
         FROM (SELECT 1) AS always LEFT JOIN (\
           SELECT w.*, sum(octet_length(w.body)) OVER (ORDER BY w.id) - octet_length(w.body) AS before, \
             row_number() OVER (ORDER BY w.id) AS position, count(*) OVER () AS total, \
             EXISTS (SELECT FROM objects o WHERE o.object_id = w.object_id) \
             OR EXISTS (SELECT FROM set_aside_events s WHERE s.object_id = w.object_id) AS repeated \
           FROM (SELECT * FROM write_events ORDER BY id LIMIT $1 + 1) w) e ON e.before < $2 AND e.position <= $1 \
         ORDER BY e.id",
    );
    let pending = pending.bind(rows::limit(limits.events)).bind(INDEX_BYTES.cast_signed());
    let events = session.fetch_all(pending).await?;
    let mut found = Found::default();
    for row in &events {
        found.now = rows::timestamp(row, "now")?;
        found.deadline = row.try_get::<Option<i64>, _>("deadline")?.map(Timestamp);
        if row.try_get::<Option<i64>, _>("id")?.is_some() {
            found.taken.more = rows::size::<usize>(row, "total")? > events.len();
            take(row, &mut found)?;
        }
    }
    Ok(found)
}

fn take(row: &PgRow, found: &mut Found) -> rows::Decoded<()> {
    let event = EventRow {
        id: row.try_get("id")?,
        object: rows::object(row)?,
        node: row.try_get("node")?,
        object_bytes: row.try_get("object_bytes")?,
        created_at: rows::timestamp(row, "created_ms")?,
    };
    found.rows.push(event);
    if !row.try_get::<bool, _>("repeated")? {
        let oldest = &mut found.taken.oldest;
        *oldest = Some(oldest.map_or(event.created_at, |at| at.min(event.created_at)));
        found.taken.events.push(pending_event(event.object, event.object_bytes.cast_unsigned(), row.try_get("body")?));
    }
    Ok(())
}

async fn next_deadline(session: &mut Session) -> std::result::Result<Option<Timestamp>, Failure> {
    let first = session.fetch_all(sqlx::query("SELECT min(deadline) AS deadline FROM parked_batches")).await?;
    let deadline = first.first().map(|row| row.try_get::<Option<i64>, _>("deadline")).transpose()?;
    Ok(deadline.flatten().map(Timestamp))
}

async fn snapshot(session: &mut Session, found: &Found) -> Result<Snapshot> {
    let mut snapshot = Snapshot { events: found.taken.events.clone(), now: found.now, ..Snapshot::default() };
    if found.deadline.is_some() {
        let logs = touched(&snapshot.events, &[]).logs;
        let rows = load_parked(session, &logs, found.now).await.map_err(reading)?;
        snapshot.parked = rows.iter().map(parked).collect::<Result<_>>()?;
        let verdicts = load_verdicts(session, &snapshot.parked).await.map_err(reading)?;
        snapshot.parked_verdicts = decode_verdicts(verdicts)?;
    }
    let Touched { logs, producers } = touched(&snapshot.events, &snapshot.parked);
    if !logs.is_empty() {
        snapshot.heads = load_heads(session, &logs).await.map_err(reading)?;
    }
    if !producers.is_empty() {
        snapshot.producers = load_producers(session, &producers).await?;
    }
    Ok(snapshot)
}

/// The parked batches of `logs`, and of every log where one is due.
async fn load_parked(session: &mut Session, logs: &BTreeSet<TopicPartition>, now: Timestamp) -> std::result::Result<Vec<PgRow>, Failure> {
    let parked = sqlx::query(
        "SELECT p.object_id, p.run, p.batch, p.deadline, p.body FROM (\
           SELECT l.topic_id, l.partition FROM unnest($1::uuid[], $2::int[]) AS l (topic_id, partition) \
           UNION SELECT topic_id, partition FROM parked_batches WHERE deadline <= $3) l \
         JOIN parked_batches p ON p.topic_id = l.topic_id AND p.partition = l.partition ORDER BY p.id",
    );
    let (topics, partitions) = rows::log_arrays(logs);
    session.fetch_all(parked.bind(topics).bind(partitions).bind(now.0)).await
}

/// The verdicts so far on the objects of `parked`: each once, however many of its batches are parked.
async fn load_verdicts(session: &mut Session, parked: &[ParkedBatch]) -> std::result::Result<Vec<(ObjectId, Vec<u8>)>, Failure> {
    let objects: BTreeSet<ObjectId> = parked.iter().map(|parked| parked.object).collect();
    if objects.is_empty() {
        return Ok(Vec::new());
    }
    let verdicts = sqlx::query("SELECT object_id, verdict FROM objects WHERE object_id = ANY($1)");
    let verdicts = verdicts.bind(objects.iter().map(|object| rows::uuid(object.0)).collect::<Vec<_>>());
    session.fetch_all(verdicts).await?.iter().map(|row| Ok((rows::object(row)?, row.try_get("verdict")?))).collect()
}

fn parked(row: &PgRow) -> Result<ParkedBatch> {
    let unreadable = |e: sqlx::Error| reading(e.into());
    let (run, batch) = (rows::small_size(row, "run").map_err(unreadable)?, rows::small_size(row, "batch").map_err(unreadable)?);
    let deadline = rows::timestamp(row, "deadline").map_err(unreadable)?;
    let body: &[u8] = row.try_get("body").map_err(unreadable)?;
    decode_parked(rows::object(row).map_err(unreadable)?, run, batch, deadline, body)
}

async fn load_heads(session: &mut Session, logs: &BTreeSet<TopicPartition>) -> std::result::Result<Heads, Failure> {
    let heads = sqlx::query(
        "SELECT p.topic_id, p.partition, p.log_start, p.high_watermark, p.last_stable, p.max_timestamp AS head_max_timestamp, p.bytes \
         FROM unnest($1::uuid[], $2::int[]) AS l (topic_id, partition) \
         JOIN partitions p ON p.topic_id = l.topic_id AND p.partition = l.partition",
    );
    let (topics, partitions) = rows::log_arrays(logs);
    let found = session.fetch_all(heads.bind(topics).bind(partitions)).await?;
    found.iter().map(|row| Ok((rows::log(row)?, rows::head(row)?))).collect()
}

async fn load_producers(session: &mut Session, keys: &BTreeSet<ProducerKey>) -> Result<HashMap<ProducerKey, ProducerState>> {
    let states = sqlx::query(
        "SELECT s.topic_id, s.partition, s.producer_id, s.epoch, s.batches, s.last_used \
         FROM unnest($1::uuid[], $2::int[], $3::bigint[]) AS k (topic_id, partition, producer_id) \
         JOIN producer_states s ON s.topic_id = k.topic_id AND s.partition = k.partition AND s.producer_id = k.producer_id",
    );
    let (topics, partitions) = rows::log_arrays(keys.iter().map(|(log, _)| log));
    let states = states.bind(topics).bind(partitions).bind(keys.iter().map(|(_, p)| p.0).collect::<Vec<_>>());
    session.fetch_all(states).await.map_err(reading)?.iter().map(producer_state).collect()
}

pub(super) fn producer_state(row: &PgRow) -> Result<(ProducerKey, ProducerState)> {
    let unreadable = |e: sqlx::Error| reading(e.into());
    let log = rows::log(row).map_err(unreadable)?;
    let producer = ProducerId(row.try_get("producer_id").map_err(unreadable)?);
    let epoch = ProducerEpoch(row.try_get("epoch").map_err(unreadable)?);
    let last_used = rows::timestamp(row, "last_used").map_err(unreadable)?;
    let state = ProducerState::decode(epoch, row.try_get("batches").map_err(unreadable)?, last_used);
    let state = state.ok_or_else(|| MetaError::Corrupt(format!("the state of producer {} in {log}", producer.0)))?;
    Ok(((log, producer), state))
}
