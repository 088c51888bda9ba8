"""Producers without numbers: what they may leave out, and how they are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from outboxd.message import encode
from outboxd.monitor import Monitor
from outboxd.testing import wait_until
from tests.promises.cast import Cast, hosting, letters, log

pytestmark = pytest.mark.anyio


def document(key: str, **attributes: str) -> bytes:
    said = {"specversion": "1.0", "id": f"m-{key}", "type": "Do", "source": "till", "subject": key}
    return encode(said | {"kind": "command", "data": {"id": key}} | attributes)


async def test_a_document_without_a_time_is_of_the_moment_in_which_it_comes(
    cast: Cast, tmp_path: Path
) -> None:
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.put("worker", document("1"))
        await wait_until(lambda: log(harness, "worker"))
        assert await letters(harness, "worker") == []


async def test_a_stranger_s_letter_names_its_source_and_an_odd_time_stops_nobody(
    cast: Cast, tmp_path: Path
) -> None:
    async with hosting(*cast.participants, data=tmp_path) as harness:
        await harness.put("worker", document("1", time="0001-01-01T00:00:00"))
        await harness.put("worker", b"nonsense")
        await harness.put("worker", document("2", time="9999-12-31T23:59:59-23:59"))
        await wait_until(lambda: log(harness, "worker", "2"))
        with Monitor(tmp_path) as monitor:
            found = monitor.letters().rows
        assert sorted(letter.sender for letter in found) == ["till", "unknown"]
