"""A message that cannot be read: the error names the field and the line, and shows nothing of the message."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import msgspec
import pytest
from pydantic import SecretStr

from anycarrier.calls import Call, CallStatus
from anycarrier.credentials import Credential
from anycarrier.errors import MalformedMessage, SignatureInvalid, UnreadableResponse
from anycarrier.events import IncomingCall
from anycarrier.numbers import AvailableNumber
from anycarrier.parsing import reading, unreadable
from anycarrier.provider import Provider

REAL = "+1415555" + "2671"  # in no file in one piece: somebody may answer there
ENDS = {"busy": 1}
OTHER = "a value of another form than expected "
FILE = r"core/test_parsing.py line \d+\)"


class Brook(Credential):
    provider: str = "brook"
    key: SecretStr = SecretStr("s3cret-of-brook")


class Carrier(Provider):
    name = "brook"
    credential_type = Brook
    base_url = "https://api.brook.example"


Carrier.__abstractmethods__ = frozenset()  # only ``ask`` is of interest here


class Frame(msgspec.Struct):
    kind: str


def a_validation_error(body: Any) -> object:
    return AvailableNumber(number=REAL, provider="brook", raw=body)


@pytest.mark.parametrize(
    ("parse", "told"),
    [
        (lambda body: body["call"]["status"], r"'status' is missing \(KeyError"),
        (lambda body: ENDS[body["call"]["to"]], r"a key is missing \(KeyError"),
        (lambda body: ENDS[17], r"a key is missing \(KeyError"),
        (lambda body: [][3], r"list index out of range \(IndexError"),
        (lambda body: body["id"]["nested"], r"string indices must be integers, not 'str' \(TypeError"),
        (lambda body: body["id"].items(), r"'str' object has no attribute 'items' \(AttributeError"),
        (lambda body: int(body["call"]["to"] + "x"), OTHER + r"\(ValueError"),
        (lambda body: datetime.fromisoformat(body["call"]["to"]), OTHER + r"\(ValueError"),
        (a_validation_error, r"country: field required \(ValidationError"),
        (lambda body: AvailableNumber(number="110", provider="b", country="US"), r"number: is refused \("),
        (lambda body: IncomingCall(caller=1), r"Unexpected keyword argument 'caller' \(TypeError"),
        (lambda body: msgspec.json.decode(b"{}", type=Frame), r"missing required field `kind` \(ValidationError"),
        (lambda body: msgspec.convert(REAL, CallStatus), OTHER + r"\(ValidationError"),
        (lambda body: json.loads(f'{{"to": {REAL}'), OTHER + r"\(JSONDecodeError"),
    ],
)
def test_the_field_and_the_line_are_named_and_no_value_is_shown(parse: Callable[[Any], object], told: str) -> None:
    body = {"id": "evt_1", "call": {"to": REAL}}
    pattern = f"^brook webhook cannot be read: .*{told}.*{FILE}$"
    with pytest.raises(MalformedMessage, match=pattern) as caught:
        with reading("brook webhook", b"what came"):
            parse(body)
    assert REAL[1:] not in str(caught.value)
    assert caught.value.__suppress_context__, "the traceback would quote the message"
    assert caught.value.raw == b"what came"


def test_a_serializer_raises_the_same_with_unreadable() -> None:
    def made(frame: bytes) -> MalformedMessage:
        try:
            msgspec.json.decode(frame, type=Frame)
        except msgspec.MsgspecError as failure:
            return unreadable("brook media frame", frame, failure)
        raise AssertionError(frame)

    problem = made(b"{}")
    assert re.fullmatch(
        r"brook media frame cannot be read: .*missing required field `kind` \(ValidationError, " + FILE, str(problem)
    ), problem
    assert problem.raw == b"{}" and unreadable("another", b"", problem) is problem



def test_fields_are_named_up_to_three() -> None:
    with pytest.raises(MalformedMessage, match=r"id: field.*; provider: field.*; direction: field.* and \d more"):
        with reading("brook webhook"):
            Call.model_validate({})


def test_what_is_typed_already_passes_through() -> None:
    with pytest.raises(MalformedMessage, match=r"^mine$"), reading("brook webhook"):
        raise MalformedMessage("mine")
    with pytest.raises(SignatureInvalid), reading("brook webhook"):
        raise SignatureInvalid("no")


def test_what_is_no_fault_of_the_message_passes_through() -> None:
    with pytest.raises(NotImplementedError), reading("brook webhook"):
        raise NotImplementedError


def answered(operation: str, into: Callable[[Any], object]) -> str:
    """What a caller sees when ``into`` cannot read the carrier's answer."""

    async def ask() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"numbers": [{"number": REAL}]}))
        async with httpx.AsyncClient(transport=transport) as http:
            await Carrier(Brook(), http).ask(into, "GET", "/numbers", operation=operation)

    with pytest.raises(UnreadableResponse) as caught:
        asyncio.run(ask())
    assert REAL[1:] not in str(caught.value)
    assert caught.value.__suppress_context__
    return str(caught.value)


def offers(body: Any) -> list[AvailableNumber]:
    return [AvailableNumber(**number, provider="brook") for number in body["numbers"]]


def test_an_answer_that_cannot_be_read_names_the_field_and_sends_the_author_to_the_plugin() -> None:
    told = answered("search_numbers", offers)
    assert "another shape than expected: country: field required (ValidationError, core/test_parsing.py line" in told
    assert told.endswith("The brook plugin expects another answer: report this to its author, or correct the plugin.")
    assert "status page" not in told


def test_a_dial_whose_answer_cannot_be_read_still_warns_that_the_phone_may_be_ringing() -> None:
    told = answered("dial", lambda body: body["id"])
    assert "'id' is missing (KeyError" in told
    assert "do not dial again" in told
