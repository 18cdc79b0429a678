"""What Bandwidth knows us by: an account's OAuth2 client, a voice application, and the login of its callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import SecretStr

from anycarrier.credentials import Credential, trimmed


class BandwidthCredential(Credential):
    """``callback_password``, of your own making, is all that proves a webhook: Bandwidth signs nothing.

    Buying numbers needs ``site_id``, a sub-account. Numbers are put into ``vcp_id``, a voice configuration package, or
    on older accounts into ``peer_id``, a location of that sub-account.
    """

    shapes = {
        **dict.fromkeys(("account_id", "site_id", "peer_id"), (r"[0-9]+", "digits only")),
        **dict.fromkeys(("application_id", "vcp_id"), (r"[0-9A-Za-z-]+", "an id of letters, digits and hyphens")),
        **dict.fromkeys(("client_id", "callback_user"), (r"[^:]+", "text without a colon")),
        "callback_password": (r".{16,}", "a random text of 16 characters or more"),
    }
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

    @classmethod
    def from_api_key(cls, api_key: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """From a client secret plus named details, or from ``"client_id:client_secret"``."""
        first, colon, second = trimmed(api_key).partition(":")
        login = {"client_id": first, "client_secret": second} if colon else {"client_secret": first}
        return cls.model_validate({**(metadata or {}), **login})

    @property
    def account(self) -> str:
        return self.account_id

    @property
    def callback_login(self) -> dict[str, str]:
        """What goes along with each URL of ours, by Bandwidth's names."""
        return {"username": self.callback_user, "password": self.callback_password.get_secret_value()}
