//! What the checks found, in words (P).

use std::collections::BTreeMap;
use std::fmt;

/// One rule that every history must keep.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Invariant {
    Completeness,
    NoPhantoms,
    NoDuplicateOffsets,
    ContiguousOffsets,
    ProducerOrder,
    DataIntegrity,
    AcknowledgedOffsets,
    NoDuplicateRecords,
    SameLogFromTheMiddle,
    GroupCoverage,
}

impl Invariant {
    /// Every invariant, in the order in which a report names them.
    pub const ALL: [Invariant; 10] = [
        Invariant::Completeness,
        Invariant::NoPhantoms,
        Invariant::NoDuplicateOffsets,
        Invariant::ContiguousOffsets,
        Invariant::ProducerOrder,
        Invariant::DataIntegrity,
        Invariant::AcknowledgedOffsets,
        Invariant::NoDuplicateRecords,
        Invariant::SameLogFromTheMiddle,
        Invariant::GroupCoverage,
    ];

    /// As printed and searched for.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Invariant::Completeness => "completeness",
            Invariant::NoPhantoms => "no phantoms",
            Invariant::NoDuplicateOffsets => "no duplicate offsets",
            Invariant::ContiguousOffsets => "contiguous offsets",
            Invariant::ProducerOrder => "per-producer ordering",
            Invariant::DataIntegrity => "data integrity",
            Invariant::AcknowledgedOffsets => "acknowledged offsets",
            Invariant::NoDuplicateRecords => "no duplicate records",
            Invariant::SameLogFromTheMiddle => "same log from the middle",
            Invariant::GroupCoverage => "group coverage",
        }
    }

    /// The rule, in one sentence.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Invariant::Completeness => "every acknowledged record is in the topic and partition it was acknowledged for",
            Invariant::NoPhantoms => "nothing is read that was not sent, or that was refused for good",
            Invariant::NoDuplicateOffsets => "an offset is read once in a log",
            Invariant::ContiguousOffsets => "offsets run from the log start to the high watermark without gaps, in order",
            Invariant::ProducerOrder => "records of one producer stand in a log in the order in which they were sent",
            Invariant::DataIntegrity => "key, value, headers, timestamp, topic and partition are read as they were sent",
            Invariant::AcknowledgedOffsets => "a record is read at the offset that was acknowledged",
            Invariant::NoDuplicateRecords => "a record of an idempotent producer is there at most once",
            Invariant::SameLogFromTheMiddle => "who starts in the middle of a log sees what the others see from there",
            Invariant::GroupCoverage => "the members of a group together get every record of the log, as it is in the log",
        }
    }
}

/// How many examples of one broken invariant are kept.
pub const EXAMPLES_MAX: usize = 5;

/// One broken invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    /// How often it is broken.
    pub count: u64,
    /// The first few, at most [`EXAMPLES_MAX`].
    pub examples: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BROKEN: {} ({} times): {}", self.invariant.name(), self.count, self.invariant.rule())?;
        for example in &self.examples {
            write!(f, "\n  {example}")?;
        }
        let more = self.count - self.examples.len() as u64;
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        Ok(())
    }
}

/// The verdict on one history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Sent records that were found, each counted once.
    pub verified: u64,
    /// Sent records whose outcome is unknown: those found, and those not.
    pub unknown_found: u64,
    pub unknown_absent: u64,
    /// Records refused for good.
    pub failed: u64,
    /// Repeats that the producer's promise allows.
    pub repeats: u64,
    pub partitions: usize,
    pub producers: usize,
    /// One for each broken invariant, in the order of [`Invariant::ALL`]; empty if all is well.
    pub violations: Vec<Violation>,
}

impl Report {
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether `invariant` is among the broken ones.
    #[must_use]
    pub fn breaks(&self, invariant: Invariant) -> bool {
        self.violations.iter().any(|v| v.invariant == invariant)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ok() {
            let Report { verified, partitions, producers, .. } = self;
            return write!(f, "OK: {verified} records verified across {partitions} partitions from {producers} producers");
        }
        for (i, violation) in self.violations.iter().enumerate() {
            let line_break = if i == 0 { "" } else { "\n" };
            write!(f, "{line_break}{violation}")?;
        }
        Ok(())
    }
}

/// Gathers what the checks find: counts all, keeps the first few.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: BTreeMap<Invariant, Violation>,
}

impl Findings {
    /// Notes one break of `invariant`; `example` is called only if it will be kept.
    pub(super) fn add(&mut self, invariant: Invariant, example: impl FnOnce() -> String) {
        let violation = self.found.entry(invariant).or_insert_with(|| Violation { invariant, count: 0, examples: Vec::new() });
        violation.count += 1;
        if violation.examples.len() < EXAMPLES_MAX {
            violation.examples.push(example());
        }
    }

    pub(super) fn into_violations(self) -> Vec<Violation> {
        self.found.into_values().collect()
    }
}
