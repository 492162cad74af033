//! A group as administrators see it.

use std::sync::Arc;

use bytes::Bytes;

use super::{ClassicGroup, InstanceId, Phase};
use crate::types::MemberId;

/// DescribeGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub state: &'static str,
    /// Empty if nobody ever joined.
    pub protocol_type: Arc<str>,
    /// Empty unless the group is stable.
    pub protocol: Arc<str>,
    pub members: Vec<MemberDescription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    pub member: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

impl ClassicGroup {
    #[must_use]
    pub fn describe(&self) -> Description {
        let protocol = self.protocol.clone().filter(|_| matches!(self.phase, Phase::Stable { .. }));
        let members = self.members.iter().map(|(id, m)| MemberDescription {
            member: id.clone(),
            instance: m.instance.clone(),
            client_id: Arc::clone(&m.client_id),
            client_host: Arc::clone(&m.client_host),
            metadata: m.metadata(protocol.as_deref()),
            assignment: m.assignment.clone(),
        });
        let members = members.collect();
        let protocol_type = self.protocol_type.clone().unwrap_or_else(|| "".into());
        Description { state: self.phase_name(), protocol_type, protocol: protocol.unwrap_or_else(|| "".into()), members }
    }
}
