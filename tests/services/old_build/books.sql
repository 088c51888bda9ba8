BEGIN TRANSACTION;
CREATE TABLE log (n INTEGER PRIMARY KEY, id TEXT NOT NULL, what TEXT NOT NULL) STRICT;
INSERT INTO "log" VALUES(1,'shipping','booked 3 euros');
INSERT INTO "log" VALUES(2,'undoing','booked 3 euros');
INSERT INTO "log" VALUES(3,'done','booked 3 euros');
INSERT INTO "log" VALUES(4,'sleeping','booked 3 euros');
CREATE TABLE outboxd_applied (
    id     TEXT PRIMARY KEY,
    at     REAL NOT NULL,
    kind   TEXT NOT NULL,
    target TEXT NOT NULL,
    who    TEXT NOT NULL,
    reason TEXT NOT NULL,
    result TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_attempt (
    id        TEXT NOT NULL,
    n         INTEGER NOT NULL,
    at        REAL NOT NULL,
    took_s    REAL NOT NULL,
    outcome   TEXT NOT NULL,
    error     TEXT NOT NULL,
    traceback TEXT NOT NULL,
    PRIMARY KEY (id, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_call (
    saga    TEXT NOT NULL,
    pos     INTEGER NOT NULL,
    id      TEXT NOT NULL,
    name    TEXT NOT NULL,
    to_name TEXT NOT NULL,
    sent_at REAL NOT NULL,
    span_s  REAL NOT NULL,
    due_at  REAL,
    strict  INTEGER NOT NULL,
    on_dead TEXT NOT NULL,
    repeats INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (saga, pos)
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_dead (
    n          INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL,
    sender     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    type       TEXT NOT NULL,
    key        TEXT,
    handler    TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('dead', 'replaying', 'replayed', 'discarded', 'closed')),
    attempts   INTEGER NOT NULL,
    failed     INTEGER NOT NULL DEFAULT 1,
    replays    INTEGER NOT NULL DEFAULT 0,
    first_at   REAL NOT NULL,
    at         REAL NOT NULL,
    error_type TEXT NOT NULL,
    error      TEXT NOT NULL,
    traceback  TEXT NOT NULL,
    reason     TEXT,
    body       BLOB NOT NULL
) STRICT;
CREATE TABLE outboxd_delayed (
    id     TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    due_at REAL NOT NULL,
    body   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_fence (
    id     TEXT PRIMARY KEY,
    state  TEXT NOT NULL CHECK (state IN ('started', 'done', 'closed', 'undone')),
    at     REAL NOT NULL,
    result BLOB
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_inbox (
    n          INTEGER PRIMARY KEY AUTOINCREMENT,
    lane       TEXT NOT NULL,
    id         TEXT NOT NULL,
    sender     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    type       TEXT NOT NULL,
    key        TEXT,
    state      TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'held')),
    is_suspect INTEGER NOT NULL DEFAULT 0,
    attempts   INTEGER NOT NULL DEFAULT 0,
    crashes    INTEGER NOT NULL DEFAULT 0,
    letter     INTEGER,
    at         REAL NOT NULL,
    due_at     REAL NOT NULL,
    started_at REAL,
    error      TEXT,
    body       BLOB NOT NULL
) STRICT;
CREATE TABLE outboxd_journal (
    saga TEXT NOT NULL,
    n    INTEGER NOT NULL,
    kind TEXT NOT NULL,
    pos  INTEGER NOT NULL,
    name TEXT NOT NULL,
    mark INTEGER NOT NULL,
    at   REAL NOT NULL,
    data BLOB,
    PRIMARY KEY (saga, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "outboxd_meta" VALUES('clean',0);
INSERT INTO "outboxd_meta" VALUES('epoch',1700000000298);
INSERT INTO "outboxd_meta" VALUES('schema:schema','3393859e0a9dbc41');
INSERT INTO "outboxd_meta" VALUES('store_id','cf02a48396264910a899edef0b6aaee8');
CREATE TABLE outboxd_once (
    id     TEXT NOT NULL,
    name   TEXT NOT NULL,
    state  TEXT NOT NULL CHECK (state IN ('started', 'done')),
    at     REAL NOT NULL,
    result BLOB,
    PRIMARY KEY (id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_outbox (
    stream TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    id     TEXT NOT NULL,
    at     REAL NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (stream, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_saga (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    key        TEXT NOT NULL,
    round      INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN
               ('running', 'compensating', 'stuck', 'completed', 'compensated', 'cancelled')),
    is_forward INTEGER NOT NULL DEFAULT 0,
    step       TEXT,
    ending     TEXT,
    reason     TEXT,
    stuck      TEXT,
    detail     TEXT,
    started_at REAL NOT NULL,
    moved_at   REAL NOT NULL,
    ended_at   REAL,
    result     BLOB,
    start      BLOB NOT NULL
) STRICT;
CREATE TABLE outboxd_seen (
    source TEXT NOT NULL,
    id     TEXT NOT NULL,
    mark   INTEGER NOT NULL,
    at     REAL NOT NULL,
    PRIMARY KEY (source, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_sender (
    sender   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    done     INTEGER NOT NULL,
    PRIMARY KEY (sender, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO "outboxd_sender" VALUES('till','events',1700000000222,0,5,5);
CREATE TABLE outboxd_stream (
    stream TEXT PRIMARY KEY,
    last   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_subscriber (
    name  TEXT PRIMARY KEY,
    since INTEGER NOT NULL,
    at    REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_undo (
    saga  TEXT NOT NULL,
    pos   INTEGER NOT NULL,
    id    TEXT NOT NULL,
    name  TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('sent', 'done')),
    at    REAL NOT NULL,
    PRIMARY KEY (saga, pos)
) STRICT, WITHOUT ROWID;
CREATE TABLE outboxd_waiter (
    saga TEXT NOT NULL,
    id   TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (saga, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outboxd_delayed_due ON outboxd_delayed (due_at);
CREATE INDEX outboxd_seen_at ON outboxd_seen (at);
CREATE INDEX outboxd_inbox_id ON outboxd_inbox (id);
CREATE INDEX outboxd_fence_at ON outboxd_fence (at);
CREATE INDEX outboxd_dead_id ON outboxd_dead (id);
CREATE INDEX outboxd_dead_open ON outboxd_dead (n) WHERE state IN ('dead', 'replaying');
CREATE INDEX outboxd_saga_open ON outboxd_saga (state, started_at) WHERE ended_at IS NULL;
CREATE INDEX outboxd_saga_ended ON outboxd_saga (ended_at, state) WHERE ended_at IS NOT NULL;
CREATE INDEX outboxd_call_due ON outboxd_call (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outboxd_undo_sent ON outboxd_undo (at) WHERE state = 'sent';
DELETE FROM "sqlite_sequence";
COMMIT;
