//! Storing what a round decided: one statement, and so one transaction and one call. Each call to SQLite crosses to its thread and back, which costs
//! more than most of what it does.

use sqlx::{Connection as _, SqliteConnection};

use super::json::Rows;
use super::one_segment::OneSegment;
use crate::metastore::WriteEvent;
use crate::metastore::round::{Taken, encode_parked};
use crate::partition::Decisions;
use crate::types::Timestamp;

type Done = Result<(), sqlx::Error>;

/// What the writing connection is told when it opens: a row inserted into `round` is a round stored. Each column is a JSON array of rows, which may be
/// empty, but for `inlined`: the bytes of small new objects one after the other, which the rows of `verdicts` cut. It is temporary because it is code: the
/// file holds data only.
///
/// New objects come from their pending events, or with their verdict if they never were pending; those with batches that had been parked are there
/// already. A log's start is not a round's to change.
pub(super) const PREPARE: &str = "\
    CREATE TEMP VIEW round (verdicts, events, segments, heads, producers, unparked, parked, inlined) AS SELECT 0, 0, 0, 0, 0, 0, 0, 0; \
    CREATE TEMP TRIGGER store_round INSTEAD OF INSERT ON round BEGIN \
    UPDATE objects SET verdict = unhex(j.value ->> 1) FROM json_each(NEW.verdicts) j WHERE object_id = unhex(j.value ->> 0); \
    INSERT INTO objects (object_id, node, bytes, created_at, decided_at, verdict, inlined) \
        SELECT e.object_id, e.node, e.object_bytes, e.created_at, j.value ->> 2, unhex(j.value ->> 1), e.inlined \
        FROM json_each(NEW.verdicts) j CROSS JOIN write_events e ON e.object_id = unhex(j.value ->> 0); \
    INSERT INTO objects (object_id, verdict, decided_at, node, bytes, created_at, inlined) \
        SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 2, \
        substr(NEW.inlined, 1 + (value ->> 5), value ->> 6) FROM json_each(NEW.verdicts) WHERE value ->> 3 IS NOT NULL; \
    DELETE FROM write_events WHERE object_id IN (SELECT unhex(value ->> 0) FROM json_each(NEW.events)); \
    INSERT INTO segments (topic_id, partition, last_offset, base_offset, object_id, byte_start, byte_len, record_count, \
        max_timestamp, max_timestamp_so_far, level) \
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, value ->> 6, value ->> 7, \
        value ->> 8, value ->> 9, value ->> 10 FROM json_each(NEW.segments); \
    UPDATE partitions SET high_watermark = j.value ->> 2, last_stable = j.value ->> 3, max_timestamp = j.value ->> 4, \
        bytes = j.value ->> 5 FROM json_each(NEW.heads) j WHERE topic_id = unhex(j.value ->> 0) AND partition = j.value ->> 1; \
    INSERT INTO producer_states (topic_id, partition, producer_id, epoch, batches, last_used) \
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5 FROM json_each(NEW.producers) WHERE true \
        ON CONFLICT (topic_id, partition, producer_id) DO UPDATE SET epoch = excluded.epoch, batches = excluded.batches, \
        last_used = excluded.last_used; \
    DELETE FROM parked_batches WHERE (object_id, run, batch) IN \
        (SELECT unhex(value ->> 0), value ->> 1, value ->> 2 FROM json_each(NEW.unparked)); \
    INSERT INTO parked_batches (object_id, run, batch, topic_id, partition, deadline, body) \
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2, unhex(value ->> 3), value ->> 4, value ->> 5, unhex(value ->> 6) \
        FROM json_each(NEW.parked) ORDER BY key; \
    END";

