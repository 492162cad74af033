//! What is gathered before it is written: batches of many logs, grouped by log, in the order of arrival. Pure.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use crate::types::{BatchSummary, TopicPartition};

/// Batches of one future object. `T` is what the owner wants back with each batch: its ticket.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    groups: Vec<Group<T>>,
    index: HashMap<TopicPartition, usize>,
    bytes: u64,
    records: u64,
}

/// The batches of one log, oldest first.
#[derive(Debug)]
pub(super) struct Group<T> {
    pub(super) log: TopicPartition,
    pub(super) batches: Vec<(BatchSummary, Bytes)>,
    /// As many as batches, in the same order.
    pub(super) tickets: Vec<T>,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Buffer { groups: Vec::new(), index: HashMap::new(), bytes: 0, records: 0 }
    }
}

impl<T> Buffer<T> {
    pub(super) fn add(&mut self, log: TopicPartition, summary: BatchSummary, bytes: Bytes, ticket: T) {
        self.bytes += bytes.len() as u64;
        self.records += u64::from(summary.record_count);
        let at = *self.index.entry(log).or_insert(self.groups.len());
        if at == self.groups.len() {
            self.groups.push(Group { log, batches: Vec::new(), tickets: Vec::new() });
        }
        if let Some(group) = self.groups.get_mut(at) {
            group.batches.push((summary, bytes));
            group.tickets.push(ticket);
        }
    }

    /// Bytes of all batches.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn into_groups(self) -> Vec<Group<T>> {
        self.groups
    }
}

/// When an open buffer is sealed.
#[derive(Debug, Clone, Copy)]
pub(super) struct SealRule {
    pub(super) flush_bytes: u64,
    /// Zero: as soon as somebody is free to write it.
    pub(super) flush_interval: Duration,
}

impl SealRule {
    /// How long a buffer with `bytes` bytes, whose first batch came `age` ago, may still gather: zero means seal it now.
    #[must_use]
    pub(super) fn patience(&self, bytes: u64, age: Duration) -> Duration {
        if bytes >= self.flush_bytes { Duration::ZERO } else { self.flush_interval.saturating_sub(age) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Timestamp, TopicId};

    proptest! {
        #[test]
        fn every_log_keeps_its_order_and_nothing_is_lost(partitions in prop::collection::vec(0i32..5, 0..50)) {
            let mut buffer = Buffer::default();
            for (ticket, partition) in partitions.iter().enumerate() {
                let summary = BatchSummary { len: 10, record_count: 2, base_timestamp: Timestamp(0), max_timestamp: Timestamp(0), producer: None };
                buffer.add(TopicPartition::new(TopicId([0; 16]), *partition), summary, Bytes::from_static(b"0123456789"), ticket);
            }
            prop_assert_eq!(buffer.bytes(), 10 * partitions.len() as u64);
            prop_assert_eq!(buffer.records(), 2 * partitions.len() as u64);
            let groups = buffer.into_groups();
            for group in &groups {
                let expected: Vec<usize> = (0..partitions.len()).filter(|i| partitions[*i] == group.log.partition.0).collect();
                prop_assert_eq!(&group.tickets, &expected);
                prop_assert_eq!(group.batches.len(), expected.len());
            }
            prop_assert_eq!(groups.iter().map(|g| g.tickets.len()).sum::<usize>(), partitions.len());
        }
    }

    #[test]
    fn a_buffer_is_sealed_by_size_or_age() {
        let rule = SealRule { flush_bytes: 100, flush_interval: Duration::from_millis(250) };
        assert_eq!(rule.patience(100, Duration::ZERO), Duration::ZERO);
        assert_eq!(rule.patience(99, Duration::from_millis(50)), Duration::from_millis(200));
        assert_eq!(rule.patience(1, Duration::from_millis(300)), Duration::ZERO);
        assert_eq!(SealRule { flush_interval: Duration::ZERO, ..rule }.patience(1, Duration::ZERO), Duration::ZERO);
    }
}
