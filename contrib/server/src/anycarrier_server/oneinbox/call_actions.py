"""Acting on a call that is there: stop, transfer, digits, outcome; and what happened on it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from anycarrier_server.domain import call_control
from anycarrier_server.domain.refusals import NotOffered
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox.call_shape import CallShown, shown
from anycarrier_server.oneinbox.shapes import Moment, Sent, Shown

Target = Field(
    max_length=512,
    pattern=r"^(\+[1-9][0-9]{6,14}|sips?:[!-~]+)$",  # what a SIP address is, its parser says
    examples=["+14155550100", "sip:desk@pbx.example.com"],
)


class TransferSent(Sent):
    """Who takes the far end over. ``transfer_to`` and ``to`` are other spellings of ``to_number``."""

    to_number: str = Target
    transfer_mode: Literal["cold", "warm"] = "cold"

    @model_validator(mode="before")
    @classmethod
    def _spelling(cls, given: Any) -> Any:
        if isinstance(given, dict) and "to_number" not in given:
            for other in ("transfer_to", "to"):
                if other in given:
                    return {**given, "to_number": given[other]}
        return given


class DigitsSent(Sent):
    """Keys to press: 0-9 A-D * #, and ``w`` for half a second's pause."""

    digits: str = Field(pattern=r"^[0-9A-Da-d#*wW]{1,64}$")


class OutcomeSent(Sent):
    """What came of the call, ``like_this``; null takes it back."""

    outcome: str | None = Field(max_length=100)


class EventShown(Shown):
    """Something that happened."""

    id: str
    event: str
    at: Moment
    details: dict[str, Any]


class EventsShown(Shown):
    """What happened on a call, in order."""

    items: list[EventShown]
    total: int


async def stop(asked: Asked[None, None]) -> CallShown:
    """End the call. One that is over already is answered as it is."""
    return await shown(asked.service, await call_control.stop(asked.service, asked.caller, asked.path["call_id"]))


async def transfer(asked: Asked[TransferSent, None]) -> CallShown:
    """Hand the far end to a number or SIP address; our agent leaves the call."""
    if asked.body.transfer_mode == "warm":
        await call_control.get(asked.service, asked.caller, asked.path["call_id"])
        raise NotOffered("not_supported_by_provider", "only cold transfers are done: leave transfer_mode out")
    call = await call_control.transfer(asked.service, asked.caller, asked.path["call_id"], asked.body.to_number)
    return await shown(asked.service, call)


async def dtmf(asked: Asked[DigitsSent, None]) -> CallShown:
    """Press keys for the far end."""
    call = await call_control.send_digits(asked.service, asked.caller, asked.path["call_id"], asked.body.digits)
    return await shown(asked.service, call)


async def set_outcome(asked: Asked[OutcomeSent, None]) -> CallShown:
    """Name what came of it; it is stored as it reads: ``appointment_booked`` becomes "Appointment Booked"."""
    call = await call_control.set_outcome(asked.service, asked.caller, asked.path["call_id"], asked.body.outcome)
    return await shown(asked.service, call)


async def events(asked: Asked[None, None]) -> EventsShown:
    """The call's log."""
    rows = await call_control.events(asked.service, asked.caller, asked.path["call_id"])
    items = [EventShown(id=str(row.id), event=row.kind, at=row.at, details=row.payload) for row in rows]
    return EventsShown(items=items, total=len(items))


ONE = "/v1/calls/{call_id}"

ENDPOINTS = [
    Endpoint("PATCH", ONE, set_outcome, "Name the outcome", OutcomeSent, answer=CallShown, refusals=(403, 404, 413)),
    Endpoint("POST", ONE + "/stop", stop, "End a call", answer=CallShown, refusals=(403, 404, 502, 504)),
    Endpoint("POST", ONE + "/transfer", transfer, "Hand the call to somebody else", TransferSent, answer=CallShown,
             refusals=(403, 404, 409, 413, 501, 502, 504)),
    Endpoint("POST", ONE + "/dtmf", dtmf, "Press keys", DigitsSent, answer=CallShown,
             refusals=(403, 404, 409, 413, 501, 502, 504)),
    Endpoint("GET", ONE + "/events", events, "What happened on a call", answer=EventsShown, refusals=(403, 404)),
]  # fmt: skip
