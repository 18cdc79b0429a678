"""Who we are to Telnyx: an API key, the key webhooks are signed with, and the connection calls leave by."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from linecard.credentials import Credential


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

    @field_validator("base_url")
    @classmethod
    def _without_last_slash(cls, url: str | None) -> str | None:
        return url.rstrip("/") if url else None
