//! Leases of node ids in SQLite: one process needs one, and gets it by the same rules as many.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use super::connect::commit;
use super::errors::{committing, reading};
use super::{SqliteMetastore, rows};
use crate::metastore::{Agent, LeaseOutcome, Leases, Result};
use crate::types::{NodeId, Timestamp};

#[async_trait]
impl Leases for SqliteMetastore {
    async fn cluster_id(&self, proposal: &str) -> Result<String> {
        let first = sqlx::query("UPDATE cluster SET id = coalesce(id, ?1) RETURNING id");
        let row = first.bind(proposal).fetch_one(&self.writer).await.map_err(committing)?;
        row.try_get("id").map_err(reading)
    }

    async fn acquire_lease(&self, wanted: Option<NodeId>, agent: &Agent, ttl: Duration) -> Result<LeaseOutcome> {
        let now = self.clock.now();
        let mut transaction = self.begin().await?;
        let live = live(&mut transaction, now).await.map_err(reading)?;
        let others = |node: NodeId| live.iter().find(|a| a.node == node && a.instance != agent.instance);
        let mine = || live.iter().find(|a| a.instance == agent.instance).map(|a| a.node);
        let node = match wanted {
            Some(node) => node,
            None => mine().or_else(|| (0..=i32::MAX).map(NodeId).find(|n| others(*n).is_none())).unwrap_or(NodeId(0)),
        };
        if let Some(holder) = others(node) {
            return Ok(LeaseOutcome::Held(holder.clone()));
        }
        lease(&mut transaction, node, agent, now.plus(ttl)).await.map_err(reading)?;
        commit(transaction).await?;
        Ok(LeaseOutcome::Granted(node))
    }

    async fn renew_lease(&self, node: NodeId, instance: [u8; 16], ttl: Duration) -> Result<bool> {
        let until = self.clock.now().plus(ttl);
        let renewal = sqlx::query("UPDATE agents SET expires_at = ?3 WHERE node = ?1 AND instance = ?2");
        let renewal = renewal.bind(node.0).bind(instance.as_slice()).bind(until.0);
        Ok(renewal.execute(&self.writer).await.map_err(committing)?.rows_affected() == 1)
    }

    async fn release_lease(&self, node: NodeId, instance: [u8; 16]) -> Result<()> {
        let release = sqlx::query("DELETE FROM agents WHERE node = ?1 AND instance = ?2");
        release.bind(node.0).bind(instance.as_slice()).execute(&self.writer).await.map_err(committing)?;
        Ok(())
    }

    async fn live_agents(&self) -> Result<Vec<Agent>> {
        let mut transaction = self.readers().begin().await.map_err(reading)?;
        live(&mut transaction, self.clock.now()).await.map_err(reading)
    }
}

async fn live(transaction: &mut Transaction<'_, Sqlite>, now: Timestamp) -> std::result::Result<Vec<Agent>, sqlx::Error> {
    let live = sqlx::query("SELECT node, instance, host, port, rack, version FROM agents WHERE expires_at > ?1 ORDER BY node");
    live.bind(now.0).fetch_all(&mut **transaction).await?.iter().map(agent).collect()
}

async fn lease(
    transaction: &mut Transaction<'_, Sqlite>,
    node: NodeId,
    agent: &Agent,
    until: Timestamp,
) -> std::result::Result<(), sqlx::Error> {
    let lease = sqlx::query(
        "INSERT OR REPLACE INTO agents (node, instance, host, port, rack, version, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    );
    let lease = lease.bind(node.0).bind(agent.instance.as_slice()).bind(&agent.advertised_host).bind(agent.advertised_port);
    lease.bind(agent.rack.as_deref()).bind(&agent.version).bind(until.0).execute(&mut **transaction).await?;
    Ok(())
}

fn agent(row: &SqliteRow) -> std::result::Result<Agent, sqlx::Error> {
    Ok(Agent {
        node: NodeId(row.try_get("node")?),
        instance: rows::id(row, "instance")?,
        advertised_host: row.try_get("host")?,
        advertised_port: rows::size(row, "port")?,
        rack: row.try_get("rack")?,
        version: row.try_get("version")?,
    })
}
