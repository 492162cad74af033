//! Leases of node ids in SQLite: one process needs one, and gets it by the same rules as many.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use super::connect::{begin, commit};
use super::errors::{committing, reading};
use super::{SqliteMetastore, rows};
use crate::metastore::leases::{Grant, grant};
use crate::metastore::{Agent, LeaseOutcome, Leases, PeerSecrets, Result};
use crate::types::{NodeId, Timestamp};

#[async_trait]
impl Leases for SqliteMetastore {
    async fn cluster_id(&self, proposal: &str) -> Result<String> {
        let first = sqlx::query("UPDATE cluster SET id = coalesce(id, ?1) RETURNING id");
        let row = first.bind(proposal).fetch_one(&mut *self.writer().await?).await.map_err(committing)?;
        row.try_get("id").map_err(reading)
    }

    async fn acquire_lease(&self, wanted: Option<NodeId>, agent: &Agent, ttl: Duration) -> Result<LeaseOutcome> {
        let now = self.clock.now();
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        let live = live(&mut transaction, now).await.map_err(reading)?;
        match grant(&live, wanted, agent) {
            Grant::Held(holder) => Ok(LeaseOutcome::Held(holder)),
            Grant::Store { agent, renamed } => {
                for renamed in &renamed {
                    rename(&mut transaction, renamed).await.map_err(reading)?;
                }
                lease(&mut transaction, &agent, now.plus(ttl)).await.map_err(reading)?;
                commit(transaction).await?;
                Ok(LeaseOutcome::Granted(agent))
            }
        }
    }

    async fn renew_lease(&self, node: NodeId, instance: [u8; 16], ttl: Duration) -> Result<bool> {
        let now = self.clock.now();
        let renewal = sqlx::query("UPDATE agents SET expires_at = ?3 WHERE node = ?1 AND instance = ?2 AND expires_at > ?4");
        let renewal = renewal.bind(node.0).bind(instance.as_slice()).bind(now.plus(ttl).0).bind(now.0);
        Ok(renewal.execute(&mut *self.writer().await?).await.map_err(committing)?.rows_affected() == 1)
    }

    async fn release_lease(&self, node: NodeId, instance: [u8; 16]) -> Result<()> {
        let release = sqlx::query("DELETE FROM agents WHERE node = ?1 AND instance = ?2");
        release.bind(node.0).bind(instance.as_slice()).execute(&mut *self.writer().await?).await.map_err(committing)?;
        Ok(())
    }

    async fn live_agents(&self) -> Result<Vec<Agent>> {
        let mut transaction = self.readers().begin().await.map_err(reading)?;
        live(&mut transaction, self.clock.now()).await.map_err(reading)
    }

    async fn peer_secrets(&self, proposal: [u8; 32]) -> Result<PeerSecrets> {
        let first = "INSERT INTO peer_secrets (only_row, current) VALUES (1, ?1) \
                     ON CONFLICT (only_row) DO UPDATE SET current = peer_secrets.current RETURNING current, previous";
        let row = sqlx::query(first).bind(proposal.as_slice()).fetch_one(&mut *self.writer().await?).await.map_err(committing)?;
        secrets(&row).map_err(reading)
    }

    async fn rotate_peer_secret(&self, next: [u8; 32]) -> Result<PeerSecrets> {
        let rotation = "INSERT INTO peer_secrets (only_row, current) VALUES (1, ?1) ON CONFLICT (only_row) DO UPDATE SET \
                        previous = CASE WHEN current = excluded.current THEN previous ELSE current END, current = excluded.current \
                        RETURNING current, previous";
        let row = sqlx::query(rotation).bind(next.as_slice()).fetch_one(&mut *self.writer().await?).await.map_err(committing)?;
        secrets(&row).map_err(reading)
    }
}

fn secrets(row: &SqliteRow) -> std::result::Result<PeerSecrets, sqlx::Error> {
    let previous: Option<&[u8]> = row.try_get("previous")?;
    Ok(PeerSecrets { current: rows::secret(row.try_get("current")?)?, previous: previous.map(rows::secret).transpose()? })
}

async fn rename(transaction: &mut Transaction<'_, Sqlite>, agent: &Agent) -> std::result::Result<(), sqlx::Error> {
    let rename = sqlx::query("UPDATE agents SET broker = ?2 WHERE node = ?1").bind(agent.node.0).bind(agent.broker.0);
    rename.execute(&mut **transaction).await?;
    Ok(())
}

async fn live(transaction: &mut Transaction<'_, Sqlite>, now: Timestamp) -> std::result::Result<Vec<Agent>, sqlx::Error> {
    let live = sqlx::query(
        "SELECT node, broker, instance, host, port, peer_address, rack, version FROM agents WHERE expires_at > ?1 ORDER BY node",
    );
    live.bind(now.0).fetch_all(&mut **transaction).await?.iter().map(agent).collect()
}

async fn lease(transaction: &mut Transaction<'_, Sqlite>, agent: &Agent, until: Timestamp) -> std::result::Result<(), sqlx::Error> {
    let lease = sqlx::query(
        "INSERT OR REPLACE INTO agents (node, broker, instance, host, port, peer_address, rack, version, expires_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    );
    let lease = lease.bind(agent.node.0).bind(agent.broker.0).bind(agent.instance.as_slice()).bind(&agent.advertised_host);
    let lease = lease.bind(agent.advertised_port).bind(agent.peer_address.as_deref()).bind(agent.rack.as_deref());
    lease.bind(&agent.version).bind(until.0).execute(&mut **transaction).await?;
    Ok(())
}

fn agent(row: &SqliteRow) -> std::result::Result<Agent, sqlx::Error> {
    Ok(Agent {
        node: NodeId(row.try_get("node")?),
        broker: NodeId(row.try_get("broker")?),
        instance: rows::id(row, "instance")?,
        advertised_host: row.try_get("host")?,
        advertised_port: rows::size(row, "port")?,
        peer_address: row.try_get("peer_address")?,
        rack: row.try_get("rack")?,
        version: row.try_get("version")?,
    })
}
