"""Answering a call: when it is tried again, when it is given up, and when somebody else has done it meanwhile."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from anycarrier import Call, CallStatus, Direction, EndReason, IncomingCall, WebhookReply, incoming
from anycarrier.audio import PCMU_8K
from anycarrier.callbook import MemoryCallBook
from anycarrier.calls import StreamTarget
from anycarrier.errors import AnycarrierError, ProviderError, ProviderUnavailable, RateLimited, RequestRejected
from core.conftest import CALLER, OURS, R1
from fake_carriers import CommandProvider, FakeCredential, InlineProvider
from virtual_time import virtually

DOWN = ProviderUnavailable("p", "answer", "down")
NO = RequestRejected("p", "answer", "the call is answered", status=422)
CALL = Call(
    id="in-1", provider="p", direction=Direction.INBOUND, from_=CALLER, to=OURS, status=CallStatus.RINGING,
    reference=R1,
)  # fmt: skip
TARGET = StreamTarget(url="wss://voice.example.com/media/x", format=PCMU_8K)
ACKNOWLEDGED = 204


def slow(seconds: float | None) -> RateLimited:
    return RateLimited("p", "answer", "slow down", status=429, retry_after=seconds)


def answer(
    replies: list[Exception | None], carrier: type[InlineProvider] = CommandProvider, **meanwhile: Any
) -> tuple[WebhookReply | ProviderError, list[float]]:
    """What comes of answering, and when it was tried, in seconds; the last of ``replies`` is given again and again.

    ``meanwhile`` is what the call turns into as the last of them is given first.
    """
    tried: list[float] = []

    async def scenario() -> WebhookReply | ProviderError:
        clock = asyncio.get_running_loop().time
        began, book = clock(), MemoryCallBook()
        await book.open(CALL)

        async def one(event: IncomingCall, stream: StreamTarget) -> WebhookReply:
            assert (event.call, stream) == (CALL, TARGET)
            tried.append(round(clock() - began, 1))
            if meanwhile and len(replies) == 1:
                await book.update(R1, lambda c: c.model_copy(update=meanwhile))
            if (problem := replies.pop(0) if len(replies) > 1 else replies[0]) is not None:
                raise problem
            return WebhookReply(body=b"answered")

        provider = carrier(FakeCredential(), None)  # type: ignore[arg-type]
        provider.answer = one  # type: ignore[method-assign]
        event = IncomingCall(call=CALL, call_id="in-1", reference=R1)
        try:
            exchange: Any = SimpleNamespace(calls=book)
            return await incoming._answer(exchange, provider, event, TARGET)
        except ProviderError as problem:
            return problem

    return virtually(scenario()), tried


@pytest.mark.parametrize(
    ("carrier", "times"), [(InlineProvider, [0.0, 0.5, 1.5, 3.5]), (CommandProvider, [0.0, 0.5, 1.5, 3.5, 7.5, 15.5])]
)
def test_it_is_tried_less_and_less_often_for_as_long_as_the_carrier_waits(
    carrier: type[InlineProvider], times: list[float]
) -> None:
    assert answer([DOWN], carrier) == (DOWN, times)


@pytest.mark.parametrize(
    ("seconds", "times"),
    [(None, [0.0, 0.5, 1.5, 3.5, 7.5, 15.5]), (3.0, [0.0, 3.0, 6.0, 9.0, 13.0]), (19.0, [0.0, 19.0]), (21.0, [0.0])],
)
def test_a_carrier_that_wants_to_be_left_alone_is_for_so_long(seconds: float | None, times: list[float]) -> None:
    limited = slow(seconds)
    assert answer([limited]) == (limited, times)


def test_the_first_answer_that_is_taken_is_the_reply() -> None:
    reply, times = answer([DOWN, slow(2.0), None])
    assert isinstance(reply, WebhookReply) and (reply.body, times) == (b"answered", [0.0, 0.5, 2.5])


MEANWHILE: list[dict[str, Any]] = [
    {"status": CallStatus.ANSWERED}, {"status": CallStatus.ENDED}, {"intent": EndReason.API_STOP},
]  # fmt: skip


@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=str)
def test_a_call_that_is_answered_or_to_end_meanwhile_is_not_answered_again(meanwhile: dict[str, Any]) -> None:
    reply, times = answer([DOWN], **meanwhile)
    assert isinstance(reply, WebhookReply) and (reply.status, times) == (ACKNOWLEDGED, [0.0])


@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=str)
def test_a_last_answer_whose_reply_was_lost_may_have_been_heard(meanwhile: dict[str, Any]) -> None:
    reply, times = answer([slow(21.0)], **meanwhile)
    assert isinstance(reply, WebhookReply) and (reply.status, times) == (ACKNOWLEDGED, [0.0])


def test_a_refusal_of_the_first_answer_is_one_whatever_the_call_has_come_to() -> None:
    assert answer([NO], status=CallStatus.ANSWERED) == (NO, [0.0])
    assert answer([DOWN, NO]) == (NO, [0.0, 0.5]), "and of a later one, while the call rings on"


@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=str)
def test_a_refusal_may_be_due_to_an_earlier_answer_that_was_heard(meanwhile: dict[str, Any]) -> None:
    reply, times = answer([DOWN, NO], **meanwhile)
    assert isinstance(reply, WebhookReply) and (reply.status, times) == (ACKNOWLEDGED, [0.0, 0.5])


def test_what_is_no_trouble_of_the_moment_is_not_tried_again() -> None:
    for problem in (NO, ProviderError("p", "answer", "odd")):
        assert isinstance(problem, AnycarrierError) and answer([problem, None]) == (problem, [0.0])
