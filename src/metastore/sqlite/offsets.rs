//! Offsets of groups in SQLite.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::connect::{begin, commit};
use super::errors::reading;
use super::groups::version_of;
use super::json::Rows;
use super::{SqliteMetastore, rows};
use crate::metastore::{CommittedOffset, GroupVersion, Offsets, Result};
use crate::types::{GroupId, Offset, TopicPartition};

#[async_trait]
impl Offsets for SqliteMetastore {
    async fn commit_offsets(&self, group: &GroupId, expected: GroupVersion, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<bool> {
        let now = self.clock.now();
        // The last one of a log counts.
        let offsets: BTreeMap<TopicPartition, &CommittedOffset> = offsets.iter().map(|(log, offset)| (*log, offset)).collect();
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        if version_of(&mut transaction, group).await.map_err(reading)? != expected {
            return Ok(false);
        }
        for (log, committed) in offsets {
            let upsert = sqlx::query(
                "INSERT INTO group_offsets (group_id, topic_id, partition, committed_offset, leader_epoch, metadata, committed_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (group_id, topic_id, partition) DO UPDATE SET committed_offset = excluded.committed_offset, \
                 leader_epoch = excluded.leader_epoch, metadata = excluded.metadata, committed_at = excluded.committed_at",
            );
            let upsert = upsert.bind(&*group.0).bind(log.topic.0.as_slice()).bind(log.partition.0).bind(committed.offset.0);
            let upsert = upsert.bind(committed.leader_epoch).bind(committed.metadata.as_deref()).bind(now.0);
            upsert.execute(&mut *transaction).await.map_err(reading)?;
        }
        commit(transaction).await?;
        Ok(true)
    }

    async fn committed_offsets(&self, group: &GroupId, logs: Option<&[TopicPartition]>) -> Result<Vec<(TopicPartition, CommittedOffset)>> {
        let found = match logs {
            None => {
                let all = sqlx::query(
                    "SELECT topic_id, partition, committed_offset, leader_epoch, metadata FROM group_offsets \
                     WHERE group_id = ?1 ORDER BY topic_id, partition",
                );
                all.bind(&*group.0).fetch_all(self.readers()).await
            }
            Some(logs) => {
                let some = sqlx::query(
                    "SELECT topic_id, partition, committed_offset, leader_epoch, metadata FROM group_offsets \
                     WHERE group_id = ?1 AND (topic_id, partition) IN (SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?2)) \
                     ORDER BY topic_id, partition",
                );
                some.bind(&*group.0).bind(Rows::of_logs(logs)).fetch_all(self.readers()).await
            }
        };
        found.and_then(|rows| rows.iter().map(committed).collect()).map_err(reading)
    }
}

fn committed(row: &SqliteRow) -> std::result::Result<(TopicPartition, CommittedOffset), sqlx::Error> {
    let metadata: Option<Vec<u8>> = row.try_get("metadata")?;
    let committed = CommittedOffset {
        offset: Offset(row.try_get("committed_offset")?),
        leader_epoch: row.try_get("leader_epoch")?,
        metadata: metadata.map(Into::into),
    };
    Ok((rows::log(row)?, committed))
}
