"""``outboxd prove``: what it says, writes and ends with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ROOT, Run
from tests.cli.test_terminal import on_terminal

RIGHT = """
from collections.abc import Iterable
from outboxd import Command, Db, Participant, Saga, Tx


class Pay(Command[None], to="bank", key="order_id"):
    order_id: str
    cents: int


class Refund(Command[None], to="bank", key="order_id"):
    order_id: str


class Buy(Command[None], to="shop", key="order_id"):
    order_id: str
    cents: int


shop = Participant("shop")
bank = Participant("bank", schema="CREATE TABLE paid (order_id TEXT, cents INTEGER) STRICT;")


@shop.saga
async def buy(saga: Saga, order: Buy) -> None:
    refund = Refund(order_id=order.order_id)
    await saga.call(Pay(order_id=order.order_id, cents=order.cents), undo=refund)
    if order.cents > 100:
        saga.fail("sold out")


@bank.handle
def pay(tx: Tx, cmd: Pay) -> None:
    tx.execute("INSERT INTO paid VALUES (?, ?)", (cmd.order_id, cmd.cents))


@bank.handle
def refund(tx: Tx, cmd: Refund) -> None:
    tx.execute("DELETE FROM paid WHERE order_id = ?", (cmd.order_id,))


@shop.invariant(
    "nobody pays for nothing, however long the sentence that says so may be", when="idle"
)
def fair(db: Db) -> Iterable[str]:
    for (order_id,) in db.of("bank").execute("SELECT order_id FROM paid WHERE cents > 100"):
        yield f"order {order_id} is paid"


shop.example(Buy(order_id="1", cents=500))
"""
WRONG = RIGHT.replace(", undo=refund", "")
QUICK = ("--faults", "1", "--random", "0", "--instances", "1")
RULE = "shop: nobody pays for nothing, however long the sentence that says so may be"

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@pytest.fixture
def right(workplace: Path) -> Path:
    """A plugin that holds."""
    return written(workplace, RIGHT)


@pytest.fixture
def wrong(workplace: Path) -> Path:
    """The same without its undo."""
    return written(workplace, WRONG)


def written(folder: Path, text: str) -> Path:
    file = folder / "shop.py"
    file.write_text(text)
    return file


def rerun(folder: Path) -> subprocess.CompletedProcess[str]:
    """The test that was written, run by pytest where the command was run."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, ".outboxd-prove/test_violation.py"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_what_holds_ends_with_0_and_says_how_far_it_looked(right: Path, run: Run) -> None:
    done = run("prove", "shop.py", *QUICK)
    assert done.exit_code == 0, done.output
    first, *_, last = done.stdout.splitlines()
    assert re.match(r"Buy: all \d+ schedules with at most 1 failure; not proved beyond", first)
    assert last == "everything holds"
    assert not (right.parent / ".outboxd-prove").exists()


def test_json_says_the_same_for_programs(right: Path, run: Run) -> None:
    document = json.loads(run("prove", "shop.py", *QUICK, "--json").stdout)
    assert document["holds"] is True
    assert document["violation"] is None
    assert document["seed"] == 0
    part, *_ = document["parts"]
    assert (part["what"], part["is_complete"]) == ("Buy", True)
    assert part["covered"] >= part["ran"] > 20


def test_a_violation_ends_with_1_and_tells_its_story(wrong: Path, run: Run) -> None:
    done = run("prove", "shop.py", *QUICK)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert f"VIOLATED  {RULE}" in lines
    assert "          order 1 is paid" in lines
    assert "    +0.00s   bank  reads Pay 1" in lines
    assert "a test that reproduces it in .outboxd-prove/test_violation.py" in done.stderr


def test_a_violation_in_json(wrong: Path, run: Run) -> None:
    done = run("prove", "shop.py", *QUICK, "--json")
    assert done.exit_code == 1
    violation = json.loads(done.stdout)["violation"]
    assert violation["rule"] == RULE
    assert violation["details"] == ["order 1 is paid"]
    assert violation["schedule"] == []
    assert violation["story"][0] == {
        "at": 0.0,
        "who": "shop",
        "what": "gets Buy 1 from outside",
        "is_fault": False,
    }


def test_the_written_test_fails_and_passes_after_the_fix(wrong: Path, run: Run) -> None:
    run("prove", "shop.py", *QUICK)
    failed = rerun(wrong.parent)
    assert failed.returncode == 1, failed.stdout
    assert f"VIOLATED  {RULE}" in failed.stdout
    assert "1 failed" in failed.stdout
    written(wrong.parent, RIGHT)
    passed = rerun(wrong.parent)
    assert (passed.returncode, "1 passed" in passed.stdout) == (0, True), passed.stdout


def test_a_violation_of_several_starts_with_failures_is_the_same_when_followed(
    workplace: Path, run: Run
) -> None:
    lonely = """
@bank.invariant("no two are paid while one was cancelled", when="idle")
def lonely(db: Db) -> Iterable[str]:
    ended = {state for (state,) in db.of("shop").execute("SELECT state FROM outboxd_saga")}
    if ended == {"cancelled", "completed"}:
        yield "one of each"
"""
    written(workplace, RIGHT.replace("cents=500", "cents=5") + lonely)
    found = run("prove", "shop.py", "--faults", "1", "--random", "0")
    assert found.exit_code == 1, found.output
    saved = json.loads((workplace / ".outboxd-prove/violation.json").read_text())
    assert [start["data"]["order_id"] for start in saved["starts"]] == ["1", "1-2"]
    ways = [way for _, _, way in saved["schedule"]]
    assert any(way.startswith("an operator cancels shop/buy/1") for way in ways)
    again = run("prove", "--follow", ".outboxd-prove/violation.json")
    assert again.stdout == found.stdout[found.stdout.index("VIOLATED") :]
    assert "1 failed" in rerun(workplace).stdout


