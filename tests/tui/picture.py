"""Draws README's picture: the real dashboard on a real run with trouble in it.

    python tests/tui/picture.py examples/dashboard.svg

It hosts ``trouble.py`` for some seconds in a directory that it then removes, sends it orders, and
exports what the dashboard shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from outboxd.monitor import Monitor
from outboxd.tui.app import Dashboard

TROUBLE = Path(__file__).with_name("trouble.py")
SIZE = (118, 33)
ORDERS = 60
PATIENCE_S = 40.0
ZONES = ("N1", "E2", "ZZ", "W4")


def feed(folder: Path) -> Path:
    """Orders that succeed, and after them some of each kind of trouble."""
    path = folder / "orders.jsonl"
    numbers = [n for n in range(10400, 10400 + ORDERS * 3) if n % 10 < 5][:ORDERS]
    numbers += [10477, 10467, 10497, 10487, 10416, 10426, 10435, 10415, 10428, 10448, 10489, 10519]
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
    """Whether every kind of trouble is there by now."""
    if not (data / "orders.db").is_file() or not (data / "daemon.json").is_file():
        return False
    with Monitor(data) as monitor:
        states = {row.state for row in monitor.sagas().rows}
        return states >= {"stuck", "compensating", "retrying", "waiting", "completed"} and (
            monitor.overview().sagas("stuck") >= 4
        )


async def drawn(data: Path) -> str:
    """The first screen, once the trouble is there and the minute has some shape."""
    app = Dashboard(data)
    async with app.run_test(size=SIZE) as pilot:
        ends_at = time.monotonic() + PATIENCE_S
        while not await asyncio.to_thread(is_in_trouble, data):
            if time.monotonic() > ends_at:
                raise SystemExit("there is not enough trouble for a picture")
            await asyncio.sleep(0.5)
        await asyncio.sleep(6)
        await pilot.press("j", "j")
        await asyncio.sleep(1.5)
        return app.export_screenshot(title="outboxd ui")


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/dashboard.svg")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as data:
        svg = asyncio.run(drawn(data))
    target.write_text(svg + "\n", encoding="utf-8")
    sys.stdout.write(f"{target}: {len(svg):,} bytes\n")


if __name__ == "__main__":
    main()
