"""The same work by several processes: each has a copy of everything and takes its share."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

SAY_EVERY = 20

_NONE = sys.maxsize


def spread(
    jobs: int,
    items: Callable[[], Iterable[T]],
    work: Callable[[T], tuple[int, R | None]],
    tell: Callable[[int], None],
) -> R | None:
    """``work`` on each of ``items()``; returns the result of the first that has one.

    The first in the order of the items, whatever process was faster, so that the same question has
    the same answer. ``work`` says how many it counts for; ``tell(n)``: so many
    more are done.
    """
    context = multiprocessing.get_context("fork")  # the copy of what is in memory is the point
    limit = context.Value("q", _NONE)
    readers: list[Connection[Any, Any]] = []
    workers = []
    for number in range(jobs):
        reader, writer = context.Pipe(duplex=False)
        share = _Share(number, jobs, limit)
        worker = context.Process(target=_run, args=(share, items, work, writer), daemon=True)
        worker.start()
        writer.close()
        readers.append(reader)
        workers.append(worker)
    try:
        found = _collect(readers, tell)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    return min(found, key=lambda pair: pair[0])[1] if found else None


class _Share:
    """Every ``jobs``-th item, up to the first that some process has a result for."""

    def __init__(self, number: int, jobs: int, limit: Any) -> None:
        self._number = number
        self._jobs = jobs
        self.limit = limit

    def of(self, items: Iterable[T]) -> Iterator[tuple[int, T]]:
        for at, item in islice(enumerate(items), self._number, None, self._jobs):
            if at > self.limit.value:
                return
            yield at, item


def _run(
    share: _Share,
    items: Callable[[], Iterable[T]],
    work: Callable[[T], tuple[int, R | None]],
    writer: Connection[Any, Any],
) -> None:
    done = 0
    try:
        for at, item in share.of(items()):
            count, result = work(item)
            done += count
            if result is not None:
                share.limit.value = min(share.limit.value, at)
                writer.send((done, (at, result), None))
                return
            if done >= SAY_EVERY:
                writer.send((done, None, None))
                done = 0
        writer.send((done, None, None))
    except Exception as err:
        writer.send((done, None, f"{type(err).__name__}: {err}"))
        raise
    finally:
        writer.close()


def _collect(
    readers: list[Connection[Any, Any]], tell: Callable[[int], None]
) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    while readers:
        for reader in wait(readers):
            assert isinstance(reader, Connection)
            try:
                done, result, error = reader.recv()
            except EOFError:
                readers.remove(reader)
                continue
            if error is not None:
                raise RuntimeError(f"a process of the simulation failed: {error}")
            tell(done)
            if result is not None:
                found.append(result)
    return found
