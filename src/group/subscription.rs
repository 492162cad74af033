//! What a broker reads of a consumer's subscription: its topics. The rest is the assignors' business.
//!
//! Layout (Kafka's ConsumerProtocolSubscription, whose version 0 every later one begins with): `version i16, topics [string], …`, big endian.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

/// Topics of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topics {
    /// Some subscription cannot be read: it may be any.
    All,
    These(BTreeSet<Arc<str>>),
}

impl Default for Topics {
    fn default() -> Self {
        Topics::These(BTreeSet::new())
    }
}

impl Topics {
    /// The topics of all these subscriptions.
    pub(super) fn of(subscriptions: impl IntoIterator<Item = Bytes>) -> Topics {
        let read: Option<Vec<_>> = subscriptions.into_iter().map(topics).collect();
        read.map_or(Topics::All, |topics| Topics::These(topics.into_iter().flatten().collect()))
    }

    #[must_use]
    pub fn contains(&self, topic: &str) -> bool {
        match self {
            Topics::All => true,
            Topics::These(topics) => topics.contains(topic),
        }
    }
}

/// `None` if it cannot be read.
fn topics(mut subscription: Bytes) -> Option<Vec<Arc<str>>> {
    let _version = subscription.try_get_i16().ok()?;
    let count = usize::try_from(subscription.try_get_i32().ok()?).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(subscription.try_get_i16().ok()?).ok()?;
        if subscription.len() < length {
            return None;
        }
        topics.push(std::str::from_utf8(&subscription.split_to(length)).ok()?.into());
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(topics: &[&str]) -> Bytes {
        let mut bytes = vec![0, 3, 0, 0, 0, topics.len() as u8];
        for topic in topics {
            bytes.extend([0, topic.len() as u8]);
            bytes.extend(topic.as_bytes());
        }
        bytes.extend([0xff; 9]);
        bytes.into()
    }

    #[test]
    fn topics_are_read_whatever_follows_them() {
        let both = Topics::of([subscription(&["a", "b"]), subscription(&["c"]), subscription(&[])]);
        assert!(["a", "b", "c"].iter().all(|t| both.contains(t)) && !both.contains("d"));
        assert_eq!(Topics::of([]), Topics::default());
    }

    #[test]
    fn what_cannot_be_read_counts_as_all() {
        for bad in
            [&b""[..], b"\0", b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\x01\0\x09abc", b"\0\0\xff\xff\xff\xff", b"\0\0\0\0\0\x01\0\x01\xff"]
        {
            assert_eq!(Topics::of([subscription(&["a"]), Bytes::from_static(bad)]), Topics::All, "{bad:?}");
        }
    }
}
