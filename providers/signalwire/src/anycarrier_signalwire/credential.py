"""What SignalWire knows us by: the space, a project in it, an API token, and the key that signs its webhooks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import SecretStr, ValidationInfo, field_validator

from anycarrier.credentials import Credential
from anycarrier.errors import ConfigurationError

DOMAIN = ".signalwire.com"
_SPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?" + re.escape(DOMAIN))
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
_NEEDED = ("space", "project_id", "signing_key")


class SignalWireCredential(Credential):
    """A project and its secrets, all in the dashboard under API.

    ``space`` is the host of your space; its name alone will do. ``signing_key`` is a third secret beside ``api_token``:
    webhooks are signed with it. ``secondary_signing_key`` is accepted as well, for as long as the key is being reset.
    ``base_url`` sends every REST request elsewhere: to a space with a domain of its own, or to a sandbox.

    >>> SignalWireCredential(space="example.signalwire.com", project_id="...", api_token="PT...", signing_key="PSK...")
    """

    provider: str = "signalwire"
    space: str
    project_id: str
    api_token: SecretStr
    signing_key: SecretStr
    secondary_signing_key: SecretStr | None = None
    base_url: str | None = None

    @field_validator("space")
    @classmethod
    def _is_a_space(cls, space: str) -> str:
        """The host. Any other host would be sent the token: one of your own is named in ``base_url``."""
        host = re.sub(r"^https?://", "", space.lower()).rstrip("/")
        host = host if "." in host else host + DOMAIN
        if not _SPACE.fullmatch(host):
            raise ValueError(f"{cls.label('space')} is the host of your space, like example{DOMAIN}")
        return host

    @field_validator("project_id")
    @classmethod
    def _is_a_project(cls, project: str) -> str:
        if not _UUID.fullmatch(project):
            raise ValueError(
                f"{cls.label('project_id')} is the Project ID of the dashboard, like "
                "00000000-0000-0000-0000-000000000000"
            )
        return project.lower()

    @field_validator("api_token", "signing_key", "secondary_signing_key")
    @classmethod
    def _is_that_secret(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """The three values stand side by side in the dashboard, and are mixed up."""
        text = secret.get_secret_value() if secret is not None else ""
        name = str(info.field_name)
        taken_for = (
            "the Project ID" if _UUID.fullmatch(text)
            else "a signing key" if name == "api_token" and text.startswith("PSK")
            else "an API token" if name != "api_token" and re.fullmatch(r"PT[0-9a-f]{32,}", text)
            else ""
        )  # fmt: skip
        if taken_for:
            raise ValueError(f"{cls.label(name)} looks like {taken_for}: copy the value beside its own name")
        return secret

    @classmethod
    def from_api_key(cls, api_key: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """From an API token; ``metadata`` has the space, the Project ID and the signing key."""
        fields = dict(metadata or {})
        if lacking := [name for name in _NEEDED if not fields.get(name)]:
            raise ConfigurationError(
                f"signalwire needs {', '.join(lacking)} beside the API token: give them in metadata. "
                "All are in the dashboard, under API"
            )
        return cls.model_validate({**fields, "api_token": api_key})

    @property
    def account(self) -> str | None:
        """The Project ID: public, and what SignalWire calls the account."""
        return self.project_id

    @property
    def login(self) -> tuple[str, str]:
        """User and password for the REST API."""
        return self.project_id, self.api_token.get_secret_value()

    @property
    def signing_keys(self) -> list[str]:
        """The keys a webhook may be signed with."""
        return [key.get_secret_value() for key in (self.signing_key, self.secondary_signing_key) if key is not None]
