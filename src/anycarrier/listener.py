"""For carriers that own their sockets (SIP/RTP, a persistent connection): what they start, and whom they call.

A webhook carrier never sees this. A listener carrier overrides ``Provider.listen`` and returns a
:class:`Listener`; the exchange starts and stops it, and is the :class:`Desk` it reports to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from anycarrier.events import CallEvent
from anycarrier.serializer import Frame
from anycarrier.webhooks import WebhookReply

T = TypeVar("T", bound="Closable")
S = TypeVar("S")


class Closable(Protocol):
    """What :meth:`Desk.shared` can keep."""

    async def aclose(self) -> None:
        """Let go of everything."""
        ...


@runtime_checkable
class MediaTransport(Protocol):
    """Two-way carriage of media frames: a WebSocket, or a pair of UDP ports."""

    async def send(self, frame: Frame) -> None:
        """Send one frame, ``str`` as text and ``bytes`` as binary; waits while the peer does not take it."""
        ...

    def __aiter__(self) -> AsyncIterator[Frame]:
        """Frames as they come, until the far side closes."""
        ...

    async def close(self, code: int = 1000) -> None:
        """Close; closing twice is harmless."""
        ...


@runtime_checkable
class PushTransport(MediaTransport, Protocol):
    """One that calls with each frame, where the others are asked for the next: no task and no queue per frame."""

    resumed: Callable[[], None] | None
    """Called when :attr:`paused` ends."""

    @property
    def paused(self) -> bool:
        """True while the peer does not take what was written."""
        ...

    def look_first(self, look: Callable[[Frame], object] | None) -> None:
        """Show ``look`` each frame before it is pushed; one for which it returns False is delivered as usual."""
        ...

    async def push_to(self, receive: Callable[[Frame], object]) -> None:
        """Call ``receive`` with every frame as it comes, until the far side closes."""
        ...

    def write(self, frame: Frame) -> None:
        """Send one frame without waiting; ``ConnectionError`` when the peer is gone."""
        ...


@runtime_checkable
class Listener(Protocol):
    """Sockets of a carrier's own."""

    async def start(self) -> None:
        """Open them; returns when calls can come in. Called once.

        What raises leaves nothing open: the exchange makes another listener and tries again, until it opens or its
        credential goes. An ``OSError`` is told as a ``ConfigurationError``; have its text name the address and port.
        """
        ...

    async def stop(self) -> None:
        """Close them; calls in progress are ended. Stopping twice is harmless; after fifteen seconds it is cancelled.

        When the credential's secrets have changed, the listener is stopped too, and one of the new provider started.
        """
        ...


class Health(NamedTuple):
    """How one thing stands that a listener depends on: a login, a peer, a telephone."""

    subject: str
    """What it is: ``registration``, ``phone alice``."""
    ok: bool | None
    """None: neither well nor ill, or it cannot be told."""
    found: str
    """One sentence: what is so, and what to do where ``ok`` is False. No secret, no whole number."""


class Figure(NamedTuple):
    """A number for monitoring. Those of one name and labels are added up, whichever listeners they come from."""

    name: str
    """Lower case with underscores, begins with the carrier's name: ``sip_strangers``."""
    help: str
    value: float
    """The sum of all that was observed, where it is a histogram."""
    kind: Literal["counter", "gauge", "histogram"] = "gauge"
    labels: Mapping[str, str] = {}
    """Few values each, and none that a far end or a client chooses."""
    buckets: Mapping[float, int] = {}
    """Histogram: upper bound -> observations up to it; ``inf`` has all of them."""


@runtime_checkable
class OperatedListener(Listener, Protocol):
    """A listener that says how it does and can be drained. Optional: one that cannot is a :class:`Listener`."""

    def health(self) -> Sequence[Health]:
        """For people: what stands between the credential and its calls. Looks at what is known, and asks nobody."""
        ...

    def figures(self) -> Sequence[Figure]:
        """For monitoring, as of now. What listeners share, one of them reports."""
        ...

    def drain(self) -> None:
        """Turn new calls away from now on, so that the carrier tries elsewhere; those in progress go on."""
        ...


class Desk(Protocol):
    """What a listener may ask of the exchange."""

    @property
    def credential_id(self) -> str:
        """Which credential this listener runs on."""
        ...

    async def event(self, event: CallEvent) -> WebhookReply:
        """Report a call event. For an ``IncomingCall`` the exchange calls ``answer``, ``reject``, ``forward`` or
        ``leave_ringing`` of the provider: before this returns, or soon after where ``answers_in_reply`` is False.

        What it raises, or a reply with a status of 500 or more, means that the event was not taken in, since the store
        is unavailable mostly. :meth:`tell` tries again by itself.
        """
        ...

    def tell(self, event: CallEvent) -> None:
        """Report anything but an ``IncomingCall``, and go on: it is taken in after what was reported before of the same
        call, and tried again for a minute where the store is unavailable. Give it an ``event_id``."""
        ...

    async def media(self, ticket: str, transport: MediaTransport) -> None:
        """Serve a call's audio over ``transport`` until it is over. ``ticket`` is ``StreamTarget.ticket``, as
        ``dial`` or ``answer`` was given it. ``TicketRefused``, as on our own sockets: used, expired, forged, of a call
        that is over, or of another credential's.

        The call counts as answered once its stream has started, unless that is ``early`` (:class:`StreamStarted`).
        """
        ...

    def spawn(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        """Do ``work`` beside. If it fails, "could not ``what``" is reported; it is cancelled when the exchange stops.
        """
        ...

    def shared(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> AbstractAsyncContextManager[T]:
        """What several credentials' listeners use together, such as one socket: one value per ``key`` and exchange.

        The first to enter makes it, while others wait; the last to leave closes it, and it is made anew after that.
        When ``make`` raises, the one who entered gets the error, and the next one tries again.
        """
        ...

    def settings(self, kind: type[S]) -> S:
        """The operator's settings of that type (``Exchange(carrier_settings=[...])``), else ``kind()``."""
        ...
