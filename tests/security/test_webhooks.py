"""S1, S4, S6, S7: only the carrier is believed, once, about the address it was given, and never without a key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from by_hand import OURS, SECRET, ByHand, new_call, sign, ticket_in
from running import NUMBERS, SECRETS, SOMEBODY, Running, running

from anycarrier import Exchange, MemoryNumberRegistry
from anycarrier.cli import main
from anycarrier.errors import ConfigurationError
from anycarrier.testing.sandbox import Delivery, Sandbox
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store
from anycarrier_telnyx.sandbox import TelnyxSandbox
from anycarrier_telnyx.sandbox.webhooks import signature_headers

CARRIERS = ("twilio", "telnyx")


async def ringing(at: Running, provider: str) -> Delivery:
    """A genuine announcement, delivered and taken."""
    await at.equip(provider)
    assert at.service.sandboxes is not None
    sandbox = at.service.sandboxes.played[provider]
    await at.ring(NUMBERS[provider])
    async with asyncio.timeout(30):
        while not (taken := [one for one in sandbox.deliveries if f"/{provider}/" in one.url]):
            await asyncio.sleep(0.01)
    assert taken[0].accepted, taken[0]
    return taken[0]


def resigned(sandbox: Sandbox, delivery: Delivery) -> Delivery:
    """With the signature that the carrier would give it now."""
    if not isinstance(sandbox, TelnyxSandbox):
        token = SECRETS["twilio"].partition(":")[2]
        headers = {name: value for name, value in delivery.headers.items() if "signature" not in name.lower()}
        return delivery.again(headers={**headers, "X-Twilio-Signature": sign(delivery.url, {**delivery.params}, token)})
    account = next(one for one in sandbox.accounts.values() if one.number(NUMBERS["telnyx"]) is not None)
    return delivery.again(headers=signature_headers(account.key, delivery.body))


def another(provider: str, delivery: Delivery) -> tuple[Delivery, str]:
    """The announcement of a call that never was, its signature the old one; and that call's id."""
    call_id = new_call() if provider == "twilio" else f"v3:{uuid4().hex}"
    if provider == "twilio":
        params: dict[str, Any] = {**delivery.params, "CallSid": call_id}
        return delivery.again(params=params, body=urlencode(params).encode(), call_id=call_id), call_id
    params = json.loads(delivery.body)
    params["data"]["id"] = str(uuid4())
    params["data"]["payload"] |= {"call_control_id": call_id, "call_leg_id": str(uuid4())}
    body = json.dumps(params, separators=(",", ":")).encode()
    return delivery.again(params=params, body=body, call_id=call_id), call_id


