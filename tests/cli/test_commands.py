"""Every command against its contract: what it prints, what it asks for, how it exits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest

from outboxd import operate
from outboxd.cli import cli, exits, options
from outboxd.errors import ConfigError, NotFound, OutboxdError, Refused, StoreBroken, Unavailable
from outboxd.store import control
from tests.cli import filling
from tests.cli.conftest import Run
from tests.cli.filling import store

READS = [
    "status",
    "why 10431",
    "saga list",
    "saga show 10431",
    "dead list",
    "dead list --group",
    "dead show d-1",
    "op list",
    "audit",
    "config show",
]
"""One of each kind of command that shows something."""


def pending(data: Path) -> list[control.Request]:
    with control.client(data) as connection:
        return control.pending(connection, 100)


# What holds for all of them.


@pytest.mark.parametrize("command", READS)
def test_every_read_is_a_json_document(shop: Path, run: Run, command: str) -> None:
    result = run(*command.split(), "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, list) == (" list" in command)


@pytest.mark.parametrize("command", READS)
def test_every_read_names_a_missing_data_directory(run: Run, command: str) -> None:
    if command == "config show":
        return
    result = run(*command.split())
    assert result.exit_code == exits.USAGE
    assert result.stdout == ""
    assert "error: there is no outboxd data in outboxd-data\nhint: " in result.stderr


def every_command(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Each command of the tree, by its words."""
    yield " ".join(path)
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield " ".join((*path, name))


def test_a_group_alone_shows_what_it_has(run: Run) -> None:
    result = run("saga")
    assert result.exit_code == exits.USAGE
    assert result.stderr.startswith("Usage: outboxd saga")
    assert "error:" not in result.stderr


@pytest.mark.parametrize("command", every_command())
def test_every_command_has_help(run: Run, command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        ("ded list", "there is no command 'ded'", "did you mean dead?"),
        ("saga lst", "there is no command 'lst'", "did you mean list?"),
        ("zebra", "there is no command 'zebra'", "see outboxd --help"),
        ("saga show", "Missing argument 'ID'.", "see outboxd saga show --help"),
        ("status --zebra", "No such option", "see outboxd status --help"),
        ("saga list --filter zebra:1", "there is no field 'zebra'", "fields:"),
        ("saga list --state stuk", "there is no state 'stuk'", "states:"),
    ],
)
def test_a_wrong_command_line_exits_2_with_a_hint(
    shop: Path, run: Run, args: str, error: str, hint: str
) -> None:
    result = run(*args.split())
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert error in result.stderr
    assert hint in result.stderr


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ("saga show 1", "saga 1"),
        ("dead show d-9", "dead letter d-9"),
        ("op show op-9", "operation op-9"),
        ("why zebra", "zebra"),
        ("saga retry 1", "saga 1"),
        ("dead replay d-9", "dead letter d-9"),
        ("send Zebra {}", "message type 'Zebra'"),
    ],
)
def test_what_is_not_there_exits_3(shop: Path, run: Run, args: str, name: str) -> None:
    result = run(*args.split())
    assert result.exit_code == 3
    assert name in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (NotFound("x"), 3),
        (Refused("x"), 4),
        (Unavailable("x"), 5),
        (StoreBroken("x"), 5),
        (OutboxdError("x"), 1),
    ],
)
def test_each_family_of_errors_has_its_exit_code(error: OutboxdError, code: int) -> None:
    assert exits.code_of(error) == code


