"""chan_websocket: Asterisk connects to the platform as WebSocket client, and carries a channel's audio there and back.

With its traps: a text of more than 128 bytes and a command of another case are dropped, a flush swallows marks, what is
no whole frame is dropped outside of buffering, 1,000 frames may wait, and a large binary message ends the channel.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI, NegotiationError

from anycarrier.audio import PCM16_8K, PCM16_16K, PCMA_8K, PCMU_8K, AudioFormat, Transcoder
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import PlaybackBuffer
from anycarrier.testing.sandbox_numbers import DROPS_AFTER, Outcome, outcome_of

if TYPE_CHECKING:
    from anycarrier_asterisk.sandbox.channels import Channel

FORMATS: Mapping[str, AudioFormat] = {
    "ulaw": PCMU_8K, "alaw": PCMA_8K, "slin": PCM16_8K, "slin16": PCM16_16K,
}  # fmt: skip
LONGEST_TEXT, LARGEST = 128, 65_500
MOST, XOFF, XON = 1000, 900, 800
"""Frames that may wait; at which the platform is told to pause, and to go on."""
FRAME_SECONDS = 0.02


class MediaClient:
    """A section of websocket_client.conf. ``parameters`` stick to it: a call that brings none is sent with the last."""

    def __init__(self, name: str, uri: str, login: tuple[str, str] | None = None) -> None:
        self.name, self.uri, self.login = name, uri, login
        self.parameters = ""


def options_of(transport_data: str) -> dict[str, str]:
    """``f(json)v(ticket=abc,call=c1)`` by letter."""
    return dict(re.findall(r"([a-z])\(([^)]*)\)", transport_data))


class MediaSocket:
    """The socket of one WebSocket channel."""

    def __init__(self, channel: Channel, client: MediaClient, format: str, transport_data: str) -> None:
        self.channel, self.client = channel, client
        options = options_of(transport_data)
        self.json = options.get("f", "plain-text") == "json"
        if "v" in options:
            client.parameters = "&".join(options["v"].split(","))
        self.url = f"{client.uri}?{client.parameters}" if client.parameters else client.uri
        self.name, self.format = format, FORMATS[format]
        self.frame = round(FRAME_SECONDS * self.format.bytes_per_second)
        self.texts: list[str] = []
        """What the platform has written, commands that were dropped too."""
        self.dropped = 0
        """Bytes of audio that were dropped."""
        self._socket: ClientConnection | None = None
        self._out: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._void = PlaybackBuffer()
        self._far_end: FarEnd | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._to_ear, self._to_us = Transcoder(self.format, PCMU_8K), Transcoder(PCMU_8K, self.format)
        self._full = self._bulk = self._open = False
        self._rest = b""

    # --- the socket -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, be answered by that, and carry audio until either side ends it."""
        headers = {}
        if self.client.login is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(self.client.login).encode()).decode()
        try:
            self._socket = await connect(
                self.url, subprotocols=["media"], additional_headers=headers, proxy=None, compression=None,  # type: ignore[list-item]
                ping_interval=None, open_timeout=10,
            )  # fmt: skip
            if self._socket.subprotocol != "media":
                await self._socket.close()
                raise NegotiationError("the answer does not name the protocol media")
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ConnectionClosed):
            self.channel.hang_up(3, tech_cause=1011)
            return
        if self.channel.over:
            await self._socket.close()
            return
        self._out.put_nowait(self._start())
        self.channel.answers()
        self.channel.enters_stasis([])
        writing = asyncio.create_task(self._write(self._socket))
        cause, code = 16, 1001
        try:
            async for message in self._socket:
                if isinstance(message, bytes) and len(message) >= LARGEST:
                    await self._socket.close(1009)
                    cause, code = 38, 1009
                    break
                self._take(message)
        except ConnectionClosed:
            cause = 38
        finally:
            writing.cancel()
            self.listens_to(None)
            self.channel.hang_up(cause, tech_cause=code)

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while (message := await self._out.get()) is not None:
                await socket.send(message)
            await socket.close()
        except ConnectionClosed:
            pass

    def stop(self) -> None:
        """The channel is over."""
        self._out.put_nowait(None)

    def breaks(self) -> None:
        """The network loses the socket."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def inject(self, message: str | bytes) -> None:
        """Put a message of a test's own on the socket."""
        self._out.put_nowait(message)

    def _start(self) -> str:
        fields: dict[str, Any] = {
            "connection_id": self.client.name, "channel": self.channel.name, "channel_id": self.channel.id,
            "format": self.name, "optimal_frame_size": self.frame, "ptime": 20,
        }  # fmt: skip
        if not self.json:
            return "MEDIA_START " + " ".join(f"{name}:{value}" for name, value in fields.items())
        variables = {
            "MEDIA_WEBSOCKET_CONNECTION_ID": self.client.name, "MEDIA_WEBSOCKET_OPTIMAL_FRAME_SIZE": str(self.frame),
            **self.channel.variables,
        }  # fmt: skip
        return json.dumps({"event": "MEDIA_START", **fields, "channel_variables": variables}, separators=(",", ":"))

    def event(self, kind: str, **fields: Any) -> None:
        """Tell the platform something."""
        if self.json:
            self._out.put_nowait(json.dumps({"event": kind, "channel_id": self.channel.id, **fields}))
        elif kind in ("MEDIA_MARK_PROCESSED", "MEDIA_BUFFERING_COMPLETED"):
            self._out.put_nowait(f"{kind} {fields['correlation_id']}".strip())
        elif kind in ("MEDIA_XON", "MEDIA_XOFF", "QUEUE_DRAINED"):
            self._out.put_nowait(kind)
        else:
            told = {**fields, "channel_id": self.channel.id}
            texts = (str(value).lower() if isinstance(value, bool) else value for value in told.values())
            self._out.put_nowait(" ".join([kind, *(f"{k}:{v}" for k, v in zip(told, texts, strict=True))]))

    # --- audio ----------------------------------------------------------------------------------------------------

    def listens_to(self, far_end: FarEnd | None) -> None:
        """Whom the bridge has this socket hear, if anybody; while nobody speaks, nothing comes from nobody."""
        if far_end is self._far_end:
            return
        if self._speaking is not None:
            self._speaking.cancel()
            self._speaking = None
        if self._far_end is not None and self._open:
            self._far_end.stream_closed()
        self._far_end, self._open = far_end, False
        if far_end is not None:
            self.channel.server.after_answer.append(lambda: self._opened(far_end))
            self._speaking = self.channel.server.start(far_end.microphone.speak(self._spoken))
            if outcome_of(far_end.to) is Outcome.MEDIA_DROP:
                asyncio.get_running_loop().call_later(DROPS_AFTER, self.breaks)

    def _opened(self, far_end: FarEnd) -> None:
        """The platform knows that they hear each other."""
        if far_end is self._far_end:
            self._open = True
            far_end.stream_opened(self.inject, self.url)

    def _spoken(self, mulaw: bytes) -> None:
        if (audio := self._to_us.convert(mulaw)) and not self.channel.over:
            self._out.put_nowait(audio)

    @property
    def _playback(self) -> PlaybackBuffer:
        return self._far_end.playback if self._far_end is not None else self._void

    @property
    def _queued(self) -> int:
        return round(self._playback.waiting / FRAME_SECONDS)

    def _hear(self, message: bytes) -> None:
        if self._queued >= MOST:
            self.dropped += len(message)
            return
        if self._bulk:
            message, self._rest = self._rest + message, b""
        whole = len(message) // self.frame * self.frame
        if self._bulk:
            self._rest = message[whole:]
        else:
            self.dropped += len(message) - whole
        self._play(message[:whole])

    def _play(self, audio: bytes) -> None:
        if audio:
            self._playback.play(self._to_ear.convert(audio))
        if not self._full and self._queued >= XOFF:
            self._full = True
            self.event("MEDIA_XOFF")
            self._later(self._emptier)

    def _emptier(self) -> None:
        if self._queued < XON:
            self._full = False
            self.event("MEDIA_XON")
        else:
            self._later(self._emptier)

    def _later(self, what: Callable[[], None]) -> None:
        if not self.channel.over:
            asyncio.get_running_loop().call_later(FRAME_SECONDS, what)

    # --- commands -------------------------------------------------------------------------------------------------

    def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._hear(message)
            return
        self.texts.append(message)
        if not message or len(message.encode()) > LONGEST_TEXT:
            return
        command, correlation = message, ""
        if self.json:
            try:
                told = json.loads(message)
            except ValueError:
                self.event("ERROR", error_text="Unable to parse JSON command")
                return
            command, correlation = (str(told.get(key, "")) for key in ("command", "correlation_id"))
        else:
            command, _, correlation = message.strip().partition(" ")
        self._do(command, correlation)

    def _do(self, command: str, correlation: str) -> None:
        match command:
            case "HANGUP":
                self.channel.hang_up(16, tech_cause=1000)
            case "MARK_MEDIA":
                self._playback.mark(lambda: self.event("MEDIA_MARK_PROCESSED", correlation_id=correlation))
            case "FLUSH_MEDIA":
                self._playback.cut()
                self._bulk, self._rest = False, b""
            case "START_MEDIA_BUFFERING":
                self._bulk = True
            case "STOP_MEDIA_BUFFERING":
                rest, self._bulk, self._rest = self._rest, False, b""
                self._play(rest)
                self._playback.mark(lambda: self.event("MEDIA_BUFFERING_COMPLETED", correlation_id=correlation))
            case "REPORT_QUEUE_DRAINED":
                self._playback.mark(lambda: self.event("QUEUE_DRAINED"))
            case "GET_STATUS":
                self.event(
                    "STATUS", queue_length=self._queued, xon_level=XON, xoff_level=XOFF, queue_full=self._full,
                    bulk_media=self._bulk, media_paused=False,
                )  # fmt: skip
