"""How fast it is here: an order saga over three remote participants, all durable, and a bare loop.

The bare loop makes the same business rows in the same number of files, one commit for each step,
with no engine, no message and no broker: what is left of its speed is what the promises cost.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from . import __version__
from .message import Command
from .participant import Participant
from .registry import Registry
from .runtime import Runtime
from .saga import Saga
from .store.connection import open_writer, sqlite_version
from .tx import Tx

ALONE = 100
"""Sagas run one after another, for the latency of one alone."""

OPEN = 2000
"""Sagas under way at once when throughput is measured."""

BARE = 2000
"""Turns of the bare loop at most: its rate does not change with more."""

_TABLE = "CREATE TABLE work (id TEXT PRIMARY KEY, amount INTEGER NOT NULL) STRICT"


class BenchOrder(Command[str], to="bench-orders", key="id"):
    """Starts one saga."""

    id: str
    amount: int


class BenchPay(Command[None], to="bench-payments", key="id"):
    id: str
    amount: int


class BenchPayBack(Command[None], to="bench-payments", key="id"):
    id: str


class BenchReserve(Command[None], to="bench-stock", key="id"):
    id: str
    amount: int


class BenchRelease(Command[None], to="bench-stock", key="id"):
    id: str


class BenchShip(Command[None], to="bench-shipping", key="id"):
    id: str
    amount: int


def _insert(tx: Tx, message: Any) -> None:
    tx.execute("INSERT INTO work VALUES (?, ?)", (message.id, message.amount))


def _remove(tx: Tx, message: Any) -> None:
    tx.execute("DELETE FROM work WHERE id = ?", (message.id,))


def participants() -> list[Participant]:
    """Fresh participants of the order saga."""
    orders = Participant("bench-orders", schema=_TABLE)
    payments = Participant("bench-payments", schema=_TABLE)
    stock = Participant("bench-stock", schema=_TABLE)
    shipping = Participant("bench-shipping", schema=_TABLE)

    @orders.saga
    async def order(saga: Saga, order: BenchOrder) -> str:
        await saga.run(_insert, order)
        await saga.call(BenchPay(id=order.id, amount=order.amount), undo=BenchPayBack(id=order.id))
        await saga.call(
            BenchReserve(id=order.id, amount=order.amount), undo=BenchRelease(id=order.id)
        )
        await saga.call(BenchShip(id=order.id, amount=order.amount))
        return order.id

    @payments.handle
    def pay(tx: Tx, command: BenchPay) -> None:
        _insert(tx, command)

    @payments.handle
    def pay_back(tx: Tx, command: BenchPayBack) -> None:
        _remove(tx, command)

    @stock.handle
    def reserve(tx: Tx, command: BenchReserve) -> None:
        _insert(tx, command)

    @stock.handle
    def release(tx: Tx, command: BenchRelease) -> None:
        _remove(tx, command)

    @shipping.handle
    def ship(tx: Tx, command: BenchShip) -> None:
        _insert(tx, command)

    return [orders, payments, stock, shipping]


def run(sagas: int, data: Path | None, report: Callable[[str], None]) -> dict[str, Any]:
    """Measures ``sagas`` order sagas; ``report`` is told each phase. Times are seconds.

    ``data``: where to work (default: a temporary folder in the working directory, so that the
    disk measured is the disk used).
    """
    folder = Path(tempfile.mkdtemp(prefix=".outboxd-bench-", dir=data or Path.cwd()))
    try:
        report("time of one sync of the disk")
        sync_s = _sync_time(folder)
        loops = min(sagas, BARE)
        report(f"a bare loop of the same steps, {loops} times")
        bare = _bare_loop(folder, loops)
        report(f"{ALONE} sagas one after another, then {sagas} at once")
        measured = anyio.run(_measure, folder, sagas, backend_options={"use_uvloop": _has_uvloop()})
        return {
            "version": __version__,
            "python": platform.python_version(),
            "sqlite": sqlite_version(),
            "cores": os.cpu_count(),
            "uvloop": _has_uvloop(),
            "synchronous": "FULL",
            "appendfsync": "everysec",
            "sync_ms": round(sync_s * 1000, 3),
            "sagas": sagas,
            **measured,
            "bare_loop_per_s": round(bare),
            "ratio": round(measured["sagas_per_s"] / bare, 3),
            "resident_mb": round(_resident_mb(), 1),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path, sagas: int) -> dict[str, Any]:
    async with Runtime(Registry(participants()), data=folder / "data") as runtime:
        alone: list[float] = []
        for number in range(ALONE):
            began = time.perf_counter()
            handle = await runtime.start(BenchOrder(id=f"alone-{number}", amount=1))
            await handle.result()
            alone.append(time.perf_counter() - began)
        before = runtime.progress().completed
        began, cpu = time.perf_counter(), time.process_time()
        orders = (BenchOrder(id=f"order-{number}", amount=1) for number in range(sagas))
        async for _ in _chunks(runtime, orders):
            pass
        while runtime.progress().completed - before < sagas:  # noqa: ASYNC110 - costs it nothing
            await anyio.sleep(0.005)
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        began = time.perf_counter()
        await runtime.until_idle()
        settle_s = time.perf_counter() - began
    cuts = statistics.quantiles(alone, n=100)
    return {
        "sagas_per_s": round(sagas / took_s, 1),
        "took_s": round(took_s, 3),
        "cpu_ms_per_saga": round(cpu_s / sagas * 1000, 3),
        "settle_s": round(settle_s, 3),
        "alone_p50_ms": round(cuts[49] * 1000, 2),
        "alone_p99_ms": round(cuts[98] * 1000, 2),
    }


async def _chunks(runtime: Runtime, orders: Any) -> Any:
    """Starts orders, a batch at a time, while no more than OPEN are under way."""
    chunk: list[BenchOrder] = []
    for order in orders:
        chunk.append(order)
        if len(chunk) == 200:
            yield await runtime.start_all(chunk)
            chunk = []
            while runtime.progress().open > OPEN:  # noqa: ASYNC110 - costs it nothing
                await anyio.sleep(0.002)
    if chunk:
        yield await runtime.start_all(chunk)


def _sync_time(folder: Path) -> float:
    """Median time of an fsync after a small append."""
    times: list[float] = []
    with (folder / "sync").open("wb") as file:
        for _ in range(50):
            file.write(b"x" * 512)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _bare_loop(folder: Path, sagas: int) -> float:
    """Sagas per second of the same four inserts, each committed in a file of its own."""
    stores = [open_writer(folder / f"bare-{number}.db") for number in range(4)]
    for store in stores:
        store.execute(_TABLE)
    began = time.perf_counter()
    for number in range(sagas):
        for store in stores:
            store.execute("INSERT INTO work VALUES (?, ?)", (f"order-{number}", 1))
    took_s = time.perf_counter() - began
    for store in stores:
        store.close()
    return sagas / took_s


def _resident_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if platform.system() == "Linux" else peak / 1024 / 1024


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401 - asked for, not used
    except ImportError:
        return False
    return True
