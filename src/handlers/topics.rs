//! Topics by name and by id, remembered for a moment, so that produce and fetch do not ask the metastore each time.
//!
//! Only topics that exist are remembered: a new one is found at once. A deleted one is served from memory for at most [`KEEP`], and for producers
//! [`OUTDATED`] while the metastore is away; that does no harm, because write events and look-ups carry ids, and those of a deleted topic find nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::fresh::Slot;
use super::topic_configs::TopicSettings;
use crate::metastore::{self, MetaError, Topic, TopicQuery, Topics};
use crate::types::{TopicId, TopicName};

/// How old what is remembered may be.
pub(super) const KEEP: Duration = Duration::from_secs(1);

/// How old that may be which producers are served while the metastore cannot be asked: longer than a managed database takes to fail over. What they send
/// meanwhile is committed when it is back, in order; refusing some of it in between would make holes in what idempotent producers sent.
const OUTDATED: Duration = Duration::from_mins(1);

/// For so long after the metastore could not be asked, nobody asks again: requests of one connection are looked up one after the other, and each would
/// wait for the same timeout in vain while its client's patience runs out.
const DOWN_FOR: Duration = Duration::from_millis(500);

/// Above this many, what is too old is thrown out; and again when as many have come as were left.
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

/// Topics that were read, and when.
#[derive(Debug, Default)]
struct Known {
    topics: HashMap<Key, (Instant, Arc<Found>)>,
    /// Above this many, what is too old is thrown out.
    sweep_above: usize,
}

impl Known {
    fn insert(&mut self, found: &Arc<Found>) {
        let now = Instant::now();
        for key in [Key::Name(found.topic.name.clone()), Key::Id(found.topic.id)] {
            self.topics.insert(key, (now, Arc::clone(found)));
        }
    }

    fn remove(&mut self, topic: &Topic) {
        self.topics.remove(&Key::Name(topic.name.clone()));
        self.topics.remove(&Key::Id(topic.id));
    }

    /// What is known of it since less than `age`.
    fn get(&self, key: &Key, age: Duration) -> Option<Arc<Found>> {
        self.topics.get(key).filter(|(read_at, _)| read_at.elapsed() < age).map(|(_, found)| Arc::clone(found))
    }

    fn sweep(&mut self) {
        if self.topics.len() > self.sweep_above.max(SWEEP_ABOVE) {
            self.topics.retain(|_, (read_at, _)| read_at.elapsed() < OUTDATED);
            self.sweep_above = self.topics.len() * 2;
        }
    }
}

/// The topics known a moment ago.
pub(super) struct TopicCache {
    topics: Arc<dyn Topics>,
    known: Mutex<Known>,
    /// Single topics that are being asked for.
    asking: Mutex<HashMap<Key, Arc<Slot<LookUp>>>>,
    /// When the metastore last could not be asked, and why.
    down: Mutex<Option<(Instant, MetaError)>>,
}

impl TopicCache {
    pub(super) fn new(topics: Arc<dyn Topics>) -> Self {
        TopicCache { topics, known: Mutex::default(), asking: Mutex::default(), down: Mutex::default() }
    }

    /// In the order of the keys. What is not remembered is asked for: a single topic by one request at a time, several in one statement.
    pub(super) async fn find(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Found>>>, MetaError> {
        let mut found = self.known_since(keys, KEEP);
        let mut missing: Vec<Key> = keys.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(key, _)| key.clone()).collect();
        missing.dedup();
        let asked = match &missing[..] {
            [] => return Ok(found),
            [one] => self.ask_one(one).await?.map(|found| (one.clone(), found)).into_iter().collect(),
            many => self.ask_many(many).await?,
        };
        for (key, found) in keys.iter().zip(&mut found) {
            *found = found.take().or_else(|| asked.get(key).cloned());
        }
        Ok(found)
    }

    /// As [`TopicCache::find`]; if the metastore gives no answer, what was known of all of them less than [`OUTDATED`] ago.
    pub(super) async fn find_for_producer(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Found>>>, MetaError> {
        match self.find(keys).await {
            Err(error) => {
                let outdated = self.known_since(keys, OUTDATED);
                if outdated.iter().any(Option::is_none) {
                    return Err(error);
                }
                tracing::debug!(%error, "topics could not be looked up; what was known is used");
                Ok(outdated)
            }
            found => found,
        }
    }

    /// Remembers topics that were just read or created.
    pub(super) fn remember(&self, topics: &[Topic]) -> Vec<Arc<Found>> {
        let found: Vec<Arc<Found>> = topics.iter().map(|topic| Arc::new(found(topic.clone()))).collect();
        let mut known = self.known();
        for found in &found {
            known.insert(found);
        }
        known.sweep();
        found
    }

    /// Forgets a topic that was deleted or turned out not to exist.
    pub(super) fn forget(&self, topic: &Topic) {
        self.known().remove(topic);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asking(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot<LookUp>>>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_since(&self, keys: &[Key], age: Duration) -> Vec<Option<Arc<Found>>> {
        let known = self.known();
        keys.iter().map(|key| known.get(key, age)).collect()
    }

    async fn ask_one(&self, key: &Key) -> LookUp {
        let slot = {
            let mut asking = self.asking();
            // Nobody may have waited for the answer of those that are left.
            asking.retain(|_, slot| slot.is_fresh(KEEP));
            Arc::clone(asking.entry(key.clone()).or_insert_with(Slot::new))
        };
        let answer = slot.get_or_ask(async { Ok(self.ask_many(std::slice::from_ref(key)).await?.remove(key)) }).await;
        // It is for those who asked meanwhile, not for those who come later.
        let mut asking = self.asking();
        if asking.get(key).is_some_and(|asked| Arc::ptr_eq(asked, &slot)) {
            asking.remove(key);
        }
        answer
    }

    async fn ask_many(&self, keys: &[Key]) -> Result<HashMap<Key, Arc<Found>>, MetaError> {
        let known = self.down().clone().filter(|(since, _)| since.elapsed() < DOWN_FOR);
        if let Some((_, error)) = known {
            return Err(error);
        }
        let answer = self.ask(keys).await;
        let now_down = answer.as_ref().err().filter(|error| is_away(error)).map(|error| (Instant::now(), error.clone()));
        let is_down = now_down.is_some();
        let was_down = std::mem::replace(&mut *self.down(), now_down).is_some();
        match &answer {
            Err(error) if is_down && !was_down => {
                tracing::warn!(%error, "topics cannot be looked up; producers are served with what was known within the last minute");
            }
            Ok(_) if was_down => tracing::info!("topics can be looked up again"),
            Err(_) | Ok(_) => {}
        }
        answer
    }

    fn down(&self) -> MutexGuard<'_, Option<(Instant, MetaError)>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, keys: &[Key]) -> Result<HashMap<Key, Arc<Found>>, MetaError> {
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

/// It could not be asked, or its answer did not come.
fn is_away(error: &MetaError) -> bool {
    match error {
        MetaError::Unavailable(_) | MetaError::Indeterminate(_) => true,
        MetaError::Full(_) | MetaError::Schema(_) | MetaError::Refused(_) | MetaError::Corrupt(_) => false,
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
