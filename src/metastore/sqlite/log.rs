//! Write events, segments and heads in SQLite. Rounds are in `round`.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Row as _, Sqlite, SqliteConnection};

use super::connect::{begin, commit};
use super::errors::{committing, reading};
use super::json::Rows;
use super::{SqliteMetastore, inlined, rows};
use crate::metastore::leases::id_was_taken;
use crate::metastore::round::decode_verdict;
use crate::metastore::{Decide, Log, LogView, PendingEvents, Result, Round, RoundLimits, SegmentQuery, WriteEvent};
use crate::partition::ObjectVerdict;
use crate::types::{Head, NodeId, ObjectId, ProducerId, Segment, Timestamp, TopicPartition};

/// Two probes a query: one for the last row wanted, one to read up to it. An OFFSET cannot differ between queries, so the largest one serves all;
/// [`views`] cuts.
const FIND_SEGMENTS: &str = "\
     SELECT j.key, p.log_start, p.high_watermark, p.last_stable, p.max_timestamp AS head_max_timestamp, p.bytes, s.* \
     FROM json_each(?1) j CROSS JOIN partitions p ON p.topic_id = unhex(j.value ->> 0) AND p.partition = j.value ->> 1 \
     LEFT JOIN segments s ON s.topic_id = p.topic_id AND s.partition = p.partition AND s.last_offset >= j.value ->> 2 \
     AND s.last_offset <= coalesce((SELECT l.last_offset FROM segments l WHERE l.topic_id = p.topic_id \
     AND l.partition = p.partition AND l.last_offset >= j.value ->> 2 ORDER BY l.last_offset LIMIT 1 \
     OFFSET ?2), 9223372036854775807) ORDER BY j.key, s.last_offset";

fn insert(event: &WriteEvent, now: Timestamp) -> Query<'_, Sqlite, SqliteArguments> {
    let insert = sqlx::query(
        "INSERT INTO write_events (object_id, node, object_bytes, body, created_at, inlined) SELECT ?1, ?2, ?3, ?4, ?5, ?6 \
         WHERE NOT EXISTS (SELECT 1 FROM objects WHERE object_id = ?1) \
         AND NOT EXISTS (SELECT 1 FROM set_aside_events WHERE object_id = ?1) ON CONFLICT (object_id) DO NOTHING",
    );
    let insert = insert.bind(event.object.0.as_slice()).bind(event.node.0).bind(event.object_bytes.cast_signed());
    insert.bind(&*event.index).bind(now.0).bind(event.inlined.as_deref())
}

/// The first of the events' node ids whose lease another instance holds.
async fn taken_id(connection: &mut SqliteConnection, events: &[WriteEvent], writer: [u8; 16], now: Timestamp) -> Result<Option<NodeId>> {
    let find = sqlx::query("SELECT node FROM agents WHERE instance <> ?1 AND expires_at > ?2").bind(writer.to_vec()).bind(now.0);
    let others = find.fetch_all(connection).await.map_err(reading)?;
    let others: BTreeSet<i32> = others.iter().map(|row| row.try_get("node")).collect::<sqlx::Result<_>>().map_err(reading)?;
    Ok(events.iter().map(|event| event.node).find(|node| others.contains(&node.0)))
}

#[async_trait]
impl Log for SqliteMetastore {
    async fn append(&self, events: &[WriteEvent], writer: [u8; 16]) -> Result<()> {
        let mut connection = self.writer_for_append().await?;
        let now = self.clock.now();
        if let Some(at_once) = &self.at_once
            // Then one process has the log for itself: nobody else can have its id.
            && at_once.append(&mut connection, events, now).await?
        {
            return Ok(());
        }
        // Who holds the writing connection is alone: no lease is given between this and the insert.
        if let Some(node) = taken_id(&mut connection, events, writer, now).await? {
            return Err(id_was_taken(node));
        }
        self.settle(false);
        let mut transaction = begin(&mut connection).await?;
        for event in events {
            insert(event, now).execute(&mut *transaction).await.map_err(reading)?;
        }
        commit(transaction).await
    }

    fn inline_max(&self) -> u64 {
        inlined::MAX
    }

