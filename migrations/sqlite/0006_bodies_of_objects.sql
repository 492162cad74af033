-- A small object lies in the row that says what was decided of it, and until then in that of its event: where records come one by one, that is one
-- table to write to instead of three places. With a rowid: neighbours in time are neighbours in the file. Nothing here sorts, as that would take memory
-- for all bodies.

ALTER TABLE write_events ADD COLUMN inlined BLOB;
ALTER TABLE set_aside_events ADD COLUMN inlined BLOB;
UPDATE write_events SET inlined = i.body FROM inlined_objects i WHERE object_id = substr(i.place, 2);
UPDATE set_aside_events SET inlined = i.body FROM inlined_objects i WHERE object_id = substr(i.place, 2);

CREATE TABLE objects_with_bodies (
    object_id BLOB NOT NULL UNIQUE,
    node INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    decided_at INTEGER NOT NULL,
    verdict BLOB NOT NULL,
    -- NULL: it has a file of its own, or is deleted.
    inlined BLOB
) STRICT;
INSERT INTO objects_with_bodies (object_id, node, bytes, created_at, decided_at, verdict, inlined)
    SELECT o.object_id, o.node, o.bytes, o.created_at, o.decided_at, o.verdict, i.body
    FROM inlined_objects i CROSS JOIN objects o ON o.object_id = substr(i.place, 2);
INSERT INTO objects_with_bodies (object_id, node, bytes, created_at, decided_at, verdict)
    SELECT object_id, node, bytes, created_at, decided_at, verdict FROM objects WHERE true
    ON CONFLICT (object_id) DO NOTHING;
DROP TABLE objects;
DROP TABLE inlined_objects;
ALTER TABLE objects_with_bodies RENAME TO objects;
