//! Storing what a round decided: one statement for what every round does, one more for each thing that is rare.

use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use super::changes::{CHANNEL, encode};
use super::errors::Failure;
use super::round::{EventRow, Found};
use super::rows;
use super::session::Session;
use crate::metastore::round::encode_parked;
use crate::partition::{Decisions, ObjectVerdict};
use crate::types::{Head, ObjectId, Segment, TopicPartition};

/// Heads by log.
pub(super) type Heads = HashMap<TopicPartition, Head>;

type Statement<'q> = Query<'q, Postgres, PgArguments>;
type Done<T> = Result<T, Failure>;

/// Returns how many heads moved.
pub(super) async fn store(session: &mut Session, found: &Found, before: &Heads, decisions: &Decisions) -> Done<u64> {
    if !decisions.set_aside.is_empty() {
        set_aside(session, decisions).await?;
    }
    // Of a repeated event only the row goes: its object is there, and may be settled in this very round.
    let new: HashSet<ObjectId> = found.taken.events.iter().map(|event| event.object).collect();
    let events: HashMap<ObjectId, &EventRow> =
        found.rows.iter().filter(|row| new.contains(&row.object)).map(|row| (row.object, row)).collect();
    let (decided, settled): (Vec<_>, Vec<_>) = decisions.verdicts.iter().partition(|(object, _)| events.contains_key(object));
    if !settled.is_empty() {
        settle(session, &settled).await?;
    }
    if !decisions.unpark.is_empty() {
        unpark(session, decisions).await?;
    }
    if !decisions.park.is_empty() {
        park(session, decisions).await?;
    }
    let decided = decided.into_iter().filter_map(|(object, verdict)| Some((*events.get(object)?, verdict))).collect();
    store_round(session, found, before, decisions, decided).await
}

/// The log's start is not a round's to change; a head that is not the one the round read is left alone, and the round fails.
async fn store_round(
    session: &mut Session,
    found: &Found,
    before: &Heads,
    decisions: &Decisions,
    decided: Vec<(&EventRow, &ObjectVerdict)>,
) -> Done<u64> {
    let store = sqlx::query(
        "WITH taken AS (DELETE FROM write_events WHERE id = ANY($1)), \
         decided AS (\
           INSERT INTO objects (object_id, node, bytes, created_at, verdict) \
           SELECT o.object_id, o.node, o.bytes, to_timestamp(o.created_ms / 1000.0), o.verdict \
           FROM unnest($2::uuid[], $3::int[], $4::bigint[], $5::bigint[], $6::bytea[]) \
             AS o (object_id, node, bytes, created_ms, verdict)), \
         placed AS (\
           INSERT INTO segments (topic_id, partition, last_offset, base_offset, object_id, byte_start, byte_len, record_count, \
             max_timestamp, max_timestamp_so_far, level) \
           SELECT * FROM unnest($7::uuid[], $8::int[], $9::bigint[], $10::bigint[], $11::uuid[], $12::bigint[], $13::bigint[], \
             $14::int[], $15::bigint[], $16::bigint[], $17::smallint[])), \
         moved AS (\
           UPDATE partitions p SET high_watermark = h.high_watermark, last_stable = h.last_stable, max_timestamp = h.max_timestamp, \
             bytes = h.bytes \
           FROM unnest($18::uuid[], $19::int[], $20::bigint[], $21::bigint[], $22::bigint[], $23::bigint[], $24::bigint[]) \
             AS h (topic_id, partition, high_watermark, last_stable, max_timestamp, bytes, before) \
           WHERE p.topic_id = h.topic_id AND p.partition = h.partition AND p.high_watermark = h.before RETURNING 1), \
         remembered AS (\
           INSERT INTO producer_states (topic_id, partition, producer_id, epoch, batches, last_used) \
           SELECT * FROM unnest($25::uuid[], $26::int[], $27::bigint[], $28::smallint[], $29::bytea[], $30::bigint[]) \
           ON CONFLICT (topic_id, partition, producer_id) DO UPDATE SET epoch = excluded.epoch, batches = excluded.batches, \
             last_used = excluded.last_used) \
         SELECT (SELECT count(*) FROM moved) AS moved, pg_notify($31, $32)",
    );
    let store = store.bind(found.rows.iter().map(|row| row.id).collect::<Vec<_>>());
    let store = bind_objects(store, &decided);
    let store = bind_segments(store, &decisions.segments);
    let store = bind_heads(store, before, decisions);
    let store = bind_producers(store, decisions);
    let stored = session.fetch_all(store.bind(CHANNEL).bind(encode(&decisions.heads))).await?;
    Ok(stored.first().map(|row| rows::size(row, "moved")).transpose()?.unwrap_or(0))
}

