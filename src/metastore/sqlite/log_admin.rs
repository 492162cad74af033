//! Administration of logs in SQLite.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::connect::{begin, commit};
use super::errors::reading;
use super::json::Rows;
use super::round::producer_state;
use super::{SqliteMetastore, rows};
use crate::metastore::{DecideTrim, LogAdmin, Result, Trimmed};
use crate::partition::{ProducerKey, ProducerState, TrimTo};
use crate::types::{Head, TopicId, TopicPartition};

#[async_trait]
impl LogAdmin for SqliteMetastore {
    async fn trim_logs(&self, trims: &[(TopicPartition, TrimTo)], decide: &DecideTrim) -> Result<Vec<Trimmed>> {
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        let find = sqlx::query(
            "SELECT j.key, p.log_start, p.high_watermark, p.last_stable, p.max_timestamp AS head_max_timestamp, p.bytes \
             FROM json_each(?1) j CROSS JOIN partitions p ON p.topic_id = unhex(j.value ->> 0) AND p.partition = j.value ->> 1",
        );
        let mut heads: Vec<Option<Head>> = vec![None; trims.len()];
        let logs = Rows::of_logs(trims.iter().map(|(log, _)| log));
        for row in find.bind(logs).fetch_all(&mut *transaction).await.map_err(reading)? {
            if let Some(head) = heads.get_mut(rows::size::<usize>(&row, "key").map_err(reading)?) {
                *head = Some(rows::head(&row).map_err(reading)?);
            }
        }
        let trimmed: Vec<Trimmed> = trims.iter().zip(heads).map(|((_, to), head)| head.map(|head| decide(&head, *to))).collect();
        let mut starts = Rows::new();
        for ((log, _), trimmed) in trims.iter().zip(&trimmed) {
            if let Some(Ok(head)) = trimmed {
                starts.row().log(log).int(head.log_start.0);
            }
        }
        // A log that is named twice begins where the later one says.
        let update = sqlx::query(
            "UPDATE partitions SET log_start = max(log_start, j.start) FROM \
             (SELECT unhex(value ->> 0) AS topic, value ->> 1 AS partition, max(value ->> 2) AS start FROM json_each(?1) GROUP BY 1, 2) j \
             WHERE topic_id = j.topic AND partitions.partition = j.partition",
        );
        update.bind(starts.finish()).execute(&mut *transaction).await.map_err(reading)?;
        commit(transaction).await?;
        Ok(trimmed)
    }

    async fn sweep_trimmed_segments(&self, limit: usize) -> Result<bool> {
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        let sweep = sqlx::query(
            "DELETE FROM segments WHERE (topic_id, partition, last_offset) IN \
             (SELECT s.topic_id, s.partition, s.last_offset FROM partitions p CROSS JOIN segments s \
              ON s.topic_id = p.topic_id AND s.partition = p.partition AND s.last_offset < p.log_start WHERE p.log_start > 0 LIMIT ?1)",
        );
        sweep.bind(i64::try_from(limit).unwrap_or(i64::MAX)).execute(&mut *transaction).await.map_err(reading)?;
        let left = sqlx::query(
            "SELECT 1 FROM partitions p CROSS JOIN segments s \
             ON s.topic_id = p.topic_id AND s.partition = p.partition AND s.last_offset < p.log_start WHERE p.log_start > 0 LIMIT 1",
        );
        let left = left.fetch_optional(&mut *transaction).await.map_err(reading)?;
        commit(transaction).await?;
        Ok(left.is_some())
    }

    async fn log_sizes(&self, topics: &[TopicId]) -> Result<Vec<(TopicPartition, u64)>> {
        let sizes = sqlx::query(
            "SELECT topic_id, partition, sum(byte_len) AS size FROM segments \
             WHERE topic_id IN (SELECT unhex(value ->> 0) FROM json_each(?1)) GROUP BY topic_id, partition ORDER BY topic_id, partition",
        );
        let sizes = sizes.bind(Rows::of_ids(topics.iter().map(|id| &id.0))).fetch_all(self.readers()).await.map_err(reading)?;
        sizes.iter().map(|row| Ok((rows::log(row)?, rows::size(row, "size")?))).collect::<std::result::Result<_, _>>().map_err(reading)
    }

    async fn producers(&self, logs: &[TopicPartition], limit: usize) -> Result<Vec<(ProducerKey, ProducerState)>> {
        let logs: BTreeSet<&TopicPartition> = logs.iter().collect();
        let states = sqlx::query(
            "SELECT s.* FROM json_each(?1) j CROSS JOIN producer_states s \
             ON s.topic_id = unhex(j.value ->> 0) AND s.partition = j.value ->> 1 ORDER BY j.key, s.producer_id LIMIT ?2",
        );
        let states = states.bind(Rows::of_logs(logs)).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        states.fetch_all(self.readers()).await.map_err(reading)?.iter().map(producer_state).collect()
    }
}
