//! Topics in SQLite.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, SqliteConnection, Transaction};

use super::connect::{begin, commit};
use super::errors::reading;
use super::json::Rows;
use super::{SqliteMetastore, rows};
use crate::metastore::{Configs, Creation, Growth, MetaError, Reconfiguration, Result, Topic, TopicQuery, Topics};
use crate::types::{TopicId, TopicName};

#[async_trait]
impl Topics for SqliteMetastore {
    async fn create_topic(&self, id: TopicId, name: &TopicName, partitions: i32, configs: &BTreeMap<String, String>) -> Result<Creation> {
        let created_at = self.clock.now();
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        let named = find(&mut transaction, &TopicQuery::Names(vec![name.clone()])).await?;
        if let Some(existing) = named.into_iter().next() {
            return Ok(Creation::Exists(existing));
        }
        let topic = Topic { id, name: name.clone(), partitions, configs: configs.clone(), created_at };
        if !insert(&mut transaction, &topic).await.map_err(reading)? {
            return Err(MetaError::Refused(format!("the topic id {id} was used before")));
        }
        commit(transaction).await?;
        Ok(Creation::Created(topic))
    }

    async fn find_topics(&self, query: &TopicQuery) -> Result<Vec<Topic>> {
        let mut transaction = self.readers().begin().await.map_err(reading)?;
        let topics = find(&mut transaction, query).await?;
        // Nothing was written: how the transaction ends makes no difference.
        drop(transaction);
        Ok(topics)
    }

    async fn grow_topic(&self, id: TopicId, partitions: i32) -> Result<Growth> {
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        let found = find(&mut transaction, &TopicQuery::Ids(vec![id])).await?;
        let Some(topic) = found.into_iter().next() else { return Ok(Growth::Gone) };
        if partitions <= topic.partitions {
            return Ok(Growth::NotLarger(topic));
        }
        let grow = sqlx::query("UPDATE topics SET partitions = ?2 WHERE id = ?1").bind(id.0.as_slice()).bind(partitions);
        grow.execute(&mut *transaction).await.map_err(reading)?;
        insert_partitions(&mut transaction, id, topic.partitions, partitions).await.map_err(reading)?;
        commit(transaction).await?;
        Ok(Growth::Grown(Topic { partitions, ..topic }))
    }

    async fn replace_topic_configs(&self, id: TopicId, expected: &Configs, configs: &Configs) -> Result<Reconfiguration> {
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        let found = find(&mut transaction, &TopicQuery::Ids(vec![id])).await?;
        let Some(topic) = found.into_iter().next() else { return Ok(Reconfiguration::Gone) };
        if topic.configs != *expected {
            return Ok(Reconfiguration::Outdated(topic));
        }
        let old = sqlx::query("DELETE FROM topic_configs WHERE topic_id = ?1").bind(id.0.as_slice());
        old.execute(&mut *transaction).await.map_err(reading)?;
        insert_configs(&mut transaction, id, configs).await.map_err(reading)?;
        commit(transaction).await?;
        Ok(Reconfiguration::Done(Topic { configs: configs.clone(), ..topic }))
    }

    async fn delete_topic(&self, id: TopicId) -> Result<bool> {
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        let deleted = delete(&mut transaction, id).await.map_err(reading)?;
        commit(transaction).await?;
        Ok(deleted)
    }

    async fn sweep_deleted_topics(&self, limit: usize) -> Result<bool> {
        let mut left = limit as u64;
        loop {
            let mut writer = self.writer().await?;
            let mut transaction = begin(&mut writer).await?;
            let Some(topic) = next_deleted(&mut transaction).await.map_err(reading)? else { return Ok(false) };
            let (swept, whole) = sweep(&mut transaction, topic, left).await.map_err(reading)?;
            commit(transaction).await?;
            left = left.saturating_sub(swept);
            if !whole {
                return Ok(true);
            }
        }
    }
}

/// False if the id was used before.
async fn insert(transaction: &mut Transaction<'_, Sqlite>, topic: &Topic) -> std::result::Result<bool, sqlx::Error> {
    let id = topic.id.0.as_slice();
    let inserted = sqlx::query(
        "INSERT INTO topics (id, name, partitions, created_at) SELECT ?1, ?2, ?3, ?4 \
         WHERE NOT EXISTS (SELECT 1 FROM deleted_topics WHERE topic_id = ?1) ON CONFLICT (id) DO NOTHING",
    );
    let inserted = inserted.bind(id).bind(topic.name.as_str()).bind(topic.partitions).bind(topic.created_at.0);
    if inserted.execute(&mut **transaction).await?.rows_affected() == 0 {
        return Ok(false);
    }
    insert_configs(transaction, topic.id, &topic.configs).await?;
    insert_partitions(transaction, topic.id, 0, topic.partitions).await?;
    Ok(true)
}

async fn insert_configs(transaction: &mut Transaction<'_, Sqlite>, id: TopicId, configs: &Configs) -> std::result::Result<(), sqlx::Error> {
    for (name, value) in configs {
        let config = sqlx::query("INSERT INTO topic_configs (topic_id, name, value) VALUES (?1, ?2, ?3)");
        config.bind(id.0.as_slice()).bind(name).bind(value).execute(&mut **transaction).await?;
    }
    Ok(())
}

/// Empty partitions from `first` to `end`, exclusive.
async fn insert_partitions(
    transaction: &mut Transaction<'_, Sqlite>,
    id: TopicId,
    first: i32,
    end: i32,
) -> std::result::Result<(), sqlx::Error> {
    let partitions = sqlx::query(
        "WITH RECURSIVE numbers (n) AS (SELECT ?2 WHERE ?2 < ?3 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?3) \
         INSERT INTO partitions (topic_id, partition) SELECT ?1, n FROM numbers",
    );
    partitions.bind(id.0.as_slice()).bind(first).bind(end).execute(&mut **transaction).await?;
    Ok(())
}

