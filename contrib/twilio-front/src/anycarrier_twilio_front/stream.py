"""``<Connect><Stream>``: the call's audio on a WebSocket to the bot, in Twilio's frames.

The caller's audio goes out in pieces of 20 ms, keys and marks between them; what the bot plays goes on to the carrier
as it came. The bot is read no faster than the carrier takes its audio, and a bot that does not read loses the caller's
audio, not the call. https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake, InvalidURI

from anycarrier import CallEvent, DigitPressed, MarkDropped, MarkReached, MediaEvent, MediaSession
from anycarrier.agent import first_done
from anycarrier.errors import StreamNotOpen
from anycarrier.redaction import redact
from anycarrier_twilio.carrier_side.messages import (
    FRAME,
    Clear,
    PlayMedia,
    SetMark,
    StreamFrames,
    StreamRefused,
    read_message,
    stream_form,
)
from anycarrier_twilio.carrier_side.twiml import Verb
from anycarrier_twilio.signature import sign
from anycarrier_twilio_front.callbacks import BotError, joined, shown
from anycarrier_twilio_front.calls import FrontCall

if TYPE_CHECKING:
    from anycarrier_twilio_front.front import TwilioFront

log = logging.getLogger("anycarrier.twilio_front")

HANDSHAKE, GOODBYE = 15.0, 2.0
"""Seconds for the bot to accept the socket, and to close it; the second leaves a handler time to end with its call."""

MARKS, LONGEST_NAME = 5000, 1000
"""Marks that a bot may have outstanding, and characters in the name of one."""

CONGESTED, HOPELESS = 500, MARKS + 1000
"""Frames that may wait for a bot that does not read: audio more than these 10 s late is dropped; with more of anything,
the stream ends."""

BUFFERED = 600.0
"""Seconds of the bot's audio that may wait to be played."""

PIECE = 216
"""Characters of 20 ms of mu-law in base64; the last two are padding."""

LARGEST = 16 * 1024 * 1024
"""Bytes of one message of the bot's: ten minutes of audio in base64, and then some."""


class _NoRedirects(connect):
    """Where a bot's answer leads to, nobody has allowed."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_socket(url: str, auth_token: str) -> ClientConnection:
    """The bot's WebSocket, its handshake signed; :class:`BotError` where it cannot be opened."""
    headers = {"X-Twilio-Signature": sign(url, (), auth_token)}
    try:
        return await _NoRedirects(
            url,
            additional_headers=headers,
            user_agent_header="Twilio.TmeWs/1.0",
            compression=None,
            open_timeout=HANDSHAKE,
            close_timeout=GOODBYE,
            ping_interval=None,
            max_size=LARGEST,
            proxy=None,
        )
    except TimeoutError:
        raise BotError(31901, f"Stream - WebSocket - Connection Timeout: {shown(url)}") from None
    except InvalidHandshake as failure:
        raise BotError(31920, f"Stream - WebSocket - Handshake Error: {failure}: {shown(url)}") from None
    except (OSError, InvalidURI) as failure:
        why = type(failure).__name__
        raise BotError(31920, f"Stream - WebSocket - Handshake Error: {why}: {shown(url)}") from None


