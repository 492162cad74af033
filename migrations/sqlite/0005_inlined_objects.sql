-- Small objects, stored in the transaction of their event. With a rowid: neighbours in time are neighbours in the file.

CREATE TABLE inlined_objects (
    -- In the order of keys: the shard, then the id.
    place BLOB NOT NULL UNIQUE,
    body BLOB NOT NULL
) STRICT;
