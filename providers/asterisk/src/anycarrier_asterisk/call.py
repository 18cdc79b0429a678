"""One call at Asterisk: its channel, the media channel beside it, the bridge they meet in, a transfer's second leg."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from anycarrier import errors, events
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, StreamTarget
from anycarrier.parsing import moment
from anycarrier_asterisk.call_status import RAISED, TRANSFERS, reason_of, sip_status, words_of
from anycarrier_asterisk.frames import CUSTOM, NAMES

if TYPE_CHECKING:
    from anycarrier_asterisk.listener import AsteriskListener

MEDIA_PATIENCE, CAUSE_PATIENCE, LEG_RINGS = 10.0, 1.0, 30
"""Seconds that Asterisk has to connect to our media socket; in which a ChannelDestroyed may tell why a channel has
left, which for Local channels may never come; and that the target of a transfer rings."""


class AsteriskCall:
    """Its events come by :class:`AsteriskListener`, in order; what they ask for is done by REST, beside them."""

    def __init__(self, listener: AsteriskListener, call: Call, request: DialRequest | None = None) -> None:
        self.listener, self.tell, self.ari = listener, listener.desk.tell, listener.provider.ari
        self.call, self.request, self.id = call, request, call.id
        self.media_id, self.bridge_id = (f"{listener.prefix}{kind}.{call.id}" for kind in ("media", "bridge"))
        self.leg_id = self.recording = self.dial_status = self.leg_dial_status = ""
        self.first, self.over = asyncio.Event(), asyncio.Event()  # a first word was heard of it; it is over
        self.placed = request is None  # Asterisk has it, as far as we know
        self.asked = self.joined = self.rang = self.in_stasis = self.handed_over = False
        """We have hung up; caller and media are in the bridge; it has rung; it is in Stasis; the second leg has it."""
        self.answered_at: datetime | None = None
        self.refusal: errors.ProviderError | None = None
        self._media: asyncio.Future[Mapping[str, Any]] | None = None
        """Of the media channel: {} once it is up, else the event of its end."""
        self._taking = asyncio.Lock()

    # --- what its channel does --------------------------------------------------------------------------------------

    def became(self, state: str, event: Mapping[str, Any]) -> None:
        """It rings; or it is up, and answered once it is in Stasis too: early media brings it there before."""
        if self.request is None or self.over.is_set() or self.answered_at is not None:
            return
        if state == "Ringing" and not self.rang:
            self.rang = True
            self.tell(self.news(CallStatus.RINGING, event))
        elif state == "Up" and self.in_stasis:
            self.answered_at = moment(event.get("timestamp")) or datetime.now(UTC)
            self.first.set()
            self.listener.spawn(self._talk(self.request))

    def left(self) -> None:
        """It is gone; why, may be told in a moment."""
        asyncio.get_running_loop().call_later(CAUSE_PATIENCE, self.ended, {})

    def ended(self, event: Mapping[str, Any]) -> None:
        """It is over, once. Asterisk leaves the media channel and the bridge to us."""
        if self.over.is_set():
            return
        answered, status, words = self.answered_at is not None, sip_status(event), words_of(event, self.dial_status)
        reason = reason_of(event, self.dial_status, answered=answered, ours=self.asked)
        if self.request is not None and not (self.rang or answered or self.asked) and (kind := RAISED.get(reason)):
            kind = errors.InsufficientFunds if status == 402 else kind
            self.refusal = self.listener.provider.error("dial", status, message=words, kind=kind)
        if self.leg_id and not self.handed_over:
            self._tell_transfer("canceled", event)
        self.call = self.call.model_copy(update={"reason": reason, "carrier_status": words, "sip_code": status})
        self.tell(self.news(CallStatus.ENDED, event))
        self.over.set()
        self.listener.over(self)
        rest = [("channels", self.leg_id)] if self.leg_id else []
        self.listener.spawn(self._delete(*rest, ("channels", self.media_id), ("bridges", self.bridge_id)))

    def news(self, status: CallStatus, event: Mapping[str, Any]) -> events.CallProgress:
        """How far it is now."""
        at, told = moment(event.get("timestamp")), f"{self.id}:{status}"
        ended_at = (at or datetime.now(UTC)) if status is CallStatus.ENDED else None
        now = {"status": status, "answered_at": self.answered_at, "ended_at": ended_at, "raw": dict(event)}
        self.call = self.call.model_copy(update=now)
        if status is not CallStatus.INITIATED:
            self.first.set()
        return events.CallProgress(
            call=self.call, call_id=self.id, reference=self.call.reference, event_id=told, occurred_at=at, raw=event,
        )  # fmt: skip

    async def _delete(self, *those: tuple[str, str]) -> None:
        for kind, name in those:
            with suppress(errors.AnycarrierError):  # what cannot be deleted now is swept up later
                await self.ari("hang_up", "DELETE", kind, name)

    # --- its audio --------------------------------------------------------------------------------------------------

    def media(self, event: Mapping[str, Any]) -> None:
        """The media channel is up, or, with the event of its end, gone: the call itself stays up, silent."""
        if self._media is not None and not self._media.done():
            self._media.set_result(event)
        elif event and self.joined and not (self.leg_id or self.asked or self.over.is_set()):
            self._lost(f"the media channel has ended: {words_of(event)}")

    def _lost(self, why: str) -> None:
        self.tell(events.StreamProgress(call_id=self.id, event_id=f"{self.id}:media", status="failed", detail=why))

    async def take(self, stream: StreamTarget, operation: str) -> None:
        """Answer it, and connect its audio to ``stream``; nothing where that was done."""
        async with self._taking:
            try:
                if not (self.joined or self.over.is_set()):
                    await self._connect(stream, operation)
            except errors.AnycarrierError:
                await self._delete(("channels", self.media_id))
                if not self.over.is_set():  # else the far end was quicker
                    raise

    async def _connect(self, stream: StreamTarget, operation: str) -> None:
        credential = self.listener.credential
        body: dict[str, Any] = {
            "channelId": self.media_id, "app": credential.app, "external_host": credential.media_connection,
            "transport": "websocket", "encapsulation": "none", "format": NAMES[stream.format],
            "transport_data": f"f(json)v(ticket={stream.ticket})",  # always: else the last call's would be sent again
        }  # fmt: skip
        if stream.custom:
            body["variables"] = {CUSTOM: msgspec.json.encode(dict(stream.custom)).decode()}
        self._media = asyncio.get_running_loop().create_future()  # before: its events may overtake the answer
        with self.listener.provider.tolerating(409):  # asked again, since the answer was lost
            await self.ari(operation, "POST", "channels", "externalMedia", json=body)
        over: asyncio.Future[Any] = asyncio.ensure_future(self.over.wait())
        await asyncio.wait([self._media, over], timeout=MEDIA_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if self.over.is_set():
            return
        if not self._media.done() or self._media.result():
            why = words_of(self._media.result()) if self._media.done() else f"nothing within {MEDIA_PATIENCE:g} s"
            advice = f"See whether uri in websocket_client.conf, [{credential.media_connection}], leads to our /media."
            why = f"Asterisk did not connect to our media socket: {why}"
            raise errors.RequestRejected("asterisk", operation, why, next_step=advice)
        await self._join(operation, self.id, self.media_id)
        self.joined = True
        if not self.over.is_set():  # now the agent begins: not a word of either is lost
            await self.listener.desk.event(self.news(CallStatus.ANSWERED, {}))

    async def _join(self, operation: str, *channels: str) -> None:
        if self.call.direction is Direction.INBOUND and self.answered_at is None:
            await self.ari(operation, "POST", "channels", self.id, "answer")
            self.answered_at = datetime.now(UTC)
        await self.ari(operation, "POST", "bridges", json={"type": "mixing", "bridgeId": self.bridge_id})
        joining = {"channel": ",".join(channels)}
        await self.ari(operation, "POST", "bridges", self.bridge_id, "addChannel", params=joining)

    async def _talk(self, request: DialRequest) -> None:
        """A call of ours is answered."""
        try:
            if request.time_limit is not None:
                limit = {"variable": "TIMEOUT(absolute)", "value": f"{request.time_limit:g}"}
                await self.ari("dial", "POST", "channels", self.id, "variable", params=limit)
            await self.take(request.stream, "dial")
            if request.record:
                await self.record("dial")
            await self.send_digits(request.digits or "", "dial")
        except errors.AnycarrierError as problem:
            if not self.over.is_set():
                self._lost(str(problem))

    # --- what is asked of it ----------------------------------------------------------------------------------------

    async def hang_up(self, operation: str = "hang_up", reason: str = "normal") -> None:
        """One that Asterisk does not know is over."""
        if not self.over.is_set():
            self.asked = True
            with self.listener.provider.tolerating(404):
                await self.ari(operation, "DELETE", "channels", self.id, params={"reason": reason})
            self.left()

    async def send_digits(self, digits: str, operation: str) -> None:
        """``w`` waits half a second, ``W`` a second, before the keys that follow."""
        for waits, keys in re.findall("([wW]*)([0-9A-Da-d#*]+)", digits):
            told = {"dtmf": keys, "before": 500 * waits.count("w") + 1000 * waits.count("W")}
            await self.ari(operation, "POST", "channels", self.id, "dtmf", params=told)

    async def record(self, operation: str) -> str:
        """The bridge: a channel in one cannot be recorded, which Asterisk says only after it has agreed to."""
        self.recording = name = f"{self.listener.prefix}recording.{secrets.token_hex(8)}"
        await self.ari(operation, "POST", "bridges", self.bridge_id, "record", json={"name": name, "format": "wav"})
        return name

    # --- a second leg -----------------------------------------------------------------------------------------------

    async def send_on(self, operation: str, to: str, shown: str, headers: Mapping[str, str]) -> None:
        """Ring ``to``, and connect it to this call once it has answered; until then the call is the agent's."""
        if self.leg_id or self.over.is_set() or (operation == "transfer" and not self.joined):
            raise errors.RequestRejected("asterisk", operation, "the call is not up, or is handed on already")
        self.leg_id, self.leg_dial_status = f"{self.listener.prefix}leg.{secrets.token_hex(4)}.{self.id}", ""
        self.listener.legs[self.leg_id] = self
        try:
            await self.listener.provider.originate(operation, self.leg_id, to, shown, LEG_RINGS, "leg", headers)
        except errors.AnycarrierError:
            self.listener.legs.pop(self.leg_id, None)
            self.leg_id = ""
            raise

    def leg_up(self) -> None:
        if not (self.handed_over or self.over.is_set()):
            self.handed_over = True
            self.listener.spawn(self._hand_over())

    async def _hand_over(self) -> None:
        try:
            await self._join("transfer", *([] if self.joined else [self.id]), self.leg_id)
        except errors.AnycarrierError as problem:
            self.handed_over = False
            await self._delete(("channels", self.leg_id))
            self.leg_gone({"cause_txt": str(problem)})
        else:
            self._tell_transfer("answered", {})
            await self._delete(("channels", self.media_id))

    def leg_gone(self, event: Mapping[str, Any]) -> None:
        """The target did not take the call, or has left it: then nobody is there for the far end any more."""
        if self.listener.legs.pop(self.leg_id, None) is None or self.over.is_set():
            return
        told = TRANSFERS.get(reason_of(event, self.leg_dial_status, answered=False, ours=False), "failed")
        if not self.handed_over:
            self._tell_transfer(told, event)
            self.leg_id = ""
        if self.handed_over or not self.joined:
            self.listener.spawn(self.hang_up("hang_up", "busy" if told == "busy" else "normal"))

    def _tell_transfer(self, status: str, event: Mapping[str, Any]) -> None:
        told, leg = f"{self.leg_id}:{status}", self.leg_id
        self.tell(events.TransferProgress(call_id=self.id, event_id=told, status=status, target_call_id=leg, raw=event))
