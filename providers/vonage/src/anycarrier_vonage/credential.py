"""Who we are to Vonage: an account, an application in it, and the secret that signs webhooks."""

from __future__ import annotations

import base64
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from pydantic import SecretStr, ValidatorFunctionWrapHandler, field_validator

from anycarrier.credentials import Credential
from anycarrier.networks import on_domain

PEM = re.compile(r"-----BEGIN ((?:RSA |ENCRYPTED )?PRIVATE KEY)-----(.*)-----END \1-----", re.DOTALL)
DOMAINS = ("nexmo.com", "vonage.com")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class VonageCredential(Credential):
    """``application_id`` and ``private_key`` are the application's, the rest is the account's. Webhooks are signed with
    ``signature_secret``. ``region`` is where calls are placed (``us-1``), if not where Vonage likes. ``private_key`` is
    entered as the PEM file that Vonage gave; its base64 is kept, without armour or line ends."""

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
            raise ValueError("vonage: give the account's here, not the application's id or private key")
        return value

    @field_validator("application_id")
    @classmethod
    def is_a_uuid(cls, value: str) -> str:
        if not UUID.fullmatch(value):
            raise ValueError("vonage application_id is the UUID of the application, not its name or the api_key")
        return value.lower()

    @field_validator("private_key", mode="wrap")
    @classmethod
    def is_a_key(cls, value: object, checked: ValidatorFunctionWrapHandler) -> SecretStr:
        """A PEM file has line ends, which no key may hold, and a pasted one ``\\n`` in their place."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        pem = PEM.search(text) if isinstance(text, str) else None
        key: SecretStr = checked("".join(pem[2].replace("\\r", "").replace("\\n", "").split()) if pem else value)
        load_key(key)
        return key

    @field_validator("region")
    @classmethod
    def is_a_host(cls, value: str | None) -> str | None:
        host = f"api-{value}.vonage.com" if re.fullmatch(r"[a-z]{2}-\d", value or "") else value
        if host and not on_domain(host := f"https://{host.removeprefix('https://').rstrip('/')}", *DOMAINS):
            raise ValueError("vonage region is a name like us-1, or a host of Vonage's like api-us-1.vonage.com")
        return host

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
        raise ValueError("vonage private_key is no whole RSA key without a passphrase: paste all of private.key")
    return key
