"""Building carriers' credentials from what people type, for real carriers and for their sandboxes.

A credential that lacks something the carrier needs is normal: it is kept, and says what is missing. With
``--sandbox`` every credential leads to the carrier's sandbox, where any secret logs in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError
from pydantic_core import InitErrorDetails

from anycarrier import plugins
from anycarrier.credentials import Credential
from anycarrier.errors import ConfigurationError

if TYPE_CHECKING:
    from anycarrier.testing.sandbox import Sandbox


class Carriers:
    """The installed carriers, and the sandboxes that play them."""

    def __init__(self) -> None:
        self.sandboxes: dict[str, Sandbox] = {}

    def build(self, provider: str, api_key: str, metadata: Mapping[str, Any]) -> Credential:
        """The credential; ``ValidationError`` names what is missing or wrong, ``UnknownProvider`` what to install.

        Details the carrier has no use for are left out.
        """
        kind = plugins.get_provider(provider).credential_type
        known = {
            name: value for name, value in metadata.items() if name in kind.model_fields and value not in (None, "")
        }
        sandbox = self.sandboxes.get(provider)
        if sandbox is not None:
            known["base_url"] = sandbox.base_url
        try:
            made = kind.from_api_key(api_key, known)
        except ValidationError:
            raise
        except ConfigurationError:
            if missing := _missing(kind, known):
                raise ValidationError.from_exception_data(kind.__name__, missing) from None
            raise
        return made if sandbox is None else sandbox.credential(**_plain(made))


def is_key(provider: str, field: str) -> bool:
    """Whether a field of the carrier's credential is what people give as *the* key."""
    told = plugins.get_provider(provider).credential_type.model_fields.get(field)
    return told is not None and told.is_required() and told.annotation is SecretStr


def _missing(kind: type[Credential], known: Mapping[str, Any]) -> list[InitErrorDetails]:
    """Required details that are not there. Secrets are not among them: the key is one, under some name."""
    return [
        InitErrorDetails(type="missing", loc=(name,), input=None)
        for name, field in kind.model_fields.items()
        if field.is_required() and field.annotation is not SecretStr and name not in known
    ]


def _plain(credential: Credential) -> dict[str, Any]:
    """What a credential was given, secrets as text."""
    values = {name: getattr(credential, name) for name in credential.model_fields_set}
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in values.items()
        if value is not None
    }
