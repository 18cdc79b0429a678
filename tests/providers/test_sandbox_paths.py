"""Every path of a sandbox's API with ids that are empty, odd or long has the carrier's answer, and never an internal
error.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable

import httpx
import pytest
from anycarrier_acme.sandbox import AcmeSandbox

from anycarrier.testing.sandbox import Sandbox
from anycarrier.testing.sandbox_numbers import Login
from anycarrier_bandwidth.sandbox import app as bandwidth
from anycarrier_signalwire.sandbox import app as signalwire
from anycarrier_telnyx.sandbox import app as telnyx
from anycarrier_twilio.sandbox import app as twilio

ODD = ["", ".", "%20", "%00", "%0A", "a" * 5000, "%C3%A9", "%FF", "a%2Fb", "%2F", ".json", "x.json", "%25", "%5B",
       "a%3Fb", "a%23b", "-1", "null", "%7Bid%7D", ";", "%27"]  # fmt: skip
BODIES = [b"", b"{}", b"[]", b"null", b'"x"', b"{", b"a=b", b"\xff"]

Requests = Iterable[tuple[str, str]]
"""Methods, and paths with names in braces."""


def of_twilio() -> tuple[Sandbox, str, Requests]:
    sandbox = twilio.TwilioSandbox(base_url="http://sandbox")
    login = base64.b64encode(f"{sandbox.account.sid}:{sandbox.account.token}".encode()).decode()
    paths = [(each.method, each.path + ending) for each in twilio.OPERATIONS for ending in {*each.extensions, ".json"}]
    own = [(method, path.replace("{AccountSid}", sandbox.account.sid)) for method, path in paths]
    return sandbox, f"Basic {login}", [*own, ("GET", "/2010-04-01/Accounts/{AccountSid}.json"), ("GET", "/{any}")]


def of_telnyx() -> tuple[Sandbox, str, Requests]:
    paths = [(each.method, each.path) for each in telnyx.operations()]
    versioned = [(method, "/v2" + path) for method, path in paths if "{" in path]
    sandbox = telnyx.TelnyxSandbox(base_url="http://sandbox")
    return sandbox, f"Bearer {telnyx.API_KEY}", [*paths, *versioned, ("GET", "/{any}"), ("GET", "/v2/{any}")]


def of_acme() -> tuple[Sandbox, str, Requests]:
    queries = [("GET", f"/numbers?{name}={{value}}") for name in ("limit", "page", "country", "area_code", "features")]
    calls = [("GET", "/calls?id={id}"), ("DELETE", "/calls?id={id}"), ("POST", "/calls"), ("POST", "/transfers")]
    return AcmeSandbox(base_url="http://sandbox"), "Bearer acme-sandbox-key", [*queries, *calls]


def of_signalwire() -> tuple[Sandbox, str, Requests]:
    sandbox = signalwire.SignalWireSandbox(base_url="http://sandbox")
    login = base64.b64encode(f"{sandbox.project.sid}:PTany".encode()).decode()
    paths = [(each.method, each.path + ending) for each in signalwire.OPERATIONS for ending in each.extensions]
    own = [(method, path.replace("{AccountSid}", sandbox.project.sid)) for method, path in paths]
    return sandbox, f"Basic {login}", [*own, *paths[:1], ("GET", "/{any}"), ("GET", "/api/laml/{any}")]


def of_bandwidth() -> tuple[Sandbox, str, Requests]:
    sandbox = bandwidth.BandwidthSandbox(base_url="http://sandbox")
    paths = [(each.method, each.path.replace("{account}", bandwidth.ACCOUNT)) for each in bandwidth.OPERATIONS]
    queries = [("GET", f"/api/v2/tns?{name}={{value}}") for name in ("page", "size", "status", "fullNumber")]
    others = [("GET", "/{any}"), ("GET", "/api/v2/accounts/{account}/calls"), ("POST", "/api/v1/oauth2/token")]
    return sandbox, f"Bearer {sandbox.issue_token('client', Login.GOOD)}", [*paths, *queries, *others]


CARRIERS = {
    "acme": of_acme, "bandwidth": of_bandwidth, "signalwire": of_signalwire, "telnyx": of_telnyx, "twilio": of_twilio
}  # fmt: skip


@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
async def test_odd_path_parts_and_bodies_have_the_carriers_answer(carrier: object) -> None:
    sandbox, login, requests = carrier()  # type: ignore[operator]
    wrong = []
    transport = httpx.ASGITransport(sandbox.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, headers={"authorization": login}) as http:
        for method, path in requests:
            for number, odd in enumerate(ODD if "{" in path else ODD[:8]):
                url = "http://sandbox" + re.sub(r"\{\w+\}", lambda _, odd=odd: odd, path)
                body = None if method == "GET" else BODIES[number % len(BODIES)]
                answer = await http.request(method, url, content=body)
                if answer.status_code >= 500 or 300 <= answer.status_code < 400 or not in_shape(answer):
                    wrong.append(f"{method} {path} with {odd[:20]!r}, {body!r}: {answer.status_code} {answer.text}")
    await sandbox.aclose()
    assert not wrong, "\n".join(wrong[:20])


def in_shape(answer: httpx.Response) -> bool:
    """Success, or a refusal in JSON or XML, or one without a word that a carrier has for another account's paths."""
    if answer.status_code < 400 or (answer.status_code == 404 and not answer.content):
        return True
    if answer.headers.get("content-type") == "application/xml":
        return "<RestException>" in answer.text or "<Description>" in answer.text
    try:
        return isinstance(json.loads(answer.text), dict)
    except ValueError:
        return False
