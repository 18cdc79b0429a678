"""Carrier credentials: create, verify at the carrier, change, delete; and which one a request means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from anycarrier.errors import AnycarrierError, ConfigurationError
from anycarrier.provider import Capability
from anycarrier_server.domain.access import Caller, need_admin
from anycarrier_server.domain.request_data import complaints
from anycarrier_server.domain.resources import Resources
from anycarrier_server.refusals import CredentialRequired, Invalid, Unknown
from anycarrier_server.store import Store, parse_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.credentials import CredentialMalformed, is_key
from anycarrier_server.store.models import CredentialRow

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Verified:
    """What the carrier said to a credential. ``account`` is its name for the account; ``error`` why it is not ok."""

    ok: bool
    provider: str
    account: str | None
    checked_at: datetime
    error: str | None = None


async def create_credential(
    resources: Resources,
    caller: Caller,
    *,
    name: str,
    provider: str,
    api_key: SecretStr,
    metadata: Mapping[str, Any] | None = None,
) -> CredentialRow:
    """Keep a credential. What the carrier still needs is in ``missing``, with ``status`` "incomplete".

    ``UnknownProvider`` lists the carriers installed; ``Invalid`` when a detail has the wrong form.
    """
    need_admin(caller, "adding a credential")
    with _named_by_field(provider):
        return await resources.store.credentials.create(
            caller.workspace_id, name=name, provider=provider, api_key=api_key, metadata=metadata
        )


async def get_credential(store: Store, caller: Caller, credential_id: str | UUID) -> CredentialRow:
    """The credential's row, never its secrets. Like all about credentials it is for admin keys only."""
    need_admin(caller, "looking at a credential")
    return await _credential(store, caller, credential_id)


async def _credential(store: Store, caller: Caller, credential_id: str | UUID) -> CredentialRow:
    row = await store.credentials.get(caller.workspace_id, parse_id("credential", credential_id))
    if row is None:
        raise Unknown("credential")
    return row


async def list_credentials(store: Store, caller: Caller, *, provider: str | None = None) -> list[CredentialRow]:
    """All of the workspace's, the default first."""
    need_admin(caller, "listing credentials")
    return await store.credentials.list(caller.workspace_id, provider=provider)


async def change_credential(
    resources: Resources,
    caller: Caller,
    credential_id: str | UUID,
    *,
    name: str | None = None,
    api_key: SecretStr | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> CredentialRow:
    """Rename, rotate the key, or merge details in (a detail given as None is removed)."""
    need_admin(caller, "changing a credential")
    row = await get_credential(resources.store, caller, credential_id)
    if api_key is not None and row.status != "incomplete":
        metadata = await _with_what_the_old_key_told(resources, row, api_key, metadata or {})
    with _named_by_field(row.provider):
        return await resources.store.credentials.change(row, name=name, api_key=api_key, metadata=metadata)


async def delete_credential(store: Store, caller: Caller, credential_id: str | UUID) -> None:
    """Forget the secrets. ``InUse`` names the numbers that still need it."""
    need_admin(caller, "deleting a credential")
    await store.credentials.delete(await get_credential(store, caller, credential_id))


async def verify_credential(resources: Resources, caller: Caller, credential_id: str | UUID) -> Verified:
    """Log in at the carrier. A refusal is an answer (``ok`` False), not an error; an incomplete credential is one."""
    need_admin(caller, "verifying a credential")
    row = await get_credential(resources.store, caller, credential_id)
    provider = await resources.exchange.switchboard.provider(row.public_id)
    if not provider.supports(Capability.CHECK_CREDENTIAL):
        raise provider.unsupported("check_credential")
    try:
        account = await provider.check_credential()
    except AnycarrierError as refused:
        return Verified(False, row.provider, row.account, utc_now(), str(refused))
    return Verified(True, row.provider, account, utc_now())


async def choose_credential(
    store: Store, caller: Caller, credential_id: str | UUID | None, provider: str | None = None
) -> CredentialRow:
    """The credential meant: the one named, else the default, else the only one (of ``provider``, when given).

    For any key: a search is asked of the carrier with it, and nothing of it is shown.
    :class:`CredentialRequired` when that is not one.
    """
    if credential_id is not None:
        return await _credential(store, caller, credential_id)
    rows = await store.credentials.list(caller.workspace_id, provider=provider)
    marked = [row for row in rows if row.is_default]
    if marked:
        return marked[0]
    if len(rows) != 1:
        raise CredentialRequired([row.public_id for row in rows])
    return rows[0]


async def _with_what_the_old_key_told(
    resources: Resources, row: CredentialRow, api_key: SecretStr, metadata: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Some keys name their account (``account:token``). A new token is for the same one: nobody writes it out again."""
    try:
        resources.carriers.build(row.provider, api_key, metadata)
        return metadata
    except ConfigurationError:
        return metadata  # the key is refused when it is to be kept
    except ValidationError as failure:
        missing = {str(one["loc"][0]) for one in failure.errors() if one["type"] == "missing"}
    held = await resources.store.credentials.credential(row.public_id)
    return {**{name: getattr(held, name) for name in missing if isinstance(getattr(held, name, None), str)}, **metadata}


@contextmanager
def _named_by_field(provider: str) -> Iterator[None]:
    """What cannot be right is :class:`Invalid`, by the fields of the request."""
    try:
        yield
    except CredentialMalformed as malformed:
        if isinstance(malformed.problem, ConfigurationError):
            raise Invalid.field("api_key", str(malformed)) from None
        wrong = [one for one in complaints(malformed.problem, "body") if one["type"] != "missing"]
        for one in wrong:
            field = one["loc"][-1]
            one["loc"] = ["body", "api_key"] if is_key(provider, field) else ["body", "metadata", field]
        raise Invalid(wrong) from None
