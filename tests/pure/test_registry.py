"""The registry: who handles what; and whatever is ambiguous is refused at start, with a hint."""

# No `from __future__ import annotations`: annotations here name classes that are local to a test.

import ast
from collections.abc import Callable
from types import new_class
from typing import Any

import pytest

from outboxd.errors import ConfigError
from outboxd.message import Command, Event, MessageDeadLettered
from outboxd.participant import EFFECT_TIMEOUT_S, SAGA_POLICY, Context, Db, Participant, Tx
from outboxd.registry import Registry
from outboxd.retry import Policy
from outboxd.saga import Saga
from tests.factories import Paid, Pay, PlaceOrder, Reserve, Unreserve, Void


def pay(tx: Tx, command: Pay) -> Paid:
    return Paid(cents=command.cents)


def void(tx: Tx, command: Void) -> None: ...


async def fulfil(saga: Saga, order: PlaceOrder) -> str:
    await saga.call(Pay(), undo=Void())
    await saga.send(Reserve())
    return "ok"


def hosting(*handlers: Callable[..., Any], name: str = "payments", **options: Any) -> Participant:
    participant = Participant(name)
    for handler in handlers:
        participant.handle(**options)(handler)
    return participant


def telling(*sagas: Callable[..., Any], name: str = "orders") -> Participant:
    participant = Participant(name)
    for saga in sagas:
        participant.saga(saga)
    return participant


def refusal(*participants: Participant) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        Registry(participants)
    return refused.value


# What it knows.


def test_a_handler_is_found_by_participant_and_message() -> None:
    registry = Registry([hosting(pay, void), telling(fulfil)])
    handler = registry.handler("payments", "Pay")
    assert handler is not None
    assert (handler.name, handler.message, handler.reply) == ("payments.pay", Pay, Paid)
    assert not handler.is_effect
    assert registry.handler("orders", "Pay") is None
    assert registry.handler("payments", "Nothing") is None


def test_an_async_handler_is_an_effect() -> None:
    async def book(ctx: Context, command: Void) -> None: ...

    handler = Registry([hosting(book)]).handler("payments", "Void")
    assert handler is not None
    assert handler.is_effect
    assert handler.spec.timeout_s == EFFECT_TIMEOUT_S


def test_a_saga_is_found_by_its_message_and_by_its_name() -> None:
    registry = Registry([telling(fulfil)])
    kind = registry.saga_started_by("orders", "PlaceOrder")
    assert kind is not None
    assert kind is registry.saga_named("orders", "fulfil")
    assert (kind.name, kind.message, kind.result) == ("fulfil", PlaceOrder, str)
    assert registry.saga_started_by("payments", "PlaceOrder") is None
    assert registry.saga_named("orders", "nothing") is None


def test_a_command_has_one_owner_a_saga_may_be_it() -> None:
    registry = Registry([hosting(pay, void), telling(fulfil)])
    assert registry.owner("Pay") == "payments"
    assert registry.owner("PlaceOrder") == "orders"
    assert registry.owner("Void") == "payments"
    assert registry.owner("Reserve") is None


def test_an_event_has_no_owner_and_any_number_of_readers() -> None:
    def note(tx: Tx, event: Paid) -> None: ...

    registry = Registry([hosting(note, name="a"), hosting(note, name="b")])
    assert registry.owner("Paid") is None
    assert registry.handler("a", "Paid") is not None
    assert registry.handler("b", "Paid") is not None


def test_a_mistyped_type_has_a_nearest_one() -> None:
    registry = Registry([hosting(pay, void), telling(fulfil)])
    assert registry.nearest("PlaceOrdr") == "PlaceOrder"
    assert registry.nearest("Zzzzzz") is None


def test_the_messages_of_handlers_and_of_literal_calls_are_known() -> None:
    assert set(Registry([telling(fulfil)]).messages) == {
        "MessageDeadLettered",
        "PlaceOrder",
        "Pay",
        "Reserve",
    }


def test_a_command_that_nobody_here_owns_is_a_warning() -> None:
    registry = Registry([hosting(pay, void), telling(fulfil)])
    assert registry.unowned() == [
        "Reserve (sent by orders) belongs to 'inventory', which is not hosted here"
    ]


