-- Groups with members. A state is replaced only if its version is the one it was made from; versions are never given twice.

CREATE TABLE group_versions (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    last INTEGER NOT NULL
) STRICT;
INSERT INTO group_versions (only_row, last) VALUES (1, 0);

CREATE TABLE groups (
    group_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    phase TEXT NOT NULL,
    protocol_type TEXT NOT NULL,
    state BLOB NOT NULL,
    -- When it is to be looked at even if nobody asks.
    due_at INTEGER,
    -- Since when it has no members.
    empty_since INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX groups_by_due ON groups (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE group_sessions (
    group_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    timeout_ms INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (group_id, member_id)
) STRICT, WITHOUT ROWID;
