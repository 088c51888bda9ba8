"""A working directory of its own for every command, and ways to run one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from outboxd.cli import cli
from tests.cli import filling

Run = Callable[..., Result]

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, none of the developer's own settings, no plugin of before."""
    for name in [name for name in os.environ if name.startswith("OUTBOXD_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is filled in is as old as it says, however long the run has been going."""
    monkeypatch.setattr(filling, "_at", filling.this_second())


@pytest.fixture
def data(workplace: Path) -> Path:
    """The default data directory, not made yet."""
    return workplace / "outboxd-data"


@pytest.fixture
def shop(data: Path, moment: None) -> Path:
    """A data directory in which some things are in trouble; no daemon runs."""
    data.mkdir()
    filling.a_shop(data)
    return data


@pytest.fixture
def run() -> Run:
    """Runs a command in this process, without a terminal."""

    def invoke(*args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, list(args), input=stdin)

    return invoke


@pytest.fixture
def outboxd(workplace: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command as a process of its own."""

    def start(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "outboxd", *args],
            cwd=workplace,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=50,
        )

    return start
