//! Administration of logs in Postgres.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sqlx::Row as _;

use super::errors::{Failure, committing, reading};
use super::log::heads;
use super::round::producer_state;
use super::session::Session;
use super::{PostgresMetastore, rows};
use crate::metastore::{DecideTrim, LogAdmin, Result, Trimmed};
use crate::partition::{ProducerKey, ProducerState, TrimTo};
use crate::types::{Head, TopicId, TopicPartition};

#[async_trait]
impl LogAdmin for PostgresMetastore {
    async fn trim_logs(&self, trims: &[(TopicPartition, TrimTo)], decide: &DecideTrim) -> Result<Vec<Trimmed>> {
        let mut session = self.session().await?;
        session.begin_between_rounds().await?;
        let logs: Vec<TopicPartition> = trims.iter().map(|(log, _)| *log).collect();
        let heads = heads(&mut session, &logs).await?;
        let trimmed: Vec<Trimmed> = trims.iter().zip(heads).map(|((_, to), head)| head.map(|head| decide(&head, *to))).collect();
        let moved: Vec<(TopicPartition, Head)> =
            logs.into_iter().zip(&trimmed).filter_map(|(log, trimmed)| Some((log, (*trimmed)?.ok()?))).collect();
        move_starts(&mut session, &moved).await.map_err(reading)?;
        session.commit().await?;
        Ok(trimmed)
    }

    async fn sweep_trimmed_segments(&self, limit: usize) -> Result<bool> {
        let sweep = sqlx::query(
            "WITH doomed AS MATERIALIZED (\
               SELECT s.topic_id, s.partition, s.last_offset FROM partitions p CROSS JOIN LATERAL (\
                 SELECT topic_id, partition, last_offset FROM segments WHERE topic_id = p.topic_id AND partition = p.partition \
                 AND last_offset < p.log_start ORDER BY last_offset LIMIT $1 + 1) s \
               WHERE p.log_start > 0 LIMIT $1 + 1), \
             gone AS (DELETE FROM segments s USING (SELECT * FROM doomed LIMIT $1) d \
               WHERE s.topic_id = d.topic_id AND s.partition = d.partition AND s.last_offset = d.last_offset) \
             SELECT count(*) > $1 AS more FROM doomed",
        );
        let found = self.session().await?.fetch_all(sweep.bind(rows::limit(limit))).await.map_err(committing)?;
        let more = found.first().map(|row| row.try_get::<bool, _>("more")).transpose();
        more.map(|more| more == Some(true)).map_err(|e| reading(e.into()))
    }

    async fn log_sizes(&self, topics: &[TopicId]) -> Result<Vec<(TopicPartition, u64)>> {
        let sizes = sqlx::query(
            "SELECT topic_id, partition, sum(byte_len)::bigint AS size FROM segments WHERE topic_id = ANY($1) \
             GROUP BY topic_id, partition ORDER BY topic_id, partition",
        );
        let sizes = sizes.bind(topics.iter().map(|id| rows::uuid(id.0)).collect::<Vec<_>>());
        let found = self.session().await?.fetch_all(sizes).await.map_err(reading)?;
        let size = |row: &sqlx::postgres::PgRow| Ok((rows::log(row)?, rows::size(row, "size")?));
        found.iter().map(size).collect::<rows::Decoded<_>>().map_err(|e| reading(e.into()))
    }

    async fn producers(&self, logs: &[TopicPartition], limit: usize) -> Result<Vec<(ProducerKey, ProducerState)>> {
        let logs: BTreeSet<&TopicPartition> = logs.iter().collect();
        let states = sqlx::query(
            "SELECT s.topic_id, s.partition, s.producer_id, s.epoch, s.batches, s.last_used \
             FROM unnest($1::uuid[], $2::int[]) AS l (topic_id, partition) \
             JOIN producer_states s ON s.topic_id = l.topic_id AND s.partition = l.partition \
             ORDER BY s.topic_id, s.partition, s.producer_id LIMIT $3",
        );
        let (topics, partitions) = rows::log_arrays(logs);
        let states = states.bind(topics).bind(partitions).bind(rows::limit(limit));
        self.session().await?.fetch_all(states).await.map_err(reading)?.iter().map(producer_state).collect()
    }
}

/// A log that is named twice begins where the later one says.
async fn move_starts(session: &mut Session, moved: &[(TopicPartition, Head)]) -> std::result::Result<(), Failure> {
    let update = sqlx::query(
        "UPDATE partitions p SET log_start = greatest(p.log_start, t.log_start) \
         FROM (SELECT topic_id, partition, max(log_start) AS log_start FROM unnest($1::uuid[], $2::int[], $3::bigint[]) \
           AS t (topic_id, partition, log_start) GROUP BY topic_id, partition) t \
         WHERE p.topic_id = t.topic_id AND p.partition = t.partition",
    );
    let (topics, partitions) = rows::log_arrays(moved.iter().map(|(log, _)| log));
    let update = update.bind(topics).bind(partitions).bind(moved.iter().map(|(_, head)| head.log_start.0).collect::<Vec<_>>());
    session.execute(update).await.map(drop)
}
