"""Following calls as they happen, words included: what is new is asked for every half second and printed once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier_server.cli.output import BOLD, clean, painted, shortened, text

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

EVERY = 0.5
"""Seconds between looks. The service has no push to clients without a public address; webhooks are for the others."""

AFTER = 6
"""Looks after the end, for what is written once a call is over: its last words, its recording, its analysis."""

AT_ONCE = 100
"""Calls followed at the same time, the newest."""

SAID = "message"
"""The event under which an utterance is printed."""


class Words:
    """What is said on some calls, each utterance given out once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._places: dict[str, str] = {}  # call id -> how /v1/calls/messages is asked for what comes next

    async def new(self, calls: Iterable[str]) -> list[dict[str, Any]]:
        """What was said on these calls since the last time, as events; calls no longer named are forgotten."""
        self._places = {one: self._places.get(one, one) for one in calls}
        found: list[dict[str, Any]] = []
        more = bool(self._places)
        while more:
            page = await self._client.get("/v1/calls/messages", calls=",".join(self._places.values()))
            found += page["items"]
            more = page["has_more"]
            self._places.update((place.partition(":")[0], place) for place in page["next"].split(","))
        return [_said(one) for one in found]


async def follow_call(client: Client, call_id: str, *, as_json: bool = False) -> dict[str, Any]:
    """Print the call's events and words until it has ended; the call as it was then."""
    seen: set[str] = set()  # what happened earlier may be written down later
    words = Words(client)
    looks = AFTER
    while True:
        call: dict[str, Any] = await client.get(f"/v1/calls/{call_id}")
        events = (await client.get(f"/v1/calls/{call_id}/events"))["items"]
        new = [{"call_id": call["id"], **event} for event in events if event["id"] not in seen]
        seen.update(event["id"] for event in new)
        _print_all(new + await words.new([call["id"]]), as_json=as_json)
        if call["ended_at"]:
            settled = not call["answered_at"] or any(
                event["event"] in ("analysis", "call.analyzed") for event in events
            )
            looks -= 1
            if settled or looks <= 0:
                _print_all(await _refused(client, call), as_json=as_json)
                _print(_state(call), as_json=as_json)
                return call
        await asyncio.sleep(EVERY)


async def follow_all(client: Client, *, as_json: bool = False) -> None:
    """Print every change of every call, and every word said, from now on, until interrupted."""
    newest = await _newest(client)
    known = {call["id"]: call["status"] for call in newest}
    looks = {call["id"]: AFTER for call in newest if not call["ended_at"]}
    words = Words(client)
    await words.new(looks)  # what was said before we came
    while True:
        await asyncio.sleep(EVERY)
        newest = await _newest(client)
        changed = [call for call in newest if known.get(call["id"]) != call["status"]]
        known = {call["id"]: call["status"] for call in newest}
        left = {call["id"]: looks.get(call["id"], AFTER) for call in newest if call in changed or call["id"] in looks}
        over = {call["id"] for call in newest if call["ended_at"]}
        looks = {one: many - (one in over) for one, many in left.items() if many > 0}
        _print_all([_state(call) for call in changed] + await words.new(looks), as_json=as_json)


async def _newest(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/v1/calls/cursor", limit=AT_ONCE))["items"]
    return found


async def _refused(client: Client, call: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The webhooks that were not delivered so far, so that nobody waits for them in vain."""
    sent = (await client.get(f"/v1/calls/{call['id']}/deliveries", limit=AT_ONCE))["items"]
    return [
        {
            "call_id": call["id"],
            "at": one["created_at"],
            "event": "webhook.failed",
            "details": {"of": one["event"], "url": one["url"], "error": one["error"]},
        }
        for one in sent
        if not one["success"]
    ]


def _said(message: Mapping[str, Any]) -> dict[str, Any]:
    details = {"role": message["role"], "content": message["content"]}
    return {"call_id": message["call_id"], "at": message["at"], "event": SAID, "details": details}


def _state(call: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("direction", "from_number", "to_number", "end_reason", "duration_seconds", "outcome")
    details = {name: call[name] for name in fields if call[name] is not None}
    return {"call_id": call["id"], "at": call["updated_at"], "event": call["status"], "details": details}


def _print_all(events: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    for event in sorted(events, key=lambda event: datetime.fromisoformat(event["at"])):
        _print(event, as_json=as_json)


def _print(event: Mapping[str, Any], *, as_json: bool) -> None:
    print(line_of_json(event) if as_json else line_of(event), flush=True)


def line_of(event: Mapping[str, Any]) -> str:
    """``12:00:01.250Z  call_ab12cd34  call.routed  why=...``, or ``...  agent: Hello.``; the time is UTC."""
    at = datetime.fromisoformat(event["at"]).astimezone(UTC).strftime("%H:%M:%S.%f")[:-3] + "Z"
    details = event["details"] or {}
    if event["event"] == SAID:
        what = f"{painted(details['role'] + ':', BOLD)} {clean(details['content'])}"
    else:
        facts = "  ".join(f"{clean(str(name))}={text(value)}" for name, value in details.items() if value is not None)
        what = f"{painted(clean(event['event']))}  {facts}"
    return f"{at}  {shortened([event['call_id']])[0]}  {what}".rstrip()


def line_of_json(event: Mapping[str, Any]) -> str:
    """One JSON object, on one line."""
    return json.dumps(event, ensure_ascii=False)
