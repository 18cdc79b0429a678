"""One call's recognizer at Deepgram: audio out, words in, over a connection that is renewed when it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.errors import MalformedMessage, SpeechFailed
from anycarrier.speech import Heard, Hearing, ResultQueue
from anycarrier_speech_deepgram import wire
from anycarrier_speech_deepgram.connection import DeepgramSettings, Refused, connect_once, listen_url, open_socket

log = logging.getLogger("anycarrier")

KEPT = 20.0
"""Seconds of audio kept while there is no connection, and to be said again on the next one."""
QUIET = 4.0
"""Seconds without audio after which a KeepAlive is due; Deepgram hangs up after ten."""
SETTLED = 0.25
"""Seconds for the answer to a Finalize when Deepgram had fixed the last words already: it often gives none then."""
PAUSES = (0.1, 0.5, 1.0, 2.0)
"""Seconds between attempts to connect again; then the ear gives up."""


class DeepgramRecognizer:
    """Made by the engine, connected."""

    def __init__(self, settings: DeepgramSettings, hearing: Hearing) -> None:
        self.format: AudioFormat = hearing.format
        self._settings = settings
        self._hearing = hearing
        self._url = listen_url(settings, hearing)
        sent = wire.sent_format(hearing.format)
        self._transcoder = Transcoder(hearing.format, sent)
        self._limit = int(KEPT * sent.bytes_per_second)
        self._unrecognized = UnrecognizedAudio(sent, KEPT)
        self._outbox: deque[bytes | str] = deque()
        self._outbox_size = 0
        self._wake = asyncio.Event()
        self._settled = True
        self._owed: deque[Question] = deque()
        self._results: ResultQueue[Heard] = ResultQueue()
        self._task: asyncio.Task[None] | None = None
        self._first: ClientConnection | None = None
        self._useful, self._said = False, ""

    async def connect(self) -> None:
        """The first connection, so that a call knows at once whether it has a recognizer.

        A request that Deepgram refuses because of the phrases is made once more without them: an agent's phrase list
        must not leave a call without a recognizer.
        """
        try:
            self._first = await open_socket(self._settings, self._url, "listen")
        except Refused as refused:
            if refused.status != 400 or not self._hearing.phrases:
                raise
            self._url = listen_url(self._settings, self._hearing, phrases=False)
            self._first = await open_socket(self._settings, self._url, "listen")
            log.warning("deepgram refused a request with %d phrases: %s", len(self._hearing.phrases), refused.message)
        self._task = asyncio.create_task(self._run(self._first))

    def feed(self, audio: bytes) -> None:
        """The next audio; without a connection it waits, 20 seconds of it."""
        if self._results.closed:
            return
        data = self._transcoder.convert(audio)
        self._outbox.append(data)
        self._outbox_size += len(data)
        while self._outbox_size > self._limit:
            oldest = next(n for n, item in enumerate(self._outbox) if isinstance(item, bytes))
            self._outbox_size -= len(self._outbox[oldest])
            del self._outbox[oldest]
        self._wake.set()

    def begin(self, preceding: float = 0.5) -> None:
        """Deepgram listens all the time."""

    def pause(self, *, following: float = 0.0) -> None:
        """Deepgram listens all the time."""

    def resume(self) -> None:
        """Deepgram listens all the time."""

    def finish(self, *, discard: bool = False, following: float = 0.0) -> None:
        """Ask for the final of all that was sent. Deepgram may not answer that; then we do, in a moment.

        After a noise we ask too, so that its words do not join the next utterance, but pass none of them on.
        """
        if self._results.closed:
            return
        self._outbox.append(wire.FINALIZE)
        patience = min(SETTLED, self._settings.answer_timeout) if self._settled else self._settings.answer_timeout
        self._owed.append(Question(asyncio.get_running_loop().call_later(patience, self._answer, ""), discard))
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[Heard]:
        return aiter(self._results)

    async def aclose(self) -> None:
        """Say goodbye and let go."""
        self._close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._first is not None:
            await self._first.close()  # a task that is cancelled before it has begun closes nothing

    def _close(self, failure: SpeechFailed | None = None) -> None:
        for question in self._owed:
            question.timer.cancel()
        self._owed.clear()
        self._results.close(failure)

    def _answer(self, text: str) -> None:
        question = self._owed.popleft()
        question.timer.cancel()
        self._results.put(Heard("" if question.discard else text, final=True, complete=True))

    # --- the connection -------------------------------------------------------------------------------------------

    async def _run(self, socket: ClientConnection) -> None:
        useless = 0
        try:
            while True:
                self._useful, self._said = False, ""
                await self._converse(socket)
                useless = 0 if self._useful else useless + 1
                if useless > len(PAUSES):
                    raise SpeechFailed("deepgram", "listen", f"it ends every connection. {self._why(socket)}")
                why = self._why(socket)
                socket = await self._again(why, PAUSES[useless - 1 :] if useless else PAUSES)
                self._say_again()
        except SpeechFailed as failure:
            self._close(failure)
        except Exception as bug:
            log.exception("deepgram's recognizer failed")
            self._close(SpeechFailed("deepgram", "listen", f"an unexpected failure: {type(bug).__name__}"))

    def _why(self, socket: ClientConnection) -> str:
        """What Deepgram said when it ended the connection."""
        return " ".join(f"{self._said} {socket.close_reason or ''}".split())[:200] or "It gave no reason"

    def _say_again(self) -> None:
        """Put what the lost connection had not turned into final words before what waits."""
        replay = self._unrecognized.take()
        waiting = sum(item == wire.FINALIZE for item in self._outbox)
        self._outbox.extendleft([wire.FINALIZE] * (len(self._owed) - waiting))
        if replay:
            self._outbox.appendleft(replay)
            self._outbox_size += len(replay)

    async def _again(self, why: str, pauses: Sequence[float]) -> ClientConnection:
        last: SpeechFailed | None = None
        for pause in pauses:
            await asyncio.sleep(pause)
            try:
                return await connect_once(self._settings, self._url, "listen")
            except Refused:
                raise
            except SpeechFailed as failure:
                last = failure
        lost = f"the connection was lost and {len(pauses)} new ones failed. {why}"
        raise SpeechFailed("deepgram", "listen", lost, next_step="Name a fallback engine.") from last

    async def _converse(self, socket: ClientConnection) -> None:
        """Until the connection ends, whichever side closes it."""
        sender = asyncio.create_task(self._send(socket))
        try:
            async for frame in socket:
                if isinstance(frame, str):
                    self._take(frame)
        except ConnectionClosed:
            pass
        except asyncio.CancelledError:
            try:
                await socket.send(wire.CLOSE_STREAM)
            except ConnectionClosed:
                pass
            raise
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            await socket.close()

    async def _send(self, socket: ClientConnection) -> None:
        try:
            while True:
                while self._outbox:
                    item = self._outbox.popleft()
                    if isinstance(item, bytes):
                        self._outbox_size -= len(item)
                        self._unrecognized.sent(item)
                    if item:  # an empty binary frame would end the stream
                        await socket.send(item)
                self._wake.clear()
                try:
                    async with asyncio.timeout(QUIET):  # before Python 3.12, wait_for can lose a cancellation
                        await self._wake.wait()
                except TimeoutError:
                    await socket.send(wire.KEEP_ALIVE)
        except ConnectionClosed:
            pass  # the receiving side sees it as well

    def _take(self, frame: str) -> None:
        try:
            message = wire.decode(frame)
        except MalformedMessage:
            return  # a kind of message that is newer than we are
        if message.type == "Error":
            self._said = message.description
        if message.type != "Results":
            return
        self._useful = True
        text = message.transcript
        if self._owed and self._owed[0].discard and not message.from_finalize:
            text = ""  # words made of a noise
        if not message.is_final:
            if text:
                self._settled = False
                self._results.put(Heard(text))
            return
        self._settled = message.speech_final or message.from_finalize or (self._settled and not text)
        self._unrecognized.recognized(message.start + message.duration)
        if message.from_finalize:
            # Without an open question this is an answer that came too late: its utterance is closed.
            if self._owed:
                self._answer(text)
            return
        complete = message.speech_final and self._settings.ends_utterances and not self._owed
        if text or complete:
            self._results.put(Heard(text, final=True, complete=complete))


@dataclass(frozen=True, slots=True)
class Question:
    """A ``finish`` that is not answered yet. ``timer`` answers it with no words if Deepgram does not."""

    timer: asyncio.TimerHandle
    discard: bool


class UnrecognizedAudio:
    """Sent audio without final words yet, which a new connection must get again: the last ``seconds`` of it.

    Positions are seconds of the current connection's audio.
    """

    def __init__(self, format: AudioFormat, seconds: float) -> None:
        self._format = format
        self._frame = format.sample_width * format.channels
        self._limit = round(seconds * format.rate) * self._frame
        self._audio = bytearray()
        self._begins = 0  # bytes of this connection before what is kept

    def __len__(self) -> int:
        return len(self._audio)

    def sent(self, audio: bytes) -> None:
        """More was sent."""
        self._audio += audio
        self._drop(len(self._audio) - self._limit)

    def recognized(self, until: float) -> None:
        """Everything before ``until`` is in final words."""
        self._drop(round(until * self._format.rate) * self._frame - self._begins)

    def take(self) -> bytes:
        """What a new connection must be sent first; it counts as not sent, and positions begin anew."""
        audio = bytes(self._audio)
        self._audio.clear()
        self._begins = 0
        return audio

    def _drop(self, size: int) -> None:
        if size > 0:
            size = min(size + -size % self._frame, len(self._audio))
            del self._audio[:size]
            self._begins += size
