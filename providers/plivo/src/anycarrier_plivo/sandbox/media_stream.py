"""An audio stream: Plivo connects as WebSocket client. JSON text both ways, and no frame says that it is over."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from anycarrier.audio import PCMU_8K, AudioFormat, Transcoder
from anycarrier.testing.sandbox import may_stream_to
from anycarrier.testing.sandbox_numbers import DROPS_AFTER, Outcome
from anycarrier_plivo.sandbox.answer_xml import Element
from anycarrier_plivo.sandbox.signing import version_3

if TYPE_CHECKING:
    from anycarrier_plivo.sandbox.leg import Leg

FORMATS = {
    "audio/x-mulaw;rate=8000": PCMU_8K,
    **{f"audio/x-l16;rate={rate}": AudioFormat("PCM16", rate) for rate in (8000, 16000, 24000)},
}
LARGEST_MESSAGE, LARGEST_PAYLOAD = 64 * 1024, 16 * 1024
MOST_EXTRA_HEADERS = 512
TRIES = 3


class MediaStream:
    """One ``<Stream>``: :meth:`run` until either side is done with it."""

    def __init__(self, leg: Leg, element: Element) -> None:
        self.leg = leg
        self.element = element
        self.id = str(uuid.uuid4())
        self.content_type = element.get("contentType", "audio/x-l16;rate=8000")
        self.format = FORMATS.get(self.content_type)
        self.two_way = element.get("bidirectional") == "true"
        self.sequence = self.chunk = 0
        self.clears = 0
        self.stopped = asyncio.Event()
        self.dropped = False
        self._out: asyncio.Queue[str | None] = asyncio.Queue()

    async def run(self) -> bool:
        """False when there never was a stream."""
        extra = self.element.get("extraHeaders")
        if self.format is None or len(extra.encode()) > MOST_EXTRA_HEADERS or not may_stream_to(self.element.text):
            self.tell("DroppedStream")
            return False
        self.heard, self.said = Transcoder(PCMU_8K, self.format), Transcoder(self.format, PCMU_8K)
        for _ in range(TRIES):
            with suppress(OSError, InvalidHandshake, InvalidURI, TimeoutError):
                socket = await connect(
                    self.element.text, additional_headers=self._signature(), compression=None, open_timeout=15,
                    close_timeout=5, ping_interval=None, max_size=None, proxy=None,
                )  # fmt: skip
                break
        else:
            self.dropped = True
            self.tell("DroppedStream")
            return False
        await self._talk(socket)
        return True

    def _signature(self) -> dict[str, str]:
        """Over the URL with ``http`` in place of ``wss``; sources disagree, so nothing may depend on it."""
        nonce = str(secrets.randbelow(10**20))
        url = urlunsplit(urlsplit(self.element.text)._replace(scheme="http"))
        made = version_3(self.leg.account.token, nonce, "GET", url, [])
        return {"X-Plivo-Signature-V3": made, "X-Plivo-Signature-V3-Nonce": nonce}

    async def _talk(self, socket: ClientConnection) -> None:
        far_end = self.leg.far_end
        assert self.format is not None
        start = {
            "callId": self.leg.id,
            "streamId": self.id,
            "accountId": self.leg.account.id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": self.content_type.partition(";")[0], "sampleRate": self.format.rate},
        }
        self._put("start", start=start, extra_headers=self._extra())
        far_end.stream_opened(socket.send, self.element.text)
        self.tell("StartStream")
        helpers = [
            asyncio.ensure_future(self._write(socket)),
            asyncio.ensure_future(far_end.microphone.speak(self._hear)),
            asyncio.ensure_future(self._stop()),
        ]
        if self.leg.outcome is Outcome.MEDIA_DROP:
            helpers.append(asyncio.ensure_future(self._drop(socket)))
        try:
            async for message in socket:
                self._take(message)
        except ConnectionClosed:
            pass
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers)
            far_end.stream_closed()
            await socket.close()
            self.tell("DroppedStream" if self.dropped else "StopStream")

    def _extra(self) -> str:
        """Given with commas, they come back with semicolons."""
        return self.element.get("extraHeaders").replace(",", ";")

    # --- to the platform --------------------------------------------------------------------------------------------

    def _put(self, event: str, **fields: Any) -> None:
        self.sequence += 1
        self._out.put_nowait(json.dumps({"event": event, "sequenceNumber": self.sequence, **fields}))

    def _hear(self, mulaw: bytes) -> None:
        self.chunk += 1
        payload = base64.b64encode(self.heard.convert(mulaw)).decode()
        media = {"track": "inbound", "timestamp": str(20 * self.chunk), "chunk": self.chunk, "payload": payload}
        self._put("media", streamId=self.id, media=media, extra_headers=self._extra())

    def press(self, digit: str) -> None:
        pressed = {"track": "inbound", "digit": digit, "timestamp": str(20 * self.chunk)}
        self._put("dtmf", streamId=self.id, dtmf=pressed)

    def _played(self, name: str, clears: int) -> None:
        """Told only if what came before was played: a clear takes its checkpoints along."""
        if clears == self.clears:
            self._put("playedStream", streamId=self.id, name=name)

    async def _write(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while (frame := await self._out.get()) is not None:
                await socket.send(frame)
            await socket.close()

    async def _stop(self) -> None:
        await self.stopped.wait()
        self._out.put_nowait(None)

    async def _drop(self, socket: ClientConnection) -> None:
        await asyncio.sleep(DROPS_AFTER)
        self.dropped = True
        socket.transport.abort()

    # --- from the platform ------------------------------------------------------------------------------------------

    def _take(self, message: str | bytes) -> None:
        """What is not understood, or too large, is not played and not complained about."""
        if len(message) > LARGEST_MESSAGE or not self.two_way:
            return
        try:
            frame = json.loads(message)
        except ValueError:
            return
        match frame:
            case {"event": "playAudio", "media": {"contentType": kind, "sampleRate": rate, "payload": str(payload)}}:
                if f"{kind};rate={rate}" == self.content_type and len(payload) <= LARGEST_PAYLOAD:
                    self._play(payload)
            case {"event": "checkpoint", "streamId": self.id, "name": str(name)}:
                clears = self.clears
                self.leg.far_end.playback.mark(lambda: self._played(name, clears))
            case {"event": "clearAudio", "streamId": self.id}:
                self.clears += 1
                self.leg.far_end.playback.clear()
                self._put("clearedAudio", streamId=self.id)
            case {"event": "sendDTMF", "dtmf": str(digits)}:
                self.leg.far_end.digits += digits

    def _play(self, payload: str) -> None:
        try:
            audio = base64.b64decode(payload, validate=True)
        except ValueError:
            return
        if not self.leg.far_end.playback.play(self.said.convert(audio)):
            self.tell("DegradedStream")

    def tell(self, event: str) -> None:
        if url := self.element.get("statusCallbackUrl"):
            fields = {
                "CallUUID": self.leg.id, "StreamID": self.id, "Event": event, "From": self.leg.from_, "To": self.leg.to,
                "Direction": self.leg.direction, "ServiceURL": self.element.text, "Timestamp": self.leg.sandbox.now(),
            }  # fmt: skip
            self.leg.tell(event, url, self.element.get("statusCallbackMethod", "POST"), fields)
