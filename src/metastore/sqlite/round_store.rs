//! Storing what a round decided: one statement a table.

use sqlx::{Sqlite, Transaction};

use super::json::Rows;
use crate::metastore::round::{Taken, encode_parked};
use crate::partition::Decisions;
use crate::types::Timestamp;

type Tx<'a> = Transaction<'a, Sqlite>;
type Done = Result<(), sqlx::Error>;

pub(super) async fn store(transaction: &mut Tx<'_>, taken: &Taken, decisions: &Decisions, now: Timestamp) -> Done {
    store_verdicts(transaction, decisions, now).await?;
    set_aside(transaction, decisions).await?;
    remove_events(transaction, taken).await?;
    store_segments(transaction, decisions).await?;
    store_heads(transaction, decisions).await?;
    store_producers(transaction, decisions).await?;
    unpark(transaction, decisions).await?;
    park(transaction, decisions).await
}

/// Runs `statement` with `rows`, unless there are none.
async fn execute(transaction: &mut Tx<'_>, statement: &'static str, rows: String) -> Done {
    if rows != "[]" {
        sqlx::query(statement).bind(rows).execute(&mut **transaction).await?;
    }
    Ok(())
}

/// New objects come from their pending events; those with batches that had been parked are there already.
async fn store_verdicts(transaction: &mut Tx<'_>, decisions: &Decisions, now: Timestamp) -> Done {
    let mut rows = Rows::new();
    for (object, verdict) in &decisions.verdicts {
        rows.row().blob(&object.0).blob(&verdict.encode()).int(now.0);
    }
    let rows = rows.finish();
    let settled = "UPDATE objects SET verdict = unhex(j.value ->> 1) FROM json_each(?1) j WHERE object_id = unhex(j.value ->> 0)";
    execute(transaction, settled, rows.clone()).await?;
    let decided = "INSERT INTO objects (object_id, node, bytes, created_at, decided_at, verdict) \
         SELECT e.object_id, e.node, e.object_bytes, e.created_at, j.value ->> 2, unhex(j.value ->> 1) \
         FROM json_each(?1) j CROSS JOIN write_events e ON e.object_id = unhex(j.value ->> 0)";
    execute(transaction, decided, rows).await
}

async fn set_aside(transaction: &mut Tx<'_>, decisions: &Decisions) -> Done {
    for (object, reason) in &decisions.set_aside {
        let aside = sqlx::query(
            "INSERT INTO set_aside_events (object_id, node, object_bytes, body, created_at, reason) \
             SELECT object_id, node, object_bytes, body, created_at, ?2 FROM write_events WHERE object_id = ?1",
        );
        aside.bind(object.0.as_slice()).bind(reason).execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn remove_events(transaction: &mut Tx<'_>, taken: &Taken) -> Done {
    let removed = "DELETE FROM write_events WHERE object_id IN (SELECT unhex(value ->> 0) FROM json_each(?1))";
    execute(transaction, removed, Rows::of_ids(taken.events.iter().map(|e| &e.object.0))).await
}

async fn store_segments(transaction: &mut Tx<'_>, decisions: &Decisions) -> Done {
    let mut segments: Vec<_> = decisions.segments.iter().collect();
    // In the order of the key, neighbours go to the same page.
    segments.sort_by_key(|s| (s.log, s.last_offset));
    let mut rows = Rows::new();
    for s in segments {
        let row = rows.row().log(&s.log).int(s.last_offset.0).int(s.base_offset.0).blob(&s.object.0);
        let row = row.int(s.range.start.cast_signed()).int(s.range.len.cast_signed()).int(s.record_count);
        row.int(s.max_timestamp.0).int(s.max_timestamp_so_far.0).int(s.level);
    }
    let insert = "INSERT INTO segments (topic_id, partition, last_offset, base_offset, object_id, byte_start, byte_len, record_count, \
         max_timestamp, max_timestamp_so_far, level) \
         SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, value ->> 6, value ->> 7, \
         value ->> 8, value ->> 9, value ->> 10 FROM json_each(?1)";
    execute(transaction, insert, rows.finish()).await
}

/// The log's start is not a round's to change.
async fn store_heads(transaction: &mut Tx<'_>, decisions: &Decisions) -> Done {
    let mut rows = Rows::new();
    for (log, head) in &decisions.heads {
        let row = rows.row().log(log).int(head.high_watermark.0).int(head.last_stable.0);
        row.int(head.max_timestamp.0).int(head.bytes.cast_signed());
    }
    let update = "UPDATE partitions SET high_watermark = j.value ->> 2, last_stable = j.value ->> 3, max_timestamp = j.value ->> 4, \
         bytes = j.value ->> 5 FROM json_each(?1) j WHERE topic_id = unhex(j.value ->> 0) AND partition = j.value ->> 1";
    execute(transaction, update, rows.finish()).await
}

async fn store_producers(transaction: &mut Tx<'_>, decisions: &Decisions) -> Done {
    let mut rows = Rows::new();
    for ((log, producer), state) in &decisions.producers {
        rows.row().log(log).int(producer.0).int(state.epoch.0).blob(&state.encode_batches()).int(state.last_used.0);
    }
    let upsert = "INSERT INTO producer_states (topic_id, partition, producer_id, epoch, batches, last_used) \
         SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5 FROM json_each(?1) WHERE true \
         ON CONFLICT (topic_id, partition, producer_id) DO UPDATE SET epoch = excluded.epoch, batches = excluded.batches, \
         last_used = excluded.last_used";
    execute(transaction, upsert, rows.finish()).await
}

async fn unpark(transaction: &mut Tx<'_>, decisions: &Decisions) -> Done {
    let mut rows = Rows::new();
    for (object, run, batch) in &decisions.unpark {
        rows.row().blob(&object.0).int(*run).int(*batch);
    }
    let delete = "DELETE FROM parked_batches WHERE (object_id, run, batch) IN \
         (SELECT unhex(value ->> 0), value ->> 1, value ->> 2 FROM json_each(?1))";
    execute(transaction, delete, rows.finish()).await
}

async fn park(transaction: &mut Tx<'_>, decisions: &Decisions) -> Done {
    let mut rows = Rows::new();
    for parked in &decisions.park {
        let row = rows.row().blob(&parked.object.0).int(parked.run).int(parked.batch);
        row.log(&parked.log).int(parked.deadline.0).blob(&encode_parked(parked));
    }
    let insert = "INSERT INTO parked_batches (object_id, run, batch, topic_id, partition, deadline, body) \
         SELECT unhex(value ->> 0), value ->> 1, value ->> 2, unhex(value ->> 3), value ->> 4, value ->> 5, unhex(value ->> 6) \
         FROM json_each(?1) ORDER BY key";
    execute(transaction, insert, rows.finish()).await
}
