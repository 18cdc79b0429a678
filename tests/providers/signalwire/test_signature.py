"""Signatures: both schemes, each header, the vendor's own vectors; whatever is not provably SignalWire's is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace

import pytest

from anycarrier.errors import SignatureInvalid
from anycarrier.webhooks import WebhookRequest
from anycarrier_signalwire import SignalWireCredential, SignalWireProvider
from anycarrier_signalwire.signature import check
from shared_documents import shared_path

KEY = "PSKtest1234567890"
URL = "https://voice.example.com/signalwire/main?ref=c1"
FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}


def base64_of(text: str, key: str = KEY) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()).decode()


def hex_of(text: str, key: str = KEY, digest: str = "sha1") -> str:
    return hmac.new(key.encode(), text.encode(), digest).hexdigest()


def request(body: str, signature: str, header: str = "x-signalwire-signature", **kind: str) -> WebhookRequest:
    return WebhookRequest("POST", URL, {**(kind or FORM), header: signature}, body.encode())


def refused(webhook: WebhookRequest, *keys: str) -> None:
    with pytest.raises(SignatureInvalid):
        check(webhook, *(keys or (KEY,)))


def test_the_vendors_vectors_and_those_that_agree_with_its_validator() -> None:
    vectors = json.loads(shared_path("recordings", "signalwire", "signatures", "vectors.json").read_text())
    assert len(vectors) == 8
    for vector in vectors:
        headers = {"content-type": vector["content_type"], vector["header"]: vector["signature"]}
        webhook = WebhookRequest("POST", vector["url"], headers, vector["raw_body"].encode())
        if vector["valid"]:
            check(webhook, vector["signing_key"])
        else:
            refused(webhook, vector["signing_key"])


@pytest.mark.parametrize("header", ["x-signalwire-signature", "x-twilio-signature"])
def test_a_form_is_taken_under_either_header_by_either_scheme(header: str) -> None:
    body = "CallSid=1&From=%2B14155550123&Note="
    check(request(body, base64_of(f"{URL}CallSid1From+14155550123Note"), header), KEY)
    check(request(body, hex_of(URL + body), header), KEY)
    check(request(body, hex_of(URL + body, digest="sha256"), "x-signalwire-sha256-signature"), KEY)


def test_a_repeated_key_keeps_its_order_or_is_sorted_without_repeats() -> None:
    check(request("To=b&To=a&To=a", base64_of(f"{URL}TobToaToa")), KEY)
    check(request("To=b&To=a&To=a", base64_of(f"{URL}ToaTob")), KEY)
    refused(request("To=b&To=a&To=a", base64_of(f"{URL}TobToa")))


def test_the_url_may_have_its_port_or_a_login_or_neither() -> None:
    for signed in (
        "https://voice.example.com/x", "https://voice.example.com:443/x", "https://me:pw@voice.example.com/x"
    ):  # fmt: skip
        for seen in {signed, signed.replace(":443", ""), signed.replace("me:pw@", "")}:
            sent = WebhookRequest("POST", signed, {**JSON, "x-signalwire-signature": hex_of(seen + "{}")}, b"{}")
            check(sent, KEY)
    other = WebhookRequest("POST", "https://voice.example.com:8443/x", JSON, b"{}")
    refused(replace(other, headers={**JSON, "x-signalwire-signature": hex_of("https://voice.example.com:443/x{}")}))


def test_a_get_has_no_form_but_its_query() -> None:
    check(WebhookRequest("GET", URL, {"x-signalwire-signature": base64_of(URL)}), KEY)
    refused(WebhookRequest("GET", URL + "&x=1", {"x-signalwire-signature": base64_of(URL)}))


def test_json_signed_by_the_url_alone_needs_the_bodys_sum_in_the_url() -> None:
    body = b'{"event":"x"}'
    refused(WebhookRequest("POST", URL, {**JSON, "x-signalwire-signature": base64_of(URL)}, body))
    url = f"{URL}&bodySHA256={hashlib.sha256(body).hexdigest()}"
    good = WebhookRequest("POST", url, {**JSON, "x-signalwire-signature": base64_of(url)}, body)
    check(good, KEY)
    refused(replace(good, body=body + b" "))


def test_nothing_is_taken_without_a_key_or_a_header() -> None:
    unsigned = request("CallSid=1", "")
    refused(unsigned)
    refused(replace(unsigned, headers=FORM))
    for keys in ((), ("",), (KEY, "")):
        with pytest.raises(SignatureInvalid, match="signing_key"):
            check(request("CallSid=1", base64_of(f"{URL}CallSid1", "")), *keys)
    refused(WebhookRequest("POST", "https://[", {**FORM, "x-signalwire-signature": "x"}, b""))
    refused(request("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "x"))
    refused(WebhookRequest("POST", URL, {**FORM, "x-signalwire-signature": "x"}, b"\xff"))


@pytest.mark.parametrize("signature", ["x", "A" * 28, "0" * 39 + "g", "0" * 40 + "\n", "é" * 28, "\ud800"])
def test_what_has_no_signatures_form_is_refused_unread(signature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(self: WebhookRequest) -> None:
        raise AssertionError("the form of a stranger was read")

    monkeypatch.setattr(WebhookRequest, "form_items", unread)
    refused(request("CallSid=1", signature))
    refused(request("CallSid=" + "1" * 70_000, base64_of("anything")))


def test_the_api_token_signs_nothing_and_a_key_being_reset_does() -> None:
    credential = SignalWireCredential(
        space="example", project_id="0f1e2d3c-4b5a-4697-8877-665544332211", api_token="PTtoken", signing_key=KEY,
        secondary_signing_key="PSKnew",
    )  # fmt: skip
    provider = SignalWireProvider(credential)
    for key, good in ((KEY, True), ("PSKnew", True), ("PTtoken", False)):
        signed = request("CallSid=1", base64_of(f"{URL}CallSid1", key))
        if good:
            provider.verify(signed)
        else:
            with pytest.raises(SignatureInvalid):
                provider.verify(signed)
