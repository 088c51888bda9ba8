"""Every exception of outboxd, with the hint that says what to do about it."""

from __future__ import annotations

import math


def plain(said: object) -> str:
    """What user code says, as text that can be stored and sent, whatever it is.

    A file's name may have bytes that are no UTF-8, and an error's own ``__str__`` a bug.
    """
    try:
        text = str(said)
    except Exception as err:
        text = f"<{type(said).__name__}, which raises {type(err).__name__} when it is shown>"
    return text.encode(errors="backslashreplace").decode()


class OutboxdError(Exception):
    """Something outboxd could not do."""

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.hint = hint

    @property
    def message(self) -> str:
        """What went wrong, without the hint."""
        return str(self.args[0])


class ConfigError(OutboxdError):
    """The configuration, a plugin or an argument is wrong (exit code 2)."""


class NotFound(OutboxdError):
    """There is no such thing (exit code 3)."""


class Refused(OutboxdError):
    """The operation cannot apply here and now (exit code 4)."""


class Unavailable(OutboxdError):
    """SQLite or the broker does not answer; the same call may succeed later (exit code 5)."""


class StoreBroken(Unavailable):
    """The database refused to write (full, read-only or damaged): its participant stops."""


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show of a group: a user's error if there is one, else the first."""
    flat: list[BaseException] = []
    queue: list[BaseException] = [errors]
    while queue:
        error = queue.pop(0)
        if isinstance(error, BaseExceptionGroup):
            queue += error.exceptions
        else:
            flat.append(error)
    return next((error for error in flat if isinstance(error, OutboxdError)), flat[0])


# What a handler may raise.


class Reject(Exception):
    """A business "no": rolled back, answered to the saga as ``Rejected``, never retried."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = plain(reason)


class Retry(Exception):
    """Try again, after ``after`` seconds if given; counts as a failed attempt."""

    def __init__(self, reason: str = "asked to be retried", *, after: float | None = None) -> None:
        super().__init__(reason)
        if after is not None and not math.isfinite(after):
            raise ValueError(f"Retry(after={after}): that moment never comes")
        self.after_s = None if after is None else float(after)


class Unrecoverable(Exception):
    """No retry can help: the message becomes a dead letter at once."""


# What a saga's ``await`` may raise; uncaught, each of them unwinds the saga.


class SagaEnd(Exception):
    """Base of what unwinds a saga; nothing else does. ``command``: the call that it ended."""

    def __init__(self, reason: str, command: str = "") -> None:
        super().__init__(reason)
        self.reason = plain(reason)
        self.command = command


class Rejected(SagaEnd):
    """The participant answered no; its transaction was rolled back, so nothing is to undo."""


class TimedOut(SagaEnd):
    """No answer before the deadline: the outcome is unknown, and the call has been closed."""

    def __init__(
        self, command: str = "", timeout_s: float = 0.0, what: str = "was answered"
    ) -> None:
        said = f"{command} was not answered" if what == "was answered" else f"no {command} {what}"
        super().__init__(f"{said} within {timeout_s:g} s", command)
        self.timeout_s = timeout_s


class CallFailed(SagaEnd):
    """The call became a dead letter (``on_dead="fail"``) or its letter was discarded."""


class Cancelled(SagaEnd):
    """An operator or the application cancelled the saga."""

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)


class SagaFailed(SagaEnd):
    """Raised by ``saga.fail(reason)``."""


# What stands between a saga's code and its journal.


class SagaMisuse(Exception):
    """The saga's code did what a saga must not do."""


_SAME_AGAIN = (
    "if nobody has changed it: a saga's code must ask for the same each time, so it uses "
    "saga.now() and saga.uuid() instead of time, datetime.now, random and uuid4"
)


class CodeChanged(Exception):
    """The journal no longer fits the saga's code.

    ``is_content``: it asks for the same step with other content, as code does that is not
    deterministic.
    """

    def __init__(self, pos: int, recorded: str, asked: str, *, is_content: bool = False) -> None:
        said = f"step {pos}: the journal has {recorded}, the code asks for {asked}"
        super().__init__(f"{said}; {_SAME_AGAIN}" if is_content else said)
        self.pos = pos
        self.recorded = recorded
        self.asked = asked
