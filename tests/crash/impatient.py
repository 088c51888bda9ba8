"""outboxd with small limits, for tests that would wait for the real ones.

python -m tests.crash.impatient run …
"""

from __future__ import annotations

from outboxd import retry, watchdog
from outboxd.cli import main

retry.CRASH_LIMIT = 2
watchdog.LOG_S, watchdog.LIMIT_S, watchdog.LOOK_S = 0.3, 1.0, 0.1

if __name__ == "__main__":
    main()