def fail_with(error: BaseException) -> int:
    def command() -> None:
        raise error

    return exits.guarded(command)


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail_with(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_is_logged_with_its_traceback_and_exits_1(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert fail_with(ZeroDivisionError("oh")) == 1
    assert "Traceback" in caplog.text
    assert "error: this is a bug in outboxd: ZeroDivisionError: oh" in capsys.readouterr().err


def test_a_settings_file_is_heard(shop: Path, run: Run) -> None:
    shop.rename("elsewhere")
    Path("outboxd.toml").write_text('data = "elsewhere"\n')
    assert run("saga", "list").exit_code == 0
    Path("outboxd.toml").write_text('dta = "elsewhere"\n')
    result = run("saga", "list")
    assert result.exit_code == 2
    assert "outboxd.toml:1: unknown key 'dta'\nhint: did you mean 'data'?" in result.stderr


# Reads.


def test_a_list_for_programs_has_tabs_and_no_head(shop: Path, run: Run) -> None:
    lines = run("saga", "list", "--state", "stuck").stdout.splitlines()
    assert len(lines) == 1
    fields = lines[0].split("\t")
    assert fields[:4] == ["orders/fulfil/10431", "stuck", "AuthorizePayment", "-"]
    assert fields[5].endswith("Z")


def test_options_and_filter_say_the_same(shop: Path, run: Run) -> None:
    by_option = run("saga", "list", "--state", "stuck", "--state", "waiting", "--type", "fulfil")
    by_filter = run("saga", "list", "--filter", "state:stuck,waiting type:fulfil")
    assert by_option.stdout == by_filter.stdout
    assert by_option.stdout.count("\n") == 2


def test_letters_are_listed_until_they_are_settled(shop: Path, run: Run) -> None:
    with store(shop, "payments") as connection:
        filling.letter(connection, "x", state="discarded")
    assert run("dead", "list").stdout.startswith("payments/d-1\tAuthorizePayment\t10431\t")
    assert len(run("dead", "list", "--all").stdout.splitlines()) == 2
    assert run("dead", "list", "--group").stdout.startswith("1\tpayments.authorize\tCardTimeout")


def test_commands_to_type_next_name_the_same_data_directory(shop: Path, run: Run) -> None:
    named = run("saga", "show", "10431", "--data", str(shop)).stdout
    assert f"  outboxd dead replay d-1 --data {shop}\n" in named
    assert "  outboxd dead replay d-1\n" in run("saga", "show", "10431").stdout


def test_health_in_one_line(shop: Path, run: Run) -> None:
    down = run("status", "--check")
    assert (down.exit_code, down.stdout) == (1, "unhealthy: the daemon does not run\n")
    with filling.daemon(shop):
        up = run("status", "--check")
    assert up.exit_code == 0
    assert up.stdout == "ok: 2 participants, 5 sagas open, 1 stuck, 1 dead letter\n"
    missing = run("status", "--check", "--data", "nowhere")
    assert missing.exit_code == 1
    assert missing.stdout.startswith("unhealthy: there is no outboxd data in nowhere")


def test_the_audit_exits_1_and_names_what_is_violated(shop: Path, run: Run) -> None:
    assert run("audit").exit_code == 0
    with store(shop, "payments") as connection:
        connection.execute("UPDATE outboxd_sender SET done = done - 1")
    result = run("audit")
    assert result.exit_code == 1
    assert "VIOLATED conservation: 1 violation" in result.stdout
    [violation] = json.loads(run("audit", "--json").stdout)["violations"]
    assert (violation["rule"], violation["participant"]) == ("received", "payments")


SHOP = """
from outboxd import Participant
orders = Participant("orders")

@orders.invariant("no saga is stuck")
def none_is_stuck(db):
    for (name,) in db.execute("SELECT id FROM outboxd_saga WHERE state = 'stuck'"):
        yield f"{name} is"
"""


def test_the_audit_checks_the_invariants_of_plugins(shop: Path, run: Run) -> None:
    Path("till_plugin.py").write_text(SHOP)
    result = run("audit", "till_plugin.py")
    assert result.exit_code == 1
    assert "VIOLATED orders: no saga is stuck" in result.stdout
    assert "orders/fulfil/10431 is" in result.stdout


def test_settings_are_shown_with_their_origin(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOXD_REDIS", "redis://:geheim@host")
    shown = json.loads(run("config", "show", "--data", "d", "--json").stdout)
    assert shown["data"] == {"value": "d", "origin": "--data"}
    assert shown["redis"] == {"value": "redis://:***@host", "origin": "OUTBOXD_REDIS"}
    assert run("config", "check").stdout == "ok: OUTBOXD_REDIS\n"


# Sends.


def test_a_send_without_a_daemon_is_queued_and_says_so(shop: Path, run: Run) -> None:
    result = run("send", "PlaceOrder", '{"order_id": "1"}', "--id", "m-1")
    assert result.exit_code == 0
    assert result.stdout == "m-1\n"
    assert result.stderr == (
        "queued; it is applied as soon as outboxd runs on this data directory\n"
    )
    [request] = pending(shop)
    assert request.id == "send-m-1"
    again = run("send", "PlaceOrder", '{"order_id": "1"}', "--id", "m-1", "--json")
    assert json.loads(again.stdout)["args"]["data"] == {"order_id": "1"}
    assert len(pending(shop)) == 1


def test_a_message_right_after_the_start_waits_for_it(
    workplace: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = workplace / "fresh"

    def start(pause_s: float) -> None:
        data.mkdir(exist_ok=True)
        filling.a_shop(data)

    monkeypatch.setattr("outboxd.cli.send.time.sleep", start)
    result = run("send", "PlaceOrder", "--key", "1", "--data", str(data))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"waiting for outboxd to start on {data}\n")


def test_a_directory_where_outboxd_never_ran_takes_no_message(
    workplace: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outboxd.cli.send.START_S", 0.0)
    result = run("send", "PlaceOrder", "--key", "1", "--data", "mistyped")
    assert result.exit_code == 2
    assert "there is no outboxd data in mistyped" in result.stderr
    assert not (workplace / "mistyped").exists()


def test_a_message_comes_from_a_file_or_from_stdin(shop: Path, run: Run) -> None:
    Path("order.json").write_text('{"order_id": "2"}')
    assert run("send", "PlaceOrder", "@order.json").exit_code == 0
    assert run("send", "PlaceOrder", "-", stdin='{"order_id": "3"}').exit_code == 0
    assert run("send", "PlaceOrder", "--key", "4").exit_code == 0
    sent = [json.loads(request.args)["key"] for request in pending(shop)]
    assert sent == ["2", "3", "4"]
    missing = run("send", "PlaceOrder", "@gone.json")
    assert (missing.exit_code, "cannot read gone.json" in missing.stderr) == (2, True)


def test_a_message_that_is_no_json_is_refused_with_its_place(shop: Path, run: Run) -> None:
    result = run("send", "PlaceOrder", '{"order_id": 1')
    assert result.exit_code == 2
    assert "line 1, column 15" in result.stderr


@contextmanager
def answering(
    monkeypatch: pytest.MonkeyPatch, data: Path, state: Any, result: str
) -> Iterator[None]:
    """A daemon that settles every request at once."""
    real = operate.wait

    def settle_and_wait(data: Path, ids: Sequence[str], timeout_s: float) -> list[control.Request]:
        with control.client(data) as connection:
            for request_id in ids:
                control.mark(connection, request_id, state, result, 1.0)
        return real(data, ids, timeout_s)

    monkeypatch.setattr(operate, "wait", settle_and_wait)
    with filling.daemon(data):
        yield


def test_the_daemons_verdict_is_what_the_command_says(
    shop: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(monkeypatch, shop, "applied", "m-1"):
        result = run("send", "PlaceOrder", "{}", "--id", "m-1")
        assert (result.exit_code, result.stdout) == (0, "m-1\n")
        assert result.stderr == "accepted by orders\n"


def test_what_the_daemon_refuses_exits_4_with_its_reason(
    shop: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(
        monkeypatch, shop, "refused", "PlaceOrder: Expected `int`, got `str` - at `$.cents`"
    ):
        result = run("send", "PlaceOrder", "{}")
        assert result.exit_code == 4
        assert result.stderr == "error: PlaceOrder: Expected `int`, got `str` - at `$.cents`\n"
        retried = run("saga", "retry", "10431", "--reason", "fixed")
        assert retried.exit_code == 4
        assert retried.stderr.startswith("error: orders/fulfil/10431: PlaceOrder: Expected")


def test_waiting_for_a_saga_prints_its_result(
    shop: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(monkeypatch, shop, "applied", ""):
        done = run("send", "PlaceOrder", "--key", "10300", "--wait")
        assert (done.exit_code, done.stdout) == (0, '{"shipment":"s-1"}\n')
        undone = run("send", "PlaceOrder", "--key", "10301", "--wait")
        assert undone.exit_code == 1
        assert "orders/fulfil/10301 compensated: AuthorizePayment: over the limit" in undone.stderr
        late = run("send", "PlaceOrder", "--key", "10519", "--wait", "--timeout", "0s")
        assert late.exit_code == 1
        assert "not ended after 0 s; nothing is lost\nhint: outboxd saga show 10519" in late.stderr
        stuck = run("send", "PlaceOrder", "--key", "10431", "--wait")
        assert stuck.exit_code == 1
        assert "orders/fulfil/10431 stuck: " in stuck.stderr
        assert "see outboxd why 10431" in stuck.stderr


# Operations.


@pytest.mark.parametrize(
    "command",
    [
        "saga cancel 10431",
        "saga skip 10431",
        "saga resolve 10431 completed",
        "saga kill 10431",
        "dead discard d-1",
    ],
)
def test_what_cannot_be_taken_back_asks_for_a_reason_and_a_yes(
    shop: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    silent = run(*command.split())
    assert silent.exit_code == 4
    assert "needs a reason" in silent.stderr
    unsure = run(*command.split(), "--reason", "twice")
    assert unsure.exit_code == 4
    assert "add --yes" in unsure.stderr
    assert pending(shop) == []
    monkeypatch.setattr(options, "is_interactive", lambda: True)
    declined = run(*command.split(), stdin="twice\nn\n")
    assert declined.exit_code == 130
    assert pending(shop) == []
    agreed = run(*command.split(), stdin="twice\ny\n")
    assert agreed.exit_code == 0
    [request] = pending(shop)
    assert request.reason == "twice"
    assert run(*command.split(), "--reason", "again", "--yes").exit_code == 0


def test_a_retry_needs_a_reason_but_no_yes(shop: Path, run: Run) -> None:
    silent = run("saga", "retry", "10431")
    assert (silent.exit_code, "needs a reason" in silent.stderr) == (4, True)
    assert run("saga", "retry", "10431", "--reason", "fixed").exit_code == 0


def test_what_is_said_by_hand_is_json(shop: Path, run: Run) -> None:
    said = ("--reason", "by phone", "--yes")
    made = run("saga", "skip", "10431", '{"booking": "c-7"}', "--step", "2", "--json", *said)
    assert made.exit_code == 0, made.stderr
    [document] = json.loads(made.stdout)
    assert document["args"] == {"value": {"booking": "c-7"}, "step": 2}
    assert (document["kind"], document["reason"]) == ("saga.skip", "by phone")
    wrong = run("saga", "resolve", "10431", "completed", '{"a":', *said)
    assert wrong.exit_code == 2
    assert "the value is no JSON: line 1, column 6" in wrong.stderr
    assert run("saga", "resolve", "10431", "cancelled", *said).exit_code == 2
    ended = run("saga", "resolve", "10431", "completed", '"ok"', "--json", *said)
    assert json.loads(ended.stdout)[0]["args"] == {"state": "completed", "result": "ok"}


def test_one_replay_is_done_unasked_and_several_are_not(shop: Path, run: Run) -> None:
    with store(shop, "payments") as connection:
        filling.letter(connection, "x")
    assert run("dead", "replay", "d-1").exit_code == 0
    several = run("dead", "replay", "--filter", "handler:payments")
    assert several.exit_code == 4
    assert "Replay 2 letters?" in several.stderr
    assert run("dead", "replay", "--filter", "handler:payments", "--yes").exit_code == 0
    assert [request.target for request in pending(shop)] == ["d-1", "d-1 d-2"]


def test_a_dry_run_counts_names_five_and_does_nothing(shop: Path, run: Run) -> None:
    with store(shop, "payments") as connection:
        for number in range(7):
            filling.letter(connection, f"x-{number}")
    result = run("dead", "replay", "--filter", "cardtimeout", "--dry-run")
    assert result.exit_code == 0
    assert result.stderr == "8 letters would be replayed\n"
    assert result.stdout.splitlines() == [f"payments/d-{n}" for n in range(1, 6)]
    first = run("dead", "discard", "--filter", "cardtimeout", "--first", "2", "--dry-run")
    assert first.stderr == "2 letters would be discarded\n"
    none = run("dead", "discard", "--filter", "zebra")
    assert (none.exit_code, none.stderr) == (0, "no letter matches\n")
    assert pending(shop) == []


@pytest.mark.parametrize("args", ["", "d-1 --filter x"])
def test_all_letters_are_never_meant_by_saying_nothing(shop: Path, run: Run, args: str) -> None:
    result = run("dead", "replay", *args.split())
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("state", "code", "said"), [("replayed", 0, "1 handled, 0 failed"), ("dead", 1, "1 failed")]
)
def test_a_replay_can_be_waited_for(
    shop: Path, run: Run, monkeypatch: pytest.MonkeyPatch, state: str, code: int, said: str
) -> None:
    with answering(monkeypatch, shop, "applied", "1 letter"):
        settled = operate.wait

        def handle_and_wait(*args: Any) -> list[control.Request]:
            with store(shop, "payments") as connection:
                connection.execute("UPDATE outboxd_dead SET state = ?", (state,))
            return settled(*args)

        monkeypatch.setattr(operate, "wait", handle_and_wait)
        result = run("dead", "replay", "d-1", "--wait")
        assert result.exit_code == code
        assert said in result.stderr


def test_operations_are_listed_and_shown(shop: Path, run: Run) -> None:
    made = run("saga", "retry", "10431", "--reason", "deployed a fix")
    request_id, state = made.stdout.strip().split("\t")
    assert state == "pending"
    assert run("op", "list").stdout.startswith(f"{request_id}\tsaga.retry\torders\t")
    shown = run("op", "show", request_id).stdout
    assert "because deployed a fix" in shown
    document = json.loads(run("op", "show", request_id, "--json").stdout)
    assert (document["state"], document["args"], document["applied_at"]) == ("pending", {}, None)


# Plugins.


def test_a_check_lists_every_failure(run: Run) -> None:
    Path("good_shop.py").write_text("from outboxd import Participant\na = Participant('a')\n")
    Path("bad_shop.py").write_text("1 / 0\n")
    good = run("plugin", "check", "good_shop.py")
    assert (good.exit_code, good.stdout) == (0, "1 participant fits: a\n")
    bad = run("plugin", "check", "bad_shop.py", "good_shop.py", "gone_shop.py")
    assert bad.exit_code == 2
    assert "error: bad_shop: bad_shop.py:1: ZeroDivisionError" in bad.stdout
    assert "error: gone_shop.py: there is no such file" in bad.stdout
    assert len(json.loads(run("plugin", "check", "bad_shop.py", "--json").stdout)["problems"]) == 1


FAULTY = """
from outboxd import Command, Participant, Tx

class Pay(Command[None], to="elsewhere", key="id"):
    id: str

a = Participant("a", schema="CREATE TABL t;")
b = Participant("b")

@b.handle
def pay(tx: Tx, cmd: Pay) -> None: ...
"""


def test_a_check_finds_what_a_start_would_refuse(run: Run) -> None:
    Path("faulty_shop.py").write_text(FAULTY)
    result = run("plugin", "check", "faulty_shop.py")
    assert result.exit_code == 2
    assert "a: schema does not apply" in result.stdout
    assert "Pay belongs to 'elsewhere', not to 'b'" in result.stdout


REHEARSED = """
from outboxd import Command, Participant, Saga

class PlaceOrder(Command[None], to="orders", key="order_id"):
    order_id: str

orders = Participant("orders")

@orders.saga
async def fulfil(saga: Saga, order: PlaceOrder) -> None:
    await saga.sleep("1h")
"""


def test_a_check_rehearses_the_sagas_of_a_data_directory(shop: Path, run: Run) -> None:
    Path("rehearsed_shop.py").write_text(REHEARSED)
    result = run("plugin", "check", "rehearsed_shop.py")
    assert result.exit_code == 1, result.stderr
    lines = result.stdout.splitlines()
    assert "this code would break" in lines[1]
    row = next(line for line in lines if line.startswith("orders/fulfil/10431\t"))
    assert row.split("\t")[1:] == ["1", "run create_order", "sleep 3600s (step 1)"]
    document = json.loads(run("plugin", "check", "rehearsed_shop.py", "--json").stdout)
    broken = {entry["saga"]: entry for entry in document["rehearsal"]["broken"]}
    assert broken["orders/fulfil/10431"] == {
        "saga": "orders/fulfil/10431",
        "state": "stuck",
        "step": 1,
        "journal": "run create_order",
        "code": "sleep 3600s (step 1)",
    }
    with store(shop, "orders") as connection:
        connection.execute("UPDATE outboxd_saga SET ended_at = 1, state = 'completed'")
    fitting = run("plugin", "check", "rehearsed_shop.py")
    assert (fitting.exit_code, fitting.stdout.splitlines()[1]) == (
        0,
        "0 sagas under way replayed: this code fits each journal",
    )


def test_a_check_without_a_data_directory_rehearses_nothing(run: Run) -> None:
    Path("rehearsed_shop.py").write_text(REHEARSED)
    document = json.loads(run("plugin", "check", "rehearsed_shop.py", "--json").stdout)
    assert document["rehearsal"] is None
    gone = run("plugin", "check", "rehearsed_shop.py", "--data", "gone")
    assert (gone.exit_code, "there is no outboxd data in gone" in gone.stderr) == (2, True)


def test_plugins_are_listed_by_what_they_handle(run: Run) -> None:
    Path("listed_shop.py").write_text(
        FAULTY.replace("elsewhere", "b").replace("TABL t", "TABLE t (x)")
    )
    lines = run("plugin", "list", "listed_shop.py").stdout.splitlines()
    assert lines == ["b\tcommand\tPay\tb.pay\tlisted_shop"]


@pytest.mark.parametrize("command", ["run", "plugin check", "plugin list"])
def test_without_plugins_there_is_nothing_to_do(run: Run, command: str) -> None:
    result = run(*command.split())
    assert result.exit_code == 2
    assert "error: which plugins?" in result.stderr
