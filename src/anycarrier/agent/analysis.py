"""Analysis of a finished call: an outcome and a summary, from installed analyzers or from heuristics."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.transcript import Segment
from anycarrier.calls import Call, EndReason

log = logging.getLogger("anycarrier")

BOOKED = "Appointment Booked"
INTERESTED = "Interested"
NOT_INTERESTED = "Not Interested"
NOT_CONNECTED = "Not Connected"
VOICEMAIL = "Voicemail"


@dataclass(frozen=True, slots=True)
class Analysis:
    """The result of a call. ``outcome`` is a label, or None if unclear; ``source`` names the analyzer."""

    outcome: str | None
    summary: str
    source: str


@dataclass(frozen=True, slots=True)
class FinishedCall:
    """What ``Agents(finished=...)`` and analyzers receive, once for each call.

    ``call`` is the call as it ended, ``segments`` its transcript in order, ``reason`` why it ended, ``seconds`` how
    long the conversation lasted, ``notes`` its other events (kind, facts), ``latency_ms`` the caller's waits in
    milliseconds by kind (:class:`anycarrier.agent.turn_taking.Timings`), ``variables`` those of agent and call,
    ``recording`` the WAV file if there is one, ``analysis`` the result (None while an analyzer works on it).
    """

    call: Call
    agent_id: str
    settings: AgentSettings
    reason: EndReason
    seconds: float
    segments: tuple[Segment, ...]
    notes: tuple[tuple[str, dict[str, Any]], ...]
    latency_ms: Mapping[str, list[float]]
    variables: Mapping[str, Any]
    recording: Path | None = None
    analysis: Analysis | None = None

    @property
    def reference(self) -> str:
        """The call's reference, as ``exchange.dial`` returned it."""
        return self.call.reference

    @property
    def barge_ins(self) -> int:
        """How often the caller interrupted the agent."""
        return sum(kind == "barge_in" for kind, _ in self.notes)


Finished = Callable[[FinishedCall], Awaitable[None]]
"""Called once for each call, after it is over and analyzed. If it raises, the exception is logged."""


@runtime_checkable
class Analyzer(Protocol):
    """Analyzes a finished call. Plugins bring classes without constructor arguments; a platform passes instances."""

    name: ClassVar[str]

    async def analyze(self, finished: FinishedCall) -> Analysis:
        """The outcome and summary. If it raises, that is logged and the next analyzer is asked."""
        ...


async def analyze_call(finished: FinishedCall, analyzers: Sequence[Analyzer] | None = None) -> Analysis:
    """Ask ``analyzers`` (default: those installed) in order until one succeeds; else use heuristics."""
    for analyzer in installed() if analyzers is None else analyzers:
        try:
            return await analyzer.analyze(finished)
        except Exception as failure:  # noqa: BLE001 - third-party code
            # No traceback: it could quote the transcript.
            log.error("analyzer %s failed: %s", analyzer.name, type(failure).__name__)
    return await Heuristic().analyze(finished)


def installed() -> list[Analyzer]:
    """An instance of each analyzer that plugins bring."""
    from anycarrier import plugins

    found = plugins.host().manager.hook.anycarrier_analyzers()
    return [kind() for kinds in found for kind in kinds]


class Heuristic:
    """Heuristics for an English transcript; the last resort."""

    name = "heuristic"

    async def analyze(self, finished: FinishedCall) -> Analysis:
        """A label if the words are clear, else None; the summary quotes the transcript."""
        return Analysis(outcome(finished), summary(finished), self.name)


_AGREED = re.compile(
    r"\b(is|are|you're|it's|have|been|get) (now )?(all )?(booked|confirmed|scheduled|set for|reserved)\b"
    r"|\bbooked (you|it|your)\b|\bsee you (on|at|then|tomorrow)\b"
)
_REFUSED = re.compile(
    r"\bnot interested\b|\bno,? thank(s| you)\b|\bstop calling\b|\bdon't (call|want)\b|\bremove me\b"
    r"|\bnot (for me|now)\b"
)
_KEEN = re.compile(
    r"\b(i'm|i am|we're|very|quite) interested\b|\btell me more\b|\bsounds (good|great)\b|\bsend me\b|\bcall me back\b"
)
_YES = re.compile(r"\b(yes|yeah|yep|sure|correct|please do|go ahead|okay|that's right)\b")


def outcome(finished: FinishedCall) -> str | None:
    """One of the labels above, or None if the call was too short or too ambiguous."""
    remote = [s for s in finished.segments if s.party == "remote"]
    if finished.reason is EndReason.VOICEMAIL or finished.call.answered_by == "machine":
        return VOICEMAIL
    if finished.call.answered_at is None:
        return NOT_CONNECTED
    if _booked(finished.segments):
        return BOOKED
    said = " . ".join(s.text.lower() for s in remote)
    refused, keen = bool(_REFUSED.search(said)), bool(_KEEN.search(said))
    if refused != keen:
        return NOT_INTERESTED if refused else INTERESTED
    return None


def _booked(segments: tuple[Segment, ...]) -> bool:
    """The call was about an appointment, the agent said that it is booked, and the caller had not just declined."""
    about = any(re.search(r"\b(appointment|booking|book|table|reservation|slot)\b", s.text.lower()) for s in segments)
    declined = False
    for segment in segments:
        text = segment.text.lower()
        if segment.party == "remote":
            declined = bool(_REFUSED.search(text)) and not _YES.search(text)
        elif about and not declined and _AGREED.search(text) and not text.rstrip().endswith("?"):
            return True
    return False


def summary(finished: FinishedCall) -> str:
    """How often each side spoke, first and last words, and how the call ended; nothing beyond the transcript."""
    remote = [s.text for s in finished.segments if s.party == "remote"]
    local = [s.text for s in finished.segments if s.party == "local"]
    ended = str(finished.reason).replace("_", " ")
    parts = [f"{finished.seconds:.0f} s, ended by {ended}."]
    if not remote:
        return " ".join([*parts, "The caller said nothing that was understood."])
    parts.append(f"The caller spoke {len(remote)} time{'s' * (len(remote) > 1)}, first: {_quoted(remote[0])}.")
    if local:
        parts.append(f"The agent's last words: {_quoted(local[-1])}.")
    return " ".join(parts)


def _quoted(text: str, limit: int = 120) -> str:
    text = text.strip()
    return f"“{text if len(text) <= limit else text[: limit - 1].rstrip() + '…'}”"
