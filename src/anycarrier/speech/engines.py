"""What a speech engine is: it speaks, listens or detects a voice, and arrives by plugin hook.

An *engine* is one per process and owns what is dear (models, worker processes, connections); what it makes for a
call is small. No engine lives in anycarrier itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, get_args, runtime_checkable

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import AnycarrierError, ConfigurationError, PluginError, UnknownSpeechEngine
from anycarrier.redaction import redact
from anycarrier.speech.voice import VoiceActivity


@dataclass(frozen=True, slots=True)
class SpeakingStyle:
    """How to speak. ``voice`` is the engine's own name for a voice, empty for its default; ``speed`` 1.0 is normal.

    ``format`` is what the audio is to be in.
    """

    voice: str = ""
    language: str = "en-US"
    speed: float = 1.0
    format: AudioFormat = PCMU_8K


@dataclass(frozen=True, slots=True)
class Hearing:
    """What to listen for. ``phrases`` are what callers are likely to say, ``grammar`` (JSGF) all that they may say.

    Engines that know the whole language take ``phrases`` as hints and have no use for a grammar. ``format`` is what
    the audio will be in. ``cued``: every utterance will be announced by ``begin()``, so that audio outside utterances
    needs no work.
    """

    language: str = "en-US"
    phrases: tuple[str, ...] = ()
    grammar: str | None = None
    cued: bool = False
    format: AudioFormat = PCMU_8K


@dataclass(frozen=True, slots=True)
class Heard:
    """Words. An interim (``final`` False) is replaced by what follows it; final words stand.

    ``complete``: the utterance is over. Each ``finish()`` is answered by exactly one complete Heard, in order, with
    empty text when there was nothing; an engine that ends utterances by itself sends complete ones unasked too,
    but never while it owes an answer.
    """

    text: str
    final: bool = False
    complete: bool = False


@runtime_checkable
class Synthesizer(Protocol):
    """One call's voice."""

    format: AudioFormat

    def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """``text`` as sound in :attr:`format`, in pieces of any length, as fast as the engine is.

        Closing the generator, or cancelling the task that reads it, stops the synthesis. Raises ``SpeechFailed``.
        One text at a time; give it sentences, so that the first sound is not kept waiting by the last word.
        """
        ...

    async def aclose(self) -> None:
        """Let go of what the call held."""
        ...


@runtime_checkable
class Recognizer(Protocol):
    """One call's ear. Iterating it gives :class:`Heard` until it is closed; ``SpeechFailed`` if it cannot go on."""

    format: AudioFormat

    def feed(self, audio: bytes) -> None:
        """The next audio in :attr:`format`, any length. Never waits: what cannot be taken is dropped, oldest first."""
        ...

    def begin(self) -> None:
        """An utterance began at most half a second ago. A hint: engines that listen all the time ignore it."""
        ...

    def finish(self) -> None:
        """The utterance is over: answer with one complete Heard for what was fed since the last one."""
        ...

    def __aiter__(self) -> AsyncIterator[Heard]: ...

    async def aclose(self) -> None:
        """Stop listening; the iteration ends."""
        ...


@runtime_checkable
class VoiceActivityDetector(Protocol):
    """One call's sense of whether somebody speaks. Iterating it gives :class:`VoiceActivity` until it is closed."""

    format: AudioFormat

    def feed(self, audio: bytes) -> None:
        """The next audio in :attr:`format`, any length. Never waits."""
        ...

    def __aiter__(self) -> AsyncIterator[VoiceActivity]: ...

    async def aclose(self) -> None:
        """Stop; the iteration ends."""
        ...


