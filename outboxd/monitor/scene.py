"""What keeps things from moving: no daemon, no broker, nobody hosted, a store that is not trusted.

A message that lies still is explained by where it lies, and by what is the matter there.
"""

from __future__ import annotations

import msgspec

from outboxd.clock import in_words
from outboxd.message import in_stream
from outboxd.store import meta, pausing
from outboxd.store.inbox import senders
from outboxd.store.reading import messages

from . import daemon as daemons
from .daemon import Daemon
from .files import Files


class Obstacle(msgspec.Struct, frozen=True):
    """``text``: a sentence; ``moves``: the commands that would remove it."""

    text: str
    moves: tuple[str, ...] = ()


class Scene(msgspec.Struct, frozen=True):
    """A data directory at one moment, and the daemon as it said last."""

    files: Files
    now: float
    daemon: Daemon

    @classmethod
    def of(cls, files: Files, now: float) -> Scene:
        return cls(files, now, daemons.read(files.data, now))

    @property
    def is_cut_off(self) -> bool:
        """Whether no answer can come from anywhere: then deadlines do not count."""
        return self.daemon.state == "down" or self.daemon.broker.state == "down"

    def is_running(self, participant: str) -> bool:
        """Whether a process works for a participant, as far as one can tell."""
        return self.daemon.state != "down" and participant in self.daemon.participants

    def at(self, participant: str) -> Obstacle | None:
        """What keeps a participant from doing what it has at hand."""
        return self._no_daemon() or self._not_hosted(participant) or self._paused(participant)

    def between(self, sender: str, receiver: str) -> Obstacle | None:
        """What keeps a message of ``sender`` from being taken by ``receiver``."""
        return (
            self._no_daemon()
            or self._no_broker()
            or self._not_hosted(sender)
            or self._not_hosted(receiver)
            or self._not_trusted(sender, receiver)
            or self._paused(receiver)
            or self._lost(sender, receiver)
        )

    def _no_daemon(self) -> Obstacle | None:
        daemon = self.daemon
        if daemon.state == "down":
            return Obstacle(
                "nothing moves by itself: outboxd does not run on this data directory",
                ("outboxd run",),
            )
        if daemon.state == "silent" and daemon.at is not None:
            age = in_words(self.now - daemon.at.timestamp())
            return Obstacle(f"the daemon (pid {daemon.pid}) has said nothing for {age}")
        return None

    def _no_broker(self) -> Obstacle | None:
        broker = self.daemon.broker
        if broker.state != "down":
            return None
        since = broker.since
        age = "" if since is None else f" for {in_words(self.now - since.timestamp())}"
        return Obstacle(
            f"the broker has been unreachable{age}; it is sent as soon as that is back: "
            f"{broker.error or 'no answer'}"
        )

    def _not_hosted(self, participant: str) -> Obstacle | None:
        hosted = self.daemon.participants
        if participant in hosted:
            return None
        if not self.files.has(participant):
            return Obstacle(
                f"{participant} has no data here: another node hosts it, or nobody does yet"
            )
        return Obstacle(
            f"{participant} does not run: outboxd was started without its plugin "
            f"(it hosts {', '.join(hosted) or 'nobody'})"
        )

    def _paused(self, participant: str) -> Obstacle | None:
        if not self.files.has(participant):
            return None
        with self.files.read(participant) as connection:
            pause = pausing.get(connection)
        if pause is None:
            return None
        age = in_words(self.now - pause.at)
        return Obstacle(
            f"{participant} has been paused for {age} by {pause.who}: {pause.reason}",
            (f"outboxd resume {participant}",),
        )

    def _lost(self, sender: str, receiver: str) -> Obstacle | None:
        """A hole that nothing can fill: one of two stores was restored without the other.

        The sender is read first: what it has settled, the receiver has held since before.
        """
        if not self.files.has(sender) or not self.files.has(receiver):
            return None
        with self.files.read(sender) as connection:
            first = messages.first_in_outbox(connection, in_stream(receiver))
            epoch = meta.get(connection, "epoch")
        with self.files.read(receiver) as connection:
            row = senders(connection).get((sender, "in"))
        if first is None or row is None or row.epoch != epoch or row.accepted + 1 >= first:
            return None
        numbers = f"number {row.accepted + 1}"
        if row.accepted + 2 < first:
            numbers = f"numbers {row.accepted + 1} to {first - 1}"
        return Obstacle(
            f"{receiver} lacks {numbers} of what {sender} has sent to it, and {sender} no longer "
            "has them: one of them was restored from a backup without the other",
            ("outboxd audit",),
        )

    def _not_trusted(self, sender: str, receiver: str) -> Obstacle | None:
        said = f"{receiver} holds back what {sender} sends"
        found = next((p for p in self.daemon.problems if p.startswith(said)), None)
        if found is None:
            return None
        return Obstacle(found.partition("; `outboxd")[0], (f"outboxd trust {sender}",))
