"""The speech engines of a process: opened once by name, shared by all calls, closed with the exchange; and which of
them an agent's calls use.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from anycarrier import plugins
from anycarrier.agent.engine_choice import (
    ENGINE_SETTINGS,
    VERBS,
    EngineChoice,
    Offer,
    Origin,
    Pick,
    detector_missing,
    language_refused,
    language_unknown,
    missing,
    needs_words,
    picks,
)
from anycarrier.agent.settings import AgentSettings
from anycarrier.errors import AnycarrierError, ConfigurationError, UnknownSpeechEngine
from anycarrier.speech import EngineSettings, SpeechEngine, get_speech_engine, open_speech_engine, speech_engine_names

log = logging.getLogger("anycarrier")

RETRY = 30.0
"""Seconds after which an engine that failed to start is started again, when it is next needed."""


class Engines:
    """Speech engines by name. ``settings`` maps an engine's name to its settings; unused engines are not started.

    If an agent names no engine, these are tried in order: engines added here; remote engines with settings; engines
    installed on this machine, first those that have the agent's voice, or obey grammars if it has a grammar, then by
    ``rank``, then by name. An engine that does not know the agent's language is passed over. By default no audio leaves
    the machine.
    """

    def __init__(self, settings: Mapping[str, Mapping[str, Any] | EngineSettings] | None = None) -> None:
        self._settings = dict(settings or {})
        self._open: dict[str, SpeechEngine] = {}
        self._added: list[str] = []
        self._asked: set[str] = set()
        self._failed: dict[str, tuple[str, float]] = {}  # name -> why it did not start, when
        self._loading: set[asyncio.Task[None]] = set()
        self._shared: Engines | None = None

    def add(self, engine: SpeechEngine) -> None:
        """Add an engine that is already set up, under its own name; it is closed with the others."""
        self._open[engine.name] = engine
        self._added.append(engine.name)

    def engine(self, name: str) -> SpeechEngine:
        """The engine with that name, opened on first use; raises ``ConfigurationError`` if it cannot be opened."""
        if (holder := self._holder(name)) is not self:
            return holder.engine(name)
        if name not in self._open:
            self._open[name] = open_speech_engine(name, self._settings.get(name))
        return self._open[name]

    def within(self, settings: Mapping[str, Mapping[str, Any]]) -> Engines:
        """These engines with some settings replaced: engines named there are opened separately, all others are shared.

        Close the result when done; that closes only the separate engines.
        """
        merged: dict[str, Any] = {}
        for name, own in settings.items():
            held = self._settings.get(name) or {}
            fields = held.model_dump(exclude_unset=True) if isinstance(held, EngineSettings) else held
            merged[name] = {**fields, **own}
        made = Engines(merged)
        made._shared = self
        return made

    # --- which engine ------------------------------------------------------------------------------------------------

    def default(self, ability: str, settings: AgentSettings | None = None) -> str | None:
        """Name of the engine used for an agent with these settings if it names none; None if no engine fits."""
        settings = settings or AgentSettings()
        unnamed = dict.fromkeys(ENGINE_SETTINGS.get(ability, ()))
        return next((pick.name for pick in self._picks(ability, settings.model_copy(update=unnamed))), None)

    def explain(self, settings: AgentSettings | None = None) -> list[EngineChoice]:
        """The engines of an agent with these settings, for each ability, and why they are chosen."""
        return [self._explain(ability, settings or AgentSettings()) for ability in VERBS]

    def candidates(self, ability: str, settings: AgentSettings | None = None) -> list[SpeechEngine]:
        """The engines of a call in the order to try: the one named (or the default), then the fallbacks.

        Empty if none with the ability is installed. An engine that cannot be opened, or does not know the agent's
        language, is left out if there is another; raises ``ConfigurationError`` if there is none.
        """
        settings = settings or AgentSettings()
        engines: list[SpeechEngine] = []
        refused: ConfigurationError | None = None
        for pick in self._picks(ability, settings):
            try:
                engines.append(self._able(ability, pick.name, settings.language))
            except ConfigurationError as problem:
                refused = refused or problem
        if not engines and (refused is not None or any(self._offers(ability))):
            raise refused or self._none(ability, settings)
        if refused is not None:
            log.warning("%s %s instead: %s", engines[0].name, VERBS[ability], refused)
        return engines

    def lacks(self, settings: AgentSettings, needs: Iterable[str]) -> str | None:
        """Why the calls of an agent with these settings lack an ability that it ``needs`` (``speak``, ``listen``), in
        sentences that name the engines; None if all is well.

        Judged by what is installed, its settings and its last start; no connection is opened.
        """
        found = [why for ability in sorted(needs) if (why := self._lack(ability, settings)) is not None]
        return "; ".join(dict.fromkeys(found)) or None

    def needed(self, settings: AgentSettings) -> list[str]:
        """Names of the engines that a call with these settings uses first."""
        found = [self._picks(ability, settings) for ability in VERBS]
        return list(dict.fromkeys(one[0].name for one in found if one))

    def problem(self, ability: str, name: str, language: str | None = None) -> str | None:
        """Why the engine with that name cannot do this (in this language), in a sentence; None if it is ready.

        Judged as by :meth:`lacks`.
        """
        try:
            self._able(ability, name, language)
        except UnknownSpeechEngine as unknown:
            broken = [str(why) for plugin, why in plugins.broken_plugins().items() if name in plugin]
            return "; ".join(broken) or str(unknown)
        except AnycarrierError as problem:
            return str(problem)
        holder = self._holder(name)
        if (failed := holder._failed.get(name)) is None:
            return None
        why, at = failed
        if time.monotonic() - at > RETRY:
            holder._failed[name] = (why, time.monotonic())
            holder._asked.discard(name)
            holder.start_soon([name])
        return f"speech engine {name!r} does not start: {why}"

    async def check(self, name: str) -> None:
        """Try the engine's settings now; raises what it raises. A failed start is forgotten if the engine works."""
        await self.engine(name).check()
        self._holder(name)._failed.pop(name, None)

    def _explain(self, ability: str, settings: AgentSettings) -> EngineChoice:
        found, problem = self._picks(ability, settings), self._lack(ability, settings)
        if not found:
            return EngineChoice(ability, None, "none fits", problem=problem)
        first, *others = found
        warning = needs_words(first.name) if first.weak else None
        if problem is None and (why := self.problem(ability, first.name, settings.language)) is not None:
            ready = next(p.name for p in others if self.problem(ability, p.name, settings.language) is None)
            warning = f"{why}; {ready!r} {VERBS[ability]} instead"
        return EngineChoice(ability, first.name, first.reason, tuple(p.name for p in others), problem, warning)

    def _lack(self, ability: str, settings: AgentSettings) -> str | None:
        found: list[str] = []
        for pick in self._picks(ability, settings):
            if (why := self.problem(ability, pick.name, settings.language)) is None:
                return None
            found.append(why)
        return "; ".join(found) or str(self._none(ability, settings))

    def _none(self, ability: str, settings: AgentSettings) -> ConfigurationError:
        """Why no engine fits an agent that names none."""
        asked = [offer.name for offer in self._offers(ability)]
        if not asked:
            return missing(ability)
        advice = (self._language_advice(ability, name, settings.language) for name in asked)
        return language_unknown(ability, settings.language, asked, ". ".join(filter(None, advice)))

    def _language_advice(self, ability: str, name: str, language: str) -> str:
        try:
            return self.engine(name).language_advice(ability, language)
        except Exception as bug:  # noqa: BLE001 a plugin's own; the error is told without it
            log.warning("speech engine %s has no advice on %r: %s", name, language, type(bug).__name__)
            return ""

    def _picks(self, ability: str, settings: AgentSettings) -> list[Pick]:
        offers = [o for o in self._offers(ability) if self._knows(ability, o.name, settings.language)]
        if ability == "speak" and (voice := settings.voice):
            offers = [replace(offer, knows_voice=self._knows_voice(offer.name, voice)) for offer in offers]
        return picks(ability, settings, offers)

    def _offers(self, ability: str) -> list[Offer]:
        """The engines with that ability that may be used unnamed."""
        found: dict[str, Offer] = {}
        for name, origin in self._origins():
            try:
                kind = type(self._holder(name)._open[name]) if self._is_open(name) else get_speech_engine(name)
            except UnknownSpeechEngine:
                continue  # it has settings, but is no longer installed
            unnamed = origin is Origin.ADDED or kind.remote is (origin is Origin.CONFIGURED)
            if ability in kind.abilities and unnamed:
                found.setdefault(name, Offer(name, kind, origin))
        return list(found.values())

    def _origins(self) -> Iterator[tuple[str, Origin]]:
        """Names of engines in the order of their origin; a workspace's own go before those it shares."""
        holders = [self] if self._shared is None else [self, self._shared]
        for holder in holders:
            yield from ((name, Origin.ADDED) for name in holder._added)
        for holder in holders:
            yield from ((name, Origin.CONFIGURED) for name in holder._settings)
        yield from ((name, Origin.INSTALLED) for name in speech_engine_names())

    def _is_open(self, name: str) -> bool:
        return name in self._holder(name)._open

    def _knows(self, ability: str, name: str, language: str) -> bool:
        if ability not in ENGINE_SETTINGS:
            return True  # no language matters for it
        try:
            return self.engine(name).knows_language(ability, language)
        except AnycarrierError:
            return True  # it cannot be opened: problem() says why
        except Exception as bug:  # noqa: BLE001 a plugin's own; the other engines still work
            log.warning("speech engine %s was asked for %r and failed: %s", name, language, type(bug).__name__)
            return False

    def _knows_voice(self, name: str, voice: str) -> bool:
        try:
            return self.engine(name).knows_voice(voice)
        except AnycarrierError:
            return True  # as for a language

    def _holder(self, name: str) -> Engines:
        """The object that opens the engine with that name: this one, or the one it shares with."""
        own = name in self._settings or name in self._added
        return self if self._shared is None or own else self._shared

    def _able(self, ability: str, name: str, language: str | None) -> SpeechEngine:
        engine = self.engine(name)
        if ability not in engine.abilities:
            raise ConfigurationError(
                f"speech engine {engine.name!r} cannot {ability} (it can: {', '.join(sorted(engine.abilities))})"
            )
        if language is not None and not self._knows(ability, name, language):
            raise language_refused(ability, language, name, self._language_advice(ability, name, language))
        if ability == "listen" and engine.needs_detector and not self._offers("detect"):
            raise detector_missing(name)
        return engine

    async def start(self, names: Iterable[str | None]) -> None:
        """Start these before the first call. A failure is logged; calls then use the fallback."""

        async def start(name: str) -> None:
            failed = self._holder(name)._failed
            try:
                await self.engine(name).start()
                failed.pop(name, None)
            except Exception as problem:  # noqa: BLE001 a plugin's own; the others still start
                why = str(problem) if isinstance(problem, AnycarrierError) else type(problem).__name__
                failed[name] = (why, time.monotonic())
                log.error("speech engine %s is not ready: %s", name, why)

        await asyncio.gather(*(start(name) for name in dict.fromkeys(n for n in names if n is not None)))

    def start_soon(self, names: Iterable[str]) -> None:
        """Start these in the background, each of them once."""
        names = list(names)
        if self._shared is not None:
            self._shared.start_soon(name for name in names if self._holder(name) is not self)
        if wanted := [name for name in dict.fromkeys(names) if self._holder(name) is self and name not in self._asked]:
            self._asked.update(wanted)
            task = asyncio.ensure_future(self.start(wanted))
            self._loading.add(task)
            task.add_done_callback(self._loading.discard)

    async def settled(self) -> None:
        """Wait for engines that are being started; :meth:`problem` then tells the result."""
        shared = self._shared._loading if self._shared is not None else ()
        await asyncio.gather(*self._loading, *shared, return_exceptions=True)

    async def aclose(self) -> None:
        """Close all open engines; the next use opens them again."""
        await asyncio.gather(*self._loading, return_exceptions=True)
        self._asked.clear()
        self._failed.clear()
        engines, self._open = list(self._open.values()), {}
        self._added.clear()
        await asyncio.gather(*(engine.aclose() for engine in engines), return_exceptions=True)
