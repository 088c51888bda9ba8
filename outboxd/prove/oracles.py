"""What must hold, whatever went wrong: the plugins' invariants and outboxd's own promises."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from outboxd.errors import CodeChanged, Retry
from outboxd.message import Envelope, decode_envelope, in_stream
from outboxd.store import journal
from outboxd.store.reading import counting

from . import journals, replaying

if TYPE_CHECKING:
    from .cast import Check
    from .node import Node
    from .world import World


PATIENCE = 9
"""Failures of one undo by its own doing; then it will not succeed later either."""


class Violated(BaseException):
    """Something does not hold. ``details``: the rows or ids that show it."""

    def __init__(self, rule: str, details: Sequence[str]) -> None:
        super().__init__(rule)
        self.rule = rule
        self.details = list(details)


def _act(node: Node, envelope: Envelope, name: str) -> tuple[str, str, str]:
    """What is done outside for one message, on whatever attempt."""
    return node.name, envelope.undoes or envelope.id, f"{envelope.kind} {name}"


class Oracles:
    """Watches one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._handled: dict[tuple[str, str], int] = {}
        self._last: dict[tuple[str, str, str, str | None], tuple[int, str]] = {}
        self._keys: dict[tuple[str, str, str], set[Any]] = defaultdict(set)
        self._recorded: set[tuple[str, str, str]] = set()
        self._acted: set[str] = set()
        self._begun: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._journal: dict[str, int] = {}

    # While it runs.

    def committed(self, node: Node) -> None:
        """A transaction has committed. Raises Violated."""
        for message_id in node.ended:
            envelope = node.ran.pop(message_id, None)
            if envelope is not None:
                self.count(node, envelope)
        node.ended.clear()
        node.ran.clear()
        if node.has_sagas:
            self._ended_rightly(node)
        for check in self._world.cast.checks_after(node.name):
            self.ask(check)

    def _ended_rightly(self, node: Node) -> None:
        """A saga does not end before its undos are answered."""
        found = node.rows(
            "SELECT u.saga || ': ' || u.name FROM outboxd_undo u JOIN outboxd_saga s "
            "ON s.id = u.saga WHERE u.state = 'sent' AND s.ended_at IS NOT NULL"
        )
        if found:
            raise Violated("a saga ended before its undo was answered", [row[0] for row in found])

    def check(self, when: str) -> None:
        """The plugins' invariants. Raises Violated."""
        for check in self._world.cast.checks:
            if check.spec.when == when:
                self.ask(check)

    def ask(self, check: Check) -> None:
        """One invariant. Raises Violated."""
        rule = f"{check.participant}: {check.spec.text}"
        try:
            found = list(check.spec.fn(check.db))
        except Exception as err:
            raise Violated(rule, [f"the invariant itself raised {err!r}"]) from err
        if found:
            raise Violated(rule, found)

    def acted(self, node: Node, envelope: Envelope, name: str, key: Any) -> None:
        """An effect has acted outside. Raises Violated where a retry uses another key, or none.

        What has a fake of its own may be repeated without a key: the fake knows what that does.
        """
        act = _act(node, envelope, name)
        if act in self._recorded:
            raise Violated(
                f"{node.name} repeats {name!r} although its result is recorded", [envelope.id]
            )
        self._acted.add(envelope.id)
        keys = self._keys[act]
        if key is None and keys and not node.has_fake:
            raise Violated(
                f"{node.name} repeats {name!r} for one message without an idempotency key",
                [f"{envelope.id}: pass ctx.idempotency_key on, or let a fake say what it does"],
            )
        keys.add(key)
        if len(keys) > 1:
            raise Violated(
                f"{node.name} repeats {name!r} for one message with another idempotency key",
                [f"{envelope.id}: {', '.join(sorted(map(repr, keys)))}"],
            )

    def refused(self, envelope: Envelope) -> None:
        """A handler has said no: that is to say that nothing was done."""
        self._acted.discard(envelope.id)

    def recorded(self, node: Node, envelope: Envelope, name: str) -> None:
        """What an effect learned outside is committed: from now on it is not asked again."""
        self._recorded.add(_act(node, envelope, name))

    def began(self, envelope: Envelope) -> None:
        """An effect was begun: from now on nobody knows whether it acted, until it says so."""
        self._begun.add(envelope.id)

    def failed(self, envelope: Envelope, error: Exception) -> None:
        """A handler has failed by itself. An undo is tried for a day: long enough to be sure."""
        if not envelope.is_undo or isinstance(error, Retry):
            return
        self._failures[envelope.id] += 1
        if self._failures[envelope.id] > PATIENCE:
            raise Violated(
                f"the undo {envelope.type} fails again and again, though nothing hurts it",
                [f"{envelope.id}: {type(error).__name__}: {error}"],
            )

    @property
    def memory(self) -> object:
        """What it remembers, for comparison: on it depends what would be a violation later."""
        return (
            frozenset(self._handled.items()),
            frozenset(self._last.items()),
            frozenset((step, frozenset(keys)) for step, keys in self._keys.items()),
            frozenset(self._recorded),
            frozenset(self._acted),
            frozenset(self._begun),
        )

    def has_moved(self, node: Node) -> bool:
        """Whether a saga of ``node`` has a new row in its journal."""
        if not node.has_sagas:
            return False
        count = node.rows("SELECT COUNT(*) FROM outboxd_journal")[0][0]
        before, self._journal[node.name] = self._journal.get(node.name, 0), count
        return bool(count != before)

    def cancellable(self, node: Node) -> list[str]:
        return [
            saga
            for (saga,) in node.rows(
                "SELECT id FROM outboxd_saga WHERE state IN ('running', 'stuck') "
                "AND is_forward = 0 AND ending IS NULL AND ended_at IS NULL"
            )
        ]

    def has_started(self, node: Node, envelope: Envelope) -> bool:
        """Whether a start from outside has been committed."""
        found = node.rows("SELECT 1 FROM outboxd_seen WHERE id = ?", envelope.id)
        return bool(found)

    def open_sagas(self) -> list[str]:
        """A sentence for each saga that has not ended."""
        return [
            f"{saga} is {state} at {step or 'its first step'}"
            for node in self._world.nodes.values()
            for saga, state, step in node.rows(
                "SELECT id, state, step FROM outboxd_saga WHERE ended_at IS NULL"
            )
        ]

    def count(self, node: Node, envelope: Envelope) -> None:
        """A message was carried out. Raises Violated if that happened before, or out of order."""
        key = (node.name, envelope.id)
        self._handled[key] = self._handled.get(key, 0) + 1
        if self._handled[key] > 1:
            raise Violated(f"{node.name} handled one message twice", [envelope.id])
        if envelope.seq and not envelope.is_undo and envelope.id not in self._world.replayed:
            lane = (node.name, envelope.source, envelope.kind, envelope.subject)
            last, last_id = self._last.get(lane, (0, ""))
            if envelope.seq < last:
                raise Violated(
                    f"{node.name} handled messages of one key out of order",
                    [f"{envelope.id} (number {envelope.seq}) after {last_id} (number {last})"],
                )
            self._last[lane] = (envelope.seq, envelope.id)

    # At its end.

    def at_the_end(self) -> None:
        """All is quiet. Raises Violated."""
        self.check("always")
        found = self.open_sagas()
        if found:
            raise Violated("a saga has not ended, and nothing more will happen", found)
        self._nothing_left()
        self._conserved()
        self._all_taken()
        self._all_fired()
        for node in self._world.nodes.values():
            for saga in node.rows("SELECT id, name, state FROM outboxd_saga"):
                self._undone_rightly(node, *saga)
                self._told_rightly(node, saga[0])
        self.check("idle")
        self._outside()

    def _outside(self) -> None:
        """What the plugins' fakes have to say."""
        for node in self._world.nodes.values():
            if not node.has_fake:
                continue
            found = list(getattr(self._world.resource(node.name), "violations", list)())
            if found:
                raise Violated(f"{node.name}: the world outside is not as it should be", found)

    def _nothing_left(self) -> None:
        left = [
            f"{node.name}: {count} {what}"
            for node in self._world.nodes.values()
            for what, table in (
                ("rows in the outbox", "outboxd_outbox"),
                ("rows in the inbox", "outboxd_inbox"),
                ("delayed messages", "outboxd_delayed"),
                ("open calls", "outboxd_call"),
            )
            if (count := node.rows(f"SELECT COUNT(*) FROM {table}")[0][0])
        ]
        pending = self._world.broker.pending()
        left += [f"{pending} pending entries on the broker"] if pending else []
        if left:
            raise Violated("something is left over", left)

    def _conserved(self) -> None:
        """Per sender and receiver, what was sent was accepted, and is accounted for."""
        wrong = []
        for node in self._world.nodes.values():
            accounts = counting.accounts(node.connection)
            wrong += [
                f"{node.name}: of {account.sender} {account.kind} {account.surplus:+d}"
                for account in accounts
                if account.surplus
            ]
            held = {
                account.sender: account.accepted for account in accounts if account.kind == "in"
            }
            for sender in self._world.nodes.values():
                sent = sender.rows(
                    "SELECT last FROM outboxd_stream WHERE stream = ?", in_stream(node.name)
                )
                if sent and held.get(sender.name, 0) != sent[0][0]:
                    wrong.append(
                        f"{sender.name} sent {sent[0][0]} to {node.name}, "
                        f"which accepted {held.get(sender.name, 0)}"
                    )
        if wrong:
            raise Violated("messages are not conserved", wrong)

    def _all_taken(self) -> None:
        """What strangers put into streams was taken, unless the broker lost it: only it had it."""
        found = [
            f"{message_id} to {name}"
            for name, message_id in self._world.owed
            if not self._world.nodes[name].rows(
                "SELECT 1 FROM outboxd_seen WHERE id = ?", f"prove/{message_id}"
            )
        ]
        if found:
            raise Violated("what was put into a stream was never taken", found)

    def _all_fired(self) -> None:
        """What a schedule counts as fired was carried out, unless an operator discarded it."""
        for node in self._world.nodes.values():
            for name, fired in node.rows("SELECT name, fired FROM outboxd_schedule"):
                for number in range(1, fired + 1):
                    message_id = f"{node.name}/every/{name}#{number}"
                    if (node.name, message_id) not in self._handled and not node.rows(
                        "SELECT 1 FROM outboxd_dead WHERE id = ?", message_id
                    ):
                        raise Violated("a schedule fired, and nothing came of it", [message_id])

    def _told_rightly(self, node: Node, saga_id: str) -> None:
        """What the journal of a saga shows."""
        rows = journal.rows(node.connection, saga_id)
        early = list(journals.fired_early(rows))
        if early:
            raise Violated("a timer fired before its time", early)
        if journals.undone_first_first(rows):
            raise Violated("what was done last was not undone first", [saga_id])

    def _undone_rightly(self, node: Node, saga_id: str, name: str, state: str) -> None:
        """Undo exactly for what was done, or may have been; and the journal still fits."""
        try:
            calls = replaying.calls_of(node, self._world.cast.registry, saga_id)
        except CodeChanged as err:
            raise not_the_same(saga_id, err) from err
        for call in calls:
            done = self._handled.get((call.to, call.message_id), 0) or self._has_started(call)
            done = done or int(call.message_id in self._acted)
            undone = self._handled.get((call.to, f"{call.message_id}~undo"), 0)
            must = call.has_undo and done and (state != "completed" or call.end != "ok")
            may = call.has_undo and (must or (call.message_id in self._begun and call.end != "ok"))
            what = f"{call.name} (step {call.pos}) of {saga_id}, which ended {state}"
            if must and not undone:
                raise Violated("what was done was not undone", [what])
            if undone and not may and not (state != "completed" and done):
                raise Violated("what was not done, or should stay, was undone", [what])

    def _has_started(self, call: replaying.MadeCall) -> int:
        """Whether it has started a saga that has completed: one that undid itself did nothing."""
        node = self._world.nodes.get(call.to)
        if node is None or self._world.cast.registry.saga_started_by(call.to, call.name) is None:
            return 0
        starts = node.rows("SELECT start FROM outboxd_saga WHERE state = 'completed'")
        return int(any(decode_envelope(body).id == call.message_id for (body,) in starts))


def not_the_same(saga_id: str, error: CodeChanged) -> Violated:
    """A saga's code asks for something else when it is run again from its journal."""
    place = "".join(getattr(error, "__notes__", ()))
    return Violated(
        f"{saga_id} is not deterministic: {error}",
        [
            f"{place}run again from its journal, its code asks for something else than it did",
            "saga.now() and saga.uuid() stay the same; time, chance, ids and files do not",
        ],
    )
