"""Which speech engine an agent's calls use, and which ones take over when it fails: a pure rule over what is installed.

An agent that names an engine gets it, and the fallback that it names. One that names neither gets the first engine of
:func:`in_order`; the engines of this machine that follow take over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from anycarrier.agent.settings import AgentSettings
from anycarrier.errors import ConfigurationError
from anycarrier.speech import SpeechEngine

VERBS = {"speak": "speaks", "listen": "listens", "detect": "detects a voice"}

ENGINE_SETTINGS = {"speak": ("synthesizer", "fallback_synthesizer"), "listen": ("recognizer", "fallback_recognizer")}
"""The agent settings that name the engine and the fallback engine for an ability."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine does ``ability`` for an agent, and why. ``engine`` is None if there is none.

    ``fallbacks`` take over in this order when it fails. ``problem`` says why the agent's calls lack the ability, None
    if they do not. ``warning`` is about an engine that works, but poorly, for such an agent, or says why another one
    does its work.
    """

    ability: str
    engine: str | None
    reason: str
    fallbacks: tuple[str, ...] = ()
    problem: str | None = None
    warning: str | None = None


class Origin(IntEnum):
    """Where an engine comes from; the first goes first."""

    ADDED = 0
    """Added in this process."""
    CONFIGURED = 1
    """Remote, with settings."""
    INSTALLED = 2
    """On this machine."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An engine that may be chosen for an agent that names none. ``knows_voice`` is False if the agent names a voice
    that the engine does not have."""

    name: str
    kind: type[SpeechEngine]
    origin: Origin
    knows_voice: bool = True


@dataclass(frozen=True, slots=True)
class Pick:
    """An engine to try, and why. ``weak``: the agent has no phrases and no grammar, which this recognizer needs."""

    name: str
    reason: str
    weak: bool = False


def picks(ability: str, settings: AgentSettings, offers: Iterable[Offer]) -> list[Pick]:
    """The engines of a call in the order to try. ``offers`` have the ability and know the agent's language."""
    fields = ENGINE_SETTINGS.get(ability, ())
    named = {field: Pick(name, f"named by {field}") for field in fields if (name := getattr(settings, field))}
    found = [named[fields[0]]] if fields and fields[0] in named else in_order(ability, settings, offers)
    if not fields or fields[1] not in named:
        return found
    fallback = named[fields[1]]
    return [*found[:1], *([] if found and found[0].name == fallback.name else [fallback])]


def in_order(ability: str, settings: AgentSettings, offers: Iterable[Offer]) -> list[Pick]:
    """The default engine, then those that take over from it: none from one that was added (whoever added it chose it),
    else those of this machine.

    A recognizer without free speech is used for an agent without phrases and grammar only if there is no other, or it
    was added.
    """
    known = list(offers)
    wordless = ability == "listen" and not settings.phrases and settings.grammar is None
    weak = wordless and not any(offer.kind.free_speech for offer in known)
    fit = [o for o in known if o.kind.free_speech or weak or not wordless or o.origin is Origin.ADDED]
    obeyed = ability == "listen" and settings.grammar is not None

    def place(offer: Offer) -> tuple[Origin, bool, bool, int]:
        if offer.origin is not Origin.INSTALLED:
            return offer.origin, False, False, 0
        return offer.origin, not offer.knows_voice, not (obeyed and offer.kind.obeys_grammar), -offer.kind.rank

    def reason(offer: Offer) -> str:
        if offer.origin is Origin.ADDED:
            return "added in this process"
        if offer.origin is Origin.CONFIGURED:
            return "remote, and has settings"
        if len(known) == 1:
            return "the only one that fits"
        if obeyed and offer.kind.obeys_grammar:
            return "obeys the agent's grammar"
        if offer.knows_voice and not all(other.knows_voice for other in known):
            return "has the agent's voice"
        return f"highest rank: {offer.kind.rank}"

    fit.sort(key=place)
    if fit and fit[0].origin is Origin.ADDED:
        fit = fit[:1]
    fit = fit[:1] + [offer for offer in fit[1:] if not offer.kind.remote]
    return [Pick(offer.name, reason(offer), wordless and not offer.kind.free_speech) for offer in fit]


def missing(ability: str) -> ConfigurationError:
    """The error for an ability that no installed engine has."""
    return ConfigurationError(
        f"no speech engine that {VERBS[ability]} is installed: docs/speech.md lists the engines and how to install them"
    )


def language_unknown(ability: str, language: str, asked: Iterable[str], advice: str = "") -> ConfigurationError:
    """The error for a language that none of the engines asked knows, when the agent names none. ``advice`` is what
    they propose."""
    return ConfigurationError(
        f"no speech engine here {VERBS[ability]} in {language!r} (asked: {', '.join(asked)}). Change the agent's "
        "setting language, or install or set up an engine that knows it: docs/speech.md lists the engines"
        + _also(advice)
    )


def language_refused(ability: str, language: str, engine: str, advice: str = "") -> ConfigurationError:
    """The error for a language that the engine named by the agent does not know. ``advice`` is what it proposes."""
    return ConfigurationError(
        f"speech engine {engine!r} does not {ability} in {language!r}. Change the agent's setting language, or name "
        f"another engine in {ENGINE_SETTINGS[ability][0]}{_also(advice)}"
    )


def _also(advice: str) -> str:
    return f". {advice}" if advice else ""


def needs_words(engine: str) -> str:
    """The warning for an agent whose recognizer needs phrases or a grammar, and that has neither."""
    return (
        f"the agent's recognizer {engine!r} gets most words wrong without phrases or a grammar. Install an "
        "engine for free speech (docs/speech.md), or set phrases or grammar"
    )


def detector_missing(engine: str) -> ConfigurationError:
    """The error for a recognizer that hears nothing in a call without a voice detector."""
    return ConfigurationError(
        f"speech engine {engine!r} needs a voice detector, which tells it when the caller has finished, and none is "
        "installed: docs/speech.md lists the engines and how to install them"
    )
