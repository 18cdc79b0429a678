"""A call: who rings whom, how far it has come, and why it ended.

The state machine moves one way::

    queued -> initiated -> ringing -> answered -> ended

Carriers deliver out of order and twice, so :func:`advance` takes the furthest state seen and never goes back: a
late ``ringing`` after ``answered`` changes nothing, and ``ended`` is final. A carrier without a ringing signal
goes from initiated to answered, which is the same path with a step skipped. What a late message still knows
(a carrier's word, an answer time that was missing) is kept where we had nothing: a call whose ``answered`` is told
after its end was answered all the same, and its reason and duration are corrected.

Why a call ended is a second thing beside how far it came. Who hung up is known best by us: when we asked for the
hang-up before the carrier reported the end, our reason stands (:attr:`Call.intent`); else the carrier's. A call that
somebody else has taken over is ``transferred``, whoever hangs up in the end (:attr:`Call.transfer`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import ConfigurationError
from anycarrier.numbers import E164, PhoneNumber
from anycarrier.parsing import decimal
from anycarrier.sip import CallHeaders, Destination


class Direction(StrEnum):
    """Seen from us. ``UNKNOWN`` is a leg that we neither dialled nor were rung by, when the carrier does not say; no
    call in a call book has it."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    UNKNOWN = "unknown"


class CallStatus(StrEnum):
    """How far a call has come; the order of the members is the order of a call's life."""

    QUEUED = "queued"
    INITIATED = "initiated"
    RINGING = "ringing"
    ANSWERED = "answered"
    ENDED = "ended"

    @property
    def rank(self) -> int:
        """Place in a call's life, 0 to 4."""
        return _RANK[self]


_RANK = {status: rank for rank, status in enumerate(CallStatus)}


class EndReason(StrEnum):
    """Why a call ended: a closed list. The carrier's own word and SIP code stay beside it on the call."""

    AGENT_HANGUP = "agent_hangup"
    USER_HANGUP = "user_hangup"
    API_STOP = "api_stop"
    END_CALL_PHRASE = "end_call_phrase"
    SILENCE_TIMEOUT = "silence_timeout"
    MAX_DURATION = "max_duration"
    VOICEMAIL = "voicemail"
    TRANSFERRED = "transferred"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    REJECTED = "rejected"
    CANCELED = "canceled"
    INVALID_NUMBER = "invalid_number"
    UNREACHABLE = "unreachable"
    PROVIDER_AUTH_FAILED = "provider_auth_failed"
    PROVIDER_PERMISSION_DENIED = "provider_permission_denied"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    MARKED_AS_SPAM = "marked_as_spam"
    MEDIA_ERROR = "media_error"
    AGENT_ERROR = "agent_error"
    CONCURRENCY_LIMIT = "concurrency_limit"
    UNKNOWN = "unknown"


_SIP_REASONS = {
    401: EndReason.PROVIDER_AUTH_FAILED,
    403: EndReason.PROVIDER_PERMISSION_DENIED,
    404: EndReason.INVALID_NUMBER,
    407: EndReason.PROVIDER_AUTH_FAILED,
    408: EndReason.NO_ANSWER,
    410: EndReason.INVALID_NUMBER,
    480: EndReason.NO_ANSWER,
    484: EndReason.INVALID_NUMBER,
    486: EndReason.BUSY,
    487: EndReason.CANCELED,
    600: EndReason.BUSY,
    603: EndReason.REJECTED,
    604: EndReason.INVALID_NUMBER,
    607: EndReason.MARKED_AS_SPAM,
    608: EndReason.MARKED_AS_SPAM,
}


def reason_of_sip(code: int | None) -> EndReason | None:
    """What a final SIP response code means by itself (RFC 3261, 8197, 8688); None when it says nothing.

    487 confirms that the INVITE was cancelled; by whom, the carrier's own word says.
    """
    if code is not None and 500 <= code <= 599:
        return EndReason.PROVIDER_UNAVAILABLE
    return _SIP_REASONS.get(code or 0)


class TransferStatus(StrEnum):
    """How far a transfer has come. One that failed leaves no status: the call is ours again."""

    REQUESTED = "requested"
    """The target rings, or is about to."""
    ANSWERED = "answered"
    """The target has the call."""