class EngineSettings(BaseModel):
    """Base of an engine's settings; secrets are ``SecretStr``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    for_workspaces: ClassVar[frozenset[str]] = frozenset()
    """Settings that a tenant of the service may choose too, beside the secrets. Not where requests go."""

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """The settings that are secrets."""
        return frozenset(name for name, field in cls.model_fields.items() if _holds_secret(field.annotation))


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secret(inner) for inner in get_args(annotation))


ABILITIES = {"speak": "synthesizer", "listen": "recognizer", "detect": "voice_activity_detector"}
"""What an engine may be able to do, and the method that does it: overriding the method declares the ability."""


class SpeechEngine:
    """Base of every engine. A plugin's class has a ``name`` and overrides what it can do.

    Importing the class must be cheap: models and libraries are loaded by ``start`` or by the first use.
    """

    name: ClassVar[str] = ""
    settings_type: ClassVar[type[EngineSettings]] = EngineSettings
    abilities: ClassVar[frozenset[str]] = frozenset()
    remote: ClassVar[bool] = False
    """True when audio leaves this machine: such an engine is used only where somebody named or configured it."""

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
        """Load what takes time, before the first call needs it. Optional: first use does it otherwise."""

    async def check(self) -> None:
        """Try the settings: log in, without a sound. Raises ``SpeechFailed`` when they do not work.

        Unless overridden it opens a voice (or an ear) and closes it: a login for engines that connect for each call.
        """
        if "speak" in self.abilities:
            await (await self.synthesizer()).aclose()
        elif "listen" in self.abilities:
            await (await self.recognizer()).aclose()

    async def aclose(self) -> None:
        """Stop workers and connections. What was made for calls is of no use afterwards."""

    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        """A voice for one call."""
        raise self._unable("speak")

    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        """An ear for one call."""
        raise self._unable("listen")

    async def voice_activity_detector(self, format: AudioFormat = PCMU_8K) -> VoiceActivityDetector:
        """A voice detector for one call."""
        raise self._unable("detect")

    # --- helpers --------------------------------------------------------------------------------------------------

    def _unable(self, ability: str) -> ConfigurationError:
        does = ", ".join(sorted(self.abilities)) or "nothing"
        return ConfigurationError(f"speech engine {self.name!r} cannot {ability} (it can: {does}). Name another engine")


_asked: tuple[list[Any], dict[str, type[SpeechEngine]]] = ([], {})
"""The hooks that were asked last, and what they answered: every call looks for its engines."""


def _installed() -> dict[str, type[SpeechEngine]]:
    global _asked
    from anycarrier import plugins

    impls = plugins.host().manager.hook.anycarrier_speech_engines.get_hookimpls()
    if impls != _asked[0]:
        _asked = impls, _found(impls)
    return _asked[1]


def _found(impls: list[Any]) -> dict[str, type[SpeechEngine]]:
    found: dict[str, type[SpeechEngine]] = {}
    for impl in impls:
        classes: Any = impl.function()
        for engine in classes:
            if not (isinstance(engine, type) and issubclass(engine, SpeechEngine) and engine.name):
                raise PluginError(f"{impl.plugin_name} gave {engine!r}, which is not a SpeechEngine class with a name")
            other = found.setdefault(engine.name, engine)
            if other is not engine:
                raise PluginError(
                    f"speech engine {engine.name!r} is claimed by {other.__module__} and by {engine.__module__}. "
                    "Uninstall one of them, or choose with ANYCARRIER_PLUGINS"
                )
    return found


def speech_engine_names() -> list[str]:
    """Names of the installed engines."""
    return sorted(_installed())


def get_speech_engine(name: str) -> type[SpeechEngine]:
    """The engine class of that name, or ``UnknownSpeechEngine``, which says what to install."""
    found = _installed()
    if name not in found:
        raise UnknownSpeechEngine(name, found)
    return found[name]


def _wrong(where: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, where))}: {message}".removeprefix(": ").replace("Value error, ", "")


def open_speech_engine(name: str, settings: Mapping[str, Any] | EngineSettings | None = None) -> SpeechEngine:
    """The engine of that name, set up; ``ConfigurationError`` when its settings do not fit."""
    cls = get_speech_engine(name)
    if not isinstance(settings, EngineSettings):
        try:
            settings = cls.settings_type.model_validate(dict(settings or {}))
        except ValidationError as failure:
            wrong = "; ".join(_wrong(error["loc"], error["msg"]) for error in failure.errors())
            raise ConfigurationError(f"settings of speech engine {name!r} do not fit: {wrong}") from None
    if not isinstance(settings, cls.settings_type):
        raise ConfigurationError(f"speech engine {name!r} needs {cls.settings_type.__name__}")
    try:
        return cls(settings)
    except AnycarrierError:
        raise
    except Exception as failure:
        raise PluginError(
            f"speech engine {name!r} cannot be set up: {type(failure).__name__}: {redact(str(failure))}"
        ) from failure
