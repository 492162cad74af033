//! Postgres' errors as ours: did it happen?
//!
//! Outside a commit nothing has happened, whatever the error. Around one, only an error that Postgres raises before the commit record proves
//! that; everything unknown counts as "perhaps". SQLSTATE classes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>

use std::time::Duration;

use sqlx::migrate::MigrateError;

use crate::metastore::MetaError;

/// Why a statement has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// No answer for this long.
    TimedOut(Duration),
    Driver(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Failure::Driver(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::TimedOut(after) => write!(f, "no answer within {after:?}"),
            Failure::Driver(error) => error.fmt(f),
        }
    }
}

/// An error before the commit was asked for: nothing has happened.
pub(super) fn reading(failure: Failure) -> MetaError {
    classify(&failure).unwrap_or_else(|| MetaError::Unavailable(failure.to_string()))
}

/// An error of a COMMIT, or of a single statement that commits by itself.
pub(super) fn committing(failure: Failure) -> MetaError {
    classify(&failure).unwrap_or_else(|| MetaError::Indeterminate(failure.to_string()))
}

/// An error of getting a connection: nothing was even asked.
pub(super) fn connecting(error: sqlx::Error) -> MetaError {
    reading(Failure::Driver(error))
}

pub(super) fn migrating(error: MigrateError) -> MetaError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => connecting(error),
        other => MetaError::Schema(format!("the metastore's schema cannot be migrated: {other}")),
    }
}

/// `None` where it depends on the moment.
fn classify(failure: &Failure) -> Option<MetaError> {
    let text = failure.to_string();
    match failure {
        Failure::Driver(sqlx::Error::Database(error)) => classify_state(&error.code()?, text),
        Failure::Driver(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => Some(MetaError::Unavailable(text)),
        Failure::Driver(sqlx::Error::Tls(_) | sqlx::Error::Configuration(_)) => Some(MetaError::Refused(text)),
        Failure::Driver(
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::RowNotFound
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. },
        ) => Some(MetaError::Corrupt(text)),
        // A lost connection, above all.
        Failure::TimedOut(_) | Failure::Driver(_) => None,
    }
}

/// Every state named here is raised before a commit record is written.
fn classify_state(state: &str, text: String) -> Option<MetaError> {
    match state {
        "53100" => Some(MetaError::Full(text)),
        "42P01" | "42703" | "42P02" => {
            Some(MetaError::Schema(format!("{text}: does the schema fit? Run `yaks migrate`, or set YAKS_RUN_MIGRATIONS=true")))
        }
        // Cancelled by a timeout; a transaction that idled too long; a lock not granted.
        "57014" | "25P03" | "55P03" | "57P03" => Some(MetaError::Unavailable(text)),
        "XX001" | "XX002" => Some(MetaError::Corrupt(text)),
        _ => match state.get(..2)? {
            // Connection not made; read-only or wrong transaction state (a standby); serialization, deadlock; too few resources.
            "25" | "40" | "53" | "55" => Some(MetaError::Unavailable(text)),
            // Feature, cardinality, data, constraint, prepared statement, credentials, database, privileges and syntax, limits.
            "0A" | "21" | "22" | "23" | "26" | "28" | "3D" | "3F" | "42" | "54" => Some(MetaError::Refused(text)),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_says_what_happened() {
        let kind = |state: &str| classify_state(state, String::new());
        for state in ["40001", "40P01", "53300", "57014", "25006", "55P03"] {
            assert!(matches!(kind(state), Some(MetaError::Unavailable(_))), "{state}");
        }
        for state in ["28P01", "42501", "3D000", "23505"] {
            assert!(matches!(kind(state), Some(MetaError::Refused(_))), "{state}");
        }
        assert!(matches!(kind("53100"), Some(MetaError::Full(_))));
        assert!(matches!(kind("42P01"), Some(MetaError::Schema(_))));
        for perhaps in ["57P01", "57P02", "08006", "58030", "XX000", "?"] {
            assert!(kind(perhaps).is_none(), "{perhaps}");
        }
    }

    #[test]
    fn a_lost_connection_is_no_and_around_a_commit_perhaps() {
        let lost = || Failure::Driver(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        assert!(matches!(reading(lost()), MetaError::Unavailable(_)));
        assert!(committing(lost()).may_have_happened());
        assert!(committing(Failure::TimedOut(Duration::ZERO)).may_have_happened());
        assert!(!committing(Failure::Driver(sqlx::Error::PoolTimedOut)).may_have_happened());
    }
}
