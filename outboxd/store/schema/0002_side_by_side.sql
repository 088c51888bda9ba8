-- Several steps of a saga at once, each with what it waits for and why it holds the saga.

ALTER TABLE outboxd_call ADD COLUMN kind TEXT NOT NULL DEFAULT 'call';
ALTER TABLE outboxd_call ADD COLUMN key TEXT;
ALTER TABLE outboxd_call ADD COLUMN stuck TEXT;
ALTER TABLE outboxd_call ADD COLUMN detail TEXT;

UPDATE outboxd_call SET kind = 'sleep' WHERE name = 'sleep';
UPDATE outboxd_call SET (stuck, detail) = (
    SELECT s.stuck, s.detail FROM outboxd_saga s
    WHERE s.id = outboxd_call.saga AND s.stuck IN ('letter', 'forward')
) WHERE kind = 'call';

CREATE INDEX outboxd_call_awaited ON outboxd_call (name, key)
    WHERE kind = 'receive' AND key IS NOT NULL;

-- Messages for sagas that do not wait for them yet, kept for a stated retention.
CREATE TABLE outboxd_early (
    n    INTEGER PRIMARY KEY AUTOINCREMENT,
    saga TEXT NOT NULL,
    type TEXT NOT NULL,
    key  TEXT NOT NULL,
    at   REAL NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX outboxd_early_key ON outboxd_early (saga, key, type, n);
CREATE INDEX outboxd_early_at ON outboxd_early (at);
