"""What a document cannot say, said to schemathesis: which carriers are installed, where webhooks may lead, what time
it is. Only requests meant to be accepted are touched; nonsense stays nonsense.

Some of them also get ids and numbers that exist, so that calls are really made and numbers really moved.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from schemathesis.generation import GenerationMode

LARGEST = 2**63 - 1
URLS = {
    "webhook_url": "http://127.0.0.1:9/hook",
    "inbound_webhook_url": "http://127.0.0.1:9/hook",
    "incoming_call_webhook_url": "http://127.0.0.1:9/hook",
    "url": "http://127.0.0.1:9/hook",
    "websocket_url": "ws://127.0.0.1:9/agent",
}
ACCOUNT = "AC00000000000000000000000000000002"
KEYS = {"twilio": f"{ACCOUNT}:any-auth-token", "telnyx": "KEY0123456789ABCDEF_any-api-key"}
BUSY = "+15005550101"
"""Everybody who is called is busy: sandbox calls that are answered would go on, and cost time, to the end."""

KNOWN = {
    "agent_id": os.environ["ANYCARRIER_TEST_AGENT"],
    "from_number": os.environ["ANYCARRIER_TEST_NUMBER"],
}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Make sense of a request that is meant to be accepted."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if isinstance(case.body, dict):
        case.body = storable(case.body)
        sensible(case.body, existing=len(repr(case.body)) % 2 == 0)
        if case.path.endswith("/purchase"):
            case.body["credential_id"] = os.environ["ANYCARRIER_TEST_CREDENTIAL"]  # one whose orders are done at once
    if isinstance(case.query, dict):
        case.query.pop("cursor", None)
        if case.path.endswith("/calls/messages"):
            case.query["calls"] = f"call_{'0' * 32}:0"


def sensible(body: dict[str, Any], *, existing: bool) -> None:
    """Fields whose good values only this service knows."""
    for name, url in URLS.items():
        if body.get(name) is not None:
            body[name] = url
    if "provider" in body:
        body["provider"] = ("twilio", "telnyx")[len(repr(body)) % 2]
    if "from_number" in body:
        body["to_number"] = BUSY
    if body.get("scheduled_at") is not None:
        body["scheduled_at"] = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    if body.get("handler") is not None:
        body["handler"] = "listen"
    if body.get("api_key") is not None:
        body["api_key"] = KEYS[body.get("provider", "twilio")]
    if "account_sid" in body and body.get("provider") != "twilio":
        del body["account_sid"]  # it must be the account that the stored key names
    elif body.get("account_sid") is not None:
        body["account_sid"] = ACCOUNT
    forwarding(body)
    if isinstance(handling := body.get("call_handling"), dict):
        forwarding(handling)
        handling.update({name: url for name, url in URLS.items() if handling.get(name) is not None})
    if isinstance(body.get("metadata"), dict):
        body["metadata"] = {f"own_{name}": value for name, value in body["metadata"].items()}
    if existing:
        body.update({name: value for name, value in KNOWN.items() if name in body})


def forwarding(body: dict[str, Any]) -> None:
    """One target, and an action that fits any agent: a document cannot say which of them go together."""
    if body.get("forwarding_phone_number") is not None:
        body["forwarding_phone_number"] = "+14155550100"
        body["forwarding_sip_uri"] = None
    for name in ("forwarding_sip_uri", "forwarding_target_type"):
        if name in body:
            body[name] = None
    if body.get("incoming_call_action") is not None:
        body["incoming_call_action"] = "auto_reject"


def storable(value: Any) -> Any:
    """Without numbers that no database column holds, wherever they are."""
    if isinstance(value, dict):
        return {name: storable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-LARGEST, min(LARGEST, value))
    return value
