//! How many files, and so connections, this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside client connections: the database's, the store's, what the runtime needs.
const OTHERS: u64 = 256;

/// Raises the limit to what the system allows: many systems begin with 1,024, which is a fraction of what an agent can serve. Returns how many of
/// `connections` it leaves room for: whoever comes beyond that is refused, instead of leaving the agent without a file to write to.
pub(super) fn make_room(connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "the limit on open files could not be raised");
    }
    // No limit at all is `None`.
    let Some(files) = getrlimit(Resource::Nofile).current else { return connections };
    let room = usize::try_from(files.saturating_sub(OTHERS)).unwrap_or(usize::MAX).max(1);
    if room < connections {
        tracing::info!(
            files,
            connections = room,
            "fewer connections than YAKS_MAX_CONNECTIONS: the system allows no more open files (`ulimit -Hn`)"
        );
    }
    connections.min(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_few_connections_and_not_for_all_there_could_be() {
        assert_eq!(make_room(10), 10);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        if let Some(files) = limit.current {
            assert_eq!(make_room(usize::MAX) as u64, files - OTHERS);
        }
    }
}
