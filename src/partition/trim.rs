//! Deleting the oldest records of a log (KIP-107; Kafka's `Partition.deleteRecordsOnLeader`).

use crate::types::{Head, Offset};

/// Which records are to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrimTo {
    /// All below this one.
    Offset(Offset),
    /// All there are.
    HighWatermark,
}

/// Why records are not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrimRefused {
    #[error("offset {offset} is outside 0..={high_watermark}")]
    OutOfRange { offset: Offset, high_watermark: Offset },
}

/// The head after the records are gone. A log that begins later already stays as it is.
///
/// # Errors
/// The offset is negative, or above the high watermark.
pub fn trim(head: &Head, to: TrimTo) -> Result<Head, TrimRefused> {
    let offset = match to {
        TrimTo::Offset(offset) => offset,
        TrimTo::HighWatermark => head.high_watermark,
    };
    if offset < Offset(0) || offset > head.high_watermark {
        return Err(TrimRefused::OutOfRange { offset, high_watermark: head.high_watermark });
    }
    Ok(Head { log_start: head.log_start.max(offset), ..*head })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(log_start: i64, high_watermark: i64) -> Head {
        Head {
            log_start: Offset(log_start),
            high_watermark: Offset(high_watermark),
            last_stable: Offset(high_watermark),
            ..Head::default()
        }
    }

    #[test]
    fn all_records_can_go() {
        assert_eq!(trim(&head(3, 9), TrimTo::HighWatermark).map(|h| h.log_start), Ok(Offset(9)));
        assert_eq!(trim(&head(0, 0), TrimTo::HighWatermark).map(|h| h.log_start), Ok(Offset(0)));
    }

    proptest! {
        #[test]
        fn a_log_start_never_goes_back_nor_beyond_the_end(start in 0i64..100, len in 0i64..100, to in -5i64..250) {
            let before = head(start, start + len);
            match trim(&before, TrimTo::Offset(Offset(to))) {
                Ok(after) => {
                    prop_assert!((0..=start + len).contains(&to));
                    prop_assert_eq!(after, Head { log_start: Offset(start.max(to)), ..before });
                }
                Err(TrimRefused::OutOfRange { offset, .. }) => {
                    prop_assert_eq!(offset, Offset(to));
                    prop_assert!(to < 0 || to > start + len);
                }
            }
        }
    }
}
