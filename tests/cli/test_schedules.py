"""``outboxd schedules``, ``outboxd plugin graph``: what a person sees of time and of the flow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outboxd.store.connection import Connection
from tests.cli import filling
from tests.cli.conftest import Run
from tests.cli.filling import HOUR, envelope, held, letter, saga, store
from tests.cli.test_terminal import on_terminal

PLUGIN = """
from outboxd import Command, Participant, Tx

class Sweep(Command[None], to="other"):
    pass

ticker = Participant("ticker")

@ticker.every(cron="0 3 * * *", tz="Europe/Vienna")
def tick(tx: Tx) -> None:
    tx.send(Sweep())
"""


def plan(connection: Connection, name: str, due_at: float | None) -> None:
    connection.execute(
        "INSERT INTO outboxd_schedule VALUES (?, 'every 300s', ?, 7, 1800000000.0)", (name, due_at)
    )


@pytest.fixture
def planned(data: Path) -> Path:
    with store(data, "ticker") as connection:
        plan(connection, "sweep", 1_800_000_300.0)
        plan(connection, "gone", None)
    return data


def test_each_schedule_has_its_next_firing(run: Run, planned: Path) -> None:
    said = run("schedules")
    assert said.exit_code == 0, said.output
    assert "sweep" in said.output
    assert "every 300s" in said.output
    assert "never" in said.output


def test_and_as_json(run: Run, planned: Path) -> None:
    gone, sweep = json.loads(run("schedules", "--json").output)
    assert (gone["name"], gone["next_at"]) == ("gone", None)
    assert (sweep["name"], sweep["fired"]) == ("sweep", 7)
    assert sweep["next_at"].startswith("2027-01-15T08:05:00")


FIRED = "ticker/every/sweep#7"


def in_trouble(connection: Connection, *, is_dead: bool = False) -> None:
    """The seventh firing failed."""
    if is_dead:
        letter(connection, FIRED, type="sweep", kind="local", handler="ticker.(every)")
    else:
        held(connection, FIRED, type="sweep", kind="local", attempts=2, error="ValueError: no")


def test_the_status_names_the_next_firing(planned: Path) -> None:
    _, said = on_terminal("status", env={"NO_COLOR": "1"})
    assert "schedules  1, next ticker.sweep in " in said
    assert "late" not in said


def test_the_status_names_a_schedule_that_is_late(planned: Path) -> None:
    with store(planned, "ticker") as connection:
        connection.execute(
            "UPDATE outboxd_schedule SET due_at = ? WHERE name = 'sweep'",
            (filling.now() - 5 * HOUR,),
        )
    _, said = on_terminal("status", env={"NO_COLOR": "1"})
    assert "           ◔ late  ticker.sweep  5h ago" in said


@pytest.mark.parametrize(
    ("is_dead", "state", "said"),
    [
        (False, "↻ retrying", "retrying: ValueError: no"),
        (True, "✗ dead", "ticker/d-1: CardTimeout"),
    ],
)
def test_the_status_names_a_schedule_whose_firings_fail(
    planned: Path, is_dead: bool, state: str, said: str
) -> None:
    with store(planned, "ticker") as connection:
        in_trouble(connection, is_dead=is_dead)
    _, shown = on_terminal("status", env={"NO_COLOR": "1"})
    assert f"           {state}  ticker.sweep  {said}" in shown
    _, listed = on_terminal("schedules", columns=120, env={"NO_COLOR": "1"})
    assert state in listed


@pytest.mark.parametrize("name", ["ticker.sweep", "ticker/every/sweep"])
def test_why_explains_a_schedule(planned: Path, run: Run, name: str) -> None:
    with store(planned, "ticker") as connection:
        in_trouble(connection, is_dead=True)
    said = json.loads(run("why", name, "--json").stdout)
    assert (said["kind"], said["state"]) == ("schedule", "dead")
    assert said["waits_for"][0].startswith("for its time: every 300s, in ")
    assert "its last firing that failed is ticker/d-1" in said["next"][0]
    assert "outboxd does not run" in said["next"][1]
    assert said["moves"] == ["outboxd why ticker/d-1", "outboxd run"]


def test_why_explains_a_firing_and_what_it_set_going(planned: Path, run: Run) -> None:
    origin = "the schedule ticker.sweep, every 300s: its firing 3"
    done = json.loads(run("why", "ticker/every/sweep#3", "--json").stdout)
    assert (done["state"], done["origin"]) == ("done", origin)
    with store(planned, "ticker") as connection:
        start = envelope("ticker/every/sweep#3.1", "Clean", subject="c-1")
        saga(connection, "c-1", id="ticker/clean/c-1", name="clean", start=start)
        in_trouble(connection, is_dead=True)
    started = run("why", "c-1").stdout
    assert f"started by {origin}" in " ".join(started.split())
    died = json.loads(run("why", "d-1", "--json").stdout)
    assert died["origin"] == origin.replace("3", "7").replace("700s", "300s")
    assert not any("saga" in sentence for sentence in died["waits_for"])


def test_a_firing_that_never_was_is_not_known(planned: Path, run: Run) -> None:
    assert run("why", "ticker/every/sweep#8").exit_code == 3
    assert run("why", "ticker.nothing").exit_code == 3


def test_a_database_of_an_older_outboxd_has_none(run: Run, data: Path) -> None:
    with store(data, "ticker") as connection:
        connection.execute("DROP TABLE outboxd_schedule")
    said = run("schedules", "--json")
    assert (said.exit_code, json.loads(said.output)) == (0, [])


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("text", "cron 0 3 * * * Europe/Vienna → ticker.tick (schedule) → Sweep"),
        ("mermaid", "n_ticker_tick --> n_Sweep"),
        ("json", '"kind": "schedule"'),
    ],
)
def test_a_plugin_has_a_graph_and_a_loose_end_is_a_warning(
    run: Run, workplace: Path, form: str, said: str
) -> None:
    (workplace / "ticker.py").write_text(PLUGIN)
    done = run("plugin", "graph", "ticker.py", "--format", form)
    assert done.exit_code == 0, done.output
    assert said in done.output
    assert "nobody here owns Sweep" in done.output


def test_a_plugin_lists_its_schedules(run: Run, workplace: Path) -> None:
    (workplace / "ticker.py").write_text(PLUGIN)
    done = run("plugin", "list", "ticker.py")
    assert "cron 0 3 * * * Europe/Vienna" in done.output
