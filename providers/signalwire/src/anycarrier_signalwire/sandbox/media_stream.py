"""A two-way media stream: the carrier connects as WebSocket client, sends frames, and queues audio, marks and keys.

Audio is mu-law, or linear PCM in little-endian samples where the codec says so: the far end's ear and mouth are mu-law,
so that is converted. https://developer.signalwire.com/compatibility-api/cxml/voice/stream
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from anycarrier.audio import PCMU_8K, AudioFormat, Transcoder
from anycarrier.testing.sandbox import may_stream_to
from anycarrier.testing.sandbox_numbers import DROPS_AFTER, Outcome
from anycarrier_signalwire.sandbox.models import new_id
from anycarrier_signalwire.sandbox.webhooks import stream_params

if TYPE_CHECKING:
    from anycarrier_signalwire.sandbox.cxml import Verb
    from anycarrier_signalwire.sandbox.leg import Leg

CODECS = {
    "PCMU": PCMU_8K,
    "PCMU@8000h": PCMU_8K,
    "L16@16000h": AudioFormat("PCM16", 16000),
    "L16@24000h": AudioFormat("PCM16", 24000),
}
KEYS = frozenset("0123456789*#ABCD")
CONGESTED = 500
"""Frames (10 s) that may wait for a platform that does not read before new ones are dropped."""

HANDSHAKE_TIMEOUT = 15.0
GOODBYE_TIMEOUT = 10.0


class Refused(Exception):
    """The platform sent what is no message of this stream's."""


