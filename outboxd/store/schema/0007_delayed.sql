-- Delayed sends, numbered: two messages that follow from different ones may have the same id, where
-- two outsiders have called theirs the same. Each of them sets out.
CREATE TABLE outboxd_delayed_new (
    n      INTEGER PRIMARY KEY AUTOINCREMENT,
    id     TEXT NOT NULL,
    stream TEXT NOT NULL,
    due_at REAL NOT NULL,
    body   BLOB NOT NULL
) STRICT;
INSERT INTO outboxd_delayed_new (id, stream, due_at, body)
    SELECT id, stream, due_at, body FROM outboxd_delayed ORDER BY due_at, id;
DROP TABLE outboxd_delayed;
ALTER TABLE outboxd_delayed_new RENAME TO outboxd_delayed;
CREATE INDEX outboxd_delayed_due ON outboxd_delayed (due_at, n);
CREATE INDEX outboxd_delayed_id ON outboxd_delayed (id);
