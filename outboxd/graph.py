"""Code → graph: which handler, saga or schedule takes which message, and which ones its code names.

What is taken is certain: the registry knows it. What is sent is read off: the message classes that
a function's code names, itself or by functions of its own module. One that is named for another
purpose is in the graph too; one that is found only at run time is not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import msgspec

from .message import Command, Event, Message
from .registry import Registry


class Place(msgspec.Struct, frozen=True):
    """A handler, saga or schedule: ``on`` is what it takes, ``names`` the messages in its code.

    ``receives``: what a saga takes further on.
    """

    participant: str
    kind: str
    name: str
    on: str
    names: tuple[str, ...]
    receives: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.participant}.{self.name}"


class Graph(msgspec.Struct, frozen=True):
    """All places, what kind each message is, and sentences on what does not fit together."""

    places: tuple[Place, ...]
    messages: dict[str, str]
    warnings: tuple[str, ...]

    def takers(self, message: str) -> list[Place]:
        return [place for place in self.places if message in (place.on, *place.receives)]

    def senders(self, message: str) -> list[Place]:
        return [place for place in self.places if message in place.names]


def graph_of(registry: Registry) -> Graph:
    """The static graph of the hosted participants."""
    named: dict[str, type[Message]] = dict(registry.messages)
    places = tuple(sorted(_places(registry, named), key=lambda p: (p.participant, p.name)))
    used = {name for p in places for name in (p.on, *p.names, *p.receives)}
    kinds = {
        name: "event" if issubclass(message, Event) else "command"
        for name, message in sorted(named.items())
        if name in used
    }
    graph = Graph(places, kinds, ())
    return msgspec.structs.replace(graph, warnings=(*_loose(graph, named), *_cycles(graph)))


def _places(registry: Registry, named: dict[str, type[Message]]) -> Iterator[Place]:
    def place(
        participant: str,
        kind: str,
        fn: Callable[..., Any],
        on: str,
        receives: tuple[str, ...] = (),
    ) -> Place:
        found = [
            message
            for message in _messages_in(fn)
            if message.__name__ not in (on, *receives) and _may_send(participant, message)
        ]
        named.update({message.__name__: message for message in found})
        names = tuple(sorted({message.__name__ for message in found}))
        return Place(participant, kind, fn.__name__, on, names, receives)

    for handler in registry.handlers.values():
        yield place(handler.participant, "handler", handler.spec.fn, handler.type_name)
    for saga in registry.sagas.values():
        receives = tuple(message.__name__ for message in saga.spec.receives)
        yield place(saga.participant, "saga", saga.spec.fn, saga.type_name, receives)
    for participant, plans in registry.schedules.items():
        for plan in plans.values():
            yield place(participant, "schedule", plan.fn, plan.schedule.text)


def _may_send(participant: str, message: type[Message]) -> bool:
    """Commands are anybody's to send, events only their source's to publish."""
    return issubclass(message, Command) or message.__outboxd__.source == participant


def _messages_in(fn: Callable[..., Any]) -> list[type[Message]]:
    """The message classes that a function's code names, itself or by functions of its module."""
    found: dict[type[Message], None] = {}
    queue, seen = [inspect.unwrap(fn)], set()
    while queue:
        one = queue.pop()
        if one in seen or not isinstance(one, FunctionType):
            continue
        seen.add(one)
        for value in _values_of(one):
            if isinstance(value, type) and issubclass(value, (Command, Event)):
                found[value] = None
            elif isinstance(value, FunctionType) and value.__module__ == fn.__module__:
                queue.append(value)
    return list(found)


def _values_of(fn: FunctionType) -> Iterator[Any]:
    """What the names in its code stand for, as far as they stand for something now."""
    names = set(_names_in(fn.__code__))
    values = [fn.__globals__[name] for name in names if name in fn.__globals__]
    for cell in fn.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not bound yet
            continue
    yield from values
    for module in [value for value in values if isinstance(value, ModuleType)]:
        yield from (getattr(module, name) for name in names if hasattr(module, name))


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names_in(inner)


def _loose(graph: Graph, named: dict[str, type[Message]]) -> Iterator[str]:
    """Commands that nobody owns, events that nobody handles or that no code names."""
    hosted = {place.participant for place in graph.places}
    for name, kind in graph.messages.items():
        takers, senders = graph.takers(name), graph.senders(name)
        by = ", ".join(place.id for place in senders)
        spec = named[name].__outboxd__
        if kind == "command" and not takers:
            yield f"nobody here owns {name}, which {by} names: it belongs to {spec.to!r}"
        elif kind == "event" and not takers:
            yield f"nobody here handles {name}, which {by} names"
        elif kind == "event" and not senders and spec.source in hosted:
            by = ", ".join(place.id for place in takers)
            yield f"{by} handles {name}, which no code of {spec.source} names"


def _cycles(graph: Graph) -> Iterator[str]:
    """Places that come back to themselves: each set of such places once."""
    after = {
        place.id: {taker.id for name in place.names for taker in graph.takers(name)}
        for place in graph.places
    }
    reached = {start: _reached(start, after) for start in after}
    told: set[str] = set()
    for start in sorted(after):
        if start in reached[start] and start not in told:
            circle = sorted(other for other in reached[start] if start in reached[other])
            told.update(circle)
            yield f"a cycle: {' → '.join([*circle, circle[0]])}; see that it comes to an end"


def _reached(start: str, after: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    queue = list(after[start])
    while queue:
        one = queue.pop()
        if one not in found:
            found.add(one)
            queue += after[one]
    return found


def as_text(graph: Graph) -> Iterator[str]:
    """A line for each place: what it takes, and the messages that its code names."""
    for place in graph.places:
        says = f" → {', '.join(place.names)}" if place.names else ""
        on = ", ".join((place.on, *place.receives))
        yield f"{on} → {place.id} ({place.kind}){says}"


def as_mermaid(graph: Graph) -> Iterator[str]:
    """A Mermaid flowchart: boxes are participants; commands are solid arrows, events dotted."""
    yield "flowchart LR"
    for participant in sorted({place.participant for place in graph.places}):
        yield f'  subgraph {_word(participant)}_["{participant}"]'
        for place in graph.places:
            if place.participant == participant:
                yield f'    {_word(place.id)}["{place.name}<br/>{place.kind}"]'
        yield "  end"
    for name, kind in graph.messages.items():
        arrow = "-->" if kind == "command" else "-.->"
        shape = f'{_word(name)}(["{name}"])'
        yield f"  {shape}"
        for place in graph.senders(name):
            yield f"  {_word(place.id)} {arrow} {_word(name)}"
        for place in graph.takers(name):
            yield f"  {_word(name)} {arrow} {_word(place.id)}"


def _word(text: str) -> str:
    """A Mermaid id; the prefix keeps off its reserved words."""
    return "n_" + "".join(char if char.isalnum() else "_" for char in text)
