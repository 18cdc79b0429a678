"""Record ``rest/`` cassettes by having one conversation with a carrier: a sandbox, or the carrier itself.

    python -m anycarrier.testing.record --sandbox acme cassettes/acme

Against a live account see :func:`record_live`; ``pytest --record`` calls it. What costs money for good (buying,
releasing, recording) is done in sandboxes only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from anycarrier.calls import Call, CallStatus, DialRequest, StreamTarget
from anycarrier.credentials import Credential
from anycarrier.errors import AnycarrierError
from anycarrier.events import CallProgress, IncomingCall, RecordingProgress
from anycarrier.plugins import get_provider
from anycarrier.provider import Provider
from anycarrier.testing.conversation import Studio, conversation
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import Sandbox, sandbox_type
from anycarrier.testing.scrub import Scrubber
from anycarrier.webhooks import WebhookRequest

LIVE = "ANYCARRIER_LIVE_"
"""``ANYCARRIER_LIVE_<NAME>``, JSON: ``credential`` (its fields), ``from``, ``to``, ``webhook_url``, ``media_url``."""

# --- with a sandbox ------------------------------------------------------------------------------------------------


class Desk:
    """Takes a sandbox's webhooks and says nothing to them: our side is played by the recorder."""

    def __init__(self, provider: Provider, base: str) -> None:
        self.provider, self.base = provider, base
        self.incoming: asyncio.Queue[IncomingCall] = asyncio.Queue()
        self.recordings: asyncio.Queue[str] = asyncio.Queue()
        self.answered: dict[str, asyncio.Event] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.websockets import WebSocket

        if scope["type"] == "websocket":
            socket = WebSocket(scope, receive, send)
            await socket.accept()
            while (await socket.receive())["type"] != "websocket.disconnect":
                pass
        elif scope["type"] == "http":
            request = Request(scope, receive)
            url = self.base + request.url.path + (f"?{request.url.query}" if request.url.query else "")
            body = await request.body()
            event = self.provider.parse_webhook(WebhookRequest(request.method, url, dict(request.headers), body))
            if isinstance(event, IncomingCall):
                self.incoming.put_nowait(event)
            if isinstance(event, CallProgress) and event.call.status is CallStatus.ANSWERED:
                self.answered.setdefault(event.call_id, asyncio.Event()).set()
            if isinstance(event, RecordingProgress) and event.status == "completed":
                self.recordings.put_nowait(event.recording_id or "")
            leave = self.provider.leave_ringing if isinstance(event, IncomingCall) else self.provider.acknowledge
            reply = leave(event)  # type: ignore[arg-type]
            await Response(reply.body, reply.status, media_type=reply.content_type)(scope, receive, send)


@asynccontextmanager
async def desk(sandbox: Sandbox) -> AsyncIterator[tuple[Provider, Desk]]:
    """A provider logged in to ``sandbox`` and somebody to take its webhooks."""
    import httpx

    sock = listening()
    async with httpx.AsyncClient(trust_env=False) as http:
        credential = sandbox.credential()
        provider = get_provider(sandbox.provider)(credential, http)
        taker = Desk(provider, url_of(sock))
        async with serve(taker, sock, lifespan="off"):
            yield provider, taker


async def record_sandbox(carrier: str, folder: Path) -> list[str]:
    """Write ``folder/rest`` anew from the carrier's sandbox; gives the names of the files."""
    ours, theirs = "+14155550100", "+14155550123"
    async with serve_sandbox(sandbox_type(carrier)) as sandbox, desk(sandbox) as (provider, taker):
        sandbox.add_number(ours)
        url = f"{taker.base}/{carrier}/main"
        sandbox.point_webhooks(url)
        places = {
            sandbox.base_url: type(provider).base_url,
            taker.base: "https://voice.example.com",
            taker.base.replace("http", "ws"): "wss://voice.example.com",
        }
        studio = Studio(
            provider,
            folder,
            "sandbox",
            f"anycarrier's own {carrier} sandbox; no account was involved",
            Scrubber(provider.credential, places),
            (sandbox.base_url, type(provider).base_url),
        )
        request = DialRequest(
            from_=ours,
            to=theirs,
            stream=StreamTarget(url=f"{taker.base.replace('http', 'ws')}/media/kit-ticket"),
            status_url=f"{url}?ref=0123456789abcdef",
            reference="0123456789abcdef",
            timeout=20,
        )

        async def answered(call: Call) -> None:
            far_end = await sandbox.far_end(call.id)
            await far_end.wait_for("answered")
            await asyncio.wait_for(taker.answered.setdefault(call.id, asyncio.Event()).wait(), 5)

        async def incoming() -> IncomingCall:
            await sandbox.ring(ours, theirs)
            return await asyncio.wait_for(taker.incoming.get(), 5)

        async def recorded() -> str:
            return await asyncio.wait_for(taker.recordings.get(), 5)

        await conversation(
            studio, request, spend=True, answered=answered, incoming=incoming, recorded=recorded
        )
        return studio.done


# --- with the carrier ----------------------------------------------------------------------------------------------


async def record_live(provider_type: type[Provider], folder: Path, *, patience: float = 10) -> list[str]:
    """Write what can be recorded for little money from a live account: it rings the number you name, once.

    After ``patience`` seconds of ringing it hangs up, answered or not. Facts come from the environment, see
    :data:`LIVE`; ``LookupError`` says what is missing.
    """
    name = f"{LIVE}{provider_type.name.upper()}"
    try:
        facts = json.loads(os.environ[name])
        credential: Credential = provider_type.credential_type.model_validate(facts["credential"])
        request = DialRequest(
            from_=facts["from"],
            to=facts["to"],
            stream=StreamTarget(url=facts["media_url"]),
            status_url=facts["webhook_url"],
            reference="0123456789abcdef",
        )
    except (KeyError, ValueError) as missing:
        raise LookupError(f"{name} must be JSON with credential, from, to, webhook_url, media_url: {missing}") from None
    provider = provider_type(credential)
    places = {request.status_url: "https://voice.example.com/main", request.stream.url: "wss://voice.example.com/media/x"}
    address = getattr(credential, "base_url", None) or provider_type.base_url
    scrubber = Scrubber(credential, {**places, address: provider_type.base_url})
    only = (address, provider_type.base_url)
    studio = Studio(provider, folder, "recorded", "a live account, scrubbed on write", scrubber, only)

    async def answered(call: Call) -> None:
        await asyncio.sleep(patience)  # somebody picks up, or does not: both are worth keeping

    try:
        await conversation(studio, request, spend=False, answered=answered, incoming=None, recorded=None)
    finally:
        await provider.aclose()
        await provider.http.aclose()
    return studio.done


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m anycarrier.testing.record", description=__doc__)
    parser.add_argument("--sandbox", metavar="CARRIER", required=True, help="whose sandbox to talk to")
    parser.add_argument("folder", type=Path, nargs="?", help="default: cassettes/<carrier>")
    asked = parser.parse_args(arguments)
    try:
        done = asyncio.run(record_sandbox(asked.sandbox, asked.folder or Path("cassettes") / asked.sandbox))
    except AnycarrierError as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    sys.stdout.write("".join(f"{name}\n" for name in done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
