//! Postgres: the metastore of agents.
