"""Twilio on a transport of our own: scripted answers, every request held against Twilio's OpenAPI document."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from anycarrier.webhooks import WebhookRequest
from anycarrier_twilio import TwilioCredential, TwilioProvider
from openapi import Spec

ACCOUNT = "AC" + "0" * 32
TOKEN = "12345"
CALL = "CA" + "1" * 32
NUMBER_SID = "PN" + "2" * 32
RECORDING = "RE" + "3" * 32
OURS = "+14155550100"
THEIRS = "+14155550123"
HOOK = "https://voice.example.com/twilio/main"
DATE = "Tue, 10 Aug 2010 08:02:17 +0000"


class Carrier:
    """Twilio's end of the wire: answers in the order they were scripted."""

    def __init__(self, spec: Spec | None) -> None:
        self.spec = spec
        self.requests: list[httpx.Request] = []
        self.script: deque[httpx.Response | Exception] = deque()

    def answers(
        self, status: int, body: Any = None, *, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> Carrier:
        """The next answer: ``body`` as JSON, or ``content`` as it is."""
        data = json.dumps(body).encode() if body is not None else content
        kind = {"content-type": "application/json"} if body is not None else {}
        self.script.append(httpx.Response(status, content=data, headers={**kind, **(headers or {})}))
        return self

    def breaks(self, failure: Exception) -> Carrier:
        """Next, no answer at all."""
        self.script.append(failure)
        return self

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.script, f"unexpected {request.method} {request.url}"
        answer = self.script.popleft()
        self.check(request, answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def check(self, request: httpx.Request, answer: httpx.Response | Exception) -> None:
        # The media files beside the API are not in the document.
        if self.spec is None or request.url.path.endswith(".wav") or "extra" in request.url.path:
            return
        problems = self.spec.request_problems(request)
        if isinstance(answer, httpx.Response) and answer.status_code < 300 and _is_json(answer):
            body = json.loads(answer.content) if answer.content else None
            problems += self.spec.response_problems(request.method, request.url.path, answer.status_code, body)
        assert not problems, f"{request.method} {request.url.path}: " + "; ".join(problems)

    @property
    def sent(self) -> dict[str, Any]:
        """The form of the last request; a repeated key is a list."""
        return form(self.requests[-1])


def form(request: httpx.Request) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(request.content.decode(), keep_blank_values=True):
        fields[name] = [*([fields[name]] if isinstance(fields[name], str) else fields[name]), value] if (
            name in fields
        ) else value
    return fields


def _is_json(answer: httpx.Response) -> bool:
    try:
        json.loads(answer.content or b"null")
    except ValueError:
        return False
    return True


def call_body(**changes: Any) -> dict[str, Any]:
    """A call as REST describes it."""
    return {
        "sid": CALL,
        "account_sid": ACCOUNT,
        "to": THEIRS,
        "from": OURS,
        "status": "queued",
        "direction": "outbound-api",
        "answered_by": None,
        "date_created": DATE,
        "start_time": None,
        "end_time": None,
        "duration": None,
        **changes,
    }


def number_body(**changes: Any) -> dict[str, Any]:
    """An owned number as REST describes it."""
    return {
        "sid": NUMBER_SID,
        "account_sid": ACCOUNT,
        "phone_number": OURS,
        "friendly_name": "Front desk",
        "voice_url": "https://old.example.com/voice",
        "voice_method": "POST",
        "status_callback": "",
        "status_callback_method": "POST",
        "voice_application_sid": None,
        "trunk_sid": None,
        "capabilities": {"voice": True, "sms": True, "mms": False, "fax": False},
        **changes,
    }


def offer_body(number: str, **changes: Any) -> dict[str, Any]:
    """A number on offer as REST describes it."""
    return {
        "phone_number": number,
        "friendly_name": "(415) 555-0100",
        "iso_country": "US",
        "region": "CA",
        "locality": "San Francisco",
        "capabilities": {"voice": True, "SMS": True, "MMS": False, "fax": False},
        **changes,
    }


def error_body(status: int, code: int, message: str) -> dict[str, Any]:
    return {"status": status, "code": code, "message": message, "more_info": "https://www.twilio.com/docs/errors"}


def webhook(
    fields: Mapping[str, str] | str, *, method: str = "POST", url: str = HOOK, headers: Mapping[str, str] | None = None
) -> WebhookRequest:
    """An unsigned webhook with these form fields."""
    body = fields if isinstance(fields, str) else str(httpx.QueryParams(fields))
    sent = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8", **(headers or {})}
    if method == "GET":
        return WebhookRequest("GET", f"{url}{'&' if '?' in url else '?'}{body}", sent)
    return WebhookRequest(method, url, sent, body.encode())


class Kit:
    """What the tests of this folder share, by way of a fixture: test modules do not import one another."""

    ACCOUNT, TOKEN, CALL, NUMBER_SID, RECORDING = ACCOUNT, TOKEN, CALL, NUMBER_SID, RECORDING
    OURS, THEIRS, HOOK, DATE = OURS, THEIRS, HOOK, DATE
    Carrier = Carrier
    form = staticmethod(form)
    call_body = staticmethod(call_body)
    number_body = staticmethod(number_body)
    offer_body = staticmethod(offer_body)
    error_body = staticmethod(error_body)
    webhook = staticmethod(webhook)


@pytest.fixture
def kit() -> type[Kit]:
    return Kit


@pytest.fixture
def credential() -> TwilioCredential:
    return TwilioCredential(account_sid=ACCOUNT, auth_token=TOKEN)


@pytest.fixture
def carrier() -> Carrier:
    try:
        return Carrier(Spec.load("twilio_api_v2010.trimmed.json", blank_clears=True))
    except pytest.skip.Exception:
        return Carrier(None)


@pytest.fixture
async def provider(carrier: Carrier, credential: TwilioCredential) -> AsyncIterator[TwilioProvider]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(carrier.handle)) as http:
        yield TwilioProvider(credential, http)
