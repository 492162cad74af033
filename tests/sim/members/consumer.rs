//! A member of the consumer protocol: it only beats, and is told what to read.

use std::collections::BTreeSet;
use std::sync::Arc;

use yaks::group::consumer::{Beaten, Heartbeat, LEAVES};
use yaks::types::MemberId;

use super::{Called, Member, REBALANCE, SESSION, Share, TOPICS};
use crate::agent::Agent;
use crate::sights::Sight;

/// How much a heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Everything,
    /// The broker knows the rest.
    NothingNew,
}

impl Member {
    pub(super) async fn live_consumer(&mut self, agent: &Arc<Agent>) {
        let id = self.id.get_or_insert_with(|| MemberId(format!("{} {}", self.name, self.life).into())).clone();
        let mut share = Share { id, generation: 0, owned: BTreeSet::new() };
        let mut says = match self.beat(agent, &share, Says::Everything).await {
            Called::Answered(beaten) => self.hears(&beaten, &mut share),
            Called::Refused(error) => return self.refused(&error),
            Called::Lost => return,
        };
        loop {
            tokio::time::sleep(self.dice.millis(200, 800)).await;
            let Some(agent) = self.connected() else { continue };
            if self.gives_up() {
                return self.leave(&agent, share).await;
            }
            // One that commits in an old epoch learns the new one by its next heartbeat.
            self.work(&agent, &share).await;
            if self.id.is_none() {
                return self.send_late(&share, &self.positions);
            }
            says = match self.beat(&agent, &share, says).await {
                Called::Answered(beaten) => {
                    let (before, positions) = (share.clone(), self.positions.clone());
                    let says = self.hears(&beaten, &mut share);
                    if share.generation != before.generation {
                        self.send_late(&before, &positions);
                    }
                    says
                }
                Called::Refused(error) => {
                    self.refused(&error);
                    return self.send_late(&share, &self.positions);
                }
                // The answer may have been lost: everything is said again.
                Called::Lost => Says::Everything,
            }
        }
    }

    async fn leave(&mut self, agent: &Agent, share: Share) {
        if self.dice.chance(500) {
            let _left_or_not = self.beat(agent, &Share { generation: LEAVES, ..share.clone() }, Says::NothingNew).await;
        }
        self.forget();
        self.send_late(&share, &self.positions);
        self.positions.clear();
        self.stay_away().await;
    }

    async fn beat(&mut self, agent: &Agent, share: &Share, says: Says) -> Called<Beaten> {
        let full = says == Says::Everything;
        let heartbeat = Heartbeat {
            member: share.id.clone(),
            epoch: share.generation,
            instance: None,
            rack: None,
            client_id: self.name.as_str().into(),
            client_host: "/sim".into(),
            rebalance_timeout: full.then_some(REBALANCE),
            session_timeout: Some(SESSION),
            names: full.then(|| TOPICS.map(Into::into).to_vec()),
            pattern: None,
            assignor: None,
            owned: full.then(|| share.owned.iter().copied().collect()),
            catalog: None,
        };
        let group = self.kind.group();
        self.call(agent, agent.rooms.groups.consumer_heartbeat(&group, heartbeat)).await
    }

    /// What it is told to give up it gives up at once, and says so the next time.
    fn hears(&mut self, beaten: &Beaten, share: &mut Share) -> Says {
        if share.generation != beaten.epoch {
            self.world.trace.note(&self.name, format_args!("is in epoch {}", beaten.epoch));
            self.world.sights.saw(Sight::GroupRebalanced, u64::from(beaten.epoch > 1));
        }
        share.generation = beaten.epoch;
        if let Some(assignment) = &beaten.assignment {
            share.owned = assignment.iter().collect();
        }
        self.takes(share);
        if beaten.assignment.is_some() { Says::Everything } else { Says::NothingNew }
    }
}
