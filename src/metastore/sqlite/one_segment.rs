//! Storing an object with a single segment: what most appends are when a broker has little to do, and what then costs most per record.
//!
//! The same rows as the general way ([`super::round_store`]) stores, but each value is a parameter of its own: nothing to write as JSON, to read as JSON,
//! and to do for tables that do not change.

use sqlx::SqliteConnection;

use crate::metastore::WriteEvent;
use crate::partition::{Decisions, ObjectVerdict, ProducerKey, ProducerState};
use crate::types::{Head, Segment, Timestamp};

/// What the writing connection is told when it opens: a row inserted into `one_segment` is an object stored. Temporary for the reason of
/// [`super::round_store::PREPARE`]. `producer_id` and `inlined` may be NULL: then there is no producer to remember, and the object has a file of its own.
pub(super) const PREPARE: &str = "\
    CREATE TEMP VIEW one_segment (object_id, verdict, now, node, bytes, topic_id, partition, last_offset, base_offset, byte_start, byte_len, \
        record_count, max_timestamp, max_timestamp_so_far, level, high_watermark, last_stable, log_max_timestamp, log_bytes, \
        producer_id, epoch, batches, last_used, inlined) \
        AS SELECT 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0; \
    CREATE TEMP TRIGGER store_one_segment INSTEAD OF INSERT ON one_segment BEGIN \
    INSERT INTO objects (object_id, verdict, decided_at, node, bytes, created_at, inlined) \
        VALUES (NEW.object_id, NEW.verdict, NEW.now, NEW.node, NEW.bytes, NEW.now, NEW.inlined); \
    INSERT INTO segments (topic_id, partition, last_offset, base_offset, object_id, byte_start, byte_len, record_count, \
        max_timestamp, max_timestamp_so_far, level) \
        VALUES (NEW.topic_id, NEW.partition, NEW.last_offset, NEW.base_offset, NEW.object_id, NEW.byte_start, NEW.byte_len, NEW.record_count, \
        NEW.max_timestamp, NEW.max_timestamp_so_far, NEW.level); \
    UPDATE partitions SET high_watermark = NEW.high_watermark, last_stable = NEW.last_stable, max_timestamp = NEW.log_max_timestamp, \
        bytes = NEW.log_bytes WHERE topic_id = NEW.topic_id AND partition = NEW.partition; \
    INSERT INTO producer_states (topic_id, partition, producer_id, epoch, batches, last_used) \
        SELECT NEW.topic_id, NEW.partition, NEW.producer_id, NEW.epoch, NEW.batches, NEW.last_used WHERE NEW.producer_id IS NOT NULL \
        ON CONFLICT (topic_id, partition, producer_id) DO UPDATE SET epoch = excluded.epoch, batches = excluded.batches, \
        last_used = excluded.last_used; \
    END";

/// An event that became one segment, and all that was decided of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneSegment<'a> {
    event: &'a WriteEvent,
    verdict: &'a ObjectVerdict,
    segment: &'a Segment,
    head: &'a Head,
    producer: Option<&'a (ProducerKey, ProducerState)>,
}

