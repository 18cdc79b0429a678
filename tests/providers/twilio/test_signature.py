"""Webhook signatures: Twilio's own vectors, and everything that must be refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from anycarrier.errors import SignatureInvalid
from anycarrier.webhooks import WebhookRequest
from anycarrier_twilio import TwilioCredential, TwilioProvider
from anycarrier_twilio.signature import check, sign
from shared_documents import shared_path

TOKEN = "12345"
URL = "https://voice.example.com/twilio/main?ref=abc"
FORM = "application/x-www-form-urlencoded"


def vector_request(vector: dict[str, Any]) -> WebhookRequest:
    headers = {"x-twilio-signature": vector["signature"]}
    url = vector.get("url_that_matches", vector["url"])
    if vector["body"] is not None:
        return WebhookRequest("POST", url, {**headers, "content-type": "application/json"}, vector["body"].encode())
    if not vector["params"]:
        return WebhookRequest("GET", url, headers)
    pairs = [(k, v) for k, vs in vector["params"].items() for v in (vs if isinstance(vs, list) else [vs])]
    body = str(httpx.QueryParams(pairs)).encode()
    return WebhookRequest("POST", url, {**headers, "content-type": FORM}, body)


def test_every_vector_of_twilios_own_libraries():
    vectors = json.loads(shared_path("recordings", "twilio", "signatures", "vectors.json").read_text())
    verdicts = {}
    for vector in vectors:
        try:
            check(vector_request(vector), vector["auth_token"])
            verdicts[vector["name"]] = True
        except SignatureInvalid:
            verdicts[vector["name"]] = False
    assert verdicts == {vector["name"]: vector["valid"] for vector in vectors} and len(vectors) >= 11


def signed(body: str = "CallSid=CA1&FromCity=", *, url: str = URL, sent_to: str | None = None) -> WebhookRequest:
    """A form post as Twilio signs it, reckoned here by hand."""
    pairs = sorted(set(httpx.QueryParams(body).multi_items()))
    text = url + "".join(key + value for key, value in pairs)
    mac = base64.b64encode(hmac.new(TOKEN.encode(), text.encode(), hashlib.sha1).digest()).decode()
    return WebhookRequest("POST", sent_to or url, {"x-twilio-signature": mac, "content-type": FORM}, body.encode())


@pytest.mark.parametrize(
    "body",
    ["CallSid=CA1", "CallSid=CA1&FromCity=", "A=2&A=1&A=2&B=", "Body=%C3%A9+%26+%3D", "b=1&B=2&a=3", "%2B=%2B1415"],
)
def test_forms_with_blanks_repeats_and_foreign_letters_verify(body):
    check(signed(body), TOKEN)


@pytest.mark.parametrize(
    ("url", "sent_to"),
    [
        ("https://voice.example.com/x", "https://voice.example.com:443/x"),
        ("https://voice.example.com:443/x", "https://voice.example.com/x"),
        ("http://voice.example.com:80/x", "http://voice.example.com/x"),
        ("https://voice.example.com/x", "https://voice.example.com:8443/x"),
        ("https://u:p@voice.example.com/x?a=b", "https://u:p@voice.example.com:8443/x?a=b"),
        ("https://voice.example.com/x", "https://voice.example.com/x#ct=1000&rc=2"),
        ("wss://voice.example.com:443/media/t", "wss://voice.example.com/media/t"),
    ],
)
def test_ports_and_fragments_come_and_go(url, sent_to):
    check(signed(url=url, sent_to=sent_to), TOKEN)


@pytest.mark.parametrize(
    "sent_to",
    [
        "https://voice.example.com/twilio/main?ref=abd",
        "https://voice.example.com/twilio/other?ref=abc",
        "http://voice.example.com/twilio/main?ref=abc",
        "https://Voice.example.com/twilio/main?ref=abc",
        "https://evil.example.com/twilio/main?ref=abc",
        "https://voice.example.com/twilio/main",
        "https://[::1/twilio/main?ref=abc",
        "https://voice.example.com:99999999/x",
    ],
)
def test_any_other_url_is_refused(sent_to):
    with pytest.raises(SignatureInvalid):
        check(signed(sent_to=sent_to), TOKEN)


@pytest.mark.parametrize(
    "body", [b"CallSid=CA2&FromCity=", b"CallSid=CA1", b"CallSid=CA1&FromCity=&X=", b"", b"\xff\xfe", b"&" * 5000]
)
def test_any_other_body_is_refused(body):
    good = signed()
    with pytest.raises(SignatureInvalid):
        check(WebhookRequest("POST", good.url, good.headers, body), TOKEN)


def test_more_fields_than_any_webhook_has_are_refused_not_crashed_on():
    good = signed()
    body = "&".join(f"k{i}=1" for i in range(1001)).encode()
    with pytest.raises(SignatureInvalid):
        check(WebhookRequest("POST", good.url, good.headers, body), TOKEN)


@pytest.mark.parametrize("sent", [None, "", "é", "AAAA"])
def test_a_missing_or_foreign_header_is_refused(sent):
    good = signed()
    headers = {"content-type": FORM} if sent is None else {"content-type": FORM, "x-twilio-signature": sent}
    with pytest.raises(SignatureInvalid):
        check(WebhookRequest("POST", good.url, headers, good.body), TOKEN)


def test_a_missing_key_is_refused_even_with_a_signature_made_without_one():
    body = b"CallSid=CA1"
    made = sign(URL, [("CallSid", "CA1")], "")
    request = WebhookRequest("POST", URL, {"x-twilio-signature": made, "content-type": FORM}, body)
    with pytest.raises(SignatureInvalid, match="no auth token"):
        check(request, "")
    credential = TwilioCredential(account_sid="AC" + "0" * 32, auth_token="hush")
    provider = TwilioProvider(credential.model_copy(update={"auth_token": SecretStr("")}))
    with pytest.raises(SignatureInvalid, match="no auth token"):
        provider.verify(request)


def json_request(body: bytes, promised: str | None) -> WebhookRequest:
    url = URL if promised is None else f"{URL}&bodySHA256={promised}"
    headers = {"x-twilio-signature": sign(url, [], TOKEN), "content-type": "application/json"}
    return WebhookRequest("POST", url, headers, body)


def test_a_json_body_is_vouched_for_by_the_hash_in_the_url():
    body = b'{"a": 1}'
    digest = hashlib.sha256(body).hexdigest()
    check(json_request(body, digest), TOKEN)
    check(json_request(body, digest.upper()), TOKEN)
    for promised in (None, "", digest[:-1], "0" * 64):
        with pytest.raises(SignatureInvalid):
            check(json_request(body, promised), TOKEN)


def test_a_signed_url_does_not_vouch_for_a_body_of_another_kind():
    """The signature of a GET covers the URL alone: sent again as a post it must not carry a body in."""
    mac = sign(URL, [], TOKEN)
    check(WebhookRequest("GET", URL, {"x-twilio-signature": mac}), TOKEN)
    for kind in (FORM, "text/plain", "application/json", ""):
        request = WebhookRequest("POST", URL, {"x-twilio-signature": mac, "content-type": kind}, b"CallSid=CA1")
        with pytest.raises(SignatureInvalid):
            check(request, TOKEN)


def test_the_provider_checks_with_the_auth_token_never_the_api_key():
    credential = TwilioCredential(
        account_sid="AC" + "0" * 32, auth_token=TOKEN, api_key_sid="SK1", api_key_secret="other"
    )
    TwilioProvider(credential).verify(signed())
    with pytest.raises(SignatureInvalid):
        TwilioProvider(credential.model_copy(update={"auth_token": credential.api_key_secret})).verify(signed())


def test_while_the_token_is_rotated_either_one_signs():
    sid = "AC" + "0" * 32
    both = TwilioCredential(account_sid=sid, auth_token="the old one", secondary_auth_token=TOKEN)
    TwilioProvider(both).verify(signed())
    after = TwilioCredential(account_sid=sid, auth_token=TOKEN, secondary_auth_token="the next")
    TwilioProvider(after).verify(signed())
    with pytest.raises(SignatureInvalid):
        TwilioProvider(TwilioCredential(account_sid=sid, auth_token="the old one")).verify(signed())


@given(st.text(max_size=200), st.binary(max_size=200), st.text(max_size=60), st.sampled_from(["GET", "POST"]))
def test_whatever_comes_unsigned_is_refused_and_nothing_else(url, body, header, method):
    request = WebhookRequest(method, url, {"x-twilio-signature": header}, body)
    with pytest.raises(SignatureInvalid):
        check(request, TOKEN)