fn bind_objects<'q>(store: Statement<'q>, decided: &[(&EventRow, &ObjectVerdict)]) -> Statement<'q> {
    let store = store.bind(decided.iter().map(|(row, _)| rows::uuid(row.object.0)).collect::<Vec<_>>());
    let store = store.bind(decided.iter().map(|(row, _)| row.node).collect::<Vec<_>>());
    let store = store.bind(decided.iter().map(|(row, _)| row.object_bytes).collect::<Vec<_>>());
    let store = store.bind(decided.iter().map(|(row, _)| row.created_at.0).collect::<Vec<_>>());
    store.bind(decided.iter().map(|(_, verdict)| verdict.encode()).collect::<Vec<_>>())
}

/// In the order of the key, in which neighbours go to the same page of its index.
fn bind_segments<'q>(store: Statement<'q>, segments: &[Segment]) -> Statement<'q> {
    let mut segments: Vec<&Segment> = segments.iter().collect();
    segments.sort_unstable_by_key(|s| (s.log, s.last_offset));
    let (topics, partitions) = rows::log_arrays(segments.iter().map(|s| &s.log));
    let store = store.bind(topics).bind(partitions);
    let store = store.bind(segments.iter().map(|s| s.last_offset.0).collect::<Vec<_>>());
    let store = store.bind(segments.iter().map(|s| s.base_offset.0).collect::<Vec<_>>());
    let store = store.bind(segments.iter().map(|s| rows::uuid(s.object.0)).collect::<Vec<_>>());
    let store = store.bind(segments.iter().map(|s| s.range.start.cast_signed()).collect::<Vec<_>>());
    let store = store.bind(segments.iter().map(|s| s.range.len.cast_signed()).collect::<Vec<_>>());
    let store = store.bind(segments.iter().map(|s| s.record_count.cast_signed()).collect::<Vec<_>>());
    let store = store.bind(segments.iter().map(|s| s.max_timestamp.0).collect::<Vec<_>>());
    let store = store.bind(segments.iter().map(|s| s.max_timestamp_so_far.0).collect::<Vec<_>>());
    store.bind(segments.iter().map(|s| i16::from(s.level)).collect::<Vec<_>>())
}

fn bind_heads<'q>(store: Statement<'q>, before: &Heads, decisions: &Decisions) -> Statement<'q> {
    let heads = &decisions.heads;
    let (topics, partitions) = rows::log_arrays(heads.keys());
    let store = store.bind(topics).bind(partitions);
    let store = store.bind(heads.values().map(|h| h.high_watermark.0).collect::<Vec<_>>());
    let store = store.bind(heads.values().map(|h| h.last_stable.0).collect::<Vec<_>>());
    let store = store.bind(heads.values().map(|h| h.max_timestamp.0).collect::<Vec<_>>());
    let store = store.bind(heads.values().map(|h| h.bytes.cast_signed()).collect::<Vec<_>>());
    store.bind(heads.keys().map(|log| before.get(log).map(|h| h.high_watermark.0)).collect::<Vec<_>>())
}

fn bind_producers<'q>(store: Statement<'q>, decisions: &Decisions) -> Statement<'q> {
    let producers = &decisions.producers;
    let (topics, partitions) = rows::log_arrays(producers.iter().map(|((log, _), _)| log));
    let store = store.bind(topics).bind(partitions);
    let store = store.bind(producers.iter().map(|((_, id), _)| id.0).collect::<Vec<_>>());
    let store = store.bind(producers.iter().map(|(_, state)| state.epoch.0).collect::<Vec<_>>());
    let store = store.bind(producers.iter().map(|(_, state)| state.encode_batches()).collect::<Vec<_>>());
    store.bind(producers.iter().map(|(_, state)| state.last_used.0).collect::<Vec<_>>())
}