# Subscriptions.


def on_paid(tx: Tx, event: Paid) -> None: ...


def test_a_handler_of_an_event_subscribes_to_its_source() -> None:
    registry = Registry([hosting(on_paid, name="mailer")])
    assert registry.subscriptions("mailer") == {"payments": "now"}
    assert registry.subscriptions("payments") == {}


def test_one_handler_that_wants_the_retained_events_wants_them_for_all() -> None:
    class Voided(Event, source="payments", key="order_id"):
        order_id: str

    def on_voided(tx: Tx, event: Voided) -> None: ...

    for handlers in ((on_paid, on_voided), (on_voided, on_paid)):
        participant = Participant("mailer")
        participant.handle(since="now")(handlers[0])
        participant.handle(since="retained")(handlers[1])
        assert Registry([participant]).subscriptions("mailer") == {"payments": "retained"}
        participant.handlers.reverse()
        assert Registry([participant]).subscriptions("mailer") == {"payments": "retained"}


def test_a_saga_that_starts_on_an_event_subscribes_from_now_on() -> None:
    async def thank(saga: Saga, event: Paid) -> None:
        await saga.sleep(1)

    registry = Registry([telling(fulfil, thank), hosting(on_paid, name="mailer")])
    assert registry.subscriptions("orders") == {"payments": "now"}


def test_a_handler_of_dead_letters_subscribes_to_every_participant() -> None:
    def alert(tx: Tx, event: MessageDeadLettered) -> None: ...

    registry = Registry([hosting(alert, name="ops"), hosting(pay)])
    assert registry.subscriptions("ops") == {"ops": "now", "payments": "now"}


# What it refuses.


def test_two_participants_of_one_name_are_refused() -> None:
    error = refusal(Participant("orders"), Participant("orders"))
    assert "two participants are called 'orders'" in error.message
    assert error.message.count(__name__) == 2


def test_a_second_owner_of_a_command_is_refused() -> None:
    error = refusal(hosting(pay), hosting(pay, name="billing"))
    assert "Pay belongs to 'payments', not to 'billing'" in error.message
    assert error.hint == 'handle it there, or write to="billing" in its class'


def test_two_handlers_of_a_command_are_refused() -> None:
    def pay_again(tx: Tx, command: Pay) -> Paid:
        return Paid()

    error = refusal(hosting(pay, pay_again))
    assert "handler pay_again: payments already handles Pay" in error.message


def test_two_handlers_of_an_event_in_a_participant_are_refused() -> None:
    def also(tx: Tx, event: Paid) -> None: ...

    error = refusal(hosting(on_paid, also, name="mailer"))
    assert "handler also: mailer already handles Paid" in error.message


def test_a_saga_and_a_handler_of_one_message_are_refused() -> None:
    def place(tx: Tx, command: PlaceOrder) -> str:
        return ""

    participant = telling(fulfil)
    participant.handle(place)
    assert "orders already handles PlaceOrder" in refusal(participant).message


def test_two_sagas_on_one_message_are_refused() -> None:
    async def again(saga: Saga, order: PlaceOrder) -> str:
        return ""

    error = refusal(telling(fulfil, again))
    assert "saga again: orders already handles PlaceOrder" in error.message


def test_a_command_without_owner_is_refused() -> None:
    class Lost(Command[None]):  # type: ignore[call-arg]
        pass

    def find(tx: Tx, command: Lost) -> None: ...

    assert "Lost belongs to None, not to 'payments'" in refusal(hosting(find)).message


def test_a_handler_of_an_event_that_nobody_publishes_is_refused() -> None:
    class Lost(Event):  # type: ignore[call-arg]
        pass

    def find(tx: Tx, event: Lost) -> None: ...

    def anything(tx: Tx, event: Event) -> None: ...

    assert "Lost" in refusal(hosting(find)).message
    assert "Event" in refusal(hosting(anything)).message


def no_message(tx: Tx, command) -> None: ...  # type: ignore[no-untyped-def]


