"""Carrier credentials: built from what people type, kept, checked at the carrier, changed, given up.

A credential that lacks something the carrier needs is normal: it is kept, and says what is missing. With ``--sandbox``
every credential leads to the carrier's sandbox, where any secret logs in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError
from pydantic_core import InitErrorDetails

from anycarrier import plugins
from anycarrier.credentials import Credential
from anycarrier.errors import AnycarrierError, ConfigurationError, UnknownProvider
from anycarrier.provider import Capability
from anycarrier_server.domain.access import Caller, need_admin
from anycarrier_server.domain.request_data import complaints
from anycarrier_server.refusals import CredentialRequired, Invalid, Unknown
from anycarrier_server.store import parse_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import CredentialRow

if TYPE_CHECKING:
    from uuid import UUID

    from anycarrier.testing.sandbox import Sandbox
    from anycarrier_server.service import Service


@dataclass(frozen=True, slots=True)
class Verified:
    """What the carrier said to a credential. ``account`` is its name for the account; ``error`` why it is not ok."""

    ok: bool
    provider: str
    account: str | None
    checked_at: datetime
    error: str | None = None


async def create_credential(
    service: Service,
    caller: Caller,
    *,
    name: str,
    provider: str,
    api_key: str,
    metadata: Mapping[str, Any] | None = None,
) -> CredentialRow:
    """Keep a credential. What the carrier still needs is in ``missing``, with ``status`` "incomplete".

    ``UnknownProvider`` lists the carriers installed; ``Invalid`` when a detail has the wrong form.
    """
    need_admin(caller, "adding a credential")
    _refuse_malformed(service, provider, api_key, metadata or {})
    return await service.store.credentials.create(
        caller.workspace_id, name=name, provider=provider, api_key=api_key, metadata=metadata
    )


async def get_credential(service: Service, caller: Caller, credential_id: str | UUID) -> CredentialRow:
    """The credential's row, never its secrets. Like all about credentials it is for admin keys only."""
    need_admin(caller, "looking at a credential")
    return await _credential(service, caller, credential_id)


async def _credential(service: Service, caller: Caller, credential_id: str | UUID) -> CredentialRow:
    row = await service.store.credentials.get(caller.workspace_id, parse_id("credential", credential_id))
    if row is None:
        raise Unknown("credential")
    return row


async def list_credentials(service: Service, caller: Caller, *, provider: str | None = None) -> list[CredentialRow]:
    """All of the workspace's, the default first."""
    need_admin(caller, "listing credentials")
    return await service.store.credentials.list(caller.workspace_id, provider=provider)


async def change_credential(
    service: Service,
    caller: Caller,
    credential_id: str | UUID,
    *,
    name: str | None = None,
    api_key: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> CredentialRow:
    """Rename, rotate the key, or merge details in (a detail given as None is removed)."""
    need_admin(caller, "changing a credential")
    row = await get_credential(service, caller, credential_id)
    if api_key is not None or metadata is not None:
        held_key, held = service.store.credentials.held(row)
        _refuse_malformed(service, row.provider, api_key or held_key, {**held, **(metadata or {})})
    if api_key is not None and row.status != "incomplete":
        metadata = await _with_what_the_old_key_told(service, row, api_key, metadata or {})
    return await service.store.credentials.change(row, name=name, api_key=api_key, metadata=metadata)


async def delete_credential(service: Service, caller: Caller, credential_id: str | UUID) -> None:
    """Forget the secrets. ``InUse`` names the numbers that still need it."""
    need_admin(caller, "deleting a credential")
    await service.store.credentials.delete(await get_credential(service, caller, credential_id))


async def verify_credential(service: Service, caller: Caller, credential_id: str | UUID) -> Verified:
    """Log in at the carrier. A refusal is an answer (``ok`` False), not an error; an incomplete credential is one."""
    need_admin(caller, "verifying a credential")
    row = await get_credential(service, caller, credential_id)
    provider = await service.exchange.switchboard.provider(row.public_id)
    if not provider.supports(Capability.CHECK_CREDENTIAL):
        raise provider.unsupported("check_credential")
    try:
        account = await provider.check_credential()
    except AnycarrierError as refused:
        return Verified(False, row.provider, row.account, utc_now(), str(refused))
    return Verified(True, row.provider, account, utc_now())


async def choose_credential(
    service: Service, caller: Caller, credential_id: str | UUID | None, provider: str | None = None
) -> CredentialRow:
    """The credential meant: the one named, else the default, else the only one (of ``provider``, when given).

    For any key: a search is asked of the carrier with it, and nothing of it is shown.
    :class:`CredentialRequired` when that is not one.
    """
    if credential_id is not None:
        return await _credential(service, caller, credential_id)
    rows = await service.store.credentials.list(caller.workspace_id, provider=provider)
    marked = [row for row in rows if row.is_default]
    if marked:
        return marked[0]
    if len(rows) != 1:
        raise CredentialRequired([row.public_id for row in rows])
    return rows[0]


async def _with_what_the_old_key_told(
    service: Service, row: CredentialRow, api_key: str, metadata: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Some keys name their account (``account:token``). A new token is for the same one: nobody writes it out again."""
    try:
        service.carriers.build(row.provider, api_key, metadata)
        return metadata
    except ValidationError as failure:
        missing = {str(one["loc"][0]) for one in failure.errors() if one["type"] == "missing"}
    held = await service.store.credentials.credential(row.public_id)
    return {**{name: getattr(held, name) for name in missing if isinstance(getattr(held, name, None), str)}, **metadata}


def _refuse_malformed(service: Service, provider: str, api_key: str, metadata: Mapping[str, Any]) -> None:
    """What is there must be right; what is not there may come later."""
    try:
        service.carriers.build(provider, api_key, {k: v for k, v in metadata.items() if k != "base_url"})
    except ValidationError as failure:
        wrong = [one for one in complaints(failure, "body") if one["type"] != "missing"]
        for one in wrong:
            field = one["loc"][-1]
            one["loc"] = ["body", "api_key"] if is_key(provider, field) else ["body", "metadata", field]
        if wrong:
            raise Invalid(wrong) from None
    except UnknownProvider:
        raise
    except ConfigurationError as failure:
        raise Invalid.field("api_key", str(failure)) from None


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
