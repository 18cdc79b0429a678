"""The speech engines of a process: opened once by name, shared by all calls, closed with the exchange."""

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
"""Seconds after which an engine that failed to start is started again, when it is next needed."""


class Engines:
    """Speech engines by name. ``settings`` maps an engine's name to its settings; unused engines are not opened.

    If an agent names no engine, the first with the ability is used: first those added here, then those with settings,
    then those installed that run on this machine. By default no audio leaves the machine.
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

    def default(self, ability: str) -> str | None:
        """Name of the engine used if none is named; None if no engine has the ability."""
        installed = speech_engine_names()
        names = [*self._added, *self._settings]
        for name in dict.fromkeys(names if self._shared is not None else names + installed):
            if name not in self._open and name not in installed:
                continue  # it has settings, but is no longer installed
            kind = type(self._open[name]) if name in self._open else get_speech_engine(name)
            ours = name in self._added or name in self._settings
            if ability in kind.abilities and (ours or not kind.remote):
                return name
        return self._shared.default(ability) if self._shared is not None else None

    def candidates(self, ability: str, name: str | None = None, fallback: str | None = None) -> list[SpeechEngine]:
        """The engines of a call in the order to try: the one named (or the default), then the fallback.

        Empty if none is named and none installed. An engine that cannot be opened is left out if the other can be;
        raises ``ConfigurationError`` if neither can.
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
        """Why :meth:`candidates` would fail or be empty, in a sentence that names the engine; None if all is well.

        Judged by what is installed, its settings and its last start; no connection is opened.
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
        """The object that opens the engine with that name: this one, or the one it shares with."""
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

    def needed(self, settings: AgentSettings) -> list[str]:
        """Names of the engines that a call with these settings uses first."""
        names = (
            settings.synthesizer or self.default("speak"),
            settings.recognizer or self.default("listen"),
            self.default("detect"),
        )
        return [name for name in names if name is not None]

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


def missing(ability: str) -> ConfigurationError:
    """The error for an ability that no installed engine has."""
    return ConfigurationError(
        f"no speech engine that {VERBS[ability]} is installed: docs/speech.md lists the engines and how to install them"
    )
