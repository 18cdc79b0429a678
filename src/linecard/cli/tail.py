"""Following calls as they happen: what is new is asked for every half second and printed once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from linecard.cli.table import clean, text

if TYPE_CHECKING:
    from linecard.cli.client import Client

EVERY = 0.5
"""Seconds between looks. The service has no push to clients without a public address; webhooks are for the others."""

AFTER = 6
"""Looks after the end, for what is written once a call is over: its recording, its analysis."""


async def follow_call(client: Client, call_id: str, *, as_json: bool = False) -> dict[str, Any]:
    """Print the call's events until it has ended; the call as it was then."""
    seen: set[str] = set()  # what happened earlier may be written down later
    looks = AFTER
    while True:
        call: dict[str, Any] = await client.get(f"/v1/calls/{call_id}")
        events = (await client.get(f"/v1/calls/{call_id}/events"))["items"]
        for event in events:
            if event["id"] not in seen:
                seen.add(event["id"])
                _print({"call_id": call["id"], **event}, as_json=as_json)
        if call["ended_at"]:
            settled = not call["answered_at"] or any(
                event["event"] in ("analysis", "call.analyzed") for event in events
            )
            looks -= 1
            if settled or looks <= 0:
                _print(_ended(call), as_json=as_json)
                return call
        await asyncio.sleep(EVERY)


async def follow_all(client: Client, *, as_json: bool = False) -> None:
    """Print every change of every call, from now on, until interrupted."""
    known = {call["id"]: call["status"] for call in await _newest(client)}
    while True:
        await asyncio.sleep(EVERY)
        for call in reversed(await _newest(client)):
            if known.get(call["id"]) != call["status"]:
                known[call["id"]] = call["status"]
                _print(_ended(call), as_json=as_json)


async def _newest(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/v1/calls/cursor", limit=100))["items"]
    return found


def _ended(call: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("direction", "from_number", "to_number", "end_reason", "duration_seconds", "outcome")
    details = {name: call[name] for name in fields if call[name] is not None}
    return {"call_id": call["id"], "at": call["updated_at"], "event": call["status"], "details": details}


def _print(event: Mapping[str, Any], *, as_json: bool) -> None:
    print(line_of_json(event) if as_json else line_of(event), flush=True)


def line_of(event: Mapping[str, Any]) -> str:
    """``12:00:01.250  call_ab12  call.routed  why=...``"""
    details = "  ".join(f"{clean(str(name))}={text(value)}" for name, value in (event["details"] or {}).items())
    return f"{event['at'][11:23]}  {event['call_id'][:13]}  {clean(event['event'])}  {details}".rstrip()


def line_of_json(event: Mapping[str, Any]) -> str:
    """One JSON object, on one line."""
    return json.dumps(event, ensure_ascii=False)
