"""A speech engine and a telephone line that exist only here: sound that can be read, words that were written before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from anycarrier import Call, CallStatus, Direction, EndReason, MediaSession
from anycarrier.agent.agents import Agents
from anycarrier.agent.analysis import FinishedCall
from anycarrier.agent.shared_engines import Engines
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import ConfigurationError, SpeechFailed, UnknownVoice
from anycarrier.speech import (
    EngineSettings,
    Heard,
    Hearing,
    ResultQueue,
    SpeakingStyle,
    SpeechEngine,
    Voice,
    VoiceActivity,
)
from fake_carriers import FakeFrames, MemoryTransport

REFERENCE = "0" * 31 + "1"
"""The call's."""

WORD = 0.06
"""Seconds a word takes to be spoken."""

SILENCE, SPEECH = b"\xff", b"\x20"
FRAME = 160


class FakeVoice:
    """Each word is 60 ms of one byte: its number in the sentence."""

    def __init__(self, engine: FakeEngine, format: AudioFormat) -> None:
        self.format = format
        self._engine = engine

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        self._engine.spoken.append(text)
        for number, _ in enumerate(text.split(), 1):
            if self._engine.speak_fails:
                raise SpeechFailed(self._engine.name, "speak", "out of order")
            await asyncio.sleep(0)
            yield bytes((number,)) * round(WORD * 8000)

    async def aclose(self) -> None:
        self._engine.closed.append("voice")


class FakeRecognizer:
    """Answers each utterance with the next of ``engine.words``; an interim as soon as it begins."""

    format = PCMU_8K

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._results: ResultQueue[Heard] = ResultQueue()
        self.fed = bytearray()
        self.cues: list[str] = []
        self.preceding: list[float] = []
        self.following: list[float] = []

    def feed(self, audio: bytes) -> None:
        self.fed += audio

    def begin(self, preceding: float = 0.5) -> None:
        self.preceding.append(preceding)
        self.cues.append("begin")
        if self._engine.listen_fails:
            self._results.close(SpeechFailed(self._engine.name, "listen", "out of order"))
        elif self._engine.words:
            self._results.put(Heard(self._engine.words[0].split()[0]))

    def pause(self, *, following: float = 0.0) -> None:
        self.cues.append("pause")
        if self._engine.guesses:
            self._results.put(Heard(self._engine.guesses.pop(0)))

    def resume(self) -> None:
        self.cues.append("resume")

    def finish(self, *, discard: bool = False, following: float = 0.0) -> None:
        self.following.append(following)
        self.cues.append("discard" if discard else "finish")
        words = self._engine.words.pop(0) if self._engine.words and not discard else ""
        answer = Heard(words, final=True, complete=True)
        if self._engine.thinks:
            asyncio.get_running_loop().call_later(self._engine.thinks, self._results.put, answer)
        else:
            self._results.put(answer)

    def __aiter__(self) -> AsyncIterator[Heard]:
        return aiter(self._results)

    async def aclose(self) -> None:
        self._results.close()
        self._engine.closed.append("recognizer")


class FakeDetector:
    """A frame that is not silence is voice."""

    format = PCMU_8K

    def __init__(self) -> None:
        self._results: ResultQueue[VoiceActivity] = ResultQueue()
        self._at = 0.0
        self._on = False

    def feed(self, audio: bytes) -> None:
        began, self._at = self._at, self._at + len(audio) / 8000
        loud = audio.count(SILENCE) < len(audio) / 2
        if loud and not self._on:
            self._results.put(VoiceActivity(Voice.STARTED, began))
        if loud:
            self._results.put(VoiceActivity(Voice.CONTINUES, self._at))
        elif self._on:
            self._results.put(VoiceActivity(Voice.ENDED, began))
        self._on = loud

    def __aiter__(self) -> AsyncIterator[VoiceActivity]:
        return aiter(self._results)

    async def aclose(self) -> None:
        self._results.close()


class FakeEngine(SpeechEngine):
    """Does all three; ``words`` is what the caller will say, utterance by utterance."""

    name: ClassVar[str] = "fake"

    def __init__(self, *words: str, name: str = "fake", settings: EngineSettings | None = None) -> None:
        super().__init__(settings)
        self.name = name  # type: ignore[misc]
        self.words = list(words)
        self.spoken: list[str] = []
        self.closed: list[str] = []
        self.recognizers: list[FakeRecognizer] = []
        self.hearings: list[Hearing | None] = []
        self.styles: list[SpeakingStyle | None] = []
        self.unknown: set[str] = set()
        """Voices and languages it cannot speak with."""
        self.foreign: set[str] = set()
        """Languages it does not listen to."""
        self.guesses: list[str] = []
        """What it makes of each pause, as an engine that decodes ahead."""
        self.thinks = 0.0
        """Seconds until an utterance is answered."""
        self.speak_fails = self.listen_fails = False

    async def aclose(self) -> None:
        self.closed.append("engine")

    async def synthesizer(self, style: SpeakingStyle | None = None) -> FakeVoice:
        self.styles.append(style)
        if style is not None and (style.voice in self.unknown or style.language in self.unknown):
            raise UnknownVoice(self.name, style.voice or style.language)
        return FakeVoice(self, style.format if style else PCMU_8K)

    async def recognizer(self, hearing: Hearing | None = None) -> FakeRecognizer:
        self.hearings.append(hearing)
        if hearing is not None and hearing.language in self.foreign:
            raise ConfigurationError(f"{self.name} does not listen to {hearing.language!r}")
        self.recognizers.append(FakeRecognizer(self))
        return self.recognizers[-1]

    async def voice_activity_detector(self, format: AudioFormat = PCMU_8K) -> FakeDetector:
        return FakeDetector()