async fn set_aside(session: &mut Session, decisions: &Decisions) -> Done<()> {
    let aside = sqlx::query(
        "INSERT INTO set_aside_events (object_id, node, object_bytes, body, created_at, reason) \
         SELECT e.object_id, e.node, e.object_bytes, e.body, e.created_at, a.reason \
         FROM unnest($1::uuid[], $2::text[]) AS a (object_id, reason) JOIN write_events e ON e.object_id = a.object_id",
    );
    let aside = aside.bind(decisions.set_aside.iter().map(|(object, _)| rows::uuid(object.0)).collect::<Vec<_>>());
    let aside = aside.bind(decisions.set_aside.iter().map(|(_, reason)| reason.as_str()).collect::<Vec<_>>());
    session.execute(aside).await.map(drop)
}

/// New verdicts on objects that are there already, because batches of theirs had been parked.
async fn settle(session: &mut Session, settled: &[&(ObjectId, ObjectVerdict)]) -> Done<()> {
    let settle = sqlx::query(
        "UPDATE objects o SET verdict = v.verdict FROM unnest($1::uuid[], $2::bytea[]) AS v (object_id, verdict) \
         WHERE o.object_id = v.object_id",
    );
    let settle = settle.bind(settled.iter().map(|(object, _)| rows::uuid(object.0)).collect::<Vec<_>>());
    let settle = settle.bind(settled.iter().map(|(_, verdict)| verdict.encode()).collect::<Vec<_>>());
    session.execute(settle).await.map(drop)
}

async fn unpark(session: &mut Session, decisions: &Decisions) -> Done<()> {
    let delete = sqlx::query(
        "DELETE FROM parked_batches p USING unnest($1::uuid[], $2::int[], $3::int[]) AS u (object_id, run, batch) \
         WHERE p.object_id = u.object_id AND p.run = u.run AND p.batch = u.batch",
    );
    let unparked: BTreeSet<_> = decisions.unpark.iter().collect();
    let delete = delete.bind(unparked.iter().map(|(object, _, _)| rows::uuid(object.0)).collect::<Vec<_>>());
    let delete = delete.bind(unparked.iter().map(|(_, run, _)| run.cast_signed()).collect::<Vec<_>>());
    let delete = delete.bind(unparked.iter().map(|(_, _, batch)| batch.cast_signed()).collect::<Vec<_>>());
    session.execute(delete).await.map(drop)
}

async fn park(session: &mut Session, decisions: &Decisions) -> Done<()> {
    let insert = sqlx::query(
        "INSERT INTO parked_batches (object_id, run, batch, topic_id, partition, deadline, body) \
         SELECT p.object_id, p.run, p.batch, p.topic_id, p.partition, p.deadline, p.body \
         FROM unnest($1::uuid[], $2::int[], $3::int[], $4::uuid[], $5::int[], $6::bigint[], $7::bytea[]) WITH ORDINALITY \
           AS p (object_id, run, batch, topic_id, partition, deadline, body, position) ORDER BY p.position",
    );
    let park = &decisions.park;
    let (topics, partitions) = rows::log_arrays(park.iter().map(|p| &p.log));
    let insert = insert.bind(park.iter().map(|p| rows::uuid(p.object.0)).collect::<Vec<_>>());
    let insert = insert.bind(park.iter().map(|p| p.run.cast_signed()).collect::<Vec<_>>());
    let insert = insert.bind(park.iter().map(|p| p.batch.cast_signed()).collect::<Vec<_>>());
    let insert = insert.bind(topics).bind(partitions).bind(park.iter().map(|p| p.deadline.0).collect::<Vec<_>>());
    let insert = insert.bind(park.iter().map(|p| encode_parked(p).to_vec()).collect::<Vec<_>>());
    session.execute(insert).await.map(drop)
}
