"""What Bandwidth knows us by: an account's OAuth2 client, a voice application, and the login of its callbacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import SecretStr, ValidationInfo, field_validator

from anycarrier.credentials import Credential, trimmed

SHORTEST_PASSWORD = 16
SHAPES = {
    "account_id": (r"[0-9]+", "the account's number, digits only"),
    "client_id": (r"[^:\s]+", "the id of an API credential, without a colon or a space"),
    "application_id": (r"[0-9A-Za-z-]+", "the id of a voice application, like 04e88489-df02-4e34-a0ee-27a91849555f"),
    "callback_user": (r"[^:]+", "a user name without a colon"),
    "site_id": (r"[0-9]+", "the number of a sub-account, digits only"),
    "peer_id": (r"[0-9]+", "the number of a location, digits only"),
    "vcp_id": (r"[0-9A-Za-z-]+", "the id of a voice configuration package"),
}


class BandwidthCredential(Credential):
    """An account's API credential, one voice application, and what its callbacks log in to us with.

    Bandwidth signs nothing: ``callback_password``, 16 characters or more of your making, is all that proves a webhook.
    Buying numbers needs ``site_id``. ``vcp_id`` (universal platform), or ``peer_id`` with ``site_id`` (older accounts),
    is what numbers are put into.
    """

    provider: str = "bandwidth"
    account_id: str
    client_id: str
    client_secret: SecretStr
    application_id: str
    callback_user: str = "anycarrier"
    callback_password: SecretStr
    site_id: str | None = None
    peer_id: str | None = None
    vcp_id: str | None = None
    base_url: str | None = None

    @field_validator(*SHAPES)
    @classmethod
    def _has_its_shape(cls, text: str | None, info: ValidationInfo) -> str | None:
        shape, meant = SHAPES[str(info.field_name)]
        if text is not None and not re.fullmatch(shape, text):
            raise ValueError(f"{cls.label(str(info.field_name))} is {meant}")
        return text

    @field_validator("callback_password")
    @classmethod
    def _is_no_guess(cls, password: SecretStr) -> SecretStr:
        if len(password.get_secret_value()) < SHORTEST_PASSWORD:
            raise ValueError(f"{cls.label('callback_password')} has fewer than {SHORTEST_PASSWORD} characters")
        return password

    @classmethod
    def from_api_key(cls, api_key: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """From a client secret plus named details, or from ``"client_id:client_secret"``."""
        user, colon, secret = trimmed(api_key).partition(":")
        login = {"client_id": user, "client_secret": secret} if colon else {"client_secret": user}
        return cls.model_validate({**(metadata or {}), **login})

    @property
    def account(self) -> str | None:
        return self.account_id

    @property
    def callback_login(self) -> dict[str, str]:
        """What goes along with each URL of ours, by Bandwidth's names."""
        return {"username": self.callback_user, "password": self.callback_password.get_secret_value()}
