"""SignalWire on a transport of our own: scripted answers, every request held against its OpenAPI document."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from anycarrier.webhooks import WebhookRequest
from anycarrier_signalwire import SignalWireCredential, SignalWireProvider
from openapi import Spec

PROJECT = "0f1e2d3c-4b5a-4697-8877-665544332211"
CALL = "1565933b-8939-47c5-8d85-4f4ef47c8f9f"
NUMBER_SID = "33a196f6-7879-4451-8411-8aecdd08f3bc"
RECORDING = "19e436af-5688-4307-b03b-bdb2b42b8142"
OURS, THEIRS = "+14155550100", "+14155550123"
HOOK = "https://voice.example.com/signalwire/main"
STATUS_URL = HOOK + "?ref=0123456789abcdef0123456789abcdef"
PATH = f"/api/laml/2010-04-01/Accounts/{PROJECT}"


class Carrier:
    """SignalWire's end of the wire: answers in the order they were scripted."""

    def __init__(self, spec: Spec | None) -> None:
        self.spec = spec
        self.requests: list[httpx.Request] = []
        self.script: deque[httpx.Response | Exception] = deque()

    def answers(self, status: int, body: Any = None, *, content: bytes = b"", **headers: str) -> Carrier:
        """The next answer: ``body`` as JSON, or ``content`` as it is."""
        data = json.dumps(body).encode() if body is not None else content
        kind = {"content-type": "application/json"} if body is not None else {}
        self.script.append(httpx.Response(status, content=data, headers={**kind, **headers}))
        return self

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.script, f"unexpected {request.method} {request.url}"
        if self.spec is not None and not request.url.path.endswith(".wav"):
            found = self.spec.request_problems(request)
            # The document gives a search no pages at all; Twilio's SDK, and so the vendor's, sends the size of one.
            found = [each for each in found if each != "query parameter PageSize is unknown"]
            assert not found, f"{request.method} {request.url.path}: " + "; ".join(found)
        answer = self.script.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def sent(self) -> dict[str, Any]:
        """The form of the last request; a repeated key is a list."""
        return form(self.requests[-1])


def form(request: httpx.Request) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(request.content.decode(), keep_blank_values=True):
        fields.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in fields.items()}


def call_body(**changes: Any) -> dict[str, Any]:
    """A call as REST describes it."""
    return {
        "sid": CALL, "account_sid": PROJECT, "to": THEIRS, "from": OURS, "status": "queued", "direction": "outbound",
        "answered_by": None, "date_created": "Thu, 24 Oct 2024 22:08:25 +0000", "start_time": None, "end_time": None,
        "duration": 0, "price": None, "price_unit": "USD", "sip_result_code": None, **changes,
    }  # fmt: skip


def number_body(number: str = OURS, **changes: Any) -> dict[str, Any]:
    """An owned number as REST describes it."""
    return {
        "sid": NUMBER_SID, "phone_number": number, "friendly_name": "Front desk", "voice_url": None,
        "voice_method": "POST", "status_callback": None, "status_callback_method": "POST",
        "voice_application_sid": None, "trunk_sid": None, "capabilities": {"voice": True, "sms": True}, **changes,
    }  # fmt: skip


def numbers_page(*items: Mapping[str, Any], following: str | None = None) -> dict[str, Any]:
    return {"incoming_phone_numbers": list(items), "next_page_uri": following, "page": 0, "page_size": 50}


def flat(status: int, code: int, message: str = "no") -> dict[str, Any]:
    return {"code": code, "message": message, "more_info": "", "status": status}


def listed(code: str, message: str = "no") -> dict[str, Any]:
    return {"errors": [{"code": code, "message": message, "more_info": ""}]}


def webhook(fields: Mapping[str, Any], url: str = HOOK, *, as_json: bool = False) -> WebhookRequest:
    """An unsigned webhook with these fields."""
    body = json.dumps(fields) if as_json else str(httpx.QueryParams(fields))
    kind = "application/json" if as_json else "application/x-www-form-urlencoded"
    return WebhookRequest("POST", url, {"content-type": kind}, body.encode())


class Kit:
    """What the tests of this folder share, by way of a fixture: test modules do not import one another."""

    PROJECT, CALL, NUMBER_SID, RECORDING, PATH = PROJECT, CALL, NUMBER_SID, RECORDING, PATH
    OURS, THEIRS, HOOK, STATUS_URL = OURS, THEIRS, HOOK, STATUS_URL
    form = staticmethod(form)
    call_body = staticmethod(call_body)
    number_body = staticmethod(number_body)
    numbers_page = staticmethod(numbers_page)
    flat = staticmethod(flat)
    listed = staticmethod(listed)
    webhook = staticmethod(webhook)


@pytest.fixture
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
def credential() -> SignalWireCredential:
    return SignalWireCredential(
        space="example.signalwire.com", project_id=PROJECT, api_token="PT0", signing_key="PSK0"
    )


@pytest.fixture
def carrier() -> Carrier:
    try:
        return Carrier(Spec.load("signalwire_compat.trimmed.json", blank_clears=True))
    except pytest.skip.Exception:
        return Carrier(None)


@pytest.fixture
async def provider(carrier: Carrier, credential: SignalWireCredential) -> AsyncIterator[SignalWireProvider]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(carrier.handle)) as http:
        yield SignalWireProvider(credential, http)
