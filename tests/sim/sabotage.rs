//! What is done wrong on purpose, to prove that the judges see it.

use std::sync::Arc;

use yaks::metastore::Decide;
use yaks::partition::{BatchVerdict, Decisions, ObjectVerdict, Snapshot};
use yaks::types::{Offset, TopicPartition};

/// One thing that an agent does wrong, now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// A round hands out an offset that was handed out before.
    OffsetTwice,
    /// A round leaves out an offset.
    OffsetSkipped,
    /// A round tells producers offsets that are not theirs.
    OffsetMistold,
    /// A round takes its events in the wrong order.
    EventsSwapped,
    /// A round knows nothing of idempotent producers.
    ForgottenProducers,
    /// A round forgets whom it parked.
    ForgottenParked,
    /// A round takes batches of idempotent producers as they come.
    NobodyIdempotent,
    /// A commit is confirmed and did not happen.
    CommitLost,
    /// A commit is confirmed and happens behind later ones.
    CommitOutOfOrder,
    /// An event is committed twice, under two names.
    CommitTwice,
    /// Nobody looks whether a commit of unknown outcome happened: it counts as done.
    BlindFaith,
    /// A put is confirmed and did not happen.
    PutLost,
    /// A bit of what is read is flipped.
    BitFlipped,
    /// A reader is told an end that lies before the real one.
    EndGoesBack,
    /// Readers are told that a log ends later than it does.
    EndTooFar,
    /// Offsets are stored whatever has become of the group meanwhile.
    GroupUnchecked,
    /// A group's state is stored over whatever is there.
    GroupOverwritten,
    /// Nobody notices members that fall silent.
    GroupsUnswept,
    /// A commit of offsets is confirmed and did not happen.
    OffsetsLost,
    /// Offsets are stored lower than they were committed.
    OffsetsLow,
    /// Offsets are stored higher than they were committed.
    OffsetsHigh,
}

impl Sabotage {
    pub(crate) const ALL: [Sabotage; 21] = [
        Sabotage::OffsetTwice,
        Sabotage::OffsetSkipped,
        Sabotage::OffsetMistold,
        Sabotage::EventsSwapped,
        Sabotage::ForgottenProducers,
        Sabotage::ForgottenParked,
        Sabotage::NobodyIdempotent,
        Sabotage::CommitLost,
        Sabotage::CommitOutOfOrder,
        Sabotage::CommitTwice,
        Sabotage::BlindFaith,
        Sabotage::PutLost,
        Sabotage::BitFlipped,
        Sabotage::EndGoesBack,
        Sabotage::EndTooFar,
        Sabotage::GroupUnchecked,
        Sabotage::GroupOverwritten,
        Sabotage::GroupsUnswept,
        Sabotage::OffsetsLost,
        Sabotage::OffsetsLow,
        Sabotage::OffsetsHigh,
    ];

