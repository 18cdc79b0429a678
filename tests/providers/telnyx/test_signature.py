"""Only what the account's key signed, lately, is believed."""

from __future__ import annotations

import base64
import builtins
import json

import pytest
from nacl.signing import SigningKey

from anycarrier.errors import SignatureInvalid
from anycarrier.webhooks import WebhookRequest
from anycarrier_telnyx import TelnyxCredential, TelnyxProvider
from anycarrier_telnyx.wire import verify_signature
from shared_documents import shared_path

KEY = SigningKey(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.verify_key.encode()).decode()
NOW = 1_763_868_600
BODY = b'{"data":{}}'


def signed(body: bytes = BODY, timestamp: str = str(NOW), **change: str | None) -> WebhookRequest:
    signature = base64.b64encode(KEY.sign(timestamp.encode() + b"|" + body).signature).decode()
    headers = {"telnyx-signature-ed25519": signature, "telnyx-timestamp": timestamp}
    headers |= {name.replace("_", "-"): value for name, value in change.items() if value is not None}
    for name in [name for name, value in change.items() if value is None]:
        del headers[name.replace("_", "-")]
    return WebhookRequest("POST", "https://voice.example.com/telnyx/main", headers, body)


def vectors() -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(
        shared_path("recordings", "telnyx", "signatures", "vectors_derived.json").read_text()
    )
    assert len(listed) >= 7
    return listed


def test_every_shared_vector_is_judged_as_it_says():
    for vector in vectors():
        request = WebhookRequest(
            "POST",
            "https://voice.example.com/telnyx-webhook",
            {"telnyx-signature-ed25519": vector["signature"], "telnyx-timestamp": vector["timestamp"]},
            vector["raw_body"].encode(),
        )
        credential = TelnyxCredential(api_key="KEY", public_key=vector["public_key"])
        telnyx = TelnyxProvider(credential)
        telnyx.clock = lambda now=vector["now"]: now
        if vector["valid"]:
            telnyx.verify(request)
        else:
            with pytest.raises(SignatureInvalid):
                telnyx.verify(request)


@pytest.mark.parametrize(("off", "good"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_timestamps_are_good_for_five_minutes_either_way(off, good):
    if good:
        verify_signature(signed(), PUBLIC, NOW + off)
    else:
        with pytest.raises(SignatureInvalid, match="clock"):
            verify_signature(signed(), PUBLIC, NOW + off)


@pytest.mark.parametrize(
    "request_",
    [
        signed(telnyx_signature_ed25519=None),
        signed(telnyx_timestamp=None),
        signed(telnyx_signature_ed25519=""),
        signed(telnyx_signature_ed25519="AAAA"),
        signed(telnyx_signature_ed25519="not base64 \u00fc"),
        signed(telnyx_signature_ed25519=base64.b64encode(bytes(64)).decode()),
        signed(telnyx_timestamp=str(NOW + 1)),
        signed(telnyx_timestamp=f" {NOW}"),
        signed(telnyx_timestamp=f"-{NOW}"),
        signed(telnyx_timestamp="\u0661\u0662"),
        signed(telnyx_timestamp="1e9"),
    ],
)
def test_missing_foreign_and_malformed_headers_are_refused(request_):
    with pytest.raises(SignatureInvalid):
        verify_signature(request_, PUBLIC, NOW)


def test_one_changed_byte_anywhere_is_refused():
    request = signed(b'{"data":{"id":"1"}}')
    for place in range(len(request.body)):
        body = bytearray(request.body)
        body[place] ^= 1
        with pytest.raises(SignatureInvalid):
            verify_signature(WebhookRequest("POST", request.url, request.headers, bytes(body)), PUBLIC, NOW)


@pytest.mark.parametrize("key", [None, "", "short", "AAAA", base64.b64encode(bytes(31)).decode()])
def test_without_a_usable_public_key_nothing_is_accepted(key):
    with pytest.raises(SignatureInvalid, match="public_key"):
        verify_signature(signed(), key, NOW)


def test_a_key_that_is_no_point_on_the_curve_accepts_nothing():
    with pytest.raises(SignatureInvalid):
        verify_signature(signed(), base64.b64encode(b"\xff" * 32).decode(), NOW)


def test_without_the_library_nothing_is_accepted(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("nacl"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SignatureInvalid, match="PyNaCl"):
        verify_signature(signed(), PUBLIC, NOW)


def test_a_key_copied_with_a_line_break_still_verifies():
    verify_signature(signed(), f"{PUBLIC}\n", NOW)
