"""The accounts of the sandbox: their keys, applications and numbers, and the tokens that go either way."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from anycarrier.numbers import country_of
from anycarrier.testing.sandbox_numbers import Login, NumberForSale, login_of

API_KEY, API_SECRET = "a1b2c3d4", "vonage-sandbox-secret"
SIGNATURE_SECRET = "vonage-sandbox-signature-secret"
APPLICATION = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
SKEW = 60

TYPES = {"local": "landline", "mobile": "mobile-lvn", "toll_free": "landline-toll-free", "national": "landline"}


class Refused(Exception):
    """An answer that is a refusal, in the shape of the API that gives it."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status, self.body = status, dict(body)


def problem(status: int, title: str, detail: str = "", **more: Any) -> Refused:
    """What calls and applications answer."""
    kind = f"https://developer.vonage.com/api-errors#{title.lower().replace(' ', '-')}"
    return Refused(status, {"type": kind, "title": title, "detail": detail, "instance": uuid.uuid4().hex, **more})


def invalid(**reasons: str) -> Refused:
    """A 400: here the type is a number."""
    wrong = [{"name": name.rstrip("_"), "reason": reason} for name, reason in reasons.items()]
    return Refused(400, {"type": 400, "title": "Bad Request", "invalid_parameters": wrong})


@cache
def private_key(which: str = "") -> rsa.RSAPrivateKey:
    """One for each process and name: making a key takes a moment."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem_of(key: rsa.RSAPrivateKey) -> str:
    kind, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, none).decode()


@dataclass
class Application:
    id: str
    account: Account
    public_key: rsa.RSAPublicKey
    document: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = self.public_key.public_bytes(serialization.Encoding.PEM, spki).decode()
        self.document = self.document or {"name": "Sandbox", "keys": {"public_key": pem}, "capabilities": {}}

    @property
    def voice(self) -> Mapping[str, Any]:
        return dict(self.document.get("capabilities", {}).get("voice", {}))

    def webhook(self, name: str) -> Mapping[str, Any]:
        return dict(self.voice.get("webhooks", {}).get(name, {}))

    def shown(self) -> dict[str, Any]:
        links = {"_links": {"self": {"href": f"/v2/applications/{self.id}"}}}
        return {"id": self.id, **copy.deepcopy(self.document), **links}


@dataclass
class Account:
    key: str
    signature_secret: str = SIGNATURE_SECRET
    login: Login = Login.GOOD
    applications: dict[str, Application] = field(default_factory=dict)
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def own(self, number: str, type: str | None = None, features: list[str] | None = None) -> None:
        country = country_of(number) or "US"
        kind = type or ("mobile-lvn" if country in ("US", "CA") else "landline")
        shown: dict[str, Any] = {"country": country, "msisdn": number.lstrip("+"), "type": kind}
        shown["features"] = features or ["SMS", "VOICE"]
        self.numbers.setdefault(number.lstrip("+"), shown)

    def application_of(self, msisdn: str) -> Application | None:
        """Who gets the calls of a number: a forwarding of its own comes before the application."""
        number = self.numbers.get(msisdn, {})
        if number.get("voiceCallbackType") in ("sip", "tel", "vxml"):
            return None
        return self.applications.get(number.get("app_id", ""))


def for_sale(offer: NumberForSale) -> dict[str, Any]:
    type = "mobile-lvn" if offer.country in ("US", "CA") and offer.type == "local" else TYPES[offer.type]
    features = [feature.upper() for feature in sorted(offer.features) if feature in ("sms", "mms", "voice")]
    return {
        "country": offer.country,
        "msisdn": offer.number.lstrip("+"),
        "cost": offer.monthly_cost,
        "type": type,
        "features": features,
    }


class Accounts:
    """All of them, by key; applications by id, as their tokens name them."""

    def __init__(self) -> None:
        self.by_key: dict[str, Account] = {}
        self.applications: dict[str, Application] = {}
        self.add(API_KEY, APPLICATION, private_key().public_key())

    def add(self, key: str, application_id: str, public: rsa.RSAPublicKey, secret: str = SIGNATURE_SECRET) -> Account:
        account = self.by_key.setdefault(key, Account(key))
        account.signature_secret = secret
        if application_id not in account.applications:
            account.applications[application_id] = Application(application_id, account, public)
        self.applications[application_id] = account.applications[application_id]
        return account

    def logged_in(self, authorization: str) -> Account:
        """By key and secret. Any secret is good but for the magic ones."""
        scheme, _, given = authorization.partition(" ")
        try:
            key, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            key = secret = ""
        if scheme.lower() != "basic" or not key or not secret:
            raise problem(401, "Unauthorized", "You did not provide correct credentials.")
        check(login_of(secret))
        return self.by_key.setdefault(key, Account(key))

    def application(self, authorization: str, now: float | None = None) -> Application:
        """By a token that the application's private key has signed."""
        scheme, _, token = authorization.partition(" ")
        now = time.time() if now is None else now
        try:
            head, claims, signature = token.split(".")
            said = json.loads(decoded(claims))
            if scheme.lower() != "bearer" or json.loads(decoded(head)) != {"alg": "RS256", "typ": "JWT"}:
                raise ValueError("not RS256")
            application = self.applications[said["application_id"]]
            application.public_key.verify(
                decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
            if not said["jti"] or said["iat"] > now + SKEW or said.get("exp", said["iat"] + 900) < now:
                raise ValueError("not valid now")
        except (ValueError, KeyError, TypeError, InvalidSignature):
            raise problem(401, "Unauthorized", "The supplied token is not valid.") from None
        check(application.account.login)
        return application


def check(login: Login) -> None:
    match login:
        case Login.WRONG:
            raise problem(401, "Unauthorized", "You did not provide correct credentials.")
        case Login.SUSPENDED:
            raise problem(403, "Forbidden", "Your account does not have permission to perform this action.")
        case Login.BROKE:
            raise problem(402, "Low balance", "Your account balance is too low.")
        case Login.THROTTLED:
            raise problem(429, "Rate Limit Hit", "Please wait, then retry your request")


def webhook_token(account: Account, application_id: str, hashed: bytes) -> str:
    claims = {
        "iat": int(time.time()),
        "jti": str(uuid.uuid4()),
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(hashed).hexdigest(),
        "api_key": account.key,
        "application_id": application_id,
    }
    signed = encoded({"alg": "HS256", "typ": "JWT"}) + "." + encoded(claims)
    mac = hmac.digest(account.signature_secret.encode(), signed.encode(), "sha256")
    return f"Bearer {signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def hashed_part(method: str, url: str, body: bytes) -> bytes:
    """What a webhook's hash is of: the body, or for GET the parameters in their order as JSON."""
    if method != "GET":
        return body
    pairs = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
    return json.dumps(pairs, separators=(",", ":"), ensure_ascii=False).encode()


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
