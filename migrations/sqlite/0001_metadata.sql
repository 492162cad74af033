-- Ids are 16-byte blobs, times milliseconds since the epoch. Tables found by their whole key have no rowid: the key is the table.

CREATE TABLE cluster (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    id TEXT
) STRICT;
INSERT INTO cluster (only_row) VALUES (1);

CREATE TABLE producer_ids (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    next INTEGER NOT NULL
) STRICT;
INSERT INTO producer_ids (only_row, next) VALUES (1, 0);

CREATE TABLE topics (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    partitions INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE topic_configs (
    topic_id BLOB NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (topic_id, name)
) STRICT, WITHOUT ROWID;

-- Topics that are gone, but whose segments are not yet.
CREATE TABLE deleted_topics (
    topic_id BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- The head of each log.
CREATE TABLE partitions (
    topic_id BLOB NOT NULL,
    partition INTEGER NOT NULL,
    log_start INTEGER NOT NULL DEFAULT 0,
    high_watermark INTEGER NOT NULL DEFAULT 0,
    last_stable INTEGER NOT NULL DEFAULT 0,
    max_timestamp INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (topic_id, partition)
) STRICT, WITHOUT ROWID;

-- Where records are. A fetch looks for the first last_offset that is not below the wanted one.
CREATE TABLE segments (
    topic_id BLOB NOT NULL,
    partition INTEGER NOT NULL,
    last_offset INTEGER NOT NULL,
    base_offset INTEGER NOT NULL,
    object_id BLOB NOT NULL,
    byte_start INTEGER NOT NULL,
    byte_len INTEGER NOT NULL,
    record_count INTEGER NOT NULL,
    max_timestamp INTEGER NOT NULL,
    max_timestamp_so_far INTEGER NOT NULL,
    level INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition, last_offset)
) STRICT, WITHOUT ROWID;

-- Events no round has taken yet; body is the packed index of the object (docs/OBJECT_FORMAT.md).
CREATE TABLE write_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    object_id BLOB NOT NULL UNIQUE,
    node INTEGER NOT NULL,
    object_bytes INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Objects whose event was decided, with the verdict on each batch.
CREATE TABLE objects (
    object_id BLOB PRIMARY KEY,
    node INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    decided_at INTEGER NOT NULL,
    verdict BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Events that could not be read, for a human.
CREATE TABLE set_aside_events (
    object_id BLOB PRIMARY KEY,
    node INTEGER NOT NULL,
    object_bytes INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE producer_states (
    topic_id BLOB NOT NULL,
    partition INTEGER NOT NULL,
    producer_id INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    batches BLOB NOT NULL,
    last_used INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition, producer_id)
) STRICT, WITHOUT ROWID;

-- Batches that wait for their predecessors; body is an object index with one run of one batch.
CREATE TABLE parked_batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    object_id BLOB NOT NULL,
    run INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    topic_id BLOB NOT NULL,
    partition INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (object_id, run, batch)
) STRICT;
CREATE INDEX parked_batches_by_log ON parked_batches (topic_id, partition);
CREATE INDEX parked_batches_by_deadline ON parked_batches (deadline);

CREATE TABLE group_offsets (
    group_id TEXT NOT NULL,
    topic_id BLOB NOT NULL,
    partition INTEGER NOT NULL,
    committed_offset INTEGER NOT NULL,
    leader_epoch INTEGER NOT NULL,
    metadata BLOB,
    committed_at INTEGER NOT NULL,
    PRIMARY KEY (group_id, topic_id, partition)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_offsets_by_topic ON group_offsets (topic_id);

CREATE TABLE agents (
    node INTEGER PRIMARY KEY,
    instance BLOB NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    rack TEXT,
    version TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
