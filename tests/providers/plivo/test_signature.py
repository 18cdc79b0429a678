"""Only what was signed with the account's token by version 3 is believed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from plivo.utils import validate_signature
from plivo.utils.signature_v3 import validate_v3_signature

from anycarrier.errors import SignatureInvalid
from anycarrier.webhooks import WebhookRequest
from anycarrier_plivo import PlivoCredential, PlivoProvider
from anycarrier_plivo.credential import NONCE, check, sign
from anycarrier_plivo.sandbox.signing import version_2, version_3
from providers.plivo.conftest import AUTH_ID, TOKEN
from shared_documents import shared_path

URL = "https://voice.example.com/plivo/main"
V3, MAIN = "x-plivo-signature-v3", "x-plivo-signature-ma-v3"


def vectors() -> list[dict[str, Any]]:
    path = shared_path("recordings", "plivo", "signatures", "vectors.json")
    listed: list[dict[str, Any]] = json.loads(path.read_text())
    assert len(listed) == 10
    return listed


def request_of(vector: dict[str, Any]) -> WebhookRequest:
    url, form = vector["url"], urlencode(vector.get("params") or {})
    headers = {V3: vector["signature"], NONCE: vector["nonce"]}
    if vector.get("method") == "GET" and form:
        url += ("&" if urlsplit(url).query else "?") + form
    method = vector.get("method") or "POST"
    return WebhookRequest(method, url, headers, form.encode() if method == "POST" else b"")


def test_every_shared_vector_is_judged_as_it_says():
    judged = 0
    for vector in vectors():
        if vector["version"] == "V3" and vector["valid"]:
            check(request_of(vector), vector["auth_token"])
        else:  # those of version 2 are genuine, and cover no parameter
            with pytest.raises(SignatureInvalid):
                check(request_of(vector), vector["auth_token"])
        judged += 1
    assert judged == 10


FORMS = [
    (),
    (("From", "14155550100"), ("To", "+14155550123"), ("Event", "Ring")),
    (("Digits", ""), ("a", "2"), ("B", "1")),
    (("Name", "Zoë & <Söhne>"), ("x.y", "50%")),
]


@pytest.mark.parametrize("query", ["", "?ref=0123456789abcdef", "?b=2&a=1&b=1", "?to=%2B14155550123&blank="])
@pytest.mark.parametrize("form", FORMS)
def test_ours_the_sandboxs_and_the_vendors_are_one(query: str, form: tuple[tuple[str, str], ...]):
    url, nonce = URL + query, "31627761595286130198"
    ours = sign(TOKEN, nonce, url, form)
    assert ours == version_3(TOKEN, nonce, "POST", url, list(form))
    assert validate_v3_signature("POST", url, nonce, TOKEN, ours, dict(form))
    if not form:
        got = sign(TOKEN, nonce, url)
        assert got == version_3(TOKEN, nonce, "GET", url, [])
        assert validate_v3_signature("GET", url, nonce, TOKEN, got, {})


def test_repeated_keys_are_sorted_by_value():
    form = [("a", "2"), ("a", "1")]
    assert sign(TOKEN, "1", URL, form) == version_3(TOKEN, "1", "POST", URL, form) == sign(TOKEN, "1", URL, form[::-1])


def request(headers: dict[str, str], body: bytes = b"From=1", method: str = "POST", url: str = URL) -> WebhookRequest:
    return WebhookRequest(method, url, headers, body)


def good(token: str = TOKEN) -> str:
    return sign(token, "77", URL, [("From", "1")])


@pytest.mark.parametrize(
    "headers",
    [
        {V3: good(), NONCE: "77"},
        {MAIN: good(), NONCE: "77"},  # a sub-account's number, told to the main account
        {V3: good("another token of theirs"), MAIN: good(), NONCE: "77"},
        {V3: f"{good('another token of theirs')},{good()}", NONCE: "77"},  # two tokens are live
        {V3: f"{good('another token of theirs')} , {good()} ", NONCE: "77"},
    ],
)
def test_a_signature_of_ours_among_several_is_enough(headers: dict[str, str]):
    check(request(headers), TOKEN)


@pytest.mark.parametrize(
    "forged",
    [
        request({}),
        request({V3: "", NONCE: ""}),
        request({V3: ",,", NONCE: "77"}),
        request({V3: good()}),
        request({V3: good(), NONCE: "78"}),
        request({V3: good("x" * 40), NONCE: "77"}),
        request({V3: good(), NONCE: "77"}, b"From=2"),
        request({V3: good(), NONCE: "77"}, b"From=1&a=b"),
        request({V3: good(), NONCE: "77"}, url=URL + "?ref=x"),
        request({V3: good(), NONCE: "77"}, url=URL + "/"),
        request({V3: good(), NONCE: "77"}, method="GET"),
        request({V3: "ünïcode", NONCE: "77"}),
        request({V3: "\ud800", NONCE: "77"}),
        request({V3: sign(TOKEN, "77", URL), NONCE: "77"}, method="HEAD"),
        request({V3: sign(TOKEN, "77", URL), NONCE: "77"}, method="PUT"),
        request({"x-plivo-signature-v2": version_2(TOKEN, "77", URL), "x-plivo-signature-v2-nonce": "77"}),
        request({"x-plivo-signature-ma-v2": version_2(TOKEN, "77", URL), "x-plivo-signature-v2-nonce": "77"}),
        request({V3: version_2(TOKEN, "77", URL), NONCE: "77"}),
    ],
)
def test_anything_else_is_refused(forged: WebhookRequest):
    provider = PlivoProvider(PlivoCredential(auth_id=AUTH_ID, auth_token=TOKEN))
    with pytest.raises(SignatureInvalid) as refused:
        provider.verify(forged)
    assert TOKEN not in str(refused.value)


def test_the_sandboxs_version_2_is_the_vendors():
    assert validate_signature(URL, "77", version_2(TOKEN, "77", URL), TOKEN)


@pytest.mark.parametrize("headers", [{}, {NONCE: "77"}, {V3: good()}, {V3: "short", NONCE: "77"}])
def test_the_form_of_who_does_not_sign_is_not_read(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    def read(_: WebhookRequest) -> list[tuple[str, str]]:
        raise AssertionError("a megabyte of it takes a tenth of a second")

    monkeypatch.setattr(WebhookRequest, "form_items", read)
    with pytest.raises(SignatureInvalid):
        check(request(headers), TOKEN)
