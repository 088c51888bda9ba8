"""A run's state as one number: equal rows are equal, and nothing that differs is."""

from __future__ import annotations

from outboxd.prove.image import statement
from outboxd.store.connection import open_memory


def test_every_value_of_every_row_is_seen() -> None:
    connection = open_memory()
    connection.execute('CREATE TABLE "a ""b" ("order" TEXT, n REAL, body BLOB)')
    connection.execute("CREATE TABLE empty (n INTEGER)")
    connection.execute("CREATE TABLE outboxd_attempt (n INTEGER)")
    sql = statement(connection)

    def seen() -> object:
        return connection.execute(sql).fetchone()

    states = [seen()]
    for change in (
        """INSERT INTO "a ""b" VALUES ('x', 0.1, x'00ff')""",
        """INSERT INTO "a ""b" VALUES ('x', NULL, NULL)""",
        """UPDATE "a ""b" SET n = 0.1 + 1e-17 * 2 WHERE body IS NOT NULL""",
        """UPDATE "a ""b" SET "order" = 'x,'',''y' WHERE n IS NULL""",
        "INSERT INTO empty VALUES (1)",
    ):
        connection.execute(change)
        states.append(seen())
    assert len(set(map(str, states))) == len(states)
    connection.execute("INSERT INTO outboxd_attempt VALUES (1)")
    assert seen() == states[-1], "what only people read is no part of it"
    connection.close()
