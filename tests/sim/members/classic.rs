//! A member of the classic protocol: whoever leads shares out the logs.

use std::collections::BTreeSet;
use std::sync::Arc;

use yaks::group::GroupError;
use yaks::group::classic::{Join, Joined, Leaver, Protocol, Sync};
use yaks::metastore::{TopicQuery, Topics as _};
use yaks::types::{TopicName, TopicPartition};

use super::{Called, Member, REBALANCE, SESSION, Share, TOPICS};
use crate::agent::Agent;
use crate::sights::Sight;

impl Member {
    pub(super) async fn live_classic(&mut self, agent: &Arc<Agent>) {
        let (group, join) = (self.kind.group(), self.join(agent));
        let joined = match self.call(agent, agent.rooms.groups.join(&group, join)).await {
            Called::Answered(joined) => joined,
            Called::Refused(GroupError::MemberIdRequired(id)) => return self.id = Some(id),
            Called::Refused(error) => return self.refused(&error),
            Called::Lost => return,
        };
        self.id = Some(joined.member.clone());
        self.world.trace.note(&self.name, format_args!("is in generation {} as {}", joined.generation, joined.member));
        self.world.sights.saw(Sight::GroupRebalanced, u64::from(joined.generation > 1));
        self.world.groups().saw_generation(self.kind, &joined.member, joined.generation);
        let Some(owned) = self.sync(agent, &joined).await else { return };
        let share = Share { id: joined.member, generation: joined.generation, owned };
        self.takes(&share);
        self.follow(&share).await;
        self.send_late(&share, &self.positions);
    }

    fn join(&self, agent: &Agent) -> Join {
        Join {
            member: self.id.clone(),
            new_id: agent.rooms.groups.member_id(&self.name),
            instance: None,
            client_id: self.name.as_str().into(),
            client_host: "/sim".into(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: bytes::Bytes::from_static(b"\0\0\0\0\0\0") }],
            id_first: true,
            may_skip_assignment: true,
        }
    }

    /// Its share, as the leader decided: numbers of logs.
    async fn sync(&mut self, agent: &Agent, joined: &Joined) -> Option<BTreeSet<TopicPartition>> {
        let logs = logs(agent).await?;
        let members = joined.members.len().max(1);
        let share = |of: usize| (0..logs.len() as u8).filter(|at| usize::from(*at) % members == of).collect::<Vec<u8>>();
        let sync = Sync {
            member: joined.member.clone(),
            instance: None,
            generation: joined.generation,
            protocol_type: joined.protocol_type.clone(),
            protocol: joined.protocol.clone(),
            assignments: joined.members.iter().enumerate().map(|(at, m)| (m.member.clone(), share(at).into())).collect(),
        };
        let group = self.kind.group();
        match self.call(agent, agent.rooms.groups.sync(&group, sync)).await {
            Called::Answered(assigned) => Some(assigned.assignment.iter().filter_map(|at| logs.get(usize::from(*at)).copied()).collect()),
            Called::Refused(error) => {
                self.refused(&error);
                None
            }
            Called::Lost => None,
        }
    }

    /// Until the generation is over, or the member has had enough.
    async fn follow(&mut self, share: &Share) {
        loop {
            tokio::time::sleep(self.dice.millis(200, 800)).await;
            let Some(agent) = self.connected() else { continue };
            if self.gives_up() {
                return self.go(&agent, share).await;
            }
            if !self.work(&agent, share).await {
                return;
            }
            let group = self.kind.group();
            match self.call(&agent, agent.rooms.groups.heartbeat(&group, &share.id, None, share.generation)).await {
                Called::Answered(()) | Called::Lost => {}
                Called::Refused(error) => return self.refused(&error),
            }
        }
    }

    /// Leaves, or only falls silent.
    async fn go(&mut self, agent: &Agent, share: &Share) {
        if self.dice.chance(500) {
            let (group, leaver) = (self.kind.group(), Leaver { member: Some(share.id.clone()), instance: None });
            let _left_or_not = self.call(agent, agent.rooms.groups.leave(&group, vec![leaver])).await;
        }
        self.forget();
        self.send_late(share, &self.positions);
        self.positions.clear();
        self.stay_away().await;
    }
}

/// All that members read; `None` if that cannot be told now.
async fn logs(agent: &Agent) -> Option<Vec<TopicPartition>> {
    let names = TOPICS.map(|name| TopicName::parse(name).expect("legal")).to_vec();
    let found = agent.call(agent.link.find_topics(&TopicQuery::Names(names))).await?.ok()?;
    Some(found.iter().flat_map(|topic| (0..topic.partitions).map(|p| TopicPartition::new(topic.id, p))).collect())
}
