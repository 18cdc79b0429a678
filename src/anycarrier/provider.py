"""Provider: the contract between anycarrier and a carrier.

A carrier plugin writes one class. Above the first line below are the methods every carrier has; between the
lines those a carrier may have, where *overriding one is what declares the capability*; below them, helpers.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from anycarrier.audio import AudioFormat
from anycarrier.calls import Call, DialRequest, EndReason, StreamTarget
from anycarrier.credentials import Credential
from anycarrier.errors import (
    AnycarrierError,
    MalformedMessage,
    NotFound,
    ProviderUnavailable,
    RateLimited,
    Replayed,
    SignatureInvalid,
)
from anycarrier.events import CallEvent, IncomingCall, InstructionsRequested
from anycarrier.numbers import AvailableNumber, NumberQuery, OwnedNumber, PendingOrder, SyncResult
from anycarrier.redaction import mask_number
from anycarrier.rest import RestApi
from anycarrier.serializer import MediaSerializer
from anycarrier.webhooks import WebhookReply, WebhookRequest

if TYPE_CHECKING:
    from pydantic import BaseModel

    from anycarrier.listener import Desk, Listener

CONTRACT = 1
"""Version of this contract. A provider written for another one is refused when it is loaded."""


class Capability(StrEnum):
    """What only some carriers can do. Each member is the name of the optional method that does it."""

    BUY_NUMBER = "buy_number"
    FETCH_ORDER = "fetch_order"
    RELEASE_NUMBER = "release_number"
    LIST_NUMBERS = "list_numbers"
    CONFIGURE_NUMBER = "configure_number"
    UNCONFIGURE_NUMBER = "unconfigure_number"
    CHECK_CREDENTIAL = "check_credential"
    FETCH_CALL = "fetch_call"
    REJECT = "reject"
    FORWARD = "forward"
    TRANSFER = "transfer"
    INSTRUCT = "instruct"
    SEND_DIGITS = "send_digits"
    START_RECORDING = "start_recording"
    STOP_RECORDING = "stop_recording"
    FETCH_RECORDING = "fetch_recording"
    LISTEN = "listen"


class TicketPlace(StrEnum):
    """Where a carrier's socket brings the ticket of its call back to us."""

    PATH = "path"
    """``wss://host/media/TICKET``: every carrier that takes a URL of any path."""
    QUERY = "query"
    """``wss://host/media?ticket=TICKET``: a carrier whose path is fixed in its own configuration."""
    HEADER = "header"
    """``wss://host/media``, and ``StreamTarget.ticket`` in ``Authorization``: Bearer, or the password of Basic."""


class TrialPhone(NamedTuple):
    """An account for a real telephone on this machine, and how to call with it."""

    settings: BaseModel
    """The operator's, with all that the telephone needs."""
    details: Mapping[str, Any]
    """Of the credential; its key is the password that was given."""
    number: str
    """Ours, which the telephone calls."""
    steps: tuple[str, ...]
    """What to type into the telephone, one line each. They hold its password: they are shown, never logged."""


