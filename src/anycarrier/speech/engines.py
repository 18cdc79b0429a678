"""The contract of a speech engine: it speaks, listens or detects a voice. Plugins bring engines by a hook.

There is one *engine* per process; it owns what is expensive (models, worker processes, connections). What it makes for
a call is small. anycarrier itself contains no engine. What helps to write one is at the end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args, runtime_checkable

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class SpeakingStyle:
    """How to speak. ``voice`` is the engine's own name for a voice, empty for its default; ``speed`` 1.0 is normal.

    ``format`` is the format of the audio to make.
    """

    voice: str = ""
    language: str = "en-US"
    speed: float = 1.0
    format: AudioFormat = PCMU_8K


@dataclass(frozen=True, slots=True)
class Hearing:
    """What to listen for. ``phrases`` are likely, ``grammar`` (JSGF) is everything a caller may say.

    Engines that know the whole language take ``phrases`` as hints and ignore ``grammar``. ``format`` is the format of
    the audio. ``cued``: every utterance will be announced by ``begin()``, so audio outside utterances needs no work.
    """

    language: str = "en-US"
    phrases: tuple[str, ...] = ()
    grammar: str | None = None
    cued: bool = False
    format: AudioFormat = PCMU_8K


@dataclass(frozen=True, slots=True)
class Heard:
    """Recognized words. The next result replaces an interim (``final`` False); final words do not change.

    ``complete``: the utterance is over. Each ``finish()`` is answered by exactly one complete Heard, in order, with
    empty text if there were no words. An engine that detects the end of an utterance itself also sends complete
    results unasked, but never while an answer to ``finish()`` is outstanding.
    """

    text: str
    final: bool = False
    complete: bool = False


@runtime_checkable
class Synthesizer(Protocol):
    """Text to speech for one call."""

    format: AudioFormat

    def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """``text`` as audio in :attr:`format`, in chunks of any length, as fast as the engine makes them.

        Closing the generator, or cancelling the task that reads it, stops the synthesis. Raises ``SpeechFailed``.
        One text at a time. Pass single sentences, so that the first audio does not wait for the last word.
        """
        ...

    async def aclose(self) -> None:
        """Stop speaking and release what the call used. After that ``speak`` yields no audio; closing again has no
        effect."""
        ...


PRECEDING_LIMIT = 5.0
"""Seconds of audio outside utterances that a recognizer keeps, so that an utterance announced late is whole."""


@runtime_checkable
class Recognizer(Protocol):
    """Speech to text for one call. Iterate it for :class:`Heard` until it is closed; raises ``SpeechFailed``."""

    format: AudioFormat

    def feed(self, audio: bytes) -> None:
        """The next audio in :attr:`format`, any length. Never waits; without room, drops the oldest audio."""
        ...

    def begin(self, preceding: float = 0.5) -> None:
        """An utterance began. A hint; engines that recognize continuously ignore it.

        ``preceding``: how many seconds of the latest audio already belong to it. A detector on a busy machine reports a
        voice late, so a recognizer keeps the last :data:`PRECEDING_LIMIT` seconds while no utterance is announced, but
        never what belonged to the utterance before.
        """
        ...

    def pause(self, *, following: float = 0.0) -> None:
        """The caller has been silent for a moment: the utterance may be over. A hint.

        ``following``: how many seconds of the latest audio are not part of what the detector has examined, and belong
        to the next utterance if this one is over.

        An engine that decodes whole utterances can decode now, so that the answer is there when ``finish`` asks for
        it, and report the words of the whole utterance so far as an interim, also if they have not changed: they decide
        how long the pause lasts. ``resume`` or ``finish`` follows.
        """
        ...

    def resume(self) -> None:
        """The caller speaks again: the utterance goes on, and what was decoded since ``pause`` is out of date."""
        ...

    def finish(self, *, discard: bool = False, following: float = 0.0) -> None:
        """The utterance is over: answer with one complete Heard for the audio fed since the last one.

        ``discard``: it was a noise. Decode nothing, and answer with empty text. ``following``: how many seconds of the
        latest audio do not belong to it; the next utterance may begin in them.
        """
        ...

    def __aiter__(self) -> AsyncIterator[Heard]: ...

    async def aclose(self) -> None:
        """Stop listening; the iteration ends. Calls after that have no effect."""
        ...


class Voice(StrEnum):
    """What the detector reports about the caller's voice."""

    STARTED = "started"
    CONTINUES = "continues"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class VoiceActivity:
    """A voice began at ``at``, is confirmed up to ``at``, or ended at ``at``: seconds of the audio fed so far."""

    voice: Voice
    at: float


