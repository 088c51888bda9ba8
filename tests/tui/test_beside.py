"""A browser gets the dashboard only as its own page; what is missing is said in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.conftest import wait_until

pytest.importorskip("textual_serve", reason="the dashboard for browsers needs the extra web")

ROOT = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def site(shop: Path) -> Iterator[int]:
    """``outboxd web`` on a port of its own."""
    port = free_port()
    command = [sys.executable, "-m", "outboxd", "web", "--data", str(shop), "--port", str(port)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = child.stdout.readline()
    anyio.run(wait_until, lambda: listens(port), "it listens")
    assert f"http://127.0.0.1:{port}" in first
    assert "read-only" in first
    yield port
    child.terminate()
    child.wait(timeout=50)
    child.stdout.close()


def answer(port: int, **headers: str) -> int:
    """The status of its page."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as found:
            status: int = found.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_browser_gets_the_page_and_a_page_of_another_site_gets_nothing(site: int) -> None:
    assert answer(site) == 200
    assert answer(site, Origin=f"http://localhost:{site}") == 200
    assert answer(site, Origin="https://evil.example") == 403
    assert answer(site, Host="evil.example") == 403


def outboxd(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outboxd", *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["ui", "--data", "nowhere"], "the dashboard needs a terminal"),
        (["run", "--ui"], "the dashboard needs a terminal"),
        (["web", "--data", "nowhere"], "there is no outboxd data in nowhere"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, args: list[str], said: str) -> None:
    done = outboxd(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
