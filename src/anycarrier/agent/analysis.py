"""What came of a call: an outcome and a summary, by installed analyzers or by honest rules of thumb."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from anycarrier.agent.finished import Analysis, FinishedCall
from anycarrier.agent.record import Segment
from anycarrier.calls import EndReason

log = logging.getLogger("anycarrier")

BOOKED = "Appointment Booked"
INTERESTED = "Interested"
NOT_INTERESTED = "Not Interested"
NOT_CONNECTED = "Not Connected"
VOICEMAIL = "Voicemail"


@runtime_checkable
class Analyzer(Protocol):
    """Looks at a call once it is over. Plugins bring classes that need no arguments; a platform passes instances."""

    name: ClassVar[str]

    async def analyze(self, finished: FinishedCall) -> Analysis:
        """What came of it. Whatever is raised is logged, and the next analyzer asked."""
        ...


async def analyse(finished: FinishedCall, analyzers: Sequence[Analyzer] | None = None) -> Analysis:
    """By the first of ``analyzers`` (unless given: those installed) that can tell; else by rules of thumb."""
    for analyzer in installed() if analyzers is None else analyzers:
        try:
            return await analyzer.analyze(finished)
        except Exception as failure:  # noqa: BLE001 - anybody's code, and the call is over whatever it says
            # No traceback: its lines may quote what was said.
            log.error("analyzer %s failed: %s", analyzer.name, type(failure).__name__)
    return await Heuristic().analyze(finished)


def installed() -> list[Analyzer]:
    """The analyzers that plugins bring, made."""
    from anycarrier import plugins

    found = plugins.host().manager.hook.anycarrier_analyzers()
    return [kind() for kinds in found for kind in kinds]


class Heuristic:
    """Rules of thumb over the transcript. They know no language but English, and say so by their name."""

    name = "heuristic"

    async def analyze(self, finished: FinishedCall) -> Analysis:
        """A label where the words are plain, None where they are not; the summary is made of what was said."""
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
    """One of the labels above, or None: too short, or too ambiguous to say."""
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
    """The agent said that it is booked, the call was about an appointment, and the caller had not just declined."""
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
    """Who said how much, first and last words, and how it ended: nothing that is not in the transcript."""
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
