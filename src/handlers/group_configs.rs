//! The configurations a group can have (KIP-848), which may be set before the group exists. Pure.

use std::time::Duration;

use super::configs::{Config, Table, Values};
use crate::metastore::Configs;

const SESSION_TIMEOUT: &str = "consumer.session.timeout.ms";
const HEARTBEAT_INTERVAL: &str = "consumer.heartbeat.interval.ms";

/// Those of groups with the consumer protocol.
pub(super) const GROUP: Table = Table {
    resource: "group",
    configs: &[
        Config::new(HEARTBEAT_INTERVAL, Values::Int(500, 60_000), "5000", "How often members of the group are told to send heartbeats.")
            .broker("group.consumer.heartbeat.interval.ms"),
        Config::new(
            SESSION_TIMEOUT,
            Values::Int(1_000, 1_800_000),
            "45000",
            "How long a member of the group may be silent before it is taken for dead.",
        )
        .broker("group.consumer.session.timeout.ms"),
    ],
    together,
};

/// A member that sends heartbeats as it is told must not be taken for dead.
fn together(configs: &Configs) -> Result<(), String> {
    let settings = GroupSettings::of(configs);
    let heartbeat = settings.consumer_heartbeat_interval.unwrap_or(Duration::from_secs(5));
    let session = settings.consumer_session_timeout.unwrap_or(Duration::from_secs(45));
    if heartbeat >= session {
        let (heartbeat, session) = (heartbeat.as_millis(), session.as_millis());
        return Err(format!("{SESSION_TIMEOUT} ({session}) must be larger than {HEARTBEAT_INTERVAL} ({heartbeat})"));
    }
    Ok(())
}

/// What is set for a group; `None`: as the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupSettings {
    pub consumer_session_timeout: Option<Duration>,
    pub consumer_heartbeat_interval: Option<Duration>,
}

impl GroupSettings {
    /// From what is set on the group. Values were checked when they were set; one that cannot be read counts as not set.
    #[must_use]
    pub fn of(configs: &Configs) -> GroupSettings {
        let millis = |name: &str| configs.get(name).and_then(|value| value.trim().parse().ok()).map(Duration::from_millis);
        GroupSettings { consumer_session_timeout: millis(SESSION_TIMEOUT), consumer_heartbeat_interval: millis(HEARTBEAT_INTERVAL) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(set: &[(&str, &str)]) -> Configs {
        set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_rise_and_defaults_are_legal_together() {
        assert!(GROUP.configs.is_sorted_by(|a, b| a.name < b.name));
        let defaults = GROUP.configs.iter().map(|config| (config.name.to_owned(), config.default.to_owned())).collect();
        assert_eq!(GROUP.check(&defaults), Ok(()));
    }

    #[test]
    fn a_session_is_longer_than_a_heartbeat() {
        assert!(GROUP.check(&configs(&[(SESSION_TIMEOUT, "5000")])).is_err());
        assert!(GROUP.check(&configs(&[(SESSION_TIMEOUT, "5000"), (HEARTBEAT_INTERVAL, "1000")])).is_ok());
        assert!(GROUP.check(&configs(&[(HEARTBEAT_INTERVAL, "45000")])).is_err());
        let settings = GroupSettings::of(&configs(&[(HEARTBEAT_INTERVAL, "1000")]));
        assert_eq!(settings.consumer_heartbeat_interval, Some(Duration::from_secs(1)));
        assert_eq!(settings.consumer_session_timeout, None);
    }
}
