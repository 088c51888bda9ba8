BEGIN TRANSACTION;
CREATE TABLE log (n INTEGER PRIMARY KEY, id TEXT NOT NULL, what TEXT NOT NULL) STRICT;
INSERT INTO "log" VALUES(1,'shipping','charged 3 euros');
INSERT INTO "log" VALUES(2,'undoing','charged 3 euros');
INSERT INTO "log" VALUES(3,'done','charged 3 euros');
INSERT INTO "log" VALUES(4,'sleeping','charged 3 euros');
INSERT INTO "log" VALUES(5,'outside','charged 7 euros');
CREATE TABLE outboxd_applied (
    id     TEXT PRIMARY KEY,
    at     REAL NOT NULL,
    kind   TEXT NOT NULL,
    target TEXT NOT NULL,
    who    TEXT NOT NULL,
    reason TEXT NOT NULL,
    result TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "outboxd_applied" VALUES('op-16d1f4a013524f43987a5dbadfa9d25b',1.70000360174010276795e+09,'send','ChargeCard','test','','charge-outside');
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
INSERT INTO "outboxd_attempt" VALUES('desk/fulfil/dead#2',1,1.7000036006153888702e+09,0.0,'again in 0.00 s','RuntimeError: a bug of the first release','Traceback (most recent call last):
  File "company.py", line 48, in charge_card
    raise RuntimeError("a bug of the first release")
RuntimeError: a bug of the first release
');
INSERT INTO "outboxd_attempt" VALUES('desk/fulfil/dead#2',2,1.70000360061962032314e+09,1.975536346435546875e-03,'again in 0.00 s','RuntimeError: a bug of the first release','Traceback (most recent call last):
  File "company.py", line 48, in charge_card
    raise RuntimeError("a bug of the first release")
RuntimeError: a bug of the first release
');
INSERT INTO "outboxd_attempt" VALUES('desk/fulfil/dead#2',3,1.70000360063029813768e+09,8.182525634765625e-03,'gave up','RuntimeError: a bug of the first release','Traceback (most recent call last):
  File "company.py", line 48, in charge_card
    raise RuntimeError("a bug of the first release")
RuntimeError: a bug of the first release
');
INSERT INTO "outboxd_attempt" VALUES('desk/fulfil/retrying#2',1,1.70000360061051511767e+09,0.0,'again in 300.00 s','Retry: the bank is away','Traceback (most recent call last):
  File "company.py", line 46, in charge_card
    raise Retry("the bank is away", after=300)
outboxd.errors.Retry: the bank is away
');
INSERT INTO "outboxd_attempt" VALUES('desk/fulfil/undoing#2~undo',1,1.70000360054368352888e+09,0.0,'again in 300.00 s','Retry: the bank is away','Traceback (most recent call last):
  File "company.py", line 54, in void_card
    raise Retry("the bank is away", after=300)
outboxd.errors.Retry: the bank is away
');
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
INSERT INTO "outboxd_dead" VALUES(1,'desk/fulfil/dead#2','desk','in','ChargeCard','dead','till.charge_card','dead',3,1,0,1.7000036006153888702e+09,1.70000360063029813768e+09,'RuntimeError','a bug of the first release','Traceback (most recent call last):
  File "company.py", line 48, in charge_card
    raise RuntimeError("a bug of the first release")
RuntimeError: a bug of the first release
',NULL,CAST('{"specversion":"1.0","id":"desk/fulfil/dead#2","type":"ChargeCard","source":"desk","time":"2023-11-14T23:13:20.601282Z","subject":"dead","data":{"id":"dead","euros":3},"kind":"command","correlationid":"desk/fulfil/dead","replyto":"desk","call":2,"deadline":"2023-11-14T23:23:20.601282Z","epoch":1700000000186,"seq":7}' AS BLOB));
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
INSERT INTO "outboxd_fence" VALUES('desk/fulfil/done#2','done',1.70000000049417114254e+09,CAST('"charged 3 euros"' AS BLOB));
INSERT INTO "outboxd_fence" VALUES('desk/fulfil/shipping#2','done',1.70000000046334719659e+09,CAST('"charged 3 euros"' AS BLOB));
INSERT INTO "outboxd_fence" VALUES('desk/fulfil/sleeping#2','done',1.70000360059891080857e+09,CAST('"charged 3 euros"' AS BLOB));
INSERT INTO "outboxd_fence" VALUES('desk/fulfil/undoing#2','done',1.70000000049009060854e+09,CAST('"charged 3 euros"' AS BLOB));
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
INSERT INTO "outboxd_inbox" VALUES(1,'desk|in|undoing','desk/fulfil/undoing#2~undo','desk','in','VoidCard','undoing','waiting',0,1,0,NULL,1.70000360054368352888e+09,1.70000390054368352892e+09,NULL,'Retry: the bank is away',CAST('{"specversion":"1.0","id":"desk/fulfil/undoing#2~undo","type":"VoidCard","source":"desk","time":"2023-11-14T23:13:20.531029Z","subject":"undoing","data":{"id":"undoing"},"kind":"undo","correlationid":"desk/fulfil/undoing","replyto":"desk","call":2,"outcome":"done","undoes":"desk/fulfil/undoing#2","epoch":1700000000186,"seq":4}' AS BLOB));
INSERT INTO "outboxd_inbox" VALUES(2,'desk|in|retrying','desk/fulfil/retrying#2','desk','in','ChargeCard','retrying','waiting',0,1,0,NULL,1.70000360061051511767e+09,1.70000390061051511762e+09,NULL,'Retry: the bank is away',CAST('{"specversion":"1.0","id":"desk/fulfil/retrying#2","type":"ChargeCard","source":"desk","time":"2023-11-14T23:13:20.591249Z","subject":"retrying","data":{"id":"retrying","euros":3},"kind":"command","correlationid":"desk/fulfil/retrying","replyto":"desk","call":2,"deadline":"2023-11-14T23:23:20.591249Z","epoch":1700000000186,"seq":6}' AS BLOB));
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
INSERT INTO "outboxd_meta" VALUES('epoch',1700000000222);
INSERT INTO "outboxd_meta" VALUES('schema:schema','3393859e0a9dbc41');
INSERT INTO "outboxd_meta" VALUES('store_id','4a9c3a33fe224d16b61e214b8a685d55');
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
INSERT INTO "outboxd_outbox" VALUES('outboxd:{till}:events',6,'charge-outside.till.1',1.70000360174010276795e+09,CAST('{"specversion":"1.0","id":"charge-outside.till.1","type":"Charged","source":"till","time":"2023-11-14T23:13:21.740103Z","subject":"outside","data":{"id":"outside","euros":7},"correlationid":"charge-outside","causationid":"charge-outside"}' AS BLOB));
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
INSERT INTO "outboxd_seen" VALUES('client','charge-outside',2790392381,1.70000360174010276795e+09);
CREATE TABLE outboxd_sender (
    sender   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    done     INTEGER NOT NULL,
    PRIMARY KEY (sender, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO "outboxd_sender" VALUES('*','local',0,0,1,1);
INSERT INTO "outboxd_sender" VALUES('desk','in',1700000000186,0,7,4);
CREATE TABLE outboxd_stream (
    stream TEXT PRIMARY KEY,
    last   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "outboxd_stream" VALUES('outboxd:{desk}:in',5);
INSERT INTO "outboxd_stream" VALUES('outboxd:{till}:events',6);
CREATE TABLE outboxd_subscriber (
    name  TEXT PRIMARY KEY,
    since INTEGER NOT NULL,
    at    REAL NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "outboxd_subscriber" VALUES('books',0,1.70000000032688784604e+09);
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
INSERT INTO "sqlite_sequence" VALUES('outboxd_inbox',3);
INSERT INTO "sqlite_sequence" VALUES('outboxd_dead',1);
COMMIT;
