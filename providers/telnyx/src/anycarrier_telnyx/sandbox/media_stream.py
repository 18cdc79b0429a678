"""A media stream: the carrier connects to the platform as WebSocket client and exchanges JSON frames with it.

Audio for the far end is accepted only with ``stream_bidirectional_mode`` "rtp". The default, "mp3", expects whole MP3
files; raw audio sent to it is dropped silently, as by the carrier.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from anycarrier.audio import PCMU_8K, AudioFormat, Transcoder
from anycarrier.testing.sandbox_numbers import DROPS_AFTER, Outcome, outcome_of
from anycarrier_telnyx.sandbox.webhooks import moment

if TYPE_CHECKING:
    from anycarrier_telnyx.sandbox.leg import Leg


SHUFFLE_EVERY = 4


class FrameProblem(Exception):
    """What is wrong with a frame we were sent: the ``error`` frame's code, title and detail."""

    def __init__(self, code: int, title: str, detail: str) -> None:
        self.code = code
        self.title = title
        self.detail = detail
        super().__init__(detail)


class InboundFrames:
    """One track's way into frames. ``millis`` is how much sound a frame holds: the carrier promises no length."""

    def __init__(self, track: str, format: AudioFormat, millis: int, *, shuffle: bool = False) -> None:
        self.track = track
        self.shuffle = shuffle
        self._format = format
        self._size = PCMU_8K.bytes_per_second * millis // 1000
        self._waiting = bytearray()
        self._coder = Transcoder(PCMU_8K, format)
        self._chunk = 0
        self._millis = 0.0
        self._held: str | None = None

    def cut(self, mulaw: bytes) -> Iterator[dict[str, Any]]:
        """The ``media`` objects that ``mulaw`` completes."""
        self._waiting += mulaw
        while len(self._waiting) >= self._size:
            piece = bytes(self._waiting[: self._size])
            del self._waiting[: self._size]
            coded = self._coder.convert(piece)
            if coded:
                self._chunk += 1
                yield {
                    "track": self.track,
                    "chunk": str(self._chunk),
                    "timestamp": str(round(self._millis)),
                    "payload": base64.b64encode(coded).decode(),
                }
                self._millis += 1000 * self._format.seconds(len(coded))

    def in_order(self, text: str) -> list[str]:
        """The texts to send now: with ``shuffle``, every few frames one is overtaken by the next."""
        if self._held is not None:
            held, self._held = self._held, None
            return [text, held]
        if self.shuffle and self._chunk % SHUFFLE_EVERY == 0:
            self._held = text
            return []
        return [text]


def read_frame(message: str | bytes) -> tuple[str, str]:
    """(``media``, payload), (``mark``, name) or (``clear``, ""); anything else is a :class:`FrameProblem`."""
    problem = FrameProblem(100003, "malformed_frame", "Received frame was not formed correctly")
    if isinstance(message, bytes):
        raise problem
    try:
        frame = json.loads(message)
    except (ValueError, RecursionError):
        raise problem from None
    event = frame.get("event") if isinstance(frame, dict) else None
    if event == "clear":
        return "clear", ""
    wanted = {"media": "payload", "mark": "name"}.get(event) if isinstance(event, str) else None
    inner = frame.get(event) if wanted else None
    value = inner.get(wanted) if isinstance(inner, dict) else None
    if not isinstance(event, str) or not isinstance(value, str):
        raise problem
    return event, value


SHORTEST, LONGEST = 0.02, 30.0
"""Seconds of audio in one frame to us."""
CODECS = ("PCMU", "PCMA", "L16")
"""The codecs that the sandbox encodes; the carrier has more."""


def stream_format(codec: str, rate: int | None = None) -> AudioFormat:
    """The format a codec's name means: linear audio is at 16 kHz unless another rate was asked for."""
    return AudioFormat(codec, rate or 16000) if codec == "L16" else AudioFormat(codec, 8000)


