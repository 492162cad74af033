//! What an idempotent producer sends to a log hangs together: when a batch of it is lost here, what it has sent after that is not to be stored. Pure.
//!
//! Where the log knows the producer, the rules of the log see to that. Where it does not, nobody can tell a missing beginning from one that was forgotten for
//! age, and what comes first is taken for the beginning, as in Kafka; librdkafka, told of the later success, then counts the missing one as delivered.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::partition::ProducerKey;
use crate::types::{ProducerStamp, TopicPartition};

/// For so long after a loss what follows it is refused: until whatever was on the wire then has arrived. A producer that goes on elsewhere and comes back
/// is not kept out for longer.
const WATCH: Duration = Duration::from_secs(5);
/// Above this many, losses that are over are forgotten.
const SWEEP_ABOVE: usize = 1_024;

/// The first batch of a producer in a log that was lost.
#[derive(Debug, Clone, Copy)]
struct Loss {
    first: ProducerStamp,
    until: Instant,
}

/// The batches of idempotent producers in one buffer.
#[derive(Debug, Default)]
struct Links {
    batches: Vec<(TopicPartition, ProducerStamp)>,
    /// It holds what follows a loss: none of it will be stored.
    doomed: bool,
}

/// The buffers of an agent that are neither committed nor lost, and what was lost a moment ago.
#[derive(Debug)]
pub(super) struct Chains {
    losses: HashMap<ProducerKey, Loss>,
    /// In the order of sealing; the last one is open, and there always is one.
    buffers: VecDeque<Links>,
}

impl Default for Chains {
    fn default() -> Self {
        Chains { losses: HashMap::new(), buffers: VecDeque::from([Links::default()]) }
    }
}

impl Chains {
    /// A batch comes, for the open buffer. False: it follows one that was lost, and must come again after that.
    pub(super) fn take(&mut self, log: TopicPartition, stamp: ProducerStamp) -> bool {
        let key = (log, stamp.id);
        if let Some(Loss { first, until }) = self.losses.get(&key).copied() {
            let is_over = Instant::now() >= until || stamp.epoch > first.epoch;
            if !is_over && follows(&stamp, &first) {
                return false;
            }
            if is_over || stamp == first {
                self.losses.remove(&key);
            }
        }
        if let Some(open) = self.buffers.back_mut() {
            open.batches.push((log, stamp));
        }
        true
    }

    /// Nothing more may be added to the open buffer, if anything is to be stored.
    pub(super) fn open_is_doomed(&self) -> bool {
        self.buffers.back().is_some_and(|open| open.doomed)
    }

    /// The open buffer is sealed; another one is open.
    pub(super) fn seal(&mut self) {
        self.buffers.push_back(Links::default());
    }

    /// Whether the sealed buffer with so many older ones before it must not be stored.
    pub(super) fn is_doomed(&self, before: usize) -> bool {
        self.buffers.get(before).is_some_and(|links| links.doomed)
    }

    /// The sealed buffer with so many older ones before it is lost; with it whatever follows any of it, and the buffers that holds.
    pub(super) fn lost(&mut self, before: usize) {
        let sealed = self.buffers.len() - 1;
        // All of a doomed one counted as lost when it was doomed; some of it may have come again since.
        let Some(links) = (before < sealed).then(|| self.buffers.remove(before)).flatten().filter(|links| !links.doomed) else { return };
        self.lose_all(&links.batches);
        for later in before..self.buffers.len() {
            let losses = &self.losses;
            let is_broken = |(log, stamp): &(TopicPartition, ProducerStamp)| {
                losses.get(&(*log, stamp.id)).is_some_and(|loss| follows(stamp, &loss.first))
            };
            let doomed = self.buffers.get_mut(later).filter(|links| !links.doomed && links.batches.iter().any(is_broken));
            if let Some(links) = doomed {
                links.doomed = true;
                let batches = std::mem::take(&mut links.batches);
                self.lose_all(&batches);
            }
        }
    }

    /// The oldest buffers, so many, are committed.
    pub(super) fn committed(&mut self, count: usize) {
        self.buffers.drain(..count.min(self.buffers.len() - 1));
    }

    fn lose_all(&mut self, batches: &[(TopicPartition, ProducerStamp)]) {
        for (log, stamp) in batches {
            self.lose(*log, *stamp);
        }
    }

    /// A batch is lost, or comes and cannot be taken.
    pub(super) fn lose(&mut self, log: TopicPartition, stamp: ProducerStamp) {
        let now = Instant::now();
        if self.losses.len() > SWEEP_ABOVE {
            self.losses.retain(|_, loss| now < loss.until);
        }
        let loss = self.losses.entry((log, stamp.id)).or_insert(Loss { first: stamp, until: now });
        if loss.until <= now || !follows(&stamp, &loss.first) {
            loss.first = stamp;
        }
        loss.until = now + WATCH;
    }
}

