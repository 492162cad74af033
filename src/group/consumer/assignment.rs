//! Sets of partitions.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{TopicId, TopicPartition};

/// Partitions by topic; no topic without any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment(BTreeMap<TopicId, BTreeSet<i32>>);

impl Assignment {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    pub fn topics(&self) -> impl Iterator<Item = (TopicId, &BTreeSet<i32>)> {
        self.0.iter().map(|(topic, partitions)| (*topic, partitions))
    }

    pub fn iter(&self) -> impl Iterator<Item = TopicPartition> {
        self.0.iter().flat_map(|(topic, partitions)| partitions.iter().map(|partition| TopicPartition::new(*topic, *partition)))
    }

    #[must_use]
    pub fn contains(&self, log: TopicPartition) -> bool {
        self.0.get(&log.topic).is_some_and(|partitions| partitions.contains(&log.partition.0))
    }

    pub fn insert(&mut self, log: TopicPartition) {
        self.0.entry(log.topic).or_default().insert(log.partition.0);
    }

    #[must_use]
    pub fn overlaps(&self, other: &Assignment) -> bool {
        self.iter().any(|log| other.contains(log))
    }

    #[must_use]
    pub fn is_within(&self, other: &Assignment) -> bool {
        self.iter().all(|log| other.contains(log))
    }

    /// What passes.
    #[must_use]
    pub fn filter(&self, pass: impl Fn(TopicPartition) -> bool) -> Assignment {
        self.iter().filter(|log| pass(*log)).collect()
    }
}

impl FromIterator<TopicPartition> for Assignment {
    fn from_iter<I: IntoIterator<Item = TopicPartition>>(logs: I) -> Self {
        let mut assignment = Assignment::default();
        logs.into_iter().for_each(|log| assignment.insert(log));
        assignment
    }
}
