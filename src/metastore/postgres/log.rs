//! Write events, segments and heads in Postgres. Rounds are in `round`.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::errors::{Failure, committing, reading};
use super::session::Session;
use super::{PostgresMetastore, rows};
use crate::metastore::leases::id_was_taken;
use crate::metastore::round::decode_verdict;
use crate::metastore::{Decide, Log, LogView, MetaError, PendingEvents, Result, Round, RoundLimits, SegmentQuery, WriteEvent};
use crate::partition::ObjectVerdict;
use crate::types::{Head, ObjectId, ProducerId, Segment, Timestamp, TopicPartition};

#[async_trait]
impl Log for PostgresMetastore {
    async fn append(&self, events: &[WriteEvent], writer: [u8; 16]) -> Result<()> {
        // One statement, no explicit transaction: an event costs one round trip. Two appends of one object at the same time can both get past
        // the look into `objects`, if a round comes in between; the round that takes the second drops it.
        let insert = sqlx::query(
            "INSERT INTO write_events (object_id, node, object_bytes, body) \
             SELECT e.object_id, e.node, e.object_bytes, e.body \
             FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bytea[]) WITH ORDINALITY AS e (object_id, node, object_bytes, body, position) \
             WHERE NOT EXISTS (SELECT FROM objects o WHERE o.object_id = e.object_id) \
             AND NOT EXISTS (SELECT FROM set_aside_events s WHERE s.object_id = e.object_id) \
             AND NOT EXISTS (SELECT FROM agents a WHERE a.node = ANY($2) AND a.instance <> $5 AND a.expires_at > statement_timestamp()) \
             ORDER BY e.position ON CONFLICT (object_id) DO NOTHING",
        );
        let insert = insert.bind(events.iter().map(|e| rows::uuid(e.object.0)).collect::<Vec<_>>());
        let insert = insert.bind(events.iter().map(|e| e.node.0).collect::<Vec<_>>());
        let insert = insert.bind(events.iter().map(|e| e.object_bytes.cast_signed()).collect::<Vec<_>>());
        let insert = insert.bind(events.iter().map(|e| &*e.index).collect::<Vec<&[u8]>>()).bind(rows::uuid(writer));
        if self.session().await?.execute(insert).await.map_err(committing)? == events.len() as u64 {
            return Ok(());
        }
        // Those that were not inserted were there already, or the id is another's.
        let objects: Vec<ObjectId> = events.iter().map(|e| e.object).collect();
        let found = self.find_events(&objects).await.map_err(|error| MetaError::Indeterminate(error.to_string()))?;
        match events.iter().find(|event| !found.contains(&event.object)) {
            Some(event) => Err(id_was_taken(event.node)),
            None => Ok(()),
        }
    }

    async fn find_events(&self, objects: &[ObjectId]) -> Result<Vec<ObjectId>> {
        let find = sqlx::query(
            "SELECT object_id FROM write_events WHERE object_id = ANY($1) UNION SELECT object_id FROM objects WHERE object_id = ANY($1) \
             UNION SELECT object_id FROM set_aside_events WHERE object_id = ANY($1)",
        );
        let found = self.session().await?.fetch_all(find.bind(rows::object_array(objects))).await;
        found.and_then(|rows| rows.iter().map(|row| Ok(rows::object(row)?)).collect()).map_err(reading)
    }

    async fn verdicts(&self, objects: &[ObjectId]) -> Result<Vec<(ObjectId, ObjectVerdict)>> {
        let find = sqlx::query("SELECT object_id, verdict FROM objects WHERE object_id = ANY($1)").bind(rows::object_array(objects));
        self.session().await?.fetch_all(find).await.map_err(reading)?.iter().map(verdict).collect()
    }

    async fn run_round(&self, limits: RoundLimits, decide: &Decide) -> Result<Round> {
        self.round(limits, decide).await
    }

    async fn pending_events(&self) -> Result<PendingEvents> {
        let count = sqlx::query(
            "SELECT count(*) AS events, \
             greatest(extract(epoch FROM clock_timestamp() - min(created_at)) * 1000, 0)::bigint AS oldest_ms, \
             (SELECT count(*) FROM set_aside_events) AS set_aside FROM write_events",
        );
        let found = self.session().await?.fetch_all(count).await;
        found.and_then(|found| Ok(found.first().map(pending).transpose()?.unwrap_or_default())).map_err(reading)
    }

