"""``outboxd audit``: conservation and the stated invariants, proved on the data as it is."""

from __future__ import annotations

import textwrap

import click

from outboxd.monitor import InvariantResult, Monitor, Violation, invariants
from outboxd.settings import Settings

from . import exits
from .hosting import chosen, registry_of
from .options import with_output, with_settings
from .output import GLYPHS, Output, counted


@click.command()
@click.argument("plugins", metavar="[PLUGIN]...", nargs=-1)
@with_settings
@with_output
def audit(settings: Settings, out: Output, plugins: tuple[str, ...]) -> None:
    """Prove that nothing was lost, and check invariants.

    Conservation: per sender and receiver, what was sent is accepted or still in the outbox, and
    what was accepted is done, waiting, retrying, dead or discarded. Invariants: what the plugins
    state.

    \b
      outboxd audit                  conservation; invariants of ./plugins, if any
      outboxd audit plugins shop.py  with the invariants of these

    It reads only, and may run beside the daemon. Exit 1 if anything is violated.
    """
    with Monitor(settings.data) as monitor:
        violations = monitor.audit()
    names = chosen(plugins, settings, is_needed=False)
    results = invariants(settings.data, registry_of(names)) if names else []
    if out.is_json:
        out.document({"violations": violations, "invariants": results})
    else:
        _page(out, violations, results)
        if not names:
            out.say("no plugins are named, so no invariants were checked")
    if violations or any(result.state in ("violated", "failed") for result in results):
        raise exits.Stop(exits.FAILED)


def _page(out: Output, violations: list[Violation], results: list[InvariantResult]) -> None:
    if violations:
        _mark(out, "violated", f"conservation: {counted(len(violations), 'violation')}")
    else:
        _mark(out, "holds", "conservation: what was sent is accepted or in an outbox,")
        out.line("    and what was accepted is done, waiting, retrying, dead or discarded")
    for violation in violations:
        _indented(out, violation.text)
        if violation.ids and violation.rule == "received":
            _indented(out, f"in the inbox and a letter: {', '.join(violation.ids)}")
    for result in results:
        said = f" (skipped: {', '.join(result.sentences)})" if result.state == "skipped" else ""
        _mark(out, result.state, f"{result.participant}: {result.text}{said}")
        if result.state in ("violated", "failed"):
            for sentence in result.sentences:
                _indented(out, sentence)


def _mark(out: Output, state: str, text: str) -> None:
    glyph, colour = GLYPHS[state]
    word = "" if state in ("holds", "skipped") else f" {state.upper()}"
    head = out.painted(f"{glyph}{word}", colour)
    lines = textwrap.wrap(text, max(40, out.width - 4), break_on_hyphens=False)
    out.line(f"  {head} {lines[0]}")
    for line in lines[1:]:
        out.line(f"    {line}")


def _indented(out: Output, text: str) -> None:
    width = max(40, out.width)
    for line in textwrap.wrap(text, width - 6, break_on_hyphens=False, break_long_words=False):
        out.line(f"      {line}")
