"""``anycarrier webhooks`` and ``anycarrier usage``, against a receiver on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anycarrier.testing.live_server import serve
from server.cli.town import Run, Served, eventually

OURS = "+14155550100"
SOMEBODY = "+12125550123"
NOBODY = "http://127.0.0.1:9/hook"


class Receiver:
    """Takes webhooks, or does not."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.bodies: list[bytes] = []

    async def take(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        return Response(status_code=self.status)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    async with serve(Starlette(routes=[Route("/hook", made.take, methods=["POST"])])) as url:
        made.url = f"{url}/hook"
        yield made


async def a_call(served: Served, run: Run, **more: str) -> str:
    """A call that is over."""
    await run("agents", "add", "Aria", "--handler", "listen")
    await run("numbers", "register", OURS, "--agent", "aria", "--credential", "twilio sandbox")
    body = {"from_number": OURS, "to_number": SOMEBODY, **more}
    async with served.client() as client:
        agent = (await client.every("/v1/agents"))[0]["id"]
        call = (await client.post("/v1/calls", {"agent_id": agent, **body}))["id"]
    await served.until(call, "in_progress")
    await run("calls", "stop", call)
    return str(call)


async def test_a_webhook_is_made_tried_listed_paused_changed_and_deleted(
    served: Served, run: Run, receiver: Receiver
) -> None:
    added = (await run("webhooks", "add", receiver.url, "--event", "call.ended", "--name", "crm")).out
    assert added.startswith("wh_") and "hears of call.ended" in added and "whsec_" in added
    assert "answered 200" in (await run("webhooks", "test", "crm")).out
    assert b"webhook.test" in receiver.bodies[0]
    receiver.status = 500
    assert "did not take the test event: answered 500" in (await run("webhooks", "test", "crm", expect=1)).out
    row = (await run("webhooks", "ls")).out.splitlines()[1]
    assert row.split()[:3] == ["crm", "active", receiver.url] and "whsec_" not in row
    id_ = row.split()[-1]
    assert "paused" in (await run("webhooks", "pause", id_[:11])).out
    assert (await run("webhooks", "show", "crm", "--json")).json["status"] == "paused"
    assert "is active" in (await run("webhooks", "resume", id_)).out
    await run("webhooks", "set", "crm", "--event", "call.failed", "--to-url", NOBODY)
    shown = (await run("webhooks", "show", "crm", "--json")).json
    assert (shown["events"], shown["url"]) == (["call.failed"], NOBODY)
    assert "nothing to change" in (await run("webhooks", "set", "crm", expect=2)).err
    assert "deleted" in (await run("webhooks", "rm", "crm")).out
    assert (await run("webhooks", "ls")).out.startswith("No webhooks.")
    assert "https" in (await run("webhooks", "add", "ftp://example.com", expect=2)).err


async def test_what_was_sent_is_listed_and_sent_again(served: Served, run: Run, receiver: Receiver) -> None:
    await run("webhooks", "add", receiver.url, "--event", "call.ended", "--name", "crm")
    call = await a_call(served, run)
    async with asyncio.timeout(30):
        while not (rows := (await run("webhooks", "deliveries", "crm", "--json")).json):
            await asyncio.sleep(0.05)
    listed = (await run("webhooks", "deliveries", "crm")).out
    assert "call.ended" in listed and "HTTP 200" in listed and call in listed
    said = (await run("webhooks", "replay", "crm", rows[0]["id"][:12])).out
    assert said.startswith("call.ended sent again") and receiver.bodies[-1] == receiver.bodies[-2]
    receiver.status = 503
    assert "failed: HTTP 503" in (await run("webhooks", "replay", "crm", rows[0]["id"], expect=1)).out
    assert len((await run("webhooks", "deliveries", "crm", "--limit", "1", "--json")).json) == 1
    assert "lists them" in (await run("webhooks", "replay", "crm", "dlv_0000000", expect=1)).err
    assert "--call" in (await run("webhooks", "deliveries", expect=2)).err


async def test_a_calls_own_webhook_that_nobody_takes_is_shown_with_the_call(served: Served, run: Run) -> None:
    call = await a_call(served, run, webhook_url=NOBODY)

    async def tried() -> bool:
        return bool((await run("webhooks", "deliveries", "--call", call[:13], "--json")).json)

    await eventually(tried)
    shown = (await run("calls", "show", call[:13])).out
    assert "failed webhook deliveries:" in shown and NOBODY in shown
    assert (await run("calls", "show", call, "--json")).json["deliveries"][0]["success"] is False
    followed = (await run("calls", "tail", call)).out
    assert f"webhook.failed  of=call.started  url={NOBODY}" in followed


@pytest.mark.usefixtures("served")
async def test_usage_says_what_was_used_and_what_is_left(run: Run) -> None:
    assert "calls_remaining_today" in (await run("usage")).out
    assert (await run("usage", "--json")).json["calls_made_today"] == 0
