"""``outboxd schedules``, ``outboxd plugin graph``: what a person sees of time and of the flow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outboxd.store.connection import Connection
from tests.cli.conftest import Run
from tests.cli.filling import store

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
