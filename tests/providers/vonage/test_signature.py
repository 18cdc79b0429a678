"""Tokens both ways: Vonage's vectors, the vendor's own verifier as an oracle, and what only the caller can check."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest
from vonage_jwt import JwtClient, verify_signature

from anycarrier.errors import SignatureInvalid
from anycarrier.webhooks import WebhookRequest
from anycarrier_vonage import VonageCredential, VonageProvider
from anycarrier_vonage.provider import LIFETIME, REUSED
from anycarrier_vonage.sandbox.accounts import Account, Accounts, decoded, encoded, pem_of, private_key, webhook_token
from providers.vonage.conftest import APPLICATION, FIELDS, credential
from shared_documents import shared_path

TOLERANCE = 300
BODY = b'{"uuid":"63f61863-4a51-4f6b-86e1-46edebcf9356","status":"ringing"}'
SECRET = FIELDS["signature_secret"]


def request(token: str | None, body: bytes = BODY) -> WebhookRequest:
    headers = {} if token is None else {"authorization": token}
    return WebhookRequest("POST", "https://voice.example.com/vonage/main", headers, body)


def signed(body: bytes = BODY, *, secret: str = SECRET, head: Any = None, **changes: Any) -> str:
    """A token as Vonage's, with ``changes``; None leaves a claim out."""
    import base64
    import hmac

    if (since := changes.pop("since", 0)) and "iat" not in changes:
        changes["iat"] = int(time.time()) + since
    claims = {"iat": int(time.time()), "jti": "1", "iss": "Vonage", "payload_hash": hashlib.sha256(body).hexdigest(),
              "api_key": "a1b2c3d4", "application_id": APPLICATION, **changes}  # fmt: skip
    kept = {name: value for name, value in claims.items() if value is not None}
    text = encoded(head or {"alg": "HS256", "typ": "JWT"}) + "." + encoded(kept)
    mac = hmac.digest(secret.encode(), text.encode(), "sha256")
    return f"Bearer {text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def check(asked: WebhookRequest, held: VonageCredential) -> None:
    VonageProvider(held).verify(asked)


def test_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = json.loads(shared_path("recordings", "vonage", "signatures", "vectors.json").read_text())
    told = {}
    for vector in vectors:
        held = credential(
            api_key="a1b2c3d", application_id="aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
            signature_secret=vector["signature_secret"],
        )  # fmt: skip
        query = f"?{vector['raw_query']}" if vector["raw_query"] else ""
        asked = WebhookRequest(
            vector["method"], f"https://voice.example.com/vonage/answer{query}",
            {"authorization": vector["authorization"]}, (vector["raw_body"] or "").encode(),
        )  # fmt: skip
        try:
            monkeypatch.setattr(time, "time", lambda: vector["now"])  # noqa: B023
            check(asked, held)
            told[vector["name"]] = True
        except SignatureInvalid:
            told[vector["name"]] = False
    assert told == {vector["name"]: vector["valid"] for vector in vectors} and len(told) == 10


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"application_id": None},
        {"since": 30 - TOLERANCE},
        {"since": TOLERANCE - 30},
        {"payload_hash": hashlib.sha256(BODY).hexdigest().upper()},
    ],
    ids=["all claims", "no application", "old", "ahead", "upper case"],
)
def test_a_token_of_vonages_is_believed(changes: dict[str, Any]) -> None:
    token = signed(**changes)
    check(request(token), credential())
    if changes.get("since", 0) <= 0:  # the vendor's takes no token of a clock that is ahead of its own
        assert verify_signature(token.removeprefix("Bearer "), SECRET)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "Evil"},
        {"iss": None},
        {"api_key": "ffffffff"},
        {"api_key": None},
        {"application_id": "bbbbbbbb-bbbb-4ccc-8ddd-0123456789ab"},
        {"since": -TOLERANCE - 30},
        {"since": TOLERANCE + 30},
        {"iat": None},
        {"iat": "now"},
        {"iat": float("nan")},
        {"payload_hash": None},
        {"payload_hash": hashlib.sha256(b"{}").hexdigest()},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_the_vendors_verifier_does_not_look_at_is_refused(changes: dict[str, Any]) -> None:
    token = signed(**changes)
    with pytest.raises(SignatureInvalid):
        check(request(token), credential())


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "Bearer",
        "Bearer x",
        "Bearer a.b",
        "Bearer a.b.c.d",
        "Basic " + signed().removeprefix("Bearer "),
        signed(secret="another"),
        signed(head={"alg": "none"}),
        signed(head={"alg": "RS256", "typ": "JWT"}),
        signed(head={"alg": ["HS256"]}),
        signed(head={"typ": "JWT"}),
        signed()[:-1],
        signed().rpartition(".")[0] + ".",
        "Bearer " + "\u00e9.\u00e9.\u00e9",
    ],
)
def test_what_is_no_token_of_ours_is_refused(token: str | None) -> None:
    with pytest.raises(SignatureInvalid):
        check(request(token), credential())


def test_the_body_is_hashed_as_it_came() -> None:
    check(request(signed()), credential())
    with pytest.raises(SignatureInvalid, match="another body"):
        check(request(signed(), json.dumps(json.loads(BODY)).encode()), credential())


def test_a_webhook_by_get_is_refused_and_told_how_to_be_sent() -> None:
    token = webhook_token(Account("a1b2c3d4", SECRET), APPLICATION, b'{"to":"14155550100"}')
    asked = WebhookRequest("GET", "https://voice.example.com/vonage/main?to=14155550100", {"authorization": token}, b"")
    with pytest.raises(SignatureInvalid, match="POST"):
        check(asked, credential())


def test_our_token_is_the_vendors_but_for_its_lifetime() -> None:
    token = VonageProvider(credential()).headers()["authorization"]
    assert Accounts().application(token).id == APPLICATION
    ours = [json.loads(decoded(part)) for part in token.removeprefix("Bearer ").split(".")[:2]]
    theirs = JwtClient(APPLICATION, pem_of(private_key())).generate_application_jwt()
    text = theirs.decode() if isinstance(theirs, bytes) else theirs
    vendors = [json.loads(decoded(part)) for part in text.split(".")[:2]]
    assert ours[0] == vendors[0]
    assert ours[1].keys() == vendors[1].keys() and ours[1]["exp"] - ours[1]["iat"] == LIFETIME


def test_a_token_is_signed_once_and_renewed_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    vonage, clock = VonageProvider(credential()), [1_800_000_000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    first = vonage.headers()
    clock[0] += REUSED - 1
    assert vonage.headers() == first
    clock[0] += 1
    second = vonage.headers()
    assert second != first
    clock[0] -= 60  # a clock that was set back: the token would be one of the future
    assert vonage.headers() != second
