"""The speech engines of one process: opened once by name, shared by all calls, closed with the exchange."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from linecard.agent.settings import AgentSettings
from linecard.errors import ConfigurationError, LinecardError
from linecard.speech import EngineSettings, SpeechEngine, get_speech_engine, open_speech_engine, speech_engine_names

log = logging.getLogger("linecard")

VERBS = {"speak": "speaks", "listen": "listens", "detect": "detects a voice"}


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
        self._loading: set[asyncio.Task[None]] = set()

    def add(self, engine: SpeechEngine) -> None:
        """Have an engine that is set up already, under its own name; it is closed with the others."""
        self._open[engine.name] = engine
        self._added.append(engine.name)

    def engine(self, name: str) -> SpeechEngine:
        """The engine of that name, set up by the first who asks; ``ConfigurationError`` when it cannot be."""
        if name not in self._open:
            self._open[name] = open_speech_engine(name, self._settings.get(name))
        return self._open[name]

    def default(self, ability: str) -> str | None:
        """Name of the engine taken where none is named; None when nothing here has the ability."""
        for name in dict.fromkeys([*self._added, *self._settings, *speech_engine_names()]):
            kind = type(self._open[name]) if name in self._open else get_speech_engine(name)
            ours = name in self._added or name in self._settings
            if ability in kind.abilities and (ours or not kind.remote):
                return name
        return None

    def candidates(self, ability: str, name: str | None = None, fallback: str | None = None) -> list[SpeechEngine]:
        """Engines for a call in the order to try them: the one named (or the default), then the fallback.

        Empty when none is named and none installed. ``ConfigurationError`` when a named one cannot do it.
        """
        names = dict.fromkeys(n for n in (name or self.default(ability), fallback) if n is not None)
        engines = [self.engine(n) for n in names]
        for engine in engines:
            if ability not in engine.abilities:
                raise ConfigurationError(
                    f"speech engine {engine.name!r} cannot {ability} (it can: {', '.join(sorted(engine.abilities))})"
                )
        return engines

    async def start(self, names: Iterable[str | None]) -> None:
        """Have these loaded before the first call. One that cannot start is logged; its calls take their fallback."""

        async def start(name: str) -> None:
            try:
                await self.engine(name).start()
            except LinecardError as problem:
                log.error("speech engine %s is not ready: %s", name, problem)

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
        if wanted := [name for name in dict.fromkeys(names) if name not in self._asked]:
            self._asked.update(wanted)
            task = asyncio.ensure_future(self.start(wanted))
            self._loading.add(task)
            task.add_done_callback(self._loading.discard)

    async def aclose(self) -> None:
        """Close all that were opened; the next use opens them anew."""
        await asyncio.gather(*self._loading, return_exceptions=True)
        self._asked.clear()
        engines, self._open = list(self._open.values()), {}
        self._added.clear()
        await asyncio.gather(*(engine.aclose() for engine in engines), return_exceptions=True)


def missing(ability: str) -> ConfigurationError:
    """What to tell a caller of ours who needs an ability that nothing installed has."""
    return ConfigurationError(
        f"no speech engine that {VERBS[ability]} is installed: install one, e.g. linecard-speech-local"
    )