/// Stores a round. After an error it is unknown whether that happened.
pub(super) async fn store(connection: &mut SqliteConnection, taken: &Taken, decisions: &Decisions, now: Timestamp) -> Done {
    if decisions.set_aside.is_empty() {
        return store_decided(connection, taken, &[], decisions, now).await;
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    set_aside(&mut transaction, decisions).await?;
    store_decided(&mut transaction, taken, &[], decisions, now).await?;
    transaction.commit().await
}

/// Stores what was decided of events that are not pending: all of `decisions`, or nothing if one of their objects is known already.
pub(super) async fn store_fresh(connection: &mut SqliteConnection, events: &[WriteEvent], decisions: &Decisions, now: Timestamp) -> Done {
    match OneSegment::of(events, decisions) {
        Some(one) => one.store(connection, now).await,
        None => store_decided(connection, &Taken::default(), events, decisions, now).await,
    }
}

async fn store_decided(
    connection: &mut SqliteConnection,
    taken: &Taken,
    fresh: &[WriteEvent],
    decisions: &Decisions,
    now: Timestamp,
) -> Done {
    let store = sqlx::query("INSERT INTO round VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    let (verdicts, inlined) = verdicts(decisions, fresh, now);
    let store = store.bind(verdicts).bind(Rows::of_ids(taken.events.iter().map(|e| &e.object.0)));
    let store = store.bind(segments(decisions)).bind(heads(decisions)).bind(producers(decisions));
    store.bind(unparked(decisions)).bind(parked(decisions)).bind(inlined).execute(connection).await?;
    Ok(())
}

async fn set_aside(connection: &mut SqliteConnection, decisions: &Decisions) -> Done {
    for (object, reason) in &decisions.set_aside {
        let aside = sqlx::query(
            "INSERT INTO set_aside_events (object_id, node, object_bytes, body, created_at, inlined, reason) \
             SELECT object_id, node, object_bytes, body, created_at, inlined, ?2 FROM write_events WHERE object_id = ?1",
        );
        aside.bind(object.0.as_slice()).bind(reason).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The rows, and the bytes of the small ones among `fresh`.
fn verdicts(decisions: &Decisions, fresh: &[WriteEvent], now: Timestamp) -> (String, Vec<u8>) {
    let (mut rows, mut inlined) = (Rows::new(), Vec::new());
    for (object, verdict) in &decisions.verdicts {
        let row = rows.row().blob(&object.0).blob(&verdict.encode()).int(now.0);
        if let Some(event) = fresh.iter().find(|event| event.object == *object) {
            let row = row.int(event.node.0).int(event.object_bytes.cast_signed());
            if let Some(body) = &event.inlined {
                row.int(inlined.len() as i64).int(body.len() as i64);
                inlined.extend_from_slice(body);
            }
        }
    }
    (rows.finish(), inlined)
}

fn segments(decisions: &Decisions) -> String {
    let mut segments: Vec<_> = decisions.segments.iter().collect();
    // In the order of the key, neighbours go to the same page.
    segments.sort_by_key(|s| (s.log, s.last_offset));
    let mut rows = Rows::new();
    for s in segments {
        let row = rows.row().log(&s.log).int(s.last_offset.0).int(s.base_offset.0).blob(&s.object.0);
        let row = row.int(s.range.start.cast_signed()).int(s.range.len.cast_signed()).int(s.record_count);
        row.int(s.max_timestamp.0).int(s.max_timestamp_so_far.0).int(s.level);
    }
    rows.finish()
}

fn heads(decisions: &Decisions) -> String {
    let mut rows = Rows::new();
    for (log, head) in &decisions.heads {
        let row = rows.row().log(log).int(head.high_watermark.0).int(head.last_stable.0);
        row.int(head.max_timestamp.0).int(head.bytes.cast_signed());
    }
    rows.finish()
}

fn producers(decisions: &Decisions) -> String {
    let mut rows = Rows::new();
    for ((log, producer), state) in &decisions.producers {
        rows.row().log(log).int(producer.0).int(state.epoch.0).blob(&state.encode_batches()).int(state.last_used.0);
    }
    rows.finish()
}

fn unparked(decisions: &Decisions) -> String {
    let mut rows = Rows::new();
    for (object, run, batch) in &decisions.unpark {
        rows.row().blob(&object.0).int(*run).int(*batch);
    }
    rows.finish()
}

fn parked(decisions: &Decisions) -> String {
    let mut rows = Rows::new();
    for parked in &decisions.park {
        let row = rows.row().blob(&parked.object.0).int(parked.run).int(parked.batch);
        row.log(&parked.log).int(parked.deadline.0).blob(&encode_parked(parked));
    }
    rows.finish()
}
