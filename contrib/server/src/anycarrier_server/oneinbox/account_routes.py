"""``/v1/credentials``, also under ``/v1/integrations``: the carrier accounts people bring. ``/v1/providers``: what each
installed carrier can do. ``/v1/usage``: how much was called; days and months begin at 00:00 UTC, and one credit is one
minute talked.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr

from anycarrier import plugins
from anycarrier.credentials import trimmed, unwritable
from anycarrier.provider import Capability, Provider
from anycarrier_server.domain import call_limits, manage_credentials
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox.shapes import Listing, Moment, Name, Sent, Shown, Slice, cut
from anycarrier_server.refusals import Invalid
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
    api_key: Secret = Field(repr=False)
    metadata: dict[str, Any] | None = Details
    account_sid: Account | None = Field(default=None, description="Same as metadata.account_sid")


class CredentialChange(Sent):
    """What to change; keys not given stay. ``metadata`` is merged, a detail given as null is removed."""

    name: Name | None = None
    api_key: Secret | None = Field(default=None, repr=False)
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


def credential_shown(row: CredentialRow) -> CredentialShown:
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


async def create_credential(asked: Asked[CredentialSent, None]) -> CredentialShown:
    """Keep a carrier account's key. What is still missing is said in the answer, and can be added by PATCH."""
    body = asked.body
    row = await manage_credentials.create_credential(
        asked.resources,
        asked.caller,
        name=body.name,
        provider=body.provider,
        api_key=SecretStr(body.api_key),
        metadata=_details(body),
    )
    return credential_shown(row)


async def list_credentials(asked: Asked[None, Slice]) -> Listing[CredentialShown]:
    """All of the workspace's, the default first."""
    rows = await manage_credentials.list_credentials(asked.store, asked.caller)
    items = [credential_shown(row) for row in cut(rows, asked.query)]
    return Listing(items=items, total=len(rows), limit=asked.query.limit, offset=asked.query.offset)


async def get_credential(asked: Asked[None, None]) -> CredentialShown:
    """One, without its secrets."""
    return credential_shown(
        await manage_credentials.get_credential(asked.store, asked.caller, asked.path["credential_id"])
    )


async def change_credential(asked: Asked[CredentialChange, None]) -> CredentialShown:
    """Rename it, rotate its key, or add details."""
    body = asked.body
    row = await manage_credentials.change_credential(
        asked.resources,
        asked.caller,
        asked.path["credential_id"],
        name=body.name,
        api_key=SecretStr(body.api_key) if body.api_key is not None else None,
        metadata=_details(body),
    )
    return credential_shown(row)


async def delete_credential(asked: Asked[None, None]) -> None:
    """Forget it."""
    await manage_credentials.delete_credential(asked.store, asked.caller, asked.path["credential_id"])


async def verify_credential(asked: Asked[None, None]) -> VerifiedShown:
    """Log in at the carrier with it."""
    found = await manage_credentials.verify_credential(asked.resources, asked.caller, asked.path["credential_id"])
    return VerifiedShown(
        ok=found.ok, provider=found.provider, account=found.account, checked_at=found.checked_at, error=found.error
    )


def _endpoints(root: str) -> list[Endpoint]:
    one = root + "/{credential_id}"
    listing = Listing[CredentialShown]
    return [
        Endpoint("POST", root, create_credential, "Add a carrier account", CredentialSent, answer=CredentialShown,
             status=201,
                 refusals=(403, 413)),
        Endpoint("GET", root, list_credentials, "List carrier accounts", query=Slice, answer=listing, refusals=(403,)),
        Endpoint("GET", one, get_credential, "Look at a carrier account", answer=CredentialShown, refusals=(403, 404)),
        Endpoint("PATCH", one, change_credential, "Rename it, rotate its key, add details", CredentialChange,
                 answer=CredentialShown, refusals=(403, 404, 413)),
        Endpoint("DELETE", one, delete_credential, "Forget a carrier account", status=204, refusals=(403, 404, 409)),
        Endpoint("POST", one + "/verify", verify_credential, "Log in at the carrier with it", answer=VerifiedShown,
                 refusals=(400, 403, 404, 501)),
    ]  # fmt: skip


class ProviderShown(Shown):
    """An installed carrier. ``capabilities`` has every optional operation, and whether this carrier has it."""

    name: str = Field(description="What a credential names as its provider")
    title: str
    capabilities: dict[str, bool] = Field(examples=[{"transfer": True, "send_digits": False}])


async def list_providers(asked: Asked[None, Slice]) -> Listing[ProviderShown]:
    """All of them, by name. A carrier asked for what it lacks answers 501."""
    names = plugins.provider_names()
    items = [provider_shown(plugins.get_provider(name)) for name in cut(names, asked.query)]
    return Listing(items=items, total=len(names), limit=asked.query.limit, offset=asked.query.offset)


def provider_shown(provider: type[Provider]) -> ProviderShown:
    """The carrier as this face shows it."""
    return ProviderShown(
        name=provider.name,
        title=provider.title,
        capabilities={str(capability): capability in provider.capabilities for capability in Capability},
    )


class UsageShown(Shown):
    """``max_calls_per_day`` and ``calls_remaining_today`` are of the rolling 24 hours in which the limit counts."""

    calls_made_today: int
    max_calls_per_day: int
    calls_remaining_today: int
    calls_this_month: int
    minutes_used_this_month: float
    cost_cents_this_month: float | None
    kb_token_budget: int | None
    minutes_remaining_today: float
    period_start: Moment
    day_ends: Moment


async def get_usage(asked: Asked[None, None]) -> UsageShown:
    """The workspace's use."""
    used = await call_limits.usage_of_workspace(asked.store, asked.caller)
    return UsageShown(
        calls_made_today=used.calls_today,
        max_calls_per_day=used.rolling.calls_limit,
        calls_remaining_today=used.rolling.calls_remaining,
        calls_this_month=used.calls_this_month,
        minutes_used_this_month=round(used.minutes_this_month, 2),
        cost_cents_this_month=used.cost_cents_this_month,
        kb_token_budget=None,
        minutes_remaining_today=round(used.rolling.minutes_remaining, 2),
        period_start=used.month_began,
        day_ends=used.day_ends,
    )


ENDPOINTS = [
    *_endpoints("/v1/credentials"),
    *_endpoints("/v1/integrations"),
    Endpoint("GET", "/v1/providers", list_providers, "List installed carriers and what each can do", query=Slice,
             answer=Listing[ProviderShown]),
    Endpoint("GET", "/v1/usage", get_usage, "How much was called", answer=UsageShown),
]  # fmt: skip
