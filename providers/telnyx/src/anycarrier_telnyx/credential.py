"""Who we are to Telnyx: an API key, the key webhooks are signed with, and the connection calls leave by."""

from __future__ import annotations

import base64
import binascii
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

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

    @field_validator("api_key", "public_key", "connection_id")
    @classmethod
    def _is_what_it_says(cls, value: SecretStr | str | None, field: ValidationInfo) -> SecretStr | str | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value or ""
        problem = ""
        match field.field_name:
            case "api_key" if " " in text:
                problem = "has no spaces in it: give the key alone, KEY..."
            case "api_key" if _is_public_key(text):
                problem = "begins with KEY; this looks like the account's public key"
            case "public_key" if text and not _is_public_key(text):
                mixed_up = "; this looks like an API key" if text.startswith("KEY") else ""
                problem = f"is 32 bytes in base64{mixed_up}. Copy it from the portal (Keys & Credentials, Public Key)"
            case "connection_id" if text and not text.isdigit():
                problem = "is the application's id in the portal: digits only"
        if problem:
            raise ValueError(f"{cls.label(field.field_name or '')} {problem}")
        return value


def _is_public_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except binascii.Error:
        return False
