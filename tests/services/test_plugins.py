"""Plugins: what was named is hosted, what is broken is named, and one does not hide another."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outboxd import plugins
from outboxd.errors import ConfigError
from outboxd.participant import Participant

Write = Callable[[str, str], Path]

MAKES = 'from outboxd import Participant\n{0} = Participant("{0}")\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; whatever a test imports is forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = dict(sys.modules)
    for name in [name for name in known if name.partition(".")[0] == "plugins"]:
        del sys.modules[name]
    yield tmp_path
    for name in set(sys.modules) - set(known):
        del sys.modules[name]
    sys.modules.update(known)


@pytest.fixture
def write(folder: Path) -> Write:
    def put(path: str, text: str) -> Path:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    return put


def names(participants: list[Participant]) -> list[str]:
    return [participant.name for participant in participants]


def failures(*named: str) -> list[ConfigError]:
    return plugins.find(named).failures


def test_a_module_by_its_name(write: Write) -> None:
    write("plugins/payments/__init__.py", MAKES.format("payments"))
    assert names(plugins.load(["plugins.payments"])) == ["payments"]


def test_a_file_beside_its_helper(write: Write) -> None:
    write("far/away/shop.py", "import helper\n" + MAKES.format("shop"))
    write("far/away/helper.py", "")
    assert names(plugins.load(["far/away/shop.py"])) == ["shop"]


def test_a_folder_in_alphabetical_order_without_what_is_no_plugin(write: Write) -> None:
    write("plugins/stock/__init__.py", MAKES.format("stock"))
    write("plugins/orders.py", MAKES.format("orders"))
    write("plugins/load_test.py", "raise SystemExit('a script, not a plugin')")
    write("plugins/notes.txt", "outboxd")
    assert names(plugins.load(["plugins"])) == ["orders", "stock"]


@pytest.mark.parametrize("inits", [(), ("plugins/__init__.py",)])
def test_packages_of_the_folder_plugins_import_each_other_by_that_name(
    write: Write, inits: tuple[str, ...]
) -> None:
    for init in inits:
        write(init, '"""Five participants."""')
    write("plugins/payments/__init__.py", MAKES.format("payments"))
    write("plugins/payments/messages.py", "from outboxd import Command\nclass Pay: ...\n")
    write(
        "plugins/orders/__init__.py",
        "from plugins.payments.messages import Pay\n" + MAKES.format("orders"),
    )
    assert names(plugins.load(["plugins/orders", "plugins.payments"])) == ["orders", "payments"]
    assert sys.modules["plugins.payments.messages"].Pay is sys.modules["plugins.orders"].Pay


def test_another_folder_goes_by_its_own_name(write: Write) -> None:
    write("deep/shop/__init__.py", "")
    write("deep/shop/till.py", "from shop import prices\n" + MAKES.format("till"))
    write("deep/shop/prices.py", "")
    assert names(plugins.load(["deep/shop"])) == ["till"]


def test_what_is_only_imported_is_not_hosted(write: Write) -> None:
    write("plugins/payments.py", MAKES.format("payments"))
    write(
        "plugins/orders.py",
        "from plugins.payments import payments\n" + MAKES.format("orders"),
    )
    write("plugins/reports.py", "from plugins.payments import payments as outboxd_payments\n")
    assert names(plugins.load(["plugins.orders"])) == ["orders"]
    [failure] = failures("plugins.reports")
    assert "plugins.reports: it holds no participant" in failure.message
    assert "importing one is not enough" in str(failure.hint)


def test_a_participant_in_a_part_of_a_package_is_found(write: Write) -> None:
    write("shop/__init__.py", "")
    write("shop/service.py", MAKES.format("service"))
    write("shop/messages.py", "from outboxd import Event\n")
    assert names(plugins.load(["shop"])) == ["service"]
    assert names(plugins.load(["shop.service"])) == ["service"]


def test_a_plugin_named_twice_is_hosted_once(write: Write) -> None:
    write("plugins/payments.py", MAKES.format("payments"))
    found = plugins.find(["plugins", "plugins.payments", "plugins/payments.py"])
    assert names(found.participants) == ["payments"]
    assert found.failures == []


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("paymnts", "plugins.payments"),
        ("plugins.paymnts", "plugins.payments"),
        ("payments", "plugins.payments"),
        ("plugin.payments", "plugins.payments"),
        ("plugins/paymets", "plugins/payments"),
        ("shp.py", "shop.py"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(write: Write, named: str, meant: str) -> None:
    write("plugins/payments/__init__.py", MAKES.format("payments"))
    write("shop.py", MAKES.format("shop"))
    [failure] = failures(named)
    assert named in failure.message
    assert failure.hint == f"did you mean {meant}?"


def test_nothing_near_is_said_as_well() -> None:
    [failure] = failures("zebra")
    assert failure.message == "there is no plugin 'zebra'"
    assert failure.hint == "name a module, a .py file or a folder"


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("\n1 / 0\n", "shop: shop.py:2: ZeroDivisionError: division by zero", "log"),
        ("\ndef f(:\n", "shop: shop.py:2: SyntaxError: invalid syntax", None),
        ("import stripy\n", "shop: shop.py:1: ModuleNotFoundError: No module", "install stripy"),
        ("raise SystemExit(3)\n", "shop: shop.py:1: SystemExit: it ends the process", "guard"),
        (
            "\nfrom outboxd import Participant\nPAY = Participant('Pay Ments')\n",
            "shop: shop.py:3: 'Pay Ments' is no name for a participant",
            "lower case",
        ),
        ("import json\njson.loads('{')\n", "shop: shop.py:2: JSONDecodeError", "log"),
    ],
)
def test_a_plugin_that_breaks_is_named_with_its_own_line(
    write: Write, text: str, said: str, hint: str | None
) -> None:
    write("shop.py", text)
    [failure] = failures("shop.py")
    assert failure.message.startswith(said)
    assert "Traceback" not in failure.message
    assert (hint in str(failure.hint)) if hint else failure.hint is None


def test_the_traceback_is_in_the_log_at_debug_level(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write("shop.py", "1 / 0\n")
    logging.getLogger("outboxd").propagate = True
    with caplog.at_level(logging.DEBUG, "outboxd.plugins"):
        failures("shop.py")
    assert "ZeroDivisionError" in caplog.text
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


def test_one_broken_plugin_does_not_hide_the_others(write: Write) -> None:
    write("plugins/a_good.py", MAKES.format("good"))
    write("plugins/broken/__init__.py", "import outboxd\n1 / 0\n")
    write("plugins/broken/messages.py", "import outboxd\n")
    write("plugins/worse.py", "import outboxd\nraise OSError('worse')\n")
    found = plugins.find(["plugins", "nowhere"])
    assert names(found.participants) == ["good"]
    assert [failure.message.split(":")[1].strip() for failure in found.failures[:2]] == [
        "plugins.broken",
        "plugins.worse",
    ]
    assert len(found.failures) == 3
    with pytest.raises(ConfigError) as caught:
        plugins.load(["plugins", "nowhere"])
    assert caught.value.message.startswith("3 plugins cannot be used:\n")
    assert "worse" in caught.value.message


def test_a_failed_import_can_be_repaired_and_tried_again(write: Write) -> None:
    write("shop.py", "1 / 0\n")
    assert failures("shop.py")
    write("shop.py", MAKES.format("shop") + "# repaired\n")
    assert names(plugins.load(["shop.py"])) == ["shop"]


def test_a_file_named_like_a_known_module_is_refused(write: Write) -> None:
    write("json.py", MAKES.format("shop"))
    [failure] = failures("json.py")
    assert "the name 'json' is taken" in failure.message


def test_a_lone_file_shadows_nothing(write: Write) -> None:
    write("aside/shop.py", MAKES.format("shop"))
    write("aside/string.py", "raise RuntimeError('not the standard library')")
    del sys.modules["string"]
    plugins.load(["aside/shop.py"])
    import string

    assert string.ascii_letters


def test_a_file_that_is_no_python_is_refused(write: Write) -> None:
    write("shop.toml", "")
    [failure] = failures("shop.toml")
    assert "a plugin is a Python module, a .py file or a folder" in failure.message


@pytest.mark.parametrize(
    ("schema", "said"), [("CREATE TABLE t (a TEXT) STRICT;", None), ("CREATE TABL t;", "near")]
)
def test_a_schema_is_checked_without_a_data_directory(
    folder: Path, schema: str, said: str | None
) -> None:
    participant = Participant("shop", schema=schema)
    if said is None:
        plugins.check_schema(participant)
    else:
        with pytest.raises(ConfigError, match="shop: schema does not apply: near"):
            plugins.check_schema(participant)
    assert list(folder.iterdir()) == []
