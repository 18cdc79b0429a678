"""The Inkbox phone API under ``/api``: the unmodified ``inkbox`` package is its client.

Each module is one family of addresses; all of them only translate between the contract's words and
``anycarrier_server.domain``.
"""

from __future__ import annotations

from anycarrier_server.endpoints import Face
from anycarrier_server.inkbox import (
    access,
    calls,
    contact_rules,
    deliveries,
    hosted_agent,
    identities,
    incoming_call_action,
    numbers,
    place_call,
    signing_keys,
    subscriptions,
    webhook_bodies,
)
from anycarrier_server.inkbox.errors import ErrorBody, refuse

FAMILIES = (
    access, identities, numbers, place_call, calls, incoming_call_action, contact_rules, hosted_agent, signing_keys,
    subscriptions, deliveries,
)  # fmt: skip

FACE = Face(
    name="inkbox",
    prefix="/api",
    title="Inkbox phone API",
    endpoints=[endpoint for family in FAMILIES for endpoint in family.ENDPOINTS],
    refuse=refuse,
    error=ErrorBody,
    style=webhook_bodies.style,
    incoming=webhook_bodies.incoming,
)
