"""The speech engines of one process: opened once by name, shared by all calls, closed with the exchange."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from anycarrier import plugins
from anycarrier.agent.settings import AgentSettings
from anycarrier.errors import AnycarrierError, ConfigurationError, UnknownSpeechEngine
from anycarrier.speech import EngineSettings, SpeechEngine, get_speech_engine, open_speech_engine, speech_engine_names

log = logging.getLogger("anycarrier")

VERBS = {"speak": "speaks", "listen": "listens", "detect": "detects a voice"}

ENGINE_SETTINGS = {"speak": ("synthesizer", "fallback_synthesizer"), "listen": ("recognizer", "fallback_recognizer")}
"""The agent settings that name the engine and the fallback engine for an ability."""

RETRY = 30.0
"""Seconds after which an engine that did not start is started again, once somebody asks for it."""


class Engines:
    """``settings``: engine name -> its settings. An engine nobody names costs nothing.

    Where an agent names no engine, the first that has the ability is taken: of those added here, then of those with
    settings, then of those installed that work on this machine. Nobody's voice goes elsewhere by default.
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
        """Have an engine that is set up already, under its own name; it is closed with the others."""
        self._open[engine.name] = engine
        self._added.append(engine.name)

    def engine(self, name: str) -> SpeechEngine:
        """The engine of that name, set up by the first who asks; ``ConfigurationError`` when it cannot be."""
        if (holder := self._holder(name)) is not self:
            return holder.engine(name)
        if name not in self._open:
            self._open[name] = open_speech_engine(name, self._settings.get(name))
        return self._open[name]

    def within(self, settings: Mapping[str, Mapping[str, Any]]) -> Engines:
        """These engines with some settings of one's own: engines named there are opened apart, all others are shared.

        To be closed by whoever asked for it; that closes its own engines only.
        """
        merged: dict[str, Any] = {}
        for name, own in settings.items():
            held = self._settings.get(name) or {}
            fields = held.model_dump(exclude_unset=True) if isinstance(held, EngineSettings) else held
            merged[name] = {**fields, **own}
        made = Engines(merged)
        made._shared = self
        return made

    def default(self, ability: str) -> str | None:
        """Name of the engine taken where none is named; None when nothing here has the ability."""
        installed = speech_engine_names()
        names = [*self._added, *self._settings]
        for name in dict.fromkeys(names if self._shared is not None else names + installed):
            if name not in self._open and name not in installed:
                continue  # settings for an engine that is gone are no reason to have none
            kind = type(self._open[name]) if name in self._open else get_speech_engine(name)
            ours = name in self._added or name in self._settings
            if ability in kind.abilities and (ours or not kind.remote):
                return name
        return self._shared.default(ability) if self._shared is not None else None

    def candidates(self, ability: str, name: str | None = None, fallback: str | None = None) -> list[SpeechEngine]:
        """Engines for a call in the order to try them: the one named (or the default), then the fallback.

        Empty when none is named and none installed. One that cannot be had is left out when the other can;
        ``ConfigurationError`` when neither can.
        """
        engines: list[SpeechEngine] = []
        refused: ConfigurationError | None = None
        for each in self._in_order(ability, name, fallback):
            try:
                engines.append(self._able(ability, each))
            except ConfigurationError as problem:
                refused = refused or problem
        if refused is not None:
            if not engines:
                raise refused
            log.warning("%s %s instead: %s", engines[0].name, VERBS[ability], refused)
        return engines

    def problem(self, ability: str, name: str | None = None, fallback: str | None = None) -> str | None:
        """Why a call could not :meth:`candidates` its engine, in a sentence with the engine's name; None when it can.

        Told from what is installed, its settings, and how its last start went: nothing is opened at a carrier or cloud.
        """
        found: list[str] = []
        for each in self._in_order(ability, name, fallback):
            if (why := self._why_not(ability, each)) is None:
                return None
            found.append(why)
        return "; ".join(found) or str(missing(ability))

    def lacks(self, settings: AgentSettings, needs: Iterable[str]) -> str | None:
        """:meth:`problem` of all that an agent with these settings ``needs`` (``speak``, ``listen``)."""
        named = {ability: [getattr(settings, field) for field in ENGINE_SETTINGS[ability]] for ability in needs}
        found = [why for ability in sorted(named) if (why := self.problem(ability, *named[ability])) is not None]
        return "; ".join(dict.fromkeys(found)) or None

    def _holder(self, name: str) -> Engines:
        """Who opens the engine of that name: we, or whoever shares theirs with us."""
        return self._shared if self._shared is not None and name not in self._settings else self

    def _in_order(self, ability: str, name: str | None, fallback: str | None) -> list[str]:
        return list(dict.fromkeys(n for n in (name or self.default(ability), fallback) if n is not None))

    def _able(self, ability: str, name: str) -> SpeechEngine:
        engine = self.engine(name)
        if ability not in engine.abilities:
            raise ConfigurationError(
                f"speech engine {engine.name!r} cannot {ability} (it can: {', '.join(sorted(engine.abilities))})"
            )
        return engine

    def _why_not(self, ability: str, name: str) -> str | None:
        try:
            self._able(ability, name)
        except UnknownSpeechEngine as unknown:
            broken = [str(why) for plugin, why in plugins.broken_plugins().items() if name in plugin]
            return "; ".join([*broken]) or str(unknown)
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

    async def start(self, names: Iterable[str | None]) -> None:
        """Have these loaded before the first call. One that cannot start is logged; its calls take their fallback."""

        async def start(name: str) -> None:
            failed = self._holder(name)._failed
            try:
                await self.engine(name).start()
                failed.pop(name, None)
            except Exception as problem:  # noqa: BLE001 a plugin's own; the others start all the same
                why = str(problem) if isinstance(problem, AnycarrierError) else type(problem).__name__
                failed[name] = (why, time.monotonic())
                log.error("speech engine %s is not ready: %s", name, why)

        await asyncio.gather(*(start(name) for name in dict.fromkeys(n for n in names if n is not None)))

    def needed(self, settings: AgentSettings) -> list[str]:
        """Names of the engines that a call of this agent begins with."""
        names = (
            settings.synthesizer or self.default("speak"),
            settings.recognizer or self.default("listen"),
            self.default("detect"),
        )
        return [name for name in names if name is not None]

    def start_soon(self, names: Iterable[str]) -> None:
        """Have these loaded without waiting for it; nothing happens for those that this was said of already."""
        names = list(names)
        if self._shared is not None:
            self._shared.start_soon(name for name in names if self._holder(name) is not self)
        if wanted := [name for name in dict.fromkeys(names) if self._holder(name) is self and name not in self._asked]:
            self._asked.update(wanted)
            task = asyncio.ensure_future(self.start(wanted))
            self._loading.add(task)
            task.add_done_callback(self._loading.discard)

    async def settled(self) -> None:
        """Wait for all that are being started; how it went is told by :meth:`problem`."""
        shared = self._shared._loading if self._shared is not None else ()
        await asyncio.gather(*self._loading, *shared, return_exceptions=True)

    async def aclose(self) -> None:
        """Close all that were opened; the next use opens them anew."""
        await asyncio.gather(*self._loading, return_exceptions=True)
        self._asked.clear()
        self._failed.clear()
        engines, self._open = list(self._open.values()), {}
        self._added.clear()
        await asyncio.gather(*(engine.aclose() for engine in engines), return_exceptions=True)


def missing(ability: str) -> ConfigurationError:
    """What to tell a caller of ours who needs an ability that nothing installed has."""
    return ConfigurationError(
        f"no speech engine that {VERBS[ability]} is installed: install one, e.g. anycarrier-speech-local"
    )
