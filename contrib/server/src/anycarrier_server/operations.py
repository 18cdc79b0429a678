"""``/ops``: what the people who run the service ask it: how a call would be routed, whether all is well, and with which
speech engines agents talk.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import Field

from anycarrier_server.domain import check_setup, explain_route, manage_agents, speech_engines
from anycarrier_server.http.endpoints import Asked, Endpoint, Face
from anycarrier_server.oneinbox.errors import ErrorBody, refuse
from anycarrier_server.oneinbox.shapes import Given, Number, Sent, Shown, Slice


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
    told = await explain_route.explain(asked.resources, asked.caller, to=asked.query.to, from_=asked.query.from_)
    steps = [StepShown(**asdict(step)) for step in told.steps]
    return RouteShown(outcome=told.outcome, why=told.why, line_id=told.line_id, agent_id=told.agent_id, steps=steps)


async def look(asked: Asked[None, Slice]) -> CheckupShown:
    """Reads the numbers' settings at their carriers; on the first page also logs in and compares clocks. Looks only."""
    limit, offset = asked.query.limit, asked.query.offset
    found, total = await check_setup.check(asked.resources, asked.caller, limit=limit, offset=offset)
    items = [FindingShown(**{**asdict(one), "drift": list(one.drift)}) for one in found]
    ok = all(one.ok is not False for one in found)
    return CheckupShown(ok=ok, items=items, total=total, limit=limit, offset=offset)


class EngineSent(Sent):
    """A workspace's own settings of a speech engine; those not given stay, null takes one away."""

    settings: dict[str, Any] = Field(
        description="By name, e.g. api_key. Secrets are stored sealed and never shown again", max_length=50
    )


class EngineShown(Shown):
    """A speech engine. ``why_not`` null: it is ready. ``default_for`` is what it does for an English agent that names
    no engine and has no grammar; among the engines of this machine that is the one with the highest ``rank``.

    ``settings`` are this workspace's own, of a secret the last four characters; ``settable`` is what it may set;
    ``by_service``: the operator has configured it for all workspaces.
    """

    name: str
    abilities: list[str]
    remote: bool
    rank: int
    ready: bool
    why_not: str | None
    default_for: list[str]
    settings: dict[str, Any]
    settable: list[str]
    by_service: bool


def _engine(one: speech_engines.Installed) -> EngineShown:
    return EngineShown.model_validate({**asdict(one), "ready": one.why_not is None})


async def installed(asked: Asked[None, None]) -> list[EngineShown]:
    """The speech engines installed here, and whether this workspace's agents can use them."""
    return [_engine(one) for one in await speech_engines.list_engines(asked.resources, asked.caller)]


class EngineChoiceShown(Shown):
    """The engine that does ``ability`` (speak, listen, detect) in an agent's calls, and why; ``engine`` null: none.

    ``fallbacks`` take over in this order when it fails. ``problem`` says why the agent's calls lack the ability;
    ``warning``: it works, but poorly, for such an agent.
    """

    ability: str
    engine: str | None
    reason: str
    fallbacks: list[str]
    problem: str | None
    warning: str | None


async def explain(asked: Asked[None, None]) -> list[EngineChoiceShown]:
    """The speech engines that an agent's calls use: those it names, or by its grammar, its language and their rank."""
    agent = await manage_agents.get_agent(asked.store, asked.caller, asked.path["agent_id"])
    choices = await speech_engines.explain_engines(asked.resources, asked.caller, agent)
    return [EngineChoiceShown.model_validate(asdict(one)) for one in choices]


async def set_engine(asked: Asked[EngineSent, None]) -> EngineShown:
    """Give an engine settings of this workspace's own: its agents use them, and nobody else's do."""
    return _engine(
        await speech_engines.set_up_engine(asked.resources, asked.caller, asked.path["name"], asked.body.settings)
    )


class EngineVerified(Shown):
    """What the engine said to the settings that this workspace's calls use."""

    ok: bool
    name: str
    error: str | None


async def verify_engine(asked: Asked[None, None]) -> EngineVerified:
    """Log in at the engine with the settings that this workspace's calls use."""
    told = await speech_engines.verify_engine(asked.resources, asked.caller, asked.path["name"])
    return EngineVerified(ok=told.error is None, name=told.name, error=told.error)


async def forget_engine(asked: Asked[None, None]) -> None:
    """Forget the workspace's own settings; those for all workspaces hold again."""
    await speech_engines.forget_engine(asked.resources, asked.caller, asked.path["name"])


FACE = Face(
    name="operations",
    prefix="/ops",
    title="Operations: routing explained, check-up",
    endpoints=[
        Endpoint("GET", "/ops/route", route, "What would happen to an incoming call", query=Ring, answer=RouteShown,
                 refusals=(403,)),
        Endpoint("GET", "/ops/checkup", look, "Is all well at the carriers", query=Slice, answer=CheckupShown,
                 refusals=(403,), admin=True),
        Endpoint("GET", "/ops/engines", installed, "Speech engines, and whether they are ready",
                 answer=list[EngineShown], refusals=(403,), admin=True),
        Endpoint("GET", "/ops/agents/{agent_id}/engines", explain, "Which speech engines an agent uses, and why",
                 answer=list[EngineChoiceShown], refusals=(403, 404), admin=True),
        Endpoint("PATCH", "/ops/engines/{name}", set_engine, "Set up a speech engine for this workspace", EngineSent,
                 answer=EngineShown, refusals=(403, 404, 413), admin=True),
        Endpoint("POST", "/ops/engines/{name}/verify", verify_engine, "Log in at a speech engine",
                 answer=EngineVerified, refusals=(403, 404), admin=True),
        Endpoint("DELETE", "/ops/engines/{name}", forget_engine, "Forget this workspace's settings of an engine",
                 status=204, refusals=(403, 404), admin=True),
    ],
    refuse=refuse,
    error=ErrorBody,
)  # fmt: skip
