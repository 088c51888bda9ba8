-- While a broker is away no deadline passes, but sleeps end: found among any number of calls that
-- are due.
CREATE INDEX outboxd_call_timer ON outboxd_call (due_at)
    WHERE kind IN ('sleep', 'until') AND due_at IS NOT NULL;
