"""Who we are to a carrier. Secrets are SecretStr: they do not print, log or travel in tickets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, SecretStr

from linecard.errors import UnknownCredential


class Credential(BaseModel):
    """Base of every carrier's credential; a plugin adds its fields, secrets as ``SecretStr``.

    >>> class AcmeCredential(Credential):
    ...     provider: str = "acme"
    ...     api_key: SecretStr
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    provider: str

    @classmethod
    def from_api_key(cls, api_key: str, metadata: Mapping[str, Any] | None = None) -> Self:
        """Build one from a single key plus named details, the shape most consoles and APIs ask people for."""
        return cls.model_validate({**(metadata or {}), "api_key": api_key})

    @property
    def account(self) -> str | None:
        """The carrier's public name for the account, when the credential holds it; never a secret."""
        return None

    def secrets(self) -> tuple[str, ...]:
        """The secret values themselves, for scrubbing them out of texts."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(v.get_secret_value() for v in values if isinstance(v, SecretStr))


@runtime_checkable
class CredentialSource(Protocol):
    """Where an exchange finds credentials by id. A plain dict will do; a service brings its store."""

    async def credential(self, credential_id: str) -> Credential:
        """The credential, or :class:`UnknownCredential`."""
        ...


class MemoryCredentials:
    """A dict of credentials behind the :class:`CredentialSource` protocol."""

    def __init__(self, credentials: Mapping[str, Credential]) -> None:
        self.by_id = dict(credentials)

    async def credential(self, credential_id: str) -> Credential:
        try:
            return self.by_id[credential_id]
        except KeyError:
            raise UnknownCredential(credential_id) from None
