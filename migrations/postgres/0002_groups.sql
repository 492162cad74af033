-- Groups with members. A state is replaced only if its version is the one it was made from; versions are never given twice.
-- Times are milliseconds since the epoch, by this database's clock.

CREATE SEQUENCE group_versions;

CREATE TABLE groups (
    group_id text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    kind text NOT NULL,
    phase text NOT NULL,
    protocol_type text NOT NULL,
    state bytea NOT NULL,
    -- When it is to be looked at even if nobody asks.
    due_at bigint,
    -- Since when it has no members.
    empty_since bigint
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX groups_by_due ON groups (due_at) WHERE due_at IS NOT NULL;

-- Written about once a second for every member: no index on the time, so that a change touches no index. A sweep reads the table.
CREATE TABLE group_sessions (
    group_id text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    timeout_ms bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (group_id, member_id)
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Whoever moves this time forward sweeps.
CREATE TABLE group_sweeps (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    swept_at bigint NOT NULL
) WITH (fillfactor = 20);
INSERT INTO group_sweeps (swept_at) VALUES (0);
