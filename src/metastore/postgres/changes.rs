//! Announcements of rounds and groups: NOTIFY in the transaction that makes the change, LISTEN on a connection of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;

use super::{PostgresMetastore, groups};
use crate::metastore::Change;
use crate::metastore::announce::Subscribers;
use crate::types::{Head, Offset, Timestamp, TopicId, TopicPartition};

pub(super) const CHANNEL: &str = "yaks_rounds";

/// What a payload may hold; Postgres refuses 8,000 bytes and more.
const PAYLOAD_BYTES: usize = 7_900;
/// What a payload says that cannot say it all.
const LOOK: &str = "*";
const VERSION: &str = "1";

/// A connection that was quiet for so long is asked whether it lives.
const QUIET: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// `1`, then for each topic `|` and its id in hexadecimal digits, and for each of its logs `;` and partition, log start, high watermark,
/// last stable offset, largest timestamp, bytes, with spaces between. `*` where that is too long.
pub(super) fn encode(heads: &BTreeMap<TopicPartition, Head>) -> String {
    let mut payload = VERSION.to_owned();
    let mut topic = None;
    for (log, head) in heads {
        // Writing to a String cannot fail.
        if topic.replace(log.topic) != Some(log.topic) {
            let _ = write!(payload, "|{:032x}", u128::from_be_bytes(log.topic.0));
        }
        let Head { log_start, high_watermark, last_stable, max_timestamp, bytes } = head;
        let _ = write!(payload, ";{} {log_start} {high_watermark} {last_stable} {} {bytes}", log.partition, max_timestamp.0);
        if payload.len() > PAYLOAD_BYTES {
            return LOOK.to_owned();
        }
    }
    payload
}

fn change(channel: &str, payload: &str) -> Change {
    if channel == groups::CHANNEL { groups::decode(payload) } else { decode(payload) }
}

/// Whatever is not understood is a reason to look.
fn decode(payload: &str) -> Change {
    decode_heads(payload).map_or(Change::Unknown, Change::Heads)
}

fn decode_heads(payload: &str) -> Option<Vec<(TopicPartition, Head)>> {
    let mut topics = payload.split('|');
    if topics.next() != Some(VERSION) {
        return None;
    }
    let mut heads = Vec::new();
    for part in topics {
        let mut logs = part.split(';');
        let topic = TopicId(u128::from_str_radix(logs.next()?, 16).ok()?.to_be_bytes());
        for log in logs {
            heads.push(decode_head(topic, log)?);
        }
    }
    Some(heads)
}

fn decode_head(topic: TopicId, text: &str) -> Option<(TopicPartition, Head)> {
    let mut numbers = text.split(' ').map(str::parse::<i64>);
    let mut next = || numbers.next()?.ok();
    let log = TopicPartition::new(topic, i32::try_from(next()?).ok()?);
    let head = Head {
        log_start: Offset(next()?),
        high_watermark: Offset(next()?),
        last_stable: Offset(next()?),
        max_timestamp: Timestamp(next()?),
        bytes: u64::try_from(next()?).ok()?,
    };
    numbers.next().is_none().then_some((log, head))
}

impl PostgresMetastore {
    /// Starts the listener, once.
    pub(super) fn listen_once(&self) {
        if self.listening.swap(true, Ordering::AcqRel) {
            return;
        }
        let (pool, subscribers) = (self.config.pool(1), Arc::clone(&self.subscribers));
        self.tasks.spawn("metastore-changes", listen(pool, subscribers, self.tasks.stop_token()));
    }
}

/// Listens until told to stop. Whoever subscribed is told to look whenever announcements may have been missed.
async fn listen(pool: PgPool, subscribers: Arc<Subscribers>, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            ended = follow(&pool, &subscribers, &mut pause) => ended,
        };
        tracing::warn!(reason = ended, "lost the connection that listens for announcements; waiters look by themselves meanwhile");
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Passes on announcements of one connection until it is lost; returns why.
async fn follow(pool: &PgPool, subscribers: &Subscribers, pause: &mut Duration) -> String {
    let mut listener = match connect(pool).await {
        Ok(listener) => listener,
        Err(error) => return error.to_string(),
    };
    *pause = FIRST_PAUSE;
    subscribers.announce(&Change::Unknown);
    loop {
        match tokio::time::timeout(QUIET, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => subscribers.announce(&change(notification.channel(), notification.payload())),
            Ok(Ok(None)) => return "the connection was closed".to_owned(),
            Ok(Err(error)) => return error.to_string(),
            Err(_) => {
                if let Some(reason) = ask(&mut listener).await {
                    return reason;
                }
            }
        }
    }
}

async fn connect(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen_all([CHANNEL, groups::CHANNEL]).await?;
    Ok(listener)
}

/// A connection can be dead without a sign: nothing is ever sent on it. Returns why it is given up.
async fn ask(listener: &mut PgListener) -> Option<String> {
    match tokio::time::timeout(QUIET, sqlx::query("SELECT 1").execute(listener)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the connection does not answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heads() -> impl Strategy<Value = BTreeMap<TopicPartition, Head>> {
        let log = (0u8..3, 0..i32::MAX).prop_map(|(topic, partition)| TopicPartition::new(TopicId([topic; 16]), partition));
        let head =
            (any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>(), 0..i64::MAX).prop_map(|(start, high, stable, at, bytes)| Head {
                log_start: Offset(start),
                high_watermark: Offset(high),
                last_stable: Offset(stable),
                max_timestamp: Timestamp(at),
                bytes: bytes as u64,
            });
        prop::collection::btree_map(log, head, 0..120)
    }

    proptest! {
        #[test]
        fn what_fits_is_read_back_and_the_rest_says_look(heads in heads()) {
            let payload = encode(&heads);
            prop_assert!(payload.len() < 8_000);
            match decode(&payload) {
                Change::Heads(found) => prop_assert_eq!(found, heads.into_iter().collect::<Vec<_>>()),
                Change::Unknown => prop_assert!(heads.len() > 50),
                Change::Group { .. } => prop_assert!(false, "no group was announced"),
            }
        }

        #[test]
        fn garbage_says_look(payload in ".{0,40}") {
            if let Change::Heads(found) = decode(&payload) {
                prop_assert!(payload.starts_with(VERSION) && found.len() <= payload.len());
            }
        }
    }
}
