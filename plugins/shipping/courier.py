"""The world outside: a courier that is slow and flaky on purpose, and the book that it keeps.

The book is a file of JSON lines, only ever appended to: OUTBOXD_COURIER_FILE, or `courier.jsonl` in
the data directory. While OUTBOXD_COURIER_DOWN=1 is set, or a file `courier.down` lies beside the
book, the courier does not answer.
"""

import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from zlib import crc32

import anyio

RELIABLE_FROM = 3
"""The third try of a request gets through (unless the courier is down)."""


class CourierDown(Exception):
    """No answer: nobody knows whether the courier acted."""


class NotServed(Exception):
    """The courier's answer is no."""


class Book:
    """What the courier knows: the first line of a key counts, whoever wrote it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._read_to = 0
        self._numbers: dict[str, str] = {}
        self._cancelled: set[str] = set()
        self._failures: Counter[str] = Counter()

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def enter(self, key: str, order_id: str, zone: str) -> str:
        """Books under ``key``; the same key again gets the first booking's number."""
        self._catch_up()
        if key in self._cancelled:
            raise NotServed("the booking was cancelled")
        if key not in self._numbers:
            self._append({"booked": key, "order_id": order_id, "zone": zone})
        return self._numbers[key]

    def strike(self, key: str) -> None:
        """Cancels what ``key`` booked, or will try to book."""
        self._catch_up()
        if key not in self._cancelled:
            self._append({"cancelled": key})

    def failures(self, request: str) -> int:
        """How often a request has failed so far, in whatever process."""
        self._catch_up()
        return self._failures[request]

    def lose(self, request: str) -> None:
        """One more failed try of a request; remembered, so that a restart is no new bad luck."""
        self._append({"lost": request})

    def _append(self, line: dict[str, str]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")
        self._catch_up()

    def _catch_up(self) -> None:
        """Reads what was appended since, also by another process."""
        new = os.pread(self._file, os.fstat(self._file).st_size - self._read_to, self._read_to)
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in map(json.loads, whole.splitlines()):
            if "lost" in line:
                self._failures[line["lost"]] += 1
            elif "cancelled" in line:
                self._cancelled.add(line["cancelled"])
            else:
                self._numbers.setdefault(line["booked"], f"C-{len(self._numbers) + 1}")


class Courier:
    """The client: 5 to 30 ms away, and one try in ten fails, before or after the courier acted."""

    def __init__(self, path: Path) -> None:
        self._book = Book(path)
        self._down = path.with_name("courier.down")

    def close(self) -> None:
        """Hangs up."""
        self._book.close()

    async def book(self, order_id: str, zone: str, *, idempotency_key: str) -> str:
        """Books a courier, once for each key; returns the courier's number."""
        async with self._wire(idempotency_key):
            if zone == "ZZ":
                raise NotServed("no courier serves zone ZZ")
            return self._book.enter(idempotency_key, order_id, zone)

    async def cancel(self, *, idempotency_key: str) -> None:
        """Cancels what was booked under the key, if anything was; it stays cancelled."""
        async with self._wire(f"cancel {idempotency_key}"):
            self._book.strike(idempotency_key)

    @asynccontextmanager
    async def _wire(self, request: str) -> AsyncIterator[None]:
        tries = self._book.failures(request) + 1
        luck = crc32(f"{request} {tries}".encode())
        fate = luck % 20 if tries < RELIABLE_FROM else None
        one_way_s = (5 + luck // 20 % 26) / 2000
        await anyio.sleep(one_way_s)
        if self._is_down():
            raise CourierDown("503: the courier is down")
        if fate == 0:
            self._book.lose(request)
            raise CourierDown("503: the request was lost")
        yield
        await anyio.sleep(one_way_s)
        if fate == 1:
            self._book.lose(request)
            raise CourierDown("504: the answer was lost")

    def _is_down(self) -> bool:
        return os.environ.get("OUTBOXD_COURIER_DOWN") == "1" or self._down.exists()


@asynccontextmanager
async def open_courier() -> AsyncIterator[Courier]:
    """The lifespan of shipping."""
    default = Path(os.environ["OUTBOXD_DATA"]) / "courier.jsonl"
    courier = Courier(Path(os.environ.get("OUTBOXD_COURIER_FILE", default)))
    try:
        yield courier
    finally:
        courier.close()
