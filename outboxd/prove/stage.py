"""The world of one test: what goes wrong is what its script says, and everything is written down.

Nobody helps: letters stay until the test, or the check at its end, replays them.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import msgspec
from msgspec import UNSET

from outboxd.batch import Outcome
from outboxd.clock import in_words
from outboxd.errors import CodeChanged, Reject
from outboxd.message import Envelope, decode_envelope
from outboxd.store.control import Request
from outboxd.stream import Marker, Published

from . import replaying
from .broker import SimStream
from .cast import Cast, Check
from .effect import Effect
from .nature import Nature
from .node import Node, said
from .operator import PATIENCE, Operator
from .oracles import Oracles, Violated, not_the_same
from .script import Script
from .world import World

HORIZON_S = 10 * 365 * 86_400.0


class Recorder(SimStream):
    """Keeps what was published, each message once; ``fresh``: what came last."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.sent: list[Envelope] = []
        self.fresh: list[Envelope] = []
        self._known: set[tuple[str, str]] = set()

    async def publish(
        self,
        owner: str,
        batch: Sequence[tuple[str, bytes]],
        marker: Marker,
        watch: Sequence[tuple[str, str]],
    ) -> Published:
        self.fresh = [decode_envelope(body) for _, body in batch]
        for envelope in self.fresh:
            if (envelope.source, envelope.id) not in self._known:
                self._known.add((envelope.source, envelope.id))
                self.sent.append(envelope)
        return await super().publish(owner, batch, marker, watch)


class Watching(Oracles):
    """Keeps what was handled, too; asks no invariant that reads a participant which is not there.

    ``present``: those that are hosted, and not stood in for.
    """

    def __init__(self, world: World, present: Set[str]) -> None:
        super().__init__(world)
        self.handled: list[tuple[str, Envelope]] = []
        self._present = present

    def ask(self, check: Check) -> None:
        try:
            super().ask(check)
        except Violated:
            if check.reads <= self._present:
                raise

    def count(self, node: Node, envelope: Envelope) -> None:
        self.handled.append((node.name, envelope))
        super().count(node, envelope)


class Assistant(Operator):
    """Does what the test asks for, and replays what died of it once ``is_helping``.

    ``replays``: a saga is forgotten after each move, so that the next one replays its journal.
    """

    def __init__(self, world: Stage, replays: bool) -> None:
        super().__init__(world)
        self.is_helping = False
        self._stage = world
        self._evicts = replays

    def intervene(self, node: Node) -> None:
        for (saga_id,) in node.rows(
            "SELECT id FROM outboxd_saga WHERE state = 'stuck' AND stuck = 'code changed'"
        ):
            try:
                replaying.calls_of(node, self._stage.cast.registry, saga_id)
            except CodeChanged as err:
                raise not_the_same(saga_id, err) from err
        if self._evicts and node.is_up:
            node.delivery.conductor.book.forget_all()

    def ask(self, node: Node, kind: str, target: str = "", args: Any = None) -> None:
        """An operator's request. Raises Refused."""
        self._requests += 1
        request = Request(
            id=f"op-{self._requests}",
            at=self._stage.clock.at,
            kind=kind,
            participant=node.name,
            target=target,
            args=msgspec.json.encode(args or {}),
            who="test",
            reason="test",
        )
        self._stage.tell("operator", f"{kind} {target or args} at {node.name}")
        self._stage.with_(node, lambda: node.apply(request))

    def look(self) -> bool:
        if not self.is_helping:
            return False
        acted = False
        for node in self._stage.nodes.values():
            for n, message_id in node.rows(
                "SELECT n, id FROM outboxd_dead WHERE state = 'dead' ORDER BY n"
            ):
                if message_id in self._stage.hurt and self._tries(node, f"d-{n}"):
                    self.ask(node, "dead.replay", args={"letters": [n]})
                    acted = True
            for (saga_id,) in node.rows(
                "SELECT id FROM outboxd_saga WHERE state = 'stuck' AND stuck = 'forward'"
            ):
                if self._tries(node, saga_id):
                    self.ask(node, "saga.retry", saga_id)
                    acted = True
        return acted

    def _tries(self, node: Node, name: str) -> bool:
        """Whether it is worth another try."""
        count = self._replays[node.name, name] = self._replays.get((node.name, name), 0) + 1
        return count <= PATIENCE


