"""Record ``rest/`` cassettes: ask a carrier, a sandbox or a live one, for each operation once.

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
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anycarrier.calls import Call, CallStatus, DialRequest, EndReason, StreamTarget
from anycarrier.credentials import Credential
from anycarrier.errors import AnycarrierError, UnsupportedOperation
from anycarrier.events import CallProgress, IncomingCall, InstructionsFor, InstructionsRequested, RecordingProgress
from anycarrier.numbers import NumberQuery, PendingOrder
from anycarrier.plugins import get_provider
from anycarrier.provider import Capability, Provider, TicketPlace
from anycarrier.testing.cassettes import Scrubber
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.replay import recorder
from anycarrier.testing.sandbox import Sandbox, sandbox_type
from anycarrier.testing.sandbox_numbers import PENDING_NUMBER
from anycarrier.webhooks import WebhookRequest

LIVE = "ANYCARRIER_LIVE_"
"""``ANYCARRIER_LIVE_<NAME>``, JSON: ``credential`` (its fields), ``from``, ``to``, ``webhook_url``, ``media_url``."""

# --- the operations, each on a cassette of its own -----------------------------------------------------------------

Act = Callable[[Provider], Awaitable[Any]]


@dataclass
class CassetteRecorder:
    """Records operations of one provider into one folder, with one kind of provenance."""

    provider: Provider
    folder: Path
    provenance: str
    source: str
    scrubber: Scrubber
    only: tuple[str, ...]
    done: list[str] = field(default_factory=list)

    async def record(self, name: str, act: Act) -> Any:
        """Record one operation into ``rest/<name>.yaml``; what the carrier cannot be asked leaves no file."""
        path = self.folder / "rest" / f"{name}.yaml"
        path.unlink(missing_ok=True)
        made = recorder(
            "all", provenance=self.provenance, source=self.source, scrubber=self.scrubber, only=self.only
        )
        try:
            with made.use_cassette(str(path)):
                answer = await act(self.provider)
        except UnsupportedOperation:
            return None
        if path.exists():
            self.done.append(path.name)
        return answer

    def can(self, capability: Capability) -> bool:
        return self.provider.supports(capability)


async def record_operations(
    cassettes: CassetteRecorder,
    request: DialRequest,
    *,
    spend: bool,
    answered: Callable[[Call], Awaitable[None]],
    incoming: Callable[[], Awaitable[IncomingCall]] | None,
    recorded: Callable[[], Awaitable[str]] | None,
) -> None:
    """Record every operation the provider has, in the order in which a real account would be used.

    ``spend`` includes what costs money for good. ``answered`` waits until our call is answered; ``incoming`` makes
    somebody ring us, ``recorded`` waits for a finished recording: both None where that cannot be arranged.
    """
    ours, can = request.from_, cassettes.can
    await cassettes.provider.log_in("log_in")  # a token that is fetched is on no cassette
    found = await cassettes.record("search_numbers", lambda p: p.search_numbers(NumberQuery(area_code="415", limit=2)))
    if can(Capability.CHECK_CREDENTIAL):
        await cassettes.record("check_credential", lambda p: p.check_credential())
    if spend and can(Capability.BUY_NUMBER) and found:
        bought = await cassettes.record("buy_number", lambda p: p.buy_number(found[0].number))
        if can(Capability.FETCH_ORDER):
            pending = bought if isinstance(bought, PendingOrder) else await _pending(cassettes)
            if pending is not None:
                await cassettes.record("fetch_order", lambda p: p.fetch_order(pending.id))
        if can(Capability.RELEASE_NUMBER):
            await cassettes.record("release_number", lambda p: p.release_number(found[0].number))
    if can(Capability.LIST_NUMBERS):
        await cassettes.record("list_numbers", lambda p: p.list_numbers())
    url = request.status_url.split("?")[0]
    if spend and can(Capability.CONFIGURE_NUMBER):
        await cassettes.record("configure_number", lambda p: p.configure_number(ours, webhook_url=url))
    call = await cassettes.record("dial", lambda p: p.dial(request))
    await answered(call)
    if can(Capability.FETCH_CALL):
        await cassettes.record("fetch_call", lambda p: p.fetch_call(call.id))
    if can(Capability.SEND_DIGITS):
        await cassettes.record("send_digits", lambda p: p.send_digits(call.id, "12#"))
    if spend and can(Capability.START_RECORDING):
        recording = await cassettes.record(
            "start_recording", lambda p: p.start_recording(call.id, status_url=request.status_url)
        )
        if can(Capability.STOP_RECORDING):
            await cassettes.record("stop_recording", lambda p: p.stop_recording(call.id, recording))
        if recorded is not None and can(Capability.FETCH_RECORDING):
            done = await recorded()
            await cassettes.record("fetch_recording", lambda p: p.fetch_recording(done))
    await cassettes.record("hang_up", lambda p: p.hang_up(call.id))
    await cassettes.record("hang_up_ended", lambda p: p.hang_up(call.id))
    if spend and can(Capability.TRANSFER):
        again = await cassettes.provider.dial(request.model_copy(update={"reference": "fedcba9876543210"}))
        await answered(again)
        await cassettes.record("transfer", lambda p: p.transfer(again.id, request.to, status_url=request.status_url))
        await cassettes.provider.hang_up(again.id)
    if incoming is not None:
        event = await incoming()
        if can(Capability.FORWARD):
            await cassettes.record("forward", lambda p: p.forward(event, request.to))
            event = await incoming()
        await cassettes.record("answer", lambda p: p.answer(event, request.stream))
        await cassettes.provider.hang_up(event.call_id)
    if incoming is not None and can(Capability.REJECT):
        event = await incoming()
        await cassettes.record("reject", lambda p: p.reject(event, EndReason.BUSY))
    if spend and can(Capability.UNCONFIGURE_NUMBER):  # last: nobody can ring us after it
        await cassettes.record("unconfigure_number", lambda p: p.unconfigure_number(ours, webhook_url=url))


async def _pending(cassettes: CassetteRecorder) -> PendingOrder | None:
    await cassettes.provider.search_numbers(NumberQuery(contains=PENDING_NUMBER[2:], limit=1))
    order = await cassettes.provider.buy_number(PENDING_NUMBER, timeout=0.05)
    return order if isinstance(order, PendingOrder) else None


# --- with a sandbox ------------------------------------------------------------------------------------------------


class WebhookReceiver:
    """An ASGI app that takes a sandbox's webhooks and only acknowledges them: the recorder decides what to do.

    Who asks what to do with a dialled call is told to connect it to :attr:`stream`.
    """

    def __init__(self, provider: Provider, base: str) -> None:
        self.provider, self.base = provider, base
        media = f"{base.replace('http', 'ws')}/media"
        place, ticket = provider.ticket_place, "kit-ticket"
        url = {TicketPlace.PATH: f"{media}/{ticket}", TicketPlace.QUERY: f"{media}?ticket={ticket}"}.get(place, media)
        self.stream = StreamTarget(url=url, ticket=ticket)
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
            if isinstance(event, InstructionsRequested):
                stream = self.stream if event.purpose is InstructionsFor.ANSWERED else None
                reply = await self.provider.instruct(event, event.call, stream)
            elif isinstance(event, IncomingCall):
                reply = self.provider.leave_ringing(event)
            else:
                reply = self.provider.acknowledge(event)
            await Response(reply.body, reply.status, media_type=reply.content_type)(scope, receive, send)


@asynccontextmanager
async def logged_in(sandbox: Sandbox) -> AsyncIterator[tuple[Provider, WebhookReceiver]]:
    """A provider logged in to ``sandbox``, and the receiver of its webhooks."""
    import httpx

    sock = listening()
    async with httpx.AsyncClient(trust_env=False) as http:
        credential = sandbox.credential()
        provider = get_provider(sandbox.provider)(credential, http)
        receiver = WebhookReceiver(provider, url_of(sock))
        async with serve(receiver, sock, lifespan="off"):
            yield provider, receiver


async def record_sandbox(carrier: str, folder: Path) -> list[str]:
    """Write ``folder/rest`` anew from the carrier's sandbox; gives the names of the files."""
    ours, theirs = "+14155550100", "+14155550123"
    async with serve_sandbox(sandbox_type(carrier)) as sandbox, logged_in(sandbox) as (provider, receiver):
        sandbox.add_number(ours)
        url = f"{receiver.base}/{carrier}/main"
        sandbox.point_webhooks(url)
        places = {
            sandbox.base_url: type(provider).base_url,
            receiver.base: "https://voice.example.com",
            receiver.base.replace("http", "ws"): "wss://voice.example.com",
        }
        cassettes = CassetteRecorder(
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
            stream=receiver.stream,
            status_url=f"{url}?ref=0123456789abcdef",
            reference="0123456789abcdef",
            timeout=20,
        )

        async def answered(call: Call) -> None:
            far_end = await sandbox.far_end(call.id)
            await far_end.wait_for("answered")
            await asyncio.wait_for(receiver.answered.setdefault(call.id, asyncio.Event()).wait(), 30)

        async def incoming() -> IncomingCall:
            await sandbox.ring(ours, theirs)
            return await asyncio.wait_for(receiver.incoming.get(), 30)

        async def recorded() -> str:
            return await asyncio.wait_for(receiver.recordings.get(), 30)

        await record_operations(
            cassettes, request, spend=True, answered=answered, incoming=incoming, recorded=recorded
        )
        return cassettes.done


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
    cassettes = CassetteRecorder(provider, folder, "recorded", "a live account, scrubbed on write", scrubber, only)

    async def answered(call: Call) -> None:
        await asyncio.sleep(patience)  # somebody picks up, or does not: both are worth keeping

    try:
        await record_operations(cassettes, request, spend=False, answered=answered, incoming=None, recorded=None)
    finally:
        await provider.aclose()
        await provider.http.aclose()
    return cassettes.done


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
