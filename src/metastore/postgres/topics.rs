//! Topics in Postgres.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::errors::{Failure, committing, reading};
use super::session::Session;
use super::{PostgresMetastore, rows};
use crate::metastore::{Creation, MetaError, Result, Topic, TopicQuery, Topics};
use crate::types::{Timestamp, TopicId, TopicName};

/// How often a creation looks again for the topic that was in its way and is gone.
const ATTEMPTS: usize = 5;

#[async_trait]
impl Topics for PostgresMetastore {
    async fn create_topic(&self, id: TopicId, name: &TopicName, partitions: i32, configs: &BTreeMap<String, String>) -> Result<Creation> {
        let mut session = self.session().await?;
        let by_name = TopicQuery::Names(vec![name.clone()]);
        for _ in 0..ATTEMPTS {
            let created_at = insert(&mut session, id, name, partitions, configs).await.map_err(committing)?;
            if let Some(created_at) = created_at {
                return Ok(Creation::Created(Topic { id, name: name.clone(), partitions, configs: configs.clone(), created_at }));
            }
            if let Some(existing) = find(&mut session, &by_name).await?.into_iter().next() {
                return Ok(Creation::Exists(existing));
            }
            if was_used(&mut session, id).await.map_err(reading)? {
                return Err(MetaError::Refused(format!("the topic id {id} was used before")));
            }
        }
        Err(MetaError::Unavailable(format!("topic {name} comes and goes")))
    }

    async fn find_topics(&self, query: &TopicQuery) -> Result<Vec<Topic>> {
        find(&mut self.session().await?, query).await
    }

    async fn delete_topic(&self, id: TopicId) -> Result<bool> {
        let mut session = self.session().await?;
        // Between rounds: a round in progress would store segments of a topic that is gone.
        session.begin_between_rounds().await?;
        let deleted = delete(&mut session, id).await.map_err(reading)?;
        session.commit().await?;
        Ok(deleted)
    }