class Scripted(Nature):
    """``values`` and ``refusals``: what the handler of each message returned, or why it said no."""

    def __init__(self, world: Stage) -> None:
        super().__init__(world)
        self.values: dict[str, Any] = {}
        self.refusals: dict[str, str] = {}
        self._stage = world

    def may_refuse(self, envelope: Envelope) -> bool:
        return envelope.kind == "command"

    def refusal(self) -> Reject:
        error = self._error()
        return error if isinstance(error, Reject) else super().refusal()

    def failure(self) -> Exception:
        return self._error() or super().failure()

    def away_until(self) -> tuple[float, str]:
        rule = self._stage.script.last
        span_s = 0.0 if rule is None else rule.span_s
        return self._stage.clock.at + span_s, f"its reader is away for {in_words(span_s)}"

    def answer(self, effect: Effect, name: str) -> Any:
        found = self._stage.script.answer(effect.node.name, name)
        if found is None:
            return UNSET
        if found.error is None:
            return found.value
        envelope = effect.started.envelope
        self._stage.hurt.add(envelope.id)
        self._stage.tell(effect.node.name, f"{name!r} for {said(envelope)}: {found.error!r}", True)
        raise found.error

    def returned(self, envelope: Envelope, value: Any) -> None:
        self.values[envelope.id] = value
        self.refusals.pop(envelope.id, None)

    def noted(self, node: Node, envelope: Envelope, error: Exception) -> None:
        if isinstance(error, Reject):
            self.refusals[envelope.id] = error.reason
        if error is not self._error():
            super().noted(node, envelope, error)

    def heard(self, node: Node, outcome: Outcome) -> None:
        """A saga's own code has failed: nobody tests for that, so it ends here."""
        for event, facts in outcome.notes:
            if event != "attempt_failed" or str(facts["error"]).startswith("CodeChanged"):
                continue
            rows = node.rows("SELECT body FROM outboxd_inbox WHERE id = ?", facts["id"])
            if rows and node.delivery.routing.moves_saga(decode_envelope(rows[0][0])):
                raise Violated(f"a saga of {node.name} fails: {facts['error']}", _trace(node))

    def _error(self) -> Exception | None:
        return None if self._stage.script.last is None else self._stage.script.last.error


class Stage(World):
    """A world that goes on when the test says so."""

    most_steps = 30_000
    most_firings = None

    def __init__(self, cast: Cast, *, replays: bool, present: Set[str]) -> None:
        self.script = Script()
        super().__init__(cast, (), self.script, horizon_s=HORIZON_S)
        self.recorder = self.broker = Recorder(self.clock)
        self.watching = self.oracles = Watching(self, present)
        self.assistant = self.operator = Assistant(self, replays)
        self.scripted = self.nature = Scripted(self)

    def node(self, name: str) -> Node:
        """A participant. Raises AssertionError once the simulation has ended."""
        self.must_be_on()
        return self.nodes[name]

    def must_be_on(self) -> None:
        """Raises AssertionError once the simulation has ended."""
        if self.cast.world is not self:
            raise AssertionError("the simulation has ended: ask within its with block")

    def start(self, participant: str, envelope: Envelope) -> None:
        """A message from outside, taken as soon as things go on."""
        self.starts.append((participant, envelope))


def _trace(node: Node) -> list[str]:
    """The end of the traceback of the last failed attempt."""
    rows = node.rows("SELECT traceback FROM outboxd_attempt ORDER BY at DESC, n DESC LIMIT 1")
    return str(rows[0][0]).rstrip().splitlines()[-6:] if rows else []
