"""Migrations: each script once, in order, whole or not at all, split as SQLite reads it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.errors import ConfigError
from outboxd.store import meta
from outboxd.store.connection import Connection, Database, open_writer
from outboxd.store.schema import (
    migrate_own,
    migrate_participant,
    participant_scripts,
    statements,
)

CHARGE = "CREATE TABLE charge (id TEXT PRIMARY KEY) STRICT;"
REFUND = "CREATE TABLE refund (id TEXT PRIMARY KEY) STRICT;"


def tables(connection: Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {row[0] for row in rows} - {"sqlite_sequence"}


# Our own tables.


def test_our_scripts_are_packaged_and_numbered_from_one() -> None:
    folder = files("outboxd.store") / "schema"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_our_tables_carry_our_name_and_keep_their_types(connection: Connection) -> None:
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    ours = [(name, sql) for name, sql in rows if name != "sqlite_sequence"]
    assert len(ours) > 10
    assert all(name.startswith("outboxd_") and "STRICT" in sql for name, sql in ours)


def test_our_scripts_are_applied_once(connection: Connection) -> None:
    version = meta.get(connection, "tables")
    meta.put(connection, "kept", 1)
    migrate_own(connection)
    assert meta.get(connection, "tables") == version >= 1
    assert meta.get(connection, "kept") == 1


def test_an_application_keeps_its_own_version_of_the_file(connection: Connection) -> None:
    assert connection.execute("PRAGMA user_version").fetchone()[0] == 0


def test_a_database_of_a_newer_outboxd_is_refused(connection: Connection) -> None:
    meta.put(connection, "tables", 999)
    with pytest.raises(
        ConfigError, match=r"the database .* is of version 999; this outboxd knows"
    ) as error:
        migrate_own(connection)
    assert error.value.hint == "use the newer outboxd that wrote it"


# A participant's.


def test_a_participants_scripts_are_applied_in_order_and_once(connection: Connection) -> None:
    use = "INSERT INTO charge VALUES ('first');"
    migrate_participant(connection, "payments", [("0001.sql", CHARGE), ("0002.sql", use)])
    migrate_participant(connection, "payments", [("0001.sql", CHARGE), ("0002.sql", use)])
    assert connection.execute("SELECT id FROM charge").fetchall() == [("first",)]


def test_a_new_script_is_applied_after_the_old_ones(connection: Connection) -> None:
    migrate_participant(connection, "payments", [("0001.sql", CHARGE)])
    migrate_participant(connection, "payments", [("0001.sql", CHARGE), ("0002.sql", REFUND)])
    assert {"charge", "refund"} <= tables(connection)


def test_a_script_that_was_changed_after_it_was_applied_is_refused(connection: Connection) -> None:
    migrate_participant(connection, "payments", [("schema", CHARGE)])
    changed = CHARGE.replace("id TEXT", "id INTEGER")
    with pytest.raises(ConfigError, match="payments: schema was changed after") as refused:
        migrate_participant(connection, "payments", [("schema", changed)])
    assert "add a numbered migration" in (refused.value.hint or "")


def test_a_script_that_was_only_laid_out_anew_is_the_same(connection: Connection) -> None:
    migrate_participant(connection, "payments", [("schema", CHARGE)])
    migrate_participant(connection, "payments", [("schema", "\n  " + CHARGE.replace(" ", "\n"))])


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("CREATE TABLE x (id TEXT,);", "syntax error"),
        ("INSERT INTO nowhere VALUES (1);", "no such table: nowhere"),
        ("CREATE TABLE outboxd_meta (x);", "already exists"),
        ("BEGIN; CREATE TABLE x (y); COMMIT;", ""),
        ("CREATE TABLE open (id", "incomplete input"),
    ],
)
def test_a_script_that_does_not_apply_is_named_with_the_reason(
    connection: Connection, sql: str, words: str
) -> None:
    connection.execute("BEGIN")
    with pytest.raises(ConfigError, match=r"payments: 0002\.sql does not apply: ") as refused:
        migrate_participant(connection, "payments", [("0001.sql", CHARGE), ("0002.sql", sql)])
    assert words in refused.value.message


@pytest.mark.anyio
async def test_a_script_that_does_not_apply_leaves_nothing_of_the_others(
    database: Database,
) -> None:
    await database.write(migrate_own)

    def migrate(connection: Connection) -> None:
        migrate_participant(connection, "payments", [("1.sql", CHARGE), ("2.sql", "NONSENSE;")])

    with pytest.raises(ConfigError, match=r"2\.sql does not apply"):
        await database.write(migrate)
    assert "charge" not in await database.read(tables)
    marks = await database.read(lambda cx: cx.execute("SELECT key FROM outboxd_meta").fetchall())
    assert marks == [("tables",)]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE a (id REFERENCES charge DEFERRABLE INITIALLY DEFERRED);",
        "CREATE TABLE a (id TEXT UNIQUE ON CONFLICT ROLLBACK);",
        "CREATE TRIGGER t BEFORE INSERT ON charge BEGIN SELECT RAISE(ROLLBACK, 'no'); END;",
    ],
    ids=["deferred foreign key", "on conflict rollback", "raise rollback"],
)
def test_a_schema_that_fails_or_ends_a_whole_commit_is_refused(
    connection: Connection, sql: str
) -> None:
    """What is checked at COMMIT cannot be pinned on the one message that broke it."""
    with pytest.raises(ConfigError, match=r"payments: schema has .* would undo other messages"):
        migrate_participant(connection, "payments", [("schema", CHARGE + "\n" + sql)])


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE a (id REFERENCES charge DEFERRABLE INITIALLY IMMEDIATE);",
        "CREATE TABLE a (id TEXT UNIQUE ON CONFLICT IGNORE); -- never ON CONFLICT ROLLBACK",
        "CREATE TRIGGER t BEFORE INSERT ON charge BEGIN SELECT RAISE(ABORT, 'no'); END;",
    ],
    ids=["immediate foreign key", "on conflict ignore", "raise abort"],
)
def test_a_schema_whose_constraints_undo_one_statement_applies(
    connection: Connection, sql: str
) -> None:
    migrate_participant(connection, "payments", [("schema", CHARGE + "\n" + sql)])


# Where scripts come from.


def test_a_schema_is_one_script(tmp_path: Path) -> None:
    assert participant_scripts("payments", tmp_path, CHARGE, None) == [("schema", CHARGE)]


def test_a_participant_without_tables_has_no_script(tmp_path: Path) -> None:
    assert participant_scripts("payments", tmp_path, None, None) == []


def test_migrations_are_the_sql_files_of_a_folder_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0002_refund.sql").write_text(REFUND)
    (folder / "0001_charge.sql").write_text(CHARGE)
    (folder / "README.md").write_text("no script")
    assert participant_scripts("payments", tmp_path, None, "migrations") == [
        ("0001_charge.sql", CHARGE),
        ("0002_refund.sql", REFUND),
    ]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_without_scripts_is_refused(tmp_path: Path, is_there: bool) -> None:
    if is_there:
        (tmp_path / "migrations").mkdir()
    with pytest.raises(ConfigError, match=r"payments: no \.sql files in") as refused:
        participant_scripts("payments", tmp_path, None, "migrations")
    assert refused.value.hint == "name them 0001_….sql, 0002_….sql"


# Splitting.

TRIGGER = """CREATE TRIGGER t AFTER INSERT ON charge BEGIN
    UPDATE charge SET id = CASE WHEN id = 'x;' THEN 'y' ELSE id END;
    DELETE FROM charge WHERE id = 'z';
