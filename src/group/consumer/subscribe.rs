//! Which topics a group reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::{ConsumerGroup, Member};
use crate::group::GroupError;
use crate::types::{MemberId, TopicId};

/// The topics there are, by name, with their number of partitions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog(pub BTreeMap<Arc<str>, (TopicId, i32)>);

/// Most bytes a compiled pattern may take.
const PATTERN_BYTES: usize = 1 << 20;

/// A pattern in RE2's language, which matches whole names.
///
/// # Errors
/// [`GroupError::InvalidPattern`].
pub(super) fn compile(pattern: &str) -> Result<Regex, GroupError> {
    let whole = format!("^(?:{pattern})$");
    let built = RegexBuilder::new(&whole).size_limit(PATTERN_BYTES).build();
    built.map_err(|error| GroupError::InvalidPattern(error.to_string()))
}

impl ConsumerGroup {
    /// Those of `catalog` that a member wants to read, and for each member which.
    pub(super) fn subscribed(&self, catalog: &Catalog) -> Subscribed {
        let mut patterns: BTreeMap<&str, BTreeSet<&Arc<str>>> = BTreeMap::new();
        for pattern in self.members.values().filter_map(|m| m.pattern.as_deref()) {
            patterns.entry(pattern).or_insert_with(|| matching(pattern, catalog));
        }
        let wants = |member: &Member| -> BTreeSet<Arc<str>> {
            let named = member.names.iter().filter(|name| catalog.0.contains_key(*name));
            let matched = member.pattern.as_deref().and_then(|pattern| patterns.get(pattern)).into_iter().flatten().copied();
            named.chain(matched).cloned().collect()
        };
        let by_member: BTreeMap<_, _> = self.members.iter().map(|(id, member)| (id.clone(), wants(member))).collect();
        let all: BTreeSet<&Arc<str>> = by_member.values().flatten().collect();
        let topics = all.into_iter().filter_map(|name| Some((Arc::clone(name), *catalog.0.get(name)?))).collect();
        Subscribed { topics, by_member }
    }

    /// Whether a member names this topic, or it matched somebody's pattern.
    #[must_use]
    pub fn reads(&self, topic: &str) -> bool {
        self.topics.contains_key(topic) || self.members.values().any(|m| m.names.iter().any(|name| &**name == topic))
    }
}

/// A pattern that was good when it was stored matches nothing should it be good no longer.
fn matching<'a>(pattern: &str, catalog: &'a Catalog) -> BTreeSet<&'a Arc<str>> {
    let Ok(regex) = compile(pattern) else { return BTreeSet::new() };
    catalog.0.keys().filter(|name| regex.is_match(name)).collect()
}

/// What is read, and by whom.
#[derive(Debug)]
pub(super) struct Subscribed {
    pub(super) topics: BTreeMap<Arc<str>, (TopicId, i32)>,
    pub(super) by_member: BTreeMap<MemberId, BTreeSet<Arc<str>>>,
}
