"""Who we are to Vonage: an account, an application in it, and the secret that signs webhooks."""

from __future__ import annotations

import base64
import re
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from pydantic import SecretStr, field_validator

from anycarrier.credentials import Credential

PEM = re.compile(r"-----BEGIN ((?:RSA |ENCRYPTED )?PRIVATE KEY)-----(.*)-----END \1-----", re.DOTALL)
OWN_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.(nexmo|vonage)\.com")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class VonageCredential(Credential):
    """``api_key`` and ``api_secret`` are the account's; ``application_id`` and ``private_key`` the application's.

    ``signature_secret`` signs webhooks. ``region`` is where calls are placed, if not where Vonage likes: ``us-1``.
    ``private_key`` is entered as the PEM file that Vonage gave; its base64 is kept, without armour or line ends.
    """

    provider: str = "vonage"
    api_key: SecretStr
    api_secret: SecretStr
    application_id: str
    private_key: SecretStr
    signature_secret: SecretStr
    region: str | None = None
    base_url: str | None = None

    @field_validator("api_key", "api_secret", "signature_secret")
    @classmethod
    def not_mixed_up(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) > 128 or UUID.fullmatch(value.get_secret_value()):
            raise ValueError("vonage: this is not the application's id, nor its private key, but the account's")
        return value

    @field_validator("application_id")
    @classmethod
    def application_id_fits(cls, value: str) -> str:
        if not UUID.fullmatch(value):
            raise ValueError("vonage application_id is the UUID of the application, not its name or the api_key")
        return value.lower()

    @field_validator("private_key", mode="before")
    @classmethod
    def key_in_one_line(cls, value: object) -> object:
        """Before the text is checked for characters that no key has: a PEM file has line ends, pasted ones ``\\n``."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(text, str) or not (pem := PEM.search(text)):
            return value
        if pem[1].startswith("ENCRYPTED"):
            raise ValueError("vonage private_key is protected by a passphrase: give it without one")
        return "".join(pem[2].replace("\\r", "").replace("\\n", "").split())

    @field_validator("private_key")
    @classmethod
    def key_is_rsa(cls, value: SecretStr) -> SecretStr:
        load_key(value)
        return value

    @field_validator("region")
    @classmethod
    def region_is_vonages(cls, value: str | None) -> str | None:
        host = f"api-{value}.vonage.com" if re.fullmatch(r"[a-z]{2}-\d", value or "") else value
        if host and not is_own_url(url := f"https://{host.removeprefix('https://').rstrip('/')}"):
            raise ValueError("vonage region is a name like us-1, or a host of Vonage's like api-us-1.vonage.com")
        return url if host else None

    @property
    def account(self) -> str:
        return self.application_id


def load_key(secret: SecretStr) -> RSAPrivateKey:
    try:
        der = base64.b64decode(secret.get_secret_value(), validate=True)
        key = load_der_private_key(der, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("vonage private_key is not a whole RSA key: paste all of the application's file private.key")
    return key


def is_own_url(url: str) -> bool:
    """True for https on a host of Vonage's: nobody else may be shown a token of ours."""
    try:
        parts = urlsplit(url)
        strange = parts.port not in (None, 443) or "@" in parts.netloc
    except ValueError:
        return False
    return parts.scheme == "https" and not strange and bool(OWN_HOST.fullmatch(parts.hostname or ""))
