//! What a broker reads and writes of the classic protocol of consumers: what members subscribe to, and what they are assigned.
//!
//! Layouts, big endian (Kafka's ConsumerProtocolSubscription and ConsumerProtocolAssignment; every version begins with that of the one before):
//! `version i16, topics [string], user data bytes?, since 1: owned [topic string, partitions [i32]], …` and `version i16, assigned [topic string,
//! partitions [i32]], user data bytes?`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

const OWNED_SINCE: i16 = 1;
const ASSIGNMENT_VERSION: i16 = 0;

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
        let read: Option<Vec<_>> = subscriptions.into_iter().map(|bytes| Some(subscription(bytes)?.topics)).collect();
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

/// Partitions by name of topic.
pub(super) type Named = BTreeMap<Arc<str>, BTreeSet<i32>>;

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topics: Vec<Arc<str>>,
    pub(super) owned: Named,
}

/// `None` if it cannot be read.
pub(super) fn subscription(mut bytes: Bytes) -> Option<Subscription> {
    let version = bytes.try_get_i16().ok()?;
    let topics = (0..count(&mut bytes)?).map(|_| text(&mut bytes)).collect::<Option<_>>()?;
    let owned = if version >= OWNED_SINCE {
        skip_bytes(&mut bytes)?;
        named(&mut bytes)?
    } else {
        Named::new()
    };
    Some(Subscription { topics, owned })
}

/// `None` if it cannot be read. No bytes are no partitions.
pub(super) fn assignment(mut bytes: Bytes) -> Option<Named> {
    if bytes.is_empty() {
        return Some(Named::new());
    }
    bytes.try_get_i16().ok()?;
    named(&mut bytes)
}

/// Bytes that every consumer reads.
pub(super) fn encode_assignment(assigned: &Named) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(ASSIGNMENT_VERSION);
    out.put_i32(assigned.len() as i32);
    for (topic, partitions) in assigned {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
        out.put_i32(partitions.len() as i32);
        for partition in partitions {
            out.put_i32(*partition);
        }
    }
    // No user data.
    out.put_i32(-1);
    out.freeze()
}

/// Of things that take two bytes at least.
fn count(bytes: &mut Bytes) -> Option<usize> {
    let count = usize::try_from(bytes.try_get_i32().ok()?).ok()?;
    (count <= bytes.len() / 2).then_some(count)
}

fn text(bytes: &mut Bytes) -> Option<Arc<str>> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    let text = (length <= bytes.len()).then(|| bytes.split_to(length))?;
    std::str::from_utf8(&text).ok().map(Into::into)
}

fn skip_bytes(bytes: &mut Bytes) -> Option<()> {
    let Ok(length) = usize::try_from(bytes.try_get_i32().ok()?) else { return Some(()) };
    (length <= bytes.len()).then(|| bytes.advance(length))
}

fn named(bytes: &mut Bytes) -> Option<Named> {
    let mut named = Named::new();
    for _ in 0..count(bytes)? {
        let topic = text(bytes)?;
        let partitions = (0..count(bytes)?).map(|_| bytes.try_get_i32().ok()).collect::<Option<BTreeSet<i32>>>()?;
        named.entry(topic).or_default().extend(partitions);
    }
    Some(named)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(topics: &[&str]) -> Bytes {
        let mut bytes = vec![0, 0, 0, 0, 0, topics.len() as u8];
        for topic in topics {
            bytes.extend([0, topic.len() as u8]);
            bytes.extend(topic.as_bytes());
        }
        bytes.extend([0xff; 9]);
        bytes.into()
    }

    #[test]
    fn topics_are_read_whatever_follows_them() {
        let both = Topics::of([plain(&["a", "b"]), plain(&["c"]), plain(&[])]);
        assert!(["a", "b", "c"].iter().all(|t| both.contains(t)) && !both.contains("d"));
        assert_eq!(Topics::of([]), Topics::default());
    }

    #[test]
    fn what_is_owned_is_read_since_version_1() {
        let bytes = b"\0\x01\0\0\0\x01\0\x01a\0\0\0\x02xx\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\x07\0\0\0\x08and more";
        let read = subscription(Bytes::from_static(bytes)).expect("readable");
        assert_eq!(read.owned, Named::from([("a".into(), BTreeSet::from([7, 8]))]));
        assert_eq!(read.topics, ["a".into()]);
    }

    #[test]
    fn what_cannot_be_read_counts_as_all() {
        for bad in
            [&b""[..], b"\0", b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\x01\0\x09abc", b"\0\0\xff\xff\xff\xff", b"\0\0\0\0\0\x01\0\x01\xff"]
        {
            assert_eq!(Topics::of([plain(&["a"]), Bytes::from_static(bad)]), Topics::All, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn assignments_are_read_back(assigned in prop::collection::btree_map("[a-z]{1,5}", prop::collection::btree_set(0i32..100, 1..5), 0..5)) {
            let assigned: Named = assigned.into_iter().map(|(topic, partitions)| (topic.into(), partitions)).collect();
            prop_assert_eq!(assignment(encode_assignment(&assigned)), Some(assigned));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (subscription(bytes.clone().into()), assignment(bytes.into()));
        }
    }
}
