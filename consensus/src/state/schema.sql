-- The applied state: feature level 1. Frozen with the first release; later levels add to it by a replicated command.
--
-- All tables but `raft` are the replicated state: equal logs give equal rows. Nothing may depend on the order in which
-- SQLite finds them, so every query orders and no rowid has a meaning of its own.

-- The storage's own notes (last applied entry, membership), written in the transaction they belong to.
CREATE TABLE raft (
    key   TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Log time: it never goes back.
CREATE TABLE clock (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    log_time INTEGER NOT NULL CHECK (log_time >= 0)
) STRICT;

CREATE TABLE cluster (
    one           INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    id            TEXT    NOT NULL,
    ca_cert       BLOB    NOT NULL,
    ca_key        BLOB    NOT NULL,
    cidr          TEXT    NOT NULL,
    subnet_prefix INTEGER NOT NULL CHECK (subnet_prefix BETWEEN 0 AND 32),
    feature_level INTEGER NOT NULL CHECK (feature_level >= 1),
    -- The subnet given last: the next search begins after it.
    last_subnet   TEXT    NOT NULL,
    -- The same for addresses of peers.
    last_peer     INTEGER CHECK (last_peer BETWEEN 0 AND 4294967295)
) STRICT;

CREATE TABLE nodes (
    id          INTEGER NOT NULL PRIMARY KEY CHECK (id > 0),
    name        TEXT    NOT NULL UNIQUE,
    advertise   TEXT    NOT NULL UNIQUE,
    fingerprint BLOB    NOT NULL UNIQUE CHECK (length(fingerprint) = 32),
    cordoned    INTEGER NOT NULL CHECK (cordoned IN (0, 1)),
    cpus        INTEGER NOT NULL CHECK (cpus >= 0),
    threads     INTEGER NOT NULL CHECK (threads >= 0),
    memory      INTEGER NOT NULL CHECK (memory >= 0),
    disk        INTEGER NOT NULL CHECK (disk >= 0),
    subnet      TEXT    NOT NULL UNIQUE,
    -- The guest address given last: the next search begins after it.
    last_ip     INTEGER CHECK (last_ip BETWEEN 0 AND 4294967295),
    -- What its VMs sum up to. The one thing that is kept twice: to add it up for every new VM would make each create
    -- slower than the one before.
    vms           INTEGER NOT NULL DEFAULT 0 CHECK (vms >= 0),
    vms_cpus      INTEGER NOT NULL DEFAULT 0 CHECK (vms_cpus >= 0),
    vms_memory    INTEGER NOT NULL DEFAULT 0 CHECK (vms_memory >= 0),
    vms_disk      INTEGER NOT NULL DEFAULT 0 CHECK (vms_disk >= 0),
    mesh_key    BLOB UNIQUE CHECK (length(mesh_key) = 32),
    mesh_port   INTEGER CHECK (mesh_port BETWEEN 0 AND 65535),
    joined_at   INTEGER NOT NULL CHECK (joined_at >= 0),
    more        BLOB    NOT NULL
) STRICT;

-- Machines that are no nodes and may reach the guests.
CREATE TABLE net_peers (
    name       TEXT    NOT NULL PRIMARY KEY,
    key        BLOB    NOT NULL UNIQUE CHECK (length(key) = 32),
    ip         INTEGER NOT NULL UNIQUE CHECK (ip BETWEEN 0 AND 4294967295),
    created_at INTEGER NOT NULL CHECK (created_at >= 0)
) STRICT, WITHOUT ROWID;

-- What every guest is told; no row before it is first set.
CREATE TABLE cloud_defaults (
    one         INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    generation  INTEGER NOT NULL CHECK (generation > 0),
    user_data   BLOB,
    vendor_data BLOB
) STRICT;

CREATE TABLE template_versions (
    template     TEXT    NOT NULL,
    version      BLOB    NOT NULL CHECK (length(version) = 32),
    sha256       BLOB    NOT NULL CHECK (length(sha256) = 32),
    size         INTEGER NOT NULL CHECK (size > 0),
    virtual_size INTEGER NOT NULL CHECK (virtual_size > 0),
    format       TEXT    NOT NULL CHECK (format IN ('qcow2', 'raw', 'iso')),
    -- Not a reference: the origin may leave, the version stays.
    origin       INTEGER NOT NULL CHECK (origin > 0),
    added_at     INTEGER NOT NULL CHECK (added_at >= 0),
    -- The Raft index it came with: the newest version is the one with the highest, even within one millisecond.
    added_index  INTEGER NOT NULL,
    more         BLOB    NOT NULL,
    PRIMARY KEY (template, version),
    UNIQUE (template, added_index)
) STRICT;

CREATE TABLE vms (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT    NOT NULL UNIQUE,
    node       INTEGER NOT NULL REFERENCES nodes (id),
    cpus       INTEGER NOT NULL CHECK (cpus > 0),
    memory     INTEGER NOT NULL CHECK (memory > 0),
    disk       INTEGER NOT NULL CHECK (disk > 0),
    template   TEXT    NOT NULL,
    version    BLOB    NOT NULL,
    desired    TEXT    NOT NULL CHECK (desired IN ('running', 'stopped', 'paused')),
    phase      TEXT    NOT NULL CHECK (phase IN ('live', 'deleting')),
    ip         INTEGER NOT NULL UNIQUE CHECK (ip BETWEEN 0 AND 4294967295),
    mac        BLOB    NOT NULL UNIQUE CHECK (length(mac) = 6),
    generation INTEGER NOT NULL CHECK (generation > 0),
    instance   INTEGER NOT NULL CHECK (instance > 0),
    created_at INTEGER NOT NULL CHECK (created_at >= 0),
    -- The image in its CD drive.
    cd_template TEXT,
    cd_version  BLOB,
    more       BLOB    NOT NULL,
    -- Last, so that a row's other columns are reached without walking through them.
    user_data      BLOB,
    network_config BLOB,
    FOREIGN KEY (template, version) REFERENCES template_versions (template, version),
    FOREIGN KEY (cd_template, cd_version) REFERENCES template_versions (template, version),
    CHECK ((cd_template IS NULL) = (cd_version IS NULL))
) STRICT;
CREATE INDEX vms_by_node ON vms (node);
-- All there is to know for routing, without the rows themselves.
CREATE INDEX vms_by_ip ON vms (ip, node);
CREATE INDEX vms_by_version ON vms (template, version);
CREATE INDEX vms_by_cd ON vms (cd_template, cd_version) WHERE cd_template IS NOT NULL;

CREATE TABLE join_tokens (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id > 0),
    key        BLOB    NOT NULL CHECK (length(key) = 32),
    expires_at INTEGER NOT NULL CHECK (expires_at >= 0),
    uses_left  INTEGER NOT NULL CHECK (uses_left >= 0),
    created_at INTEGER NOT NULL CHECK (created_at >= 0)
) STRICT;

