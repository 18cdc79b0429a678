"""What a leg is told to do: TwiML to run, how to end, and everything asked for when it was placed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RecordingOrder:
    """What was asked for with a recording."""

    source: str = "StartCallRecordingAPI"
    channels: int = 1
    track: str = "both"
    callback: str = ""
    method: str = "POST"
    events: frozenset[str] = frozenset({"completed"})


@dataclass(frozen=True, slots=True)
class Instructions:
    """TwiML to run: given, or to be fetched from ``url`` with ``params`` added; ``fallback`` is tried after it."""

    twiml: str = ""
    url: str = ""
    method: str = "POST"
    params: dict[str, str] = field(default_factory=dict)
    fallback: Instructions | None = None


@dataclass(frozen=True, slots=True)
class End:
    """A call's terminal status, with the SIP code where one is told."""

    status: str
    sip_code: int | None = None


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What was asked for with a call; the defaults are the carrier's."""

    instructions: Instructions | None = None
    timeout: float = 60
    time_limit: float = 14400
    status_url: str = ""
    status_method: str = "POST"
    status_events: frozenset[str] = frozenset({"completed"})
    send_digits: str = ""
    record: RecordingOrder | None = None
    detection: str = ""
    """``Enable`` or ``DetectMessageEnd``; empty: no detection."""
    detection_async: bool = False
    detection_url: str = ""
    detection_method: str = "POST"
