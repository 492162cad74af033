//! What administrators ask: to see groups, to list them, to delete them or their offsets.

use super::GroupError;
use super::classic::{ClassicGroup, Description};
use super::coordinator::{Coordinator, check_length, check_name};
use super::drive::decode;
use super::state::{CLASSIC_KIND, GroupState};
use crate::metastore::{GroupRow, GroupVersion};
use crate::types::{GroupId, TopicPartition};

/// How often a deletion is tried whose group changes meanwhile.
const ATTEMPTS: usize = 5;

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub group: GroupId,
    /// `Classic` or `Consumer`.
    pub kind: String,
    pub phase: String,
    /// Empty for a group that never had members.
    pub protocol_type: String,
}

impl Coordinator {
    /// DescribeGroups, in the order asked; [`GroupError::NotFound`] for those that are not there.
    pub async fn describe(&self, groups: &[GroupId]) -> Result<Vec<Result<Description, GroupError>>, GroupError> {
        let named: Vec<GroupId> = groups.iter().filter(|group| check_length(group).is_ok()).cloned().collect();
        let mut rows = self.inner().groups.load_groups(&named).await?.into_iter();
        let mut described = Vec::new();
        for group in groups {
            let row = if check_length(group).is_ok() { rows.next() } else { None };
            described.push(match row {
                Some(row) => self.describe_row(group, &row).await,
                None => Err(GroupError::InvalidGroupId),
            });
        }
        Ok(described)
    }

    async fn describe_row(&self, group: &GroupId, row: &GroupRow) -> Result<Description, GroupError> {
        if row.version == GroupVersion::NONE {
            return if self.has_offsets(group).await? { Ok(ClassicGroup::default().describe()) } else { Err(GroupError::NotFound) };
        }
        match decode(group, row)? {
            GroupState::Classic(group) => Ok(group.describe()),
            GroupState::Consumer(_) => Err(GroupError::NotFound),
        }
    }

    async fn has_offsets(&self, group: &GroupId) -> Result<bool, GroupError> {
        Ok(!self.inner().offsets.committed_offsets(group, None).await?.is_empty())
    }

    /// ListGroups, in order of name.
    pub async fn list(&self) -> Result<Vec<Listed>, GroupError> {
        let found = self.inner().groups.list_groups().await?;
        let listed = |(group, label): (GroupId, crate::metastore::GroupLabel)| match &*label.kind {
            // It has offsets and nothing else.
            "" => Listed { group, kind: CLASSIC_KIND.to_owned(), phase: "Empty".to_owned(), protocol_type: String::new() },
            _ => Listed { group, kind: label.kind, phase: label.phase, protocol_type: label.protocol_type },
        };
        Ok(found.into_iter().map(listed).collect())
    }

    /// DeleteGroups.
    pub async fn delete(&self, group: &GroupId) -> Result<(), GroupError> {
        check_name(group)?;
        let entry = self.inner().table.entry(group);
        for _ in 0..ATTEMPTS {
            let (row, state, _) = self.inner().load(&entry).await?;
            if row.version == GroupVersion::NONE && !self.has_offsets(group).await? {
                return Err(GroupError::NotFound);
            }
            state.check_delete()?;
            if self.inner().groups.delete_group(group, row.version).await? {
                self.changed(group, GroupVersion::NONE);
                return Ok(());
            }
        }
        Err(GroupError::Unavailable("the group changes all the time".to_owned()))
    }

    /// OffsetDelete: for each topic its logs; an answer for each, in order.
    pub async fn delete_offsets(
        &self,
        group: &GroupId,
        topics: &[(&str, Vec<TopicPartition>)],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        check_length(group)?;
        let entry = self.inner().table.entry(group);
        for _ in 0..ATTEMPTS {
            let (row, state, _) = self.inner().load(&entry).await?;
            if row.version == GroupVersion::NONE && !self.has_offsets(group).await? {
                return Err(GroupError::NotFound);
            }
            let stay = state.check_delete_offsets(topics.iter().map(|(topic, _)| *topic))?;
            let logs = topics.iter().zip(&stay).filter(|(_, stays)| !**stays).flat_map(|((_, logs), _)| logs);
            let logs: Vec<TopicPartition> = logs.copied().collect();
            if self.inner().groups.delete_offsets(group, row.version, &logs).await? {
                return Ok(stay.into_iter().map(|stays| if stays { Err(GroupError::Subscribed) } else { Ok(()) }).collect());
            }
        }
        Err(GroupError::Unavailable("the group changes all the time".to_owned()))
    }
}
