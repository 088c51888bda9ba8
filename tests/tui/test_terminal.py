"""A real run in a real terminal: keys are typed, the screen is read, and outboxd stops."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 40.0

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.tmux,
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="NO TMUX: the terminal is not tested"),
]


class Terminal:
    """A terminal of its own, in a server of its own."""

    def __init__(self, socket: str) -> None:
        self.socket = socket

    def tmux(self, *args: str) -> str:
        command = ["tmux", "-L", self.socket, "-f", "/dev/null", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout

    def start(self, command: str, size: tuple[int, int], folder: Path) -> None:
        width, height = str(size[0]), str(size[1])
        # The shell outlives the command, so that its last words and its exit code can be read.
        shell = f"env PYTHONPATH={ROOT} {command}; echo EXIT=$?; cat"
        self.tmux("new-session", "-d", "-x", width, "-y", height, "-c", str(folder), shell)

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    async def shows(self, *texts: str) -> None:
        def is_shown() -> bool:
            screen = self.screen
            return all(text in screen for text in texts)

        try:
            await wait_until(is_shown, f"{texts} on the screen", PATIENCE_S)
        except BaseException:
            sys.stderr.write(self.screen)
            raise


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal(f"outboxd-{uuid.uuid4().hex[:8]}")
    yield found
    found.tmux("kill-server")


@pytest.fixture
def command() -> Callable[..., str]:
    def build(*args: str) -> str:
        return " ".join([sys.executable, "-m", "outboxd", *args])

    return build


async def test_a_run_with_its_dashboard_is_watched_repaired_and_stopped(
    tmp_path: Path, terminal: Terminal, command: Callable[..., str]
) -> None:
    feed = tmp_path / "orders.jsonl"
    orders = [{"order_id": f"order-{n}", "cents": 900, "zone": "N1"} for n in (10401, 10402, 10407)]
    lines = [json.dumps({"type": "PlaceOrder", "data": order}) for order in orders]
    feed.write_text("\n".join(lines))
    trouble = str(ROOT / "tests" / "tui" / "trouble.py")
    terminal.start(
        command("run", trouble, "--data", "shop", "--feed", str(feed), "--ui"), (80, 24), tmp_path
    )
    await terminal.shows("order-10407", "✗ stuck", "3 of 3 sagas")
    terminal.press("Enter")
    await terminal.shows("‹ Sagas", "BookCourier", "dead letter d-1")
    terminal.press("Escape")
    await terminal.shows("▌1 Sagas")
    terminal.press("r")
    await terminal.shows("1 failed again")
    terminal.press("X")
    await terminal.shows("a reason is needed")
    terminal.press("-l", "the courier is gone")
    terminal.press("Tab", "Tab", "Enter")
    await terminal.shows("○ cancelled")
    terminal.press("q")
    await terminal.shows("(●) stop outboxd")
    terminal.press("y")
    await terminal.shows("stopped cleanly", "1 cancelled", "EXIT=0")


async def test_a_dashboard_is_left_with_ctrl_c_and_outboxd_is_not_there_to_care(
    shop: Path, terminal: Terminal, command: Callable[..., str]
) -> None:
    terminal.start(command("ui", "--data", str(shop), "--ascii"), (120, 35), shop.parent)
    await terminal.shows("outboxd is not running", "x stuck", "10431")
    terminal.press("/")
    terminal.press("-l", "state:overdue")
    terminal.press("Enter")
    await terminal.shows("10388", "of 8 sagas")
    terminal.press("C-c")
    await terminal.shows("EXIT=0")
