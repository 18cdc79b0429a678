"""What Twilio knows us by: the account, its auth token, and an API key where one is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from anycarrier.credentials import Credential, trimmed
from anycarrier.errors import ConfigurationError

SID = re.compile(r"(AC|SK)[0-9a-fA-F]{32}")
KINDS = {"AC": "an Account SID", "SK": "the SID of an API key"}


class TwilioCredential(Credential):
    """An account and its secrets.

    ``auth_token`` signs webhooks, so it is needed even where ``api_key_sid`` and ``api_key_secret`` log in to the REST
    API. ``secondary_auth_token`` signs them too while the auth token is rotated: give the new token there, promote it
    in the console, then make it ``auth_token``. ``region`` and ``edge`` choose a Twilio data centre; ``base_url``
    sends every REST request elsewhere, e.g. to a sandbox.

    >>> TwilioCredential(account_sid="AC00000000000000000000000000000000", auth_token="...")
    """

    provider: str = "twilio"
    account_sid: str
    auth_token: SecretStr
    secondary_auth_token: SecretStr | None = None
    api_key_sid: str | None = None
    api_key_secret: SecretStr | None = Field(default=None, validate_default=True)
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    edge: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    base_url: str | None = None

    @field_validator("account_sid", "api_key_sid")
    @classmethod
    def _is_a_sid(cls, sid: str | None, info: ValidationInfo) -> str | None:
        """Only the beginning is checked: a SID of the other kind is a mix-up, its length is for Twilio to judge."""
        kind = "AC" if info.field_name == "account_sid" else "SK"
        if sid is not None and not re.fullmatch(rf"{kind}[0-9A-Za-z_-]+", sid):
            other = f"; this is {KINDS[sid[:2]]}" if sid[:2] in KINDS else ""
            raise ValueError(f"{cls.label(str(info.field_name))} is {KINDS[kind]}, {kind} and 32 hex digits{other}")
        return sid

    @field_validator("auth_token", "secondary_auth_token", "api_key_secret")
    @classmethod
    def _is_a_secret(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        name = str(info.field_name)
        if secret is not None and (found := SID.match(secret.get_secret_value())):
            beside = "give the secret that stands beside it in the Twilio console"
            raise ValueError(f"{cls.label(name)} begins with {KINDS[found[1]]}, which is no secret: {beside}")
        # Half a key would leave the auth token to log in, and nobody would be told.
        if name == "api_key_secret" and (secret is None) != (info.data.get("api_key_sid") is None):
            if "api_key_sid" in info.data:  # else it was refused already
                lacking = cls.label("api_key_secret" if secret is None else "api_key_sid")
                raise ValueError(f"{lacking} is missing: an API key is api_key_sid (SK...) and api_key_secret")
        return secret

    @classmethod
    def from_api_key(cls, api_key: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """From an auth token plus ``metadata["account_sid"]``, or from both in one: ``"AC...:token"``."""
        fields = dict(metadata or {})
        sid, colon, token = trimmed(api_key).partition(":")
        if colon and sid.startswith("AC"):
            told = fields.get("account_sid") or sid
            if isinstance(told, str) and trimmed(told) != sid:
                raise ConfigurationError("twilio account_sid is another account than the one in the key AC...:token")
            fields["account_sid"], api_key = sid, token
        elif colon and SID.fullmatch(sid):
            raise ConfigurationError(
                "twilio signs webhooks with the auth token, so an API key is not enough: give the auth token as the "
                "key, and the API key as api_key_sid and api_key_secret in metadata"
            )
        if not fields.get("account_sid"):
            raise ConfigurationError(
                "twilio needs the Account SID beside the auth token: give account_sid in metadata, "
                "or the key as ACxxx:token. Both are on the first page of the Twilio console"
            )
        return cls.model_validate({**fields, "auth_token": api_key})

    @property
    def account(self) -> str | None:
        """The Account SID: public, and the same for every key of the account."""
        return self.account_sid

    @property
    def signing_tokens(self) -> list[str]:
        """The auth tokens a webhook may be signed with."""
        return [token.get_secret_value() for token in (self.auth_token, self.secondary_auth_token) if token]

    @property
    def login(self) -> tuple[str, str]:
        """User and password for the REST API: the API key where there is one, else account and auth token."""
        if self.api_key_sid and self.api_key_secret:
            return self.api_key_sid, self.api_key_secret.get_secret_value()
        return self.account_sid, self.auth_token.get_secret_value()