class Provider(RestApi, ABC):
    """One carrier, with one credential. Making one does no I/O; every method is safe to call concurrently."""

    credential_type: ClassVar[type[Credential]]

    contract: ClassVar[int] = CONTRACT

    title: ClassVar[str] = ""
    """How the carrier writes its own name; for people."""

    sandbox: ClassVar[str] = ""
    """``module:Class`` of the carrier's sandbox, imported only when asked for; empty when it ships none."""

    answers_in_reply: ClassVar[bool] = True
    """True when instructions travel in the webhook's reply. False: webhooks are acknowledged at once, and
    ``answer`` works by REST afterwards, since such carriers allow the reply very little time."""

    reports_ringing: ClassVar[bool] = True
    """False for carriers that say nothing between the dial and the answer."""

    reports_transfers: ClassVar[bool] = False
    """True for carriers that tell what becomes of a transfer (``TransferProgress``): until the target has answered, a
    caller who leaves was not transferred. With False a transfer the carrier has taken counts as done."""

    dials_sip: ClassVar[bool] = False
    """True for carriers that ring ``sip:`` addresses: ``DialRequest.to`` may be one, where the policy allows it. With
    False such a dial is refused before the carrier is asked."""

    detects_machines: ClassVar[bool] = True
    """True where the carrier tells who picked up (``MachineDetected``) when ``dial`` asks for it. With False it
    is never asked, and anycarrier listens itself."""

    limits_calls: ClassVar[bool] = True
    """True where the carrier ends a call by itself after ``DialRequest.time_limit``. With False ``dial`` is never given
    one: the exchange alone ends the call."""

    signs_webhooks: ClassVar[bool] = True
    """False where a webhook bears no signature over what it says, only a login to our URL: who learns that login
    can send anything, and send it again. ``verify`` then checks the login."""

    settings_type: ClassVar[type[BaseModel] | None] = None
    """What the operator sets for the carrier, once for all credentials (addresses to bind, ports); each field has a
    default. ``Exchange(carrier_settings=[...])`` is given one, :meth:`Desk.settings` gives it out. A field ``listen``
    is also an option of the service's command; ``private_targets`` are the private networks that credentials may name,
    which the service sets where it has tenants."""

    attended_transfers: ClassVar[bool] = False
    """True for carriers that connect the far ends of two calls of ours. Their ``transfer`` takes ``replaces`` too, the
    id of the other call (None: a blind transfer); ``to`` is then the other call's far end."""

    ticket_place: ClassVar[TicketPlace] = TicketPlace.PATH
    """Where this carrier's media sockets bring the ticket; :class:`StreamTarget` is made accordingly."""

    order_poll: ClassVar[float] = 1.0
    """Seconds between two looks at an order of a number (:meth:`wait_for_order`)."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    call_facts: Callable[[str], Awaitable[Mapping[str, str]]] | None = None
    """Set by the exchange: looks the facts of a call up by the carrier's id."""

    desk: Desk | None = None
    """Set by the exchange for carriers that listen, also before there is a listener: what listeners share, and the
    operator's settings, for :meth:`check_credential` say. None outside of an exchange."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.capabilities = frozenset(c for c in Capability if getattr(cls, c.value) is not getattr(Provider, c.value))
        if "name" in cls.__dict__ and not cls.title:
            cls.title = cls.name.title()

    # --- every carrier: no I/O ---------------------------------------------------------------------------------

    @abstractmethod
    def verify(self, request: WebhookRequest) -> None:
        """Return if ``request`` is provably the carrier's, else raise ``SignatureInvalid``.

        A missing header and a missing key are refusals too. Compare in constant time.
        """

    @abstractmethod
    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        """The event in a verified request. Pure. ``MalformedMessage`` when it cannot be read."""

    @abstractmethod
    def serializer(self) -> MediaSerializer:
        """A new serializer for one media stream."""

    # --- every carrier: over the network -----------------------------------------------------------------------

    @abstractmethod
    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        """Numbers on offer. What cannot be expressed: ``raise self.unsupported(...)``, never drop it in silence."""

    @abstractmethod
    async def dial(self, request: DialRequest) -> Call:
        """Ring someone: exactly one request, never retried. The call as the carrier first describes it."""

    @abstractmethod
    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        """Take the call and connect its audio to ``stream``: by the reply, by REST, or both. Asked again after
        ``ProviderUnavailable`` or ``RateLimited``: a call that is answered already is no error."""

    @abstractmethod
    async def hang_up(self, call_id: str) -> None:
        """End the call, ringing or answered. A call that is over already is success.

        A carrier with a listener raises ``CallElsewhere`` for a call that this process does not have, here and in all
        that is asked of one call: success would leave it up.
        """

    # --- some carriers: override to declare ---------------------------------------------------------------------

    async def buy_number(self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None) -> (
        OwnedNumber | PendingOrder
    ):
        """Buy a number found by search. An order not finished within ``timeout`` seconds comes back pending."""
        raise self.unsupported("buy_number")

    async def fetch_order(self, order_id: str) -> OwnedNumber | PendingOrder:
        """How a pending purchase stands."""
        raise self.unsupported("fetch_order")

    async def release_number(self, number: str) -> None:
        """Give the number back to the carrier: final. ``NotFound`` when the account does not hold it."""
        raise self.unsupported("release_number")

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        """All numbers of the account, or only ``number`` when given (an empty list: not held)."""
        raise self.unsupported("list_numbers")

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        """Make the carrier send the number's calls to ``webhook_url``; idempotent.

        ``dry_run`` only reports what would be written. A number the account does not hold is ``ok=False``.
        """
        raise self.unsupported("configure_number")

    async def unconfigure_number(self, number: str, *, webhook_url: str) -> SyncResult:
        """Make the carrier send the number's calls to ``webhook_url`` no more; idempotent.

        The account keeps the number, and settings that point elsewhere; a number it does not hold is ``ok=False``.
        """
        raise self.unsupported("unconfigure_number")

    async def check_credential(self) -> str:
        """Log in and return the account's public name; ``AuthenticationFailed`` when the secrets are wrong."""
        raise self.unsupported("check_credential")

    async def fetch_call(self, call_id: str) -> Call:
        """What the carrier knows of the call now; ``NotFound`` when nothing."""
        raise self.unsupported("fetch_call")

    async def reject(self, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        """Decline an incoming call. Default: hang up.

        ``reason`` is ``BUSY``, ``INVALID_NUMBER`` (no line of the credential has the number that was called) or
        ``REJECTED``; a carrier that cannot tell the caller one of them takes it for ``REJECTED``.
        """
        await self.hang_up(call.call_id)
        return WebhookReply()

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        """Send an incoming call, not answered by us, on to a number or ``sip:`` address.

        Show ``call.call.caller_id`` where it is not None: carriers refuse a second leg without a number to show.
        ``status_url`` is where the carrier is to tell what becomes of it, if it can be told so.
        """
        raise self.unsupported("forward")

    async def transfer(
        self,
        call_id: str,
        to: str,
        *,
        caller_id: str | None = None,
        status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Hand the far end of a live call to a number or ``sip:`` address; our media stream ends (blind transfer).

        ``headers`` are SIP or custom headers for the new leg; what cannot be sent is ``unsupported``, never dropped.
        """
        raise self.unsupported("transfer")

    async def instruct(
        self, event: InstructionsRequested, call: Call, stream: StreamTarget | None
    ) -> WebhookReply:
        """Say, in the reply to its webhook, what the carrier is to do with a call of ours.

        Override it, and return ``InstructionsRequested`` from ``parse_webhook``, when the carrier takes instructions
        for a dialled call only once it is answered, or by URL for a transfer. ``stream`` is the ``StreamTarget`` that
        ``dial`` was given, ticket and all; None for a transfer, and where there is nothing to connect any more: then
        end the call.
        """
        raise self.unsupported(
            "instruct", "override it, or do not return InstructionsRequested from parse_webhook"
        )

    async def send_digits(self, call_id: str, digits: str) -> None:
        """Press keys (0-9 A-D * #, ``w`` pauses half a second) without ending the media stream."""
        raise self.unsupported("send_digits")

    async def start_recording(self, call_id: str, *, status_url: str = "") -> str:
        """Let the carrier record a live call, both sides; the recording's id ("" when told later by webhook)."""
        raise self.unsupported("start_recording")

    async def stop_recording(self, call_id: str, recording_id: str = "") -> None:
        """Stop it."""
        raise self.unsupported("stop_recording")

    async def fetch_recording(self, recording_id: str) -> bytes:
        """The recording as WAV."""
        raise self.unsupported("fetch_recording")

    def listen(self, desk: Desk) -> Listener:
        """A listener of the carrier's own (SIP, RTP, a persistent socket), for carriers that do not call webhooks."""
        raise self.unsupported("listen")

    @classmethod
    def trial_phone(cls, settings: BaseModel | None, *, port: int, password: str) -> TrialPhone | None:
        """For trials without an account: lets a telephone on this machine, and only this one, call us.

        ``settings`` are the operator's, if any; ``port`` is one to listen on where they name none. None: no such thing.
        """
        return None

    # --- how this carrier wants to be answered --------------------------------------------------------------------

    def acknowledge(self, event: CallEvent) -> WebhookReply:
        """The reply to an event that asks nothing of us."""
        return WebhookReply(status=204)

    def leave_ringing(self, call: IncomingCall) -> WebhookReply:
        """The reply that neither takes nor declines a call: it rings on. Default: acknowledge."""
        return self.acknowledge(call)

    def refuse(self, error: AnycarrierError) -> WebhookReply:
        """The reply to a request that is forged, replayed or unreadable, or that we failed to handle."""
        if isinstance(error, Replayed):
            return WebhookReply(status=409, body=b"already handled")
        if isinstance(error, SignatureInvalid):
            return WebhookReply(status=403, body=b"signature refused")
        if isinstance(error, MalformedMessage):
            return WebhookReply(status=400, body=b"unreadable")
        return WebhookReply(status=500, body=b"not handled")

    # --- helpers for authors; those for its REST API are in anycarrier.rest -------------------------------------

    def supports(self, capability: Capability) -> bool:
        """True when this carrier's plugin can do it."""
        return capability in self.capabilities

    async def facts(self, call_id: str) -> Mapping[str, str]:
        """What this provider has kept with the call (``Call.facts``), from whichever process; empty when nothing."""
        return await self.call_facts(call_id) if self.call_facts is not None else {}

    def refuse_fields(self, operation: str, request: BaseModel, /, **why: str) -> None:
        """``UnsupportedOperation`` if one of these fields is set, with the reason given for it.

        ``self.refuse_fields("dial", request, record="acme does not record", headers="acme sends no headers")``.
        """
        for name, reason in why.items():
            if getattr(request, name) != type(request).model_fields[name].get_default(call_default_factory=True):
                raise self.unsupported(operation, reason)

    def require_format(self, operation: str, stream: StreamTarget, *formats: AudioFormat) -> None:
        """``UnsupportedOperation`` unless ``stream`` is in one of these formats."""
        if stream.format not in formats:
            able = " or ".join(f"{each.encoding} at {each.rate} Hz" for each in formats)
            asked = f"streams of {stream.format.encoding} at {stream.format.rate} Hz"
            raise self.unsupported(operation, f"{self.name} has {able}, no {asked}")

    def not_held(self, operation: str, number: str) -> NotFound:
        """The error for a number that the account does not hold."""
        return NotFound(self.name, operation, f"the account does not hold {mask_number(number)}")

    async def wait_for_order(
        self,
        order: PendingOrder,
        timeout: float,
        look: Callable[[str], Awaitable[OwnedNumber | PendingOrder]] | None = None,
    ) -> OwnedNumber | PendingOrder:
        """``order`` once it is fulfilled, or as it stands after ``timeout`` seconds.

        ``look`` asks for it by its id, and raises where it has failed; by default :meth:`fetch_order`. It is asked at
        once, and then every :attr:`order_poll` seconds. The order stands even if a question about it fails.
        """
        found: OwnedNumber | PendingOrder = order

        async def pending() -> bool:
            nonlocal found
            with suppress(ProviderUnavailable, RateLimited):
                found = await (look or self.fetch_order)(order.id)
            return not isinstance(found, OwnedNumber)

        await self.wait_while(pending, timeout)
        return found

    async def wait_while(self, pending: Callable[[], Awaitable[bool]], timeout: float) -> None:
        """Until ``pending()`` is false, at most ``timeout`` seconds; asked at once, then every :attr:`order_poll`."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while await pending():
            wait = min(self.order_poll, deadline - clock())
            if wait <= 0:
                return
            await asyncio.sleep(wait)

    async def aclose(self) -> None:
        """Let go of what the provider holds; the shared client is its owner's to close."""
