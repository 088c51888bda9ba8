"""P9: what is wrong at the command line is named once, in words, with the right exit code."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.contract.brokers import Server, binary_of
from tests.crash import feed
from tests.crash.process import Ended, wait_for
from tests.crash.shop import Shop, assert_right, open_shop

NOWHERE = "redis://127.0.0.1:1/0"
"""Nobody listens on that port."""

BIG = 100_000_000

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop([feed.line(feed.order(1))]) as shop:
        yield shop


def errors(ended: Ended) -> list[str]:
    """The error lines; there is never a traceback."""
    assert "Traceback" not in ended.err, ended
    assert "this is a bug" not in ended.err, ended
    return [line for line in ended.err.splitlines() if line.startswith("error:")]


def error(ended: Ended, code: int) -> str:
    """The one error of a command that ended with ``code``."""
    assert ended.code == code, ended
    [found] = errors(ended)
    return found


WRONG_LINES = {
    '{"type": "PlaceOrder", "id": "x", "da': ["malformed"],
    "no json at all": ["malformed"],
    "[1, 2]": ["malformed", "object"],
    feed.line(feed.order(90), "PlaceOrdr"): ["unknown type 'PlaceOrdr'", "did you mean PlaceOrder"],
    feed.line(feed.order(91, quantity="three")): ["int", "$.quantity"],
    json.dumps({"type": "PlaceOrder", "data": {"order_id": "92"}}): ["email"],
    json.dumps({"type": "PlaceOrder", "data": feed.order(93), "bananas": 1}): ["bananas"],
    json.dumps({"type": "OrderCompleted", "data": {}}): ["OrderCompleted", "event"],
    json.dumps({"type": "PlaceOrder", "data": feed.order(94, email="e" * 300_000)}): ["262,144"],
}


def test_every_wrong_line_is_named_with_file_line_and_reason(shop: Shop) -> None:
    wanted = shop.wanted
    lines = [feed.line(feed.order(1)), *WRONG_LINES]
    shop.feed.write_text("\n".join(lines) + "\n")
    ended = shop.finish()
    found = errors(ended)
    assert len(found) == len(WRONG_LINES), ended
    for number, (said, words) in enumerate(zip(found, WRONG_LINES.values(), strict=True), 2):
        assert said.startswith(f"error: {shop.feed}:{number}: "), said
        for word in words:
            assert word in said
    assert f"{len(lines)} lines, {len(WRONG_LINES)} refused" in ended.out
    shop.wanted = wanted
    assert_right(shop)


def test_a_line_of_100_mb_is_named_and_the_rest_goes_on(shop: Shop) -> None:
    lines = [
        feed.line(feed.order(1)),
        feed.line(feed.order(2, email="e" * BIG)),
        feed.line(feed.order(3)),
    ]
    shop.put([lines[0], lines[2]])
    shop.feed.write_text("\n".join(lines) + "\n")
    ended = shop.finish()
    [said] = errors(ended)
    assert said.startswith(f"error: {shop.feed}:2: ")
    assert len(said) < 300
    assert_right(shop)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plugin", ["there is no plugin 'plugin'"]),
        ("./nothing.py", ["./nothing.py", "no such file"]),
        ("json", ["json", "no participant"]),
    ],
)
def test_a_plugin_that_is_none(shop: Shop, name: str, words: list[str]) -> None:
    said = error(shop.start("run", name, "--data", str(shop.data)).ended(), 2)
    assert all(word in said for word in words), said


def test_a_plugin_that_raises_is_named_with_its_line(shop: Shop) -> None:
    path = shop.folder / "broken.py"
    path.write_text("from outboxd import Participant\n\nx = 1 / 0\n")
    said = error(shop.start("run", str(path), "--data", str(shop.data)).ended(), 2)
    assert f"{path}:3: ZeroDivisionError: division by zero" in said


def test_a_data_directory_that_cannot_be(shop: Shop) -> None:
    for place in (shop.feed, shop.feed / "below", Path("/proc/outboxd")):
        said = error(shop.start("run", "plugins", "--data", str(place)).ended(), 2)
        assert str(place) in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--redis", "http://host"), "http://host"),
        (("--feed", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--bananas",), "--bananas"),
    ],
)
def test_an_option_that_is_wrong(shop: Shop, words: tuple[str, ...], said: str) -> None:
    ended = shop.start("run", "plugins", "--data", str(shop.data), *words).ended()
    assert said in error(ended, 2)


def test_a_damaged_database_is_named(shop: Shop) -> None:
    shop.finish()
    (shop.data / "payments.db").write_bytes(b"no database " * 1000)
    assert str(shop.data / "payments.db") in error(shop.run().ended(), 2)


def test_an_unreachable_broker_is_said_once_and_tried_again(shop: Shop) -> None:
    shop.options = ["--redis", NOWHERE]
    run = shop.run()
    run.says("broker unreachable, retrying; committed work is safe")
    statuses: list[Ended] = []

    def is_unhealthy() -> bool:
        statuses.append(shop.outboxd("status", "--check"))
        return statuses[-1].code == 1 and "daemon" not in statuses[-1].out

    wait_for(is_unhealthy, "an unhealthy status", run)
    assert "the broker is unreachable" in statuses[-1].out
    assert statuses[-1].out.count("\n") == 1
    run.signal(signal.SIGTERM)
    ended = run.ended()
    assert ended.code == 0, ended
    assert not errors(ended)
    assert ended.err.count("unreachable") == 1, ended
    shop.options = []
    shop.finish()
    assert_right(shop)


def test_a_broker_that_does_not_let_us_in_or_work(shop: Shop) -> None:
    binary = binary_of("valkey")
    assert binary is not None
    place = shop.folder / "broker"
    place.mkdir()
    server = Server(binary, place)
    client = redis.Redis(unix_socket_path=str(place / "sock"))
    try:
        client.acl_setuser(
            "reader", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@read"]
        )
        for user, words in (("reader:pw", ["XADD"]), ("reader:no", ["WRONGPASS"])):
            url = server.url.replace("unix://", f"unix://{user}@")
            ended = shop.start("run", "plugins", "--data", str(shop.data), "--redis", url).ended()
            said = error(ended, 2)
            assert all(word in said for word in words), said
            assert "hint:" in ended.err
            assert user not in ended.err, "a password was shown"
    finally:
        client.close()
        server.kill()
