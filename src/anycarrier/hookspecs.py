"""The hooks a plugin may implement. Few, synchronous, and documented in docs/write-a-provider.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from anycarrier.agent.analysis import Analyzer
    from anycarrier.agent.settings import AgentSettings
    from anycarrier.events import CallEvent
    from anycarrier.provider import Provider
    from anycarrier.routing import Line
    from anycarrier.speech.endpointing import EndOfTurn
    from anycarrier.speech.engines import SpeechEngine

hookspec = pluggy.HookspecMarker("anycarrier")
hookimpl = pluggy.HookimplMarker("anycarrier")


@hookspec
def anycarrier_providers() -> Iterable[type[Provider]]:  # type: ignore[empty-body]
    """Provider classes this plugin adds."""


@hookspec
def anycarrier_speech_engines() -> Iterable[type[SpeechEngine]]:  # type: ignore[empty-body]
    """Speech engine classes this plugin adds."""


@hookspec
def anycarrier_analyzers() -> Iterable[type[Analyzer]]:  # type: ignore[empty-body]
    """Analyzer classes this plugin adds: the outcome of a call, reported when it ends."""


@hookspec(firstresult=True)
def anycarrier_end_of_turn(settings: AgentSettings) -> EndOfTurn | None:
    """The rule for the end of a caller's turn in this agent's calls; None for anycarrier's own."""


@hookspec
def anycarrier_call_event(event: CallEvent, line: Line | None) -> None:
    """Observe a verified event; return fast."""
