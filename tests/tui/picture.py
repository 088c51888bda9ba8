"""Draws README's picture: the real dashboard on a real run with trouble in it.

    python tests/tui/picture.py examples/dashboard.svg

It hosts ``trouble.py`` for some seconds in a directory that it then removes, sends it orders, and
exports what the dashboard shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from outboxd.monitor import Monitor
from outboxd.tui.app import Dashboard
from outboxd.tui.screens.sagas import SagasPage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.conftest import wait_until

TROUBLE = Path(__file__).with_name("trouble.py")
SIZE = (118, 33)
ORDERS = 60
# A picture loads nothing from elsewhere; the reader's own monospace font draws it.
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
PATIENCE_S = 60.0
AGE_S = 17.0
ZONES = ("N1", "E2", "ZZ", "W4")


def feed(folder: Path) -> Path:
    """Orders that succeed, and after them some of each kind of trouble."""
    path = folder / "orders.jsonl"
    numbers = [n for n in range(10400, 10400 + ORDERS * 3) if n % 10 < 5][:ORDERS]
    numbers += [10477, 10467, 10497, 10487, 10416, 10426, 10435, 10415, 10428, 10448, 10489, 10519]
    numbers += [10405, 10425, 10445, 10465, 10485]
    lines = [
        {"order_id": f"order-{n}", "cents": 1000 + n * 37 % 9000 + 9000 * (n % 10 == 9),
         "zone": ZONES[n % 4]}
        for n in numbers
    ]  # fmt: skip
    path.write_text("".join(f"{json.dumps({'type': 'PlaceOrder', 'data': d})}\n" for d in lines))
    return path


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Path]:
    """outboxd, hosting the trouble."""
    data = folder / "shop"
    command = [sys.executable, "-m", "outboxd", "run", str(TROUBLE), "--data", str(data)]
    child = subprocess.Popen(
        [*command, "--feed", str(feed(folder))], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        yield data
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()


def is_in_trouble(data: Path) -> bool:
    """Whether every kind of trouble is there, and old enough for the minute to have a shape."""
    if not (data / "orders.db").is_file() or not (data / "daemon.json").is_file():
        return False
    with Monitor(data) as monitor:
        rows = monitor.sagas().rows
        oldest = monitor.overview().daemon.started_at
    states = {row.state for row in rows}
    is_ripe = oldest is not None and (datetime.now(UTC) - oldest).total_seconds() > AGE_S
    return is_ripe and states >= {"stuck", "compensating", "retrying", "waiting", "completed"}


async def drawn(data: Path) -> str:
    """The first screen, once the trouble is there and the minute has some shape."""
    app = Dashboard(data)
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(lambda: is_in_trouble(data), "there is trouble", PATIENCE_S)
        await pilot.press("j", "j", "j", "j")
        page = app.screen
        assert isinstance(page, SagasPage)
        drawn = page.drawn
        await wait_until(lambda: page.drawn > drawn + 2, "it is drawn")
        return without_fonts(app.export_screenshot(title="outboxd ui"))


def without_fonts(svg: str) -> str:
    """A picture that asks no other machine for anything."""
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/dashboard.svg")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as data:
        svg = asyncio.run(drawn(data))
    svg = FONTS.sub("", svg)
    target.write_text(svg + "\n", encoding="utf-8")
    sys.stdout.write(f"{target}: {len(svg):,} bytes\n")


if __name__ == "__main__":
    main()
