"""What Twilio knows us by: the account, its auth token, and an API key where one is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, SecretStr

from linecard.credentials import Credential
from linecard.errors import ConfigurationError


class TwilioCredential(Credential):
    """An account and its secrets.

    ``auth_token`` signs webhooks, so it is needed even where ``api_key_sid`` and ``api_key_secret`` log in to the REST
    API. ``region`` and ``edge`` choose a Twilio data centre; ``base_url`` sends every REST request elsewhere, e.g. to
    a sandbox.

    >>> TwilioCredential(account_sid="AC00000000000000000000000000000000", auth_token="...")
    """

    provider: str = "twilio"
    account_sid: str = Field(pattern=r"^AC[0-9A-Za-z_-]+$")
    auth_token: SecretStr
    api_key_sid: str | None = None
    api_key_secret: SecretStr | None = None
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    edge: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    base_url: str | None = None

    @classmethod
    def from_api_key(cls, api_key: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """From an auth token plus ``metadata["account_sid"]``, or from both in one: ``"AC...:token"``."""
        fields = dict(metadata or {})
        account, colon, token = api_key.partition(":")
        if colon and account.startswith("AC"):
            fields.setdefault("account_sid", account)
            api_key = token
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
    def login(self) -> tuple[str, str]:
        """User and password for the REST API: the API key where there is one, else account and auth token."""
        if self.api_key_sid and self.api_key_secret:
            return self.api_key_sid, self.api_key_secret.get_secret_value()
        return self.account_sid, self.auth_token.get_secret_value()