    async fn heads(&self, logs: &[TopicPartition]) -> Result<Vec<Option<Head>>> {
        heads(&mut self.session().await?, logs).await
    }

    async fn segments(&self, queries: &[SegmentQuery]) -> Result<Vec<Option<LogView>>> {
        let found = segments(&mut self.session().await?, queries).await.map_err(reading)?;
        views(queries, &found).map_err(|e| reading(e.into()))
    }

    async fn first_segment_since(&self, log: TopicPartition, at: Timestamp) -> Result<Option<Segment>> {
        // `max_timestamp_so_far` never falls, so the offsets between `low` and `high` can be halved until they meet.
        let find = sqlx::query(
            "WITH RECURSIVE halving (low, high) AS (\
               SELECT log_start, high_watermark FROM partitions WHERE topic_id = $1 AND partition = $2 \
               UNION ALL \
               SELECT CASE WHEN m.max_timestamp_so_far < $3 THEN m.last_offset + 1 ELSE h.low END, \
                      CASE WHEN m.max_timestamp_so_far < $3 THEN h.high ELSE least(h.low + (h.high - h.low) / 2, m.base_offset) END \
               FROM halving h LEFT JOIN LATERAL (\
                 SELECT s.base_offset, s.last_offset, s.max_timestamp_so_far FROM segments s WHERE s.topic_id = $1 AND s.partition = $2 \
                 AND s.last_offset >= h.low + (h.high - h.low) / 2 ORDER BY s.last_offset LIMIT 1) m ON true \
               WHERE h.low < h.high) \
             SELECT base_offset, last_offset, object_id, byte_start, byte_len, record_count, max_timestamp, max_timestamp_so_far, level \
             FROM segments WHERE topic_id = $1 AND partition = $2 AND max_timestamp_so_far >= $3 \
             AND last_offset >= (SELECT low FROM halving WHERE low >= high LIMIT 1) ORDER BY last_offset LIMIT 1",
        );
        let find = find.bind(rows::uuid(log.topic.0)).bind(log.partition.0).bind(at.0);
        let found = self.session().await?.fetch_all(find).await.map_err(reading)?;
        found.first().map(|row| rows::segment(row, log)).transpose().map_err(|e| reading(e.into()))
    }

    async fn expire_producers(&self, idle: Duration, limit: usize) -> Result<bool> {
        let mut session = self.session().await?;
        let idle = i64::try_from(idle.as_millis()).unwrap_or(i64::MAX >> 1);
        // A state that a round has just used is spared: its row is looked at again when it is deleted.
        let expire = sqlx::query(
            "WITH old AS MATERIALIZED (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1 AS at), \
             doomed AS (SELECT topic_id, partition, producer_id FROM producer_states, old WHERE last_used <= old.at LIMIT $2 + 1), \
             gone AS (DELETE FROM producer_states s USING old, (SELECT * FROM doomed LIMIT $2) d \
               WHERE s.topic_id = d.topic_id AND s.partition = d.partition AND s.producer_id = d.producer_id AND s.last_used <= old.at) \
             SELECT count(*) > $2 AS more FROM doomed",
        );
        let found = session.fetch_all(expire.bind(idle).bind(rows::limit(limit))).await.map_err(committing)?;
        let more = found.first().map(|row| row.try_get::<bool, _>("more")).transpose();
        more.map(|more| more == Some(true)).map_err(|e| reading(e.into()))
    }

    async fn reserve_producer_ids(&self, count: u32) -> Result<ProducerId> {
        let reserve = sqlx::query("UPDATE producer_ids SET next = next + $1 RETURNING next - $1 AS first").bind(i64::from(count));
        let found = self.session().await?.fetch_all(reserve).await.map_err(committing)?;
        let row = found.first().ok_or(sqlx::Error::RowNotFound);
        row.and_then(|row| row.try_get("first")).map(ProducerId).map_err(|e| reading(e.into()))
    }
}

