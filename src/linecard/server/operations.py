"""``/ops``: what the people who run the service ask it: how a call would be routed, and whether all is well."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field

from linecard.server.domain import checkup, explain
from linecard.server.endpoints import Asked, Endpoint, Face
from linecard.server.oneinbox.errors import ErrorBody, refuse
from linecard.server.oneinbox.shapes import Given, Number, Shown, Slice


class Ring(Given):
    """A call that might come. In a URL the plus sign is written %2B."""

    to: Number
    from_: Number | None = Field(default=None, alias="from", description="Who rings; left out: somebody no rule names")


class StepShown(Shown):
    """One question on the way; ``decides`` marks the one that settled it."""

    question: str
    found: str
    decides: bool


class RouteShown(Shown):
    """What would happen. ``outcome``: answer, reject, forward, or ask (a webhook decides while it rings)."""

    outcome: str
    why: str
    line_id: str | None
    agent_id: str | None
    steps: list[StepShown]


class FindingShown(Shown):
    """One thing looked at; ``ok`` null: it cannot be told. ``drift``: the carrier's settings that are not ours."""

    check: str
    subject: str
    name: str
    ok: bool | None
    found: str
    drift: list[str]


class CheckupShown(Shown):
    """What was looked at; ``total`` counts the numbers, of which this is a page."""

    ok: bool
    items: list[FindingShown]
    total: int
    limit: int
    offset: int


async def route(asked: Asked[None, Ring]) -> RouteShown:
    """Goes through the questions an incoming call meets, without a call: nothing rings, nothing is counted."""
    told = await explain.explain(asked.service, asked.caller, to=asked.query.to, from_=asked.query.from_)
    steps = [StepShown(**asdict(step)) for step in told.steps]
    return RouteShown(outcome=told.outcome, why=told.why, line_id=told.line_id, agent_id=told.agent_id, steps=steps)


async def look(asked: Asked[None, Slice]) -> CheckupShown:
    """Reads the numbers' settings at their carriers; on the first page also logs in and compares clocks. Looks only."""
    limit, offset = asked.query.limit, asked.query.offset
    found, total = await checkup.checkup(asked.service, asked.caller, limit=limit, offset=offset)
    items = [FindingShown(**{**asdict(one), "drift": list(one.drift)}) for one in found]
    ok = all(one.ok is not False for one in found)
    return CheckupShown(ok=ok, items=items, total=total, limit=limit, offset=offset)


FACE = Face(
    name="operations",
    prefix="/ops",
    title="Operations: routing explained, check-up",
    endpoints=[
        Endpoint("GET", "/ops/route", route, "What would happen to an incoming call", query=Ring, answer=RouteShown,
                 refusals=(403,)),
        Endpoint("GET", "/ops/checkup", look, "Is all well at the carriers", query=Slice, answer=CheckupShown,
                 refusals=(403,), admin=True),
    ],
    refuse=refuse,
    error=ErrorBody,
)  # fmt: skip
