//! Changing configurations, which AlterConfigs and IncrementalAlterConfigs do alike.

use std::collections::HashMap;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::broker::Broker;
use super::configs::Changes;
use super::error::{self, Refused};
use super::group_configs::GROUP;
use super::resources::{self, Resource};
use super::topic_configs::TOPIC;
use crate::metastore::{Configs, Reconfiguration};
use crate::types::{GroupId, TopicName};

/// How often a change is made again because somebody else was faster.
const ATTEMPTS: usize = 10;

/// What a client wants of one resource.
pub(super) struct Alteration {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
    pub(super) changes: Result<Changes, Refused>,
}

/// Whether changes are made or only judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Make,
    Judge,
}

impl Mode {
    pub(super) fn validating(validate_only: bool) -> Mode {
        if validate_only { Mode::Judge } else { Mode::Make }
    }
}

/// Resources one after the other, each all or nothing; one that is named twice is refused.
pub(super) async fn alter(broker: &Broker, alterations: &[Alteration], mode: Mode) -> Vec<Result<(), Refused>> {
    let mut times: HashMap<(i8, &str), usize> = HashMap::new();
    for alteration in alterations {
        *times.entry((alteration.kind, &alteration.name)).or_default() += 1;
    }
    let mut done = Vec::with_capacity(alterations.len());
    for alteration in alterations {
        done.push(if times.get(&(alteration.kind, &*alteration.name)).is_some_and(|times| *times > 1) {
            Err((ResponseError::InvalidRequest, "Each resource must appear at most once.".to_owned()))
        } else {
            alter_one(broker, alteration, mode).await
        });
    }
    done
}

async fn alter_one(broker: &Broker, alteration: &Alteration, mode: Mode) -> Result<(), Refused> {
    let resource = Resource::parse(alteration.kind, &alteration.name)?;
    let changes = alteration.changes.as_ref().map_err(Clone::clone)?;
    match resource {
        Resource::Topic(name) => alter_topic(broker, &name, changes, mode).await,
        Resource::Group(group) => alter_group(broker, &group, changes, mode).await,
        Resource::AllBrokers | Resource::Broker(_) => {
            fixed(changes, "brokers are configured by their environment (YAKS_...), not by clients")
        }
        Resource::BrokerLogger(_) => fixed(changes, resources::LOGGERS),
        Resource::ClientMetrics(_) => fixed(changes, "client telemetry is not collected, so nobody can subscribe to it"),
    }
}

/// Nothing can be changed, but changing nothing is fine.
fn fixed(changes: &Changes, why: &str) -> Result<(), Refused> {
    match changes {
        Changes::Some(changes) if changes.is_empty() => Ok(()),
        Changes::Replace(configs) if configs.is_empty() => Ok(()),
        Changes::Some(_) | Changes::Replace(_) => Err((ResponseError::InvalidRequest, why.to_owned())),
    }
}

async fn alter_topic(broker: &Broker, name: &TopicName, changes: &Changes, mode: Mode) -> Result<(), Refused> {
    let mut topic = resources::topic(broker, name).await?.topic.clone();
    for _ in 0..ATTEMPTS {
        let configs = changes.apply(&TOPIC, &topic.configs)?;
        if mode == Mode::Judge || configs == topic.configs {
            return Ok(());
        }
        let replaced = broker.parts.metastore.replace_topic_configs(topic.id, &topic.configs, &configs).await;
        match replaced.map_err(|failed| error::refused(&failed))? {
            Reconfiguration::Done(topic) => {
                broker.topics.remember(&[topic]);
                return Ok(());
            }
            Reconfiguration::Outdated(found) => topic = found,
            Reconfiguration::Gone => {
                broker.topics.forget(&topic);
                return Err(resources::unknown_topic(name));
            }
        }
    }
    Err(contended())
}

async fn alter_group(broker: &Broker, group: &GroupId, changes: &Changes, mode: Mode) -> Result<(), Refused> {
    let metastore = &broker.parts.metastore;
    for _ in 0..ATTEMPTS {
        let found = metastore.group_configs(std::slice::from_ref(group)).await.map_err(|failed| error::refused(&failed))?;
        let before: Configs = found.into_iter().next().unwrap_or_default();
        let configs = changes.apply(&GROUP, &before)?;
        if mode == Mode::Judge || configs == before {
            return Ok(());
        }
        if metastore.replace_group_configs(group, &before, &configs).await.map_err(|failed| error::refused(&failed))? {
            return Ok(());
        }
    }
    Err(contended())
}

fn contended() -> Refused {
    (ResponseError::RequestTimedOut, "too many others change these configurations at the same time".to_owned())
}
