//! yaks: a stateless broker that speaks the Kafka wire protocol.
#[cfg(feature = "tools")]
pub mod bench;
pub mod budget;
pub mod clock;
pub mod fetch;
pub mod metastore;
pub mod oracle;
pub mod partition;
pub mod produce;
pub mod store;
pub mod types;
