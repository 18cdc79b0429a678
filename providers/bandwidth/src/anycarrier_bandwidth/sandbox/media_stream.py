"""A media stream: the carrier connects as WebSocket client with a Basic login, sends frames, and buffers our audio.

It has no marks, no digits and no error frames. Whichever side closes, the stream is over.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from anycarrier.audio import PCMU_8K, AudioFormat, Transcoder
from anycarrier.testing.sandbox import may_stream_to
from anycarrier.testing.sandbox_numbers import DROPS_AFTER, Outcome
from anycarrier_bandwidth.sandbox.account import new_id
from anycarrier_bandwidth.sandbox.bxml import Verb
from anycarrier_bandwidth.sandbox.webhooks import Callback, streamed

if TYPE_CHECKING:
    from anycarrier_bandwidth.sandbox.leg import Leg

CONGESTED = 500
"""Frames (10 s) that may wait for a platform that does not read before new ones are dropped."""

HANDSHAKE_TIMEOUT = 15.0
GOODBYE_TIMEOUT = 10.0
_PCM = re.compile(r"audio/pcm;rate=(8000|16000|24000);channels=1;bit-depth=16;endian=little;encoding=signed")


class MediaStream:
    """One ``<StartStream>``, which runs beside the BXML until one side closes or the call ends."""

    def __init__(self, leg: Leg, verb: Verb, callback: Callback | None) -> None:
        self.leg = leg
        self.verb = verb
        self.callback = callback
        self.id = new_id("s")
        self.name = verb.get("name") or self.id
        self.destination = verb.get("destination")
        self.two_way = verb.get("mode") == "bidirectional"
        chosen = verb.get("tracks", "inbound")
        self.tracks = ["inbound", "outbound"] if chosen == "both" else [chosen]
        self.created = datetime.now(UTC)
        self.over = asyncio.Event()
        self.dropped = False
        """The connection was lost, and the carrier has not noticed: the call stays up in silence."""
        self._stop = asyncio.Event()
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._sequences: dict[str, int] = {}
        self._transcoder: tuple[str, Transcoder] | None = None

    def stop(self) -> None:
        """Say ``stop`` and close."""
        self._stop.set()

    async def run(self) -> None:
        """From the connection to its end."""
        try:
            await self._run()
        finally:
            self.over.set()

    async def _run(self) -> None:
        if not may_stream_to(self.destination):
            self._tell("mediaStreamRejected", "error", f"the destination is no wss URL: {self.destination[:80]}")
            return
        headers = {}
        if user := self.verb.get("destinationUsername"):
            given = f"{user}:{self.verb.get('destinationPassword')}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(given).decode()}"
        try:
            socket = await connect(
                self.destination, additional_headers=headers, user_agent_header="Bandwidth/1.0", compression=None,
                open_timeout=HANDSHAKE_TIMEOUT, close_timeout=GOODBYE_TIMEOUT, ping_interval=None, max_size=None,
                proxy=None,
            )  # fmt: skip
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as failure:
            self._tell("mediaStreamRejected", "connection-error", f"the WebSocket was refused: {failure}")
            return
        await self._talk(socket)

    async def _talk(self, socket: ClientConnection) -> None:
        far_end = self.leg.far_end
        self._put({"metadata": self._metadata, "streamParams": self._params, "eventType": "start"})
        far_end.stream_opened(socket.send, self._with_login())
        self._tell("mediaStreamStarted")
        tasks = [
            asyncio.ensure_future(self._write(socket)),
            asyncio.ensure_future(far_end.microphone.speak(self._hear)),
            asyncio.ensure_future(self._stopped(socket)),
        ]
        if "outbound" in self.tracks:
            far_end.playback.taps.append(self._played)
        drop = None
        if self.leg.outcome is Outcome.MEDIA_DROP:
            drop = asyncio.get_running_loop().call_later(DROPS_AFTER, self._drop, socket)
        lost = False
        try:
            async for message in socket:
                self._take(message)
        except ConnectionClosed:
            lost = True
        finally:
            if drop is not None:
                drop.cancel()
            if self._played in far_end.playback.taps:
                far_end.playback.taps.remove(self._played)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            far_end.stream_closed()
            self._tell("mediaStreamStopped", "connection-error" if lost or self.dropped else "closed")

    def _with_login(self) -> str:
        """The destination with its login, as ``wss://user:password@host``."""
        parts, user = urlsplit(self.destination), self.verb.get("destinationUsername")
        login = f"{quote(user, safe='')}:{quote(self.verb.get('destinationPassword'), safe='')}@" if user else ""
        return parts._replace(netloc=login + parts.netloc).geturl()

    # --- to the platform ----------------------------------------------------------------------------------------------

    @property
    def _metadata(self) -> dict[str, Any]:
        heard = {"encoding": "PCMU", "sampleRate": 8000}
        return {
            "accountId": self.leg.account.id, "callId": self.leg.id, "streamId": self.id, "streamName": self.name,
            "tracks": [{"name": track, "mediaFormat": heard} for track in self.tracks],
        }  # fmt: skip

    @property
    def _params(self) -> dict[str, str]:
        return {each.get("name"): each.get("value") for each in self.verb.nested}

    def _hear(self, frame: bytes) -> None:
        if "inbound" in self.tracks:
            self._media("inbound", frame)

    def _played(self, _: float, piece: bytes) -> None:
        self._media("outbound", piece)

    def _media(self, track: str, audio: bytes) -> None:
        if self._outbox.qsize() > CONGESTED:
            return
        self._sequences[track] = self._sequences.get(track, 0) + 1
        payload = base64.b64encode(audio).decode()
        number = str(self._sequences[track])
        self._put({"track": track, "payload": payload, "sequenceNumber": number, "eventType": "media"})

    def _put(self, message: dict[str, Any]) -> None:
        self._outbox.put_nowait(json.dumps(message, separators=(",", ":")))

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                await socket.send(await self._outbox.get())
        except ConnectionClosed:
            pass  # the reader sees the same, and ends the stream

    async def _stopped(self, socket: ClientConnection) -> None:
        """``stop`` and a close frame, where somebody still listens; a peer that does not read is cut off."""
        await self._stop.wait()
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                while not self._outbox.empty():
                    await socket.send(self._outbox.get_nowait())
                await socket.send(json.dumps({"metadata": self._metadata, "eventType": "stop"}, separators=(",", ":")))
                await socket.close()
        except (ConnectionClosed, TimeoutError):
            socket.transport.abort()

    def _drop(self, socket: ClientConnection) -> None:
        self.dropped = True
        socket.transport.abort()

    # --- from the platform --------------------------------------------------------------------------------------------

    def _take(self, message: str | bytes) -> None:
        """A frame of ours; what the real carrier does with a bad one is not known: here it is noted, and ignored."""
        try:
            told = json.loads(message)
            kind = told["eventType"]
            if kind == "clear":
                self.leg.far_end.playback.clear()
                return
            media = told["media"]
            if kind != "playAudio" or not self.two_way:
                raise ValueError(kind)
            audio = self._decoded(str(media["contentType"]), base64.b64decode(media["payload"], validate=True))
        except (ValueError, KeyError, TypeError, RecursionError):
            self.leg.sandbox.ignored.append(str(message)[:200])
            return
        self.leg.far_end.playback.play(audio)

    def _decoded(self, kind: str, audio: bytes) -> bytes:
        if kind.lower() == "audio/pcmu":
            return audio
        if (found := _PCM.fullmatch(kind.lower().replace(" ", ""))) is None:
            raise ValueError(kind)
        if self._transcoder is None or self._transcoder[0] != kind:
            self._transcoder = kind, Transcoder(AudioFormat("PCM16", int(found[1])), PCMU_8K)
        return self._transcoder[1].convert(audio)

    def _tell(self, kind: str, cause: str | None = None, error: str | None = None) -> None:
        self.leg.tell(self.callback, streamed(self.leg, kind, self, cause, error))
