"""The call-control application: where Telnyx sends a number's webhooks, and what outbound calls leave through.

A number has no webhook URL of its own; it points at an application (its "connection"), and that has one. We use the
credential's, or one of our own per webhook URL, found again by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from anycarrier.errors import NotFound, RequestRejected
from anycarrier_telnyx.sdk import Sdk

OPERATION = "configure_number"


@dataclass(frozen=True, slots=True)
class Application:
    """The application as it is after :func:`settle`. ``id`` is "" when a dry run would have made it."""

    id: str
    changed: tuple[str, ...] = ()
    note: str = ""


def application_name(webhook_url: str) -> str:
    """Ours for this webhook URL, readable in the portal: ``anycarrier voice.example.com/telnyx/main``."""
    parts = urlsplit(webhook_url)
    return f"anycarrier {parts.netloc}{parts.path}"


async def find(sdk: Sdk, webhook_url: str, operation: str) -> dict[str, Any] | None:
    """The application we made for ``webhook_url``, or any other that sends its webhooks there."""
    name = application_name(webhook_url)
    rows = await sdk.rows(
        operation,
        lambda telnyx: telnyx.call_control_applications.with_raw_response.list(
            filter={"application_name": {"contains": "anycarrier"}}, page_size=250
        ),
    )
    ours = [row for row in rows if row.get("application_name") == name or row.get("webhook_event_url") == webhook_url]
    return min(ours, key=lambda row: str(row.get("created_at", ""))) if ours else None


async def webhook_of(sdk: Sdk, connection_id: str, operation: str) -> str:
    """Where the application posts its webhooks; "" when it is set to nowhere, or the connection is no application."""
    try:
        found = await sdk.record(
            operation, lambda telnyx: telnyx.call_control_applications.with_raw_response.retrieve(connection_id)
        )
    except NotFound:
        return ""
    return str(found.get("webhook_event_url") or "")


async def settle(sdk: Sdk, connection_id: str | None, webhook_url: str, *, dry_run: bool) -> Application | None:
    """Make an application send version 2 webhooks to ``webhook_url``; None when the credential's does not exist."""
    if connection_id:
        try:
            found: dict[str, Any] | None = await sdk.record(
                OPERATION,
                lambda telnyx: telnyx.call_control_applications.with_raw_response.retrieve(connection_id),
            )
        except NotFound:
            return None
    else:
        found = await find(sdk, webhook_url, OPERATION)
    if found is None:
        return await _create(sdk, webhook_url, dry_run=dry_run)
    return await _mend(sdk, found, webhook_url, dry_run=dry_run)


async def _create(sdk: Sdk, webhook_url: str, *, dry_run: bool) -> Application:
    profile, note = await _outbound_profile(sdk)
    changed = ("call_control_application",)
    if dry_run:
        return Application("", changed, note)
    wanted: dict[str, Any] = {
        "application_name": application_name(webhook_url),
        "webhook_event_url": webhook_url,
        "webhook_api_version": "2",
    }
    if profile:
        wanted["outbound"] = {"outbound_voice_profile_id": profile}
    made = await sdk.record(
        OPERATION, lambda telnyx: telnyx.call_control_applications.with_raw_response.create(**wanted)
    )
    return Application(str(made.get("id", "")), changed, note)


async def _mend(sdk: Sdk, found: Mapping[str, Any], webhook_url: str, *, dry_run: bool) -> Application:
    wanted = {"webhook_event_url": webhook_url, "webhook_api_version": "2", "active": True}
    wrong = {name: value for name, value in wanted.items() if found.get(name) != value}
    if "active" in wrong and "active" not in found:
        del wrong["active"]
    identity = str(found.get("id", ""))
    if wrong and not dry_run:
        # Name and URL are required in every change, so both always go along.
        change: dict[str, Any] = {
            "application_name": found.get("application_name") or application_name(webhook_url),
            "webhook_event_url": webhook_url,
            **wrong,
        }
        await sdk.record(
            OPERATION, lambda telnyx: telnyx.call_control_applications.with_raw_response.update(identity, **change)
        )
    return Application(identity, tuple(f"call_control_application.{name}" for name in wrong))


async def _outbound_profile(sdk: Sdk) -> tuple[str, str]:
    """(id, note) of the outbound voice profile for a new application: the account's oldest enabled one."""
    try:
        rows = await sdk.rows(
            OPERATION,
            lambda telnyx: telnyx.outbound_voice_profiles.with_raw_response.list(page_size=250, sort="created_at"),
        )
    except RequestRejected:
        rows = []  # a key may be forbidden to see them; receiving calls needs none
    enabled = [row for row in rows if row.get("enabled", True) and row.get("id")]
    if not enabled:
        return "", " It has no outbound voice profile, so it cannot dial out: create one in the portal and assign it."
    return str(enabled[0]["id"]), ""
