//! yaks: a stateless broker that speaks the Kafka wire protocol, keeps record data in an object store and everything else in a database.
//!
//! # Layout
//!
//! Words and rules, pure: [`types`], [`records`] (batches and objects as bytes), [`partition`] (the rules of one log); [`clock`] for time and chance.
//! Instruments: [`metrics`], [`traces`], [`tasks`], [`budget`]. Seams: [`store`] (objects), [`metastore`] (the rest). Rooms: [`cache`], [`produce`],
//! [`materialize`], [`fetch`], [`group`], [`upkeep`]. Edge: [`protocol`], [`handlers`], [`server`], [`admin`]. Wiring: [`config`]. Beside the daemon:
//! [`oracle`], the integrity checker.
//!
//! docs/ARCHITECTURE.md has the map, `tests/tidy.rs` the table of who may import whom.

pub mod admin;
pub mod app;
#[cfg(feature = "tools")]
pub mod bench;
pub mod budget;
pub mod cache;
pub mod clock;
pub mod config;
pub mod fetch;
pub mod group;
pub mod handlers;
pub mod materialize;
pub mod metastore;
pub mod metrics;
pub mod oracle;
pub mod partition;
pub mod produce;
pub mod protocol;
pub mod records;
pub mod server;
pub mod store;
pub mod tasks;
pub mod traces;
pub mod types;
pub mod upkeep;
