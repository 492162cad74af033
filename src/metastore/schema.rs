//! Whether the schema in a database fits this binary.

use super::{MetaError, Result};

const WHAT_TO_DO: &str = "run `yaks migrate`, or set YAKS_RUN_MIGRATIONS=true";

/// Refuses a schema with migrations this binary has never heard of: it was made by a newer one.
pub(super) fn applied_is_known(known: &[i64], applied: &[i64]) -> Result<()> {
    match applied.iter().find(|version| !known.contains(version)) {
        None => Ok(()),
        Some(newer) => Err(MetaError::Schema(format!(
            "the metastore's schema is at version {newer}, but this yaks knows only versions up to {}: it was migrated by a newer yaks; \
             run that version or a later one",
            newest(known)
        ))),
    }
}

/// Refuses a schema that is not exactly the one this binary was built for.
pub(super) fn schema_is_current(known: &[i64], applied: &[i64]) -> Result<()> {
    applied_is_known(known, applied)?;
    nothing_is_missing(known, applied)
}

/// Refuses a schema that lacks what this binary needs.
pub(super) fn nothing_is_missing(known: &[i64], applied: &[i64]) -> Result<()> {
    let Some(missing) = known.iter().find(|version| !applied.contains(version)) else { return Ok(()) };
    let there = if applied.is_empty() {
        "the metastore has no schema yet".to_owned()
    } else {
        format!("the metastore's schema lacks version {missing}")
    };
    Err(MetaError::Schema(format!("{there}: {WHAT_TO_DO}")))
}

fn newest(known: &[i64]) -> i64 {
    known.iter().copied().max().unwrap_or(0)
}