class Price(BaseModel):
    """What the carrier charges for an ended call: a positive amount, and its currency by ISO 4217."""

    model_config = ConfigDict(frozen=True)

    amount: Decimal = Field(ge=0)
    currency: str = Field(pattern=r"^[A-Z]{3}$")


def price_of(amount: object, currency: object) -> Price | None:
    """What a carrier says a call cost, a charge being negative at some; None for what is no price, or not yet one."""
    told = decimal(amount)
    if told is None or not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
        return None
    return Price(amount=abs(told), currency=currency)


MOST_FACTS, LONGEST_FACT = 16, 1024
"""Facts that are kept with a call, and characters of one."""

STREAM_FACT = "anycarrier.stream"
"""The exchange's own fact of a dialled call, which counts as one of them and no provider replaces: by it the stream
target is made anew when the carrier asks for instructions."""


class Call(BaseModel):
    """One call, as last heard of. Frozen: a change is a new snapshot.

    ``id`` is the carrier's id (what its API takes); ``reference`` is ours, made before the carrier is asked, and the
    same in every process: 32 lower-case hexadecimal digits. Times are aware UTC. ``carrier_status`` and ``sip_code``
    are the carrier's own words.

    ``facts`` is what the provider needs again later in the call's life, in any process (a region's URL): short text by
    name, kept with the call and never secret. A provider adds some by any ``Call`` it returns, and reads them with
    :meth:`anycarrier.Provider.facts`.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    provider: str
    direction: Direction
    from_: str
    to: str
    status: CallStatus
    reference: str = ""
    credential_id: str = ""
    agent_id: str | None = None
    owner: str = Field(default="", description="the process that sees to the call: it opened it, or has its audio")
    reason: EndReason | None = None
    intent: EndReason | None = Field(default=None, description="why we asked for the end, before the carrier said so")
    transfer: TransferStatus | None = Field(default=None, description="None: ours; else handed to somebody else")
    carrier_status: str | None = None
    carrier_reason: EndReason | None = Field(
        default=None, description="what the carrier's word for the end means by itself, before ``reason`` is decided"
    )
    sip_code: int | None = None
    answered_by: str | None = Field(default=None, description="human, machine, fax or unknown")
    time_limit: float | None = Field(default=None, description="seconds from answer")
    price: Price | None = Field(default=None, description="the carrier's own, once it tells")
    facts: Mapping[str, str] = Field(default_factory=dict, repr=False)
    created_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    raw: Mapping[str, Any] = Field(default_factory=dict, repr=False)

    @field_validator("facts")
    @classmethod
    def _facts_are_few_and_short(cls, facts: Mapping[str, str]) -> Mapping[str, str]:
        if len(facts) > MOST_FACTS or any(len(name) > 64 or len(text) > LONGEST_FACT for name, text in facts.items()):
            raise ValueError(f"a call keeps at most {MOST_FACTS} facts, of {LONGEST_FACT} characters each")
        return facts

    @property
    def duration(self) -> float:
        """Seconds from answer to end (0 when never answered; up to now is not counted)."""
        if self.answered_at is None or self.ended_at is None:
            return 0.0
        return max(0.0, (self.ended_at - self.answered_at).total_seconds())

    @property
    def ended(self) -> bool:
        """True when the call is over."""
        return self.status is CallStatus.ENDED

    @property
    def handed_on(self) -> bool:
        """True while somebody else has the call, or is rung for it: our side does not end it, unless told to stop."""
        return self.transfer is not None and self.intent is not EndReason.API_STOP

    @property
    def expected_reason(self) -> EndReason | None:
        """Why the call ended, or, while it goes on, why it is about to; None when nobody has asked for its end."""
        return self.reason or (EndReason.TRANSFERRED if self.transfer else self.intent)

    @property
    def line_number(self) -> str:
        """Our own number on this call."""
        return self.to if self.direction is Direction.INBOUND else self.from_

    @property
    def caller_id(self) -> str | None:
        """The number to show when the call is sent on; None: the caller has one, and it may be shown.

        A caller who withholds the number, or rings from a browser or a SIP client, has none: ours is shown.
        """
        return None if E164.fullmatch(self.from_) else self.line_number

    @property
    def remote_number(self) -> str:
        """The other party's number."""
        return self.from_ if self.direction is Direction.INBOUND else self.to


