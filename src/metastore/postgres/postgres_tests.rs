//! What only Postgres can get wrong. What every metastore promises is in `contract`.