class BotStream:
    """One stream: :meth:`run` until either side is done with it, while :meth:`hear` gets the session's events."""

    def __init__(self, front: TwilioFront, call: FrontCall, session: MediaSession, noun: Verb, base: str) -> None:
        self._front = front
        self._call = call
        self._session = session
        self._noun = noun
        self.sid = f"MZ{secrets.token_hex(16)}"
        # Twilio drops the query without a word: values travel as <Parameter>.
        url = joined(base.replace("http", "ws", 1), noun.get("url"))
        self.url = urlunsplit(urlsplit(url)._replace(query="", fragment=""))
        self._frames = StreamFrames(account_sid=call.account_sid, call_sid=call.sid, stream_sid=self.sid)
        self._outbox: deque[str] = deque()
        self._filled = asyncio.Event()
        self._started = False
        self._unsent = bytearray()
        self._reported: set[int] = set()
        self._marks = 0
        """Outstanding ones."""

    async def run(self) -> None:
        """Connect, and carry the stream. A bot that cannot be reached is a complaint: the next verb follows."""
        try:
            self._front.hosts.check(self.url, 31920)
            socket = await open_socket(self.url, self._front.auth_token)
        except BotError as failure:
            self._complain(failure.code, failure.message)
            return
        custom = {noun.get("name"): noun.get("value") for noun in self._noun.nouns}
        self._put(self._frames.connected())
        self._put(self._frames.start(custom))
        self._started = True
        self._session.receive_base64(self._hear_audio)
        self._tell("stream-started")
        try:
            try:
                await first_done(self._write(socket), self._read(socket))
            finally:
                self._session.receive_base64(None)
                await self._say_goodbye(socket)
                self._tell("stream-stopped")
        except StreamRefused as refused:
            self._complain(refused.code, redact(str(refused)))
        except (ConnectionClosedOK, StreamNotOpen):
            pass  # one side's goodbye
        except ConnectionClosed as closed:
            told = f"code {closed.rcvd.code}" if closed.rcvd else "the connection was lost"
            self._complain(31921, f"Stream - WebSocket - Close Error: {told}")
        if not self._session.ended:
            await self._session.clear()  # what the bot has left unplayed goes with its stream

    # --- to the bot ---------------------------------------------------------------------------------------------------

    def hear(self, event: MediaEvent | CallEvent) -> None:
        """One event of the call's. While the bot is still being connected to nobody listens, as at Twilio."""
        if not self._started:
            return
        match event:
            case DigitPressed(digit):
                self._put(self._frames.dtmf(digit))
            case MarkReached(name) | MarkDropped(name):  # Twilio makes no difference
                self._marks -= 1
                self._put(self._frames.mark(name))

    def _hear_audio(self, payload: str) -> None:
        """The caller's audio in base64; from most carriers 20 ms at a time, as Twilio has it."""
        if not self._unsent and len(payload) == PIECE and payload.endswith("=="):
            self._hear_piece(payload)
            return
        self._unsent += base64.b64decode(payload)
        while len(self._unsent) >= FRAME:
            self._hear_piece(base64.b64encode(self._unsent[:FRAME]).decode())
            del self._unsent[:FRAME]

    def _hear_piece(self, payload: str) -> None:
        if len(self._outbox) > CONGESTED:
            self._complain(31930, "Stream - upstream congestion, audio dropped", once=True)
        else:
            self._put(self._frames.media(payload))

    def _put(self, frame: str) -> None:
        self._outbox.append(frame)
        self._filled.set()

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            while self._outbox:
                await socket.send(self._outbox.popleft())
            self._filled.clear()
            await self._filled.wait()

    async def _say_goodbye(self, socket: ClientConnection) -> None:
        """``stop`` and a close frame, where somebody still listens; a bot that does not read is cut off."""
        try:
            async with asyncio.timeout(GOODBYE):
                while self._outbox:
                    await socket.send(self._outbox.popleft())
                await socket.send(self._frames.stop())
                await socket.close(1000)
        except (ConnectionClosed, TimeoutError):
            pass
        finally:
            socket.transport.abort()  # nothing where it is closed

    # --- from the bot -------------------------------------------------------------------------------------------------

    async def _read(self, socket: ClientConnection) -> None:
        while True:
            message = read_message(await socket.recv(), self.sid)
            if len(self._outbox) > HOPELESS:  # by marks that come back: audio is dropped before
                raise StreamRefused(31930, "Stream - upstream congestion: the bot does not read")
            match message:
                case PlayMedia(media):
                    await self._play(media.payload)
                case SetMark(mark):
                    if self._marks >= MARKS or len(mark.name) > LONGEST_NAME:
                        raise StreamRefused(31951, f"Stream - invalid message: more than {MARKS} marks, or a long name")
                    self._marks += 1
                    await self._session.mark(mark.name)
                case Clear():
                    await self._session.clear()

    async def _play(self, payload: str) -> None:
        if self._session.ahead > BUFFERED:
            self._complain(31931, "Stream - more than 10 minutes of audio are buffered", once=True)
            return
        try:
            await self._session.send_base64(payload)
        except ValueError:
            raise StreamRefused(31951, "Stream - invalid message: media without a base64 payload") from None

    # --- to the bot's owner -------------------------------------------------------------------------------------------

    def _complain(self, code: int, message: str, *, once: bool = False) -> None:
        if not (once and code in self._reported):
            self._reported.add(code)
            self._front.complain(self._call, BotError(code, message))
            self._tell("stream-error", f"{code}: {message}")

    def _tell(self, event: str, error: str = "") -> None:
        if url := self._noun.get("statusCallback"):
            form = stream_form(
                account_sid=self._call.account_sid, call_sid=self._call.sid, stream_sid=self.sid,
                name=self._noun.get("name") or self.sid, event=event, at=datetime.now(UTC), error=error,
            )  # fmt: skip
            self._front.post(self._call, url, form, self._noun.get("statusCallbackMethod", "POST"))