async fn find(connection: &mut SqliteConnection, query: &TopicQuery) -> Result<Vec<Topic>> {
    let found = match query {
        TopicQuery::All => {
            let all = sqlx::query("SELECT id, name, partitions, created_at FROM topics ORDER BY name");
            all.fetch_all(&mut *connection).await
        }
        TopicQuery::Names(names) => {
            // Legal names have nothing that JSON would have to escape.
            let names: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
            let chosen = sqlx::query(
                "SELECT id, name, partitions, created_at FROM topics WHERE name IN (SELECT value FROM json_each(?1)) ORDER BY name",
            );
            chosen.bind(format!("[{}]", names.join(","))).fetch_all(&mut *connection).await
        }
        TopicQuery::Ids(ids) => {
            let known = sqlx::query(
                "SELECT id, name, partitions, created_at FROM topics \
                 WHERE id IN (SELECT unhex(value ->> 0) FROM json_each(?1)) ORDER BY name",
            );
            known.bind(Rows::of_ids(ids.iter().map(|id| &id.0))).fetch_all(&mut *connection).await
        }
    };
    let mut topics = found.map_err(reading)?.iter().map(topic).collect::<Result<Vec<_>>>()?;
    add_configs(connection, &mut topics).await.map_err(reading)?;
    Ok(topics)
}

fn topic(row: &SqliteRow) -> Result<Topic> {
    let name: String = row.try_get("name").map_err(reading)?;
    Ok(Topic {
        id: rows::topic(row, "id").map_err(reading)?,
        name: TopicName::parse(&name).map_err(MetaError::Corrupt)?,
        partitions: row.try_get("partitions").map_err(reading)?,
        configs: BTreeMap::new(),
        created_at: rows::timestamp(row, "created_at").map_err(reading)?,
    })
}

async fn add_configs(connection: &mut SqliteConnection, topics: &mut [Topic]) -> std::result::Result<(), sqlx::Error> {
    let configs =
        sqlx::query("SELECT topic_id, name, value FROM topic_configs WHERE topic_id IN (SELECT unhex(value ->> 0) FROM json_each(?1))");
    let mut by_topic: BTreeMap<TopicId, BTreeMap<String, String>> = BTreeMap::new();
    for row in configs.bind(Rows::of_ids(topics.iter().map(|t| &t.id.0))).fetch_all(connection).await? {
        by_topic.entry(rows::topic(&row, "topic_id")?).or_default().insert(row.try_get("name")?, row.try_get("value")?);
    }
    for topic in topics {
        topic.configs = by_topic.remove(&topic.id).unwrap_or_default();
    }
    Ok(())
}

async fn delete(transaction: &mut Transaction<'_, Sqlite>, id: TopicId) -> std::result::Result<bool, sqlx::Error> {
    let id = id.0.as_slice();
    let gone = sqlx::query("DELETE FROM topics WHERE id = ?1").bind(id).execute(&mut **transaction).await?;
    if gone.rows_affected() == 0 {
        return Ok(false);
    }
    let everything = [
        "INSERT INTO deleted_topics (topic_id) VALUES (?1)",
        "DELETE FROM topic_configs WHERE topic_id = ?1",
        "DELETE FROM partitions WHERE topic_id = ?1",
        "DELETE FROM producer_states WHERE topic_id = ?1",
        "DELETE FROM group_offsets WHERE topic_id = ?1",
        // The next round refuses what is parked, so that nobody waits for its verdict in vain.
        "UPDATE parked_batches SET deadline = 0 WHERE topic_id = ?1",
    ];
    for statement in everything {
        sqlx::query(statement).bind(id).execute(&mut **transaction).await?;
    }
    Ok(true)
}

async fn next_deleted(transaction: &mut Transaction<'_, Sqlite>) -> std::result::Result<Option<TopicId>, sqlx::Error> {
    let first = sqlx::query("SELECT topic_id FROM deleted_topics ORDER BY topic_id LIMIT 1");
    first.fetch_optional(&mut **transaction).await?.map(|row| rows::topic(&row, "topic_id")).transpose()
}

/// How many segments of `topic` were removed, at most `limit`, and whether that was all of it.
async fn sweep(transaction: &mut Transaction<'_, Sqlite>, topic: TopicId, limit: u64) -> std::result::Result<(u64, bool), sqlx::Error> {
    let id = topic.0.as_slice();
    let segments = sqlx::query(
        "DELETE FROM segments WHERE topic_id = ?1 AND (partition, last_offset) IN \
         (SELECT partition, last_offset FROM segments WHERE topic_id = ?1 ORDER BY partition, last_offset LIMIT ?2)",
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let swept = segments.bind(id).bind(limit).execute(&mut **transaction).await?.rows_affected();
    let left = sqlx::query("SELECT 1 FROM segments WHERE topic_id = ?1 LIMIT 1");
    if left.bind(id).fetch_optional(&mut **transaction).await?.is_some() {
        return Ok((swept, false));
    }
    // Commits that raced with the deletion are gone with the last segment.
    for statement in ["DELETE FROM group_offsets WHERE topic_id = ?1", "DELETE FROM deleted_topics WHERE topic_id = ?1"] {
        sqlx::query(statement).bind(id).execute(&mut **transaction).await?;
    }
    Ok((swept, true))
}
