"""The Inkbox phone API under ``/api``: the unmodified ``inkbox`` package is its client.

Each module is one family of addresses; all of them only translate between the contract's words and
``anycarrier_server.domain``.
"""

from __future__ import annotations

from anycarrier_server.http.endpoints import Face
from anycarrier_server.inkbox import (
    api_keys,
    call_views,
    contact_rules,
    identities,
    incoming_calls,
    phone_calls,
    phone_numbers,
    subscriptions,
)
from anycarrier_server.inkbox.error_details import ErrorBody, refuse

FAMILIES = (api_keys, identities, phone_numbers, phone_calls, incoming_calls, contact_rules, subscriptions)

FACE = Face(
    name="inkbox",
    prefix="/api",
    title="Inkbox phone API",
    endpoints=[endpoint for family in FAMILIES for endpoint in family.ENDPOINTS],
    refuse=refuse,
    error=ErrorBody,
    style=call_views.style,
    incoming=call_views.incoming_call_question,
)
