//! Topics by name and by id, remembered for a moment, so that produce and fetch do not ask the metastore each time.
//!
//! Only topics that exist are remembered: a new one is found at once. A deleted one is served from memory for at most [`KEEP`]; that does no harm,
//! because write events and look-ups carry ids, and those of a deleted topic find nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fresh::Slot;
use super::topic_configs::TopicSettings;
use crate::metastore::{self, MetaError, Topic, TopicQuery, Topics};
use crate::types::{TopicId, TopicName};

/// How old what is remembered may be.
pub(super) const KEEP: Duration = Duration::from_secs(1);

/// Above this many, what is too old is thrown out.
const SWEEP_ABOVE: usize = 1_024;

/// What a topic is called by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Name(TopicName),
    Id(TopicId),
}

/// A topic and what its configuration says.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) topic: Topic,
    pub(super) settings: TopicSettings,
}

impl Found {
    pub(super) fn has_partition(&self, index: i32) -> bool {
        (0..self.topic.partitions).contains(&index)
    }
}

/// `None`: there is no such topic.
type LookUp = Result<Option<Arc<Found>>, MetaError>;

/// The topics known a moment ago.
pub(super) struct TopicCache {
    topics: Arc<dyn Topics>,
    slots: Mutex<HashMap<Key, Arc<Slot<LookUp>>>>,
}

impl TopicCache {
    pub(super) fn new(topics: Arc<dyn Topics>) -> Self {
        TopicCache { topics, slots: Mutex::default() }
    }

    /// In the order of the keys. What is not remembered is asked for: a single topic by one request at a time, several in one statement.
    pub(super) async fn find(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Found>>>, MetaError> {
        let mut missing: Vec<Key> = keys.iter().filter(|key| self.remembered(key).is_none()).cloned().collect();
        missing.dedup();
        let asked = match &missing[..] {
            [] => HashMap::new(),
            [one] => self.ask_one(one).await?.map(|found| (one.clone(), found)).into_iter().collect(),
            many => self.ask_many(many).await?,
        };
        Ok(keys.iter().map(|key| asked.get(key).cloned().or_else(|| self.remembered(key))).collect())
    }

    /// Remembers topics that were just read or created.
    pub(super) fn remember(&self, topics: &[Topic]) -> Vec<Arc<Found>> {
        let found: Vec<Arc<Found>> = topics.iter().map(|topic| Arc::new(found(topic.clone()))).collect();
        let mut slots = self.slots();
        for found in &found {
            let slot = Slot::with(Ok(Some(Arc::clone(found))));
            slots.insert(Key::Name(found.topic.name.clone()), Arc::clone(&slot));
            slots.insert(Key::Id(found.topic.id), slot);
        }
        if slots.len() > SWEEP_ABOVE {
            slots.retain(|_, slot| slot.is_fresh(KEEP));
        }
        found
    }

    /// Forgets a topic that was deleted or turned out not to exist.
    pub(super) fn forget(&self, topic: &Topic) {
        let mut slots = self.slots();
        slots.remove(&Key::Name(topic.name.clone()));
        slots.remove(&Key::Id(topic.id));
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot<LookUp>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, key: &Key) -> Option<Arc<Found>> {
        let slot = self.slots().get(key).filter(|slot| slot.is_fresh(KEEP)).cloned();
        slot.and_then(|slot| slot.get()?.ok().flatten())
    }

    async fn ask_one(&self, key: &Key) -> LookUp {
        let slot = {
            let mut slots = self.slots();
            let fresh = slots.get(key).filter(|slot| slot.is_fresh(KEEP)).cloned();
            fresh.unwrap_or_else(|| {
                let slot = Slot::new();
                slots.insert(key.clone(), Arc::clone(&slot));
                slot
            })
        };
        let answer = slot.get_or_ask(async { Ok(self.ask_many(std::slice::from_ref(key)).await?.remove(key)) }).await;
        if !matches!(answer, Ok(Some(_))) {
            // Errors and absences are for those who asked meanwhile, not for those who come later.
            let mut slots = self.slots();
            if slots.get(key).is_some_and(|kept| Arc::ptr_eq(kept, &slot)) {
                slots.remove(key);
            }
        }
        answer
    }

    async fn ask_many(&self, keys: &[Key]) -> Result<HashMap<Key, Arc<Found>>, MetaError> {
        let names: Vec<TopicName> =
            keys.iter().filter_map(|key| if let Key::Name(name) = key { Some(name.clone()) } else { None }).collect();
        let ids: Vec<TopicId> = keys.iter().filter_map(|key| if let Key::Id(id) = key { Some(*id) } else { None }).collect();
        let mut topics = Vec::new();
        if !names.is_empty() {
            topics.extend(self.topics.find_topics(&TopicQuery::Names(names)).await?);
        }
        if !ids.is_empty() {
            topics.extend(self.topics.find_topics(&TopicQuery::Ids(ids)).await?);
        }
        let both = |found: Arc<Found>| [(Key::Name(found.topic.name.clone()), Arc::clone(&found)), (Key::Id(found.topic.id), found)];
        Ok(self.remember(&topics).into_iter().flat_map(both).collect())
    }
}

fn found(topic: Topic) -> Found {
    let settings = TopicSettings::of(&topic.configs);
    Found { topic, settings }
}

/// Reads topics past the memory, and remembers them.
pub(super) async fn read(cache: &TopicCache, query: &TopicQuery) -> metastore::Result<Vec<Arc<Found>>> {
    let topics = cache.topics.find_topics(query).await?;
    Ok(cache.remember(&topics))
}
