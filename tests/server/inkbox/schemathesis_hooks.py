"""What a document cannot say, said to schemathesis: where URLs may lead, which fields the contract forbids together.

Only requests that are meant to be accepted are touched; nonsense stays nonsense. They name an identity, a number and
a call that exist, so that calls are really made and settings really kept.
"""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from schemathesis.generation import GenerationMode

LARGEST = 2**63 - 1
KNOWN: dict[str, str] = json.loads(os.environ.get("ANYCARRIER_TEST_KNOWN", "{}"))
URLS = {
    "url": "http://127.0.0.1:9/hook",
    "webhook_url": "http://127.0.0.1:9/hook",
    "incoming_call_webhook_url": "http://127.0.0.1:9/hook",
    "client_websocket_url": "ws://127.0.0.1:9/agent",
}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Make sense of a request that is meant to be accepted."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    existing = len(repr(case.body)) % 2 == 0
    if isinstance(case.body, dict):
        case.body = storable(case.body)
        sensible(case.operation.label, case.body)
        if existing:
            case.body.update({name: value for name, value in KNOWN.items() if name in case.body})
    if isinstance(case.query, dict):
        for name in ("tz", "start_datetime", "end_datetime"):
            if case.query.get(name) is not None:
                case.query[name] = {"tz": "Europe/Berlin"}.get(name, "2026-01-31")
        if case.operation.path.endswith(("/phone/calls", "/incoming-call-action")) and case.method == "GET":
            case.query.setdefault("agent_identity_id", KNOWN.get("agent_identity_id", "x"))
    # What the others need is not deleted under their feet.
    kept = case.method == "DELETE" and not case.operation.path.endswith("{rule_id}")
    if not kept and isinstance(case.path_parameters, dict):
        case.path_parameters.update({name: value for name, value in KNOWN.items() if name in case.path_parameters})


def storable(value: Any) -> Any:
    """Without numbers that no database column holds, wherever they are."""
    if isinstance(value, dict):
        return {name: storable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-LARGEST, min(LARGEST, value))
    return value


def sensible(operation: str, body: dict[str, Any]) -> None:
    """Fields that go together, and URLs."""
    for name, url in URLS.items():
        if body.get(name) is not None:
            body[name] = url
    if isinstance(body.get("phone_number"), dict):
        taken_calls(body["phone_number"])
    if "incoming-call-action" in operation or "/phone/numbers" in operation:
        taken_calls(body)
        if "incoming-call-action" in operation and body.get("agent_identity_id") is None:
            body["agent_identity_id"] = KNOWN.get("agent_identity_id", "x")
    if "place-call" in operation:
        a_call(body)
    if "contact-rules" in operation and body.get("apply_to") is not None:
        body.pop("direction", None)
        body["action"] = body.get("action") or "allow"
    if operation.startswith("PATCH") and "/identities/" in operation:
        body.pop("imessage_filter_mode", None)
        if "phone_filter_mode" in body:
            body.pop("phone_inbound_filter_mode", None)
            body.pop("phone_outbound_filter_mode", None)
    if "subscriptions" in operation and operation.startswith("POST"):
        body.pop("mailbox_id", None)
        body.pop("phone_number_id", None)
        body["agent_identity_id"] = KNOWN.get("agent_identity_id", "x")


def taken_calls(body: dict[str, Any]) -> None:
    """An action with what it needs."""
    body.pop("forwarding_sip_uri", None)
    body.pop("forwarding_target_type", None)
    body.pop("forwarding_phone_number", None)
    match body.get("incoming_call_action"):
        case "auto_accept":
            body["client_websocket_url"] = URLS["client_websocket_url"]
        case "webhook":
            body["incoming_call_webhook_url"] = URLS["incoming_call_webhook_url"]
        case "forward":
            body.update(forwarding_target_type="phone", forwarding_phone_number="+12125550123")
        case _:
            # A URL must not be cleared while the action kept needs it.
            body.pop("client_websocket_url", None)
            body.pop("incoming_call_webhook_url", None)


def a_call(body: dict[str, Any]) -> None:
    """A call the contract allows; to a number that is busy, since one that is answered would go on and on."""
    body["from_number"] = KNOWN.get("from_number", "+12125550199")
    body["to_number"] = "+15005550101"
    body["client_websocket_url"] = URLS["client_websocket_url"]
    body.pop("voicemail_detection", None)
    if body.get("mode") == "hosted_agent":
        body.pop("client_websocket_url")
        body["reason"] = body.get("reason") or "buy milk"
    else:
        body.pop("reason", None)
        body.pop("hosted_agent_authority_mode", None)
    if body.get("voicemail_message") is not None:
        body["on_voicemail"] = "leave_message"
