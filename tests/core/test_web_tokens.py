"""JSON Web Tokens: one's own are believed by others, and of theirs only those that are what they say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from anycarrier.errors import SignatureInvalid
from anycarrier.networks import on_domain
from anycarrier.web_tokens import is_of, signed_token, token_claims

KEY, NOW = b"a key of at least thirty-two bytes", 1_800_000_000


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def made(head: Any, claims: Any, key: bytes = KEY) -> str:
    text = f"{part(head)}.{part(claims)}"
    mac = hmac.digest(key, text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def test_what_is_signed_is_read_again() -> None:
    claims = {"iat": NOW, "iss": "caf\u00e9", "n": [1, {"x": None}]}
    assert token_claims(signed_token(claims, KEY), KEY, now=NOW) == claims


def test_an_rsa_signature_is_by_the_books() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    head, claims, signature = signed_token({"iat": NOW}, key).split(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    key.public_key().verify(raw, f"{head}.{claims}".encode(), padding.PKCS1v15(), SHA256())
    assert json.loads(base64.urlsafe_b64decode(head + "==")) == {"alg": "RS256", "typ": "JWT"}


@pytest.mark.parametrize(
    "head", [{"alg": "none"}, {"alg": "RS256"}, {"alg": ["HS256"]}, {"typ": "JWT"}, [], "HS256", None]
)
def test_only_hs256_is_believed(head: Any) -> None:
    with pytest.raises(SignatureInvalid, match="secret"):
        token_claims(made(head, {"iat": NOW}), KEY, now=NOW)


@pytest.mark.parametrize("claims", [{}, {"iat": None}, {"iat": "now"}, [], 5, {"iat": float("nan")}])
def test_a_token_that_does_not_say_when_is_refused(claims: Any) -> None:
    with pytest.raises(SignatureInvalid):
        token_claims(made({"alg": "HS256"}, claims), KEY, now=NOW)


@pytest.mark.parametrize(("age", "good"), [(0, True), (300, True), (301, False), (-300, True), (-301, False)])
def test_a_token_is_good_for_a_while(age: int, good: bool) -> None:
    token = signed_token({"iat": NOW - age}, KEY)
    if good:
        assert token_claims(token, KEY, now=NOW)
    else:
        with pytest.raises(SignatureInvalid, match="old"):
            token_claims(token, KEY, now=NOW)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d", "\u00e9.\u00e9.\u00e9", "*.*.*"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(SignatureInvalid):
        token_claims(token, KEY, now=NOW)


def test_another_key_and_a_changed_token_are_refused() -> None:
    token = signed_token({"iat": NOW}, KEY)
    head, claims, signature = token.split(".")
    changed = f"{head}.{part({'iat': NOW + 1})}.{signature}"
    for forged in (signed_token({"iat": NOW}, b"x"), changed, f"{head}.{claims}."):
        with pytest.raises(SignatureInvalid):
            token_claims(forged, KEY, now=NOW)


def test_a_hash_is_of_its_body_in_either_case() -> None:
    told = hashlib.sha256(b"{}").hexdigest()
    assert is_of(told, b"{}") and is_of(told.upper(), b"{}")
    assert not any(is_of(other, b"{}") for other in (None, "", told[:-1], 5, hashlib.sha256(b"").hexdigest()))


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://api-us-3.acme.example", True),
        ("https://api.eu.other.example/v1/files/x", True),
        ("https://API.acme.example:443", True),
        ("http://api.acme.example", False),
        ("https://api.acme.example.evil.example", False),
        ("https://acme.example", False),
        ("https://evilacme.example", False),
        ("https://api.acme.example@evil.example", False),
        ("https://user@api.acme.example", False),
        ("https://api.acme.example:8443", False),
        ("https://api.acme.example:x", False),
        ("https://a b.acme.example", False),
        ("https://..acme.example", False),
        ("https://evil.example/.acme.example", False),
        ("https://evil.example\\.acme.example", False),
        ("https://[::1", False),
        ("", False),
    ],
)
def test_a_login_goes_to_the_carriers_own_hosts(url: str, own: bool) -> None:
    assert on_domain(url, "acme.example", "other.example") is own