def test_a_followed_schedule_tells_the_same_story(wrong: Path, run: Run) -> None:
    found = run("prove", "shop.py", *QUICK)
    again = run("prove", "--follow", ".outboxd-prove/violation.json")
    assert again.exit_code == 1
    story = found.stdout[found.stdout.index("VIOLATED") :]
    assert again.stdout == story
    document = json.loads(
        run("prove", "--follow", ".outboxd-prove/violation.json", "--json").stdout
    )
    assert document["holds"] is False
    assert document["missed"] == []


def test_a_followed_schedule_ends_with_0_after_the_fix(
    wrong: Path, outboxd: Any, workplace: Path
) -> None:
    assert outboxd("prove", "shop.py", *QUICK).returncode == 1
    written(workplace, RIGHT)
    done = outboxd("prove", "--follow", ".outboxd-prove/violation.json")
    assert (done.returncode, done.stdout) == (0, "everything holds in this schedule\n")


def test_a_failure_that_does_not_come_by_any_more_is_told(right: Path, run: Run) -> None:
    data = right.parent / "v.json"
    data.write_text(
        json.dumps(
            {
                "rule": "r",
                "plugins": ["shop.py"],
                "starts": [{"type": "Buy", "data": {"order_id": "1", "cents": 5}}],
                "schedule": [["shop has moved a saga", 1, "the sky falls"]],
                "seed": 0,
                "details": [],
                "story": [],
            }
        )
    )
    done = run("prove", "--follow", "v.json")
    assert done.exit_code == 0
    assert (
        done.stderr
        == "this failure of the schedule did not come by: shop has moved a saga: the sky falls\n"
    )


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (["shpo.py"], "shpo.py: there is no such file or folder", "did you mean shop.py?"),
        ([], "which plugins?", "name modules, .py files or folders"),
        (["shop.py", "--start", "Bye", "{}"], "no plugin knows a message Bye", "did you mean Buy?"),
        (
            ["shop.py", "--start", "Buy", '{"order_id": "1", "cents": "x"}'],
            "--start: Buy: Expected `int`, got `str` - at `$.cents`",
            "",
        ),
        (["shop.py", "--start", "Buy", "{"], "--start: Buy: Input data was truncated", ""),
        (
            ["shop.py", "--start", "Refund", '{"order_id": "1"}', "--follow", "v.json"],
            "v.json: No such file or directory",
            "",
        ),
        (["shop.py", "--faults", "9"], "Invalid value for '--faults'", "see outboxd prove --help"),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_2(
    right: Path, outboxd: Any, args: list[str], error: str, hint: str
) -> None:
    done = outboxd("prove", *args)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    said = done.stderr.splitlines()
    assert error in said[0]
    assert hint in (said[1] if len(said) > 1 else "")
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_schedule_is_told_with_what_is_wanted(right: Path, outboxd: Any) -> None:
    (right.parent / "v.json").write_text('{"rule": 1}')
    done = outboxd("prove", "--follow", "v.json")
    assert done.returncode == 2
    assert "v.json: " in done.stderr
    assert "hint: give the violation.json that outboxd prove wrote" in done.stderr


def test_plugins_without_an_example_are_told_what_to_do(workplace: Path, outboxd: Any) -> None:
    written(workplace, RIGHT.replace("shop.example", "str"))
    done = outboxd("prove", "shop.py")
    assert done.returncode == 2
    assert "there is no message to start a saga with" in done.stderr
    assert "or give --start" in done.stderr


def test_a_start_of_ones_own_takes_the_place_of_the_examples(workplace: Path, run: Run) -> None:
    written(workplace, WRONG.replace("shop.example", "str"))
    cheap = json.dumps({"order_id": "9", "cents": 5})
    assert run("prove", "shop.py", *QUICK, "--faults", "0", "--start", "Buy", cheap).exit_code == 0
    dear = json.dumps({"order_id": "9", "cents": 500})
    done = run("prove", "shop.py", *QUICK, "--start", "Buy", dear)
    assert done.exit_code == 1
    assert "order 9 is paid" in done.stdout


def test_the_files_go_where_they_are_wanted(wrong: Path, run: Run) -> None:
    run("prove", "shop.py", *QUICK, "--out", "there")
    assert sorted(path.name for path in (wrong.parent / "there").iterdir()) == [
        "test_violation.py",
        "violation.json",
    ]


@pytest.mark.parametrize("columns", [80, 60])
def test_the_story_fits_its_terminal(wrong: Path, columns: int) -> None:
    code, output = on_terminal("prove", "shop.py", *QUICK, columns=columns)
    assert code == 1
    plain = _ESCAPES.sub("", output).replace("\r\n", "\n")
    lines = [line.rpartition("\r")[2] for line in plain.splitlines()]
    stdout = [line for line in lines if not line.startswith("the schedule is in")]
    assert max(map(len, stdout)) <= columns, output
    assert "\x1b[31m" in output


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(wrong: Path, env: dict[str, str]) -> None:
    code, output = on_terminal("prove", "shop.py", *QUICK, env=env)
    assert code == 1
    assert not re.search(r"\x1b\[[0-9;]*m", output)
    assert "VIOLATED" in output
