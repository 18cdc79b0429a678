"""Commands to one call: hang up, transfer, press keys, record, ask the carrier how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from anycarrier.audio import dtmf_tones
from anycarrier.calls import Call, EndReason, TransferStatus, advance
from anycarrier.errors import AnycarrierError, ConfigurationError, StoreUnavailable
from anycarrier.provider import Capability
from anycarrier.sip import checked_headers
from anycarrier.switchboard import Switchboard


class CallCommands:
    """What :class:`anycarrier.exchange.Exchange` documents under the same names; sessions call them too."""

    def __init__(self, switchboard: Switchboard) -> None:
        self._board = switchboard

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
            await provider.hang_up(call.id)

    async def _hang_up_unwritten(self, call: Call | str, reason: EndReason, unavailable: StoreUnavailable) -> None:
        """Ask the carrier although the reason cannot be written now. Raises when the call's leg is not known here."""
        key = call if isinstance(call, str) else call.reference
        session = self._board.sessions.get(key)
        known = session.call if session is not None else await self._board.calls.get(key)
        if known is None or not known.id:
            raise unavailable
        if known.ended or known.intent is EndReason.TRANSFERRED:
            return
        reason = self._board.keep_reason(known, reason)
        self._board.report(f"why a call is hung up ({reason})", unavailable)
        await (await self._board.provider(known.credential_id)).hang_up(known.id)

    async def transfer(
        self, call: Call | str, to: str, *, caller_id: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Check policy and guard, then ask the carrier; a refusal takes the transfer back."""
        try:
            checked_headers(headers or {})
        except ValueError as wrong:
            raise ConfigurationError(str(wrong)) from None
        call = await self._board.named(call, "transfer")
        self._board.policy.check_destination(call.line_number, to)
        if self._board.transfer_guard is not None:
            await self._board.transfer_guard(call, to)
        provider = await self._board.provider(call.credential_id)
        before = call.transfer
        requested = {"transfer": TransferStatus.REQUESTED}
        await self._board.update(call.reference, lambda c: c.model_copy(update=requested))
        try:
            # Our own number unless told otherwise: carriers default to one we may not be allowed to show.
            shown = caller_id or call.line_number
            status_url = self._board.status_url(call)
            await provider.transfer(call.id, to, caller_id=shown, status_url=status_url, headers=headers)
        except AnycarrierError:
            await self._board.update(call.reference, lambda c: c.model_copy(update={"transfer": before}))
            raise
        if not provider.reports_transfers:
            answered = {"transfer": TransferStatus.ANSWERED}
            await self._board.update(call.reference, lambda c: c.model_copy(update=answered))

    async def send_digits(self, call: Call | str, digits: str) -> None:
        """In frames of the media stream where the carrier takes them there, else by its command, else as tones."""
        call = await self._board.named(call, "send_digits")
        provider = await self._board.provider(call.credential_id)
        session = self._board.sessions.get(call.reference)
        if session is not None and not session.ended and await session.stream.output.send_digits(digits):
            return
        if provider.supports(Capability.SEND_DIGITS) or session is None:
            await provider.send_digits(call.id, digits)
            return
        await session.send_audio(dtmf_tones(digits, session.format))

    async def start_recording(self, call: Call | str) -> str:
        """The recording's id, "" when the carrier tells it later."""
        call = await self._board.named(call, "start_recording")
        provider = await self._board.provider(call.credential_id)
        return await provider.start_recording(call.id, status_url=self._board.status_url(call))

    async def stop_recording(self, call: Call | str, recording_id: str = "") -> None:
        """Stop the carrier's recording."""
        call = await self._board.named(call, "stop_recording")
        await (await self._board.provider(call.credential_id)).stop_recording(call.id, recording_id)

    async def fetch_call(self, call: Call | str) -> Call:
        """Ask the carrier, and write down what is ahead of the call book."""
        call = await self._board.named(call, "fetch_call")
        seen = await (await self._board.provider(call.credential_id)).fetch_call(call.id)
        return await self._board.update(call.reference, lambda c: advance(c, seen, datetime.now(UTC)))
