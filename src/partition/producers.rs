//! Idempotent producers: which batch of theirs comes next (KIP-98, KIP-360; Kafka's `ProducerStateManager`).

use std::collections::VecDeque;

use crate::types::{BatchSummary, Offset, ProducerEpoch, ProducerStamp, Sequence, Timestamp};

/// How many batches per producer and log are remembered, so that a retry gets its original offset (as in Kafka).
pub const RECENT_BATCHES: usize = 5;

/// A batch that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentBatch {
    pub base_sequence: Sequence,
    pub last_sequence: Sequence,
    pub base_offset: Offset,
}

/// What one log knows of one producer id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    pub epoch: ProducerEpoch,
    /// True if every batch of this epoch was accepted here, from sequence 0 on. Only then is whatever lies behind the newest
    /// certainly in the log; a state that began in the middle (the earlier one was forgotten) cannot say so.
    pub complete: bool,
    /// The newest last; at most [`RECENT_BATCHES`]; never empty.
    pub recent: VecDeque<RecentBatch>,
    /// When the newest was accepted, by the metastore's clock.
    pub last_used: Timestamp,
}

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is the next one.
    Accept,
    /// It was accepted before, at this offset.
    Duplicate(Offset),
    /// It was accepted before, at an offset that is forgotten.
    OldDuplicate,
    /// It lies behind the newest batch, and nobody knows whether it was ever accepted.
    TooLate,
    /// Something before it is missing.
    Early,
    /// Nothing is known of the producer, and this is not its first batch: something before it may be on its way, or the state
    /// was forgotten for age.
    EarlyUnknown,
    /// The producer id lives on with a newer epoch.
    Fenced,
}

/// Decides about one batch of `stamp`'s producer with `record_count` records, given what the log knows of it.
#[must_use]
pub fn admit(state: Option<&ProducerState>, stamp: &ProducerStamp, record_count: u32) -> Admission {
    let Some(state) = state else {
        return if stamp.base_sequence == Sequence(0) { Admission::Accept } else { Admission::EarlyUnknown };
    };
    if stamp.epoch < state.epoch {
        return Admission::Fenced;
    }
    if stamp.epoch > state.epoch {
        return if stamp.base_sequence == Sequence(0) { Admission::Accept } else { Admission::Early };
    }
    admit_same_epoch(state, stamp, record_count)
}

fn admit_same_epoch(state: &ProducerState, stamp: &ProducerStamp, record_count: u32) -> Admission {
    let last_sequence = stamp.base_sequence.plus(record_count - 1);
    let same = |b: &&RecentBatch| b.base_sequence == stamp.base_sequence && b.last_sequence == last_sequence;
    if let Some(batch) = state.recent.iter().find(same) {
        return Admission::Duplicate(batch.base_offset);
    }
    let Some(newest) = state.recent.back() else { return Admission::Accept };
    if stamp.base_sequence == newest.last_sequence.plus(1) {
        return Admission::Accept;
    }
    // Sequences live on a ring: whatever is at most half of it behind the newest is old, the rest is ahead.
    if newest.last_sequence.distance_from(last_sequence) >= 1 << 30 {
        Admission::Early
    } else if state.complete {
        Admission::OldDuplicate
    } else {
        Admission::TooLate
    }
}

impl ProducerState {
    /// The state after `batch` was accepted at `base_offset`. Does not ask whether it should have been.
    #[must_use]
    pub fn after(
        previous: Option<&ProducerState>,
        stamp: &ProducerStamp,
        batch: &BatchSummary,
        base_offset: Offset,
        now: Timestamp,
    ) -> ProducerState {
        let (complete, mut recent) = match previous {
            Some(state) if state.epoch == stamp.epoch => (state.complete, state.recent.clone()),
            Some(_) | None => (stamp.base_sequence == Sequence(0), VecDeque::with_capacity(RECENT_BATCHES)),
        };
        if recent.len() == RECENT_BATCHES {
            recent.pop_front();
        }
        let last_sequence = stamp.base_sequence.plus(batch.record_count - 1);
        recent.push_back(RecentBatch { base_sequence: stamp.base_sequence, last_sequence, base_offset });
        ProducerState { epoch: stamp.epoch, complete, recent, last_used: now }
    }

