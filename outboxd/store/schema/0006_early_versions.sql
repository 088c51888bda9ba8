-- A message that is kept for a saga may be read by a later release: as which version was it written?
ALTER TABLE outboxd_early ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
