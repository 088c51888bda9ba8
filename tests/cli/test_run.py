"""``outboxd run``: its line of progress, its summary, its exit codes; then the real thing."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from outboxd.cli import run as run_module
from outboxd.cli.progress import Line, in_one_line, set_up_logging
from outboxd.runtime import Progress
from outboxd.serving import Summary
from outboxd.testing import wait_until
from tests.cli.conftest import ROOT, Run

Process = Callable[..., "subprocess.CompletedProcess[str]"]

BUSY = Progress(
    read=13_000,
    refused=2,
    started=12_998,
    completed=10_431,
    compensated=1_204,
    cancelled=17,
    stuck=3,
    dead=4,
    open=1_343,
    elapsed_s=75.0,
)


@pytest.fixture(autouse=True)
def logger_as_it_was() -> Iterator[None]:
    """``run`` sets up logging for its process; here that is the tests'."""
    logger = logging.getLogger("outboxd")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def drawn(terminal: Terminal) -> list[str]:
    return terminal.getvalue().split("\r\x1b[K")


# The line.


def test_the_line_says_how_it_goes_within_80_columns() -> None:
    text = in_one_line(BUSY, 1980.0)
    assert text == (
        "12,998 started  10,431 done  1,221 undone  1,343 open  3 stuck  4 dead  2 refused"
        "  1,980/s  75s"
    )
    usual = in_one_line(Progress(started=12_998, completed=11_655, open=1_343, elapsed_s=6.2), 1980)
    assert usual == "12,998 started  11,655 done  0 undone  1,343 open  1,980/s  6s"
    assert in_one_line(Progress(broker="down: refused")).startswith("broker down  0 started")
    careful = in_one_line(Progress(suspects=12, started=12_998, open=1_343, elapsed_s=0.4))
    assert careful.startswith("examining 12 suspects  12,998 started")
    assert len(careful) <= 80


def test_the_line_is_cut_rather_than_wrapped(terminal: Terminal) -> None:
    Line(terminal).show(BUSY)
    assert len(drawn(terminal)[1]) == 79