class Line:
    """One call on a line in memory, and who is at its other end. Its audio is played by the clock."""

    def __init__(self, *, direction: Direction = Direction.INBOUND, marks: bool = False) -> None:
        self.transport = MemoryTransport()
        frames = FakeFrames()
        frames.marks = marks
        call = Call(
            id="leg-1",
            provider="trunk",
            direction=direction,
            from_="+12125550123",
            to="+14155550101",
            status=CallStatus.ANSWERED,
            reference=REFERENCE,
            answered_at=datetime.now(UTC),
        )
        self.hang_ups: list[EndReason] = []
        self.asked: list[tuple[str, str]] = []
        self.session = MediaSession(call, "desk", frames, self.transport, self)
        self.transport.say(event="start", call_id="leg-1")
        self._reading = asyncio.ensure_future(self.session.stream.read())
        self._speaking: asyncio.Future[None] | None = None

    # --- what the session asks of the exchange

    async def hang_up(self, call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        self.hang_ups.append(reason)
        self.end(reason if len(self.hang_ups) == 1 else self.hang_ups[0])

    async def transfer(self, call: Call | str, to: str = "", *, replaces: Call | str | None = None) -> None:
        self.asked.append(("transfer", to))
        self.end(EndReason.TRANSFERRED)

    async def send_digits(self, call: Call | str, digits: str) -> None:
        self.asked.append(("digits", digits))

    # --- the far end

    def end(self, reason: EndReason = EndReason.USER_HANGUP) -> None:
        """The call is over."""
        self.session.call = self.session.call.model_copy(update={"status": CallStatus.ENDED, "reason": reason})
        self.session.stream.stop("call ended")

    async def say(self, seconds: float, byte: bytes = SPEECH) -> None:
        """Speak at an even pace; :meth:`breathe` keeps the line alive in between."""
        await self.play(byte * FRAME * round(seconds / 0.02))

    async def play(self, audio: bytes) -> None:
        """Mu-law at its own pace."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for at in range(0, len(audio), FRAME):
            self.transport.say(event="media", audio=audio[at : at + FRAME].decode("latin-1"))
            due += 0.02
            await asyncio.sleep(due - loop.time())

    async def breathe(self, seconds: float) -> None:
        """Silence, as carriers send it."""
        await self.say(seconds, SILENCE)

    async def utter(self, seconds: float = 0.3) -> None:
        """Say something, and be silent long enough for it to be over."""
        await self.say(seconds)
        await self.breathe(0.6)

    def press(self, digits: str) -> None:
        """Press keys."""
        for digit in digits:
            self.transport.say(event="dtmf", digit=digit)

    def heard(self) -> bytes:
        """All audio sent to the far end."""
        return b"".join(f["audio"].encode("latin-1") for f in self.transport.sent if f["event"] == "media")

    def frames(self, event: str) -> list[dict[str, Any]]:
        """Frames of one kind that were sent to the carrier."""
        return [frame for frame in self.transport.sent if frame["event"] == event]

    async def until(self, met: Callable[[], bool], timeout: float = 30) -> None:
        """Wait for something the clock and the other tasks bring about; the line breathes meanwhile."""
        async with asyncio.timeout(timeout):
            while not met():
                await self.breathe(0.02)

    async def aclose(self) -> None:
        self.session.stream.stop("test over")
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


class Desk:
    """Agents over fake engines, and one call of theirs at a time."""

    def __init__(self, *words: str, **options: Any) -> None:
        self.engine = FakeEngine(*words)
        engines = Engines()
        engines.add(self.engine)
        self.finished: list[FinishedCall] = []
        self.agents = Agents(engines=engines, finished=self._finished, analyzers=[], **options)

    async def _finished(self, finished: FinishedCall) -> None:
        self.finished.append(finished)

    async def call(
        self,
        agent: Callable[..., Awaitable[None]] | None,
        far_end: Callable[[Line], Awaitable[None]],
        settings: Mapping[str, Any] | None = None,
        **line: Any,
    ) -> tuple[Line, FinishedCall]:
        """One whole call with a Python agent (None: the agent is registered already); how it was and what it left."""
        if agent is not None:
            self.agents.add("desk", handler=agent, settings=settings)
        on = Line(**line)
        await on.session.stream.wait_started(30)
        talking = asyncio.ensure_future(self.agents["desk"](on.session))
        ringing = asyncio.ensure_future(far_end(on))
        try:
            async with asyncio.timeout(60):
                await asyncio.wait({talking, ringing}, return_when=asyncio.FIRST_EXCEPTION)
                if talking.done():
                    talking.result()
                await ringing
                await talking
        finally:
            ringing.cancel()
            talking.cancel()
            await asyncio.gather(talking, ringing, return_exceptions=True)
            await on.aclose()
        return on, self.finished[-1]


def told(finished: FinishedCall) -> list[tuple[str, str]]:
    """Who said what."""
    return [(segment.party, segment.text) for segment in finished.segments]


def notes(finished: FinishedCall, kind: str) -> list[dict[str, Any]]:
    """What happened of one kind."""
    return [facts for name, facts in finished.notes if name == kind]
