"""P2: a full disk stops the work and nothing else; it goes on when there is space again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import feed
from tests.crash.process import Fate, wait_for
from tests.crash.shop import Shop, assert_drained, assert_right, open_shop

SIZE = "40m"

pytestmark = pytest.mark.timeout(300)


@contextlib.contextmanager
def tiny_disk(shop: Shop) -> Iterator[None]:
    """The data directory on a small file system of its own."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a file system can be filled up only by root, who may mount one")
    shop.data.mkdir()
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(shop.data)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"mount is not allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        shop.close()
        subprocess.run(["umount", str(shop.data)], check=True)


def fill(folder: Path) -> Path:
    """Takes all space, to the last byte; the file to remove."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return ballast


def test_a_full_disk_is_said_once_and_waited_for() -> None:
    fate = Fate(700)
    with open_shop(feed.example(80)) as shop, tiny_disk(shop):
        run = shop.run()
        fate.await_progress(run, shop.progress, 60)
        ballast = fill(shop.data)
        run.says("database or disk is full")
        wait_for(lambda: shop.outboxd("status", "--check").code == 1, "an unhealthy status", run)
        assert shop.rows("orders", "SELECT 1 FROM outboxd_saga WHERE ended_at IS NULL LIMIT 1")
        ballast.unlink()
        ended = shop.ends_cleanly(run)
        assert "Traceback" not in ended.err, ended
        # Once for each file; twice where a small write still found a place in between.
        complaints = [line for line in ended.err.splitlines() if "disk is full" in line]
        assert len(complaints) <= 2 * len(shop.databases()), ended
        assert_right(shop, fate)
        assert_drained(shop)


def test_a_start_on_a_full_disk_ends_with_one_clear_message() -> None:
    with open_shop(feed.example(20)) as shop, tiny_disk(shop):
        fill(shop.data)
        ended = shop.run().ended()
        assert ended.code in (2, 5), ended
        assert "Traceback" not in ended.err, ended
        [error] = [line for line in ended.err.splitlines() if line.startswith("error:")]
        assert "full" in error or "No space left" in error, ended
        (shop.data / "ballast").unlink()
        shop.finish()
        assert_right(shop)
