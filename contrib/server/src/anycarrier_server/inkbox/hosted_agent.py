"""Voice AI, which is not offered here: its addresses answer so that clients understand it.

A call's tool invocations are an empty page, since no call has any; its settings are refused with 501.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from anycarrier_server.domain import call_control
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.inkbox.errors import Said
from anycarrier_server.inkbox.shapes import PHONE, Given, Id, Sent, Shown, Slice


class Invocations(Shown):
    """A page of none."""

    items: list[dict[str, Any]] = []
    limit: int
    offset: int
    has_more: bool = False


class HostedSent(Sent):
    """Settings of Voice AI."""

    agent_identity_id: Id | None = None
    voice: str | None = Field(default=None, max_length=255)
    instructions: str | None = Field(default=None, max_length=20_000)


class AuthoritySent(Sent):
    """How much Voice AI may do."""

    agent_identity_id: Id
    authority_mode: Literal["contact_scoped", "yolo"]


class WhoseConfig(Given):
    """Which identity's."""

    agent_identity_id: Id | None = None


async def invocations(asked: Asked[None, Slice]) -> Invocations:
    """None, for a call that is there."""
    await call_control.get(asked.service, asked.caller, asked.path["call_id"])
    return Invocations(limit=asked.query.limit, offset=asked.query.offset)


async def nothing(asked: Asked[Any, Any]) -> dict[str, Any]:
    """Voice AI is not offered."""
    raise Said(501, "hosted_agent_unavailable", "Voice AI is not offered here: let your own agent answer by WebSocket")


CONFIG = f"{PHONE}/hosted-agent-config"

ENDPOINTS = [
    Endpoint("GET", f"{PHONE}/hosted-agent-voices", nothing, "Voices of Voice AI: not offered",
             answer=dict[str, Any], refusals=(501,)),
    Endpoint("GET", CONFIG, nothing, "Settings of Voice AI: not offered", query=WhoseConfig, answer=dict[str, Any],
             refusals=(501,)),
    Endpoint("PUT", CONFIG, nothing, "Settings of Voice AI: not offered", HostedSent, answer=dict[str, Any],
             refusals=(413, 501)),
    Endpoint("PUT", f"{CONFIG}/authority-mode", nothing, "Authority of Voice AI: not offered", AuthoritySent,
             answer=dict[str, Any], refusals=(413, 501)),
]  # fmt: skip