class MediaStream:
    """One stream of one leg, from dialling the platform to the closing of the socket."""

    def __init__(self, leg: Leg, settings: Mapping[str, Any]) -> None:
        self.leg = leg
        self.id = str(uuid.uuid4())
        self.url: str = settings["stream_url"]
        self.track: str = settings.get("stream_track", "inbound_track")
        self.mode: str = settings.get("stream_bidirectional_mode", "mp3")
        self.dropped = 0
        """Bytes of audio that were lost because the mode was not "rtp"."""
        self._settings = settings
        self._out: asyncio.Queue[str | None] = asyncio.Queue()
        self._sequence = 0
        self._over = False
        asked = settings.get("stream_codec", "default")
        # "default" is the codec of the telephone network's leg; when it cannot be changed it comes all the same.
        own = asked == "default" or "no_transcoding" in leg.sandbox.quirks
        self.sends = stream_format(leg.sandbox.codec if own else asked)
        rate = settings.get("stream_bidirectional_sampling_rate")
        self.takes = stream_format(settings.get("stream_bidirectional_codec", "PCMU"), rate)
        self._to_ear = Transcoder(self.takes, PCMU_8K)
        shuffle = "shuffle_media" in leg.sandbox.quirks
        self._inbound = InboundFrames("inbound", self.sends, leg.sandbox.frame_ms, shuffle=shuffle)
        self._outbound = InboundFrames("outbound", self.sends, leg.sandbox.frame_ms, shuffle=shuffle)
        self._echoed = len(leg.far_end.heard)
        self._last_file = 0.0

    # --- the socket -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, stream until either side closes, and report it."""
        token = self._settings.get("stream_auth_token")
        headers = {"x-telnyx-streaming-auth-token": token} if token else {}
        try:
            socket = await connect(
                self.url, additional_headers=headers, proxy=None, open_timeout=15, close_timeout=10, compression=None
            )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ConnectionClosed):
            self._failed()
            return
        if self._over:
            await socket.close()
            return
        self.leg.tell("streaming.started", stream_url=self.url, stream_id=self.id)
        self._greet(token)
        self.leg.far_end.stream_opened(socket.send, self.url)
        helpers = [asyncio.create_task(self._write(socket)), asyncio.create_task(self._speak())]
        if outcome_of(self.leg.to) is Outcome.MEDIA_DROP and not self.leg.incoming:
            helpers.append(asyncio.create_task(self._break(socket)))
        lost = False
        try:
            async for message in socket:
                self._take(message)
        except ConnectionClosed:
            lost = not self._over
        finally:
            self._over = True
            for helper in helpers:
                helper.cancel()
            if self.leg.stream is self:
                self.leg.stream = None
            self.leg.far_end.stream_closed()
        if lost:
            self._failed()
        else:
            self.leg.tell("streaming.stopped", stream_url=self.url, stream_id=self.id)

    def stop(self) -> None:
        """Say goodbye and close."""
        if not self._over:
            self._over = True
            self._send("stop", stop={"user_id": self.leg.account.user_id, "call_control_id": self.leg.call_control_id})
            self._out.put_nowait(None)

    def _failed(self) -> None:
        if self.leg.stream is self:
            self.leg.stream = None
        self.leg.tell(
            "streaming.failed",
            failure_reason="connection_failed",
            stream_id=self.id,
            stream_type="websocket",
            stream_params={"stream_url": self.url, "track": self.track},
        )

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while (text := await self._out.get()) is not None:
                await socket.send(text)
            await socket.close()
        except ConnectionClosed:
            pass

    async def _break(self, socket: ClientConnection) -> None:
        await self.leg.sandbox.pause(DROPS_AFTER)
        socket.transport.abort()

    # --- frames to the platform -----------------------------------------------------------------------------------

    def _greet(self, token: str | None) -> None:
        self._out.put_nowait(json.dumps({"event": "connected", "version": "1.0.0"}))
        start: dict[str, Any] = {
            "user_id": self.leg.account.user_id,
            "call_control_id": self.leg.call_control_id,
            "call_session_id": self.leg.session_id,
            "from": self.leg.from_,
            "to": self.leg.to,
            "tags": [],
            "client_state": self.leg.client_state,
            "media_format": {"encoding": self.sends.encoding, "sample_rate": self.sends.rate, "channels": 1},
        }
        if "custom_parameters" in self._settings:
            pairs = self._settings["custom_parameters"]
            start["custom_parameters"] = {pair.get("name", ""): pair.get("value", "") for pair in pairs}
        self._send("start", start=start)

    def _send(self, event: str, *, numbered: bool = True, **fields: Any) -> None:
        frame: dict[str, Any] = {"event": event}
        if numbered:
            self._sequence += 1
            frame["sequence_number"] = str(self._sequence)
        self._out.put_nowait(json.dumps({**frame, **fields, "stream_id": self.id}))

    async def _speak(self) -> None:
        await self.leg.far_end.microphone.speak(self._spoken)

    def _spoken(self, mulaw: bytes) -> None:
        if self._over:
            return
        if self.track != "outbound_track":
            self._media(self._inbound, mulaw)
        if self.track != "inbound_track":
            heard = self.leg.far_end.heard
            if len(heard) > self._echoed:
                self._media(self._outbound, heard[self._echoed :])
                self._echoed = len(heard)

    def _media(self, frames: InboundFrames, mulaw: bytes) -> None:
        # Numbers are given in the order of the sound; what overtakes afterwards keeps its number.
        for media in frames.cut(mulaw):
            self._sequence += 1
            frame = {"event": "media", "sequence_number": str(self._sequence), "media": media, "stream_id": self.id}
            for text in frames.in_order(json.dumps(frame)):
                self._out.put_nowait(text)

    def dtmf(self, digit: str) -> None:
        """A key was pressed."""
        self._send("dtmf", occurred_at=moment(), dtmf={"digit": digit})

    def _marked(self, name: str) -> None:
        if not self._over:
            self._send("mark", mark={"name": name})

    def _complain(self, code: int, title: str, detail: str) -> None:
        self._send("error", numbered=False, payload={"code": code, "title": title, "detail": detail})

    # --- frames from the platform ---------------------------------------------------------------------------------

    def _take(self, message: str | bytes) -> None:
        try:
            event, value = read_frame(message)
            if event == "media":
                self._hear(value)
            elif event == "mark":
                self.leg.far_end.playback.mark(partial(self._marked, value))
            else:
                self.leg.far_end.playback.clear()
        except FrameProblem as found:
            self._complain(found.code, found.title, found.detail)

    def _hear(self, payload: str) -> None:
        try:
            audio = base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError):
            raise FrameProblem(100004, "invalid_media", "Media provided was not base64 encoded") from None
        if self.mode != "rtp":
            now = asyncio.get_running_loop().time()
            if self._last_file and now - self._last_file < 1.0:
                raise FrameProblem(100005, "rate_limit_reached", "Too many requests")
            self._last_file = now
            self.dropped += len(audio)
            self.leg.far_end.note("audio dropped: stream_bidirectional_mode is mp3")
            return
        if not SHORTEST <= self.takes.seconds(len(audio)) <= LONGEST:
            raise FrameProblem(100003, "malformed_frame", "Chunks of audio are 20 milliseconds to 30 seconds long")
        if not self.leg.far_end.playback.play(self._to_ear.convert(audio)):
            raise FrameProblem(100005, "rate_limit_reached", "Too many requests")
