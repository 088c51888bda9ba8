"""The envelope: a CloudEvents document, whole after its way, and what is none is told apart."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.message import (
    MAX_ENVELOPE_BYTES,
    NUMBERS_BYTES,
    Envelope,
    TooBig,
    Undecodable,
    brief,
    checked_size,
    decode_data,
    decode_envelope,
    encode,
    encode_raw,
    fingerprint,
    numbered,
)
from tests.factories import Paid, Pay, Unreserve, Void, envelope

MINIMAL = {
    "specversion": "1.0",
    "id": "m-1",
    "type": "Pay",
    "source": "elsewhere",
    "time": "2023-11-14T22:13:20Z",
}

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
envelopes = st.builds(
    Envelope,
    specversion=st.just("1.0"),
    id=texts,
    type=texts,
    source=texts,
    time=times,
    subject=st.none() | texts,
    data=json_values.map(encode_raw),
    kind=st.sampled_from(["command", "event", "reply", "undo", "close", "subscribe"]),
    correlationid=st.none() | texts,
    causationid=st.none() | texts,
    replyto=st.none() | texts,
    call=st.none() | st.integers(0, 2**31),
    outcome=st.none() | texts,
    undoes=st.none() | texts,
    idempotencykey=st.none() | texts,
    deadline=st.none() | times,
    schemaversion=st.integers(1, 99),
    traceparent=st.none() | texts,
)


def document(**attributes: Any) -> bytes:
    return json.dumps({**MINIMAL, **attributes}).encode()


def plain(found: Envelope) -> dict[str, Any]:
    """The attributes, with the payload as a value: raw bytes compare by identity."""
    values = msgspec.structs.asdict(found)
    return {**values, "data": msgspec.json.decode(found.data)}


GOLDEN = {
    "command": (
        envelope(
            Pay(cents=5),
            id="orders/fulfil/o-1#1",
            correlationid="orders/fulfil/o-1",
            causationid="m-0",
            replyto="orders",
            call=1,
            deadline=datetime(2023, 11, 14, 22, 13, 50, tzinfo=UTC),
            traceparent="00-a-b-01",
        ),
        (
            '{"specversion":"1.0","id":"orders/fulfil/o-1#1","type":"Pay","source":"orders",'
            '"time":"2023-11-14T22:13:20Z","subject":"o-1","data":{"order_id":"o-1","cents":5},'
            '"kind":"command","correlationid":"orders/fulfil/o-1","causationid":"m-0",'
            '"replyto":"orders","call":1,"deadline":"2023-11-14T22:13:50Z","traceparent":"00-a-b-01"}'
        ),
    ),
    "event": (
        envelope(Paid(), source="payments", schemaversion=2),
        (
            '{"specversion":"1.0","id":"m-1","type":"Paid","source":"payments",'
            '"time":"2023-11-14T22:13:20Z","subject":"o-1","data":{"order_id":"o-1","cents":100},'
            '"schemaversion":2}'
        ),
    ),
    "reply": (
        envelope(
            Paid(), id="m-1:ok", type="Pay", source="payments", kind="reply", call=1, outcome="ok"
        ),
        (
            '{"specversion":"1.0","id":"m-1:ok","type":"Pay","source":"payments",'
            '"time":"2023-11-14T22:13:20Z","subject":"o-1","data":{"order_id":"o-1","cents":100},'
            '"kind":"reply","call":1,"outcome":"ok"}'
        ),
    ),
    "undo": (
        envelope(Void(), id="m-1~undo", kind="undo", undoes="m-1", idempotencykey="k"),
        (
            '{"specversion":"1.0","id":"m-1~undo","type":"Void","source":"orders",'
            '"time":"2023-11-14T22:13:20Z","subject":"o-1","data":{"order_id":"o-1"},'
            '"kind":"undo","undoes":"m-1","idempotencykey":"k"}'
        ),
    ),
    "close": (
        envelope(Pay(), id="m-1~undo", kind="close", undoes="m-1", data=msgspec.Raw(b"null")),
        (
            '{"specversion":"1.0","id":"m-1~undo","type":"Pay","source":"orders",'
            '"time":"2023-11-14T22:13:20Z","subject":"o-1","data":null,'
            '"kind":"close","undoes":"m-1"}'
        ),
    ),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_the_document_of_each_kind_stays_as_other_languages_know_it(kind: str) -> None:
    written, text = GOLDEN[kind]
    assert encode(written).decode() == text
    assert plain(decode_envelope(text.encode())) == plain(written)


@pytest.mark.parametrize(
    ("kind", "is_undo"),
    [("undo", True), ("close", True), ("command", False), ("event", False), ("reply", False)],
)
def test_undo_and_close_both_close_a_step(kind: str, is_undo: bool) -> None:
    assert envelope(Unreserve(), kind=kind).is_undo is is_undo


@given(envelopes)
def test_an_envelope_survives_its_way(written: Envelope) -> None:
    assert plain(decode_envelope(encode(written))) == plain(written)


@given(envelopes, st.integers(1, 2**62), st.integers(1, 2**62))
def test_numbers_join_a_document_and_change_nothing_else_of_it(
    written: Envelope, epoch: int, seq: int
) -> None:
    found = decode_envelope(numbered(encode(written), epoch, seq))
    assert plain(found) == {**plain(written), "epoch": epoch, "seq": seq}


def test_numbers_given_later_hold() -> None:
    """A stored row that came with another sender's numbers is published under ours."""
    found = decode_envelope(numbered(numbered(encode(envelope()), 1, 2), 3, 4))
    assert (found.epoch, found.seq) == (3, 4)


