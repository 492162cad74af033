-- What was set for groups by administration; a group need not exist for it.
CREATE TABLE group_configs (
    group_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (group_id, name)
);