@runtime_checkable
class VoiceActivityDetector(Protocol):
    """Voice detection for one call. Iterate it for :class:`VoiceActivity` until it is closed."""

    format: AudioFormat

    def feed(self, audio: bytes) -> None:
        """The next audio in :attr:`format`, any length. Never waits."""
        ...

    def __aiter__(self) -> AsyncIterator[VoiceActivity]: ...

    async def aclose(self) -> None:
        """Stop; the iteration ends. Calls after that have no effect."""
        ...


class EngineSettings(BaseModel):
    """Base of an engine's settings; secrets are ``SecretStr``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    for_workspaces: ClassVar[frozenset[str]] = frozenset()
    """Settings that a workspace of the service may choose too, besides the secrets. Never the address of requests."""

    @field_validator("api_key", check_fields=False)
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        """Without the line break that a file ends with. HTTP libraries quote a key that does not fit a header."""
        if not isinstance(key, SecretStr):
            return key
        text = key.get_secret_value().strip()
        if not all("!" <= c <= "~" for c in text):
            raise ValueError("holds a character that no key has")
        return SecretStr(text)

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """The settings that are secrets."""
        return frozenset(name for name, field in cls.model_fields.items() if _holds_secret(field.annotation))


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secret(inner) for inner in get_args(annotation))


ABILITIES = {"speak": "synthesizer", "listen": "recognizer", "detect": "voice_activity_detector"}
"""What an engine can do, and the method that does it. Overriding the method declares the ability."""


class SpeechEngine:
    """Base class of every engine. A plugin's class sets ``name`` and overrides the methods for what it can do.

    Importing the class must be cheap: ``start`` or the first use loads models and libraries.
    """

    name: ClassVar[str] = ""
    settings_type: ClassVar[type[EngineSettings]] = EngineSettings
    abilities: ClassVar[frozenset[str]] = frozenset()
    remote: ClassVar[bool] = False
    """True when audio or text leaves this machine. Such an engine is used only if it was named or configured."""
    rank: ClassVar[int] = 0
    """Quality among the engines of this machine. If an agent names no engine, the one with the highest rank is used."""
    free_speech: ClassVar[bool] = True
    """False if the recognizer is of little use without ``Hearing.phrases`` or ``Hearing.grammar``. An agent that has
    neither gets such an engine only if no other is installed."""
    obeys_grammar: ClassVar[bool] = False
    """True if the recognizer returns only what ``Hearing.grammar`` allows. An agent with a grammar gets it first."""
    needs_detector: ClassVar[bool] = False
    """True if the recognizer says nothing before ``finish()``. Without a voice detector nobody would call that in an
    agent's call, so such an engine is used there only if a detector is installed."""
    punctuates: ClassVar[bool] = False
    """True when recognized sentences end with a full stop, question mark or exclamation mark, so that words without one
    are taken as unfinished and the caller is given longer to go on."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.abilities = frozenset(
            ability
            for ability, method in ABILITIES.items()
            if getattr(cls, method) is not getattr(SpeechEngine, method)
        )

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self.settings = settings if settings is not None else self.settings_type()

    # --- what an engine may override ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load models before the first call. Optional; otherwise the first use loads them."""

    def knows_language(self, ability: str, language: str) -> bool:
        """Whether the engine, with its settings, can ``speak`` or ``listen`` in ``language`` (``en``, ``pt-BR``).

        Asked before each call, so it must be quick and load no model. An engine that returns False is not chosen for
        that language. Return True if only a call can tell.
        """
        return True

    def language_advice(self, ability: str, language: str) -> str:
        """What the operator can do so that the engine knows ``language``, such as another model, in a sentence; "" if
        nothing. Shown when an agent's calls are declined for its language."""
        return ""

    def knows_voice(self, voice: str) -> bool:
        """Whether the engine, with its settings, has a voice of that name.

        Asked before each call, so it must be quick and load no model. Among the engines of this machine, one that has
        the agent's voice is chosen before one that returns False. Return True if only a call can tell.
        """
        return True

    async def check(self) -> None:
        """Try the settings, for example by logging in. Raises ``SpeechFailed`` when they do not work.

        By default it opens and closes a synthesizer (or recognizer), which logs in where an engine connects per call.
        """
        if "speak" in self.abilities:
            await (await self.synthesizer()).aclose()
        elif "listen" in self.abilities:
            await (await self.recognizer()).aclose()

    async def aclose(self) -> None:
        """Stop workers and connections. Recognizers and detectors made for calls end; synthesizers may raise
        ``SpeechFailed``."""

    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        """A synthesizer for one call."""
        raise self._unable("speak")

    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        """A recognizer for one call."""
        raise self._unable("listen")

    async def voice_activity_detector(self, format: AudioFormat = PCMU_8K) -> VoiceActivityDetector:
        """A voice detector for one call."""
        raise self._unable("detect")

    # --- helpers --------------------------------------------------------------------------------------------------

    def _unable(self, ability: str) -> ConfigurationError:
        does = ", ".join(sorted(self.abilities)) or "nothing"
        return ConfigurationError(f"speech engine {self.name!r} cannot {ability} (it can: {does}). Name another engine")


