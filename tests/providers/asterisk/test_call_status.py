"""Asterisk's words for an end, each with the reason that it means."""

from __future__ import annotations

from typing import Any

import pytest

from anycarrier.calls import EndReason
from anycarrier.errors import InsufficientFunds, NumberRejected, PermissionDenied, RateLimited
from anycarrier_asterisk.call_status import reason_of, sip_status, words_of


@pytest.mark.parametrize(
    ("event", "dial", "reason"),
    [
        ({"cause": 16}, "", EndReason.CANCELED),
        ({"cause": 17}, "", EndReason.BUSY),
        ({"cause": 0}, "BUSY", EndReason.BUSY),
        ({"cause": 19}, "NOANSWER", EndReason.NO_ANSWER),
        ({"cause": 18, "tech_cause": 408}, "", EndReason.NO_ANSWER),
        ({"cause": 20}, "", EndReason.NO_ANSWER),
        ({"cause": 21}, "", EndReason.REJECTED),
        ({"cause": 21, "tech_cause": 403}, "", EndReason.PROVIDER_PERMISSION_DENIED),
        ({"cause": 21, "tech_cause": "401"}, "", EndReason.PROVIDER_AUTH_FAILED),
        ({"cause": 21, "tech_cause": 407}, "", EndReason.PROVIDER_AUTH_FAILED),
        ({"cause": 21, "tech_cause": 603}, "", EndReason.REJECTED),
        ({"cause": 127, "tech_cause": 429}, "", EndReason.PROVIDER_RATE_LIMITED),
        ({"cause": 1, "tech_cause": 485}, "", EndReason.INVALID_NUMBER),
        ({"cause": 1}, "", EndReason.INVALID_NUMBER),
        ({"cause": 22}, "", EndReason.INVALID_NUMBER),
        ({"cause": 28}, "", EndReason.INVALID_NUMBER),
        ({"cause": 3}, "", EndReason.UNREACHABLE),
        ({"cause": 3, "tech_cause": 1011}, "", EndReason.UNREACHABLE),
        ({"cause": 27}, "", EndReason.PROVIDER_UNAVAILABLE),
        ({"cause": 34}, "CONGESTION", EndReason.PROVIDER_UNAVAILABLE),
        ({"cause": 38, "tech_cause": 503}, "", EndReason.PROVIDER_UNAVAILABLE),
        ({"cause": 26}, "", EndReason.CANCELED),
        ({"cause": 0}, "CONGESTION", EndReason.PROVIDER_UNAVAILABLE),
        ({"cause": 0}, "CHANUNAVAIL", EndReason.UNREACHABLE),
        ({"cause": 0}, "", EndReason.UNKNOWN),
        ({"cause": 127}, "", EndReason.UNKNOWN),
        ({"cause": "odd", "tech_cause": "odd"}, "odd", EndReason.UNKNOWN),
        ({}, "NOANSWER", EndReason.NO_ANSWER),
    ],
)
def test_a_call_that_was_not_answered(event: dict[str, Any], dial: str, reason: EndReason) -> None:
    assert reason_of(event, dial, answered=False, ours=False) is reason


@pytest.mark.parametrize(
    ("event", "ours", "reason"),
    [
        ({"cause": 16}, False, EndReason.USER_HANGUP),
        ({}, False, EndReason.USER_HANGUP),
        ({"cause": 16}, True, EndReason.AGENT_HANGUP),
        ({"cause": 38}, False, EndReason.MEDIA_ERROR),
    ],
)
def test_a_call_that_was_answered(event: dict[str, Any], ours: bool, reason: EndReason) -> None:
    assert reason_of(event, "ANSWER", answered=True, ours=ours) is reason


def test_before_the_answer_our_own_hang_up_is_a_cancel_whatever_the_cause() -> None:
    assert reason_of({"cause": 17}, "", answered=False, ours=True) is EndReason.CANCELED


@pytest.mark.parametrize(
    ("told", "status"), [(404, 404), ("603", 603), (1000, None), (200, None), (None, None), ("x", None)]
)
def test_a_sip_status_is_told_from_a_close_code(told: Any, status: int | None) -> None:
    assert sip_status({"tech_cause": told}) == status


def test_the_words_are_asterisks_own() -> None:
    assert words_of({"cause_txt": "Unknown"}, "BUSY") == "Unknown; BUSY"
    assert words_of({"cause_txt": "Normal Clearing"}, "ANSWER") == "Normal Clearing"
    assert words_of({}) == "left Stasis"


@pytest.mark.parametrize(
    ("cause", "status", "kind"),
    [(28, 484, NumberRejected), (21, 403, PermissionDenied), (21, 402, InsufficientFunds), (127, 429, RateLimited)],
)
async def test_a_dial_refused_before_it_rang_is_a_typed_error(
    tools: Any, cause: int, status: int, kind: type[Exception]
) -> None:
    import asyncio

    from anycarrier.calls import DialRequest, StreamTarget

    bare = tools.Bare()
    stream, told = StreamTarget(url="wss://us/media?ticket=t", ticket="t"), "https://us/asterisk/main"
    request = DialRequest(from_=tools.OURS, to=tools.THEIRS, stream=stream, status_url=told, reference="r1")
    dialling = asyncio.ensure_future(bare.provider.dial(request))
    while not bare.asked:
        await asyncio.sleep(0)
    [call] = bare.listener.calls.values()
    call.heard("ChannelDestroyed", "Down", {"cause": cause, "cause_txt": "No", "tech_cause": status})
    with pytest.raises(kind) as refused:
        await dialling
    assert refused.value.status == status and tools.THEIRS not in str(refused.value)  # type: ignore[attr-defined]
