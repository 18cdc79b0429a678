"""Speech that goes to the caller little by little, so that it can be paused and cut where the ear is.

A carrier takes minutes of audio at once. An agent framework takes what it has written for what was heard, so its audio
is sent a fraction of a second ahead of the ear. What is not heard yet is kept, and sent again after a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import NamedTuple

from anycarrier.errors import StreamNotOpen
from anycarrier.position import Playback, PlaybackPosition
from anycarrier.session import MediaSession

FRAME = 0.02
"""Seconds in the shortest piece that is sent."""

LONGEST_PIECE = 0.5
"""Seconds in the longest."""


class _Piece(NamedTuple):
    number: int
    audio: bytes
    start: float = 0.0
    """Where on the session's timeline of heard audio it begins, once sent."""


class PacedVoice:
    """Speaks on a session, at most ``lead`` seconds ahead of the ear.

    ::

        voice = PacedVoice(session)
        speaking = asyncio.create_task(voice.say(audio))
        ...
        voice.pause()              # the caller makes a sound: nothing is heard any more, and nothing is lost
        voice.resume()             # it was only a cough: goes on where it stopped
        heard = voice.cut().heard  # it was a question

    Audio is in the session's format. Give all of an agent's speech to one voice, and clear by :meth:`cut`, not by the
    session's ``clear``. Pauses do not count in :attr:`MediaSession.heard`.
    """

    def __init__(self, session: MediaSession, lead: float = 0.2) -> None:
        if lead < FRAME:
            raise ValueError(f"a lead of {lead:g} s is less than one frame: use {FRAME:g} s or more")
        self._session = session
        self._lead = lead
        self._longest = min(max(lead // (5 * FRAME), 1) * FRAME, LONGEST_PIECE)
        self._order = asyncio.Lock()
        self._number = 0
        self._unsent: set[int] = set()
        self._sent: deque[_Piece] = deque()
        """What was sent and not heard yet, the piece that is being sent included."""
        self._tail: deque[_Piece] = deque()
        """What a pause took back."""
        self._odd = b""
        self._paused = False
        self._cuts = 0
        self._cut_at = session.heard
        self._generation = self._position.generation
        self._measured = False
        self._waiters: set[asyncio.Future[None]] = set()
        self._resending: asyncio.Task[None] | None = None

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._paused

    @property
    def idle(self) -> bool:
        """True while all that was said has been heard or cut."""
        self._forget_heard()
        return not (self._unsent or self._tail or self._sent)

    # --- speaking -----------------------------------------------------------------------------------------------------

    async def say(self, audio: bytes) -> None:
        """Send ``audio``, any length, after what was said before; returns once all of it is sent, or cut.

        Waits while paused. Cancelled, it sends no more; what was sent is heard. Raises ``StreamNotOpen`` once the
        stream is over.
        """
        cuts = self._cuts
        self._number = number = self._number + 1
        self._unsent.add(number)
        try:
            async with self._order:
                if cuts != self._cuts:
                    return
                audio = self._whole_samples(audio)
                longest = self._session.format.size(self._longest)
                try:
                    for at in range(0, len(audio), longest):
                        if not await self._send(cuts, _Piece(number, audio[at : at + longest])):
                            return
                except asyncio.CancelledError:
                    self._odd = b""  # of what was given up
                    raise
                if not audio:
                    self._check_open()
        finally:
            self._unsent.discard(number)
            self._changed()
            self._resend()

    def _whole_samples(self, audio: bytes) -> bytes:
        """Part of a sample at the end waits for the rest of it."""
        width = self._session.format.sample_width * self._session.format.channels
        if width == 1:
            return audio
        if self._odd:
            audio = self._odd + audio
        whole = len(audio) // width * width
        self._odd = audio[whole:]
        return audio[:whole]

    async def _send(self, cuts: int, piece: _Piece | None = None) -> bool:
        """Send what a pause took back, then ``piece``; again if it is paused meanwhile. False once it was cut."""
        session = self._session
        while cuts == self._cuts:
            following = self._tail[0] if self._tail else piece
            if following is None:
                return True
            self._check_open()
            if self._paused:
                await self._wait()
                continue
            excess = session.ahead + session.format.seconds(len(following.audio)) - self._lead
            if excess > 1e-6:
                await self._wait(excess)
                continue
            if self._tail:
                self._tail.popleft()
            else:
                piece = None
            await self._send_piece(following)
        return False

    async def _send_piece(self, piece: _Piece) -> None:
        self._forget_heard()
        piece = piece._replace(start=self._session.queued)
        self._sent.append(piece)
        try:
            await self._session.send_audio(piece.audio)
        except BaseException:
            if self._sent and self._sent[-1] is piece:  # cancelled, perhaps half-way
                went_out = self._session.format.size(max(0.0, self._session.queued - piece.start))
                self._sent[-1] = piece._replace(audio=piece.audio[:went_out])
            raise

    def _resend(self) -> None:
        """See to it that what a pause took back is sent, also where nobody says more."""
        if self._tail and not self._paused and not self._session.ended and self._resending is None:
            self._resending = asyncio.ensure_future(self._send_tail())

    async def _send_tail(self) -> None:
        try:
            with contextlib.suppress(StreamNotOpen):
                async with self._order:
                    await self._send(self._cuts)
        finally:
            self._resending = None
            self._changed()

    # --- pausing and cutting ------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Fall silent now: the carrier drops what it has not played, and that is kept to be sent again.

        May be called in callbacks, and at any time: twice, with nothing to be heard, after the end.
        """
        if self._paused:
            return
        self._paused = True
        self._forget_heard()
        if self._sent:
            with contextlib.suppress(StreamNotOpen):
                self._measured = self._session.clear_now().measured
                self._take_back(self._session.queued)
        self._changed()

    def _take_back(self, heard: float) -> None:
        unheard = []
        for piece in self._sent:
            rest = piece.audio[self._session.format.size(max(0.0, heard - piece.start)) :]
            if rest:
                unheard.append(piece._replace(audio=rest))
        self._tail.extendleft(reversed(unheard))
        self._sent.clear()
        self._generation = self._position.generation

    def resume(self) -> None:
        """Go on where :meth:`pause` stopped. May be called in callbacks."""
        if self._paused:
            self._paused = False
            self._changed()
            self._resend()

    def cut(self) -> Playback:
        """Stop speaking: everything unheard is dropped, also what waits in :meth:`say` or was taken back by a pause.

        Returns the seconds heard since the last cut, and those sent and never heard. A voice that is paused stays
        paused. May be called in callbacks; never raises.
        """
        self._cuts += 1
        dropped = self._session.format.seconds(sum(len(piece.audio) for piece in self._tail))
        try:
            playback = self._session.clear_now()
        except StreamNotOpen:
            playback = Playback(0.0, self._session.remaining, self._session.heard_is_measured)
        heard, self._cut_at = self._session.heard - self._cut_at, self._session.heard
        measured = playback.measured or (self._measured and not playback.dropped)
        self._sent.clear()
        self._tail.clear()
        self._unsent.clear()
        self._odd = b""
        self._measured = False
        self._generation = self._position.generation
        self._changed()
        return Playback(heard, playback.dropped + dropped, measured)

    # --- following ----------------------------------------------------------------------------------------------------

    async def done(self) -> None:
        """Wait until all that was said so far has been heard or cut, or the stream is over."""
        cuts, number, flushed = self._cuts, self._number, False
        while cuts == self._cuts and not self._session.ended:
            if any(said <= number for said in self._unsent) or any(piece.number <= number for piece in self._tail):
                await self._wait()
                continue
            if not flushed and number == self._number:
                flushed = True
                with contextlib.suppress(StreamNotOpen):
                    await self._session.flush()
                continue
            self._forget_heard()
            unheard = [piece for piece in self._sent if piece.number <= number]
            if not unheard:
                return
            end = unheard[-1].start + self._session.format.seconds(len(unheard[-1].audio))
            await self._wait(max(0.005, end - self._session.heard), or_over=True)

    @property
    def _position(self) -> PlaybackPosition:
        return self._session.stream.output.position

    def _forget_heard(self) -> None:
        if self._generation != self._position.generation:  # somebody else has cleared the session
            self._generation = self._position.generation
            self._sent.clear()
        if self._sent:
            heard, seconds = self._session.heard + 1e-6, self._session.format.seconds
            while self._sent and self._sent[0].start + seconds(len(self._sent[0].audio)) <= heard:
                self._sent.popleft()

    def _check_open(self) -> None:
        if self._session.ended:
            raise StreamNotOpen(f"the stream is over: {self._session.stop_reason}")

    def _changed(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self, seconds: float | None = None, *, or_over: bool = False) -> None:
        """Until something changes, or for ``seconds``; without them, or with ``or_over``, until the stream is over."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        over = None
        try:
            if seconds is None or or_over:
                over = asyncio.ensure_future(self._session.wait_stopped())
                await asyncio.wait({waiter, over}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            else:
                timer = asyncio.get_running_loop().call_later(seconds, _set, waiter)
                try:
                    await waiter
                finally:
                    timer.cancel()
        finally:
            self._waiters.discard(waiter)
            if over is not None:
                over.cancel()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
