"""What a type checker sees of the public API: the examples pass, and each mistake is reported.

Files in `correct` have no error; in `mistakes` exactly the lines that end with `# error` have one,
for mypy --strict and for pyright.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CORRECT = sorted((HERE / "correct").glob("*.py"))
MISTAKES = sorted((HERE / "mistakes").glob("*.py"))
FILES = [path.relative_to(ROOT).as_posix() for path in [*CORRECT, *MISTAKES]]

Found = dict[str, dict[int, str]]
"""File to line to what the checker says there."""


def output_of(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr or done.stdout  # 1: it ran, and found the mistakes
    return done.stdout


@cache
def mypy() -> Found:
    found: Found = {name: {} for name in FILES}
    for line in output_of("mypy", "--strict", "--output=json", *FILES).splitlines():
        report = json.loads(line)
        if report["severity"] == "error" and report["file"] in found:
            found[report["file"]][report["line"]] = report["message"]
    return found


@cache
def pyright() -> Found:
    found: Found = {name: {} for name in FILES}
    with TemporaryDirectory() as folder:
        config = Path(folder) / "pyrightconfig.json"
        config.write_text(json.dumps(pyright_config(folder)), encoding="utf-8")
        output = output_of(
            "pyright", "--outputjson", f"--project={config}", f"--pythonpath={sys.executable}"
        )
    answer = json.loads(output)
    assert answer["summary"]["filesAnalyzed"] == len(FILES)
    for report in answer["generalDiagnostics"]:
        name = Path(report["file"]).relative_to(ROOT).as_posix()
        if report["severity"] == "error":
            found[name][report["range"]["start"]["line"] + 1] = report["message"]
    return found


def pyright_config(folder: str) -> dict[str, object]:
    """A project of its own: the repository's leaves the mistakes out, also if they are named."""
    return {
        "include": [os.path.relpath(ROOT / name, Path(folder).resolve()) for name in FILES],
        "extraPaths": [str(ROOT)],
        "pythonVersion": "3.11",
    }


CHECKERS = [pytest.param(mypy, id="mypy"), pytest.param(pyright, id="pyright")]


def marked(path: Path) -> set[int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# error")}


@pytest.mark.timeout(300)  # the first test of each checker runs it over all files
@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize(
    "path", [*CORRECT, *MISTAKES], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_each_marked_line_is_an_error_and_no_other(
    checker: Callable[[], Found], path: Path
) -> None:
    found = checker()[path.relative_to(ROOT).as_posix()]
    wanted = marked(path)
    unexpected = {line: text for line, text in found.items() if line not in wanted}
    missed = wanted - found.keys()
    assert (unexpected, missed) == ({}, set())


def test_there_are_mistakes_to_find() -> None:
    assert CORRECT
    assert all(marked(path) for path in MISTAKES)
    assert not any(marked(path) for path in CORRECT)
