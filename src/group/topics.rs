//! The topics there are, asked for as seldom as possible.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::GroupError;
use super::consumer::Catalog;
use crate::metastore::{MetaError, TopicQuery, Topics};

/// How old the catalog may be for a heartbeat that says nothing new: topics that come and go are noticed within that and a heartbeat.
pub(super) const RECENT: Duration = Duration::from_secs(1);
/// And for one that joins or subscribes: its client may have made the topic a moment ago.
pub(super) const FRESH: Duration = Duration::from_millis(50);

/// Asks the metastore, once for all who want to know at the same time.
#[derive(Debug)]
pub(super) struct CatalogSource {
    topics: Arc<dyn Topics>,
    asked: Mutex<Arc<Asked>>,
    /// The last answer; kept while the topics stay the same, so that those who know it need not look again.
    last: Mutex<Option<Arc<Catalog>>>,
}

#[derive(Debug, Default)]
struct Asked {
    /// `None`: never.
    at: Option<Instant>,
    answer: OnceCell<Result<Arc<Catalog>, MetaError>>,
}

impl CatalogSource {
    pub(super) fn new(topics: Arc<dyn Topics>) -> Self {
        CatalogSource { topics, asked: Mutex::default(), last: Mutex::default() }
    }

    pub(super) async fn get(&self, age: Duration) -> Result<Arc<Catalog>, GroupError> {
        let asked = self.asked(age);
        let answer = asked.answer.get_or_init(|| self.ask()).await;
        if answer.is_err() {
            // An error is for those who waited for it, not for those who come later.
            self.forget(&asked);
        }
        Ok(answer.clone()?)
    }

    fn asked(&self, age: Duration) -> Arc<Asked> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.at.is_none_or(|at| at.elapsed() > age) {
            *asked = Arc::new(Asked { at: Some(Instant::now()), answer: OnceCell::new() });
        }
        Arc::clone(&asked)
    }

    fn forget(&self, failed: &Arc<Asked>) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&asked, failed) {
            *asked = Arc::default();
        }
    }

    async fn ask(&self) -> Result<Arc<Catalog>, MetaError> {
        let found = self.topics.find_topics(&TopicQuery::All).await?;
        let new = Catalog(found.into_iter().map(|topic| (topic.name.as_str().into(), (topic.id, topic.partitions))).collect());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref().filter(|last| ***last == new) {
            Some(same) => Ok(Arc::clone(same)),
            None => Ok(Arc::clone(last.insert(Arc::new(new)))),
        }
    }
}
