//! yaks: a stateless broker that speaks the Kafka wire protocol.
pub mod budget;
pub mod clock;
pub mod fetch;
pub mod handlers;
pub mod materialize;
pub mod metastore;
pub mod metrics;
pub mod partition;
pub mod produce;
pub mod protocol;
pub mod records;
pub mod server;
pub mod store;
pub mod tasks;
pub mod types;
