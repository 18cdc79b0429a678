"""One call's synthesizer at Deepgram: text out, audio in, over one connection for the whole call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.errors import MalformedMessage, SpeechFailed, UnknownVoice
from anycarrier.speech import SpeakingStyle
from anycarrier_speech_deepgram import wire
from anycarrier_speech_deepgram.connection import DeepgramSettings, Refused, open_socket, speak_url, voice_for

AFTER_WARNING = 1.5
"""Seconds of quiet that end a text once Deepgram warned: past twenty a minute it ignores Flush, and confirms none."""
CLEARING = 2.0
"""Seconds for the confirmation of a Clear; a connection that does not give it is replaced."""


class DeepgramSynthesizer:
    """Made by the engine, connected."""

    def __init__(self, settings: DeepgramSettings, style: SpeakingStyle) -> None:
        self.format: AudioFormat = style.format
        self._settings = settings
        self._voice = style.voice
        self._language = "" if voice_for(settings, style) else style.language
        self._url = speak_url(settings, style)
        self._spoken = wire.spoken_format(style.format)
        self._socket: ClientConnection | None = None
        self._unclear = False
        self._closed = asyncio.Event()

    async def connect(self) -> ClientConnection:
        """The connection, made if there is none. ``UnknownVoice`` when Deepgram has not the one that was asked for."""
        if self._closed.is_set():
            raise SpeechFailed("deepgram", "speak", "the call's voice is closed")
        if self._language:
            raise UnknownVoice("deepgram", self._language, "Set speak_model to a model for that language.")
        if self._socket is None:
            try:
                self._socket = await open_socket(self._settings, self._url, "speak")
            except Refused as refused:
                # A voice is a model there: "No such model/version combination found".
                if self._voice and refused.status == 400 and "model" in refused.message.lower():
                    raise UnknownVoice("deepgram", self._voice, "Name a model such as aura-2-thalia-en.") from refused
                raise
            self._unclear = False
        return self._socket

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """``text`` in :attr:`format`. A connection lost before its first sound is made again, once."""
        pieces = wire.pieces(text)
        if not pieces or self._closed.is_set():
            return
        transcoder = Transcoder(self._spoken, self.format)
        for attempt in (1, 2):
            heard = False
            try:
                async with aclosing(self._said(pieces)) as said:  # so that an interruption is told at once
                    async for audio in said:
                        heard = True
                        if data := transcoder.convert(audio):
                            yield data
                if rest := transcoder.flush():
                    yield rest
                return
            except ConnectionClosed as failure:
                await self._drop()
                if self._closed.is_set():
                    return
                if heard or attempt == 2:
                    raise SpeechFailed("deepgram", "speak", "the connection was lost") from failure

    async def _said(self, pieces: list[str]) -> AsyncGenerator[bytes, None]:
        socket = await self._ready()
        done = False
        try:
            for piece in pieces:
                await socket.send(wire.speak(piece))
            await socket.send(wire.FLUSH)
            patience, warned = self._settings.speech_timeout, False
            while True:
                try:
                    async with asyncio.timeout(patience):  # before Python 3.12, wait_for can lose a cancellation
                        frame = await socket.recv()
                except TimeoutError:
                    if warned:
                        break
                    await self._drop()
                    raise SpeechFailed("deepgram", "speak", f"no sound for {patience:.0f} s") from None
                if isinstance(frame, bytes):
                    yield frame
                    continue
                kind = _kind(frame)
                if kind == "Flushed":
                    break
                if kind == "Warning":
                    patience, warned = AFTER_WARNING, True
            done = True
        finally:
            if not done and self._socket is socket:
                await self._clear(socket)

    async def _clear(self, socket: ClientConnection) -> None:
        """Interrupted: tell Deepgram, and remember that the rest may still arrive."""
        self._unclear = True
        try:
            await socket.send(wire.CLEAR)
        except ConnectionClosed:
            await self._drop()

    async def _ready(self) -> ClientConnection:
        """A connection on which nothing of an earlier text is left."""
        socket = await self.connect()
        if not self._unclear:
            return socket
        try:
            async with asyncio.timeout(CLEARING):
                while True:
                    frame = await socket.recv()
                    if isinstance(frame, str) and _kind(frame) == "Cleared":
                        break
        except (TimeoutError, ConnectionClosed):
            await self._drop()
            return await self.connect()
        self._unclear = False
        return socket

    async def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def aclose(self) -> None:
        """Say goodbye and let go; no connection is made afterwards."""
        self._closed.set()
        if self._socket is not None:
            try:
                await self._socket.send(wire.CLOSE)
            except ConnectionClosed:
                pass
        await self._drop()


def _kind(frame: str) -> str:
    try:
        return wire.decode(frame).type
    except MalformedMessage:
        return ""  # a kind of message that is newer than we are
