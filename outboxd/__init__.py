"""outboxd: business workflows across boundaries, eventually correct, on SQLite and Redis Streams.

The data's way, as a drawing; each module's first line names its arrow::

    handler ─► one SQLite transaction ─► relay ─► Redis Stream ─► consumer ─► delivery ─► handler …
   (plugin)    state + inbox + journal   outbox   NAME:in,        reads,      one batch,  (the next
               + fences + outbox         in order NAME:events     then acks   one commit   plugin)

Public names are resolved on first use, so that ``import outboxd`` stays cheap and loads neither
the broker's client nor a database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import CallFailed as CallFailed
    from .errors import Cancelled as Cancelled
    from .errors import ConfigError as ConfigError
    from .errors import NotFound as NotFound
    from .errors import OutboxdError as OutboxdError
    from .errors import Refused as Refused
    from .errors import Reject as Reject
    from .errors import Rejected as Rejected
    from .errors import Retry as Retry
    from .errors import TimedOut as TimedOut
    from .errors import Unavailable as Unavailable
    from .errors import Unrecoverable as Unrecoverable
    from .message import Command as Command
    from .message import Event as Event
    from .message import MessageDeadLettered as MessageDeadLettered
    from .participant import Context as Context
    from .participant import Db as Db
    from .participant import Participant as Participant
    from .participant import Tx as Tx
    from .retry import Policy as Policy
    from .runtime import Runtime as Runtime
    from .saga import Child as Child
    from .saga import Saga as Saga
    from .standalone import Outbox as Outbox

_HOMES = {
    "errors": (
        "CallFailed Cancelled ConfigError NotFound OutboxdError Refused Reject Rejected Retry "
        "TimedOut Unavailable Unrecoverable"
    ),
    "message": "Command Event MessageDeadLettered",
    "participant": "Context Db Participant Tx",
    "retry": "Policy",
    "runtime": "Runtime",
    "saga": "Child Saga",
    "standalone": "Outbox",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'outboxd' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME_OF]
