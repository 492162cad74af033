//! Why the metastore did not do as it was told, and above all: may it have happened?

/// An error of the metastore.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// It did not happen. A retry may help.
    #[error("the metastore is unavailable: {0}")]
    Unavailable(String),
    /// The connection was lost around the commit: it may have happened or not. Look before you answer.
    #[error("the metastore did not say whether this was committed: {0}")]
    Indeterminate(String),
    /// The metastore is full.
    #[error("the metastore is full: {0}")]
    Full(String),
    /// The schema does not fit this binary; the text says what to do.
    #[error("{0}")]
    Schema(String),
    /// The metastore refused for good: credentials, permissions, a statement it does not know.
    #[error("the metastore refused: {0}")]
    Refused(String),
    /// What was stored cannot be read.
    #[error("the metastore holds something unreadable: {0}")]
    Corrupt(String),
}

impl MetaError {
    /// True if the change may have been committed in spite of the error.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self {
            MetaError::Indeterminate(_) => true,
            MetaError::Unavailable(_) | MetaError::Full(_) | MetaError::Schema(_) | MetaError::Refused(_) | MetaError::Corrupt(_) => false,
        }
    }
}