/// Whether a batch comes later than `first` in the same epoch of one producer.
fn follows(stamp: &ProducerStamp, first: &ProducerStamp) -> bool {
    let ahead = stamp.base_sequence.distance_from(first.base_sequence);
    stamp.epoch == first.epoch && ahead > 0 && ahead < 1 << 30
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{ProducerEpoch, ProducerId, Sequence, TopicId};

    fn log(partition: i32) -> TopicPartition {
        TopicPartition::new(TopicId([1; 16]), partition)
    }

    fn stamp(id: i64, sequence: i32) -> ProducerStamp {
        ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence: Sequence(sequence), transactional: false }
    }

    #[test]
    fn what_follows_a_lost_batch_is_lost_until_that_comes_again() {
        let mut chains = Chains::default();
        assert!(chains.take(log(0), stamp(1, i32::MAX)));
        chains.seal();
        assert!(chains.take(log(0), stamp(1, 3)) && chains.take(log(0), stamp(2, 0)));
        chains.seal();
        assert!(chains.take(log(1), stamp(1, 0)) && chains.take(log(0), stamp(3, 0)));
        chains.seal();
        assert!(chains.take(log(0), stamp(2, 1)));
        chains.lost(0);
        assert!(chains.is_doomed(0) && !chains.is_doomed(1), "the second follows the first, the third has to do with neither");
        assert!(chains.open_is_doomed(), "the fourth follows the second");
        chains.seal();
        chains.lost(0);
        chains.committed(1);
        assert!(!chains.take(log(0), stamp(1, 7)) && !chains.take(log(0), stamp(2, 2)));
        assert!(chains.take(log(0), stamp(1, i32::MAX)) && chains.take(log(0), stamp(1, 3)) && chains.take(log(0), stamp(1, 7)));
        assert!(chains.take(log(0), stamp(2, 0)) && chains.take(log(0), stamp(2, 1)));
        chains.lost(0);
        assert!(chains.take(log(0), stamp(2, 2)), "the doomed buffer was counted as lost before these came again");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_kept_out_for_long() {
        let mut chains = Chains::default();
        chains.lose(log(0), stamp(1, 5));
        assert!(!chains.take(log(0), stamp(1, 6)), "what was refused at the door is lost, too");
        assert!(chains.take(log(0), ProducerStamp { epoch: ProducerEpoch(1), ..stamp(1, 6) }), "a new epoch begins anew");
        chains.lose(log(0), stamp(1, 5));
        tokio::time::advance(WATCH).await;
        assert!(chains.take(log(0), stamp(1, 9)), "it may have gone on at another agent");
    }

    proptest! {
        /// Producers send 0, 1, 2, ... and again from whatever failed: what is committed of each is in order and without holes.
        #[test]
        fn what_is_committed_has_no_holes(steps in prop::collection::vec((0u8..6, 0i64..3), 0..200)) {
            let mut chains = Chains::default();
            let (mut open, mut sealed) = (Vec::<(i64, i32)>::new(), VecDeque::new());
            let (mut next, mut committed) = ([0; 3], [0; 3]);
            let fail = |batches: &[(i64, i32)], next: &mut [i32; 3]| {
                for (id, sequence) in batches {
                    next[*id as usize] = next[*id as usize].min(*sequence);
                }
            };
            for (step, id) in steps {
                match step {
                    0..3 => {
                        if chains.open_is_doomed() {
                            sealed.push_back(std::mem::take(&mut open));
                            chains.seal();
                        }
                        let sequence = next[id as usize];
                        if chains.take(log(0), stamp(id, sequence)) {
                            open.push((id, sequence));
                            next[id as usize] += 1;
                        }
                    }
                    3 => {
                        sealed.push_back(std::mem::take(&mut open));
                        chains.seal();
                    }
                    4 | 5 => {
                        let doomed = chains.is_doomed(0);
                        let Some(batches) = sealed.pop_front() else { continue };
                        if doomed || step == 5 {
                            chains.lost(0);
                            fail(&batches, &mut next);
                        } else {
                            chains.committed(1);
                            for (id, sequence) in batches {
                                // Sent twice: the log knows it.
                                prop_assert!(sequence <= committed[id as usize], "{id} has a hole before {sequence}");
                                committed[id as usize] = committed[id as usize].max(sequence + 1);
                            }
                        }
                    }
                    6.. => {}
                }
            }
        }
    }
}