class MediaStream:
    """One ``<Connect><Stream>``: :meth:`run` until either side is done with it."""

    def __init__(self, leg: Leg, noun: Verb) -> None:
        self.leg = leg
        self.sid = new_id()
        self.noun = noun
        self.name = noun.get("name") or self.sid
        # A query string is not supported: the ticket has to be in the path.
        self.url = urlunsplit(urlsplit(noun.get("url"))._replace(query="", fragment=""))
        self.format = CODECS[noun.get("codec", "PCMU")]
        self._to_platform = Transcoder(PCMU_8K, self.format)
        self._to_far_end = Transcoder(self.format, PCMU_8K)
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._sequence = 0
        self._chunk = 0
        self._dropped = False
        self._reported: set[str] = set()

    async def run(self) -> None:
        if not may_stream_to(self.url):
            self._complain("invalid_url")
            return
        token = self.noun.get("authBearerToken")
        try:
            socket = await connect(
                self.url,
                additional_headers={"Authorization": f"Bearer {token}"} if token else None,
                user_agent_header=None,
                compression=None,
                open_timeout=HANDSHAKE_TIMEOUT,
                close_timeout=GOODBYE_TIMEOUT,
                ping_interval=None,
                max_size=None,
                proxy=None,
            )
        except (InvalidHandshake, InvalidURI):
            self._complain("connection_refused")
            return
        except (OSError, TimeoutError):
            self._complain("connection_refused_timeout_or_ssl_error")
            return
        await self._talk(socket)
        if self._dropped:
            await self.leg.gone.wait()

    async def _talk(self, socket: ClientConnection) -> None:
        far_end = self.leg.far_end
        self._open()
        far_end.stream_opened(socket.send, self.url)
        self._callback("stream-started")
        speaking = far_end.microphone.speak(self._hear)
        tasks = [asyncio.ensure_future(self._write(socket)), asyncio.ensure_future(speaking)]
        drop = None
        if self.leg.outcome is Outcome.MEDIA_DROP:
            drop = asyncio.get_running_loop().call_later(DROPS_AFTER, self._drop, socket)
        try:
            async for message in socket:
                self._take(message)
        except ConnectionClosed:
            pass
        except Refused as refusal:
            self.leg.sandbox.complain(0, str(refusal), self.leg)
            self._complain("general_error")
        finally:
            if drop is not None:
                drop.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            far_end.stream_closed()
            await self._say_goodbye(socket)
            self._callback("stream-stopped")

    # --- to the platform ------------------------------------------------------------------------------------------

    def press(self, digit: str) -> None:
        """The far end pressed a key."""
        self._send("dtmf", {"dtmf": {"digit": digit, "duration": 100}}, named=True)

    def _open(self) -> None:
        """``connected`` and ``start``; without parameters there is no ``customParameters``."""
        self._outbox.put_nowait(json.dumps({"event": "connected", "protocol": "Call", "version": "0.2.0"}))
        custom = {noun.get("name"): noun.get("value") for noun in self.noun.nouns}
        encoding = "audio/x-mulaw" if self.format == PCMU_8K else "audio/x-L16"
        start: dict[str, Any] = {
            "streamSid": self.sid,
            "accountSid": self.leg.project.sid,
            "callSid": self.leg.sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": encoding, "sampleRate": self.format.rate, "channels": 1},
        }
        self._send("start", {"start": {**start, "customParameters": custom} if custom else start})

    def _hear(self, frame: bytes) -> None:
        if self._outbox.qsize() > CONGESTED:
            return
        payload = self._to_platform.convert(frame)
        if not payload:  # the resampler looks ahead
            return
        self._chunk += 1
        body = {
            "track": "inbound", "chunk": str(self._chunk), "timestamp": str(20 * (self._chunk - 1)),
            "payload": base64.b64encode(payload).decode(),
        }  # fmt: skip
        self._send("media", {"media": body})

    def _reached(self, name: str) -> None:
        frame = {"event": "mark", "streamSid": self.sid, "mark": {"name": name}}
        self._outbox.put_nowait(json.dumps(frame))

    def _send(self, event: str, body: Mapping[str, Any], *, named: bool = False) -> None:
        self._sequence += 1
        frame: dict[str, Any] = {"event": event, "sequenceNumber": str(self._sequence)}
        if named:
            frame["streamSid"] = self.sid
        self._outbox.put_nowait(json.dumps({**frame, **body}))

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                await socket.send(await self._outbox.get())
        except ConnectionClosed:
            pass  # the reader sees the same, and ends the stream

    async def _say_goodbye(self, socket: ClientConnection) -> None:
        """``stop`` and a close frame, where somebody still listens; a peer that does not read is cut off."""
        self._send("stop", {})
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                while not self._outbox.empty():
                    await socket.send(self._outbox.get_nowait())
                await socket.close()
        except (ConnectionClosed, TimeoutError):
            socket.transport.abort()

    def _drop(self, socket: ClientConnection) -> None:
        self._dropped = True
        socket.transport.abort()

    # --- from the platform ----------------------------------------------------------------------------------------

    def _take(self, message: str | bytes) -> None:
        try:
            frame = json.loads(message) if isinstance(message, str) else None
        except (ValueError, RecursionError):
            frame = None
        if not isinstance(frame, dict) or frame.get("streamSid") != self.sid:
            raise Refused("a message that is no JSON of this stream")
        playback = self.leg.far_end.playback
        match frame:
            case {"event": "media", "media": {"payload": str(payload)}}:
                if not playback.play(self._to_far_end.convert(_audio(payload))):
                    self._complain("general_error", once=True)
            case {"event": "mark", "mark": {"name": str(name)}}:
                playback.mark(partial(self._reached, name))
            case {"event": "clear"}:
                self._to_far_end = Transcoder(self.format, PCMU_8K)
                playback.clear()
            case {"event": "dtmf", "dtmf": {"digit": str(digit)}} if digit in KEYS:
                self.leg.far_end.digits += digit
            case _:
                raise Refused(f"a message of the event {str(frame.get('event'))[:20]!r} that is not understood")

    # --- to the project's owner -----------------------------------------------------------------------------------

    def _complain(self, error: str, *, once: bool = False) -> None:
        if once and error in self._reported:
            return
        self._reported.add(error)
        self.leg.sandbox.complain(0, f"Stream: {error}", self.leg)
        self._callback("stream-error", error)

    def _callback(self, event: str, error: str = "") -> None:
        if url := self.noun.get("statusCallback"):
            params = stream_params(self.leg, self.sid, self.name, event, error)
            self.leg.sandbox.notify("stream", self.leg, url, params, self.noun.get("statusCallbackMethod", "POST"))


def _audio(payload: str) -> bytes:
    try:
        return base64.b64decode(payload, validate=True)
    except (ValueError, binascii.Error):
        raise Refused("media without a base64 payload") from None
