"""A Twilio sandbox is mounted anywhere, ends cleanly in the middle of calls, and does not hide its own failures."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier_twilio.sandbox import TwilioSandbox
from sandbox_platform import platform

OURS = "+14155550100"
THEIRS = "+12125550123"


async def dial(sandbox: TwilioSandbox, twiml: str, to: str = THEIRS) -> Any:
    url = f"{sandbox.base_url}/2010-04-01/Accounts/{sandbox.account.sid}/Calls.json"
    async with httpx.AsyncClient(auth=(sandbox.account.sid, sandbox.account.token), trust_env=False) as http:
        return (await http.post(url, data={"To": to, "From": OURS, "Twiml": twiml})).json()


async def test_closing_in_the_middle_of_calls_stops_streams_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with platform(lambda webhook: True) as here:
        async with serve_sandbox(TwilioSandbox) as sandbox:
            sandbox.add_number(OURS)
            stream = f'<Response><Connect><Stream url="{here.socket_url}/media/1"/></Connect></Response>'
            await dial(sandbox, stream)
            await dial(sandbox, stream, "+15005550102")
            await dial(sandbox, "<Response><Dial>+13125550144</Dial></Response>")
            socket = await here.socket()
            speaker = sandbox.far_ends[socket.of("start")[0]["start"]["callSid"]]
            saying = asyncio.create_task(speaker.say(b"\x01" * 80000))
            await socket.wait_for("media", 5)
        await asyncio.wait_for(socket.closed.wait(), 30)
        await asyncio.wait_for(saying, 30)
        assert socket.of("stop"), "the platform is told, not left hanging"
        assert all(far_end.state == "ended" for far_end in sandbox.far_ends.values())
    async with asyncio.timeout(30):
        while not asyncio.all_tasks() <= before:
            await asyncio.sleep(0)


async def test_what_goes_wrong_in_the_background_is_raised_at_the_end() -> None:
    async def broken() -> None:
        raise ZeroDivisionError("a bug of the sandbox's own")

    sandbox = TwilioSandbox(base_url="http://127.0.0.1:1")
    sandbox.start(broken())
    await asyncio.sleep(0)
    with pytest.raises(ExceptionGroup) as group:
        await sandbox.aclose()
    assert group.group_contains(ZeroDivisionError)


async def test_it_can_be_mounted_below_a_path() -> None:
    sock = listening()
    async with TwilioSandbox(base_url=f"{url_of(sock)}/sandbox/twilio") as sandbox:
        sandbox.add_number(OURS)
        async with serve(Starlette(routes=[Mount("/sandbox/twilio", sandbox.app)]), sock):
            call = await dial(sandbox, "<Response><Pause length='5'/></Response>")
            assert call["status"] == "queued" and call["uri"].startswith("/2010-04-01/")
            assert sandbox.requests[0].path == f"/2010-04-01/Accounts/{sandbox.account.sid}/Calls.json"
            assert sandbox.requests[0].status == 201


async def test_a_credential_that_does_not_log_in_changes_no_signing_token() -> None:
    async with TwilioSandbox(base_url="http://127.0.0.1:1") as sandbox:
        token = sandbox.account.token
        for secret in ("wrong", "broke", "throttled", "suspended"):
            sandbox.credential(auth_token=secret)
            assert sandbox.account.token == token
        sandbox.credential(auth_token="a new one")
        assert sandbox.account.token == "a new one"


async def test_far_ends_of_outbound_calls_are_found_by_the_carriers_id() -> None:
    async with serve_sandbox(TwilioSandbox) as sandbox:
        sandbox.add_number(OURS)
        waiting = asyncio.create_task(sandbox.far_end("CA-none", timeout=0.05))
        call = await dial(sandbox, "<Response><Pause length='5'/></Response>")
        far_end = await sandbox.far_end(call["sid"])
        await far_end.wait_for("answered")
        assert (far_end.from_, far_end.to) == (OURS, THEIRS)
        with pytest.raises(TimeoutError):
            await waiting
