"""What may go wrong, each in words that a story is told with."""

from __future__ import annotations

KILLED = "the process is killed before the commit"
REFUSED = "the disk refuses the commit"
KILLED_AFTER = "the process is killed after the commit"
BY_STREAM = "puts it into the stream, without numbers"
TWICE = "it stands there twice"
AWAY = "its reader is away until the next deadline has passed"
TOGETHER = "it is read in one batch with what follows"
LOST = "a stranger deletes it from the stream"
RAISES = "its handler fails once"
POISON = "its handler fails until somebody fixes it"
REJECTS = "its handler says no"
KILLED_PUBLISHED = "the process is killed after it published"
EMPTIED = "the broker loses everything"
FAILS_BEFORE = "the outside fails before it acts"
FAILS_AFTER = "the outside acts, its answer is lost"
KILLED_ACTING = "the process is killed after the outside acted"
HANGS = "the outside acts and does not answer in time"

OUTSIDE = (FAILS_BEFORE, FAILS_AFTER, KILLED_ACTING, HANGS)
"""Of a call to the outside."""