    /// What judges say of it, each for a rule of its own: all of this must be said, though not in one seed.
    pub(crate) fn charges(self) -> &'static [&'static str] {
        match self {
            Sabotage::None => &[],
            Sabotage::OffsetTwice => &["a segment begins at", "NoDuplicateOffsets|ContiguousOffsets|where"],
            Sabotage::OffsetSkipped => &["a segment begins at", "ContiguousOffsets|cannot be read"],
            Sabotage::OffsetMistold => &["AcknowledgedOffsets", "was told to be at"],
            Sabotage::EventsSwapped => &["though what was sent before it is at", "ProducerOrder"],
            Sabotage::ForgottenProducers | Sabotage::NobodyIdempotent => &["NoDuplicateRecords"],
            Sabotage::ForgottenParked => &["not done", "never settled"],
            Sabotage::CommitLost | Sabotage::BlindFaith => &["Completeness", "never settled"],
            Sabotage::CommitOutOfOrder => &["though what was sent before it is at|ProducerOrder"],
            Sabotage::CommitTwice => &["2 times and was sent 1 times"],
            Sabotage::PutLost => &["does not exist in the store", "cannot be read"],
            Sabotage::BitFlipped => &["wrong CRC", "cannot be read"],
            Sabotage::EndGoesBack => &["is outside", "said that"],
            Sabotage::EndTooFar => &["said that"],
            Sabotage::GroupUnchecked => &["was accepted after"],
            Sabotage::GroupOverwritten => &["has two owners"],
            Sabotage::GroupsUnswept => &["has not settled", "nobody was given"],
            Sabotage::OffsetsLost => &["is gone"],
            Sabotage::OffsetsLow => &["went back"],
            Sabotage::OffsetsHigh => &["were skipped"],
        }
    }

    /// Is it too much if every round does it?
    pub(crate) fn is_rare(self) -> bool {
        !matches!(self, Sabotage::ForgottenParked | Sabotage::NobodyIdempotent | Sabotage::EventsSwapped)
    }

    /// `decide`, spoiled if this round is `hit`.
    pub(crate) fn spoil(self, decide: &Decide, hit: bool) -> Decide {
        let (decide, spoiled) = (Arc::clone(decide), self);
        match self {
            Sabotage::OffsetTwice | Sabotage::OffsetSkipped | Sabotage::OffsetMistold if hit => {
                Arc::new(move |snapshot| spoiled.decisions(decide(snapshot)))
            }
            Sabotage::ForgottenParked if hit => Arc::new(move |snapshot| Decisions { park: Vec::new(), ..decide(snapshot) }),
            Sabotage::EventsSwapped | Sabotage::ForgottenProducers | Sabotage::NobodyIdempotent if hit => {
                Arc::new(move |snapshot| decide(spoiled.snapshot(snapshot)))
            }
            Sabotage::None
            | Sabotage::OffsetTwice
            | Sabotage::OffsetSkipped
            | Sabotage::OffsetMistold
            | Sabotage::EventsSwapped
            | Sabotage::ForgottenProducers
            | Sabotage::ForgottenParked
            | Sabotage::NobodyIdempotent
            | Sabotage::CommitLost
            | Sabotage::CommitOutOfOrder
            | Sabotage::CommitTwice
            | Sabotage::BlindFaith
            | Sabotage::PutLost
            | Sabotage::BitFlipped
            | Sabotage::EndGoesBack
            | Sabotage::EndTooFar
            | Sabotage::GroupUnchecked
            | Sabotage::GroupOverwritten
            | Sabotage::GroupsUnswept
            | Sabotage::OffsetsLost
            | Sabotage::OffsetsLow
            | Sabotage::OffsetsHigh => decide,
        }
    }

    fn snapshot(self, mut snapshot: Snapshot) -> Snapshot {
        if self == Sabotage::EventsSwapped {
            snapshot.events.reverse();
        } else if self == Sabotage::ForgottenProducers {
            snapshot.producers.clear();
        } else {
            for run in snapshot.events.iter_mut().filter_map(|e| e.runs.as_mut().ok()).flatten() {
                run.batches.iter_mut().for_each(|batch| batch.producer = None);
            }
        }
        snapshot
    }

    fn decisions(self, mut decisions: Decisions) -> Decisions {
        let log = decisions.segments.iter().find(|s| s.base_offset > Offset(0)).map(|s| s.log);
        match log {
            Some(log) if self == Sabotage::OffsetTwice => shift(&mut decisions, log, -1),
            Some(log) if self == Sabotage::OffsetSkipped => shift(&mut decisions, log, 1),
            Some(_) => decisions.verdicts.iter_mut().for_each(|(_, verdict)| mistell(verdict)),
            None => {}
        }
        decisions
    }
}

/// Moves what one log got by `by` offsets.
fn shift(decisions: &mut Decisions, log: TopicPartition, by: i64) {
    for segment in decisions.segments.iter_mut().filter(|s| s.log == log) {
        segment.base_offset.0 += by;
        segment.last_offset.0 += by;
    }
    if let Some(head) = decisions.heads.get_mut(&log) {
        head.high_watermark.0 += by;
    }
}

fn mistell(verdict: &mut ObjectVerdict) {
    for verdict in verdict.runs.iter_mut().flatten() {
        if let BatchVerdict::Accepted { base_offset } = verdict {
            base_offset.0 += 1;
        }
    }
}
