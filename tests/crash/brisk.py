"""outboxd that trims its streams ten times as often, for tests that wait until they are trimmed.

python -m tests.crash.brisk run …
"""

from __future__ import annotations

from outboxd import janitor
from outboxd.cli import main

janitor.TRIM_S = 0.5

if __name__ == "__main__":
    main()
