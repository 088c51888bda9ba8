-- Why an undo died, until it is replayed or answered: its saga stands for that in any case.
ALTER TABLE outboxd_undo ADD COLUMN died TEXT;