@pytest.mark.parametrize("provider", CARRIERS)
async def test_s1_an_unsigned_webhook_is_refused_and_starts_nothing(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        genuine = await ringing(at, provider)
        assert at.service.sandboxes is not None
        sandbox = at.service.sandboxes.played[provider]
        made_up, call_id = another(provider, genuine)
        plain = {name: value for name, value in made_up.headers.items() if "signature" not in name.lower()}
        assert len(plain) < len(made_up.headers)
        empty = {name: "" if "signature" in name.lower() else value for name, value in made_up.headers.items()}
        for forged in (made_up, made_up.again(headers=plain), made_up.again(headers=empty)):
            sent = await sandbox.webhooks.post(forged)
            assert sent.status in (401, 403), sent
            assert b"/media/" not in sent.reply
            assert await at.service.store.calls.find(call_id) is None
        signed = await sandbox.webhooks.post(resigned(sandbox, made_up))
        assert signed.accepted, "the same words, signed, are taken: it was the signature"
        assert await at.service.store.calls.find(call_id) is not None


async def test_s1_either_app_refuses_what_is_signed_with_another_secret_or_changed_by_one_letter(house: ByHand) -> None:
    call_id = new_call()
    params = house.announcement(call_id)
    good = sign(house.webhook, params)
    almost = good[:-2] + ("A=" if good[-2] != "A" else "B=")
    for signature in ("", "x", almost, sign(house.webhook, params, SECRET + "x")):
        refused = await house.post(params, headers={"X-Twilio-Signature": signature})
        assert refused.status_code == 403 and not ticket_in(refused), signature
    changed = await house.post({**params, "From": "+12125550143"}, headers={"X-Twilio-Signature": good})
    assert changed.status_code == 403
    taken = await house.post(params, headers={"X-Twilio-Signature": good})
    assert taken.status_code == 200 and ticket_in(taken)


async def test_s1_a_webhook_for_no_credential_of_ours_is_not_found(house: ByHand) -> None:
    params = house.announcement(new_call())
    stranger = ByHand(house.origin, "crd_" + "0" * 32)
    answer = await stranger.post(params, headers={"X-Twilio-Signature": sign(stranger.webhook, params)})
    assert answer.status_code == 404 and not ticket_in(answer)


async def test_s4_a_replayed_announcement_mints_no_second_ticket(house: ByHand) -> None:
    call_id = new_call()
    first = await house.announce(call_id)
    assert ticket_in(first)
    again = await house.announce(call_id)
    assert not ticket_in(again) and again.status_code >= 400
    disguised = await house.announce(call_id, CallStatus="ringing", SequenceNumber="7")
    assert not ticket_in(disguised), "another event id, the same call: the book knows it"


@pytest.mark.parametrize("provider", CARRIERS)
async def test_s4_a_replay_of_either_carriers_webhook_starts_no_second_call(provider: str, tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        issued: list[Any] = []
        issue = at.service.exchange.switchboard.tickets.issue

        def noted(**named: Any) -> str:
            issued.append(named)
            return issue(**named)

        at.service.exchange.switchboard.tickets.issue = noted  # type: ignore[method-assign]
        genuine = await ringing(at, provider)
        assert at.service.sandboxes is not None
        sandbox = at.service.sandboxes.played[provider]
        async with asyncio.timeout(30):
            while not issued:  # a carrier that is commanded has its 200 before it has its ticket
                await asyncio.sleep(0.01)
        before = (await at.ask("GET", "/v1/calls"))["total"]
        for replay in (genuine, resigned(sandbox, genuine.again())):
            answer = await sandbox.webhooks.post(replay.again())
            assert b"/media/" not in answer.reply
        assert (len(issued), (await at.ask("GET", "/v1/calls"))["total"]) == (1, before)


async def test_s4_a_telnyx_webhook_signed_long_ago_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        genuine = await ringing(at, "telnyx")
        assert at.service.sandboxes is not None
        sandbox = at.service.sandboxes.played["telnyx"]
        assert isinstance(sandbox, TelnyxSandbox)
        made_up, call_id = another("telnyx", genuine)
        account = next(a for a in sandbox.accounts.values() if a.number(NUMBERS["telnyx"]) is not None)
        now = int(genuine.headers["telnyx-timestamp"])
        expired = signature_headers(account.key, made_up.body, now - 400)
        old = await sandbox.webhooks.post(made_up.again(headers=expired))
        assert old.status in (401, 403) and await at.service.store.calls.find(call_id) is None
        new = await sandbox.webhooks.post(made_up.again(headers=signature_headers(account.key, made_up.body, now)))
        assert new.accepted


async def test_s6_without_a_key_nothing_is_accepted(tmp_path: Path) -> None:
    """A Telnyx account whose public key nobody typed in; a Twilio one whose token is missing cannot be made."""
    async with running(tmp_path, sandbox=False, local=False, public_url="https://voice.example.com") as at:
        keyless = {"name": "x", "provider": "telnyx", "api_key": "KEY0123456789ABCDEF_secret"}
        made = await at.ask("POST", "/v1/credentials", 201, json=keyless)
        message = {"data": {"id": str(uuid4()), "event_type": "call.initiated", "payload": {"direction": "incoming"}}}
        for headers in ({}, {"telnyx-signature-ed25519": "", "telnyx-timestamp": "0"}):
            answer = await at.http.post(f"/telnyx/{made['id']}", json=message, headers=headers)
            assert answer.status_code in (401, 403), answer.text
        assert (await at.ask("GET", "/v1/calls"))["total"] == 0
        empty = await at.http.post("/v1/credentials", json={"name": "x", "provider": "twilio", "api_key": ""})
        assert empty.status_code == 422


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--public-url", "http://voice.example.com"], "https"),
        (["--sandbox", "--host", "0.0.0.0"], "sandbox"),
        (["--sandbox", "--public-url", "https://voice.example.com"], "sandbox"),
    ],
)
def test_s6_serve_refuses_to_start_in_production_with_its_guard_down(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox's keys are public, so it is the one insecure switch: for this machine only."""
    monkeypatch.chdir(tmp_path)
    # It would leave the root logger with this test's standard error, which is closed after it.
    monkeypatch.setattr("anycarrier_server.runtime.set_up_logging", lambda *_, **__: None)
    assert main(["serve", "--port", "0", "--data-dir", str(tmp_path), *words]) == 2
    assert told in capsys.readouterr().err


async def test_s6_serve_refuses_to_start_without_the_key_its_secrets_are_sealed_with(tmp_path: Path) -> None:
    async with running(tmp_path) as at:
        await at.equip("twilio")
    (tmp_path / "master.key").unlink()
    with pytest.raises(ConfigurationError, match="master key"):
        await Store.open(Settings(data_dir=tmp_path))


def test_s6_an_exchange_without_a_secret_or_without_tls_is_not_made() -> None:
    for mistake in ({"secret": ""}, {"secret": "short"}, {"public_url": "http://voice.example.com"}):
        good: dict[str, Any] = {"public_url": "https://voice.example.com", "secret": "0" * 64}
        with pytest.raises(ConfigurationError):
            Exchange(registry=MemoryNumberRegistry(), credentials={}, **(good | mistake))


async def test_s7_the_configured_address_is_verified_not_the_one_the_request_claims(house: ByHand) -> None:
    other = "attacker.example.com"
    elsewhere = {"Host": other, "X-Forwarded-Host": other, "X-Forwarded-Proto": "https"}
    params = house.announcement(new_call())
    path = house.webhook.removeprefix(house.origin)
    claimed = sign(f"https://attacker.example.com{path}", params)
    assert (await house.post(params, headers={**elsewhere, "X-Twilio-Signature": claimed})).status_code == 403
    taken = await house.post(params, headers={**elsewhere, "X-Twilio-Signature": sign(house.webhook, params)})
    assert taken.status_code == 200 and "attacker" not in taken.text


async def test_s7_a_port_may_be_left_out_of_what_is_signed(house: ByHand) -> None:
    params = house.announcement(new_call())
    without = house.webhook.replace(":" + house.origin.rpartition(":")[2], "", 1)
    assert without != house.webhook
    assert (await house.post(params, headers={"X-Twilio-Signature": sign(without, params)})).status_code == 200
    other = new_call()
    wrong = house.webhook.replace(":" + house.origin.rpartition(":")[2], ":1", 1)
    params = house.announcement(other)
    assert (await house.post(params, headers={"X-Twilio-Signature": sign(wrong, params)})).status_code == 403


async def test_s7_a_proxy_may_take_a_path_away_that_the_carrier_signed(tmp_path: Path) -> None:
    public = "https://voice.example.com/telephony"
    async with running(tmp_path, sandbox=False, local=False, public_url=public) as at:
        sent = {"name": "x", "provider": "twilio", "api_key": f"AC{'5' * 32}:{SECRET}"}
        made = await at.ask("POST", "/v1/credentials", 201, json=sent)
        path = f"/twilio/{made['id']}"
        params = {"CallSid": new_call(), "AccountSid": "AC" + "5" * 32, "From": SOMEBODY, "To": OURS,
                  "CallStatus": "ringing", "Direction": "inbound"}  # fmt: skip
        for url, status in ((f"https://voice.example.com{path}", 403), (f"{public}{path}", 200)):
            headers = {"X-Twilio-Signature": sign(url, params), "Content-Type": "application/x-www-form-urlencoded"}
            answer = await at.http.post(path, content=urlencode(params), headers=headers)
            assert answer.status_code == status, url
