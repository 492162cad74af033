//! Where fetches stopped inside segments, so that the next one need not walk there again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::batches::Place;
use crate::types::{ObjectId, Offset, Segment, TopicPartition};

/// Places remembered at least; at most twice as many are.
const REMEMBERED: usize = 8_192;

/// Batch boundaries inside segments. A hint: objects never change, so what is remembered is right for ever, and what is forgotten only costs
/// a walk over headers.
#[derive(Debug, Default)]
pub(super) struct Positions {
    places: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<(TopicPartition, Offset), Spot>,
    old: HashMap<(TopicPartition, Offset), Spot>,
}

#[derive(Debug, Clone, Copy)]
struct Spot {
    object: ObjectId,
    /// In the object.
    at: u64,
}

impl Positions {
    /// Remembers that the batch at `place` of `segment` is where somebody will go on.
    pub(super) fn remember(&self, segment: &Segment, place: Place) {
        let spot = Spot { object: segment.object, at: segment.range.start + place.position };
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.young.len() >= REMEMBERED {
            places.old = std::mem::take(&mut places.young);
        }
        places.young.insert((segment.log, place.offset), spot);
    }

    /// The place of `offset` in `segment`, if it is remembered.
    pub(super) fn find(&self, segment: &Segment, offset: Offset) -> Option<Place> {
        let key = (segment.log, offset);
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let spot = places.young.get(&key).or_else(|| places.old.get(&key))?;
        let inside = spot.object == segment.object && segment.range.as_range().contains(&spot.at);
        inside.then(|| Place { position: spot.at - segment.range.start, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::testing::segment;

    #[test]
    fn places_are_found_in_their_own_segment_only_and_the_oldest_are_forgotten() {
        let positions = Positions::default();
        let here = segment(1, 0..100, 5_000..9_000);
        positions.remember(&here, Place { position: 700, offset: Offset(17) });
        assert_eq!(positions.find(&here, Offset(17)), Some(Place { position: 700, offset: Offset(17) }));
        assert_eq!(positions.find(&here, Offset(18)), None);
        assert_eq!(positions.find(&segment(2, 0..100, 5_000..9_000), Offset(17)), None);
        assert_eq!(positions.find(&segment(1, 0..100, 0..5_000), Offset(17)), None);
        for i in 0..2 * REMEMBERED as i64 {
            positions.remember(&here, Place { position: 1, offset: Offset(1_000 + i) });
        }
        assert_eq!(positions.find(&here, Offset(17)), None);
    }
}
