//! Whether what waits to be stored and committed moves.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A failure is remembered for this long: what comes soon after it is part of the same standstill.
const SAME_TROUBLE: Duration = Duration::from_secs(30);

/// Counts buffers between sealing and the commit of their event, and knows when the last one got through.
#[derive(Debug, Default)]
pub(super) struct Movement(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    /// Since when nothing has got through, though something waited.
    since: Option<Instant>,
    failed_at: Option<Instant>,
}

impl Movement {
    /// A buffer was sealed.
    pub(super) fn began(&self) {
        let mut state = self.lock();
        state.waiting += 1;
        let in_trouble = state.waiting > 1 || state.failed_at.is_some_and(|at| at.elapsed() < SAME_TROUBLE);
        if !in_trouble || state.since.is_none() {
            state.since = Some(Instant::now());
        }
    }

    /// A buffer's event was committed.
    pub(super) fn got_through(&self) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_sub(1);
        state.since = Some(Instant::now());
        state.failed_at = None;
    }

    /// A buffer was given up: it does not wait any more, and nothing has moved.
    pub(super) fn gave_up(&self) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_sub(1);
        state.failed_at = Some(Instant::now());
    }

    /// How long nothing has got through, if something waits.
    pub(super) fn stalled(&self) -> Option<Duration> {
        let state = self.lock();
        if state.waiting == 0 { None } else { state.since.map(|since| since.elapsed()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_moves_is_not_stalled_and_nobody_waits_for_nothing() {
        let movement = Movement::default();
        assert_eq!(movement.stalled(), None);
        movement.began();
        movement.began();
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(movement.stalled(), Some(5 * SECOND));
        movement.got_through();
        tokio::time::advance(SECOND).await;
        assert_eq!(movement.stalled(), Some(SECOND));
        movement.got_through();
        assert_eq!(movement.stalled(), None);
        tokio::time::advance(100 * SECOND).await;
        movement.began();
        assert_eq!(movement.stalled(), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_is_not_moving() {
        let movement = Movement::default();
        movement.began();
        tokio::time::advance(20 * SECOND).await;
        movement.gave_up();
        assert_eq!(movement.stalled(), None);
        tokio::time::advance(SECOND).await;
        movement.began();
        assert_eq!(movement.stalled(), Some(21 * SECOND));
        movement.gave_up();
        // Long after, nobody knows how it would have gone meanwhile.
        tokio::time::advance(100 * SECOND).await;
        movement.began();
        assert_eq!(movement.stalled(), Some(Duration::ZERO));
    }
}
