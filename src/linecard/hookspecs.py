"""The hooks a plugin may implement. Few, synchronous, and documented in docs/write-a-provider.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from linecard.agent.analysis import Analyzer
    from linecard.events import CallEvent
    from linecard.provider import Provider
    from linecard.registry import Line
    from linecard.speech.engines import SpeechEngine

hookspec = pluggy.HookspecMarker("linecard")
hookimpl = pluggy.HookimplMarker("linecard")


@hookspec
def linecard_providers() -> Iterable[type[Provider]]:  # type: ignore[empty-body]
    """Provider classes this plugin adds."""


@hookspec
def linecard_speech_engines() -> Iterable[type[SpeechEngine]]:  # type: ignore[empty-body]
    """Speech engine classes this plugin adds."""


@hookspec
def linecard_analyzers() -> Iterable[type[Analyzer]]:  # type: ignore[empty-body]
    """Analyzer classes this plugin adds: what came of a call, told once it is over."""


@hookspec
def linecard_call_event(event: CallEvent, line: Line | None) -> None:
    """Observe a verified event; return fast."""
