"""``/v1/credentials``, and the same under ``/v1/integrations``: carrier accounts people bring."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from anycarrier.credentials import trimmed, unwritable
from anycarrier_server.domain import credentials
from anycarrier_server.domain.refusals import Invalid
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox.shapes import Listing, Moment, Name, Sent, Shown, Slice, cut
from anycarrier_server.store.models import CredentialRow


def _entered(value: Any) -> Any:
    """A key without what copying left around it; refused where it travels in no HTTP header."""
    if not isinstance(value, str):
        return value
    if problem := unwritable(value := trimmed(value)):
        raise ValueError(f"{problem}, which no key holds: copy it again from the carrier's console")
    return value


Secret = Annotated[
    str,
    BeforeValidator(_entered),
    Field(
        min_length=1,
        max_length=4096,
        pattern=r"^[\x21-\x7e]+$",
        description="The carrier's key or token; stored sealed, never shown",
        examples=["a-key-of-the-carrier"],
    ),
]
Account = Annotated[str, Field(min_length=1, max_length=255)]
Details = Field(
    default=None,
    description="What the carrier needs beside the key, e.g. account_sid, api_key_sid, connection_id, public_key",
)


class CredentialSent(Sent):
    """A carrier account."""

    name: Name
    provider: str = Field(min_length=1, max_length=64, description="Name of an installed carrier")
    api_key: Secret
    metadata: dict[str, Any] | None = Details
    account_sid: Account | None = Field(default=None, description="Same as metadata.account_sid")


class CredentialChange(Sent):
    """What to change; keys not given stay. ``metadata`` is merged, a detail given as null is removed."""

    name: Name | None = None
    api_key: Secret | None = None
    metadata: dict[str, Any] | None = Details
    account_sid: Account | None = None


class CredentialShown(Shown):
    """A credential without its secrets. ``status`` is ``incomplete`` while the carrier needs what is ``missing``."""

    id: str
    name: str
    provider: str
    masked_key: str
    account: str | None
    status: str
    missing: list[str]
    is_default: bool
    created_at: Moment
    updated_at: Moment


class VerifiedShown(Shown):
    """What the carrier said to the credential."""

    ok: bool
    provider: str
    account: str | None
    checked_at: Moment
    error: str | None


def shown(row: CredentialRow) -> CredentialShown:
    """The row as this face shows it."""
    return CredentialShown(
        id=row.public_id,
        name=row.name,
        provider=row.provider,
        masked_key=row.masked_key,
        account=row.account,
        status=row.status,
        missing=row.missing,
        is_default=row.is_default,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _details(body: CredentialSent | CredentialChange) -> dict[str, Any] | None:
    details = dict(body.metadata or {})
    if body.account_sid is not None:
        if details.setdefault("account_sid", body.account_sid) != body.account_sid:
            raise Invalid.field("account_sid", "differs from metadata.account_sid: give one of them")
    return details if details or body.metadata is not None else None


async def create(asked: Asked[CredentialSent, None]) -> CredentialShown:
    """Keep a carrier account's key. What is still missing is said in the answer, and can be added by PATCH."""
    body = asked.body
    row = await credentials.create(
        asked.service,
        asked.caller,
        name=body.name,
        provider=body.provider,
        api_key=body.api_key,
        metadata=_details(body),
    )
    return shown(row)


async def every(asked: Asked[None, Slice]) -> Listing[CredentialShown]:
    """All of the workspace's, the default first."""
    rows = await credentials.every(asked.service, asked.caller)
    items = [shown(row) for row in cut(rows, asked.query)]
    return Listing(items=items, total=len(rows), limit=asked.query.limit, offset=asked.query.offset)


async def get(asked: Asked[None, None]) -> CredentialShown:
    """One, without its secrets."""
    return shown(await credentials.get(asked.service, asked.caller, asked.path["credential_id"]))


async def change(asked: Asked[CredentialChange, None]) -> CredentialShown:
    """Rename it, rotate its key, or add details."""
    body = asked.body
    row = await credentials.change(
        asked.service,
        asked.caller,
        asked.path["credential_id"],
        name=body.name,
        api_key=body.api_key,
        metadata=_details(body),
    )
    return shown(row)


async def delete(asked: Asked[None, None]) -> None:
    """Forget it."""
    await credentials.delete(asked.service, asked.caller, asked.path["credential_id"])


async def verify(asked: Asked[None, None]) -> VerifiedShown:
    """Log in at the carrier with it."""
    found = await credentials.verify(asked.service, asked.caller, asked.path["credential_id"])
    return VerifiedShown(
        ok=found.ok, provider=found.provider, account=found.account, checked_at=found.checked_at, error=found.error
    )


def _endpoints(root: str) -> list[Endpoint]:
    one = root + "/{credential_id}"
    listing = Listing[CredentialShown]
    return [
        Endpoint("POST", root, create, "Add a carrier account", CredentialSent, answer=CredentialShown, status=201,
                 refusals=(403, 413)),
        Endpoint("GET", root, every, "List carrier accounts", query=Slice, answer=listing, refusals=(403,)),
        Endpoint("GET", one, get, "Look at a carrier account", answer=CredentialShown, refusals=(403, 404)),
        Endpoint("PATCH", one, change, "Rename it, rotate its key, add details", CredentialChange,
                 answer=CredentialShown, refusals=(403, 404, 413)),
        Endpoint("DELETE", one, delete, "Forget a carrier account", status=204, refusals=(403, 404, 409)),
        Endpoint("POST", one + "/verify", verify, "Log in at the carrier with it", answer=VerifiedShown,
                 refusals=(400, 403, 404, 501)),
    ]  # fmt: skip


ENDPOINTS = [*_endpoints("/v1/credentials"), *_endpoints("/v1/integrations")]
