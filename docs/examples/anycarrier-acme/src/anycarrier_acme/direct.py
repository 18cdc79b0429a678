"""Acme Direct for anycarrier: calls on a TCP socket of our own, a connection for each, in lines of JSON.

Acme's first line is a ring, ours an answer; then both write Acme's media frames. To decline or hang up is to close."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

from pydantic import BaseModel

from anycarrier import errors, events
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, StreamTarget
from anycarrier.listener import Desk
from anycarrier.numbers import AvailableNumber, NumberQuery
from anycarrier.provider import Provider
from anycarrier.webhooks import WebhookReply, WebhookRequest
from anycarrier_acme import AcmeCredential, AcmeSerializer


class DirectCredential(AcmeCredential):  # a tenant's
    provider: str = "acme-direct"


class DirectSettings(BaseModel):  # the operator's
    port: int = 0


@dataclass
class Connection:
    """One call, and the transport of its media frames."""

    call: Call
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ticket: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, frame: bytes | str) -> None:
        self.writer.write((frame if isinstance(frame, bytes) else frame.encode()) + b"\n")
        await self.writer.drain()

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        yield json.dumps({"type": "start", "call": self.call.id})
        with suppress(OSError, ValueError):  # reset, or a line that is too long
            while line := await self.reader.readline():
                yield line

    async def close(self, code: int = 1000) -> None:
        self.writer.close()


class DirectListener:
    def __init__(self, provider: "DirectProvider", desk: Desk) -> None:
        self.key = provider.credential.api_key.get_secret_value()
        self.desk = desk
        self.settings = desk.settings(DirectSettings)
        self.calls: dict[str, Connection] = {}
        self.held = AsyncExitStack()

    async def start(self) -> None:
        self.socket = await self.held.enter_async_context(self.desk.shared("acme-direct", self.open))
        self.socket.listeners[self.key] = self
        self.held.callback(self.socket.listeners.pop, self.key)

    async def open(self) -> "Socket":
        socket = Socket()
        socket.server = await asyncio.start_server(socket.connected, "127.0.0.1", self.settings.port)
        return socket  # with a taken port, the OSError names the address

    async def stop(self) -> None:
        for connection in [*self.calls.values()]:
            connection.writer.close()
            await connection.over.wait()
        await self.held.aclose()

    async def rung(self, connection: Connection) -> None:
        """The whole life of a call."""
        call, self.calls[connection.call.id] = connection.call, connection
        await self.desk.event(events.IncomingCall(call=call, call_id=call.id, event_id=f"{call.id}:ring"))
        if connection.ticket:
            await self.desk.media(connection.ticket, connection)
        else:
            async for _ in connection:  # declined, or left ringing
                pass
        del self.calls[call.id]
        over = call.model_copy(update={"status": CallStatus.ENDED, "reason": EndReason.USER_HANGUP})
        self.desk.tell(events.CallProgress(call=over, call_id=call.id, event_id=f"{call.id}:over"))
        connection.over.set()


class Socket:
    """What the listeners of all credentials share: the key of a ring says whose call it is."""

    server: asyncio.Server

    def __init__(self) -> None:
        self.listeners: dict[str, DirectListener] = {}

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, LookupError, TypeError, ValueError):  # a stranger gets no answer
            async with asyncio.timeout(10):
                ring = json.loads(await reader.readline())
            listener = self.listeners[ring["key"]]
            call = Call(
                id=f"direct_{secrets.token_hex(12)}", provider="acme-direct", direction=Direction.INBOUND,
                from_=ring["from"], to=ring["to"], status=CallStatus.RINGING,
            )  # fmt: skip
            await listener.rung(Connection(call, reader, writer))
        writer.close()

    async def aclose(self) -> None:
        self.server.close()


class DirectProvider(Provider):
    name = "acme-direct"
    credential_type = DirectCredential
    credential: DirectCredential
    settings_type = DirectSettings
    listener: DirectListener | None = None

    def listen(self, desk: Desk) -> DirectListener:
        self.listener = DirectListener(self, desk)
        return self.listener

    def connection(self, call_id: str, operation: str) -> Connection:
        if self.listener is None or call_id not in self.listener.calls:
            raise errors.CallElsewhere(self.name, operation, call_id)
        return self.listener.calls[call_id]

    async def answer(self, call: events.IncomingCall, stream: StreamTarget) -> WebhookReply:
        connection = self.connection(call.call_id, "answer")
        connection.ticket = stream.ticket
        await connection.send('{"type": "answer"}')
        return WebhookReply()

    async def hang_up(self, call_id: str) -> None:
        await self.connection(call_id, "hang_up").close()

    def serializer(self) -> AcmeSerializer:
        return AcmeSerializer()

    def verify(self, request: WebhookRequest) -> None:
        raise errors.SignatureInvalid("acme-direct sends no webhooks")

    def parse_webhook(self, request: WebhookRequest) -> events.CallEvent:
        raise errors.MalformedMessage("acme-direct sends no webhooks", request.body)

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        raise self.unsupported("search_numbers", "numbers are acme's")

    async def dial(self, request: DialRequest) -> Call:
        raise self.unsupported("dial", "acme-direct only brings calls")
