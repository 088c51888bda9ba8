"""``outboxd send``: a message from outside, durable before the command returns."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec

from outboxd import operate
from outboxd.clock import seconds
from outboxd.errors import ConfigError, Refused
from outboxd.monitor import Monitor, SagaDetail
from outboxd.settings import Settings
from outboxd.store.control import Request

from . import exits
from .actions import QUEUED, pending_text, settled, shown
from .options import with_data, with_output, with_settings
from .output import Output
from .watching import POLL_S, until

START_S = 5.0
"""How long a message waits for a daemon that begins on a fresh directory."""


@click.command()
@click.argument("type_name", metavar="TYPE")
@click.argument("payload", metavar="[JSON|@FILE|-]", required=False)
@click.option("--key", help="The message's key; it may stand for the field in the JSON.")
@click.option("--id", "message_id", help="Makes it idempotent: the same again is no second one.")
@click.option("--wait", is_flag=True, help="Until the saga that it starts has ended.")
@click.option("--timeout", default="60s", show_default=True, help="How long --wait waits.")
@with_settings
@with_output
def send(
    settings: Settings,
    out: Output,
    type_name: str,
    payload: str | None,
    key: str | None,
    message_id: str | None,
    timeout: str,
    *,
    wait: bool,
) -> None:
    """Send a message to the participant that owns its TYPE.

    \b
      outboxd send PlaceOrder '{"order_id": "10431", "cents": 4990}'
      outboxd send PlaceOrder @order.json --id order-10431
      jq -c . order.json | outboxd send PlaceOrder -
      outboxd send PlaceOrder @order.json --wait

    It is durable when the command returns, and prints the message's id. While outboxd is down it is
    queued. --wait prints the saga's result, and exits 1 unless it completed.
    """
    timeout_s = seconds(timeout)
    said = _payload(payload)
    _until_known(settings, out)
    request = operate.send(settings.data, type_name, said, key=key, message_id=message_id)
    request = settled(settings, [request])[0]
    if request.state == "refused":
        raise Refused(request.result)
    if wait:
        _wait(settings, out, request, timeout_s)
        return
    if out.is_json:
        out.document(shown(request))
    else:
        out.line(msgspec.json.decode(request.args)["id"])
    if request.state == "pending":
        out.say(pending_text(settings))
    else:
        out.say(f"accepted by {request.participant}")


def _until_known(settings: Settings, out: Output) -> None:
    """`run` may have been started a moment ago; what can be sent is known when it has begun.

    A directory in which it never ran takes nothing: the name may be mistyped, and whatever was
    queued there would wait for ever.
    """
    ends_at = time.monotonic() + START_S
    has_said = False
    while not operate.is_known(settings.data) and time.monotonic() < ends_at:
        if not has_said:
            out.say(f"waiting for outboxd to start on {settings.data}")
            has_said = True
        time.sleep(POLL_S)


def _payload(said: str | None) -> bytes:
    if said is None:
        return b""
    if said == "-":
        return sys.stdin.buffer.read()
    if not said.startswith("@"):
        return said.encode()
    try:
        return Path(said[1:]).read_bytes()
    except OSError as err:
        raise ConfigError(f"cannot read {said[1:]}: {err.strerror}") from err


def _wait(settings: Settings, out: Output, request: Request, timeout_s: float) -> None:
    """Until the saga has ended, or stands and waits for a person; code 1 unless it completed."""
    arguments = msgspec.json.decode(request.args)
    if request.state == "pending":
        out.say(QUEUED)
    with Monitor(settings.data) as monitor:

        def ended() -> SagaDetail | None:
            found = monitor.started_by(request.participant, arguments["key"], arguments["id"])
            detail = None if found is None else monitor.saga(found)
            if detail is None or (detail.saga.ended_at is None and detail.stuck is None):
                return None
            return detail

        found = until(monitor, ended, timeout_s)
    if found is None:
        exits.say_error(
            f"not ended after {timeout_s:g} s; nothing is lost",
            with_data(f"outboxd saga show {arguments['key']}", settings),
        )
        raise exits.Stop(exits.FAILED)
    if out.is_json:
        out.document(found)
    elif found.result is not None:
        out.line(bytes(found.result).decode())
    reason = found.saga.error if found.stuck else found.reason
    out.say(f"{found.saga.id} {found.saga.state}" + (f": {reason}" if reason else ""))
    if found.stuck:
        out.say(with_data(f"see outboxd why {found.saga.key}", settings))
    if found.saga.state != "completed":
        raise exits.Stop(exits.FAILED)
