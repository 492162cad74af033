//! Groups in Postgres: compare-and-set on the version, sessions beside the state, one statement for each change.
//!
//! A commit of offsets locks the group's row in share mode, so that no newer state can be stored between its look at the version and its writing.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::errors::{committing, reading};
use super::{PostgresMetastore, rows};
use crate::metastore::{Beat, Change, GroupChange, GroupLabel, GroupRow, GroupSweep, GroupVersion, Groups, GroupsSwept, MetaError, Result};
use crate::types::{GroupId, MemberId, Timestamp, TopicPartition};

pub(super) const CHANNEL: &str = "yaks_groups";

/// Whatever is not understood is a reason to look.
pub(super) fn decode(payload: &str) -> Change {
    let parts = payload.split_once(' ').and_then(|(version, group)| Some((version.parse().ok()?, group)));
    parts.map_or(Change::Unknown, |(version, group)| Change::Group { group: GroupId(group.into()), version: GroupVersion(version) })
}

#[async_trait]
impl Groups for PostgresMetastore {
    async fn load_groups(&self, groups: &[GroupId]) -> Result<Vec<GroupRow>> {
        let load = sqlx::query(
            "SELECT coalesce(g.version, 0) AS version, coalesce(g.state, '') AS state, \
             floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now \
             FROM unnest($1::text[]) WITH ORDINALITY AS w (group_id, position) LEFT JOIN groups g ON g.group_id = w.group_id \
             ORDER BY w.position",
        );
        let found = self.session().await?.fetch_all(load.bind(names(groups))).await.map_err(reading)?;
        found.iter().map(group_row).collect::<rows::Decoded<_>>().map_err(unreadable)
    }

    async fn store_group(&self, group: &GroupId, expected: GroupVersion, change: &GroupChange) -> Result<Option<GroupVersion>> {
        let store = sqlx::query(
            "WITH made AS (INSERT INTO groups (group_id, version, kind, phase, protocol_type, state, due_at, empty_since) \
               SELECT $1, nextval('group_versions'), $3, $4, $5, $6, $7, $8 WHERE $2 = 0 \
               ON CONFLICT DO NOTHING RETURNING version), \
             changed AS (UPDATE groups SET version = nextval('group_versions'), kind = $3, phase = $4, protocol_type = $5, state = $6, \
               due_at = $7, empty_since = $8 WHERE group_id = $1 AND version = $2 AND $2 <> 0 RETURNING version), \
             stored AS (SELECT version FROM made UNION ALL SELECT version FROM changed), \
             forgotten AS (DELETE FROM group_sessions s USING stored WHERE s.group_id = $1 AND s.member_id = ANY($9::text[])), \
             renewed AS (INSERT INTO group_sessions AS s (group_id, member_id, timeout_ms, expires_at) \
               SELECT $1, r.member_id, r.ms, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + r.ms \
               FROM stored, unnest($10::text[], $11::bigint[]) AS r (member_id, ms) \
               ON CONFLICT (group_id, member_id) DO UPDATE SET timeout_ms = excluded.timeout_ms, expires_at = excluded.expires_at), \
             told AS (SELECT pg_notify('yaks_groups', version || ' ' || $1) FROM stored WHERE $12) \
             SELECT version, (SELECT count(*) FROM told) FROM stored",
        );
        let label = &change.label;
        let store = store.bind(&*group.0).bind(number(expected)).bind(&label.kind).bind(&label.phase).bind(&label.protocol_type);
        let store = store.bind(&*change.state).bind(change.due.map(|t| t.0)).bind(change.empty_since.map(|t| t.0));
        let store = store.bind(change.forget.iter().map(|m| &*m.0).collect::<Vec<_>>());
        let store = store.bind(change.renew.iter().map(|(m, _)| &*m.0).collect::<Vec<_>>());
        let store = store.bind(change.renew.iter().map(|(_, timeout)| millis(*timeout)).collect::<Vec<_>>()).bind(change.announce);
        let stored = self.session().await?.fetch_all(store).await.map_err(committing)?;
        stored.first().map(version).transpose().map_err(unreadable)
    }

    async fn delete_group(&self, group: &GroupId, expected: GroupVersion) -> Result<bool> {
        let delete = sqlx::query(
            "WITH gone AS (DELETE FROM groups WHERE group_id = $1 AND version = $2 RETURNING group_id), \
             allowed AS (SELECT group_id FROM gone \
               UNION ALL SELECT $1 WHERE $2 = 0 AND NOT EXISTS (SELECT FROM groups WHERE group_id = $1)), \
             sessions AS (DELETE FROM group_sessions s USING allowed a WHERE s.group_id = a.group_id), \
             offsets AS (DELETE FROM group_offsets o USING allowed a WHERE o.group_id = a.group_id) \
             SELECT FROM allowed",
        );
        let deleted = self.session().await?.fetch_all(delete.bind(&*group.0).bind(number(expected))).await.map_err(committing)?;
        Ok(!deleted.is_empty())
    }

