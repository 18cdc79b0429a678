"""Webhooks of the Twilio sandbox: signed as the vendor checks them, replayed, forged, doubled and out of order."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import AsyncIterator

import httpx
import pytest
from twilio.request_validator import RequestValidator

from anycarrier.testing.live_server import serve_sandbox
from anycarrier_twilio.sandbox import TwilioSandbox
from anycarrier_twilio.signature import sign
from sandbox_platform import Platform, Webhook, platform
from shared_documents import shared_path

OURS = "+14155550100"
THEIRS = "+12125550123"


@pytest.fixture
async def sandbox() -> AsyncIterator[TwilioSandbox]:
    async with serve_sandbox(TwilioSandbox) as sandbox:
        sandbox.add_number(OURS)
        yield sandbox


@pytest.fixture
async def here(sandbox: TwilioSandbox) -> AsyncIterator[Platform]:
    def genuine(webhook: Webhook) -> bool:
        form = {} if webhook.method == "GET" else webhook.params
        validator = RequestValidator(sandbox.account.token)
        return bool(validator.validate(webhook.url, form, webhook.headers.get("x-twilio-signature", "")))

    async with platform(genuine) as here:
        yield here


async def dial(sandbox: TwilioSandbox, here: Platform, to: str = "+15005550112", **form: str) -> str:
    fields = {
        "To": to,
        "From": OURS,
        "Twiml": "<Response><Pause length='20'/></Response>",
        "StatusCallback": f"{here.url}/status?ref=1&x=%20",
        "StatusCallbackEvent": "initiated ringing answered completed",
        **form,
    }
    url = f"{sandbox.base_url}/2010-04-01/Accounts/{sandbox.account.sid}/Calls.json"
    async with httpx.AsyncClient(auth=(sandbox.account.sid, sandbox.account.token), trust_env=False) as http:
        return str((await http.post(url, data=fields)).json()["sid"])


def test_signatures_agree_with_the_vendors_own_vectors() -> None:
    vectors = json.loads(shared_path("recordings", "twilio", "signatures", "vectors.json").read_text())
    checked = 0
    for vector in vectors:
        if not vector["valid"] or vector["params"] is None:
            continue
        params = [(k, v) for k, vs in vector["params"].items() for v in (vs if isinstance(vs, list) else [vs])]
        # The carrier signs with the port or without it; a vector was made in one of the two ways.
        url = vector.get("url_that_matches", vector["url"])
        ported = url.replace(".com/", ".com:443/" if url.startswith("https") else ".com:80/")
        made = {sign(signed, params, vector["auth_token"]) for signed in (url, ported)}
        assert vector["signature"] in made, vector["name"]
        checked += 1
    assert checked >= 7


def test_a_repeated_key_is_signed_with_each_value_once() -> None:
    from werkzeug.datastructures import MultiDict

    pairs = [("b", "2"), ("a", "y"), ("a", "x"), ("a", "x"), ("A", "")]
    url = "https://Voice.Example.com:8443/p?q=%20"
    expected = RequestValidator("token").compute_signature(url, MultiDict(pairs))
    assert sign(url, pairs, "token") == expected


async def test_a_status_callback_has_the_keys_that_were_captured(sandbox: TwilioSandbox, here: Platform) -> None:
    await dial(sandbox, here, "+15005550101")
    busy = (await here.wait_told("/status", CallStatus="busy"))[0]
    captured = json.loads(shared_path("recordings", "twilio", "webhooks", "status_busy_sip486.json").read_text())
    assert set(busy.params) == set(captured["params"])
    assert busy.url.endswith("/status?ref=1&x=%20"), "the callback's query comes back as it was given"


async def test_the_voice_webhook_has_the_keys_that_were_captured(sandbox: TwilioSandbox, here: Platform) -> None:
    owned = sandbox.account.number(OURS)
    assert owned is not None
    owned |= {"voice_url": f"{here.url}/voice", "status_callback": f"{here.url}/status"}
    here.replies["/voice"] = "<Response><Hangup/></Response>"
    await sandbox.ring(OURS, THEIRS)
    (told,) = await here.wait_told("/voice")
    captured = json.loads(shared_path("recordings", "twilio", "webhooks", "inbound_voice_ringing_us.json").read_text())
    assert set(told.params) == set(captured["params"])
    (ended,) = await here.wait_told("/status")
    captured = json.loads(
        shared_path("recordings", "twilio", "webhooks", "inbound_status_completed_us.json").read_text()
    )
    assert set(ended.params) == set(captured["params"])


async def test_a_recording_callback_has_the_keys_that_were_captured(sandbox: TwilioSandbox, here: Platform) -> None:
    await dial(sandbox, here, Record="true", RecordingStatusCallback=f"{here.url}/recording")
    (told,) = await here.wait_told("/recording")
    captured = json.loads(shared_path("recordings", "twilio", "webhooks", "recording_completed.json").read_text())
    assert set(told.params) == set(captured["params"])
    assert set(captured["headers"]) <= set(told.headers)
    assert told.params["RecordingSource"] == "OutboundAPI" and int(told.params["RecordingDuration"]) >= 1
    async with httpx.AsyncClient(auth=(sandbox.account.sid, sandbox.account.token), trust_env=False) as http:
        file = await http.get(told.params["RecordingUrl"] + ".wav")
    assert file.status_code == 200 and file.content.startswith(b"RIFF")
    with wave.open(io.BytesIO(file.content)) as sound:
        length = sound.getnframes() / sound.getframerate()
    assert abs(int(told.params["RecordingDuration"]) - length) <= 0.5, "the length in whole seconds"


async def test_a_callback_by_get_carries_a_signed_query(sandbox: TwilioSandbox, here: Platform) -> None:
    await dial(sandbox, here, "+15005550101", StatusCallbackMethod="GET")
    (busy,) = await here.wait_told("/status", CallStatus="busy")
    assert busy.method == "GET" and busy.genuine and busy.params["ref"] == "1" and busy.body == b""


async def test_a_redelivery_is_the_same_byte_for_byte(sandbox: TwilioSandbox, here: Platform) -> None:
    await dial(sandbox, here, "+15005550101")
    (first,) = await here.wait_told("/status", CallStatus="busy")
    await sandbox.webhooks.wait_for("status", count=3)
    index = next(i for i, d in enumerate(sandbox.deliveries) if d.params["CallStatus"] == "busy")
    again = await sandbox.redeliver(index)
    assert again.status == 204 and len(sandbox.deliveries) == 4
    second = here.webhooks[-1]
    assert (second.body, second.url, second.headers) == (first.body, first.url, first.headers)


async def test_a_forged_webhook_keeps_the_old_signature_and_fails_the_vendors_check(
    sandbox: TwilioSandbox, here: Platform
) -> None:
    await dial(sandbox, here, "+15005550101")
    sent, *_ = await sandbox.webhooks.wait_for("status", count=3)  # the call's last: none comes between
    forged = sandbox.forge(sent, CallStatus="completed")
    await sandbox.webhooks.post(forged)
    last = here.webhooks[-1]
    assert last.params["CallStatus"] == "completed" and not last.genuine
    await sandbox.webhooks.post(sandbox.sign(forged))
    assert here.webhooks[-1].genuine, "signed anew, the same message passes"
    bare = {name: value for name, value in forged.headers.items() if name != "x-twilio-signature"}
    await sandbox.webhooks.post(forged.again(headers=bare))
    assert not here.webhooks[-1].genuine


async def test_the_duplicate_quirk_delivers_each_twice(sandbox: TwilioSandbox, here: Platform) -> None:
    sandbox.quirks.add("duplicate")
    await dial(sandbox, here, "+15005550101")
    await here.wait_told("/status", 6)
    assert [w.params["SequenceNumber"] for w in here.webhooks] == ["0", "0", "1", "1", "2", "2"]
    tokens = [w.headers["i-twilio-idempotency-token"] for w in here.webhooks]
    assert len(set(tokens)) == 3, "a retry has the token of the first try"


async def test_the_reorder_quirk_lets_later_callbacks_overtake(sandbox: TwilioSandbox, here: Platform) -> None:
    sandbox.quirks.add("reorder")
    await dial(sandbox, here, "+15005550101")
    await here.wait_told("/status", 3)
    order = [w.params["SequenceNumber"] for w in here.webhooks]
    assert order != ["0", "1", "2"] and sorted(order) == ["0", "1", "2"]


async def test_webhooks_are_signed_with_the_token_that_logged_in(sandbox: TwilioSandbox, here: Platform) -> None:
    credential = sandbox.credential(account_sid="AC" + "5" * 32, auth_token="their own token")
    assert credential.base_url == sandbox.base_url  # type: ignore[attr-defined]
    account = sandbox.accounts["AC" + "5" * 32]
    sandbox.add_number("+13125550150", account.sid)
    owned = account.number("+13125550150")
    assert owned is not None
    owned["voice_url"] = f"{here.url}/voice"
    await sandbox.ring("+13125550150", THEIRS)
    (told,) = await here.wait_told("/voice")
    validator = RequestValidator("their own token")
    assert validator.validate(told.url, told.params, told.headers["x-twilio-signature"])


async def test_ringing_a_number_nobody_owns_is_an_error(sandbox: TwilioSandbox) -> None:
    with pytest.raises(LookupError):
        await sandbox.ring("+13125550199", THEIRS)


async def test_a_doubled_voice_webhook_obeys_the_first_answer(sandbox: TwilioSandbox, here: Platform) -> None:
    sandbox.quirks.add("duplicate")
    owned = sandbox.account.number(OURS)
    assert owned is not None
    owned["voice_url"] = f"{here.url}/voice"
    answers = iter(["<Response><Reject reason='busy'/></Response>", "<Response><Hangup/></Response>"])

    async def answer(webhook: Webhook) -> str:
        return next(answers)

    here.replies["/voice"] = answer
    far_end = await sandbox.ring(OURS, THEIRS)
    await far_end.wait_for("ended")
    assert far_end.hangup_cause == "busy"
    first, second = here.told("/voice")
    assert (first.body, first.headers) == (second.body, second.headers)
