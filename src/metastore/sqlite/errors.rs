//! SQLite's errors as ours: did it happen?

use sqlx::migrate::MigrateError;

use crate::metastore::MetaError;

/// An error before the commit was asked for: nothing has happened.
pub(super) fn reading(error: sqlx::Error) -> MetaError {
    classify(&error).unwrap_or_else(|| MetaError::Unavailable(error.to_string()))
}

/// An error of the commit itself: unless SQLite says clearly that it rolled back, it may have happened.
pub(super) fn committing(error: sqlx::Error) -> MetaError {
    classify(&error).unwrap_or_else(|| MetaError::Indeterminate(error.to_string()))
}

pub(super) fn migrating(error: MigrateError) -> MetaError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => reading(error),
        other => MetaError::Schema(format!("the metastore's schema cannot be migrated: {other}")),
    }
}

/// `None` where it depends on the moment.
fn classify(error: &sqlx::Error) -> Option<MetaError> {
    let text = error.to_string();
    match error {
        sqlx::Error::Database(database) => classify_code(database.code()?.parse().ok()?, text),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Some(MetaError::Unavailable(text)),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound => Some(MetaError::Corrupt(text)),
        _ => None,
    }
}

/// Result codes: <https://www.sqlite.org/rescode.html>. The low byte is the primary one.
fn classify_code(code: i32, text: String) -> Option<MetaError> {
    match code & 0xff {
        5..=7 => Some(MetaError::Unavailable(text)), // BUSY, LOCKED, NOMEM: rolled back
        13 => Some(MetaError::Full(text)),           // FULL: rolled back
        11 | 26 => Some(MetaError::Corrupt(text)),   // CORRUPT, NOTADB
        1 | 3 | 8 | 14 | 18 | 19 | 20 | 23 => Some(MetaError::Refused(text)), // ERROR, PERM, READONLY, CANTOPEN, TOOBIG, CONSTRAINT, MISMATCH, AUTH
        _ => None,                                                            // above all IOERR
    }
}