ANSWERED_REASONS = frozenset(
    {
        EndReason.AGENT_HANGUP,
        EndReason.USER_HANGUP,
        EndReason.API_STOP,
        EndReason.END_CALL_PHRASE,
        EndReason.SILENCE_TIMEOUT,
        EndReason.MAX_DURATION,
        EndReason.VOICEMAIL,
        EndReason.TRANSFERRED,
    }
)
"""Reasons that only a call that was answered can have."""

LET_GO = frozenset({EndReason.NO_ANSWER, EndReason.BUSY, EndReason.REJECTED, EndReason.CANCELED})
"""What carriers also say of a far end that leaves a call it was on, as the BYE's own words were."""


def advance(call: Call, seen: Call, at: datetime) -> Call:
    """``call`` moved on by what a carrier now says of it (``seen``); the same object when nothing is new.

    ``at`` is when it happened, used for times that ``seen`` does not carry.
    """
    change: dict[str, Any] = {}
    for name in ("answered_by", "created_at", "sip_code", "price"):
        if getattr(call, name) is None and getattr(seen, name) is not None:
            change[name] = getattr(seen, name)
    if not call.id and seen.id:
        change["id"] = seen.id
    told = {name: text for name, text in seen.facts.items() if name != STREAM_FACT}
    if any(call.facts.get(name) != text for name, text in told.items()):
        change["facts"] = _with_facts(call.facts, told)
    answered_at = _answered_at(call, seen, at)
    if answered_at != call.answered_at:
        change["answered_at"] = answered_at
    if seen.status.rank > call.status.rank:
        change["status"] = seen.status
        change["carrier_status"] = seen.carrier_status or call.carrier_status
        if seen.raw:
            change["raw"] = seen.raw
        if seen.ended:
            change["ended_at"] = _moment(seen.ended_at, at)
            change["carrier_reason"] = seen.reason
            change["reason"] = _end_reason(call, seen.reason, answered_at, change["ended_at"])
    elif call.ended and call.ended_at is not None and "answered_at" in change:
        change["reason"] = _end_reason(call, call.carrier_reason, answered_at, call.ended_at)
    return call.model_copy(update=change) if change else call


