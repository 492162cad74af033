//! Configurations of groups in SQLite.

use async_trait::async_trait;
use sqlx::{Row as _, SqliteConnection};

use super::SqliteMetastore;
use super::connect::{begin, commit};
use super::errors::reading;
use crate::metastore::{Configs, GroupConfigs, Result};
use crate::types::GroupId;

#[async_trait]
impl GroupConfigs for SqliteMetastore {
    async fn group_configs(&self, groups: &[GroupId]) -> Result<Vec<Configs>> {
        let mut transaction = self.readers().begin().await.map_err(reading)?;
        let mut found = Vec::with_capacity(groups.len());
        for group in groups {
            found.push(find(&mut transaction, group).await.map_err(reading)?);
        }
        Ok(found)
    }

    async fn replace_group_configs(&self, group: &GroupId, expected: &Configs, configs: &Configs) -> Result<bool> {
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        if find(&mut transaction, group).await.map_err(reading)? != *expected {
            return Ok(false);
        }
        let old = sqlx::query("DELETE FROM group_configs WHERE group_id = ?1").bind(&*group.0);
        old.execute(&mut *transaction).await.map_err(reading)?;
        for (name, value) in configs {
            let set = sqlx::query("INSERT INTO group_configs (group_id, name, value) VALUES (?1, ?2, ?3)");
            set.bind(&*group.0).bind(name).bind(value).execute(&mut *transaction).await.map_err(reading)?;
        }
        commit(transaction).await?;
        Ok(true)
    }

    async fn configured_groups(&self) -> Result<Vec<GroupId>> {
        let groups = sqlx::query("SELECT DISTINCT group_id FROM group_configs ORDER BY group_id");
        let found = groups.fetch_all(self.readers()).await.map_err(reading)?;
        found
            .iter()
            .map(|row| Ok(GroupId(row.try_get::<&str, _>("group_id")?.into())))
            .collect::<std::result::Result<_, _>>()
            .map_err(reading)
    }
}

async fn find(connection: &mut SqliteConnection, group: &GroupId) -> std::result::Result<Configs, sqlx::Error> {
    let set = sqlx::query("SELECT name, value FROM group_configs WHERE group_id = ?1").bind(&*group.0);
    set.fetch_all(connection).await?.iter().map(|row| Ok((row.try_get("name")?, row.try_get("value")?))).collect()
}
