"""The envelope of a Telnyx webhook, opened and checked. Pure: bytes in, one happening out.

Only the version 2 envelope is read, ``{"data": {"event_type", "id", "occurred_at", "payload"}}``. Other shapes that
Telnyx can be set to send are refused with what to change, since their fields mean other things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from anycarrier.calls import Call, CallStatus, Direction
from anycarrier.errors import MalformedMessage
from anycarrier.webhooks import WebhookRequest
from anycarrier_telnyx.client_state import ClientState, read_client_state


@dataclass(frozen=True, slots=True)
class Happening:
    """One opened envelope. ``state`` is what we had sent along, ``raw`` the whole body."""

    kind: str
    id: str
    occurred_at: datetime | None
    payload: Mapping[str, Any]
    state: ClientState
    reference: str
    raw: Mapping[str, Any]
    body: bytes

    def text(self, name: str) -> str:
        """A field of the payload; "" when it is absent or null, ``MalformedMessage`` when it is no text."""
        value = self.payload.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.malformed(f"{name} is not text")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.malformed(f"{name} is not Unicode") from None
        return value

    def needed(self, name: str) -> str:
        """A field without which the event means nothing."""
        return self.text(name) or self._missing(name)

    def _missing(self, name: str) -> str:
        raise self.malformed(f"{name} is missing")

    def malformed(self, detail: str) -> MalformedMessage:
        """Theirs: this event cannot be read."""
        return MalformedMessage(f"telnyx {self.kind}: {detail}", self.body)

    def common(self) -> dict[str, Any]:
        """The fields every event has. The leg a transfer dialled speaks for the call it was transferred from."""
        return {
            "call_id": self.state.transfer_of or self.text("call_control_id"),
            "reference": self.reference,
            "event_id": self.id,
            "occurred_at": self.occurred_at,
            "raw": self.raw,
        }

    @property
    def direction(self) -> Direction:
        """As told, else as we noted in the state. A leg without either is none that we dialled or answered."""
        told = self.text("direction")
        if told in ("incoming", "outgoing"):
            return Direction.INBOUND if told == "incoming" else Direction.OUTBOUND
        return self.state.direction or Direction.UNKNOWN

    def call(self, status: CallStatus, **details: Any) -> Call:
        """The call as this event describes it."""
        try:
            return Call(
                id=self.needed("call_control_id"),
                provider="telnyx",
                direction=self.direction,
                from_=self.text("from"),
                to=self.text("to"),
                status=status,
                reference=self.reference,
                created_at=moment(self.payload.get("start_time")),
                raw=dict(self.payload),
                **details,
            )
        except ValidationError:
            raise self.malformed("the call's fields cannot be read") from None


def open_envelope(request: WebhookRequest) -> Happening:
    """The happening in a version 2 webhook, else ``MalformedMessage`` saying what was sent instead."""
    if (request.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
        raise MalformedMessage(
            "telnyx sent a TeXML form. Point the number at a call-control application instead of a TeXML one "
            "(configure_number does), then ring again",
            request.body,
        )
    body = request.json()
    data = body.get("data")
    if not isinstance(data, dict):
        if "event_type" in body or "payload" in body:
            raise MalformedMessage(
                "telnyx sent the API version 1 webhook shape. Set the call-control application's webhook_api_version "
                'to "2" (configure_number does), then ring again',
                request.body,
            )
        raise MalformedMessage("telnyx webhook without a data object", request.body)
    kind, identity, payload = data.get("event_type"), data.get("id"), data.get("payload")
    if not kind or not identity or not isinstance(payload, dict):
        if "webhook_id" in data or "created_at" in data or data.get("record_type") == "call_event":
            raise MalformedMessage(
                "telnyx sent the flat shape of its debugger and call_events list, not a webhook. "
                "Point the application's webhook_event_url here, not an export",
                request.body,
            )
        raise MalformedMessage("telnyx webhook without event_type, id and payload", request.body)
    if not isinstance(kind, str) or not isinstance(identity, str):
        raise MalformedMessage("telnyx webhook: event_type and id must be text", request.body)
    state = read_client_state(payload.get("client_state"))
    return Happening(
        kind=kind,
        id=identity,
        occurred_at=moment(data.get("occurred_at")),
        payload=payload,
        state=state,
        # Before our first command on a leg there is no state; the URL we gave when dialling names the call too.
        reference=state.reference or request.query().get("ref", ""),
        raw=body,
        body=request.body,
    )


def moment(text: object) -> datetime | None:
    """An ISO 8601 time in UTC; None for what is not one."""
    if not isinstance(text, str):
        return None
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
