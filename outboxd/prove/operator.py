"""The operator of a simulated world: cancels sagas, stops processes, replays what died."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from outboxd.errors import Refused
from outboxd.store.control import Request

from .choices import Point
from .node import Node
from .oracles import Violated

if TYPE_CHECKING:
    from .world import World

CANCEL = "an operator cancels"
EVICTED = "the process is stopped and started"
DISCARD = "the operator discards it"

PATIENCE = 3
"""Replays of one letter that nothing hurts any more; then it is the plugin that fails."""


class Operator:
    """What people do in one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._requests = 0
        self._replays: dict[tuple[str, str], int] = {}

    @property
    def memory(self) -> object:
        """What they remember, for comparison."""
        return tuple(self._replays.items())

    def intervene(self, node: Node) -> None:
        """After each move of a saga: an operator may cancel it, its memory may go."""
        sagas = self._world.oracles.cancellable(node)
        ways = (*(f"{CANCEL} {saga}" for saga in sagas), EVICTED)
        point = Point(f"{node.name} has moved a saga", ways, "moved", node.name)
        way = self._world.chooser.choose(point)
        if way is None:
            return
        self._world.tell(node.name, way, is_fault=True)
        if way == EVICTED:
            self._world.with_(node, node.restart)
            return
        self.request(node, "saga.cancel", way.removeprefix(f"{CANCEL} "))

    def request(self, node: Node, kind: str, target: str, letters: Sequence[int] = ()) -> None:
        self._requests += 1
        request = Request(
            id=f"op-{self._requests}",
            at=self._world.clock.at,
            kind=kind,
            participant=node.name,
            target=target,
            args=msgspec.json.encode({"letters": list(letters)} if letters else {}),
            who="prove",
            reason="simulated",
        )

        def act() -> None:
            try:
                node.apply(request)
            except Refused as err:
                self._world.tell(node.name, f"refuses {kind} {target}: {err.message}")

        self._world.with_(node, act)
        if node.was_killed:
            self._world.with_(node, act)  # control.db still has it

    def look(self) -> bool:
        """All is quiet: replays what died, as after a fix. False if there is nothing to do."""
        acted = False
        self._world.poisoned.clear()
        for node in self._world.nodes.values():
            for n, message_id, said_type, error in node.rows(
                "SELECT n, id, type, error FROM outboxd_dead WHERE state = 'dead' ORDER BY n"
            ):
                self._on_letter(node, n, message_id, f"{said_type}: {error}")
                acted = True
            for saga_id, kind, detail in node.rows(
                "SELECT id, stuck, detail FROM outboxd_saga WHERE state = 'stuck' "
                "AND stuck NOT IN ('letter', 'undo')"
            ):
                if kind != "forward":
                    raise Violated(f"{saga_id} is stuck: {kind}", str(detail).splitlines()[-6:])
                self._world.tell(node.name, f"an operator retries {saga_id}")
                self._count_replay(node, saga_id, str(detail))
                self.request(node, "saga.retry", saga_id)
                acted = True
        return acted

    def _on_letter(self, node: Node, n: int, message_id: str, error: str) -> None:
        name = f"{node.name}/d-{n}"
        if message_id not in self._world.hurt:
            raise Violated(f"{message_id} became the dead letter {name}", [error])
        self._count_replay(node, name, error)
        self._world.replayed.add(message_id)
        point = Point(f"the operator looks at {name}", (DISCARD,), "letter", node.name)
        way = self._world.chooser.choose(point)
        kind = "dead.replay" if way is None else "dead.discard"
        self._world.tell(
            "operator", f"{'replays' if way is None else 'discards'} {name}", way is not None
        )
        self.request(node, kind, "", [n])

    def _count_replay(self, node: Node, name: str, why: str) -> None:
        count = self._replays[node.name, name] = self._replays.get((node.name, name), 0) + 1
        if count > PATIENCE:
            raise Violated(f"{name} fails again and again, though nothing hurts it any more", [why])
