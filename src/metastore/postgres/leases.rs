//! Leases of node ids in Postgres, by Postgres' clock.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::errors::{Failure, committing, reading};
use super::session::Session;
use super::{PostgresMetastore, rows};
use crate::metastore::{Agent, LeaseOutcome, Leases, MetaError, Result};
use crate::types::NodeId;

/// How often a free id may be taken by another before we have it: more than there are agents that start at once.
const ATTEMPTS: usize = 100;

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
        for _ in 0..ATTEMPTS {
            let node = match wanted {
                Some(node) => node,
                None => free_id(&mut session, agent.instance).await.map_err(reading)?,
            };
            if lease(&mut session, node, agent, ttl).await.map_err(committing)? {
                return Ok(LeaseOutcome::Granted(node));
            }
            let live = live(&mut session).await.map_err(reading)?;
            let holder = live.into_iter().find(|a| a.node == node && a.instance != agent.instance);
            // Without a holder the lease ended a moment ago: once more.
            if let (Some(_), Some(holder)) = (wanted, holder) {
                return Ok(LeaseOutcome::Held(holder));
            }
        }
        Err(MetaError::Unavailable(format!("no node id could be leased in {ATTEMPTS} attempts")))
    }

    async fn renew_lease(&self, node: NodeId, instance: [u8; 16], ttl: Duration) -> Result<bool> {
        let renewal = sqlx::query(
            "UPDATE agents SET expires_at = clock_timestamp() + $3 * interval '1 millisecond' WHERE node = $1 AND instance = $2",
        );
        let renewal = renewal.bind(node.0).bind(rows::uuid(instance)).bind(millis(ttl));
        Ok(self.session().await?.execute(renewal).await.map_err(committing)? == 1)
    }

    async fn release_lease(&self, node: NodeId, instance: [u8; 16]) -> Result<()> {
        let release = sqlx::query("DELETE FROM agents WHERE node = $1 AND instance = $2").bind(node.0).bind(rows::uuid(instance));
        self.session().await?.execute(release).await.map(drop).map_err(committing)
    }

    async fn live_agents(&self) -> Result<Vec<Agent>> {
        live(&mut self.session().await?).await.map_err(reading)
    }
}

/// As SQL multiplies intervals.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The id that `instance` holds already, or the lowest that nobody holds.
async fn free_id(session: &mut Session, instance: [u8; 16]) -> std::result::Result<NodeId, Failure> {
    let free = sqlx::query(
        "SELECT coalesce(\
           (SELECT min(node) FROM agents WHERE instance = $1 AND expires_at > clock_timestamp()), \
           (SELECT min(n) FROM generate_series(0, (SELECT count(*) FROM agents)::int) n WHERE NOT EXISTS \
             (SELECT FROM agents a WHERE a.node = n AND a.expires_at > clock_timestamp()))) AS node",
    );
    let found = session.fetch_all(free.bind(rows::uuid(instance))).await?;
    let row = found.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(NodeId(row.try_get("node")?))
}

/// False if another holds it.
async fn lease(session: &mut Session, node: NodeId, agent: &Agent, ttl: Duration) -> std::result::Result<bool, Failure> {
    let lease = sqlx::query(
        "INSERT INTO agents AS a (node, instance, host, port, rack, version, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7 * interval '1 millisecond') \
         ON CONFLICT (node) DO UPDATE SET instance = excluded.instance, host = excluded.host, port = excluded.port, \
         rack = excluded.rack, version = excluded.version, expires_at = excluded.expires_at \
         WHERE a.instance = excluded.instance OR a.expires_at <= clock_timestamp()",
    );
    let lease = lease.bind(node.0).bind(rows::uuid(agent.instance)).bind(&agent.advertised_host);
    let lease = lease.bind(i32::from(agent.advertised_port)).bind(agent.rack.as_deref()).bind(&agent.version).bind(millis(ttl));
    Ok(session.execute(lease).await? == 1)
}

async fn live(session: &mut Session) -> std::result::Result<Vec<Agent>, Failure> {
    let live = sqlx::query(
        "SELECT node, instance, host, port::bigint AS port, rack, version FROM agents WHERE expires_at > clock_timestamp() ORDER BY node",
    );
    session.fetch_all(live).await?.iter().map(|row| Ok(agent(row)?)).collect()
}

fn agent(row: &PgRow) -> rows::Decoded<Agent> {
    Ok(Agent {
        node: NodeId(row.try_get("node")?),
        instance: rows::id(row, "instance")?,
        advertised_host: row.try_get("host")?,
        advertised_port: rows::size(row, "port")?,
        rack: row.try_get("rack")?,
        version: row.try_get("version")?,
    })
}