END;"""

PIECES = [
    CHARGE,
    "CREATE TABLE b (\n    x TEXT -- a comment; with a semicolon\n);",
    "INSERT INTO b VALUES ('a;\nb');",
    "INSERT INTO b VALUES ('it''s; --');",
    'CREATE TABLE "odd;name" (x);',
    "/* a comment;\n of two lines */ INSERT INTO b VALUES ('c');",
    "-- a comment before;\nINSERT INTO b VALUES ('d');",
    TRIGGER,
]


def stripped(script: str) -> list[str]:
    return [statement.strip() for statement in statements(script)]


@pytest.mark.parametrize("piece", PIECES)
def test_a_statement_is_kept_whole(piece: str) -> None:
    assert stripped(piece) == [piece]


@given(st.lists(st.sampled_from(PIECES)), st.sampled_from(["", " ", "\n", "\n;\n", "\n  \n"]))
def test_a_script_is_split_into_its_statements(pieces: list[str], between: str) -> None:
    assert stripped(between.join(pieces)) == pieces


def test_the_last_statement_needs_no_semicolon() -> None:
    assert stripped(f"{CHARGE}\nINSERT INTO charge VALUES ('x')") == [
        CHARGE,
        "INSERT INTO charge VALUES ('x')",
    ]


@pytest.mark.parametrize("script", ["", "\n", ";", " ;\n;", "-- nothing", "-- a\n-- b\n\n"])
def test_a_script_without_statements_has_none(script: str) -> None:
    assert stripped(script) == []


def test_every_piece_applies(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "x.db")
    migrate_own(connection)
    script = " -- a comment after\n".join(PIECES) + "\n/* end */"
    migrate_participant(connection, "payments", [("schema", script)])
    assert connection.execute("SELECT x FROM b").fetchall() == [
        ("a;\nb",),
        ("it's; --",),
        ("c",),
        ("d",),
    ]
    connection.execute("INSERT INTO charge VALUES ('x;')")
    assert connection.execute("SELECT id FROM charge").fetchall() == [("y",)]
    connection.close()


def test_what_sagas_wait_for_in_an_older_store_stays_what_it_is(tmp_path: Path) -> None:
    first = (files("outboxd.store") / "schema" / "0001_initial.sql").read_text()
    connection = open_writer(tmp_path / "old.db")
    for statement in statements(first):
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 1")
    connection.execute(
        "INSERT INTO outboxd_saga (id, name, key, round, version, state, stuck, detail, started_at,"
        " moved_at, start) VALUES ('s', 'trip', '1', 1, 1, 'stuck', 'letter', 'd-1', 0, 0, x'7b7d')"
    )
    for pos, name in ((1, "Pay"), (2, "sleep")):
        connection.execute(
            "INSERT INTO outboxd_call VALUES ('s', ?, ?, ?, '', 0, 30, NULL, 0, 'hold', 0)",
            (pos, f"s#{pos}", name),
        )
    migrate_own(connection)
    found = connection.execute("SELECT name, kind, stuck, detail FROM outboxd_call").fetchall()
    assert found == [("Pay", "call", "letter", "d-1"), ("sleep", "sleep", None, None)]
    connection.close()
