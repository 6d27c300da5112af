-- Funds of accounts, and the ledger of everything that ever changed them.

ALTER TABLE accounts ADD COLUMN wallet_nanos INTEGER NOT NULL DEFAULT 0;

CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (name),
    tokens INTEGER NOT NULL CHECK (tokens > 0),
    tokens_left INTEGER NOT NULL CHECK (tokens_left >= 0),
    models TEXT,  -- JSON array of globs; NULL: all
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER
) STRICT;

CREATE INDEX grants_of_account ON grants (account);
CREATE INDEX grants_left ON grants (account) WHERE tokens_left > 0;

-- One for an account at most: it is removed when it has expired, and the ledger remembers it.
CREATE TABLE subscriptions (
    account TEXT PRIMARY KEY REFERENCES accounts (name),
    plan TEXT NOT NULL,
    credit_nanos INTEGER NOT NULL CHECK (credit_nanos >= 0),
    left_nanos INTEGER NOT NULL CHECK (left_nanos >= 0),
    started_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `fund` is wallet, subscription, or grant:ID. Amounts of grants are LLM tokens, all others nanos.
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_ms INTEGER NOT NULL,
    account TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (
        kind IN ('topup', 'grant', 'subscribe', 'charge', 'refund', 'adjust', 'expire')
    ),
    fund TEXT NOT NULL,
    amount INTEGER NOT NULL,
    balance_after INTEGER NOT NULL,
    exchange TEXT,
    actor TEXT NOT NULL,
    note TEXT
) STRICT;

CREATE INDEX ledger_of_account ON ledger (account, id);
CREATE INDEX ledger_by_time ON ledger (account, created_ms);  -- for statements
CREATE UNIQUE INDEX ledger_charges ON ledger (exchange, fund) WHERE kind = 'charge';

CREATE TRIGGER ledger_is_never_changed BEFORE UPDATE ON ledger BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only: a correction is an entry of its own');
END;

CREATE TRIGGER ledger_is_never_shortened BEFORE DELETE ON ledger BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only: a correction is an entry of its own');
END;

-- INSERT OR REPLACE would delete without asking the trigger above.
CREATE TRIGGER ledger_is_never_replaced BEFORE INSERT ON ledger
WHEN EXISTS (SELECT 1 FROM ledger WHERE id = new.id) OR EXISTS (
    SELECT 1 FROM ledger
    WHERE new.kind = 'charge' AND kind = 'charge' AND exchange = new.exchange AND fund = new.fund
) BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only: a correction is an entry of its own');
END;

-- Answers to money calls, by their Idempotency-Key: repeated, a call gets the same one and does nothing.
CREATE TABLE money_calls (
    key TEXT PRIMARY KEY,
    request TEXT NOT NULL,  -- what was asked: the path and the body
    answer TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What a running exchange holds, a JSON object; NULL: nothing, as always once it is settled.
ALTER TABLE exchanges ADD COLUMN hold TEXT;
-- What would be recorded if the process died now: noted every few seconds while a stream runs.
ALTER TABLE exchanges ADD COLUMN progress TEXT;
ALTER TABLE exchanges ADD COLUMN paid_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE exchanges ADD COLUMN paid_subscription_nanos INTEGER NOT NULL DEFAULT 0;
ALTER TABLE exchanges ADD COLUMN paid_wallet_nanos INTEGER NOT NULL DEFAULT 0;
