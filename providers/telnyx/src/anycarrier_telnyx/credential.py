"""Who we are to Telnyx: an API key, the key webhooks are signed with, and the connection calls leave by."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from anycarrier.credentials import Credential


class TelnyxCredential(Credential):
    """One Telnyx account.

    Without ``public_key`` no webhook can be verified, so every one is refused. Without ``connection_id`` the
    call-control application that ``configure_number`` makes is used.
    """

    provider: Literal["telnyx"] = "telnyx"
    api_key: SecretStr = Field(description="API v2 key, KEY...")
    public_key: str | None = Field(default=None, description="base64 Ed25519 key from the portal, for webhooks")
    connection_id: str | None = Field(default=None, description="call-control application: 19 digits, as text")
    base_url: str | None = Field(default=None, description="another root for the REST API: a sandbox, a proxy")

    @field_validator("api_key")
    @classmethod
    def _is_an_api_key(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value()
        if " " in text:
            raise ValueError(f"{cls.label('api_key')} has no spaces in it: give the key alone, KEY...")
        if _is_public_key(text):
            raise ValueError(f"{cls.label('api_key')} begins with KEY; this looks like the account's public key")
        return key

    @field_validator("public_key")
    @classmethod
    def _is_a_public_key(cls, key: str | None) -> str | None:
        if key is not None and not _is_public_key(key):
            mixed_up = "; this looks like an API key" if key.startswith("KEY") else ""
            raise ValueError(
                f"{cls.label('public_key')} is 32 bytes in base64, 44 characters{mixed_up}. "
                "Copy it from the portal (Keys & Credentials, Public Key)"
            )
        return key

    @field_validator("connection_id")
    @classmethod
    def _is_a_connection(cls, connection: str | None) -> str | None:
        if connection is not None and not (connection.isascii() and connection.isdigit()):
            raise ValueError(f"{cls.label('connection_id')} is the application's id in the portal: digits only")
        return connection

    @field_validator("base_url")
    @classmethod
    def _without_last_slash(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://\S+", url):
            raise ValueError(f"{cls.label('base_url')} is a URL, like https://api.telnyx.com/v2")
        return url.rstrip("/") if url else None


def _is_public_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except binascii.Error:
        return False
