"""What is asked of Asterisk: each field is sent or refused, and no failure counts as done."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from anycarrier import AudioFormat, CallStatus
from anycarrier.calls import DialRequest, StreamTarget
from anycarrier.errors import NotFound, PermissionDenied, ProviderUnavailable, RequestRejected, UnsupportedOperation
from anycarrier_asterisk import call as calls
from anycarrier_asterisk import provider as providers
from anycarrier_asterisk.provider import AsteriskProvider


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "DIAL_PATIENCE", 0.0)


def request(tools: Any, **changes: Any) -> DialRequest:
    stream = StreamTarget(url="wss://us/media?ticket=t", ticket="t")
    return DialRequest(**{"from_": tools.OURS, "to": tools.THEIRS, "stream": stream, "reference": "r1",
                          "status_url": "https://us/asterisk/main", **changes})  # fmt: skip


def body(bare: Any) -> dict[str, Any]:
    return dict(json.loads(bare.asked[0].content))


async def test_a_dial_is_one_request(tools: Any, bare: Any) -> None:
    call = await bare.provider.dial(request(tools, timeout=20))
    assert (bare.asked[0].method, bare.asked[0].url.path, len(bare.asked)) == ("POST", "/ari/channels", 1)
    assert body(bare) == {
        "channelId": call.id, "endpoint": f"PJSIP/{tools.THEIRS}@trunk", "app": "desk-app", "appArgs": "out,r1",
        "callerId": tools.OURS, "timeout": 20,
    }  # fmt: skip
    assert call.id.startswith("anycarrier.desk-app.call.")
    assert (call.reference, call.status) == ("r1", CallStatus.INITIATED)


@pytest.mark.parametrize(
    ("option", "field", "sent"),
    [
        ({"timeout": 45}, "timeout", 45),
        ({"timeout": 0.2}, "timeout", 1),
        ({"caller_id": "+14155550142"}, "callerId", "+14155550142"),
        ({"headers": {"X-Order": "7"}}, "variables", {"PJSIP_HEADER(add,X-Order)": "7"}),
        ({"reference": "r2"}, "appArgs", "out,r2"),
        ({"extra": {"originator": "1.1"}}, "originator", "1.1"),
    ],
)
async def test_an_option_is_sent(tools: Any, bare: Any, option: dict[str, Any], field: str, sent: Any) -> None:
    await bare.provider.dial(request(tools, **option))
    assert body(bare)[field] == sent


async def test_what_cannot_be_sent_is_refused_and_nobody_rung(tools: Any, bare: Any) -> None:
    odd = StreamTarget(url="wss://us/media?ticket=t", ticket="t", format=AudioFormat("G722", 16000))
    with pytest.raises(UnsupportedOperation, match="asterisk has"):
        await bare.provider.dial(request(tools, stream=odd))
    other = tools.Bare()
    other.provider.credential = tools.credential(endpoint="Local/{digits}@out")
    with pytest.raises(UnsupportedOperation, match="PJSIP endpoints only"):
        await other.provider.dial(request(tools, headers={"X-Order": "7"}))
    assert not bare.asked and not other.asked and not other.listener.calls


async def test_digits_of_an_endpoint_are_the_number_without_its_plus(tools: Any, bare: Any) -> None:
    bare.provider.credential = tools.credential(endpoint="Local/{digits}@out")
    await bare.provider.dial(request(tools))
    assert body(bare)["endpoint"] == f"Local/{tools.THEIRS[1:]}@out"


@pytest.mark.parametrize(
    "answer", [httpx.Response(500, json={"error": "Allocation failed"}), httpx.ReadTimeout("slow")]
)
async def test_a_dial_of_unknown_outcome_is_asked_once_and_its_call_looked_for(
    tools: Any, bare: Any, answer: Any
) -> None:
    posts = 0

    def respond(asked: httpx.Request) -> httpx.Response:
        nonlocal posts
        if asked.method == "POST":
            posts += 1
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[no-any-return]
        return httpx.Response(200, json=[])

    bare.provider._http = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    with pytest.raises(ProviderUnavailable) as failed:
        await bare.provider.dial(request(tools))
    assert failed.value.outcome_unknown and posts == 1
    [call] = bare.listener.calls.values()
    await call.over.wait()  # Asterisk does not have it: so it never rang
    assert bare.desk.told[-1].reference == "r1" and bare.desk.told[-1].call.ended


async def test_a_dial_that_is_refused_leaves_no_call(tools: Any, bare: Any) -> None:
    bare.answers["/channels"] = httpx.Response(400, json={"message": "Endpoint must be specified"})
    with pytest.raises(RequestRejected, match="Endpoint must be specified"):
        await bare.provider.dial(request(tools))
    assert not bare.listener.calls and not bare.listener.ended


async def test_a_read_only_user_is_named_so(tools: Any, bare: Any) -> None:
    bare.answers["/channels"] = httpx.Response(403, json={"message": "Write access denied"})
    with pytest.raises(PermissionDenied, match="Write access denied"):
        await bare.provider.dial(request(tools))


async def test_hanging_up_what_asterisk_does_not_know_is_its_end(
    tools: Any, bare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "CAUSE_PATIENCE", 0.0)
    call = await bare.provider.dial(request(tools))
    bare.answers[call.id] = httpx.Response(404, json={"message": "Channel not found"})
    await bare.provider.hang_up(call.id)
    await bare.listener.ended.get(call.id, bare.listener.calls.get(call.id)).over.wait()
    await bare.provider.hang_up(call.id)
    assert (await bare.provider.fetch_call(call.id)).ended


async def test_a_hang_up_that_fails_is_no_success(tools: Any, bare: Any) -> None:
    call = await bare.provider.dial(request(tools))
    bare.answers[call.id] = httpx.Response(503, text="gateway")
    with pytest.raises(ProviderUnavailable):
        await bare.provider.hang_up(call.id)
    assert call.id in bare.listener.calls


async def test_a_call_that_asterisk_lost_is_over_when_it_is_asked_for(
    tools: Any, bare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "CAUSE_PATIENCE", 0.0)
    call = await bare.provider.dial(request(tools))
    bare.answers[call.id] = httpx.Response(200, json={"id": call.id, "state": "Ringing"})
    assert (await bare.provider.fetch_call(call.id)).status is CallStatus.RINGING
    bare.answers[call.id] = httpx.Response(404, json={"message": "Channel not found"})
    assert (await bare.provider.fetch_call(call.id)).status is CallStatus.ENDED


async def test_a_recording_that_is_not_there_is_not_found(bare: Any) -> None:
    bare.answers["/file"] = httpx.Response(404, json={"message": "Recording not found"})
    with pytest.raises(NotFound, match="Recording not found"):
        await bare.provider.fetch_recording("../../channels")
    assert bare.asked[0].url.raw_path == b"/ari/recordings/stored/..%2F..%2Fchannels/file"


# --- the credential --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("base_url", "pbx:8088"), ("username", "a:b"), ("username", "[us]"), ("endpoint", "PJSIP/trunk"),
        ("endpoint", "{number}"), ("endpoint", "PJSIP/{number}&PJSIP/1"), ("endpoint", "PJSIP/{to}@trunk"),
        ("endpoint", "PJSIP/{number}{digits}"), ("app", "a.b"), ("app", "a,b"), ("app", "a" * 33),
        ("media_connection", "a b"), ("numbers", ["4155550100"]),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_when_it_is_entered(tools: Any, field: str, wrong: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        tools.credential(**{field: wrong})
    assert field in str(refused.value) and "kept-secret" not in str(refused.value)


def test_a_form_that_asks_for_one_key_is_given_the_password(tools: Any) -> None:
    fields = tools.credential().model_dump(exclude={"provider", "password"})
    made = type(tools.credential()).from_api_key("kept-secret", fields)
    assert made == tools.credential() and made.password.get_secret_value() == "kept-secret"


async def test_the_account_is_named_once_the_login_was_accepted(tools: Any, bare: Any) -> None:
    assert await bare.provider.check_credential() == "us/desk-app at pbx.test:8088"
    assert bare.asked[0].headers["authorization"].startswith("Basic ")
    assert "kept-secret" not in repr(AsteriskProvider(tools.credential()).credential)
