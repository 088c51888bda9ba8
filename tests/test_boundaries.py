"""The house keeps its shape: what is loaded when, how long things are, what tests may not do.

Who may import whom is import-linter's (pyproject.toml); here is what it cannot see.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What a reader holds in the head at once.
MODULE_LINES = 500
FUNCTION_LINES = 60

# Known offenders at their present length. An entry may only be lowered or removed.
LONG_MODULES: dict[str, int] = {}  # "outboxd/relay.py": 512
LONG_FUNCTIONS: dict[str, int] = {}  # "outboxd/relay.py::Relay.run": 64

# The one helper of the tests that may wait: for a condition, never for an amount of time.
WAITING_HELPER = ("tests/conftest.py", "wait_until")
CLOCKS = {"time", "asyncio", "anyio"}

# Its sagas await a sleep that must be refused before a moment has passed.
SLEEPS_IN_VAIN = "tests/pure/test_saga_misuse.py"

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules_in(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def scoped_nodes(tree: ast.AST, scope: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Each node with the dotted name of the classes and functions around it, itself included."""
    for node in ast.iter_child_nodes(tree):
        inner = scope
        if isinstance(node, Function | ast.ClassDef):
            inner = f"{scope}.{node.name}" if scope else node.name
        yield inner, node
        yield from scoped_nodes(node, inner)


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that are loaded in a new interpreter after one statement."""
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def outgrown(lengths: dict[str, int], limit: int, known: dict[str, int]) -> list[str]:
    """A sentence for each length above its limit and for each entry of `known` that is too high."""
    grown = [
        f"{name}: {lines} lines, at most {known.get(name, limit)}"
        for name, lines in lengths.items()
        if lines > known.get(name, limit)
    ]
    shrunk = [
        f"{name}: pinned at {pinned}, now {lengths.get(name, 0)}: lower or remove its entry"
        for name, pinned in known.items()
        if lengths.get(name, 0) < pinned or pinned <= limit
    ]
    return grown + shrunk


def imported_by(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of each import of a module, seen from the top of the repository."""
    package = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def sleeps_in(path: Path) -> Iterator[str]:
    """A sentence for each call or import of a sleep outside the one helper."""
    for scope, node in scoped_nodes(parsed(path)):
        if (name_of(path), scope.partition(".")[0]) == WAITING_HELPER:
            continue
        match node:
            case ast.Attribute(value=ast.Name(id=clock), attr="sleep") if clock in CLOCKS:
                yield f"{name_of(path)}:{node.lineno} {clock}.sleep"
            case ast.ImportFrom(module=clock, names=names) if clock in CLOCKS:
                if any(alias.name == "sleep" for alias in names):
                    yield f"{name_of(path)}:{node.lineno} from {clock} import sleep"


def test_import_outboxd_loads_no_broker_database_or_face() -> None:
    assert not loaded_by("import outboxd") & {"redis", "sqlite3", "click", "textual"}


def test_the_command_line_starts_without_dashboard_and_broker() -> None:
    assert not loaded_by("import outboxd.cli") & {"redis", "textual"}


def test_a_command_on_the_files_loads_neither_dashboard_nor_broker() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "outboxd", "dead", "list", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "outboxd.cli" in loaded
    assert not loaded & {"redis", "textual"}


def test_no_module_is_too_long() -> None:
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in modules_in("outboxd", "plugins")
    }
    assert not outgrown(lengths, MODULE_LINES, LONG_MODULES)


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{name_of(path)}::{scope}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in modules_in("outboxd", "plugins")
        for scope, node in scoped_nodes(parsed(path))
        if isinstance(node, Function)
    }
    assert not outgrown(lengths, FUNCTION_LINES, LONG_FUNCTIONS)


@pytest.mark.parametrize(
    ("length", "known", "complaints"),
    [(10, {}, 0), (11, {}, 1), (12, {"m": 12}, 0), (13, {"m": 12}, 1), (11, {"m": 12}, 1)],
)
def test_the_list_of_known_offenders_may_only_shrink(
    length: int, known: dict[str, int], complaints: int
) -> None:
    assert len(outgrown({"m": length}, 10, known)) == complaints


def test_no_test_sleeps() -> None:
    tests = [path for path in modules_in("tests") if name_of(path) != SLEEPS_IN_VAIN]
    assert not [found for path in tests for found in sleeps_in(path)]


def test_nothing_prints_but_the_command_line() -> None:
    prints = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules_in("outboxd")
        if not name_of(path).startswith("outboxd/cli/")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not prints


def test_a_plugin_knows_another_only_by_its_messages() -> None:
    intrusions = []
    for path in modules_in("plugins"):
        own = path.relative_to(ROOT / "plugins").with_suffix("").parts[0]
        if own == "__init__":  # the folder itself; it is nobody's neighbour
            continue
        for line, name in imported_by(path):
            top, _, rest = name.partition(".")
            other, _, inside = rest.partition(".")
            if top == "plugins" and other != own and inside.partition(".")[0] != "messages":
                intrusions.append(f"{name_of(path)}:{line} imports {name}")
    assert not intrusions
