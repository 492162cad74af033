//! yaks: a stateless broker that speaks the Kafka wire protocol.
pub mod admin;
pub mod budget;
pub mod clock;
pub mod config;
pub mod fetch;
pub mod materialize;
pub mod metastore;
pub mod metrics;
pub mod partition;
pub mod produce;
pub mod records;
pub mod store;
pub mod tasks;
pub mod types;
pub mod upkeep;
