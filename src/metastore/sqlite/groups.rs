//! Groups in SQLite. Writing transactions follow one another, so a look at the version and what depends on it are of one moment.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use super::connect::{begin, commit};
use super::errors::reading;
use super::json::Rows;
use super::{SqliteMetastore, rows};
use crate::metastore::{Beat, GroupChange, GroupLabel, GroupRow, GroupSweep, GroupVersion, Groups, GroupsSwept, Result};
use crate::types::{GroupId, MemberId, Timestamp, TopicPartition};

type Work<'c> = Transaction<'c, Sqlite>;
type Done<T> = std::result::Result<T, sqlx::Error>;

#[async_trait]
impl Groups for SqliteMetastore {
    async fn load_groups(&self, groups: &[GroupId]) -> Result<Vec<GroupRow>> {
        let now = self.clock.now();
        let mut transaction = self.readers().begin().await.map_err(reading)?;
        let mut found = Vec::new();
        for group in groups {
            found.push(load(&mut transaction, group, now).await.map_err(reading)?);
        }
        Ok(found)
    }

    async fn store_group(&self, group: &GroupId, expected: GroupVersion, change: &GroupChange) -> Result<Option<GroupVersion>> {
        let now = self.clock.now();
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        if version_of(&mut transaction, group).await.map_err(reading)? != expected {
            return Ok(None);
        }
        let version = store(&mut transaction, group, change).await.map_err(reading)?;
        change_sessions(&mut transaction, group, change, now).await.map_err(reading)?;
        commit(transaction).await?;
        Ok(Some(version))
    }

    async fn delete_group(&self, group: &GroupId, expected: GroupVersion) -> Result<bool> {
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        if version_of(&mut transaction, group).await.map_err(reading)? != expected {
            return Ok(false);
        }
        let everything = [
            "DELETE FROM groups WHERE group_id = ?1",
            "DELETE FROM group_sessions WHERE group_id = ?1",
            "DELETE FROM group_offsets WHERE group_id = ?1",
        ];
        for statement in everything {
            sqlx::query(statement).bind(&*group.0).execute(&mut *transaction).await.map_err(reading)?;
        }
        commit(transaction).await?;
        Ok(true)
    }

    async fn list_groups(&self) -> Result<Vec<(GroupId, GroupLabel)>> {
        let list = sqlx::query(
            "SELECT group_id, kind, phase, protocol_type FROM groups UNION ALL \
             SELECT DISTINCT group_id, '', '', '' FROM group_offsets WHERE group_id NOT IN (SELECT group_id FROM groups) \
             ORDER BY group_id",
        );
        let found = list.fetch_all(self.readers()).await.map_err(reading)?;
        found.iter().map(listed).collect::<Done<_>>().map_err(reading)
    }

    async fn beat(&self, beats: &[Beat], known: &[(GroupId, GroupVersion)]) -> Result<Vec<(GroupId, GroupVersion)>> {
        let now = self.clock.now();
        if !beats.is_empty() {
            let mut writer = self.writer().await?;
            let mut transaction = begin(&mut writer).await?;
            for beat in beats {
                let renew = sqlx::query("UPDATE group_sessions SET expires_at = ?3 + timeout_ms WHERE group_id = ?1 AND member_id = ?2");
                let renew = renew.bind(&*beat.group.0).bind(&*beat.member.0).bind(now.0);
                renew.execute(&mut *transaction).await.map_err(reading)?;
            }
            commit(transaction).await?;
        }
        let mut transaction = self.readers().begin().await.map_err(reading)?;
        let mut changed = Vec::new();
        for (group, known) in known {
            let present = version_of(&mut transaction, group).await.map_err(reading)?;
            if present != *known {
                changed.push((group.clone(), present));
            }
        }
        Ok(changed)
    }

    /// Only reads, unless a lapse has to be made good: a laptop's disk can sleep.
    async fn sweep_groups(&self, sweep: GroupSweep) -> Result<Option<GroupsSwept>> {
        let now = self.clock.now();
        let before = Timestamp(self.groups_swept_at.load(Ordering::Acquire));
        if now < before.plus(sweep.period) {
            return Ok(None);
        }
        if now > before.plus(sweep.lapse) {
            let mut writer = self.writer().await?;
            let mut transaction = begin(&mut writer).await?;
            let renew = sqlx::query("UPDATE group_sessions SET expires_at = ?1 + timeout_ms").bind(now.0);
            let renewed = renew.execute(&mut *transaction).await.map_err(reading)?.rows_affected();
            if renewed > 0 {
                commit(transaction).await?;
            }
        }
        self.groups_swept_at.store(now.0, Ordering::Release);
        let limit = i64::try_from(sweep.limit).unwrap_or(i64::MAX);
        let due = sqlx::query("SELECT group_id FROM groups WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2").bind(now.0).bind(limit);
        let due = due.fetch_all(self.readers()).await.map_err(reading)?;
        let silent = sqlx::query("SELECT group_id, member_id, expires_at FROM group_sessions WHERE expires_at <= ?1 - ?2 LIMIT ?3");
        let silent = silent.bind(now.0).bind(millis(sweep.grace)).bind(limit).fetch_all(self.readers()).await.map_err(reading)?;
        let due = due.iter().map(group_id).collect::<Done<_>>().map_err(reading)?;
        let silent = silent.iter().map(silent_member).collect::<Done<_>>().map_err(reading)?;
        Ok(Some(GroupsSwept { due, silent }))
    }