def _with_facts(known: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
    """The newest facts; ours stays."""
    ours = {name: text for name, text in known.items() if name == STREAM_FACT}
    theirs = {name: text for name, text in {**known, **told}.items() if name != STREAM_FACT}
    return {**dict(list(theirs.items())[-(MOST_FACTS - len(ours)) :]), **ours}


def advance_transfer(call: Call, status: str, at: datetime) -> Call:
    """``call`` after what a carrier says of its transfer (see :class:`anycarrier.events.TransferProgress`).

    ``at`` is when it happened. A transfer that failed gives the call back. That the target had answered may be told
    after the end, and then corrects its reason.
    """
    if status in ("answered", "completed"):
        if call.transfer is TransferStatus.ANSWERED:
            return call
        change: dict[str, Any] = {"transfer": TransferStatus.ANSWERED}
        if call.status.rank < CallStatus.ANSWERED.rank:  # a forwarded call is answered by its target
            change["status"] = CallStatus.ANSWERED
        if call.answered_at is None:
            change["answered_at"] = at if call.ended_at is None else min(at, call.ended_at)
        if call.ended:
            change["reason"] = EndReason.TRANSFERRED
        return call.model_copy(update=change)
    if call.transfer is TransferStatus.REQUESTED:
        return call.model_copy(update={"transfer": None})
    return call


def _answered_at(call: Call, seen: Call, at: datetime) -> datetime | None:
    """When the call was answered, as known with ``seen``. A carrier's word that comes late is never after the end,
    and where it is a second or more before what we took for the answer (the first sound, say) it is right."""
    if seen.status is CallStatus.ANSWERED:
        told: datetime | None = _moment(seen.answered_at, at)
    else:
        told = seen.answered_at if seen.ended else None
    if told is None:
        return call.answered_at
    if call.ended_at is not None:
        told = min(told, call.ended_at)
    exact = seen.status is CallStatus.ANSWERED  # an end tells a duration, in whole seconds at best
    if call.answered_at is None or (exact and (call.answered_at - told).total_seconds() >= 1):
        return told
    return call.answered_at


def _moment(told: datetime | None, at: datetime) -> datetime:
    """The carrier's time, but ours where that is the finer reading of the same second."""
    return told if told is not None and not 0 <= (at - told).total_seconds() < 1 else at


def _end_reason(call: Call, told: EndReason | None, answered_at: datetime | None, ended_at: datetime) -> EndReason:
    """``told`` is what the carrier's word means by itself."""
    answered = answered_at is not None
    if call.transfer is TransferStatus.ANSWERED and answered:
        return EndReason.TRANSFERRED
    # While a transfer's target rings, an agent that leaves has not ended the call; only a stop has.
    if call.intent is not None and not call.handed_on:
        if answered and call.intent in LET_GO:
            return EndReason.AGENT_HANGUP  # declined, but it had been answered
        if answered or call.intent not in ANSWERED_REASONS:
            return call.intent
        return EndReason.CANCELED if call.direction is Direction.OUTBOUND else EndReason.REJECTED
    if answered and call.time_limit and (ended_at - answered_at).total_seconds() >= call.time_limit - 0.5:  # type: ignore[operator]
        return EndReason.MAX_DURATION
    if told is None:
        return EndReason.USER_HANGUP if answered else EndReason.UNKNOWN
    if not answered and (
        told in ANSWERED_REASONS or (told is EndReason.NO_ANSWER and call.direction is Direction.INBOUND)
    ):
        # Carriers call the end of an unanswered leg "normal", or an abandoned inbound one "no answer": the one who
        # rang gave up.
        return EndReason.CANCELED
    if answered and told not in ANSWERED_REASONS and told is not EndReason.AGENT_ERROR:
        # A call that stood was no wrong number: the far end let go, or the line was lost. ``sip_code`` tells more.
        return EndReason.USER_HANGUP if told in LET_GO else EndReason.MEDIA_ERROR
    return told


REFERENCE = re.compile(r"[0-9a-f]{32}")
"""What a call's reference is made of."""


def checked_reference(reference: str) -> str:
    """``reference``, if it is 32 lower-case hexadecimal digits, else ``ConfigurationError``."""
    if not REFERENCE.fullmatch(reference):
        raise ConfigurationError(
            f"a call's reference is 32 lower-case hexadecimal digits, as of uuid.uuid4().hex, not {reference[:40]!r}"
        )
    return reference


class StreamTarget(BaseModel):
    """Where and how a carrier is to connect a call's audio.

    ``url`` has the ticket where the provider's ``ticket_place`` says: in its path, in its query, or nowhere. In the
    last case the carrier is to send ``ticket`` with the upgrade, as ``Authorization: Bearer`` or as the password of
    ``Authorization: Basic``. ``custom`` are values the carrier hands back when the stream starts, where it can.
    """

    model_config = ConfigDict(frozen=True)

    url: str = Field(repr=False, description="wss://...")
    ticket: str = Field(default="", repr=False, exclude=True, description="the ticket by itself")
    format: AudioFormat = PCMU_8K
    custom: Mapping[str, str] = Field(default_factory=dict)


class MachineDetection(StrEnum):
    """Answering-machine detection; always asynchronous, so the callee never waits in silence."""

    OFF = "off"
    DETECT = "detect"
    WAIT_FOR_BEEP = "wait_for_beep"


class DialRequest(BaseModel):
    """One outbound call. ``to`` is a number, or a ``sip:`` address where :attr:`Provider.dials_sip` says so. ``extra``
    is merged last into what goes to the carrier."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    from_: PhoneNumber
    to: Destination
    stream: StreamTarget
    status_url: str
    reference: str = ""
    timeout: float = Field(default=30.0, gt=0, le=600, description="seconds to let it ring")
    time_limit: float | None = Field(default=None, gt=0, description="seconds from answer, then the carrier hangs up")
    machine_detection: MachineDetection = MachineDetection.OFF
    record: bool = False
    caller_id: str | None = Field(default=None, description="number to show instead of from_")
    headers: CallHeaders = Field(default_factory=dict, repr=False, description="SIP and custom headers to send")
    digits: str | None = Field(default=None, pattern=r"^[0-9A-Da-d#*wW]{1,32}$", description="keys sent on answer")
    extra: Mapping[str, Any] = Field(default_factory=dict)