    /// Everything but epoch and time as bytes, for a metastore: 1 byte `complete`, then 16 bytes for each recent batch, newest
    /// last, big-endian.
    #[must_use]
    pub fn encode_batches(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + 16 * self.recent.len());
        out.push(u8::from(self.complete));
        for batch in &self.recent {
            out.extend(batch.base_sequence.0.to_be_bytes());
            out.extend(batch.last_sequence.0.to_be_bytes());
            out.extend(batch.base_offset.0.to_be_bytes());
        }
        out
    }

    /// The state whose batches [`ProducerState::encode_batches`] wrote; `None` if `bytes` are something else.
    #[must_use]
    pub fn decode(epoch: ProducerEpoch, bytes: &[u8], last_used: Timestamp) -> Option<ProducerState> {
        let (complete, bytes) = bytes.split_first()?;
        let (batches, rest) = bytes.as_chunks::<16>();
        if *complete > 1 || !rest.is_empty() || batches.is_empty() || batches.len() > RECENT_BATCHES {
            return None;
        }
        let int = |b: &[u8]| b.try_into().map(i32::from_be_bytes).ok();
        let recent = batches
            .iter()
            .map(|b| {
                Some(RecentBatch {
                    base_sequence: Sequence(int(&b[..4])?),
                    last_sequence: Sequence(int(&b[4..8])?),
                    base_offset: Offset(b[8..].try_into().map(i64::from_be_bytes).ok()?),
                })
            })
            .collect::<Option<VecDeque<_>>>()?;
        Some(ProducerState { epoch, complete: *complete == 1, recent, last_used })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::ProducerId;

    fn stamp(epoch: i16, base_sequence: i32) -> ProducerStamp {
        ProducerStamp { id: ProducerId(7), epoch: ProducerEpoch(epoch), base_sequence: Sequence(base_sequence), transactional: false }
    }

    fn summary(count: u32) -> BatchSummary {
        BatchSummary { len: 70, record_count: count, base_timestamp: Timestamp(0), max_timestamp: Timestamp(0), producer: None }
    }

    fn accept(state: Option<ProducerState>, epoch: i16, sequence: i32, count: u32, offset: i64) -> ProducerState {
        assert_eq!(admit(state.as_ref(), &stamp(epoch, sequence), count), Admission::Accept);
        ProducerState::after(state.as_ref(), &stamp(epoch, sequence), &summary(count), Offset(offset), Timestamp(1))
    }

    #[test]
    fn sequences_follow_each_other_and_wrap() {
        let state = accept(None, 0, 0, 10, 0);
        let state = accept(Some(state), 0, 10, 5, 10);
        assert_eq!(admit(Some(&state), &stamp(0, 16), 1), Admission::Early);
        let near_end = ProducerState {
            epoch: ProducerEpoch(0),
            complete: true,
            recent: [RecentBatch { base_sequence: Sequence(0), last_sequence: Sequence(i32::MAX - 1), base_offset: Offset(0) }].into(),
            last_used: Timestamp(0),
        };
        let wrapped = accept(Some(near_end), 0, i32::MAX, 3, 100);
        assert_eq!(wrapped.recent.back().map(|b| b.last_sequence), Some(Sequence(1)));
        accept(Some(wrapped), 0, 2, 1, 103);
    }

    #[test]
    fn the_last_five_batches_are_answered_with_their_offsets() {
        let mut state = None;
        for i in 0..8 {
            state = Some(accept(state, 0, i * 10, 10, i64::from(i) * 10));
        }
        for i in 3..8 {
            assert_eq!(admit(state.as_ref(), &stamp(0, i * 10), 10), Admission::Duplicate(Offset(i64::from(i) * 10)));
        }
        assert_eq!(admit(state.as_ref(), &stamp(0, 20), 10), Admission::OldDuplicate);
    }

    #[test]
    fn epochs_fence_and_start_at_zero() {
        let state = accept(None, 3, 0, 1, 0);
        assert_eq!(admit(Some(&state), &stamp(2, 1), 1), Admission::Fenced);
        assert_eq!(admit(Some(&state), &stamp(4, 1), 1), Admission::Early);
        let state = accept(Some(state), 4, 0, 1, 1);
        assert_eq!(state.recent.len(), 1);
        assert_eq!(admit(None, &stamp(0, 5), 1), Admission::EarlyUnknown);
    }

    #[test]
    fn a_state_that_began_in_the_middle_calls_nothing_a_duplicate_that_it_did_not_see() {
        let state = ProducerState::after(None, &stamp(0, 10), &summary(5), Offset(0), Timestamp(1));
        assert_eq!(admit(Some(&state), &stamp(0, 10), 5), Admission::Duplicate(Offset(0)));
        assert_eq!(admit(Some(&state), &stamp(0, 5), 5), Admission::TooLate);
    }

    proptest! {
        #[test]
        fn a_retry_of_an_accepted_batch_is_never_accepted_again(
            start in 0..=i32::MAX,
            counts in prop::collection::vec(1u32..1000, 1..20),
            again in 0usize..20,
        ) {
            let mut state = Some(ProducerState {
                epoch: ProducerEpoch(0),
                complete: true,
                recent: [RecentBatch { base_sequence: Sequence(start), last_sequence: Sequence(start), base_offset: Offset(0) }].into(),
                last_used: Timestamp(0),
            });
            let (mut next, mut offset, mut sent) = (Sequence(start).plus(1), 1, Vec::new());
            for count in counts {
                state = Some(accept(state, 0, next.0, count, offset));
                sent.push((next.0, count));
                next = next.plus(count);
                offset += i64::from(count);
            }
            let (sequence, count) = sent[again % sent.len()];
            prop_assert!(matches!(admit(state.as_ref(), &stamp(0, sequence), count), Admission::Duplicate(_) | Admission::OldDuplicate));
        }

        #[test]
        fn recent_batches_are_read_back(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(state) = ProducerState::decode(ProducerEpoch(0), &bytes, Timestamp(0)) {
                prop_assert_eq!(state.encode_batches(), bytes);
            }
        }
    }
}
