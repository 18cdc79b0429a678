"""Who we are to Plivo: the auth id and auth token of an account or sub-account."""

from __future__ import annotations

import re

from pydantic import SecretStr, field_validator

from anycarrier.credentials import Credential

AUTH_ID, AUTH_TOKEN = re.compile(r"(MA|SA)[A-Z0-9]{18}"), re.compile(r"[A-Za-z0-9+/=_-]{8,}")


class PlivoCredential(Credential):
    """What Plivo's console shows on its overview page. The token logs in, and signs webhooks."""

    provider: str = "plivo"
    auth_id: str
    auth_token: SecretStr
    base_url: str | None = None  # a sandbox's address, in tests

    @field_validator("auth_id")
    @classmethod
    def _auth_id(cls, value: str) -> str:
        if not AUTH_ID.fullmatch(value):
            raise ValueError(f"{cls.label('auth_id')} is MA (account) or SA (sub-account) and 18 capitals or digits")
        return value

    @field_validator("auth_token")
    @classmethod
    def _auth_token(cls, value: SecretStr) -> SecretStr:
        token = value.get_secret_value()
        if AUTH_ID.fullmatch(token) or not AUTH_TOKEN.fullmatch(token):
            raise ValueError(f"{cls.label('auth_token')} is not whole, or is not the auth token of Plivo's console")
        return value

    @property
    def account(self) -> str:
        return self.auth_id
