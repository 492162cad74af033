//! Time and chance, as parts that can be exchanged: the real ones, and ones that tests move by hand.
//!
//! Only this file reads the system's clock or makes random ids. For *waiting* everybody uses tokio's time, which tests pause.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use crate::types::{ObjectId, Timestamp, TopicId};

/// Wall time that is stored or compared.
pub trait Clock: Send + Sync + Debug {
    fn now(&self) -> Timestamp;
}

/// New ids, and chance.
pub trait Ids: Send + Sync + Debug {
    /// A UUID v7: objects sort by age.
    fn object(&self) -> ObjectId;
    /// A UUID v4.
    fn topic(&self) -> TopicId;
    /// Sixteen random bytes.
    fn instance(&self) -> [u8; 16];
    /// A number from 0 to `bound`, exclusive; 0 if `bound` is 0.
    fn below(&self, bound: u64) -> u64;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Ids from one generator of random numbers: seeded by the system, or by a number for runs that can be repeated.
#[derive(Debug)]
pub struct RandomIds<C> {
    clock: C,
    random: Mutex<StdRng>,
}

impl RandomIds<SystemClock> {
    /// Seeded by the system.
    #[must_use]
    pub fn from_system() -> Self {
        RandomIds { clock: SystemClock, random: Mutex::new(rand::make_rng()) }
    }
}

impl<C: Clock> RandomIds<C> {
    /// The same seed and clock give the same ids.
    #[must_use]
    pub fn seeded(clock: C, seed: u64) -> Self {
        RandomIds { clock, random: Mutex::new(StdRng::seed_from_u64(seed)) }
    }

    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }
}

impl<C: Clock> Ids for RandomIds<C> {
    fn object(&self) -> ObjectId {
        let millis = u64::try_from(self.clock.now().0).unwrap_or(0);
        let random: [u8; 16] = self.bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[..10]);
        ObjectId(*uuid::Builder::from_unix_timestamp_millis(millis, &tail).as_uuid().as_bytes())
    }

    fn topic(&self) -> TopicId {
        TopicId(*uuid::Builder::from_random_bytes(self.bytes()).as_uuid().as_bytes())
    }

    fn instance(&self) -> [u8; 16] {
        self.bytes()
    }

    fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        self.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner).random_range(0..bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        #[derive(Debug)]
        struct Fixed;
        impl Clock for Fixed {
            fn now(&self) -> Timestamp {
                Timestamp(1_700_000_000_000)
            }
        }
        let (a, b) = (RandomIds::seeded(Fixed, 7), RandomIds::seeded(Fixed, 7));
        assert_eq!((a.object(), a.topic(), a.below(100)), (b.object(), b.topic(), b.below(100)));
        assert_ne!(a.object(), a.object());
    }
}
