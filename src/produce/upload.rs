//! Makes one sealed buffer durable: with retries, and a second put beside a slow first.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::metrics::{BufferMetrics, Status};
use crate::store::{ObjectBody, ObjectStore, StoreError};
use crate::types::ObjectId;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a put is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) hedge_after: Duration,
    pub(super) give_up_at: Instant,
}

/// Puts `body` until it is durable, refused for good, or the patience ends. What waited for its turn until then is not even tried: nobody
/// waits for it any more, and those behind it do.
pub(super) async fn put(
    store: &Arc<dyn ObjectStore>,
    object: ObjectId,
    body: &ObjectBody,
    patience: Patience,
    metrics: &BufferMetrics,
) -> Result<(), StoreError> {
    let in_vain = || StoreError::Unavailable(format!("object {object} was not stored in time"));
    let mut pause = FIRST_PAUSE;
    if Instant::now() >= patience.give_up_at {
        return Err(in_vain());
    }
    loop {
        let attempt = hedged(store, object, body, patience.hedge_after, metrics);
        let error = match timeout_at(patience.give_up_at, attempt).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => return Err(in_vain()),
        };
        let worth_another = match error {
            StoreError::Unavailable(_) => true,
            StoreError::NotFound(_) | StoreError::OutOfRange { .. } | StoreError::Full(_) | StoreError::Refused(_) => false,
        };
        if !worth_another || Instant::now() + pause >= patience.give_up_at {
            return Err(error);
        }
        tracing::debug!(%object, %error, "a put failed and is tried again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One put; if it takes longer than `hedge_after`, a second one with the same bytes beside it. The first success counts.
async fn hedged(
    store: &Arc<dyn ObjectStore>,
    object: ObjectId,
    body: &ObjectBody,
    hedge_after: Duration,
    metrics: &BufferMetrics,
) -> Result<(), StoreError> {
    let mut attempts = FuturesUnordered::new();
    attempts.push(timed(store, object, body, metrics));
    let hedge_at = sleep_until(Instant::now() + hedge_after);
    tokio::pin!(hedge_at);
    let mut hedged = false;
    loop {
        tokio::select! {
            biased;
            Some(result) = attempts.next() => match result {
                Ok(()) => return Ok(()),
                Err(error) if attempts.is_empty() => return Err(error),
                Err(error) => tracing::debug!(%object, %error, "one of two puts failed; the other one may still succeed"),
            },
            () = &mut hedge_at, if !hedged => {
                hedged = true;
                metrics.hedged();
                attempts.push(timed(store, object, body, metrics));
            }
        }
    }
}

async fn timed(store: &Arc<dyn ObjectStore>, object: ObjectId, body: &ObjectBody, metrics: &BufferMetrics) -> Result<(), StoreError> {
    let began = Instant::now();
    let result = store.put(object, body.clone()).await;
    metrics.put(Status::of(&result), began.elapsed());
    result
}
