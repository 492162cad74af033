//! How often things go wrong by chance.

use std::time::Duration;

use yaks::metastore::flaky::{Odds as MetaOdds, Operation};
use yaks::store::flaky::Chances;

use crate::agent::Agent;
use crate::world::Dice;

/// Chances in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Odds {
    /// Errors, before and after, of either seam.
    pub(crate) errors: u64,
    pub(crate) delays: u64,
    pub(crate) longest: Duration,
    pub(crate) hangs: u64,
    /// Commits that come to light after their writer was told that nobody knows.
    pub(crate) late: u64,
    /// Announcements that are lost.
    pub(crate) lost: u64,
    /// Rounds that take a while.
    pub(crate) slow_rounds: u64,
}

impl Odds {
    pub(crate) fn from(dice: &Dice) -> Odds {
        let one_of = |odds: &[u64]| *dice.pick(odds);
        Odds {
            errors: one_of(&[0, 0, 5, 30, 150]),
            delays: one_of(&[0, 20, 200, 500]),
            longest: Duration::from_millis(one_of(&[20, 300, 3_000])),
            hangs: one_of(&[0, 0, 0, 20]),
            late: one_of(&[0, 0, 10, 60]),
            lost: one_of(&[0, 0, 100, 1_000]),
            slow_rounds: one_of(&[0, 100, 500]),
        }
    }

    pub(crate) fn apply(&self, agent: &Agent) {
        let (errors, delays) = (self.errors as u16, self.delays as u16);
        let meta = MetaOdds { before: errors, after: errors, delay: delays, max_delay: self.longest };
        for operation in [Operation::Append, Operation::Round, Operation::Change, Operation::Look] {
            agent.flaky.set_odds(operation, meta);
        }
        agent.store.set_chances(Chances {
            error_before: self.errors,
            error_after: self.errors,
            delay: self.delays,
            longest_delay: self.longest,
            hang: self.hangs,
        });
        agent.link.set_odds(*self);
    }
}
