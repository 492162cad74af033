//! Leases of node ids in Postgres, by Postgres' clock.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row as _};

use super::errors::{Failure, committing, reading};
use super::session::Session;
use super::{PostgresMetastore, rows};
use crate::metastore::leases::{Grant, grant};
use crate::metastore::{Agent, LeaseOutcome, Leases, PeerSecrets, Result};
use crate::types::NodeId;

/// Live agents, in order of node id.
const LIVE: &str = "SELECT node, broker, instance, host, port::bigint AS port, peer_address, rack, version FROM agents \
                    WHERE expires_at > clock_timestamp() ORDER BY node";
const LIVE_LOCKED: &str = "SELECT node, broker, instance, host, port::bigint AS port, peer_address, rack, version FROM agents \
                           WHERE expires_at > clock_timestamp() ORDER BY node FOR UPDATE";

#[async_trait]
impl Leases for PostgresMetastore {
    async fn cluster_id(&self, proposal: &str) -> Result<String> {
        let mut session = self.session().await?;
        // The update changes nothing; it makes the row visible whoever inserted it.
        let first = sqlx::query("INSERT INTO cluster (id) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET id = cluster.id RETURNING id");
        let found = session.fetch_all(first.bind(proposal)).await.map_err(committing)?;
        let row = found.first().ok_or(sqlx::Error::RowNotFound);
        row.and_then(|row| row.try_get("id")).map_err(|e| reading(e.into()))
    }

    async fn acquire_lease(&self, wanted: Option<NodeId>, agent: &Agent, ttl: Duration) -> Result<LeaseOutcome> {
        let mut session = self.session().await?;
        session.begin_leasing().await?;
        // Locked, so that no lease that has ended is renewed meanwhile.
        let live = agents(&mut session, LIVE_LOCKED).await.map_err(reading)?;
        match grant(&live, wanted, agent) {
            Grant::Held(holder) => {
                session.roll_back().await?;
                Ok(LeaseOutcome::Held(holder))
            }
            Grant::Store { agent, renamed } => {
                for renamed in &renamed {
                    rename(&mut session, renamed).await.map_err(reading)?;
                }
                lease(&mut session, &agent, ttl).await.map_err(reading)?;
                session.commit().await?;
                Ok(LeaseOutcome::Granted(agent))
            }
        }
    }

    async fn renew_lease(&self, node: NodeId, instance: [u8; 16], ttl: Duration) -> Result<bool> {
        let renewal = sqlx::query(
            "UPDATE agents SET expires_at = clock_timestamp() + $3 * interval '1 millisecond' \
             WHERE node = $1 AND instance = $2 AND expires_at > clock_timestamp()",
        );
        let renewal = renewal.bind(node.0).bind(rows::uuid(instance)).bind(millis(ttl));
        Ok(self.session().await?.execute(renewal).await.map_err(committing)? == 1)
    }

    async fn release_lease(&self, node: NodeId, instance: [u8; 16]) -> Result<()> {
        let release = sqlx::query("DELETE FROM agents WHERE node = $1 AND instance = $2").bind(node.0).bind(rows::uuid(instance));
        self.session().await?.execute(release).await.map(drop).map_err(committing)
    }

    async fn live_agents(&self) -> Result<Vec<Agent>> {
        agents(&mut self.session().await?, LIVE).await.map_err(reading)
    }

    async fn peer_secrets(&self, proposal: [u8; 32]) -> Result<PeerSecrets> {
        let mut session = self.session().await?;
        // Asked for again and again: what changes nothing should write nothing.
        let found = session.fetch_all(sqlx::query("SELECT current, previous FROM peer_secrets")).await.map_err(reading)?;
        if let Some(row) = found.first() {
            return secrets(row).map_err(|e| reading(e.into()));
        }
        // The update changes nothing; it makes the row visible whoever inserted it.
        let first = sqlx::query(
            "INSERT INTO peer_secrets (current) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET current = peer_secrets.current \
             RETURNING current, previous",
        );
        the_secrets(&mut session, first.bind(proposal.to_vec())).await
    }

    async fn rotate_peer_secret(&self, next: [u8; 32]) -> Result<PeerSecrets> {
        let rotation = sqlx::query(
            "INSERT INTO peer_secrets AS p (current) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET current = excluded.current, \
             previous = CASE WHEN p.current = excluded.current THEN p.previous ELSE p.current END RETURNING current, previous",
        );
        the_secrets(&mut self.session().await?, rotation.bind(next.to_vec())).await
    }
}

/// As SQL multiplies intervals.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

async fn lease(session: &mut Session, agent: &Agent, ttl: Duration) -> std::result::Result<(), Failure> {
    let lease = sqlx::query(
        "INSERT INTO agents (node, broker, instance, host, port, peer_address, rack, version, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + $9 * interval '1 millisecond') \
         ON CONFLICT (node) DO UPDATE SET broker = excluded.broker, instance = excluded.instance, host = excluded.host, port = excluded.port, \
         peer_address = excluded.peer_address, rack = excluded.rack, version = excluded.version, expires_at = excluded.expires_at",
    );
    let lease = lease.bind(agent.node.0).bind(agent.broker.0).bind(rows::uuid(agent.instance)).bind(&agent.advertised_host);
    let lease = lease.bind(i32::from(agent.advertised_port)).bind(agent.peer_address.as_deref()).bind(agent.rack.as_deref());
    session.execute(lease.bind(&agent.version).bind(millis(ttl))).await.map(drop)
}

async fn rename(session: &mut Session, agent: &Agent) -> std::result::Result<(), Failure> {
    let rename = sqlx::query("UPDATE agents SET broker = $2 WHERE node = $1").bind(agent.node.0).bind(agent.broker.0);
    session.execute(rename).await.map(drop)
}

async fn agents(session: &mut Session, statement: &'static str) -> std::result::Result<Vec<Agent>, Failure> {
    session.fetch_all(sqlx::query(statement)).await?.iter().map(|row| Ok(agent(row)?)).collect()
}

fn agent(row: &PgRow) -> rows::Decoded<Agent> {
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

async fn the_secrets(session: &mut Session, statement: Query<'_, Postgres, PgArguments>) -> Result<PeerSecrets> {
    let found = session.fetch_all(statement).await.map_err(committing)?;
    let row = found.first().ok_or(sqlx::Error::RowNotFound);
    row.and_then(secrets).map_err(|e| reading(e.into()))
}

fn secrets(row: &PgRow) -> rows::Decoded<PeerSecrets> {
    Ok(PeerSecrets {
        current: rows::secret(row.try_get("current")?)?,
        previous: row.try_get::<Option<&[u8]>, _>("previous")?.map(rows::secret).transpose()?,
    })
}