    async fn find_events(&self, objects: &[ObjectId]) -> Result<Vec<ObjectId>> {
        let find = sqlx::query(
            "SELECT unhex(value ->> 0) AS object_id FROM json_each(?1) WHERE \
             EXISTS (SELECT 1 FROM write_events WHERE object_id = unhex(value ->> 0)) \
             OR EXISTS (SELECT 1 FROM objects WHERE object_id = unhex(value ->> 0)) \
             OR EXISTS (SELECT 1 FROM set_aside_events WHERE object_id = unhex(value ->> 0)) ORDER BY key",
        );
        let found = find.bind(Rows::of_ids(objects.iter().map(|o| &o.0))).fetch_all(self.readers()).await;
        found.and_then(|found| found.iter().map(rows::object).collect()).map_err(reading)
    }

    async fn verdicts(&self, objects: &[ObjectId]) -> Result<Vec<(ObjectId, ObjectVerdict)>> {
        let find = sqlx::query(
            "SELECT o.object_id, o.verdict FROM json_each(?1) j CROSS JOIN objects o ON o.object_id = unhex(j.value ->> 0) ORDER BY j.key",
        );
        let found = find.bind(Rows::of_ids(objects.iter().map(|o| &o.0))).fetch_all(self.readers()).await.map_err(reading)?;
        found.iter().map(verdict).collect()
    }

    async fn run_round(&self, limits: RoundLimits, decide: &Decide) -> Result<Round> {
        self.round(limits, decide).await
    }

    async fn pending_events(&self) -> Result<PendingEvents> {
        let count = sqlx::query(
            "SELECT count(*) AS events, coalesce(min(created_at), -1) AS oldest, \
             (SELECT count(*) FROM set_aside_events) AS set_aside FROM write_events",
        );
        let now = self.clock.now();
        count.fetch_one(self.readers()).await.and_then(|row| pending(&row, now)).map_err(reading)
    }

    async fn heads(&self, logs: &[TopicPartition]) -> Result<Vec<Option<Head>>> {
        let find = sqlx::query(
            "SELECT j.key, p.log_start, p.high_watermark, p.last_stable, p.max_timestamp AS head_max_timestamp, p.bytes \
             FROM json_each(?1) j CROSS JOIN partitions p ON p.topic_id = unhex(j.value ->> 0) AND p.partition = j.value ->> 1",
        );
        let mut heads = vec![None; logs.len()];
        for row in find.bind(Rows::of_logs(logs)).fetch_all(self.readers()).await.map_err(reading)? {
            if let Some(head) = heads.get_mut(rows::size::<usize>(&row, "key").map_err(reading)?) {
                *head = Some(rows::head(&row).map_err(reading)?);
            }
        }
        Ok(heads)
    }

    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<Option<LogView>>> {
        let mut asked = Rows::new();
        for query in queries {
            asked.row().log(&query.log).int(query.from.0);
        }
        let most = queries.iter().map(|q| q.max_segments).max().unwrap_or(0);
        let last = i64::try_from(most.saturating_sub(1)).unwrap_or(i64::MAX);
        let found = sqlx::query(FIND_SEGMENTS).bind(asked.finish()).bind(last).fetch_all(self.readers()).await.map_err(reading)?;
        views(queries, &found).map_err(reading)
    }

    async fn first_segment_since(&self, log: TopicPartition, at: Timestamp) -> Result<Option<Segment>> {
        // `max_timestamp_so_far` never falls, so the offsets between `low` and `high` can be halved until they meet.
        let find = sqlx::query(
            "WITH RECURSIVE halving (low, high) AS (\
               SELECT log_start, high_watermark FROM partitions WHERE topic_id = ?1 AND partition = ?2 \
               UNION ALL \
               SELECT CASE WHEN m.max_timestamp_so_far < ?3 THEN m.last_offset + 1 ELSE h.low END, \
                      CASE WHEN m.max_timestamp_so_far < ?3 THEN h.high ELSE min(h.low + (h.high - h.low) / 2, coalesce(m.base_offset, h.high)) END \
               FROM halving h LEFT JOIN segments m ON m.topic_id = ?1 AND m.partition = ?2 AND m.last_offset = \
                 (SELECT last_offset FROM segments WHERE topic_id = ?1 AND partition = ?2 \
                  AND last_offset >= h.low + (h.high - h.low) / 2 ORDER BY last_offset LIMIT 1) \
               WHERE h.low < h.high) \
             SELECT * FROM segments WHERE topic_id = ?1 AND partition = ?2 AND max_timestamp_so_far >= ?3 \
             AND last_offset >= (SELECT low FROM halving WHERE low >= high LIMIT 1) ORDER BY last_offset LIMIT 1",
        );
        let find = find.bind(log.topic.0.as_slice()).bind(log.partition.0).bind(at.0);
        let found = find.fetch_optional(self.readers()).await.map_err(reading)?;
        found.map(|row| rows::segment(&row, log)).transpose().map_err(reading)
    }

