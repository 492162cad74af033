//! How many files, and so connections, this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside client connections: the database's, the store's, what the runtime needs.
const OTHERS: u64 = 256;

/// Raises the limit to what the system allows: many systems begin with 1,024, which is a tenth of what an agent can serve. Says so if that is too little
/// for `connections`.
pub(super) fn raise_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "the limit on open files could not be raised");
    }
    let wanted = connections as u64 + OTHERS;
    // No limit at all is `None`.
    if let Some(open_files) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < wanted) {
        tracing::warn!(
            open_files,
            wanted,
            "the system allows fewer open files than YAKS_MAX_CONNECTIONS needs; raise `ulimit -Hn`, or lower the setting"
        );
    }
}
