-- The first schema. Times are Unix milliseconds, money is integer nanos of the billing currency,
-- lists and small objects are JSON text.

PRAGMA application_id = 0x534C4345;  -- "SLCE": tells our file from any other program's

CREATE TABLE migrations (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL,  -- RFC 3339 UTC
    program TEXT NOT NULL      -- the version that applied it: the oldest that can read this schema
) STRICT;

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    name TEXT PRIMARY KEY,
    plan TEXT,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_ms INTEGER NOT NULL
) STRICT;

INSERT INTO accounts (name, enabled, created_ms)
VALUES ('default', 1, CAST(strftime('%s', 'now') AS INTEGER) * 1000);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES accounts (name),
    prefix TEXT NOT NULL,
    last4 TEXT NOT NULL,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER,
    last_used_ms INTEGER,
    models TEXT,     -- JSON array; NULL allows all, here and in the next two
    providers TEXT,
    ips TEXT,
    limits TEXT NOT NULL,  -- JSON object
    quota TEXT             -- JSON object
) STRICT;

CREATE TABLE key_secrets (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),  -- SHA-256 of the key
    key_id TEXT NOT NULL REFERENCES api_keys (id),
    expires_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX key_secrets_by_key ON key_secrets (key_id);

-- One row for each admitted exchange. While it runs, `finish` and all that is known only at the
-- end is NULL. No reference to keys or accounts: nothing may ever stand in the way of a settlement.
-- A table with rowids takes rows of this size faster, and in fewer bytes, than one without.
CREATE TABLE exchanges (
    id TEXT PRIMARY KEY,  -- begins with the time of admission: its order is the order of listings
    created_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    day TEXT NOT NULL,
    key_id TEXT NOT NULL,
    account TEXT NOT NULL,
    dialect TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    stream INTEGER NOT NULL,
    model TEXT NOT NULL,
    provider TEXT,
    upstream_model TEXT,
    status INTEGER,
    billing TEXT,
    finish TEXT,
    error_code TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cached_tokens INTEGER,
    cache_write_tokens INTEGER,
    reasoning_tokens INTEGER,
    estimated INTEGER,
    cost_nanos INTEGER,
    discount TEXT,
    receipt TEXT  -- JSON object: attempts, price, timings
) STRICT;

CREATE INDEX exchanges_by_key ON exchanges (key_id, id);
CREATE INDEX exchanges_running ON exchanges (id) WHERE finish IS NULL;
CREATE INDEX exchanges_failed ON exchanges (id) WHERE finish <> 'ok' OR status <> 200;

-- Written in the same transaction as the finished exchanges that they sum up.
CREATE TABLE daily_sums (
    day TEXT NOT NULL,
    account TEXT NOT NULL,
    key_id TEXT NOT NULL,
    provider TEXT NOT NULL,  -- '' when none answered
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    failed INTEGER NOT NULL,  -- of the requests, those that did not finish `ok`
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost_nanos INTEGER NOT NULL,
    PRIMARY KEY (day, account, key_id, provider, model)
) STRICT, WITHOUT ROWID;
