-- Peers of the cache, and the id under which clients know an address that several agents share.

ALTER TABLE agents ADD COLUMN peer_address text;
ALTER TABLE agents ADD COLUMN broker integer;
UPDATE agents SET broker = node;
ALTER TABLE agents ALTER COLUMN broker SET NOT NULL;

-- Whoever takes a node id locks this row: ids are given one after the other.
CREATE TABLE lease_turns (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);
INSERT INTO lease_turns DEFAULT VALUES;

-- What peers prove with that they belong to this cluster.
CREATE TABLE peer_secrets (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    current bytea NOT NULL,
    previous bytea
);
