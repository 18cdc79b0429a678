"""What the requests and answers of this face are made of: strict bodies, lenient queries, one envelope for lists.

Bodies are strict (``"5"`` is not 5) and pass over fields they do not know, as the contract's own service does.
Queries are text, so they are read leniently, but only in the spellings the document promises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

Item = TypeVar("Item")

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Sent(BaseModel):
    """A request body."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class Given(BaseModel):
    """A query string."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class Shown(BaseModel):
    """An answer. Every key is always there; what is not known is null."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    # A plus sign that was not percent-encoded arrives in a query as a space.
    text = re.sub(r" (?=\d\d:\d\d$)", "+", value) if isinstance(value, str) else ""
    if not RFC3339.fullmatch(text):
        raise ValueError("a time with its zone, like 2026-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError("that time is outside the calendar") from None


def _yes_or_no(value: Any) -> bool:
    if value not in ("true", "false"):
        raise ValueError("true or false")
    return bool(value == "true")


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation"),
]
"""A time with its zone, in and out; out it is UTC with a Z."""

YesOrNo = Annotated[bool, BeforeValidator(_yes_or_no), WithJsonSchema({"type": "boolean"})]
"""``true`` or ``false`` in a query."""

Number = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$", examples=["+14155550100"])]
"""E.164."""

NumberAsked = Annotated[
    str, BeforeValidator(lambda value: re.sub("^ ", "+", value) if isinstance(value, str) else value)
]
"""A number in a query, where a plus sign that was not percent-encoded arrives as a space."""

Name = Annotated[str, Field(min_length=1, max_length=255)]
Id = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=20_000)]
Url = Annotated[str, Field(min_length=1, max_length=2048, examples=["https://example.com/hook"])]
Scalars = dict[str, str | int | float | bool | None]

MOST = 10_000_000
"""The furthest offset: a limit for mistakes, not for use."""


class Slice(Given):
    """A page by position."""

    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0, le=MOST)


class Listing(Shown, Generic[Item]):
    """Some of ``total`` things, from ``offset`` on."""

    items: list[Item]
    total: int
    limit: int
    offset: int


def cut(rows: Sequence[Any], which: Slice) -> Sequence[Any]:
    """The rows of one page."""
    return rows[which.offset : which.offset + which.limit]


class Nested(Sent):
    """An engine's settings; those we do not know are kept with a call, and named as ignored on an agent."""

    model_config = ConfigDict(extra="allow")


class TtsSent(Nested):
    """How the agent speaks: ``speed`` is used, ``provider`` if it is an engine of this machine, and ``voice_id`` if the
    engine that speaks has it."""

    provider: str | None = None
    credential_id: str | None = None
    voice_id: str | None = Field(default=None, max_length=255)
    model: str | None = None
    speed: float | None = Field(default=None, gt=0.25, le=4)
    stability: float | None = None


class TranscriberSent(Nested):
    """How the agent listens: ``language`` is used."""

    provider: str | None = None
    model: str | None = None
    language: str | None = Field(default=None, max_length=35)


class LlmSent(Nested):
    """What the agent thinks with is its own business: ``system_prompt`` is handed to it."""

    provider: str | None = None
    model: str | None = None
    temperature: float | None = None
    system_prompt: Text | None = None


class OverridesSent(Nested):
    """Settings for one call only."""

    llm: LlmSent | None = None
    transcriber: TranscriberSent | None = None
    tts: TtsSent | None = None
    first_message: Text | None = None


Action = Literal["auto_accept", "auto_reject", "webhook", "forward"]


class HandlingSent(Sent):
    """How incoming calls are taken. ``incoming_call_action`` null: as ``auto_accept``."""

    incoming_call_action: Action | None = Field(
        default=None,
        description="auto_accept connects the agent: its websocket_url, else its handler, else `listen`; auto_reject "
        "declines; webhook asks incoming_call_webhook_url; forward sends the caller to the forwarding target",
    )
    websocket_url: Url | None = Field(
        default=None, description="Where calls go: your server, as wss://. Takes precedence over a handler"
    )
    incoming_call_webhook_url: Url | None = None
    forwarding_target_type: Literal["phone", "sip"] | None = None
    forwarding_phone_number: Number | None = None
    forwarding_sip_uri: str | None = Field(default=None, max_length=512, pattern=r"^sips?:[!-~]+$")


class HandlingShown(Shown):
    """How incoming calls are taken."""

    incoming_call_action: str | None
    websocket_url: str | None
    incoming_call_webhook_url: str | None
    forwarding_target_type: str | None
    forwarding_phone_number: str | None
    forwarding_sip_uri: str | None
