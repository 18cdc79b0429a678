"""The demo's callers: what they say, and with which of the installed engines.

Where the installed recognizer understands free speech, callers speak with an installed voice, in words of their own.
Otherwise they speak recorded sentences that a grammar allows.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.shared_engines import Engines
from anycarrier.audio import PCMU_8K, pcmu_to_pcm16
from anycarrier.demo.appointment import GRAMMAR, SETTINGS
from anycarrier.demo.calls import clip
from anycarrier.speech import SpeakingStyle, SpeechEngine, get_speech_engine, speech_engine_names

ABILITIES = ("speak", "listen", "detect")


@dataclass(frozen=True)
class Caller:
    """What a caller says: a request, a choice said over the list of times, and a reason.

    Each is a text, or the texts of one utterance with a hesitation between them; no reason where nobody asks for one.
    """

    request: tuple[str, ...]
    choice: tuple[str, ...]
    reason: tuple[str, ...] = ()

    @property
    def utterances(self) -> list[str]:
        """What is said, one utterance each."""
        return [" ".join(parts) for parts in (self.request, self.choice, self.reason) if parts]


CALLERS = (
    Caller(
        ("Good morning. My name is Emily Carter, and I would like to see the doctor.",),
        ("Wednesday afternoon would be perfect for me.",),
        ("I have had a pain in my", "left knee since I fell off my bicycle on Saturday."),
    ),
    Caller(
        ("Hello, this is Daniel Wright. Could you tell me when the doctor has time for me?",),
        ("I would rather come on Friday, at half past eleven.",),
        ("I need the results of", "my blood test from the second of November."),
    ),
    Caller(
        ("Hi, Laura Bennett speaking. My little boy has a fever. Can we come in this week?",),
        ("Could we have the one tomorrow morning, please?",),
        ("He has been coughing for three days, and", "last night he did not sleep at all."),
    ),
)
"""Callers with free speech, for one carrier after the other.

They stop in the middle at words that end no sentence. That is the easy half: a stop after "the" is often recognized as
"this", which may end one, and then the turn ends too early.
"""

BY_GRAMMAR = Caller(("i would like to book an appointment",), ("tomorrow morning please",))
"""What the recorded sentences say."""

CLIPS = {BY_GRAMMAR.request[0]: "appointment", BY_GRAMMAR.choice[0]: "tomorrow"}


@dataclass(frozen=True)
class Speech:
    """The engines of the demo's conversations, by name."""

    recognizer: str
    voice: str
    """The best voice: the agent's, and with free speech the callers'."""
    other_voice: str | None = None
    """The voice of the hard case, if a second one is installed."""
    free: bool = False

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the agent."""
        heard = {} if self.free else {"grammar": GRAMMAR}
        return {**SETTINGS, **heard, "enable_recording": True}


def installed_speech(engines: Engines) -> Speech | None:
    """What can be used here; None if an ability is missing.

    Callers speak freely if the recognizer used by default takes free speech, and the best voice is ranked above those
    that every recognizer misunderstands.
    """
    if missing(engines):
        return None
    recognizer, voice = (engines.default(ability, AgentSettings()) or "" for ability in ("listen", "speak"))
    if not get_speech_engine(recognizer).free_speech or get_speech_engine(voice).rank <= 0:
        return Speech(engines.default("listen", AgentSettings(grammar=GRAMMAR)) or "", voice)
    others = [name for name in speech_engine_names() if name != voice and _speaks_here(get_speech_engine(name))]
    lowest = min(others, key=lambda name: get_speech_engine(name).rank, default=None)
    return Speech(recognizer, voice, lowest, free=True)


def missing(engines: Engines) -> list[str]:
    """The abilities that no installed speech engine has; a conversation needs all three."""
    return [ability for ability in ABILITIES if engines.default(ability, AgentSettings()) is None]


def _speaks_here(engine: type[SpeechEngine]) -> bool:
    return "speak" in engine.abilities and not engine.remote


async def spoken(engine: SpeechEngine | None, parts: tuple[str, ...]) -> list[bytes]:
    """``parts`` as mu-law 8 kHz without silence around them; without an engine, the recorded clips of them."""
    if engine is None:
        return [clip(CLIPS[text]) for text in parts]
    voice = await engine.synthesizer(SpeakingStyle(format=PCMU_8K))
    try:
        return [trimmed(b"".join([piece async for piece in voice.speak(text)])) for text in parts]
    finally:
        await voice.aclose()


def trimmed(mulaw: bytes) -> bytes:
    """The audio from its first to its last loud sample (1 % of full scale), and 20 ms on either side."""
    loud = [at for at, sample in enumerate(array("h", pcmu_to_pcm16(mulaw))) if abs(sample) > 327]
    return mulaw[max(0, loud[0] - 160) : loud[-1] + 160] if loud else b""
