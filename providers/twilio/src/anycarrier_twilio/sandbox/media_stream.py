"""A media stream: the carrier connects as WebSocket client, sends frames, and buffers audio, marks, and clears."""

from __future__ import annotations

import asyncio
import base64
import binascii
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from anycarrier.testing.sandbox import may_stream_to
from anycarrier.testing.sandbox_numbers import DROPS_AFTER, Outcome
from anycarrier_twilio.carrier_side.messages import Clear, PlayMedia, SetMark, StreamFrames, StreamRefused, read_message
from anycarrier_twilio.sandbox.models import new_sid
from anycarrier_twilio.sandbox.webhooks import stream_params
from anycarrier_twilio.signature import sign

if TYPE_CHECKING:
    from anycarrier_twilio.carrier_side.twiml import Verb
    from anycarrier_twilio.sandbox.leg import Leg

CONGESTED = 500
"""Frames (10 s) that may wait for a platform that does not read before new ones are dropped."""

HANDSHAKE_TIMEOUT = 15.0
GOODBYE_TIMEOUT = 10.0


class MediaStream:
    """One ``<Connect><Stream>``: :meth:`run` until either side is done with it."""

    def __init__(self, leg: Leg, noun: Verb) -> None:
        self.leg = leg
        self.sid = new_sid("MZ")
        self.noun = noun
        self.name = noun.get("name") or self.sid
        # The carrier drops a query string without a word; the ticket has to be in the path.
        self.url = urlunsplit(urlsplit(noun.get("url"))._replace(query="", fragment=""))
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._frames = StreamFrames(
            account_sid=leg.account.sid, call_sid=leg.sid, stream_sid=self.sid
        )
        self._dropped = False
        self._reported: set[int] = set()

    async def run(self) -> None:
        if not may_stream_to(self.url):
            self._complain(31922, f"Stream - URL scheme is not wss: {urlsplit(self.url).scheme}")
            return
        headers = {"X-Twilio-Signature": sign(self.url, (), self.leg.account.token)}
        try:
            socket = await connect(
                self.url,
                additional_headers=headers,
                user_agent_header="Twilio.TmeWs/1.0",
                compression=None,
                open_timeout=HANDSHAKE_TIMEOUT,
                close_timeout=GOODBYE_TIMEOUT,
                ping_interval=None,
                max_size=None,
                proxy=None,
            )
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as failure:
            self._complain(31920, f"Stream - WebSocket handshake failed: {failure}")
            return
        await self._talk(socket)
        if self._dropped:
            self._complain(31921, "Stream - the connection was lost")
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
        except StreamRefused as refusal:
            self._complain(refusal.code, str(refusal))
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
        self._outbox.put_nowait(self._frames.dtmf(digit))

    def _open(self) -> None:
        custom = {noun.get("name"): noun.get("value") for noun in self.noun.nouns}
        self._outbox.put_nowait(self._frames.connected())
        self._outbox.put_nowait(self._frames.start(custom))

    def _hear(self, frame: bytes) -> None:
        if self._outbox.qsize() > CONGESTED:
            self._complain(31930, "Stream - upstream congestion, audio dropped", once=True)
            return
        self._outbox.put_nowait(self._frames.media(base64.b64encode(frame).decode()))

    def _reached(self, name: str) -> None:
        self._outbox.put_nowait(self._frames.mark(name))

    async def _write(self, socket: ClientConnection) -> None:
        try:
            while True:
                await socket.send(await self._outbox.get())
        except ConnectionClosed:
            pass  # the reader sees the same, and ends the stream

    async def _say_goodbye(self, socket: ClientConnection) -> None:
        """``stop`` and a close frame, where somebody still listens; a peer that does not read is cut off."""
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                while not self._outbox.empty():
                    await socket.send(self._outbox.get_nowait())
                await socket.send(self._frames.stop())
                await socket.close()
        except (ConnectionClosed, TimeoutError):
            socket.transport.abort()

    def _drop(self, socket: ClientConnection) -> None:
        self._dropped = True
        socket.transport.abort()

    # --- from the platform ----------------------------------------------------------------------------------------

    def _take(self, message: str | bytes) -> None:
        playback = self.leg.far_end.playback
        match read_message(message, self.sid):
            case PlayMedia(media):
                if not playback.play(_audio(media.payload)):
                    self._complain(31931, "Stream - more than 10 minutes of audio are buffered", once=True)
            case SetMark(mark):
                playback.mark(partial(self._reached, mark.name))
            case Clear():
                playback.clear()

    # --- to the account's owner -----------------------------------------------------------------------------------

    def _complain(self, code: int, message: str, *, once: bool = False) -> None:
        if once and code in self._reported:
            return
        self._reported.add(code)
        self.leg.sandbox.complain(code, message, self.leg)
        self._callback("stream-error", f"{code}: {message}")

    def _callback(self, event: str, error: str = "") -> None:
        if url := self.noun.get("statusCallback"):
            params = stream_params(self.leg, self.sid, self.name, event, error)
            self.leg.sandbox.notify("stream", self.leg, url, params, self.noun.get("statusCallbackMethod", "POST"))


def _audio(payload: str) -> bytes:
    try:
        return base64.b64decode(payload, validate=True)
    except (ValueError, binascii.Error):
        raise StreamRefused(31951, "Stream - invalid message: media without a base64 payload") from None
