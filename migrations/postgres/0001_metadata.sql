-- Times that Kafka knows are milliseconds since the epoch; times that only the database and its operator know are timestamptz.
-- Tables whose rows change all the time keep room on their pages, so that a change touches no index, and are vacuumed early.

CREATE TABLE cluster (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id text COLLATE "C" NOT NULL
);

CREATE TABLE producer_ids (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    next bigint NOT NULL
);
INSERT INTO producer_ids (next) VALUES (0);

-- Whoever holds the lock on this row runs a round, or deletes a topic.
CREATE TABLE materializer (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO materializer DEFAULT VALUES;

CREATE TABLE topics (
    id uuid PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    partitions integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE topic_configs (
    topic_id uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (topic_id, name)
);

-- Topics that are gone, but whose segments are not yet.
CREATE TABLE deleted_topics (
    topic_id uuid PRIMARY KEY,
    deleted_at timestamptz NOT NULL DEFAULT now()
);

-- The head of each log.
CREATE TABLE partitions (
    topic_id uuid NOT NULL,
    partition integer NOT NULL,
    log_start bigint NOT NULL DEFAULT 0,
    high_watermark bigint NOT NULL DEFAULT 0,
    last_stable bigint NOT NULL DEFAULT 0,
    max_timestamp bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic_id, partition)
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Where records are. A fetch looks for the first last_offset that is not below the wanted one.
CREATE TABLE segments (
    topic_id uuid NOT NULL,
    partition integer NOT NULL,
    last_offset bigint NOT NULL,
    base_offset bigint NOT NULL,
    object_id uuid NOT NULL,
    byte_start bigint NOT NULL,
    byte_len bigint NOT NULL,
    record_count integer NOT NULL,
    max_timestamp bigint NOT NULL,
    max_timestamp_so_far bigint NOT NULL,
    level smallint NOT NULL,
    PRIMARY KEY (topic_id, partition, last_offset)
);

-- Events no round has taken yet; body is the packed index of the object (docs/OBJECT_FORMAT.md). A queue: rows live for milliseconds.
CREATE TABLE write_events (
    id bigserial PRIMARY KEY,
    object_id uuid NOT NULL UNIQUE,
    node integer NOT NULL,
    object_bytes bigint NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 5000, toast.autovacuum_vacuum_cost_delay = 0
);
-- The body is packed already, and read once: do not try to compress it.
ALTER TABLE write_events ALTER COLUMN body SET STORAGE EXTERNAL;

-- Objects whose event was decided, with the verdict on each batch.
CREATE TABLE objects (
    object_id uuid PRIMARY KEY,
    node integer NOT NULL,
    bytes bigint NOT NULL,
    created_at timestamptz NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    verdict bytea NOT NULL
);

-- Events that could not be read, for a human.
CREATE TABLE set_aside_events (
    object_id uuid PRIMARY KEY,
    node integer NOT NULL,
    object_bytes bigint NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL,
    set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text NOT NULL
);

-- No index on last_used: it would make every change of a state a change of an index. Expiry reads the table, rarely.
CREATE TABLE producer_states (
    topic_id uuid NOT NULL,
    partition integer NOT NULL,
    producer_id bigint NOT NULL,
    epoch smallint NOT NULL,
    batches bytea NOT NULL,
    last_used bigint NOT NULL,
    PRIMARY KEY (topic_id, partition, producer_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Batches that wait for their predecessors; body is an object index with one run of one batch.
CREATE TABLE parked_batches (
    id bigserial PRIMARY KEY,
    object_id uuid NOT NULL,
    run integer NOT NULL,
    batch integer NOT NULL,
    topic_id uuid NOT NULL,
    partition integer NOT NULL,
    deadline bigint NOT NULL,
    body bytea NOT NULL,
    UNIQUE (object_id, run, batch)
);
CREATE INDEX parked_batches_by_log ON parked_batches (topic_id, partition);
CREATE INDEX parked_batches_by_deadline ON parked_batches (deadline);

CREATE TABLE group_offsets (
    group_id text COLLATE "C" NOT NULL,
    topic_id uuid NOT NULL,
    partition integer NOT NULL,
    committed_offset bigint NOT NULL,
    leader_epoch integer NOT NULL,
    metadata bytea,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (group_id, topic_id, partition)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX group_offsets_by_topic ON group_offsets (topic_id);

CREATE TABLE agents (
    node integer PRIMARY KEY,
    instance uuid NOT NULL,
    host text NOT NULL,
    port integer NOT NULL,
    rack text,
    version text NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 20);
