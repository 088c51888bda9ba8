"""``outboxd doctor``: each finding is true, has a remedy unless it is well, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from outboxd import doctor, embedded
from outboxd.doctor import Finding, examine
from outboxd.errors import ConfigError
from outboxd.settings import Settings
from outboxd.stream import Server
from tests.cli import filling
from tests.cli.conftest import Run
from tests.cli.test_terminal import on_terminal

SHOP = "from outboxd import Participant\nshop = Participant('shop')\n"


def found(check: str, data: Path, *names: str, redis: str | None = None) -> Finding:
    """The last finding about something: the one that decides."""
    findings = examine(Settings(data=data, redis=redis), names)
    return [finding for finding in findings if finding.check == check][-1]


def test_a_fresh_machine_is_well_and_stays_as_it_is(workplace: Path, run: Run) -> None:
    (workplace / "shop.py").write_text(SHOP)
    before = sorted(workplace.iterdir())
    result = run("doctor", "shop.py", "--json")
    assert result.exit_code == 0, result.output
    findings = json.loads(result.stdout)
    assert [f["check"] for f in findings if f["state"] == "fail"] == []
    assert {"python", "sqlite", "data", "space", "sync", "clock", "broker", "plugins"} <= {
        f["check"] for f in findings
    }
    assert all((f["state"] == "ok") == (f["remedy"] is None) for f in findings)
    assert [p for p in sorted(workplace.iterdir()) if p.name != "__pycache__"] == before


def test_a_plugin_that_does_not_load_fails(workplace: Path, run: Run) -> None:
    Path("broken.py").write_text(SHOP + "raise KeyError('x')\n")
    result = run("doctor", "broken.py")
    assert result.exit_code == 1
    [line] = [line for line in result.stdout.splitlines() if line.startswith("plugins\tfail")]
    assert "broken.py" in line


def test_a_directory_that_others_can_read_is_a_warning(data: Path) -> None:
    data.mkdir(mode=0o700)
    assert found("data", data).state == "ok"
    data.chmod(0o755)
    seen = found("data", data)
    assert (seen.state, seen.remedy) == ("warn", f"chmod 700 {data}")


def test_a_file_in_the_place_of_the_directory_fails(data: Path) -> None:
    data.write_text("")
    assert found("data", data).state == "fail"


def test_data_from_the_future_shows_a_wrong_clock(data: Path) -> None:
    data.mkdir(mode=0o700)
    (data / "orders.db").write_bytes(b"")
    assert found("clock", data).state == "ok"
    os.utime(data / "orders.db", (filling.now() + 7200, filling.now() + 7200))
    assert "2h in the future" in found("clock", data).text


@pytest.mark.parametrize(("took_s", "state"), [(0.000001, "warn"), (0.002, "ok"), (0.15, "warn")])
def test_a_sync_is_measured(
    data: Path, monkeypatch: pytest.MonkeyPatch, took_s: float, state: str
) -> None:
    monkeypatch.setattr(doctor, "_median_sync", lambda place: took_s)
    assert found("sync", data).state == state


@pytest.mark.parametrize(
    ("free", "state"), [(50 << 20, "fail"), (500 << 20, "warn"), (50 << 30, "ok")]
)
def test_little_space_is_seen(
    data: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    assert found("space", data).state == state


@pytest.mark.parametrize(("kind", "state"), [("nfs4", "fail"), ("tmpfs", "warn")])
def test_a_file_system_that_keeps_nothing_is_seen(
    data: Path, monkeypatch: pytest.MonkeyPatch, kind: str, state: str
) -> None:
    monkeypatch.setattr(doctor, "_file_system", lambda place: kind)
    assert found("disk", data).state == state


def test_the_file_system_is_that_of_the_longest_mount(tmp_path: Path) -> None:
    assert doctor._file_system(Path("/proc")) in ("proc", None)


def test_a_broker_that_is_away_fails(data: Path) -> None:
    seen = found("broker", data, redis="redis://user:secret@127.0.0.1:1")
    assert seen.state == "fail"
    assert "secret" not in seen.text


def test_no_server_to_embed_fails(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_server() -> str:
        raise ConfigError("no server to embed", hint="install one")

    monkeypatch.setattr(embedded, "find_server", find_server)
    assert found("broker", data) == Finding(
        check="broker", state="fail", text="no server to embed", remedy="install one"
    )


@pytest.mark.parametrize(
    ("persistence", "policy", "states"),
    [
        ("aof everysec", "noeviction", ["ok", "ok", "ok"]),
        ("none", "volatile-lru", ["ok", "warn", "warn"]),
        ("unknown", None, ["ok", "warn", "warn"]),
    ],
)
def test_what_the_broker_keeps_is_told(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    persistence: str,
    policy: str | None,
    states: list[str],
) -> None:
    async def ask(url: str) -> Server:
        return Server("valkey", "9.0.1", "id", persistence, policy)

    monkeypatch.setattr(doctor, "_ask", ask)
    findings = examine(Settings(data=data, redis="redis://broker"), ())
    about = ("broker", "persistence", "eviction")
    assert [f.state for f in findings if f.check in about] == states


def test_a_page_of_it_fits(workplace: Path) -> None:
    code, output = on_terminal("doctor", env={"NO_COLOR": "1"})
    assert code == 0
    assert max(map(len, output.splitlines())) <= 80
    assert "✓ ok   python" in output