    async fn expire_groups(&self, retention: Duration, linger: Duration, limit: usize) -> Result<bool> {
        let now = self.clock.now();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let before = |age: Duration| now.0.saturating_sub(millis(age));
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        let offsets = sqlx::query(
            "DELETE FROM group_offsets WHERE (group_id, topic_id, partition) IN \
             (SELECT o.group_id, o.topic_id, o.partition FROM group_offsets o LEFT JOIN groups g ON g.group_id = o.group_id \
              WHERE o.committed_at <= ?1 AND (g.group_id IS NULL OR g.empty_since <= ?1) LIMIT ?2)",
        );
        let offsets = offsets.bind(before(retention)).bind(limit).execute(&mut *transaction).await.map_err(reading)?.rows_affected();
        let rows = sqlx::query(
            "DELETE FROM groups WHERE group_id IN (SELECT group_id FROM groups g WHERE empty_since <= ?1 \
             AND NOT EXISTS (SELECT 1 FROM group_offsets o WHERE o.group_id = g.group_id) \
             AND NOT EXISTS (SELECT 1 FROM group_sessions s WHERE s.group_id = g.group_id) LIMIT ?2)",
        );
        let rows = rows.bind(before(linger)).bind(limit).execute(&mut *transaction).await.map_err(reading)?.rows_affected();
        if offsets + rows > 0 {
            commit(transaction).await?;
        }
        Ok(offsets.max(rows) >= limit.unsigned_abs())
    }

    async fn delete_offsets(&self, group: &GroupId, expected: GroupVersion, logs: &[TopicPartition]) -> Result<bool> {
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        if version_of(&mut transaction, group).await.map_err(reading)? != expected {
            return Ok(false);
        }
        let delete = sqlx::query(
            "DELETE FROM group_offsets WHERE group_id = ?1 AND (topic_id, partition) IN \
             (SELECT unhex(value ->> 0), value ->> 1 FROM json_each(?2))",
        );
        delete.bind(&*group.0).bind(Rows::of_logs(logs)).execute(&mut *transaction).await.map_err(reading)?;
        commit(transaction).await?;
        Ok(true)
    }
}

pub(super) async fn version_of(transaction: &mut Work<'_>, group: &GroupId) -> Done<GroupVersion> {
    let find = sqlx::query("SELECT version FROM groups WHERE group_id = ?1").bind(&*group.0);
    Ok(find.fetch_optional(&mut **transaction).await?.as_ref().map(version).transpose()?.unwrap_or(GroupVersion::NONE))
}

async fn load(transaction: &mut Work<'_>, group: &GroupId, now: Timestamp) -> Done<GroupRow> {
    let find = sqlx::query("SELECT version, state FROM groups WHERE group_id = ?1").bind(&*group.0);
    let Some(row) = find.fetch_optional(&mut **transaction).await? else {
        return Ok(GroupRow { version: GroupVersion::NONE, state: bytes::Bytes::new(), now });
    };
    let state: Vec<u8> = row.try_get("state")?;
    Ok(GroupRow { version: version(&row)?, state: state.into(), now })
}

async fn store(transaction: &mut Work<'_>, group: &GroupId, change: &GroupChange) -> Done<GroupVersion> {
    let next = sqlx::query("UPDATE group_versions SET last = last + 1 RETURNING last AS version");
    let next = version(&next.fetch_one(&mut **transaction).await?)?;
    let store = sqlx::query(
        "INSERT OR REPLACE INTO groups (group_id, version, kind, phase, protocol_type, state, due_at, empty_since) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    );
    let label = &change.label;
    let store = store.bind(&*group.0).bind(i64::try_from(next.0).unwrap_or(i64::MAX));
    let store = store.bind(&label.kind).bind(&label.phase).bind(&label.protocol_type).bind(&*change.state);
    store.bind(change.due.map(|t| t.0)).bind(change.empty_since.map(|t| t.0)).execute(&mut **transaction).await?;
    Ok(next)
}

async fn change_sessions(transaction: &mut Work<'_>, group: &GroupId, change: &GroupChange, now: Timestamp) -> Done<()> {
    for member in &change.forget {
        let forget = sqlx::query("DELETE FROM group_sessions WHERE group_id = ?1 AND member_id = ?2");
        forget.bind(&*group.0).bind(&*member.0).execute(&mut **transaction).await?;
    }
    for (member, timeout) in &change.renew {
        let renew =
            sqlx::query("INSERT OR REPLACE INTO group_sessions (group_id, member_id, timeout_ms, expires_at) VALUES (?1, ?2, ?3, ?4)");
        let renew = renew.bind(&*group.0).bind(&*member.0).bind(millis(*timeout)).bind(now.plus(*timeout).0);
        renew.execute(&mut **transaction).await?;
    }
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX >> 1)
}

fn version(row: &SqliteRow) -> Done<GroupVersion> {
    rows::size(row, "version").map(GroupVersion)
}

fn group_id(row: &SqliteRow) -> Done<GroupId> {
    row.try_get::<&str, _>("group_id").map(|group| GroupId(group.into()))
}

fn silent_member(row: &SqliteRow) -> Done<(Beat, Timestamp)> {
    let member = MemberId(row.try_get::<&str, _>("member_id")?.into());
    Ok((Beat { group: group_id(row)?, member }, rows::timestamp(row, "expires_at")?))
}

fn listed(row: &SqliteRow) -> Done<(GroupId, GroupLabel)> {
    let label = GroupLabel { kind: row.try_get("kind")?, phase: row.try_get("phase")?, protocol_type: row.try_get("protocol_type")? };
    Ok((group_id(row)?, label))
}
