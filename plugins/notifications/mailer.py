"""The world outside: a mail server, which is a file of JSON lines.

OUTBOXD_MAIL_FILE, or `mail.jsonl` in the data directory. Like real mail, at least once: a crash
right after sending sends again, with the same message id.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class Mailer:
    """Sends mail."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def close(self) -> None:
        """Hangs up."""
        os.close(self._file)

    async def send(self, to: str, subject: str, *, idempotency_key: str) -> None:
        """Sends one mail; its message id is the key, by which a reader drops a second copy."""
        if "@" not in to:
            raise ValueError(f"{to!r} is no e-mail address")
        line = json.dumps({"message_id": idempotency_key, "to": to, "subject": subject})
        os.write(self._file, line.encode() + b"\n")


@asynccontextmanager
async def open_mailer() -> AsyncIterator[Mailer]:
    """The lifespan of notifications."""
    default = Path(os.environ["OUTBOXD_DATA"]) / "mail.jsonl"
    mailer = Mailer(Path(os.environ.get("OUTBOXD_MAIL_FILE", default)))
    try:
        yield mailer
    finally:
        mailer.close()