    async fn sweep_deleted_topics(&self, limit: usize) -> Result<bool> {
        let mut session = self.session().await?;
        let mut left = limit as u64;
        while let Some(topic) = next_deleted(&mut session).await.map_err(reading)? {
            left = left.saturating_sub(sweep(&mut session, topic, left).await.map_err(committing)?);
            if !forget_if_empty(&mut session, topic).await.map_err(committing)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// When it was created; `None` if name or id are taken.
async fn insert(
    session: &mut Session,
    id: TopicId,
    name: &TopicName,
    partitions: i32,
    configs: &BTreeMap<String, String>,
) -> std::result::Result<Option<Timestamp>, Failure> {
    let insert = sqlx::query(
        "WITH made AS (\
           INSERT INTO topics (id, name, partitions) SELECT $1, $2, $3 \
           WHERE NOT EXISTS (SELECT FROM deleted_topics WHERE topic_id = $1) ON CONFLICT DO NOTHING \
           RETURNING id, floor(extract(epoch FROM created_at) * 1000)::bigint AS created_ms), \
         heads AS (INSERT INTO partitions (topic_id, partition) SELECT made.id, n FROM made, generate_series(0, $3 - 1) n), \
         configs AS (\
           INSERT INTO topic_configs (topic_id, name, value) \
           SELECT made.id, c.name, c.value FROM made, unnest($4::text[], $5::text[]) AS c (name, value)) \
         SELECT created_ms FROM made",
    );
    let (names, values): (Vec<&str>, Vec<&str>) = configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).unzip();
    let insert = insert.bind(rows::uuid(id.0)).bind(name.as_str()).bind(partitions).bind(names).bind(values);
    let made = session.fetch_all(insert).await?;
    Ok(made.first().map(|row| rows::timestamp(row, "created_ms")).transpose()?)
}

async fn was_used(session: &mut Session, id: TopicId) -> std::result::Result<bool, Failure> {
    let used = sqlx::query("SELECT FROM topics WHERE id = $1 UNION ALL SELECT FROM deleted_topics WHERE topic_id = $1");
    Ok(!session.fetch_all(used.bind(rows::uuid(id.0))).await?.is_empty())
}

async fn find(session: &mut Session, query: &TopicQuery) -> Result<Vec<Topic>> {
    let found = match query {
        TopicQuery::All => {
            let all = sqlx::query(
                "SELECT id, name, partitions, floor(extract(epoch FROM created_at) * 1000)::bigint AS created_ms, \
                 array(SELECT c.name FROM topic_configs c WHERE c.topic_id = t.id ORDER BY c.name) AS config_names, \
                 array(SELECT c.value FROM topic_configs c WHERE c.topic_id = t.id ORDER BY c.name) AS config_values \
                 FROM topics t ORDER BY name",
            );
            session.fetch_all(all).await
        }
        TopicQuery::Names(names) => {
            let chosen = sqlx::query(
                "SELECT id, name, partitions, floor(extract(epoch FROM created_at) * 1000)::bigint AS created_ms, \
                 array(SELECT c.name FROM topic_configs c WHERE c.topic_id = t.id ORDER BY c.name) AS config_names, \
                 array(SELECT c.value FROM topic_configs c WHERE c.topic_id = t.id ORDER BY c.name) AS config_values \
                 FROM topics t WHERE name = ANY($1) ORDER BY name",
            );
            session.fetch_all(chosen.bind(names.iter().map(TopicName::as_str).collect::<Vec<_>>())).await
        }
        TopicQuery::Ids(ids) => {
            let known = sqlx::query(
                "SELECT id, name, partitions, floor(extract(epoch FROM created_at) * 1000)::bigint AS created_ms, \
                 array(SELECT c.name FROM topic_configs c WHERE c.topic_id = t.id ORDER BY c.name) AS config_names, \
                 array(SELECT c.value FROM topic_configs c WHERE c.topic_id = t.id ORDER BY c.name) AS config_values \
                 FROM topics t WHERE id = ANY($1) ORDER BY name",
            );
            session.fetch_all(known.bind(ids.iter().map(|id| rows::uuid(id.0)).collect::<Vec<_>>())).await
        }
    };
    found.map_err(reading)?.iter().map(topic).collect()
}

fn topic(row: &PgRow) -> Result<Topic> {
    let unreadable = |e: sqlx::Error| reading(e.into());
    let name: String = row.try_get("name").map_err(unreadable)?;
    let names: Vec<String> = row.try_get("config_names").map_err(unreadable)?;
    let values: Vec<String> = row.try_get("config_values").map_err(unreadable)?;
    Ok(Topic {
        id: rows::topic(row, "id").map_err(unreadable)?,
        name: TopicName::parse(&name).map_err(MetaError::Corrupt)?,
        partitions: row.try_get("partitions").map_err(unreadable)?,
        configs: names.into_iter().zip(values).collect(),
        created_at: rows::timestamp(row, "created_ms").map_err(unreadable)?,
    })
}

async fn delete(session: &mut Session, id: TopicId) -> std::result::Result<bool, Failure> {
    // What is parked is left for the next round to refuse, so that nobody waits for its verdict in vain.
    let delete = sqlx::query(
        "WITH gone AS (DELETE FROM topics WHERE id = $1 RETURNING id), \
         noted AS (INSERT INTO deleted_topics (topic_id) SELECT id FROM gone), \
         configs AS (DELETE FROM topic_configs c USING gone WHERE c.topic_id = gone.id), \
         heads AS (DELETE FROM partitions p USING gone WHERE p.topic_id = gone.id), \
         producers AS (DELETE FROM producer_states s USING gone WHERE s.topic_id = gone.id), \
         committed AS (DELETE FROM group_offsets o USING gone WHERE o.topic_id = gone.id), \
         parked AS (UPDATE parked_batches p SET deadline = 0 FROM gone WHERE p.topic_id = gone.id) \
         SELECT id FROM gone",
    );
    Ok(!session.fetch_all(delete.bind(rows::uuid(id.0))).await?.is_empty())
}

async fn next_deleted(session: &mut Session) -> std::result::Result<Option<TopicId>, Failure> {
    let first = session.fetch_all(sqlx::query("SELECT topic_id FROM deleted_topics ORDER BY topic_id LIMIT 1")).await?;
    Ok(first.first().map(|row| rows::topic(row, "topic_id")).transpose()?)
}

/// How many segments were removed.
async fn sweep(session: &mut Session, topic: TopicId, limit: u64) -> std::result::Result<u64, Failure> {
    let sweep = sqlx::query(
        "DELETE FROM segments s USING \
         (SELECT partition, last_offset FROM segments WHERE topic_id = $1 ORDER BY partition, last_offset LIMIT $2) d \
         WHERE s.topic_id = $1 AND s.partition = d.partition AND s.last_offset = d.last_offset",
    );
    session.execute(sweep.bind(rows::uuid(topic.0)).bind(i64::try_from(limit).unwrap_or(i64::MAX))).await
}

/// Forgets that the topic was deleted once no segment is left, and with it the commits of offsets that raced with its deletion. False if some
/// are left; asked anew, since another agent may be sweeping too.
async fn forget_if_empty(session: &mut Session, topic: TopicId) -> std::result::Result<bool, Failure> {
    let forget = sqlx::query(
        "WITH done AS (DELETE FROM deleted_topics WHERE topic_id = $1 \
           AND NOT EXISTS (SELECT FROM segments WHERE topic_id = $1) RETURNING topic_id), \
         committed AS (DELETE FROM group_offsets o USING done WHERE o.topic_id = done.topic_id) \
         SELECT EXISTS (SELECT FROM segments WHERE topic_id = $1) AS more",
    );
    let rows = session.fetch_all(forget.bind(rows::uuid(topic.0))).await?;
    let more = rows.first().map(|row| row.try_get::<bool, _>("more")).transpose()?;
    Ok(more != Some(true))
}
