"""What a proof says: its bounds in honest words, a violation as a story, and a test of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from outboxd.clock import in_words

from .choices import Remembered
from .explore import Found, Tally
from .session import Part, Proof
from .world import HORIZON_S, Told

STORY_BEGINS = 20
STORY_ENDS = 10
"""Lines that are shown of a story that is much longer."""


def bounds(proof: Proof) -> list[str]:
    """What was explored, line by line."""
    lines = [f"{part.what}: {_covered(part.tally, proof.seed)}" for part in proof.parts]
    if proof.found is not None:
        last = proof.parts[-1]
        ran = counted(last.tally.ran + last.tally.random, "schedule")
        lines[-1] = f"{last.what}: a violation after {ran}; the others were not explored"
    return lines


def _covered(tally: Tally, seed: int) -> str:
    if not tally.ran:
        after = tally.first + tally.random
        return (
            f"{counted(tally.random, 'random schedule')} with up to 6 failures, no proof beyond "
            f"them; --seed {seed} --from {after} goes on"
        )
    failures = counted(tally.faults, "failure")
    if not tally.is_complete:
        return (
            f"{tally.covered:,} of at least {counted(tally.total, 'schedule')} with at most "
            f"{failures}; stopped by the time limit"
        )
    equal = f", {tally.equal:,} of them by a state explored already" if tally.equal else ""
    which = "the usual course" if tally.covered == 1 else f"all {tally.covered:,} schedules"
    return f"{which} with at most {failures}{equal}; not proved beyond"


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def speed(proof: Proof) -> str:
    """How fast it went."""
    ran = sum(part.tally.ran + part.tally.random for part in proof.parts)
    covered = sum(part.tally.covered + part.tally.random for part in proof.parts)
    per_s = covered / max(proof.took_s, 1e-9)
    took = in_words(proof.took_s)
    return f"{counted(covered, 'schedule')} ({ran:,} run) in {took}, {per_s:,.0f} a second"


def story(told: Sequence[Told]) -> list[str]:
    """A run as a timeline; failures are marked."""
    wide = max((len(line.who) for line in told), default=0)
    return [
        f"{_moment(line.at):>10} {'✗' if line.is_fault else ' '} {line.who:<{wide}}  {line.what}"
        for line in told
    ]


def abridged(lines: Sequence[str]) -> list[str]:
    """A story that goes on and on, with its middle left out."""
    left_out = len(lines) - STORY_BEGINS - STORY_ENDS
    if left_out <= STORY_ENDS:
        return list(lines)
    said = f"{'':>10}   … {left_out:,} further lines …"
    return [*lines[:STORY_BEGINS], said, *lines[-STORY_ENDS:]]


def _time(nth: int) -> str:
    return "" if nth == 1 else f" (time {nth})"


def _moment(at: float) -> str:
    return f"+{at:.2f}s" if at < 120 else f"+{in_words(at)}"


def violation(found: Found) -> list[str]:
    """What does not hold, the failures that lead there, and the story."""
    lines = [f"VIOLATED  {found.rule}"]
    lines += [f"          {detail}" for detail in found.details[:20]]
    count = len(found.plan)
    lines += ["", f"It takes {counted(count, 'failure') if count else 'no failure'}:"]
    lines += [
        f"  {n}. {what}{_time(nth)}: {way}" for n, (what, nth, way) in enumerate(found.steps, 1)
    ]
    return [*lines, "", *abridged(story(found.story)), f"{'':>10} ✗ {found.rule}"]


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A violation as a file: all that is needed to see it again."""

    rule: str
    plugins: list[str]
    starts: list[dict[str, Any]]
    schedule: list[Remembered]
    seed: int
    details: list[str]
    story: list[str]
    horizon_s: float = HORIZON_S


def saved(proof: Proof, found: Found, plugins: Sequence[str]) -> Saved:
    return Saved(
        rule=found.rule,
        plugins=list(plugins),
        starts=[
            {"type": envelope.type, "data": json.loads(bytes(envelope.data))}
            for _, envelope in found.starts
        ],
        schedule=found.steps,
        seed=proof.seed,
        details=found.details,
        story=story(found.story),
        horizon_s=proof.horizon_s,
    )


_TEST = '''"""Reproduces a violation that `outboxd prove` found: {rule}."""

from outboxd.testing import followed

PLUGINS = {plugins}
STARTS = {starts}
SCHEDULE = {schedule}


def test_{name}() -> None:
    """{rule}"""
    followed(PLUGINS, STARTS, SCHEDULE{horizon})
'''


def as_test(what: Saved) -> str:
    """A pytest module that fails as long as the violation is there."""
    words = "".join(c if c.isalnum() else "_" for c in what.rule.lower())
    name = "_".join(word for word in words.split("_") if word)[:70]
    return _TEST.format(
        rule=" ".join(what.rule.split()).replace('"', "'").replace("\\", "/"),
        plugins=_pretty(what.plugins),
        starts=_pretty([(start["type"], start["data"]) for start in what.starts]),
        schedule=_pretty([tuple(step) for step in what.schedule]),
        name=name,
        horizon="" if what.horizon_s == HORIZON_S else f", horizon_s={what.horizon_s:g}",
    )


def _pretty(values: Sequence[Any]) -> str:
    return "[" + "".join(f"\n    {value!r}," for value in values) + ("\n]" if values else "]")


def write(proof: Proof, found: Found, plugins: Sequence[str], folder: Path) -> tuple[Path, Path]:
    """Writes the file with the schedule and the test; returns their paths."""
    what = saved(proof, found, plugins)
    data = folder / "violation.json"
    test = folder / "test_violation.py"
    folder.mkdir(parents=True, exist_ok=True)
    data.write_bytes(msgspec.json.format(msgspec.json.encode(what), indent=2) + b"\n")
    test.write_text(as_test(what))
    return data, test


def document(proof: Proof) -> dict[str, Any]:
    """The proof for ``--json``."""
    return {
        **document_of(proof.found),
        "seed": proof.seed,
        "took_s": round(proof.took_s, 3),
        "parts": [_part(part) for part in proof.parts],
    }


def document_of(found: Found | None) -> dict[str, Any]:
    """What was found, for ``--json``."""
    return {"holds": found is None, "violation": None if found is None else _violation(found)}


def _violation(found: Found) -> dict[str, Any]:
    return {
        "rule": found.rule,
        "details": found.details,
        "schedule": [{"at": what, "time": nth, "way": way} for what, nth, way in found.steps],
        "story": [msgspec.to_builtins(line) for line in found.story],
    }


def _part(part: Part) -> dict[str, Any]:
    return {"what": part.what, **msgspec.to_builtins(part.tally), "covered": part.tally.covered}
