"""Everything a carrier can tell us.

*Call events* come by webhook and are about the call; *media events* come on the stream and are its sound.
Each keeps the carrier's own message in ``raw``. What we have no word for is an ``UnknownEvent``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.calls import Call

# --- call events -------------------------------------------------------------------------------------------------


class CallEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what webhooks tell.

    ``event_id`` is unique per happening and the same on every redelivery: the carrier's id where it has one.
    ``reference`` is our own call id when it travelled with the call. ``sequence`` orders events of one call where
    the carrier numbers them.
    """

    call_id: str = ""
    reference: str = ""
    event_id: str = ""
    occurred_at: datetime | None = None
    sequence: int | None = None
    raw: Mapping[str, Any] = {}


class IncomingCall(CallEvent, frozen=True, kw_only=True):
    """Someone is ringing one of our numbers.

    ``verified`` is the carrier's caller-id attestation (STIR/SHAKEN) as A, B or C; ``forwarded_from`` the number
    that sent the call on to us. ``headers`` are the custom headers and User-to-User that came with the call
    (:func:`anycarrier.sip.headers_of`).
    """

    call: Call
    verified: str | None = None
    forwarded_from: str | None = None
    headers: Mapping[str, str] = {}


class CallProgress(CallEvent, frozen=True, kw_only=True):
    """A call came further; ``call`` is what the carrier now says of it."""

    call: Call


class InstructionsFor(StrEnum):
    """What a carrier asks instructions for."""

    ANSWERED = "answered"
    """A call we dialled was answered: its audio is to be connected."""
    TRANSFER = "transfer"
    """A transfer we asked for is under way: the call is to be sent to its target."""


class InstructionsRequested(CallProgress, frozen=True, kw_only=True):
    """A carrier asks by webhook what to do with a call of ours, and takes the instructions from the reply.

    The provider answers with :meth:`anycarrier.Provider.instruct`. ``call`` is what the carrier says of the call now.
    """

    purpose: InstructionsFor


class MachineDetected(CallEvent, frozen=True, kw_only=True):
    """Who or what picked up: ``human``, ``machine``, ``fax`` or ``unknown``.

    ``greeting_ended`` is True once the machine's greeting is over (with ``beep`` when one was heard), which is the
    moment to leave a message.
    """

    answered_by: str
    greeting_ended: bool = False
    beep: bool = False


class StreamProgress(CallEvent, frozen=True, kw_only=True):
    """The carrier's word on the media stream: ``started``, ``stopped`` or ``failed``."""

    status: str
    stream_id: str | None = None
    detail: str | None = None


class DigitReported(CallEvent, frozen=True, kw_only=True):
    """One or more keys, reported by webhook. A session yields them as :class:`DigitPressed`, once if its stream reports
    them too."""

    digit: str


class RecordingProgress(CallEvent, frozen=True, kw_only=True):
    """A recording: ``in_progress``, ``completed``, ``absent`` or ``failed``; ``duration`` in seconds."""

    status: str
    recording_id: str | None = None
    url: str | None = None
    duration: float | None = None
    channels: int | None = None


class TransferProgress(CallEvent, frozen=True, kw_only=True):
    """What became of a transfer: ``answered``, ``completed``, ``busy``, ``no_answer``, ``failed`` or ``canceled``."""

    status: str
    target_call_id: str | None = None


class NumberOrderProgress(CallEvent, frozen=True, kw_only=True):
    """A number purchase: ``pending``, ``completed`` or ``failed``."""

    order_id: str
    status: str
    numbers: tuple[str, ...] = ()


class RoutingFailure(StrEnum):
    """Why a call did not reach the agent that was meant to have it."""

    NUMBER_NOT_ASSIGNED = "number_not_assigned"
    """It came to a number that has no line, or whose line is another credential's. It is declined."""
    UNKNOWN_AGENT = "unknown_agent"
    """A router, a line or a webhook names an agent that does not exist."""
    AGENT_UNREACHABLE = "agent_unreachable"
    """The agent's connection could not be opened, or it lacks what it needs to talk, and no fallback took the call."""


class RoutingFailed(CallEvent, frozen=True, kw_only=True):
    """A call did not reach its agent. No carrier reports this: the exchange does, to its observers.

    ``agent_id`` is the agent that was meant, where one was named; ``detail`` a sentence for people.
    """

    failure: RoutingFailure
    agent_id: str | None = None
    detail: str = ""


class UnknownEvent(CallEvent, frozen=True, kw_only=True):
    """Authentic, but not in our vocabulary; also used for media frames. ``kind`` is the carrier's name for it."""

    kind: str = ""


# --- media events ------------------------------------------------------------------------------------------------


class StreamStarted(msgspec.Struct, frozen=True):
    """Media begins. ``format`` is what the carrier *sends*; ``custom`` are the values given with the stream.

    ``call_id`` is "" where the carrier's frames do not name the call: then the ticket alone says whose it is.

    A stream counts as the answer, unless it is ``early``: media before the answer, a ringing tone or an announcement.
    Then the agent begins once the carrier has said that the call is answered, and what came before is dropped; not
    where the stream is ``silent`` until then, so that all it brings is the far end's.
    """

    call_id: str
    stream_id: str = ""
    format: AudioFormat = PCMU_8K
    custom: Mapping[str, str] = {}
    raw: Any = None
    early: bool = False
    silent: bool = False


class AudioReceived(msgspec.Struct, frozen=True):
    """Sound from the far end: bytes in the stream's format, ``timestamp`` in ms since its start when known."""

    payload: bytes
    track: str = "inbound"
    sequence: int | None = None
    timestamp: int | None = None
    raw: Any = None


class DigitPressed(msgspec.Struct, frozen=True):
    """One DTMF key: 0-9, A-D, ``*`` or ``#``; from the stream or, with a webhook's ``raw``, from a
    :class:`DigitReported`."""

    digit: str
    raw: Any = None


class HoldChanged(msgspec.Struct, frozen=True):
    """The far end has put us on hold (``held``), or has come back. While held it hears nothing of ours, or music of its
    own exchange's; what it sends is silence or that music. Not every carrier tells."""

    held: bool
    raw: Any = None


class MarkReached(msgspec.Struct, frozen=True):
    """The carrier says everything before this mark was played (or cleared: see MediaSession)."""

    name: str
    raw: Any = None


class MarkDropped(msgspec.Struct, frozen=True):
    """A mark of yours that a ``clear`` overtook: what it stood for will not be heard, and no ``MarkReached`` comes.

    No carrier sends this, the session does, as part of the ``clear``.
    """

    name: str


class StreamStopped(msgspec.Struct, frozen=True):
    """Media is over; the call may not be. ``reason`` is the carrier's, or ours for a lost socket."""

    reason: str = ""
    raw: Any = None


class StreamError(msgspec.Struct, frozen=True):
    """The carrier complains about what we sent."""

    code: str
    detail: str = ""
    raw: Any = None


MediaEvent = (
    StreamStarted
    | AudioReceived
    | DigitPressed
    | HoldChanged
    | MarkReached
    | MarkDropped
    | StreamStopped
    | StreamError
    | UnknownEvent
)