def primary_language(language: str) -> str:
    """The first subtag of a language tag, in lower case: ``pt`` for ``pt-BR`` and ``PT_br``."""
    return language.strip().replace("_", "-").split("-")[0].lower()


T = TypeVar("T")

RESULTS_KEPT = 4096
"""Results kept while nobody reads; then the oldest are dropped."""


class ResultQueue(Generic[T]):
    """What an engine has recognized, put by callbacks and iterated by one task in the same event loop.

    ``put`` never waits. After all that was put, the iteration ends when the queue was closed, and raises when it was
    closed with a failure.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque(maxlen=RESULTS_KEPT)
        self._wake: asyncio.Future[None] | None = None
        self._closed = False
        self._failure: Exception | None = None

    @property
    def closed(self) -> bool:
        """True once nothing more can be put."""
        return self._closed

    def put(self, item: T) -> None:
        """Add a result; ignored once closed."""
        if not self._closed:
            self._items.append(item)
            self._ring()

    def close(self, failure: Exception | None = None) -> None:
        """End the iteration, raising ``failure`` if given. Only the first close counts."""
        if not self._closed:
            self._closed, self._failure = True, failure
            self._ring()

    def _ring(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def __aiter__(self) -> ResultQueue[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                if self._failure is not None:
                    raise self._failure
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._items.popleft()


class VoiceGate:
    """For a voice detector: window probabilities in, :class:`VoiceActivity` out, ``window`` seconds a step.

    A voice starts at ``threshold`` and lasts until it falls below ``release``. The gap between the two keeps a soft
    syllable in one piece. There is no smoothing over time: turn-taking (:mod:`anycarrier.speech.turns`) does the
    endpointing and collects the evidence for a barge-in, and each window of delay here would delay both.
    """

    def __init__(self, *, window: float = 0.032, threshold: float = 0.5, release: float = 0.35) -> None:
        self.window = window
        self.threshold = threshold
        self.release = release
        self._windows = 0
        self._voiced = False

    def feed(self, probability: float) -> list[VoiceActivity]:
        """The next window."""
        began = self._windows * self.window
        self._windows += 1
        ended = self._windows * self.window
        if self._voiced:
            if probability < self.release:
                self._voiced = False
                return [VoiceActivity(Voice.ENDED, began)]
            return [VoiceActivity(Voice.CONTINUES, ended)]
        if probability >= self.threshold:
            self._voiced = True
            return [VoiceActivity(Voice.STARTED, began), VoiceActivity(Voice.CONTINUES, ended)]
        return []
