//! Offsets of groups in Postgres.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::errors::{committing, reading};
use super::groups::number;
use super::{PostgresMetastore, rows};
use crate::metastore::{CommittedOffset, GroupVersion, Offsets, Result};
use crate::types::{GroupId, Offset, TopicPartition};

#[async_trait]
impl Offsets for PostgresMetastore {
    async fn commit_offsets(&self, group: &GroupId, expected: GroupVersion, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<bool> {
        // The last one of a log counts; all agents lock rows in the same order.
        let offsets: BTreeMap<TopicPartition, &CommittedOffset> = offsets.iter().map(|(log, offset)| (*log, offset)).collect();
        let upsert = sqlx::query(
            "WITH present AS MATERIALIZED (SELECT FROM groups WHERE group_id = $1 AND version = $7 FOR SHARE), \
             allowed AS MATERIALIZED (SELECT FROM present \
               UNION ALL SELECT WHERE $7 = 0 AND NOT EXISTS (SELECT FROM groups WHERE group_id = $1)), \
             stored AS (INSERT INTO group_offsets AS g (group_id, topic_id, partition, committed_offset, leader_epoch, metadata) \
               SELECT $1, o.* FROM allowed, unnest($2::uuid[], $3::int[], $4::bigint[], $5::int[], $6::bytea[]) AS o \
               ON CONFLICT (group_id, topic_id, partition) DO UPDATE SET committed_offset = excluded.committed_offset, \
               leader_epoch = excluded.leader_epoch, metadata = excluded.metadata, committed_at = excluded.committed_at) \
             SELECT FROM allowed",
        );
        let (topics, partitions) = rows::log_arrays(offsets.keys());
        let upsert = upsert.bind(&*group.0).bind(topics).bind(partitions);
        let upsert = upsert.bind(offsets.values().map(|o| o.offset.0).collect::<Vec<_>>());
        let upsert = upsert.bind(offsets.values().map(|o| o.leader_epoch).collect::<Vec<_>>());
        let upsert = upsert.bind(offsets.values().map(|o| o.metadata.as_deref()).collect::<Vec<_>>());
        let stored = self.session().await?.fetch_all(upsert.bind(number(expected))).await.map_err(committing)?;
        Ok(!stored.is_empty())
    }

    async fn committed_offsets(&self, group: &GroupId, logs: Option<&[TopicPartition]>) -> Result<Vec<(TopicPartition, CommittedOffset)>> {
        let mut session = self.session().await?;
        let found = match logs {
            None => {
                let all = sqlx::query(
                    "SELECT topic_id, partition, committed_offset, leader_epoch, metadata FROM group_offsets \
                     WHERE group_id = $1 ORDER BY topic_id, partition",
                );
                session.fetch_all(all.bind(&*group.0)).await
            }
            Some(logs) => {
                let some = sqlx::query(
                    "SELECT DISTINCT g.topic_id, g.partition, g.committed_offset, g.leader_epoch, g.metadata \
                     FROM unnest($2::uuid[], $3::int[]) AS l (topic_id, partition) \
                     JOIN group_offsets g ON g.group_id = $1 AND g.topic_id = l.topic_id AND g.partition = l.partition \
                     ORDER BY g.topic_id, g.partition",
                );
                let (topics, partitions) = rows::log_arrays(logs);
                session.fetch_all(some.bind(&*group.0).bind(topics).bind(partitions)).await
            }
        };
        found.and_then(|rows| rows.iter().map(|row| Ok(committed(row)?)).collect()).map_err(reading)
    }
}

fn committed(row: &PgRow) -> rows::Decoded<(TopicPartition, CommittedOffset)> {
    let metadata: Option<Vec<u8>> = row.try_get("metadata")?;
    let committed = CommittedOffset {
        offset: Offset(row.try_get("committed_offset")?),
        leader_epoch: row.try_get("leader_epoch")?,
        metadata: metadata.map(Into::into),
    };
    Ok((rows::log(row)?, committed))
}