@pytest.mark.parametrize("end", [b"\n", b"  ", b"\r\n\t"])
def test_numbers_join_a_document_that_ends_in_white_space(end: bytes) -> None:
    """A row of the outbox that another program inserted."""
    found = decode_envelope(numbered(document() + end, 3, 4))
    assert (found.epoch, found.seq) == (3, 4)


def test_a_foreign_producer_needs_only_what_cloudevents_asks_for() -> None:
    found = decode_envelope(document())
    assert (found.epoch, found.seq, found.kind, found.subject) == (0, 0, "event", None)
    assert bytes(found.data) == b"null"


def test_unknown_attributes_are_ignored() -> None:
    body = document(dataschema="https://example.org/pay", futureattribute=[1, {"deep": True}])
    assert plain(decode_envelope(body)) == plain(decode_envelope(document()))


@pytest.mark.parametrize("missing", [name for name in MINIMAL if name != "time"])
def test_what_cloudevents_asks_for_must_be_there(missing: str) -> None:
    body = json.dumps({k: v for k, v in MINIMAL.items() if k != missing}).encode()
    with pytest.raises(Undecodable, match=f"missing required field `{missing}`"):
        decode_envelope(body)


@pytest.mark.parametrize("version", ["0.3", "1.1", ""])
def test_another_specversion_is_refused(version: str) -> None:
    with pytest.raises(Undecodable, match=f"specversion '{version}' is not 1.0"):
        decode_envelope(document(specversion=version))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"42",
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf" + document(),
        document()[:-1],
        document() + document(),
        document() + b"x",
        document(id=7),
        document(time="yesterday"),
        document(time=1700000000),
        document(subject="\ud800"),
        document(seq="1"),
        document(seq=1.5),
        document(call=True),
        document(id="").replace(b'""', b'"\xff\xfe"'),
        document(data="").replace(b'""', b"nope"),
    ],
)
def test_what_is_no_envelope_is_undecodable(body: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_envelope(body)


@pytest.mark.parametrize("number", [-1, 2**63, 2**70], ids=["-1", "2**63", "2**70"])
@pytest.mark.parametrize("attribute", ["epoch", "seq"])
def test_a_number_that_no_database_can_hold_is_undecodable(attribute: str, number: int) -> None:
    with pytest.raises(Undecodable):
        decode_envelope(document(**{attribute: number}))


@pytest.mark.parametrize("attribute", ["data", "unknown"])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_deep_nest_is_undecodable(attribute: str, opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    depth = 100_000 if opening == b"[" else 30_000
    nest = opening * depth + b"1" + closing * depth
    with pytest.raises(Undecodable, match="recursion"):
        decode_envelope(document(**{attribute: "NEST"}).replace(b'"NEST"', nest))


def test_a_body_over_the_limit_is_not_even_parsed() -> None:
    size = MAX_ENVELOPE_BYTES + NUMBERS_BYTES + 1
    with pytest.raises(Undecodable, match=f"has {size:,} bytes; the limit is 262,144"):
        decode_envelope(b"x" * size)


def test_a_body_that_may_set_out_may_also_arrive_with_its_numbers() -> None:
    spare = MAX_ENVELOPE_BYTES - len(document(data=""))
    body = checked_size(document(data="x" * spare))
    assert len(body) == MAX_ENVELOPE_BYTES
    assert decode_envelope(numbered(body, 2**63 - 1, 2**63 - 1)).id == "m-1"


def test_a_body_that_is_too_big_does_not_set_out() -> None:
    with pytest.raises(TooBig, match="has 262,145 bytes; the limit is 262,144") as refused:
        checked_size(b"x" * (MAX_ENVELOPE_BYTES + 1))
    assert refused.value.hint == "keep large content in a table or a file and send where it is"


def test_a_text_for_a_person_is_cut_and_says_how_long_it_was() -> None:
    assert brief("x" * 2000) == "x" * 2000
    assert brief("x" * 2001) == "x" * 2000 + " … (2,001 characters)"


@given(st.binary(max_size=200))
def test_bytes_of_strangers_are_an_envelope_or_undecodable(body: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_envelope(body)


@given(st.data())
def test_a_damaged_document_is_an_envelope_or_undecodable(data: st.DataObject) -> None:
    body = bytearray(document(seq=7, data={"order_id": "é", "cents": [1, 2.5, None]}))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Undecodable):
        decode_data(decode_envelope(bytes(body)).data, Pay)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'{"order_id":"o-1","cents":"5"}', r"Pay: Expected `int`, got `str` - at `\$.cents`"),
        (b"[]", "Pay: Expected `object`, got `array`"),
        (b'{"order_id":"\xff"}', "Pay: 'utf-8' codec"),
        (b'{"order_id":', "Pay: "),
        (b'{"cents":%b}' % (b"9" * 5000), "Pay: Integer value out of range"),
    ],
    ids=["another type", "an array", "no UTF-8", "cut off", "5000 digits"],
)
def test_a_payload_of_another_shape_is_undecodable_with_the_path(
    data: bytes, complaint: str
) -> None:
    with pytest.raises(Undecodable, match=complaint):
        decode_data(data, Pay)


def test_a_payload_that_is_no_class_is_named_too() -> None:
    with pytest.raises(Undecodable, match=r"int \| str: Expected"):
        decode_data(b"[]", int | str)


@given(texts, st.binary())
def test_a_fingerprint_is_a_number_of_32_bits_made_of_name_and_content(
    name: str, data: bytes
) -> None:
    assert fingerprint(name, data) == fingerprint(name, msgspec.Raw(data))
    assert 0 <= fingerprint(name, data) < 2**32


def test_fingerprints_of_different_steps_differ() -> None:
    steps = [("Pay", b"1"), ("Pay", b"2"), ("Void", b"1"), ("Void", b""), ("", b"Void")]
    assert len({fingerprint(name, data) for name, data in steps}) == 4
