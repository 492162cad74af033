//! What became of each batch of an object, and how that is stored.

use crate::types::Offset;

/// Why a batch was refused by the rules of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// The topic or partition does not exist (any more).
    UnknownLog,
    /// Its sequence cannot be right, whatever else is still to come.
    OutOfOrderSequence,
    /// Something before it in its epoch did not arrive in time, and may still be sent again. It is not in the log; sent again in order it will be.
    MissingPredecessor,
    /// A newer epoch of the same producer id was seen.
    Fenced,
    /// A duplicate of a batch so old that its offset is forgotten. The record is in the log, once.
    DuplicateSequence,
}

impl RejectReason {
    const ALL: [(RejectReason, u8); 5] = [
        (RejectReason::UnknownLog, 16),
        (RejectReason::OutOfOrderSequence, 17),
        (RejectReason::Fenced, 18),
        (RejectReason::DuplicateSequence, 19),
        (RejectReason::MissingPredecessor, 20),
    ];
}

/// What became of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchVerdict {
    /// Not decided yet: the batch is parked.
    Parked,
    Accepted {
        base_offset: Offset,
    },
    /// It was accepted before, with this offset.
    Duplicate {
        base_offset: Offset,
    },
    Rejected(RejectReason),
}

const PARKED: u8 = 0;
const ACCEPTED: u8 = 1;
const DUPLICATE: u8 = 2;
const VERSION: u8 = 1;

/// The verdicts of all batches of an object: by run, then by batch, in the order of its index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectVerdict {
    pub runs: Vec<Vec<BatchVerdict>>,
}

/// A stored verdict that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stored verdict cannot be read: {0}")]
pub struct VerdictError(&'static str);

impl ObjectVerdict {
    /// True if no batch is parked.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.runs.iter().flatten().all(|v| !matches!(v, BatchVerdict::Parked))
    }

    /// `version u8`, `runs u32`, then for each run `batches u32` and for each batch a tag and, where it has one, its
    /// base offset as `i64`; all big-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend((self.runs.len() as u32).to_be_bytes());
        for run in &self.runs {
            out.extend((run.len() as u32).to_be_bytes());
            for verdict in run {
                encode_batch(*verdict, &mut out);
            }
        }
        out
    }

    /// # Errors
    /// [`VerdictError`] if `bytes` are not what [`ObjectVerdict::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<ObjectVerdict, VerdictError> {
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [VERSION] {
            return Err(VerdictError("its version is unknown"));
        }
        let runs = (0..count(&mut rest)?)
            .map(|_| (0..count(&mut rest)?).map(|_| decode_batch(&mut rest)).collect())
            .collect::<Result<Vec<Vec<_>>, _>>()?;
        if rest.is_empty() { Ok(ObjectVerdict { runs }) } else { Err(VerdictError("bytes follow its end")) }
    }
}

fn encode_batch(verdict: BatchVerdict, out: &mut Vec<u8>) {
    match verdict {
        BatchVerdict::Parked => out.push(PARKED),
        BatchVerdict::Accepted { base_offset } => {
            out.push(ACCEPTED);
            out.extend(base_offset.0.to_be_bytes());
        }
        BatchVerdict::Duplicate { base_offset } => {
            out.push(DUPLICATE);
            out.extend(base_offset.0.to_be_bytes());
        }
        BatchVerdict::Rejected(reason) => {
            out.extend(RejectReason::ALL.iter().filter(|(r, _)| *r == reason).map(|(_, code)| *code));
        }
    }
}

fn decode_batch(rest: &mut &[u8]) -> Result<BatchVerdict, VerdictError> {
    let [tag] = take::<1>(rest)?;
    match tag {
        PARKED => Ok(BatchVerdict::Parked),
        ACCEPTED => Ok(BatchVerdict::Accepted { base_offset: Offset(i64::from_be_bytes(take(rest)?)) }),
        DUPLICATE => Ok(BatchVerdict::Duplicate { base_offset: Offset(i64::from_be_bytes(take(rest)?)) }),
        code => RejectReason::ALL
            .iter()
            .find(|(_, c)| *c == code)
            .map(|(reason, _)| BatchVerdict::Rejected(*reason))
            .ok_or(VerdictError("a batch has an unknown tag")),
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], VerdictError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(VerdictError("it ends too early"))?;
    *rest = tail;
    Ok(*head)
}

/// A count of things that take at least one byte each, so a lying one is refused before anything is allocated for it.
fn count(rest: &mut &[u8]) -> Result<usize, VerdictError> {
    let count = u32::from_be_bytes(take(rest)?) as usize;
    if count > rest.len() { Err(VerdictError("it counts more than it holds")) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch_verdict() -> impl Strategy<Value = BatchVerdict> {
        prop_oneof![
            Just(BatchVerdict::Parked),
            (0..i64::MAX).prop_map(|o| BatchVerdict::Accepted { base_offset: Offset(o) }),
            (0..i64::MAX).prop_map(|o| BatchVerdict::Duplicate { base_offset: Offset(o) }),
            prop::sample::select(&RejectReason::ALL[..]).prop_map(|(r, _)| BatchVerdict::Rejected(r)),
        ]
    }

    proptest! {
        #[test]
        fn a_verdict_is_read_back(runs in prop::collection::vec(prop::collection::vec(batch_verdict(), 0..5), 0..5)) {
            let verdict = ObjectVerdict { runs };
            prop_assert_eq!(ObjectVerdict::decode(&verdict.encode()), Ok(verdict));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(verdict) = ObjectVerdict::decode(&bytes) {
                prop_assert_eq!(verdict.encode(), bytes);
            }
        }
    }
}
