"""Vonage's own SDK works against the sandbox: what it reads of the answers, and what it makes of refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from vonage_account import Account
from vonage_application import Application
from vonage_application.requests import ApplicationConfig
from vonage_http_client import Auth, HttpClient
from vonage_http_client.errors import AuthenticationError, ForbiddenError, HttpRequestError, NotFoundError
from vonage_numbers import (
    ListOwnedNumbersFilter,
    NumberParams,
    Numbers,
    NumbersError,
    SearchAvailableNumbersFilter,
    UpdateNumberParams,
)
from vonage_voice import CreateCallRequest, Voice
from vonage_voice.models.common import Phone
from vonage_voice.models.connect_endpoints import WebsocketEndpoint
from vonage_voice.models.ncco import Connect
from vonage_voice.models.requests import ToPhone

from anycarrier.testing.live_server import listening, serve, url_of
from anycarrier_vonage.sandbox import VonageSandbox
from anycarrier_vonage.sandbox.accounts import API_KEY, API_SECRET, APPLICATION, pem_of, private_key

NUMBER = "14155550100"


class Loopback(HTTPAdapter):
    """The SDK always says https; the sandbox on loopback does not."""

    def send(self, request: PreparedRequest, **options: Any) -> Response:  # type: ignore[override]
        request.url = str(request.url).replace("https://", "http://", 1)
        return super().send(request, **options)


def client(sandbox: VonageSandbox, **auth: Any) -> HttpClient:
    fields = {"api_key": API_KEY, "api_secret": API_SECRET, "application_id": APPLICATION,
              "private_key": pem_of(private_key()), **auth}  # fmt: skip
    host = sandbox.base_url.removeprefix("http://")
    made = HttpClient(Auth(**fields), {"api_host": host, "rest_host": host, "timeout": 10, "max_retries": 0})
    made._session.mount("https://", Loopback())
    return made


async def sdk(act: Any, *arguments: Any) -> Any:
    """The SDK blocks: it works in a thread."""
    return await asyncio.to_thread(act, *arguments)


async def media(scope: Any, receive: Any, send: Any) -> None:
    """A socket that takes what comes, and webhooks that are acknowledged."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def test_a_call_from_dial_to_hang_up(sandbox: VonageSandbox) -> None:
    voice, sock = Voice(client(sandbox)), listening()
    sandbox.add_number(f"+{NUMBER}")
    async with serve(media, sock, lifespan="off"):
        url = url_of(sock)
        address = url.replace("http", "ws") + "/media"
        headers = {"custom-desk": "front"}
        endpoint = WebsocketEndpoint(uri=address, contentType="audio/l16;rate=16000", headers=headers)
        asked = CreateCallRequest(
            ncco=[Connect(endpoint=[endpoint], from_=NUMBER)],
            to=[ToPhone(number="12125550120", dtmf_answer="1p2")],
            from_=Phone(number=NUMBER),
            event_url=[f"{url}/events"],
            ringing_timer=20,
        )
        placed = await sdk(voice.create_call, asked)
        far_end = await sandbox.far_end(placed.uuid)
        await far_end.wait_for("streaming")
        assert (placed.status, placed.direction, far_end.digits) == ("started", "outbound", "12")
        told = await sdk(voice.get_call, placed.uuid)
        assert (told.status, told.to.number, told.from_.number) == ("answered", "12125550120", NUMBER)
        assert (await sdk(voice.play_dtmf_into_call, placed.uuid, "45#")).message == "DTMF sent"
        assert far_end.digits == "1245#"
        calls, _ = await sdk(voice.list_calls)
        assert [call.uuid for call in calls] == [placed.uuid]
        await sdk(voice.hangup, placed.uuid)
        await far_end.wait_for("ended")
        over = await sdk(voice.get_call, placed.uuid)
        assert over.status == "completed" and over.price and over.duration
        with pytest.raises(NotFoundError):
            await sdk(voice.hangup, placed.uuid)


async def test_a_wrong_key_does_not_log_in(sandbox: VonageSandbox) -> None:
    voice = Voice(client(sandbox, private_key=pem_of(private_key("somebody else's"))))
    with pytest.raises(AuthenticationError):
        await sdk(voice.list_calls)
    numbers = Numbers(client(sandbox, api_secret="wrong-secret"))
    with pytest.raises(AuthenticationError):
        await sdk(numbers.list_owned_numbers)
    with pytest.raises(ForbiddenError):
        await sdk(Numbers(client(sandbox, api_secret="suspended-secret")).list_owned_numbers)


@pytest.mark.parametrize("to", ["15005550104", "12"])
async def test_a_number_that_cannot_be_is_refused(sandbox: VonageSandbox, to: str) -> None:
    endpoint = WebsocketEndpoint(uri="wss://voice.example.com/media", contentType="audio/l16;rate=8000")
    ncco = [Connect(endpoint=[endpoint], from_=NUMBER)]
    asked = CreateCallRequest(ncco=ncco, to=[ToPhone(number=to)], from_=Phone(number=NUMBER))
    with pytest.raises(HttpRequestError, match="400"):
        await sdk(Voice(client(sandbox)).create_call, asked)


async def test_a_number_from_search_to_release(sandbox: VonageSandbox) -> None:
    numbers = Numbers(client(sandbox))
    wanted = SearchAvailableNumbersFilter(
        country="US", type="mobile-lvn", features="VOICE", pattern="1415", search_pattern=0, size=2
    )
    found, count, following = await sdk(numbers.search_available_numbers, wanted)
    assert len(found) == 2 and count > 2 and following == 2
    msisdn = found[0].msisdn
    bought = NumberParams(country="US", msisdn=msisdn)
    assert (await sdk(numbers.buy_number, bought)).error_code == "200"
    with pytest.raises(HttpRequestError, match="420"):
        await sdk(numbers.buy_number, bought)
    linked = UpdateNumberParams(country="US", msisdn=msisdn, app_id=APPLICATION)
    await sdk(numbers.update_number, linked)
    owned, _, _ = await sdk(numbers.list_owned_numbers, ListOwnedNumbersFilter(pattern=msisdn, search_pattern=0))
    assert [(one.msisdn, one.app_id) for one in owned] == [(msisdn, APPLICATION)]
    await sdk(numbers.cancel_number, bought)
    assert (await sdk(numbers.list_owned_numbers))[0] == []
    with pytest.raises((HttpRequestError, NumbersError)):
        await sdk(numbers.cancel_number, bought)


async def test_an_application_is_replaced_whole(sandbox: VonageSandbox) -> None:
    applications = Application(client(sandbox))
    before = await sdk(applications.get_application, APPLICATION)
    assert before.keys.public_key.startswith("-----BEGIN PUBLIC KEY-----")
    config = ApplicationConfig.model_validate({
        "name": "Desk",
        "capabilities": {"voice": {"webhooks": {"answer_url": {
            "address": "https://voice.example.com/answer", "http_method": "POST"}}, "signed_callbacks": True}},
    })  # fmt: skip
    after = await sdk(applications.update_application, APPLICATION, config)
    assert after.name == "Desk" and after.capabilities.voice.webhooks.answer_url.http_method == "POST"
    assert after.keys is None or after.keys.public_key is None  # it was left out
    listed, _ = await sdk(applications.list_applications)
    assert [one.id for one in listed] == [APPLICATION]


async def test_an_account_has_a_balance(sandbox: VonageSandbox) -> None:
    balance = await sdk(Account(client(sandbox)).get_balance)
    assert balance.value == 10.0