    async fn expire_producers(&self, idle: Duration, limit: usize) -> Result<bool> {
        let before = self.clock.now().0.saturating_sub(i64::try_from(idle.as_millis()).unwrap_or(i64::MAX));
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        let expire = sqlx::query(
            "DELETE FROM producer_states WHERE (topic_id, partition, producer_id) IN \
             (SELECT topic_id, partition, producer_id FROM producer_states WHERE last_used <= ?1 LIMIT ?2)",
        );
        let expire = expire.bind(before).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        expire.execute(&mut *transaction).await.map_err(reading)?;
        let left = sqlx::query("SELECT 1 FROM producer_states WHERE last_used <= ?1 LIMIT 1").bind(before);
        let left = left.fetch_optional(&mut *transaction).await.map_err(reading)?;
        commit(transaction).await?;
        Ok(left.is_some())
    }

    async fn reserve_producer_ids(&self, count: u32) -> Result<ProducerId> {
        let reserve = sqlx::query("UPDATE producer_ids SET next = next + ?1 RETURNING next - ?1 AS first");
        let row = reserve.bind(count).fetch_one(&mut *self.writer().await?).await.map_err(committing)?;
        row.try_get("first").map(ProducerId).map_err(reading)
    }
}

fn pending(row: &SqliteRow, now: Timestamp) -> std::result::Result<PendingEvents, sqlx::Error> {
    let count = rows::size(row, "events")?;
    let age = now.0.saturating_sub(rows::timestamp(row, "oldest")?.0);
    let oldest = (count > 0).then(|| Duration::from_millis(u64::try_from(age).unwrap_or(0)));
    Ok(PendingEvents { count, oldest, set_aside: rows::size(row, "set_aside")? })
}

fn verdict(row: &SqliteRow) -> Result<(ObjectId, ObjectVerdict)> {
    let object = rows::object(row).map_err(reading)?;
    Ok((object, decode_verdict(object, row.try_get("verdict").map_err(reading)?)?))
}

/// Sorts the rows of all queries into views, each cut at its budget.
fn views(queries: &[SegmentQuery], found: &[SqliteRow]) -> std::result::Result<Vec<Option<LogView>>, sqlx::Error> {
    let mut views: HashMap<usize, (LogView, u64)> = HashMap::new();
    for row in found {
        let key: usize = rows::size(row, "key")?;
        let Some(query) = queries.get(key) else { continue };
        if let std::collections::hash_map::Entry::Vacant(view) = views.entry(key) {
            view.insert((LogView { head: rows::head(row)?, segments: Vec::new() }, 0));
        }
        let Some((view, bytes)) = views.get_mut(&key) else { continue };
        let wanted = view.segments.is_empty() || *bytes < query.max_bytes;
        let there = row.try_get::<Option<i64>, _>("last_offset")?.is_some();
        if there && wanted && view.segments.len() < query.max_segments {
            let segment = rows::segment(row, query.log)?;
            *bytes += segment.range.len;
            view.segments.push(segment);
        }
    }
    Ok((0..queries.len()).map(|key| views.remove(&key).map(|(view, _)| view)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::metastore::Metastore as _;
    use crate::metastore::sqlite::SqliteConfig;

    /// A look-up that reads a table from end to end costs more the longer its log is.
    #[tokio::test]
    async fn a_look_up_uses_indexes_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let opened = SqliteMetastore::open(SqliteConfig::new(directory.path()), std::sync::Arc::new(SystemClock)).await;
        let metastore = opened.expect("opened");
        metastore.migrate().await.expect("migrated");
        let explain = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {FIND_SEGMENTS}"))).bind("[]").bind(0);
        let steps = explain.fetch_all(metastore.readers()).await.expect("a plan");
        let steps: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
        let scans: Vec<&String> = steps.iter().filter(|step| step.starts_with("SCAN") && !step.starts_with("SCAN j VIRTUAL")).collect();
        assert!(scans.is_empty() && steps.iter().filter(|step| step.starts_with("SEARCH")).count() == 3, "{steps:#?}");
    }
}
