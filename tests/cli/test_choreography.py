"""The example of events with several subscribers, one of which comes later: on a real broker."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "choreography"


@pytest.fixture
def data() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ox"))  # short: a socket's path has a limit
    yield folder / "d"
    shutil.rmtree(folder, ignore_errors=True)


def run(data: Path, *args: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "outboxd", "run", *args, "--data", str(data), "--until-idle"],
        cwd=EXAMPLE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLE)])},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr


def heard(data: Path, name: str) -> list[str]:
    with closing(sqlite3.connect(data / f"{name}.db")) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM heard ORDER BY rowid")]


def test_a_subscriber_that_comes_later_hears_what_is_retained_once_and_in_order(
    data: Path,
) -> None:
    run(data, "shop.py", "stock.py", "--feed", "orders.jsonl")
    assert heard(data, "stock") == ["o1", "o2", "o3"]
    for _ in range(2):
        run(data, "shop.py", "stock.py", "loyalty.py")
        assert heard(data, "loyalty") == heard(data, "stock") == ["o1", "o2", "o3"]
