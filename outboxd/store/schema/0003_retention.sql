-- What retention needs to know, and to find without reading everything.

-- When a saga began whose key may have been used before, by one that is forgotten: what it sends
-- has this in its ids, so that nobody takes it for what the other one sent. 0 for all others.
ALTER TABLE outboxd_saga ADD COLUMN born INTEGER NOT NULL DEFAULT 0;
CREATE INDEX outboxd_saga_rounds ON outboxd_saga (name, key, round) WHERE round > 1;

-- When a letter was replayed, discarded or closed.
ALTER TABLE outboxd_dead ADD COLUMN settled_at REAL;
UPDATE outboxd_dead SET settled_at = at WHERE state NOT IN ('dead', 'replaying');
CREATE INDEX outboxd_dead_settled ON outboxd_dead (settled_at) WHERE settled_at IS NOT NULL;

CREATE INDEX outboxd_attempt_at ON outboxd_attempt (at);
CREATE INDEX outboxd_applied_at ON outboxd_applied (at);
