//! What handlers want of the rooms that move records; tests put their own in.

use async_trait::async_trait;

use crate::fetch::{FetchError, FetchRequest, FetchResponse, Reader};
use crate::produce::{NewBatch, Producer, Ticket};
use crate::types::{Offset, Timestamp, TopicPartition};

/// Taking places for batches: what the produce room offers.
pub trait Submit: Send + Sync {
    /// Takes a place for each batch, in order, and returns at once; a ticket for each.
    fn submit(&self, batches: Vec<NewBatch>) -> Vec<Ticket>;
}

impl Submit for Producer {
    fn submit(&self, batches: Vec<NewBatch>) -> Vec<Ticket> {
        Producer::submit(self, batches)
    }
}

/// Reading logs: what the fetch room offers.
#[async_trait]
pub trait ReadLog: Send + Sync {
    /// In the order of the request's logs; waits as the request says. May be dropped.
    async fn fetch(&self, request: FetchRequest) -> FetchResponse;

    /// The first record that is not older than `at`.
    async fn offset_for_timestamp(&self, log: TopicPartition, at: Timestamp) -> Result<Option<(Offset, Timestamp)>, FetchError>;

    /// The first of the records with the largest timestamp.
    async fn max_timestamp(&self, log: TopicPartition) -> Result<Option<(Offset, Timestamp)>, FetchError>;
}

#[async_trait]
impl ReadLog for Reader {
    async fn fetch(&self, request: FetchRequest) -> FetchResponse {
        Reader::fetch(self, request).await
    }

    async fn offset_for_timestamp(&self, log: TopicPartition, at: Timestamp) -> Result<Option<(Offset, Timestamp)>, FetchError> {
        Reader::offset_for_timestamp(self, log, at).await
    }

    async fn max_timestamp(&self, log: TopicPartition) -> Result<Option<(Offset, Timestamp)>, FetchError> {
        Reader::max_timestamp(self, log).await
    }
}
