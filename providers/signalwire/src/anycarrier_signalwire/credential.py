"""What SignalWire knows us by: the space, a project in it, an API token, and the key that signs its webhooks."""

from __future__ import annotations

import re

from pydantic import SecretStr, ValidationInfo, field_validator

from anycarrier.credentials import Credential

DOMAIN = ".signalwire.com"
_SPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?" + re.escape(DOMAIN))
_UUID = r"(?i:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_MIX_UPS = {"the Project ID": _UUID, "a signing key": r"PSK\S+", "an API token": r"PT[0-9a-f]{32,}"}


class SignalWireCredential(Credential):
    """A project and its secrets, all in the dashboard under API.

    ``space`` is the host of your space; its name alone will do. ``signing_key`` is a third secret beside ``api_token``:
    webhooks are signed with it. ``secondary_signing_key`` is accepted as well, for as long as the key is being reset.
    ``base_url`` sends every REST request elsewhere: to a space with a domain of its own, or to a sandbox.
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
        if not re.fullmatch(_UUID, project):
            raise ValueError(f"{cls.label('project_id')} is a UUID, like 00000000-0000-0000-0000-000000000000")
        return project.lower()

    @field_validator("api_token", "signing_key", "secondary_signing_key")
    @classmethod
    def _is_that_secret(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """The three values stand side by side in the dashboard, and are mixed up."""
        name, own = str(info.field_name), "an API token" if info.field_name == "api_token" else "a signing key"
        for other, shape in _MIX_UPS.items():
            if secret is not None and other != own and re.fullmatch(shape, secret.get_secret_value()):
                raise ValueError(f"{cls.label(name)} looks like {other}: copy the value that stands beside its name")
        return secret

    @property
    def account(self) -> str | None:
        """The Project ID: public, and what SignalWire calls the account."""
        return self.project_id
