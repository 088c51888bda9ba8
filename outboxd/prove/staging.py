"""The block of a test in which participants are hosted on the simulator."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from outboxd import plugins as plugins_module
from outboxd.errors import ConfigError
from outboxd.participant import Participant
from outboxd.registry import Registry

from .cast import Cast
from .explore import quiet
from .harness import Failed, Simulation
from .stage import Stage
from .standins import StandIns


def simulated(
    *plugins: Participant | str,
    stand_ins: bool = False,
    replays: bool = True,
    checks: bool = True,
) -> Simulated:
    """Hosts participants, or plugins by name, on the simulator until the block ends.

    ``stand_ins``: whoever the sagas call and is not hosted is stood in for, with made-up replies
    or what ``answers`` says; invariants that read them are not asked. ``replays``: a saga is
    forgotten after each move and rebuilt from its journal for the next, so that code which is not
    deterministic is found. ``checks``: ``check()`` at the end of the block.

        with simulated(orders, payments, inventory) as shop:
            shop.reject_next(AuthorizePayment, "over the limit")
            saga = shop.send(PlaceOrder(order_id="1", cents=999))
            assert saga.state == "compensated"
            assert shop.rows("orders", "SELECT state FROM orders") == [("failed",)]

    Raises ConfigError where the participants cannot be hosted, and AssertionError with the story
    of all that happened where something does not hold.
    """
    names = [plugin for plugin in plugins if isinstance(plugin, str)]
    found = [plugin for plugin in plugins if isinstance(plugin, Participant)]
    registry = Registry([*found, *(plugins_module.load(names) if names else [])])
    if not registry.participants:
        raise ConfigError("simulated() needs participants, or the names of plugins")
    others = StandIns(registry)
    if stand_ins:
        registry = Registry([*registry.participants.values(), *others.participants.values()])
    elif missing := registry.unowned():
        hint = "host its participant too, or write simulated(…, stand_ins=True)"
        raise ConfigError("\n".join([*missing, hint]))
    return Simulated(registry, others, replays, checks)


class Simulated:
    """The block in which participants are hosted on the simulator."""

    def __init__(
        self, registry: Registry, stand_ins: StandIns, replays: bool, checks: bool
    ) -> None:
        self._registry = registry
        self._stand_ins = stand_ins
        self._replays = replays
        self._checks = checks
        self._open = ExitStack()

    def __enter__(self) -> Simulation:
        cast = Cast(self._registry)
        self._open.callback(cast.close)
        self._open.enter_context(quiet())
        present = self._registry.participants.keys() - self._stand_ins.participants.keys()
        stage = Stage(cast, replays=self._replays, present=present)
        self._stage = self._open.enter_context(stage)
        self._simulation = Simulation(self._stage, self._stand_ins)
        return self._simulation

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True  # of pytest: the lines of the test are what counts
        with self._open:
            if isinstance(error, Exception) and not isinstance(error, Failed):
                error.add_note("\n".join(["what happened:", *self._simulation.story()]))
            elif error is None and self._checks:
                self._simulation.check()
                self._simulation.check_script()
