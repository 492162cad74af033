-- Peers of the cache, and the id under which clients know an address that several agents share.

ALTER TABLE agents ADD COLUMN peer_address TEXT;
ALTER TABLE agents ADD COLUMN broker INTEGER NOT NULL DEFAULT 0;
UPDATE agents SET broker = node;

-- What peers prove with that they belong to this cluster.
CREATE TABLE peer_secrets (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    current BLOB NOT NULL,
    previous BLOB
) STRICT;