impl<'a> OneSegment<'a> {
    /// `events`, none of which is pending, and what was decided of them; `None` if that is more than one segment, or not one.
    pub(super) fn of(events: &'a [WriteEvent], decisions: &'a Decisions) -> Option<OneSegment<'a>> {
        let Decisions { segments, heads, producers, verdicts, park, unpark, set_aside } = decisions;
        let ([event], [segment], [(_, verdict)]) = (events, segments.as_slice(), verdicts.as_slice()) else { return None };
        let nothing_else = heads.len() == 1 && producers.len() <= 1 && park.is_empty() && unpark.is_empty() && set_aside.is_empty();
        let head = heads.get(&segment.log).filter(|_| nothing_else)?;
        Some(OneSegment { event, verdict, segment, head, producer: producers.first() })
    }

    /// Stores it. After an error it is unknown whether that happened.
    pub(super) async fn store(self, connection: &mut SqliteConnection, now: Timestamp) -> Result<(), sqlx::Error> {
        let OneSegment { event, verdict, segment, head, producer } = self;
        let store = sqlx::query(
            "INSERT INTO one_segment VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
             ?20, ?21, ?22, ?23, ?24)",
        );
        let store = store
            .bind(event.object.0.as_slice())
            .bind(verdict.encode())
            .bind(now.0)
            .bind(event.node.0)
            .bind(event.object_bytes.cast_signed());
        let store = store.bind(segment.log.topic.0.as_slice()).bind(segment.log.partition.0).bind(segment.last_offset.0);
        let store = store.bind(segment.base_offset.0).bind(segment.range.start.cast_signed()).bind(segment.range.len.cast_signed());
        let store = store.bind(segment.record_count).bind(segment.max_timestamp.0).bind(segment.max_timestamp_so_far.0).bind(segment.level);
        let store = store.bind(head.high_watermark.0).bind(head.last_stable.0).bind(head.max_timestamp.0).bind(head.bytes.cast_signed());
        let (key, state) = (producer.map(|(key, _)| key), producer.map(|(_, state)| state));
        let store = store.bind(key.map(|(_, producer)| producer.0)).bind(state.map(|state| state.epoch.0));
        let store = store.bind(state.map(ProducerState::encode_batches)).bind(state.map(|state| state.last_used.0));
        store.bind(event.inlined.as_deref()).execute(connection).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use sqlx::{Column as _, Row as _, ValueRef as _};

    use crate::metastore::contract::scene::{ManualClock, append, event, plain, round, rules, single, stamped, timed, topic};
    use crate::metastore::sqlite::{SqliteConfig, SqliteMetastore};
    use crate::metastore::{Metastore, WriteEvent};
    use crate::types::TopicPartition;

    const TABLES: [&str; 6] = ["objects", "write_events", "segments", "partitions", "producer_states", "parked_batches"];

    /// All rows of all tables that a round may change.
    async fn dump(metastore: &SqliteMetastore) -> Vec<String> {
        let mut dump = Vec::new();
        for table in TABLES {
            let rows =
                sqlx::query(sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(metastore.readers()).await.expect(table);
            for row in rows {
                let value = |column: usize| {
                    if row.try_get_raw(column).expect("a column").is_null() {
                        return "NULL".to_owned();
                    }
                    let number = |_| format!("{:?}", row.try_get::<i64, _>(column));
                    row.try_get::<Vec<u8>, _>(column).map_or_else(number, |bytes| format!("{bytes:?}"))
                };
                let columns = row.columns().iter().map(|column| format!("{}={}", column.name(), value(column.ordinal())));
                dump.push(format!("{table}: {}", columns.collect::<Vec<_>>().join(" ")));
            }
        }
        dump
    }

    /// Appends them one after the other, each decided at once or by a round of its own; and what is in the file then.
    async fn stored(events: &dyn Fn(TopicPartition, TopicPartition) -> Vec<WriteEvent>, at_once: bool) -> Vec<String> {
        let directory = tempfile::tempdir().expect("a directory");
        let opened = SqliteMetastore::open(SqliteConfig::new(directory.path()), Arc::new(ManualClock::default())).await.expect("opened");
        let sqlite = Arc::new(if at_once { opened.deciding_at_once(rules()) } else { opened });
        let metastore: Arc<dyn Metastore> = Arc::clone(&sqlite) as _;
        metastore.migrate().await.expect("migrated");
        let topic = topic(&metastore, 1, 2).await;
        round(&metastore).await;
        for event in events(TopicPartition::new(topic, 0), TopicPartition::new(topic, 1)) {
            append(&metastore, &[event]).await;
            let pending = metastore.pending_events().await.expect("counted").count;
            assert_eq!(pending, u64::from(!at_once));
            round(&metastore).await;
        }
        dump(&sqlite).await
    }

    #[tokio::test]
    async fn what_is_stored_is_what_a_round_would_store() {
        let events = |a: TopicPartition, b: TopicPartition| {
            let inlined = |event: WriteEvent, body: &'static [u8]| WriteEvent { inlined: Some(Bytes::from_static(body)), ..event };
            vec![
                single(1, a, plain(2)),
                inlined(single(2, a, timed(3, 77)), b"a body"),
                inlined(single(3, b, stamped(7, 0, 2)), b""),
                single(4, b, stamped(7, 2, 1)),
                // Accepted before.
                single(5, b, stamped(7, 2, 1)),
                // More than one segment.
                inlined(event(6, [(a, vec![stamped(7, 0, 1), plain(1)]), (b, vec![stamped(8, 0, 1)])]), b"of two"),
                single(7, a, stamped(7, 1, 4)),
            ]
        };
        let (at_once, by_rounds) = (stored(&events, true).await, stored(&events, false).await);
        assert!(at_once.iter().filter(|row| row.starts_with("segments")).count() >= 6, "{at_once:#?}");
        assert_eq!(at_once, by_rounds);
    }
}
