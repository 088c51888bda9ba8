"""A real run in a real terminal: keys are typed, the screen is read, and outboxd stops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outboxd.datadir import is_claimed
from outboxd.monitor import Monitor
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
        return subprocess.run(command, capture_output=True, text=True, timeout=50).stdout

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


TROUBLE = str(ROOT / "tests" / "tui" / "trouble.py")


def process(*words: str) -> int | None:
    """The process that has all of these words on its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            given = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended just now
            continue
        if all(word in given for word in words):
            return int(path.parent.name)
    return None


async def shown_beside(
    terminal: Terminal, command: Callable[..., str], folder: Path
) -> tuple[Path, int]:
    """``outboxd run --ui``: its data directory, and the process that draws."""
    data = folder / "shop"
    terminal.start(command("run", TROUBLE, "--data", str(data), "--ui"), (80, 24), folder)
    await terminal.shows("▌1 Sagas", "● live")
    view = process("--beside", str(data))
    assert view is not None
    return data, view


async def test_a_run_with_its_dashboard_is_watched_repaired_and_stopped(
    tmp_path: Path, terminal: Terminal, command: Callable[..., str]
) -> None:
    feed = tmp_path / "orders.jsonl"
    orders = [{"order_id": f"order-{n}", "cents": 900, "zone": "N1"} for n in (10401, 10402, 10407)]
    lines = [json.dumps({"type": "PlaceOrder", "data": order}) for order in orders]
    feed.write_text("\n".join(lines))
    terminal.start(
        command("run", TROUBLE, "--data", "shop", "--feed", str(feed), "--ui"), (80, 24), tmp_path
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


@pytest.fixture
def broken_shop(tmp_path: Path) -> Iterator[Path]:
    """The shipped plugins at work on eight orders, with a courier that is down."""
    data = tmp_path / "shop"
    data.mkdir()
    (data / "courier.down").touch()
    rest = {"email": "ada@example.org", "sku": "mug", "quantity": 1, "cents": 900, "zone": "DE"}
    lines = [{"type": "PlaceOrder", "data": {"order_id": f"order-{n}", **rest}} for n in range(8)]
    feed = tmp_path / "orders.jsonl"
    feed.write_text("\n".join(map(json.dumps, lines)))
    command = [sys.executable, "-m", "outboxd", "run", "plugins", "--data", str(data)]
    child = subprocess.Popen(
        [*command, "--feed", str(feed)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield data
    child.terminate()
    assert child.wait(20) == 0


async def test_a_stranger_finds_the_stuck_orders_and_brings_them_home_by_what_the_screen_says(
    broken_shop: Path, tmp_path: Path, terminal: Terminal, command: Callable[..., str]
) -> None:
    await wait_until(lambda: (broken_shop / "daemon.json").exists(), "outboxd runs")
    terminal.start(command("ui", "--data", "shop"), (80, 24), tmp_path)
    # Where is it stuck, and why: the first screen says it, and what to press.
    await terminal.shows("1 Sagas 8", "2 Dead 8", "✗ stuck", "ScheduleShipment", "CourierDown:")
    await terminal.shows("enter Open")
    terminal.press("Enter")
    await terminal.shows("waits", "for shipping:", "dead letter", "o Letter")
    terminal.press("o")
    await terminal.shows("8 letters in 1 group", "CourierDown: 503: the cour", "R Replay many")
    # The cause is mended; a few are tried first.
    (broken_shop / "courier.down").unlink()
    terminal.press("R")
    await terminal.shows("(●) all of shipping.book", "( ) the oldest few", "Replay 8")
    terminal.press("Down")
    await terminal.shows("how many 5", "Replay 5")
    terminal.press("y")
    await terminal.shows("5 of 5 handled", "3 letters in 1 group")
    terminal.press("R")
    await terminal.shows("Replay 3")
    terminal.press("y")
    await terminal.shows("3 of 3 handled", "Nothing is dead")
    terminal.press("1")
    await terminal.shows("‹ Sagas › order-", "✓ completed", "took")
    terminal.press("Escape")
    await terminal.shows("8 of 8 sagas", "✓ completed", "▌1 Sagas▐")
    assert "✗ stuck" not in terminal.screen
    terminal.press("q")
    await terminal.shows("EXIT=0")
    assert (broken_shop / "courier.jsonl").read_text().count("booked") == 8


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, "the dashboard was ended by SIGKILL"),
        (signal.SIGTERM, "the dashboard is closed"),
    ],
)
async def test_a_dashboard_that_is_killed_leaves_the_work_and_a_whole_terminal(
    tmp_path: Path,
    terminal: Terminal,
    command: Callable[..., str],
    number: signal.Signals,
    said: str,
) -> None:
    data, view = await shown_beside(terminal, command, tmp_path)
    os.kill(view, number)
    await terminal.shows(said, "outboxd goes on here")
    assert "▌1 Sagas" not in terminal.screen, "the screen of before is back"
    with Monitor(data) as monitor:
        assert monitor.daemon().state == "up"
    terminal.tmux("new-window", f"env PYTHONPATH={ROOT} {command('ui', '--data', str(data))}")
    await terminal.shows("▌1 Sagas", "▸ up")
    terminal.press("q")
    await terminal.shows("outboxd goes on here")
    assert is_claimed(data)
    terminal.press("C-c")
    await terminal.shows("stopped cleanly", "EXIT=0")
    terminal.press("-l", "echoed")
    await terminal.shows("echoed")


async def test_a_terminal_that_goes_away_stops_outboxd_cleanly(
    tmp_path: Path, terminal: Terminal, command: Callable[..., str]
) -> None:
    data, view = await shown_beside(terminal, command, tmp_path)
    terminal.tmux("kill-server")
    await wait_until(lambda: not is_claimed(data), "outboxd has stopped", PATIENCE_S)
    output = data / "log" / "run.out"
    await wait_until(lambda: "stopped cleanly" in output.read_text(), "it says so", PATIENCE_S)
    await wait_until(lambda: not Path(f"/proc/{view}").exists(), "nothing draws", PATIENCE_S)


async def test_who_waits_for_both_is_killed_and_outboxd_goes_on_without_a_dashboard(
    tmp_path: Path, terminal: Terminal, command: Callable[..., str]
) -> None:
    data, view = await shown_beside(terminal, command, tmp_path)
    waiting = process("run", "--ui", str(data))
    assert waiting is not None
    with Monitor(data) as monitor:
        runtime = monitor.daemon().pid
    assert runtime is not None
    try:
        os.kill(waiting, signal.SIGKILL)
        await wait_until(lambda: not Path(f"/proc/{view}").exists(), "it leaves", PATIENCE_S)
        assert is_claimed(data)
    finally:
        os.kill(runtime, signal.SIGTERM)
    await wait_until(lambda: not is_claimed(data), "outboxd has stopped", PATIENCE_S)


async def test_ctrl_c_twice_stops_outboxd_with_its_dashboard(
    tmp_path: Path, terminal: Terminal, command: Callable[..., str]
) -> None:
    await shown_beside(terminal, command, tmp_path)
    terminal.press("C-c")
    await terminal.shows("(●) stop outboxd")
    terminal.press("C-c")
    await terminal.shows("stopped cleanly", "EXIT=0")
