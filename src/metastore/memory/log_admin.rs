//! Administration of logs in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::{MemoryMetastore, State};
use crate::metastore::{DecideTrim, LogAdmin, Result, Trimmed};
use crate::partition::{ProducerKey, ProducerState, TrimTo};
use crate::types::{Offset, ProducerId, TopicId, TopicPartition};

#[async_trait]
impl LogAdmin for MemoryMetastore {
    async fn trim_logs(&self, trims: &[(TopicPartition, TrimTo)], decide: &DecideTrim) -> Result<Vec<Trimmed>> {
        // A round in progress would store the head it has read.
        let round = self.round.lock().await;
        let mut state = self.state();
        let mut trim = |(log, to): &(TopicPartition, TrimTo)| {
            let head = state.heads.get_mut(log)?;
            let trimmed = decide(head, *to);
            if let Ok(trimmed) = trimmed {
                *head = trimmed;
            }
            Some(trimmed)
        };
        let trimmed = trims.iter().map(&mut trim).collect();
        drop(state);
        drop(round);
        Ok(trimmed)
    }

    async fn sweep_trimmed_segments(&self, limit: usize) -> Result<bool> {
        let mut state = self.state();
        let below = |((log, last), _): &(&(TopicPartition, Offset), _)| state.heads.get(log).is_some_and(|head| *last < head.log_start);
        let doomed: Vec<_> = state.segments.iter().filter(below).map(|(key, _)| *key).take(limit + 1).collect();
        for key in doomed.iter().take(limit) {
            state.segments.remove(key);
        }
        Ok(doomed.len() > limit)
    }

    async fn log_sizes(&self, topics: &[TopicId]) -> Result<Vec<(TopicPartition, u64)>> {
        let state = self.state();
        let mut sizes: BTreeMap<TopicPartition, u64> = BTreeMap::new();
        for topic in topics {
            let logs = State::logs_of(*topic);
            let range = (*logs.start(), Offset(i64::MIN))..=(*logs.end(), Offset(i64::MAX));
            for ((log, _), segment) in state.segments.range(range) {
                *sizes.entry(*log).or_default() += segment.range.len;
            }
        }
        Ok(sizes.into_iter().collect())
    }

    async fn producers(&self, logs: &[TopicPartition], limit: usize) -> Result<Vec<(ProducerKey, ProducerState)>> {
        let state = self.state();
        let logs: BTreeSet<TopicPartition> = logs.iter().copied().collect();
        let of = |log: TopicPartition| state.producers.range((log, ProducerId(i64::MIN))..=(log, ProducerId(i64::MAX)));
        Ok(logs.into_iter().flat_map(of).take(limit).map(|(key, state)| (*key, state.clone())).collect())
    }
}
