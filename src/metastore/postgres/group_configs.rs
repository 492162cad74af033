//! Configurations of groups in Postgres.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::Row as _;

use super::PostgresMetastore;
use super::errors::{Failure, reading};
use super::session::Session;
use crate::metastore::{Configs, GroupConfigs, Result};
use crate::types::GroupId;

#[async_trait]
impl GroupConfigs for PostgresMetastore {
    async fn group_configs(&self, groups: &[GroupId]) -> Result<Vec<Configs>> {
        find(&mut self.session().await?, groups).await.map_err(reading)
    }

    async fn replace_group_configs(&self, group: &GroupId, expected: &Configs, configs: &Configs) -> Result<bool> {
        let mut session = self.session().await?;
        // There may be no row of the group to lock, so the one row of all rare changes is.
        session.begin_between_rounds().await?;
        let found = find(&mut session, std::slice::from_ref(group)).await.map_err(reading)?;
        if found.first() != Some(expected) {
            session.roll_back().await?;
            return Ok(false);
        }
        replace(&mut session, group, configs).await.map_err(reading)?;
        session.commit().await?;
        Ok(true)
    }

    async fn configured_groups(&self) -> Result<Vec<GroupId>> {
        let groups = sqlx::query("SELECT DISTINCT group_id FROM group_configs ORDER BY group_id");
        let found = self.session().await?.fetch_all(groups).await.map_err(reading)?;
        let group = |row: &sqlx::postgres::PgRow| Ok(GroupId(row.try_get::<&str, _>("group_id")?.into()));
        found.iter().map(group).collect::<std::result::Result<_, sqlx::Error>>().map_err(|e| reading(e.into()))
    }
}

async fn find(session: &mut Session, groups: &[GroupId]) -> std::result::Result<Vec<Configs>, Failure> {
    let set = sqlx::query("SELECT group_id, name, value FROM group_configs WHERE group_id = ANY($1)");
    let set = set.bind(groups.iter().map(|group| &*group.0).collect::<Vec<&str>>());
    let mut by_group: HashMap<String, Configs> = HashMap::new();
    for row in session.fetch_all(set).await? {
        by_group.entry(row.try_get("group_id")?).or_default().insert(row.try_get("name")?, row.try_get("value")?);
    }
    Ok(groups.iter().map(|group| by_group.get(&*group.0).cloned().unwrap_or_default()).collect())
}

async fn replace(session: &mut Session, group: &GroupId, configs: &Configs) -> std::result::Result<(), Failure> {
    session.execute(sqlx::query("DELETE FROM group_configs WHERE group_id = $1").bind(&*group.0)).await?;
    let insert = sqlx::query(
        "INSERT INTO group_configs (group_id, name, value) SELECT $1, c.name, c.value FROM unnest($2::text[], $3::text[]) AS c (name, value)",
    );
    let (names, values): (Vec<&str>, Vec<&str>) = configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).unzip();
    session.execute(insert.bind(&*group.0).bind(names).bind(values)).await.map(drop)
}
