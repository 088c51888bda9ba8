-- One row per schedule that a participant ever had. `fired` numbers its firings and is never given
-- out twice, so a schedule that was taken out of the code keeps its row; then nothing is due.
CREATE TABLE outboxd_schedule (
    name     TEXT PRIMARY KEY,
    spec     TEXT NOT NULL,
    due_at   REAL,
    fired    INTEGER NOT NULL DEFAULT 0,
    fired_at REAL
) STRICT, WITHOUT ROWID;