CREATE TABLE api_tokens (
    id          INTEGER NOT NULL PRIMARY KEY CHECK (id > 0),
    description TEXT    NOT NULL,
    hash        BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    role        TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    expires_at  INTEGER CHECK (expires_at >= 0),
    created_at  INTEGER NOT NULL CHECK (created_at >= 0),
    -- The labels of the VMs that it is for; none: for all.
    scope       BLOB
) STRICT;

CREATE TABLE events (
    -- Index of the log × 2^20 + number within that command: the order of all events, on every node.
    place   INTEGER NOT NULL PRIMARY KEY,
    at      INTEGER NOT NULL,
    -- 1: by a person or their program; 0: by a node on its own account. Each is bounded for itself, so that no crash loop
    -- pushes out who did what.
    person  INTEGER NOT NULL CHECK (person IN (0, 1)),
    -- Counts without gaps within the same, so that the oldest beyond the bound are found without counting.
    nth     INTEGER NOT NULL,
    -- Which object, by what never changes about it, and by the name it had then.
    subject TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    actor   TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    body    BLOB    NOT NULL,
    UNIQUE (person, nth)
) STRICT;
CREATE INDEX events_by_subject ON events (subject);
CREATE INDEX events_by_name ON events (name, subject);

CREATE TABLE requests (
    -- 'client' or 'internal': each has its own lifetime and its own bounds.
    origin   TEXT    NOT NULL CHECK (origin IN ('client', 'internal')),
    -- Counts without gaps within an origin. Log time never goes back, so the lowest is also the oldest.
    number   INTEGER NOT NULL,
    -- Bytes of all replies up to this one, so that the oldest beyond the bound are found without adding up.
    bytes    INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    body     BLOB    NOT NULL CHECK (length(body) = 32),
    reply    BLOB    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (origin, number),
    UNIQUE (actor, key)
) STRICT;