    async fn list_groups(&self) -> Result<Vec<(GroupId, GroupLabel)>> {
        let list = sqlx::query(
            "SELECT group_id, kind, phase, protocol_type FROM groups UNION ALL \
             SELECT DISTINCT o.group_id, '', '', '' FROM group_offsets o \
               WHERE NOT EXISTS (SELECT FROM groups g WHERE g.group_id = o.group_id) \
             ORDER BY group_id",
        );
        let found = self.session().await?.fetch_all(list).await.map_err(reading)?;
        found.iter().map(listed).collect::<rows::Decoded<_>>().map_err(unreadable)
    }

    /// Sessions that somebody else is writing are left out: they begin anew, or end, by that. So two statements never wait for each other in a circle.
    async fn beat(&self, beats: &[Beat], known: &[(GroupId, GroupVersion)]) -> Result<Vec<(GroupId, GroupVersion)>> {
        let beat = sqlx::query(
            "WITH alive AS MATERIALIZED (SELECT s.group_id, s.member_id FROM unnest($1::text[], $2::text[]) AS b (group_id, member_id) \
               JOIN group_sessions s ON s.group_id = b.group_id AND s.member_id = b.member_id FOR UPDATE OF s SKIP LOCKED), \
             renewed AS (UPDATE group_sessions s SET expires_at = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + s.timeout_ms \
               FROM alive a WHERE s.group_id = a.group_id AND s.member_id = a.member_id) \
             SELECT k.group_id, coalesce(g.version, 0) AS version FROM unnest($3::text[], $4::bigint[]) AS k (group_id, version) \
             LEFT JOIN groups g ON g.group_id = k.group_id WHERE coalesce(g.version, 0) <> k.version",
        );
        let beat = beat.bind(beats.iter().map(|b| &*b.group.0).collect::<Vec<_>>());
        let beat = beat.bind(beats.iter().map(|b| &*b.member.0).collect::<Vec<_>>());
        let beat = beat.bind(known.iter().map(|(group, _)| &*group.0).collect::<Vec<_>>());
        let beat = beat.bind(known.iter().map(|(_, version)| number(*version)).collect::<Vec<_>>());
        let changed = self.session().await?.fetch_all(beat).await.map_err(committing)?;
        changed.iter().map(|row| Ok((group_id(row)?, version(row)?))).collect::<rows::Decoded<_>>().map_err(unreadable)
    }

    async fn sweep_groups(&self, sweep: GroupSweep) -> Result<Option<GroupsSwept>> {
        let turn = sqlx::query(
            "WITH before AS MATERIALIZED (SELECT swept_at, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now FROM group_sweeps \
               WHERE EXISTS (SELECT FROM group_sessions) OR EXISTS (SELECT FROM groups WHERE due_at IS NOT NULL) FOR UPDATE SKIP LOCKED), \
             turn AS (UPDATE group_sweeps SET swept_at = before.now FROM before WHERE before.swept_at <= before.now - $1 \
               RETURNING before.now - before.swept_at > $2 AS lapsed), \
             renewed AS (UPDATE group_sessions s SET expires_at = before.now + s.timeout_ms FROM turn, before WHERE turn.lapsed) \
             SELECT FROM turn",
        );
        let mut session = self.session().await?;
        let turn = session.fetch_all(turn.bind(millis(sweep.period)).bind(millis(sweep.lapse))).await.map_err(committing)?;
        if turn.is_empty() {
            return Ok(None);
        }
        let found = sqlx::query(
            "WITH now AS MATERIALIZED (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) \
             (SELECT group_id, NULL AS member_id, NULL AS expires_at FROM groups, now WHERE due_at <= now.now ORDER BY due_at LIMIT $2) \
             UNION ALL \
             (SELECT group_id, member_id, expires_at FROM group_sessions, now WHERE expires_at <= now.now - $1 LIMIT $2)",
        );
        let found = session.fetch_all(found.bind(millis(sweep.grace)).bind(rows::limit(sweep.limit))).await.map_err(reading)?;
        swept(&found).map(Some).map_err(unreadable)
    }

