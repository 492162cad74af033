//! What is set on groups, remembered for a moment: few groups have anything set, so all of it is asked for at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::fresh::Fresh;
use super::group_configs::GroupSettings;
use crate::metastore::{self, GroupConfigs};
use crate::types::GroupId;

/// How old what is remembered may be.
const KEEP: Duration = Duration::from_secs(5);

type Settings = Arc<HashMap<GroupId, GroupSettings>>;

/// Knows the settings of all groups that have any.
pub(super) struct GroupSettingsCache {
    configs: Arc<dyn GroupConfigs>,
    known: Fresh<Settings>,
    last: Mutex<Settings>,
}

impl GroupSettingsCache {
    pub(super) fn new(configs: Arc<dyn GroupConfigs>) -> Self {
        GroupSettingsCache { configs, known: Fresh::new(KEEP), last: Mutex::default() }
    }

    /// Where the metastore cannot be asked: those known last.
    pub(super) async fn of(&self, group: &GroupId) -> GroupSettings {
        self.known.get_or_ask(self.ask()).await.get(group).copied().unwrap_or_default()
    }

    async fn ask(&self) -> Settings {
        match self.read().await {
            Ok(settings) => {
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&settings);
                settings
            }
            Err(error) => {
                tracing::debug!(%error, "the configurations of groups cannot be asked for; those known last are used");
                Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }

    async fn read(&self) -> metastore::Result<Settings> {
        let groups = self.configs.configured_groups().await?;
        let configs = if groups.is_empty() { Vec::new() } else { self.configs.group_configs(&groups).await? };
        Ok(Arc::new(groups.into_iter().zip(configs.iter().map(GroupSettings::of)).collect()))
    }
}
