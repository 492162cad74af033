//! Configurations of groups in memory.

use async_trait::async_trait;

use super::MemoryMetastore;
use crate::metastore::{Configs, GroupConfigs, Result};
use crate::types::GroupId;

#[async_trait]
impl GroupConfigs for MemoryMetastore {
    async fn group_configs(&self, groups: &[GroupId]) -> Result<Vec<Configs>> {
        let state = self.state();
        Ok(groups.iter().map(|group| state.group_configs.get(group).cloned().unwrap_or_default()).collect())
    }

    async fn replace_group_configs(&self, group: &GroupId, expected: &Configs, configs: &Configs) -> Result<bool> {
        let mut state = self.state();
        if state.group_configs.get(group).unwrap_or(&Configs::new()) != expected {
            return Ok(false);
        }
        if configs.is_empty() {
            state.group_configs.remove(group);
        } else {
            state.group_configs.insert(group.clone(), configs.clone());
        }
        Ok(true)
    }

    async fn configured_groups(&self) -> Result<Vec<GroupId>> {
        Ok(self.state().group_configs.keys().cloned().collect())
    }
}