    async fn expire_groups(&self, retention: Duration, linger: Duration, limit: usize) -> Result<bool> {
        let mut session = self.session().await?;
        // A row is locked before its offsets go, so that nobody joins meanwhile.
        let offsets = sqlx::query(
            "WITH old AS MATERIALIZED (SELECT clock_timestamp() - $1 * interval '1 millisecond' AS at, \
               floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1 AS ms), \
             doomed AS MATERIALIZED (SELECT o.group_id, o.topic_id, o.partition FROM old, group_offsets o \
               LEFT JOIN groups g ON g.group_id = o.group_id \
               WHERE o.committed_at <= old.at AND (g.group_id IS NULL OR g.empty_since <= old.ms) LIMIT $2 + 1), \
             locked AS MATERIALIZED (SELECT g.group_id FROM groups g, old WHERE g.group_id IN (SELECT group_id FROM doomed) \
               AND g.empty_since <= old.ms FOR UPDATE OF g SKIP LOCKED), \
             gone AS (DELETE FROM group_offsets o USING old, (SELECT * FROM doomed LIMIT $2) d \
               WHERE o.group_id = d.group_id AND o.topic_id = d.topic_id AND o.partition = d.partition AND o.committed_at <= old.at \
               AND (o.group_id IN (SELECT group_id FROM locked) OR NOT EXISTS (SELECT FROM groups g WHERE g.group_id = o.group_id))) \
             SELECT count(*) > $2 AS more FROM doomed",
        );
        let offsets = session.fetch_all(offsets.bind(millis(retention)).bind(rows::limit(limit))).await.map_err(committing)?;
        let rows = sqlx::query(
            "WITH doomed AS MATERIALIZED (SELECT g.group_id FROM groups g \
               WHERE g.empty_since <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1 \
               AND NOT EXISTS (SELECT FROM group_offsets o WHERE o.group_id = g.group_id) \
               AND NOT EXISTS (SELECT FROM group_sessions s WHERE s.group_id = g.group_id) LIMIT $2 FOR UPDATE OF g SKIP LOCKED), \
             gone AS (DELETE FROM groups g USING doomed d WHERE g.group_id = d.group_id) \
             SELECT count(*) >= $2 AS more FROM doomed",
        );
        let rows = session.fetch_all(rows.bind(millis(linger)).bind(rows::limit(limit))).await.map_err(committing)?;
        let more = offsets.iter().chain(&rows).map(|row| row.try_get::<bool, _>("more")).collect::<rows::Decoded<Vec<_>>>();
        more.map(|more| more.contains(&true)).map_err(unreadable)
    }

    async fn delete_offsets(&self, group: &GroupId, expected: GroupVersion, logs: &[TopicPartition]) -> Result<bool> {
        let delete = sqlx::query(
            "WITH present AS MATERIALIZED (SELECT FROM groups WHERE group_id = $1 AND version = $2 FOR SHARE), \
             allowed AS (SELECT FROM present UNION ALL SELECT WHERE $2 = 0 AND NOT EXISTS (SELECT FROM groups WHERE group_id = $1)), \
             gone AS (DELETE FROM group_offsets o USING allowed, unnest($3::uuid[], $4::int[]) AS l (topic_id, partition) \
               WHERE o.group_id = $1 AND o.topic_id = l.topic_id AND o.partition = l.partition) \
             SELECT FROM allowed",
        );
        let (topics, partitions) = rows::log_arrays(logs);
        let delete = delete.bind(&*group.0).bind(number(expected)).bind(topics).bind(partitions);
        Ok(!self.session().await?.fetch_all(delete).await.map_err(committing)?.is_empty())
    }
}

fn names(groups: &[GroupId]) -> Vec<&str> {
    groups.iter().map(|group| &*group.0).collect()
}

pub(super) fn number(version: GroupVersion) -> i64 {
    i64::try_from(version.0).unwrap_or(i64::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX >> 1)
}

fn unreadable(error: sqlx::Error) -> MetaError {
    reading(error.into())
}

fn version(row: &PgRow) -> rows::Decoded<GroupVersion> {
    rows::size(row, "version").map(GroupVersion)
}

fn group_id(row: &PgRow) -> rows::Decoded<GroupId> {
    row.try_get::<&str, _>("group_id").map(|group| GroupId(group.into()))
}

fn group_row(row: &PgRow) -> rows::Decoded<GroupRow> {
    let state: Vec<u8> = row.try_get("state")?;
    Ok(GroupRow { version: version(row)?, state: state.into(), now: rows::timestamp(row, "now")? })
}

fn listed(row: &PgRow) -> rows::Decoded<(GroupId, GroupLabel)> {
    let label = GroupLabel { kind: row.try_get("kind")?, phase: row.try_get("phase")?, protocol_type: row.try_get("protocol_type")? };
    Ok((group_id(row)?, label))
}

fn swept(found: &[PgRow]) -> rows::Decoded<GroupsSwept> {
    let mut swept = GroupsSwept::default();
    for row in found {
        let group = group_id(row)?;
        match row.try_get::<Option<&str>, _>("member_id")? {
            None => swept.due.push(group),
            Some(member) => {
                let ends = row.try_get::<Option<i64>, _>("expires_at")?.unwrap_or(0);
                swept.silent.push((Beat { group, member: MemberId(member.into()) }, Timestamp(ends)));
            }
        }
    }
    Ok(swept)
}