def test_the_line_is_drawn_at_most_five_times_a_second(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("outboxd.cli.progress.time.monotonic", lambda: now)
    line = Line(terminal)
    for step in range(100):
        now = 100.0 + step / 50
        line.show(BUSY)
    assert len(drawn(terminal)) - 1 == 10


def test_the_rate_is_that_of_the_last_seconds(terminal: Terminal) -> None:
    line = Line(terminal)
    line._drawn_at = float("-inf")
    for tick in range(40):
        line._drawn_at = float("-inf")
        ended = tick * 1000 if tick < 10 else 9000 + (tick - 9) * 50
        line.show(Progress(completed=ended, elapsed_s=tick / 5))
    assert "  250/s  " in drawn(terminal)[-1]


def test_talk_stands_above_the_line_and_does_not_tear_it(
    terminal: Terminal, workplace: Path
) -> None:
    line = Line(terminal)
    set_up_logging(workplace / "data", "info", line, verbose=False)
    line.show(Progress(started=1))
    logging.getLogger("outboxd").warning("broker unreachable, retrying")
    logging.getLogger("outboxd").info("only for the file")
    line.end()
    cleared = drawn(terminal)
    assert cleared[1].startswith("1 started")
    assert cleared[2].endswith("warning:\x1b[0m broker unreachable, retrying\n")
    assert cleared[3].startswith("1 started")
    assert cleared[4] == ""
    log = (workplace / "data/log/outboxd.log").read_text()
    assert "level=WARNING logger=outboxd broker unreachable, retrying\n" in log
    assert "level=INFO logger=outboxd only for the file\n" in log


def test_no_colour_in_talk_where_none_is_wanted(
    terminal: Terminal, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    set_up_logging(workplace / "data", "info", Line(terminal), verbose=False)
    logging.getLogger("outboxd").warning("broker unreachable")
    assert terminal.getvalue() == "warning: broker unreachable\n"


def test_a_warning_is_broken_where_the_terminal_ends(terminal: Terminal, workplace: Path) -> None:
    set_up_logging(workplace / "data", "info", Line(terminal), verbose=False)
    text = "x" * 60 + " fits here"  # fits if the colours take no room
    logging.getLogger("outboxd").warning("%s next", text)
    first, second = click.unstyle(terminal.getvalue()).splitlines()
    assert (first, second) == (f"warning: {text}", "  next")


def test_a_flood_of_one_kind_of_warning_is_cut_short_on_a_terminal(
    terminal: Terminal, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("outboxd.cli.progress.time.monotonic", lambda: now)
    set_up_logging(workplace / "data", "info", Line(terminal), verbose=False)
    log = logging.getLogger("outboxd")
    for n in range(200):
        log.warning("message_died letter=%r", f"d-{n}")
    log.warning("broker is back")
    log.error("feed.jsonl:7: unknown type")
    assert terminal.getvalue().count("message_died letter=") == 5
    [cut] = [line for line in terminal.getvalue().splitlines() if line.startswith("more of")]
    assert cut.startswith("more of message_died go to")
    assert terminal.getvalue().count("broker is back") == 1
    assert "feed.jsonl:7" in terminal.getvalue()
    assert (workplace / "data/log/outboxd.log").read_text().count("message_died") == 200
    now = 200.0
    log.warning("message_died letter=%r", "d-200")
    assert "d-200" in terminal.getvalue()


def test_a_long_sentence_is_broken_at_words(terminal: Terminal) -> None:
    Line(terminal).say(f"outboxd hosts {', '.join(f'participant-{n}' for n in range(12))}; data")
    lines = terminal.getvalue().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("  participant-")


def test_without_a_terminal_there_is_no_line(
    capsys: pytest.CaptureFixture[str], workplace: Path
) -> None:
    line = Line()
    line.show(BUSY)
    line.around("warning: something")
    line.end()
    assert capsys.readouterr().err == "warning: something\n"


def test_tracebacks_go_to_the_file(terminal: Terminal, workplace: Path) -> None:
    set_up_logging(workplace / "data", "info", Line(terminal), verbose=False)
    try:
        raise KeyError("sku")
    except KeyError:
        logging.getLogger("outboxd").exception("handler_failed")
    assert "Traceback" not in terminal.getvalue()
    assert "Traceback" in (workplace / "data/log/outboxd.log").read_text()


# The summary, with a runtime that only says how it ended.

SHOP = "from outboxd import Participant\nshop = Participant('shop')\n"


def ended(monkeypatch: pytest.MonkeyPatch, how: str, **fields: Any) -> dict[str, Any]:
    """Makes ``run`` believe that; returns what it handed to the runtime."""
    violations = fields.pop("violations", [])
    summary = Summary(msgspec.structs.replace(BUSY, **fields), how, violations)
    given: dict[str, Any] = {}

    def serve(*args: Any, **options: Any) -> Summary:
        given.update(zip(("registry", "settings", "feed", "line"), args, strict=True), **options)
        return summary

    monkeypatch.setattr(run_module, "_serve", serve)
    Path("run_shop.py").write_text(SHOP)
    return given


@pytest.mark.parametrize(
    ("how", "until_idle", "fields", "code"),
    [
        ("idle", True, {"stuck": 0}, 0),
        ("idle", True, {"stuck": 1}, 1),
        ("idle", True, {"stuck": 0, "violations": ["a: b: c"]}, 1),
        ("stopped", False, {"stuck": 1}, 0),
        ("interrupted", True, {}, 130),
    ],
)
def test_the_exit_code_says_how_it_ended(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    until_idle: bool,
    fields: dict[str, Any],
    code: int,
) -> None:
    ended(monkeypatch, how, **fields)
    result = run("run", "run_shop.py", *(["--until-idle"] if until_idle else []))
    assert result.exit_code == code, result.output


def test_the_summary_tells_all_and_where_to_look(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(monkeypatch, "idle", violations=["orders: charged once: order 7 was charged twice"])
    result = run("run", "run_shop.py", "--until-idle", "--data", "here")
    assert result.stdout == (
        "idle: nothing is under way after 75s\n"
        "  sagas    12,998 started, 10,431 completed, 1,204 compensated, 17 cancelled, 3 stuck, "
        "1,343 open\n"
        "  letters  4 dead\n"
        "  feed     13,000 lines, 2 refused\n"
        "  see outboxd dead list --data here\n"
        "  see outboxd saga list --state stuck --data here\n"
        "violated: orders: charged once: order 7 was charged twice\n"
    )
    assert result.stderr == "outboxd hosts shop; data in here, embedded broker\n"


def test_settings_plugins_and_flags_reach_the_runtime(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ended(monkeypatch, "stopped")
    Path("outboxd.toml").write_text('plugins = ["run_shop.py"]\nnode = "n"\n')
    Path("feed.jsonl").write_text("")
    result = run("run", "--redis", "redis://:geheim@host", "--feed", "feed.jsonl")
    assert result.exit_code == 0, result.output
    assert "geheim" not in result.output
    assert list(given["registry"].participants) == ["shop"]
    assert given["settings"].redis == "redis://:geheim@host"
    assert given["settings"].node == "n"
    assert given["feed"] == Path("feed.jsonl")


def test_a_feed_that_is_not_there_is_said_before_anything_starts(run: Run) -> None:
    Path("run_shop.py").write_text(SHOP)
    result = run("run", "run_shop.py", "--feed", "gone.jsonl")
    assert (result.exit_code, "there is no file gone.jsonl" in result.stderr) == (2, True)


def test_a_broken_plugin_is_one_clear_error(run: Run) -> None:
    Path("broken_shop.py").write_text("\n1 / 0\n")
    result = run("run", "broken_shop.py")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: broken_shop: broken_shop.py:2: ZeroDivisionError")


# The real thing: processes with the embedded broker.

ORDERS = """
from outboxd import Command, Participant, Saga, Tx, Unrecoverable

class Order(Command[str], to="orders", key="id"):
    id: str

class Pay(Command[None], to="till", key="id"):
    id: str

orders = Participant("orders")
till = Participant("till", schema="CREATE TABLE paid (id TEXT PRIMARY KEY) STRICT;")

@orders.saga
async def fulfil(saga: Saga, order: Order) -> str:
    await saga.call(Pay(id=order.id))
    return f"order {order.id} is paid"

@till.handle
def pay(tx: Tx, cmd: Pay) -> None:
    if cmd.id == "poor":
        raise Unrecoverable("no money")
    tx.execute("INSERT INTO paid VALUES (?)", (cmd.id,))

@till.invariant("nobody pays with a name of 13 letters")
def superstition(db):
    for (name,) in db.execute("SELECT id FROM paid WHERE length(id) = 13"):
        yield f"{name} did"
"""


def feed(*ids: str) -> Path:
    Path("orders_shop.py").write_text(ORDERS)
    path = Path("feed.jsonl")
    path.write_text("".join(json.dumps({"type": "Order", "data": {"id": i}}) + "\n" for i in ids))
    return path


def test_a_feed_is_worked_off_and_the_exit_code_is_the_verdict(outboxd: Process) -> None:
    feed("a", "b")
    with Path("feed.jsonl").open("a") as lines:
        lines.write('{"type": "Ordr", "data": {}}\n')
    command = ("run", "orders_shop.py", "--feed", "feed.jsonl", "--until-idle")
    done = outboxd(*command)
    assert done.returncode == 0, done.stderr
    assert "2 started, 2 completed, 0 compensated" in done.stdout
    assert "3 lines, 1 refused" in done.stdout
    assert "feed.jsonl:3: unknown type 'Ordr'; did you mean Order?" in done.stderr
    assert "\r" not in done.stderr
    assert outboxd("audit", "orders_shop.py").returncode == 0
    again = outboxd(*command)
    assert "2 started, 2 completed" in again.stdout


def test_a_stuck_saga_and_a_violation_exit_1(outboxd: Process) -> None:
    feed("poor")
    stuck = outboxd("run", "orders_shop.py", "--feed", "feed.jsonl", "--until-idle")
    assert stuck.returncode == 1, stuck.stderr
    assert "1 stuck" in stuck.stdout
    assert "see outboxd dead list\n" in stuck.stdout
    shown = outboxd("saga", "show", "poor")
    assert "dead letter d-1" in shown.stdout
    assert "outboxd dead replay d-1" in shown.stdout
    feed("abcdefghijklm")
    violated = outboxd(
        "run", "orders_shop.py", "--feed", "feed.jsonl", "--until-idle", "--data", "other"
    )
    assert violated.returncode == 1, violated.stderr
    assert "violated: till: nobody pays with" in violated.stdout


@pytest.fixture
def daemon(workplace: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that hosts the orders; it must end cleanly when it is told to."""
    feed()
    process = subprocess.Popen(
        [sys.executable, "-m", "outboxd", "run", "orders_shop.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "stopped cleanly after" in output


@pytest.mark.anyio
async def test_a_daemon_takes_requests_from_other_processes(
    outboxd: Process, data: Path, daemon: subprocess.Popen[str]
) -> None:
    await wait_until(lambda: (data / "daemon.json").exists(), "the daemon says that it lives")
    assert outboxd("status", "--check").returncode == 0
    second = outboxd("run", "orders_shop.py")
    assert second.returncode == 4
    assert f"another outboxd (pid {daemon.pid}) runs on" in second.stderr
    sent = outboxd("send", "Order", '{"id": "a"}', "--wait")
    assert (sent.returncode, sent.stdout) == (0, '"order a is paid"\n')
    wrong = outboxd("send", "Order", '{"id": 1}')
    assert wrong.returncode == 4
    assert "Expected `str`, got `int` - at `$.id`" in wrong.stderr


@pytest.mark.anyio
async def test_a_daemon_does_what_operators_ask_for(
    outboxd: Process, data: Path, daemon: subprocess.Popen[str]
) -> None:
    await wait_until(lambda: (data / "daemon.json").exists(), "the daemon says that it lives")
    assert outboxd("send", "Order", '{"id": "poor"}').returncode == 0
    stuck = ("saga", "list", "--state", "stuck")
    await wait_until(lambda: outboxd(*stuck).stdout != "", "the saga is stuck")
    replayed = outboxd("dead", "replay", "d-1", "--wait")
    assert replayed.returncode == 1
    assert "1 failed again" in replayed.stderr
    given_up = outboxd("dead", "discard", "d-1", "--reason", "no money", "--yes")
    assert given_up.returncode == 0, given_up.stderr
    undone = ("saga", "list", "--state", "compensated")
    await wait_until(lambda: outboxd(*undone).stdout != "", "the saga is undone")
    refused = outboxd("saga", "cancel", "poor", "--reason", "late", "--yes")
    assert refused.returncode == 4
    assert "has ended: compensated" in refused.stderr
    assert outboxd("audit", "orders_shop.py").returncode == 0