def no_return(tx: Tx, command: Void): ...  # type: ignore[no-untyped-def]


def no_transaction(tx, command: Void) -> None: ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("handler", "missing"),
    [(no_message, "command"), (no_return, "what it returns"), (no_transaction, "tx")],
)
def test_a_missing_annotation_is_refused(handler: Callable[..., Any], missing: str) -> None:
    error = refusal(hosting(handler))
    assert error.message.endswith(f"handler {handler.__name__}: no annotation for {missing}")
    assert error.hint == "write (tx: Tx, command: TheMessage) -> TheReply"


def test_an_annotation_that_does_not_resolve_is_refused() -> None:
    def handler(tx: Tx, command: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821

    assert "its annotations do not resolve: name 'Nowhere'" in refusal(hosting(handler)).message


@pytest.mark.parametrize("annotation", [int, Pay | Void, list[Pay], Any, "Pay | Void"])
def test_what_is_not_one_message_is_refused(annotation: Any) -> None:
    def handler(tx: Tx, command: Any) -> None: ...

    handler.__annotations__["command"] = annotation
    error = refusal(hosting(handler))
    assert "command must be annotated with one Command or Event" in error.message


def test_other_than_two_parameters_are_refused() -> None:
    def three(tx: Tx, command: Void, more: int) -> None: ...

    def one(tx: Tx) -> None: ...

    for handler in (three, one):
        assert "it must take two parameters, (Tx, a message)" in refusal(hosting(handler)).message


def test_a_wrong_first_parameter_is_refused() -> None:
    def reads(db: Db, command: Void) -> None: ...

    async def books(tx: Tx, command: Void) -> None: ...

    async def tells(ctx: Context, order: PlaceOrder) -> str:
        return ""

    for participant, words in (
        (hosting(reads), "the first parameter of a def handler is a Tx"),
        (hosting(books), "the first parameter of an async handler is a Context"),
        (telling(tells), "the first parameter of a saga is a Saga"),
    ):
        assert words in refusal(participant).message


def test_a_return_that_is_not_the_commands_reply_is_refused() -> None:
    def other(tx: Tx, command: Pay) -> Void:
        return Void()

    def nothing(tx: Tx, command: Pay) -> None: ...

    def something(tx: Tx, command: Void) -> int:
        return 1

    for handler, words in (
        (other, "it returns Void, but Pay is answered with Paid"),
        (nothing, "it returns None, but Pay is answered with Paid"),
        (something, "it returns int, but Void is answered with None"),
    ):
        assert words in refusal(hosting(handler)).message


def test_a_command_that_names_no_reply_is_refused() -> None:
    class Bare(Command, to="payments"):  # type: ignore[type-arg]
        pass

    def handler(tx: Tx, command: Bare) -> None: ...

    assert "Bare does not say what it is answered with" in refusal(hosting(handler)).message


def test_what_a_handler_of_an_event_returns_is_nobodys_reply() -> None:
    def note(tx: Tx, event: Paid) -> int:
        return 1

    handler = Registry([hosting(note, name="mailer")]).handler("mailer", "Paid")
    assert handler is not None
    assert handler.reply is None


def test_a_key_that_is_no_field_is_refused() -> None:
    class Keyed(Command[None], to="payments", key="order"):
        order_id: str
        cents: int

    def handler(tx: Tx, command: Keyed) -> None: ...

    error = refusal(hosting(handler))
    assert "its key 'order' is no field of it" in error.message
    assert error.hint == "its fields are order_id, cents"


def test_two_message_types_of_one_name_are_refused() -> None:
    twin = new_class(
        "Pay", (Command[None],), {"to": "billing"}, lambda space: space.update(__module__="twin")
    )

    def handler(tx: Tx, command: Any) -> None: ...

    handler.__annotations__["command"] = twin
    error = refusal(hosting(pay), hosting(handler, name="billing"))
    assert "two message types are called Pay: in tests.factories and in twin" in error.message


def test_a_saga_whose_message_has_no_key_is_refused() -> None:
    class Anything(Command[None], to="orders"):
        pass

    async def tell(saga: Saga, order: Anything) -> None: ...

    error = refusal(telling(tell))
    assert "its start message Anything has no key" in error.message
    assert error.hint == 'the key identifies the saga: write key="field" in the message\'s class'


def test_a_saga_that_is_no_coroutine_is_refused_where_it_is_declared() -> None:
    def tell(saga: Saga, order: PlaceOrder) -> None: ...

    with pytest.raises(ConfigError, match="orders: the saga tell must be an async def"):
        Participant("orders").saga(tell)  # type: ignore[type-var]


class Loose(Command[None], to="payments"):
    pass


async def undo_elsewhere(saga: Saga, order: PlaceOrder) -> None:
    await saga.call(Pay(), undo=Unreserve())


async def undo_without_key(saga: Saga, order: PlaceOrder) -> None:
    await saga.call(Pay(), undo=Loose())


async def undo_of_the_keyless(saga: Saga, order: PlaceOrder) -> None:
    await saga.call(Loose(), undo=Void())


@pytest.mark.parametrize(
    ("code", "undo", "step"),
    [
        (undo_elsewhere, "Unreserve", "Pay"),
        (undo_without_key, "Loose", "Pay"),
        (undo_of_the_keyless, "Void", "Loose"),
    ],
)
def test_an_undo_in_another_lane_is_refused(code: Any, undo: str, step: str) -> None:
    async def tell(saga: Saga, order: PlaceOrder) -> None: ...

    error = refusal(telling(code))
    assert f"the undo {undo} does not travel in the lane of {step}" in error.message
    assert error.hint == "an undo has the same owner and the same key as its step"


async def not_literal(saga: Saga, order: PlaceOrder) -> str:
    """Nothing here can be read from the source; the call itself is checked when it is made."""
    command, undo = Pay(), Unreserve()
    await saga.call(command, undo=undo)
    str(saga)
    await saga.call(*[Pay()])
    getattr(saga, "call")(Missing())  # type: ignore[name-defined] # noqa: B009, F821
    await saga.send(ast.literal_eval("x"))
    return ""


def test_what_is_not_literal_is_left_to_the_call_itself() -> None:
    assert set(Registry([telling(not_literal)]).messages) == {"MessageDeadLettered", "PlaceOrder"}


def test_a_saga_without_source_is_taken_as_it_is() -> None:
    names: dict[str, Any] = {"Saga": Saga, "PlaceOrder": PlaceOrder}
    exec("async def unseen(saga: Saga, order: PlaceOrder) -> str: ...", names)
    registry = Registry([telling(names["unseen"])])
    assert registry.saga_named("orders", "unseen") is not None


def test_a_saga_that_returns_something_else_than_its_command_promises_is_refused() -> None:
    async def wrong(saga: Saga, order: PlaceOrder) -> int:
        return 1

    error = refusal(telling(wrong))
    assert "saga wrong: it returns int, but PlaceOrder is answered with str" in error.message


def test_a_call_that_its_hosted_addressee_does_not_handle_is_refused() -> None:
    error = refusal(hosting(void), telling(fulfil))
    assert "saga fulfil sends Pay, which payments has no handler for" in error.message


def test_a_retry_budget_over_the_calls_timeout_is_refused() -> None:
    error = refusal(hosting(pay, retry=Policy(attempts=8)))
    assert error.message.endswith("its retries may take 46 s, but a call of Pay waits 30 s")
    assert error.hint is not None


def test_the_time_limit_of_an_effect_counts_into_its_budget() -> None:
    async def book(ctx: Context, command: Void) -> None: ...

    Registry([hosting(book)])
    assert "may take 68 s" in refusal(hosting(book, timeout="12s")).message


def test_a_handler_of_an_event_may_retry_for_as_long_as_it_likes() -> None:
    Registry([hosting(on_paid, name="mailer", retry=Policy(attempts=500))])


# What a participant is.


@pytest.mark.parametrize("name", ["orders", "a", "order-desk", "order_desk", "desk2"])
def test_a_participant_has_a_plain_name(name: str) -> None:
    participant = Participant(name)
    assert participant.name == name
    assert repr(participant) == f"Participant({name!r})"


@pytest.mark.parametrize("name", ["", "-", "Orders", "order desk", "a/b", "a{b}", "a:b", "a\n"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a participant"):
        Participant(name)


def test_schema_and_migrations_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="give schema= or migrations=, not both"):
        Participant("orders", schema="", migrations="migrations")


def test_a_participant_knows_where_it_was_written() -> None:
    participant = Participant("orders")
    assert participant.module == __name__
    assert (participant.folder / "test_registry.py").is_file()


def test_decorators_keep_the_function_and_its_options() -> None:
    participant = Participant("payments")
    assert participant.handle(pay) is pay
    assert participant.handle(timeout="2s", hold_key=True, concurrency=3)(void) is void
    assert participant.saga(fulfil) is fulfil
    assert participant.saga(version=2, again="refuse")(fulfil) is fulfil
    first, second = participant.handlers
    assert (first.policy, first.hold_key, first.since) == (Policy(), False, "now")
    assert (second.timeout_s, second.hold_key, second.concurrency) == (2.0, True, 3)
    plain, versioned = participant.sagas
    assert (plain.version, plain.again, plain.policy) == (1, "first", SAGA_POLICY)
    assert (versioned.version, versioned.again) == (2, "refuse")


def test_an_invariant_is_kept_with_its_sentence() -> None:
    participant = Participant("payments")

    @participant.invariant("an order is charged once", when="idle")
    def once(db: Db) -> list[str]:
        return []

    (spec,) = participant.invariants
    assert (spec.text, spec.fn, spec.when) == ("an order is charged once", once, "idle")


# What a saga receives.


class Word(Command[None], to="orders", key="order_id"):
    order_id: str


class Asked(Command[str], to="orders", key="order_id"):
    order_id: str


class Keyless(Event, source="payments"):
    cents: int


async def listening(saga: Saga, order: PlaceOrder) -> str:
    await saga.receive(Word, timeout="1h")
    return (await saga.receive(Paid, timeout="1h")).order_id


def receiving(*messages: Any, code: Any = fulfil, name: str = "orders") -> Participant:
    participant = Participant(name)
    participant.saga(receives=messages)(code)
    return participant


def test_what_a_saga_receives_is_known_owned_and_subscribed_to() -> None:
    registry = Registry([receiving(Word, Paid, code=listening)])
    kind = registry.saga_named("orders", "listening")
    assert registry.receivers("orders", "Word") == [kind] == registry.receivers("orders", "Paid")
    assert registry.receivers("payments", "Paid") == []
    assert registry.owner("Word") == "orders"
    assert registry.subscriptions("orders") == {"payments": "now"}


def test_a_receive_that_is_not_declared_is_refused() -> None:
    error = refusal(receiving(Word, code=listening))
    assert "saga listening: it receives Paid, and does not say so" in error.message
    assert error.hint == "write @orders.saga(receives=(Paid,))"


def word(tx: Tx, cmd: Word) -> None: ...


async def paid(ctx: Context, event: Paid) -> None: ...


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Asked, "it receives the command Asked, which is answered with str"),
        (Keyless, "it receives Keyless, which has no key"),
        (Void, "Void belongs to 'payments', not to 'orders'"),
        (str, "receives= takes events and commands, not str"),
    ],
)
def test_what_no_saga_can_receive_is_refused(message: Any, said: str) -> None:
    assert said in refusal(receiving(message)).message


def test_a_command_that_is_received_has_no_other_handler() -> None:
    participant = receiving(Word)
    participant.handle(word)
    assert "orders already handles Word" in refusal(participant).message


def test_an_event_that_is_received_is_not_an_effect_s_too() -> None:
    participant = receiving(Paid)
    participant.handle(paid)
    error = refusal(participant)
    assert "Paid is handled by an async handler of orders as well" in error.message


def test_a_command_is_received_by_one_saga() -> None:
    async def other(saga: Saga, order: Asked) -> str:
        return order.order_id

    participant = receiving(Word)
    participant.saga(receives=(Word,))(other)
    assert "another saga already receives the command Word" in refusal(participant).message