/// Heads in the order asked.
pub(super) async fn heads(session: &mut Session, logs: &[TopicPartition]) -> Result<Vec<Option<Head>>> {
    let find = sqlx::query(
        "SELECT l.position, p.log_start, p.high_watermark, p.last_stable, p.max_timestamp AS head_max_timestamp, p.bytes \
         FROM unnest($1::uuid[], $2::int[]) WITH ORDINALITY AS l (topic_id, partition, position) \
         JOIN partitions p ON p.topic_id = l.topic_id AND p.partition = l.partition",
    );
    let (topics, partitions) = rows::log_arrays(logs);
    let found = session.fetch_all(find.bind(topics).bind(partitions)).await.map_err(reading)?;
    let mut heads = vec![None; logs.len()];
    for row in &found {
        let position: usize = rows::size(row, "position").map_err(|e| reading(e.into()))?;
        if let Some(head) = heads.get_mut(position - 1) {
            *head = Some(rows::head(row).map_err(|e| reading(e.into()))?);
        }
    }
    Ok(heads)
}

fn pending(row: &PgRow) -> rows::Decoded<PendingEvents> {
    let (count, oldest) = (rows::size(row, "events")?, Duration::from_millis(rows::size(row, "oldest_ms")?));
    Ok(PendingEvents { count, oldest: (count > 0).then_some(oldest), set_aside: rows::size(row, "set_aside")? })
}

fn verdict(row: &PgRow) -> Result<(ObjectId, ObjectVerdict)> {
    let object = rows::object(row).map_err(|e| reading(e.into()))?;
    let bytes: &[u8] = row.try_get("verdict").map_err(|e| reading(e.into()))?;
    Ok((object, decode_verdict(object, bytes)?))
}

/// One statement, so heads and segments are of one moment. Bytes are added up as floats, which is exact up to 9 PB and
/// much faster than the exact kind.
pub(super) const FIND_SEGMENTS: &str = "\
     SELECT q.position, p.log_start, p.high_watermark, p.last_stable, p.max_timestamp AS head_max_timestamp, p.bytes, \
      s.base_offset, s.last_offset, s.object_id, s.byte_start, s.byte_len, s.record_count, s.max_timestamp, s.max_timestamp_so_far, s.level \
      FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[]) WITH ORDINALITY \
        AS q (topic_id, partition, wanted, max_bytes, max_segments, position) \
      JOIN partitions p ON p.topic_id = q.topic_id AND p.partition = q.partition \
      LEFT JOIN LATERAL (\
        SELECT * FROM (\
          SELECT n.*, sum(n.byte_len::float8) OVER (ORDER BY n.last_offset) - n.byte_len AS before FROM (\
            SELECT * FROM segments WHERE topic_id = q.topic_id AND partition = q.partition AND last_offset >= q.wanted \
            ORDER BY last_offset LIMIT q.max_segments) n) b \
        WHERE b.before < q.max_bytes) s ON true \
      ORDER BY q.position, s.last_offset";

async fn segments(session: &mut Session, queries: &[SegmentQuery]) -> std::result::Result<Vec<PgRow>, Failure> {
    let (topics, partitions) = rows::log_arrays(queries.iter().map(|q| &q.log));
    let find = sqlx::query(FIND_SEGMENTS).bind(topics).bind(partitions).bind(queries.iter().map(|q| q.from.0).collect::<Vec<_>>());
    let find = find.bind(queries.iter().map(|q| i64::try_from(q.max_bytes).unwrap_or(i64::MAX).max(1)).collect::<Vec<_>>());
    let find = find.bind(queries.iter().map(|q| rows::limit(q.max_segments)).collect::<Vec<_>>());
    session.fetch_all(find).await
}

fn views(queries: &[SegmentQuery], found: &[PgRow]) -> rows::Decoded<Vec<Option<LogView>>> {
    let mut views: Vec<Option<LogView>> = vec![None; queries.len()];
    for row in found {
        let position: usize = rows::size(row, "position")?;
        let Some((view, query)) = views.get_mut(position - 1).zip(queries.get(position - 1)) else { continue };
        let mut so_far = match view.take() {
            Some(view) => view,
            None => LogView { head: rows::head(row)?, segments: Vec::new() },
        };
        if row.try_get::<Option<i64>, _>("last_offset")?.is_some() {
            so_far.segments.push(rows::segment(row, query.log)?);
        }
        *view = Some(so_far);
    }
    Ok(views)
}
