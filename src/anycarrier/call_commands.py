"""Commands to one call: hang up, transfer, press keys, record, ask the carrier how it stands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from anycarrier.audio import dtmf_tones
from anycarrier.call_phases import RING_GRACE, RING_TIME
from anycarrier.calls import Call, CallStatus, EndReason, TransferStatus, advance
from anycarrier.errors import CallElsewhere, ConfigurationError, ProviderUnavailable, StoreUnavailable
from anycarrier.provider import Capability, Provider
from anycarrier.sip import checked_headers
from anycarrier.switchboard import Switchboard

log = logging.getLogger("anycarrier")

UNCONFIRMED_TRANSFER = RING_TIME + RING_GRACE
"""Seconds in which a carrier that did not answer the request for a transfer shows that it has made it all the same, if
it has: the target may ring."""

STREAM_TAKEN = 10.0
"""The same where the stream ends as a transfer begins."""

FOLLOW = "find out what became of an attended transfer"


class CallCommands:
    """What :class:`anycarrier.exchange.Exchange` documents under the same names; sessions call them too."""

    def __init__(self, switchboard: Switchboard) -> None:
        self._board = switchboard
        self._asking: dict[str, asyncio.Task[Exception | None]] = {}
        """Transfers that a carrier is being asked for, by call reference."""
        self._unconfirmed: dict[str, asyncio.Task[None]] = {}
        """Transfers whose requests were not answered, so that nobody knows whether they were made."""

    async def hang_up(self, call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        """Write down why, then ask the carrier."""
        try:
            await self._hang_up(call, reason)
        except StoreUnavailable as unavailable:
            await self._hang_up_unwritten(call, reason, unavailable)

    async def _hang_up(self, call: Call | str, reason: EndReason) -> None:
        call = await self._board.known(call)
        if call.ended:
            return
        provider = await self._board.provider(call.credential_id)

        def asked(c: Call) -> Call:
            stands = c.intent is not None and (c.transfer is None or reason is not EndReason.API_STOP)
            return c if stands else c.model_copy(update={"intent": reason})

        call = await self._board.update(call.reference, asked)
        if call.id and (call.transfer is None or reason is EndReason.API_STOP):
            with self._board.asking(provider, "hang_up"), suppress(CallElsewhere):  # who has it finds the intent
                await provider.hang_up(call.id)

    async def _hang_up_unwritten(self, call: Call | str, reason: EndReason, unavailable: StoreUnavailable) -> None:
        """Ask the carrier although the reason cannot be written now. Raises when the call's leg is not known here."""
        key = call if isinstance(call, str) else call.reference
        session = self._board.sessions.get(key)
        known = session.call if session is not None else await self._board.calls.get(key)
        if known is None or not known.id:
            raise unavailable
        if known.ended or (known.transfer is not None and reason is not EndReason.API_STOP):
            return
        reason = self._board.keep_reason(known, reason)
        self._board.report(f"why a call is hung up ({reason})", unavailable)
        provider = await self._board.provider(known.credential_id)
        try:
            with self._board.asking(provider, "hang_up"):
                await provider.hang_up(known.id)
        except CallElsewhere:
            raise unavailable from None  # who has it cannot be told

    async def transfer(
        self,
        call: Call | str,
        to: str = "",
        *,
        replaces: Call | str | None = None,
        caller_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Check policy and guard, then ask the carrier; a refusal takes the transfer back."""
        try:
            checked_headers(headers or {})
        except ValueError as wrong:
            raise ConfigurationError(str(wrong)) from None
        if bool(to) is (replaces is not None):
            raise ConfigurationError("transfer needs a target: either to, or the call that it replaces")
        call = await self._board.named(call, "transfer")
        other = None
        if replaces is not None:
            other = await self._other(call, await self._board.named(replaces, "transfer"))
            to = other.remote_number
        self._board.policy.check_destination(call.line_number, to)
        if self._board.transfer_guard is not None:
            await self._board.transfer_guard(call, to)
        # In a task of its own: whoever asks may be cancelled meanwhile, and a call whose transfer was cut off half-way
        # would be neither the target's nor ours.
        asking = self._board.spawn(self._ask_for_transfer(call, other, to, caller_id, headers), "transfer a call")
        self._asking[call.reference] = asking
        asking.add_done_callback(lambda _: self._asking.pop(call.reference, None))
        try:
            refused = await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(lambda done: self._nobody_waited(call, done))
            raise
        if refused is not None:
            raise refused

    async def _other(self, call: Call, other: Call) -> Call:
        """``other``, if its far end can be connected to that of ``call``."""
        provider = await self._board.provider(call.credential_id)
        if not provider.attended_transfers:
            raise provider.unsupported("transfer", "it cannot connect two calls: give the target as to")
        if other.reference == call.reference or other.credential_id != call.credential_id:
            raise ConfigurationError("transfer: replaces is another call, of the same credential")
        if other.status is not CallStatus.ANSWERED or other.transfer is not None:
            raise ConfigurationError(
                "transfer: the call to replace is not answered, or is handed on already: talk to its far end first"
            )
        return other

    async def _ask_for_transfer(
        self, call: Call, other: Call | None, to: str, caller_id: str | None, headers: Mapping[str, str] | None
    ) -> Exception | None:
        """Returns the refusal. A hang-up that was asked for meanwhile is made up for then."""
        provider = await self._board.provider(call.credential_id)
        before = call.transfer
        requested = {"transfer": TransferStatus.REQUESTED}
        both = [call] if other is None else [call, other]
        for each in both:
            await self._board.update(each.reference, lambda c: c.model_copy(update=requested))
        attended: dict[str, Any] = {} if other is None else {"replaces": other.id}
        try:
            # Our own number unless told otherwise: carriers default to one we may not be allowed to show.
            shown = caller_id or call.line_number
            status_url = self._board.status_url(call)
            with self._board.asking(provider, "transfer"):
                await provider.transfer(
                    call.id, to, caller_id=shown, status_url=status_url, headers=headers, **attended
                )
        except Exception as refused:  # noqa: BLE001 whatever it is, it is raised to who asked
            if not (isinstance(refused, ProviderUnavailable) and refused.outcome_unknown):
                await self._give_back(call, provider, before)
                if other is not None:
                    await self._give_back(other, provider)
            elif before is None:
                task = self._board.spawn(self._find_out(call, provider), "find out what became of a transfer")
                self._unconfirmed[call.reference] = task
                task.add_done_callback(lambda _: self._unconfirmed.pop(call.reference, None))
                if other is not None:
                    self._board.spawn(self._follow(call, other, provider), FOLLOW)
            return refused
        if (unconfirmed := self._unconfirmed.get(call.reference)) is not None:
            unconfirmed.cancel()  # whatever became of the one before
        if not provider.reports_transfers:
            answered = {"transfer": TransferStatus.ANSWERED}
            for each in both:
                await self._board.update(each.reference, lambda c: c.model_copy(update=answered))
        elif other is not None:
            self._board.spawn(self._follow(call, other, provider), FOLLOW)
        return None

    async def _follow(self, call: Call, other: Call, provider: Provider) -> None:
        """What becomes of an attended transfer becomes of the call that it replaces too."""
        try:
            answered = await self.wait_for_transfer(call, UNCONFIRMED_TRANSFER) is not None
        except TimeoutError:
            answered = False
        if answered:
            taken = {"transfer": TransferStatus.ANSWERED}
            await self._board.update(other.reference, lambda c: c.model_copy(update=taken))
        else:
            await self._give_back(other, provider)

    async def _give_back(self, call: Call, provider: Provider, before: TransferStatus | None = None) -> None:
        def ours(c: Call) -> Call:
            return c.model_copy(update={"transfer": before}) if c.transfer is TransferStatus.REQUESTED else c

        now = await self._board.update(call.reference, ours)
        if now.transfer is None and now.intent is not None and not now.ended:
            self._board.spawn(provider.hang_up(call.id), "hang up a call whose agent has left during its transfer")

    async def _find_out(self, call: Call, provider: Provider) -> None:
        """Until the carrier reports on it or our stream ends, the call may be the target's; then it is ours again."""
        session = self._board.sessions.get(call.reference)
        patience = STREAM_TAKEN if provider.answers_in_reply and session is not None else UNCONFIRMED_TRANSFER
        told = asyncio.ensure_future(self.wait_for_transfer(call, patience))
        over = asyncio.ensure_future(session.wait_stopped()) if session is not None else None
        try:
            await asyncio.wait({told, over} if over is not None else {told}, return_when=asyncio.FIRST_COMPLETED)
            silent = told.done() and isinstance(told.exception(), TimeoutError)
        finally:
            told.cancel()
            if over is not None:
                over.cancel()
        if silent and (provider.reports_transfers if session is None else not session.ended):
            log.warning("call %s was not transferred: nothing was heard of it", call.reference)
            await self._give_back(call, provider)

    def _nobody_waited(self, call: Call, done: asyncio.Task[Exception | None]) -> None:
        if not done.cancelled() and done.exception() is None and (refused := done.result()) is not None:
            log.warning("call %s was not transferred: %s", call.reference, refused)

    async def transfer_asked(self, reference: str) -> None:
        """Wait until it is known whether the carrier makes the call's transfer, if it was asked for one."""
        for under_way in (self._asking, self._unconfirmed):
            if (task := under_way.get(reference)) is not None:
                await asyncio.wait({task})

    async def wait_for_transfer(self, call: Call | str, timeout: float = 60.0) -> TransferStatus | None:
        """ANSWERED, or None: nobody has taken the call."""

        def known(c: Call) -> bool:
            return c.transfer is not TransferStatus.REQUESTED or c.ended

        over = await self._board.wait_until(call, known, timeout)
        return TransferStatus.ANSWERED if over.transfer is TransferStatus.ANSWERED else None

    async def send_digits(self, call: Call | str, digits: str) -> None:
        """In frames of the media stream where the carrier takes them there, else by its command, else as tones."""
        call = await self._board.named(call, "send_digits")
        provider = await self._board.provider(call.credential_id)
        session = self._board.sessions.get(call.reference)
        if session is not None and not session.ended and await session.stream.output.send_digits(digits):
            return
        if provider.supports(Capability.SEND_DIGITS) or session is None:
            with self._board.asking(provider, "send_digits"):
                await provider.send_digits(call.id, digits)
            return
        await session.send_audio(dtmf_tones(digits, session.format))

    async def start_recording(self, call: Call | str) -> str:
        """The recording's id, "" when the carrier tells it later."""
        call = await self._board.named(call, "start_recording")
        provider = await self._board.provider(call.credential_id)
        with self._board.asking(provider, "start_recording"):
            return await provider.start_recording(call.id, status_url=self._board.status_url(call))

    async def stop_recording(self, call: Call | str, recording_id: str = "") -> None:
        """Stop the carrier's recording."""
        call = await self._board.named(call, "stop_recording")
        provider = await self._board.provider(call.credential_id)
        with self._board.asking(provider, "stop_recording"):
            await provider.stop_recording(call.id, recording_id)

    async def fetch_call(self, call: Call | str) -> Call:
        """Ask the carrier, and write down what is ahead of the call book."""
        call = await self._board.named(call, "fetch_call")
        provider = await self._board.provider(call.credential_id)
        try:
            with self._board.asking(provider, "fetch_call"):
                seen = await provider.fetch_call(call.id)
        except CallElsewhere:
            return call  # who has it writes down what becomes of it
        return await self._board.update(call.reference, lambda c: advance(c, seen, datetime.now(UTC)))
