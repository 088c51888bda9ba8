BEGIN TRANSACTION;
CREATE TABLE log (n INTEGER PRIMARY KEY, id TEXT NOT NULL, what TEXT NOT NULL) STRICT;
INSERT INTO "log" VALUES(1,'shipping','begun');
INSERT INTO "log" VALUES(2,'undoing','begun');
INSERT INTO "log" VALUES(3,'done','begun');
INSERT INTO "log" VALUES(4,'sleeping','begun');
INSERT INTO "log" VALUES(5,'retrying','begun');
INSERT INTO "log" VALUES(6,'dead','begun');
INSERT INTO "log" VALUES(7,'sending','begun');
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
INSERT INTO "outboxd_call" VALUES('desk/fulfil/dead',2,'desk/fulfil/dead#2','ChargeCard','till',1.70000360060128164287e+09,600.0,NULL,0,'hold',0);
INSERT INTO "outboxd_call" VALUES('desk/fulfil/retrying',2,'desk/fulfil/retrying#2','ChargeCard','till',1.70000360059124922757e+09,600.0,1.70000420059124922756e+09,0,'hold',0);
INSERT INTO "outboxd_call" VALUES('desk/fulfil/sending',2,'desk/fulfil/sending#2','ChargeCard','till',1.70000360170333337777e+09,600.0,1.70000420170333337781e+09,0,'hold',0);
INSERT INTO "outboxd_call" VALUES('desk/fulfil/shipping',5,'desk/fulfil/shipping#5','Ship','courier',1.70000360051844167708e+09,600.0,1.70000420051844167712e+09,0,'hold',0);
INSERT INTO "outboxd_call" VALUES('desk/fulfil/sleeping',3,'desk/fulfil/sleeping#3','sleep','',1.70000360061414051062e+09,3600.0,1.70000720061414051058e+09,1,'hold',0);
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
INSERT INTO "outboxd_delayed" VALUES('desk/fulfil/done#4.1','outboxd:{till}:in',1.70001080051844167704e+09,CAST('{"specversion":"1.0","id":"desk/fulfil/done#4.1","type":"Pack","source":"desk","time":"2023-11-14T23:13:20.518442Z","subject":"done","data":{"id":"done"},"kind":"command","correlationid":"desk/fulfil/done","causationid":"desk/fulfil/done#4"}' AS BLOB));
INSERT INTO "outboxd_delayed" VALUES('desk/fulfil/shipping#4.1','outboxd:{till}:in',1.70001080051844167704e+09,CAST('{"specversion":"1.0","id":"desk/fulfil/shipping#4.1","type":"Pack","source":"desk","time":"2023-11-14T23:13:20.518442Z","subject":"shipping","data":{"id":"shipping"},"kind":"command","correlationid":"desk/fulfil/shipping","causationid":"desk/fulfil/shipping#4"}' AS BLOB));
INSERT INTO "outboxd_delayed" VALUES('desk/fulfil/undoing#4.1','outboxd:{till}:in',1.70001080051844167704e+09,CAST('{"specversion":"1.0","id":"desk/fulfil/undoing#4.1","type":"Pack","source":"desk","time":"2023-11-14T23:13:20.518442Z","subject":"undoing","data":{"id":"undoing"},"kind":"command","correlationid":"desk/fulfil/undoing","causationid":"desk/fulfil/undoing#4"}' AS BLOB));
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
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/dead',1,'run',1,'write',3165672800,1.70000360060128164287e+09,CAST('"begun"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/dead',2,'call',2,'ChargeCard',2315786700,1.70000360060128164287e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/dead',3,'stuck',0,'letter',0,1.70000360065211534501e+09,CAST('{"detail":"till/d-1: RuntimeError: a bug of the first release"}' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/done',1,'run',1,'write',3165672800,1.70000000047770762449e+09,CAST('"begun"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/done',2,'call',2,'ChargeCard',1711606185,1.70000000047770762449e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/done',3,'ok',2,'ChargeCard',1711606185,1.70000000050108766554e+09,CAST('"charged 3 euros"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/done',4,'sleep',3,'3600s',266629839,1.70000000050108766554e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/done',5,'woke',3,'3600s',266629839,1.70000360051844167708e+09,CAST('null' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/done',6,'sent',4,'Pack',2853806628,1.70000360051844167708e+09,CAST('null' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/done',7,'call',5,'Ship',1786613225,1.70000360051844167708e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/done',8,'ok',5,'Ship',1786613225,1.7000036005310294628e+09,CAST('"shipped"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/done',9,'ended',0,'completed',0,1.7000036005310294628e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/retrying',1,'run',1,'write',3165672800,1.70000360059124922757e+09,CAST('"begun"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/retrying',2,'call',2,'ChargeCard',1987906701,1.70000360059124922757e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/sending',1,'run',1,'write',3165672800,1.70000360170333337777e+09,CAST('"begun"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/sending',2,'call',2,'ChargeCard',2480824147,1.70000360170333337777e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/shipping',1,'run',1,'write',3165672800,1.70000000044522118569e+09,CAST('"begun"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/shipping',2,'call',2,'ChargeCard',4034832926,1.70000000044522118569e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/shipping',3,'ok',2,'ChargeCard',4034832926,1.70000000049352598197e+09,CAST('"charged 3 euros"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/shipping',4,'sleep',3,'3600s',266629839,1.70000000049352598197e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/shipping',5,'woke',3,'3600s',266629839,1.70000360051844167708e+09,CAST('null' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/shipping',6,'sent',4,'Pack',748310071,1.70000360051844167708e+09,CAST('null' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/shipping',7,'call',5,'Ship',22615330,1.70000360051844167708e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/sleeping',1,'run',1,'write',3165672800,1.70000360056005954739e+09,CAST('"begun"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/sleeping',2,'call',2,'ChargeCard',3859852039,1.70000360056005954739e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/sleeping',3,'ok',2,'ChargeCard',3859852039,1.70000360061414051062e+09,CAST('"charged 3 euros"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/sleeping',4,'sleep',3,'3600s',266629839,1.70000360061414051062e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/undoing',1,'run',1,'write',3165672800,1.70000000047093534471e+09,CAST('"begun"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/undoing',2,'call',2,'ChargeCard',2602750922,1.70000000047093534471e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/undoing',3,'ok',2,'ChargeCard',2602750922,1.70000000050108766554e+09,CAST('"charged 3 euros"' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/undoing',4,'sleep',3,'3600s',266629839,1.70000000050108766554e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/undoing',5,'woke',3,'3600s',266629839,1.70000360051844167708e+09,CAST('null' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/undoing',6,'sent',4,'Pack',3820252294,1.70000360051844167708e+09,CAST('null' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/undoing',7,'call',5,'Ship',570487929,1.70000360051844167708e+09,NULL);
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/undoing',8,'rejected',5,'Ship',570487929,1.7000036005310294628e+09,CAST('{"reason":"no such place","span_s":600.0}' AS BLOB));
INSERT INTO "outboxd_journal" VALUES('desk/fulfil/undoing',9,'undo_sent',2,'VoidCard',0,1.7000036005310294628e+09,NULL);
CREATE TABLE outboxd_meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "outboxd_meta" VALUES('alive_at',1.70000360050722098357e+09);
INSERT INTO "outboxd_meta" VALUES('clean',0);
INSERT INTO "outboxd_meta" VALUES('epoch',1700000000186);
INSERT INTO "outboxd_meta" VALUES('schema:schema','3393859e0a9dbc41');
INSERT INTO "outboxd_meta" VALUES('store_id','c6a491b3a9474c8a9310f576b3dff275');
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
INSERT INTO "outboxd_outbox" VALUES('outboxd:{till}:in',8,'desk/fulfil/sending#2',1.70000360170333337777e+09,CAST('{"specversion":"1.0","id":"desk/fulfil/sending#2","type":"ChargeCard","source":"desk","time":"2023-11-14T23:13:21.703333Z","subject":"sending","data":{"id":"sending","euros":3},"kind":"command","correlationid":"desk/fulfil/sending","replyto":"desk","call":2,"deadline":"2023-11-14T23:23:21.703333Z"}' AS BLOB));
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
INSERT INTO "outboxd_saga" VALUES('desk/fulfil/shipping','fulfil','shipping',1,1,'running',0,'Ship',NULL,NULL,NULL,NULL,1.70000000044522118569e+09,1.70000360051844167708e+09,NULL,NULL,CAST('{"specversion":"1.0","id":"order-shipping","type":"Order","source":"runtime","time":"2023-11-14T22:13:20.444811Z","subject":"shipping","data":{"id":"shipping"},"kind":"command","correlationid":"order-shipping"}' AS BLOB));
INSERT INTO "outboxd_saga" VALUES('desk/fulfil/undoing','fulfil','undoing',1,1,'compensating',0,'undo VoidCard','compensated','Ship: no such place',NULL,NULL,1.70000000047093534471e+09,1.7000036005310294628e+09,NULL,NULL,CAST('{"specversion":"1.0","id":"order-undoing","type":"Order","source":"runtime","time":"2023-11-14T22:13:20.459740Z","subject":"undoing","data":{"id":"undoing"},"kind":"command","correlationid":"order-undoing"}' AS BLOB));
INSERT INTO "outboxd_saga" VALUES('desk/fulfil/done','fulfil','done',1,1,'completed',0,NULL,'completed',NULL,NULL,NULL,1.70000000047770762449e+09,1.7000036005310294628e+09,1.7000036005310294628e+09,CAST('"charged 3 euros, shipped"' AS BLOB),CAST('{"specversion":"1.0","id":"order-done","type":"Order","source":"runtime","time":"2023-11-14T22:13:20.476347Z","subject":"done","data":{"id":"done"},"kind":"command","correlationid":"order-done"}' AS BLOB));
INSERT INTO "outboxd_saga" VALUES('desk/fulfil/sleeping','fulfil','sleeping',1,1,'running',0,'sleep 3600s',NULL,NULL,NULL,NULL,1.70000360056005954739e+09,1.70000360061414051062e+09,NULL,NULL,CAST('{"specversion":"1.0","id":"order-sleeping","type":"Order","source":"runtime","time":"2023-11-14T23:13:20.559301Z","subject":"sleeping","data":{"id":"sleeping"},"kind":"command","correlationid":"order-sleeping"}' AS BLOB));
INSERT INTO "outboxd_saga" VALUES('desk/fulfil/retrying','fulfil','retrying',1,1,'running',0,'ChargeCard',NULL,NULL,NULL,NULL,1.70000360059124922757e+09,1.70000360059124922757e+09,NULL,NULL,CAST('{"specversion":"1.0","id":"order-retrying","type":"Order","source":"runtime","time":"2023-11-14T23:13:20.566917Z","subject":"retrying","data":{"id":"retrying"},"kind":"command","correlationid":"order-retrying"}' AS BLOB));
INSERT INTO "outboxd_saga" VALUES('desk/fulfil/dead','fulfil','dead',1,1,'stuck',0,'ChargeCard',NULL,NULL,'letter','till/d-1: RuntimeError: a bug of the first release',1.70000360060128164287e+09,1.70000360065211534501e+09,NULL,NULL,CAST('{"specversion":"1.0","id":"order-dead","type":"Order","source":"runtime","time":"2023-11-14T23:13:20.600821Z","subject":"dead","data":{"id":"dead"},"kind":"command","correlationid":"order-dead"}' AS BLOB));
INSERT INTO "outboxd_saga" VALUES('desk/fulfil/sending','fulfil','sending',1,1,'running',0,'ChargeCard',NULL,NULL,NULL,NULL,1.70000360170333337777e+09,1.70000360170333337777e+09,NULL,NULL,CAST('{"specversion":"1.0","id":"order-sending","type":"Order","source":"runtime","time":"2023-11-14T23:13:21.702561Z","subject":"sending","data":{"id":"sending"},"kind":"command","correlationid":"order-sending"}' AS BLOB));
CREATE TABLE outboxd_seen (
    source TEXT NOT NULL,
    id     TEXT NOT NULL,
    mark   INTEGER NOT NULL,
    at     REAL NOT NULL,
    PRIMARY KEY (source, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "outboxd_seen" VALUES('runtime','order-dead',836125417,1.70000360060128164287e+09);
INSERT INTO "outboxd_seen" VALUES('runtime','order-done',583475241,1.70000000047770762449e+09);
INSERT INTO "outboxd_seen" VALUES('runtime','order-retrying',2302300917,1.70000360059124922757e+09);
INSERT INTO "outboxd_seen" VALUES('runtime','order-sending',1668624406,1.70000360170333337777e+09);
INSERT INTO "outboxd_seen" VALUES('runtime','order-shipping',3231300231,1.70000000044522118569e+09);
INSERT INTO "outboxd_seen" VALUES('runtime','order-sleeping',4282142125,1.70000360056005954739e+09);
INSERT INTO "outboxd_seen" VALUES('runtime','order-undoing',2209544775,1.70000000047093534471e+09);
CREATE TABLE outboxd_sender (
    sender   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    done     INTEGER NOT NULL,
    PRIMARY KEY (sender, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO "outboxd_sender" VALUES('*','local',0,0,10,10);
INSERT INTO "outboxd_sender" VALUES('courier','in',1700000000258,0,2,2);
INSERT INTO "outboxd_sender" VALUES('till','in',1700000000222,0,5,5);
CREATE TABLE outboxd_stream (
    stream TEXT PRIMARY KEY,
    last   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "outboxd_stream" VALUES('outboxd:{courier}:in',3);
INSERT INTO "outboxd_stream" VALUES('outboxd:{till}:in',8);
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
INSERT INTO "outboxd_undo" VALUES('desk/fulfil/undoing',2,'desk/fulfil/undoing#2~undo','VoidCard','sent',1.7000036005310294628e+09);
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
