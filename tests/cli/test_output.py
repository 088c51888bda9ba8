"""Tables that fit, lines for programs, and what an error looks like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from outboxd.cli import output
from outboxd.cli.output import Column, Output

Row = tuple[str, str, str]

ROWS: list[Row] = [
    ("d-1", "payments.authorize", "CardTimeout: no answer from card-gw"),
    ("d-22", "courier.book", "KeyError"),
]
COLUMNS: list[Column[Row]] = [
    Column(title="ID", text=lambda row: row[0]),
    Column(title="HANDLER", text=lambda row: row[1], least=10, drops=1),
    Column(title="ERROR", text=lambda row: row[2], least=12),
]
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("width", [120, 61, 60, 40, 30, 20])
def test_a_table_fits_its_terminal(width: int) -> None:
    lines = list(output.table(ROWS, COLUMNS, width))
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("ID  ")
    assert lines[1].startswith("d-1 ")


def test_a_table_is_cut_before_a_column_goes() -> None:
    assert list(output.table(ROWS, COLUMNS, 40)) == [
        "ID    HANDLER             ERROR",
        "d-1   payments.authorize  CardTimeout: …",
        "d-22  courier.book        KeyError",
    ]
    assert list(output.table(ROWS, COLUMNS, 22)) == [
        "ID    ERROR",
        "d-1   CardTimeout: no…",
        "d-22  KeyError",
    ]


def test_a_cell_is_one_line() -> None:
    rows = [("d-1", "a\nb", "c\t d")]
    assert list(output.table(rows, COLUMNS, 80))[1] == "d-1  a b      c d"


def test_numbers_stand_on_the_right() -> None:
    column: Column[int] = Column(title="N", text=lambda n: f"{n:,}", align=">")
    assert list(output.table([1, 1200], [column], 80)) == ["    N", "    1", "1,200"]


def test_colour_only_where_it_is_wanted() -> None:
    column: Column[str] = Column(title="STATE", text=output.stated, colour=output.colour_of)
    plain = list(output.table(["stuck"], [column], 80))
    coloured = list(output.table(["stuck"], [column], 80, has_colour=True))
    assert plain == ["STATE", "✗ stuck"]
    assert coloured[1] == "\x1b[31m✗ stuck\x1b[0m"


def piped() -> Output:
    return Output(is_json=False, is_tty=False, has_colour=False, width=80)


def test_a_program_gets_tabs_and_whole_texts(capsys: pytest.CaptureFixture[str]) -> None:
    column: Column[Row] = Column(title="AGE", text=lambda row: "2m", raw=lambda row: "12:00")
    piped().rows([("d-1", "a\tb\nc", "x" * 200)], [*COLUMNS, column])
    assert capsys.readouterr().out == f"d-1\ta b c\t{'x' * 200}\t12:00\n"


def test_nothing_to_show_is_said_to_a_person_only(capsys: pytest.CaptureFixture[str]) -> None:
    piped().rows([], COLUMNS, empty="Nothing is dead.")
    assert capsys.readouterr() == ("", "")
    terminal = Output(is_json=False, is_tty=True, has_colour=False, width=80)
    terminal.rows([], COLUMNS, empty="Nothing is dead.")
    assert capsys.readouterr() == ("", "Nothing is dead.\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "in 0s"), (12, "in 12s"), (7200, "in 2h"), (-3, "3s ago"), (-840, "14m ago")],
)
def test_what_comes_and_what_is_past(seconds: float, text: str) -> None:
    assert output.ahead(NOW + timedelta(seconds=seconds), NOW) == text


def test_times_for_people_and_for_programs() -> None:
    assert output.moment(NOW) == "2026-05-04T12:00:00Z"
    assert output.moment(None) == ""
    assert output.ago(None, NOW) == "-"
    assert output.ago(NOW - timedelta(hours=3), NOW) == "3h"
    assert len(output.clock_time(NOW, NOW)) == len("12:00:00.000")
    assert output.clock_time(NOW - timedelta(days=9), NOW).startswith("2026-04-")


def test_colours_are_off_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert Output.here(is_json=False, no_color=False).has_colour
    assert not Output.here(is_json=False, no_color=True).has_colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Output.here(is_json=False, no_color=False).has_colour
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not Output.here(is_json=False, no_color=False).has_colour
