"""One call at Asterisk: its channel, the media channel beside it, the bridge they meet in, a transfer's second leg."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from anycarrier import errors, events
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, StreamTarget
from anycarrier.parsing import moment
from anycarrier_asterisk.call_status import NO_NEWS, RAISED, reason_of, sip_status, words_of
from anycarrier_asterisk.frames import CUSTOM, NAMES

if TYPE_CHECKING:
    from anycarrier_asterisk.listener import AsteriskListener

Event = Mapping[str, Any]
MEDIA_PATIENCE, CAUSE_PATIENCE, LEG_RINGS = 10.0, 1.0, 30
"""Seconds to connect to our media socket; to tell why a channel has left, if ever; that a transfer's target rings."""


class AsteriskCall:
    """Its events come by :class:`AsteriskListener`, in order; what they ask for is done by REST, beside them."""

    def __init__(self, listener: AsteriskListener, call: Call, request: DialRequest | None = None) -> None:
        self.listener, self.ari, self.call, self.request, self.id = listener, listener.ari, call, request, call.id
        self.media_id, self.bridge_id = (f"{listener.prefix}{kind}.{call.id}" for kind in ("media", "bridge"))
        self.leg_id = self.recording = self.dial_status = self.leg_dial_status = ""
        self.first, self.over = asyncio.Event(), asyncio.Event()  # a first word was heard of it; it is over
        self.placed = request is None  # Asterisk has it, as far as we know
        self.asked = self.joined = self.rang = self.in_stasis = self.handed_over = False
        """We have hung up; caller and media are in the bridge; it has rung; it is in Stasis; the second leg has it."""
        self.answered_at: datetime | None = None
        self.refusal: errors.ProviderError | None = None
        self.spawn = partial(listener.desk.spawn, what=f"go on with asterisk call {call.id}")
        self.cleared: asyncio.Task[Any] | None = None
        self._media: asyncio.Future[Event] | None = None  # {} once the media channel is up, else the event of its end
        listener.calls[call.id] = self

    def tell(self, told: type[events.CallEvent], what: str, event: Event, **fields: Any) -> None:
        self.listener.desk.tell(told(call_id=self.id, event_id=f"{self.id}:{what}", raw=event, **fields))

    def heard(self, kind: str, state: str, event: Event) -> None:
        """An event of its own channel."""
        self.in_stasis = self.in_stasis or kind == "StasisStart"
        self.dial_status = str(event.get("dialstatus") or self.dial_status)
        once = f"{kind}:{event.get('timestamp')}"
        if kind == "ChannelDestroyed":
            self.ended(event)
        elif kind == "StasisEnd":
            self.left()
        elif kind == "ChannelDtmfReceived" and not self.joined:  # after that the media socket tells keys, and sooner
            self.tell(events.DigitReported, once, event, digit=str(event.get("digit", "")))
        elif kind not in NO_NEWS:
            self.tell(events.UnknownEvent, once, event, kind=kind)
        if self.request is None or self.over.is_set() or self.answered_at is not None:
            return
        if (state == "Ringing" or self.dial_status == "RINGING") and not self.rang:
            self.rang = True
            self.listener.desk.tell(self.news(CallStatus.RINGING, event))
        if state == "Up" and self.in_stasis:  # where early media brings it before it is answered
            self.answered_at = moment(event.get("timestamp")) or datetime.now(UTC)
            self.first.set()
            self.spawn(self._talk(self.request))

    def left(self) -> None:  # why, may be told in a moment
        asyncio.get_running_loop().call_later(CAUSE_PATIENCE, self.ended, {})

    def ended(self, event: Event) -> None:
        """It is over, once. Asterisk leaves the media channel and the bridge to us."""
        if self.over.is_set():
            return
        answered, status, words = self.answered_at is not None, sip_status(event), words_of(event, self.dial_status)
        reason = reason_of(event, self.dial_status, answered=answered, ours=self.asked)
        if self.request is not None and not (self.rang or answered or self.asked) and (kind := RAISED.get(reason)):
            known = None if status == 402 else kind
            self.refusal = self.listener.provider.error("dial", status, message=words, kind=known)
        if self.leg_id and not self.handed_over:
            self.tell(events.TransferProgress, f"{self.leg_id}:over", event, status="canceled")
        told = self.news(CallStatus.ENDED, event, reason=reason, carrier_status=words, sip_code=status)
        self.listener.desk.tell(told)
        self.over.set()
        if self._media is not None and not self._media.done():
            self._media.set_result({"cause_txt": words})
        self.listener.ended[self.id] = self.listener.calls.pop(self.id)
        rest = [("channels", name) for name in (self.media_id, self.leg_id) if self.listener.beside.pop(name, None)]
        self.cleared = self.spawn(self._delete(*rest, ("bridges", self.bridge_id)))

    def news(self, status: CallStatus, event: Event, **known: Any) -> events.CallProgress:
        at, told = moment(event.get("timestamp")), f"{self.id}:{status}"
        now = {"status": status, "answered_at": self.answered_at, "raw": dict(event), **known}
        self.call = call = self.call.model_copy(update=now)
        if status is not CallStatus.INITIATED:
            self.first.set()
        return events.CallProgress(
            call=call, call_id=self.id, reference=call.reference, event_id=told, occurred_at=at, raw=event
        )

    async def _delete(self, *those: tuple[str, str]) -> None:
        for kind, name in those:
            with suppress(errors.AnycarrierError):  # what cannot be deleted now is swept up later
                await self.ari("hang_up", "DELETE", kind, name)

    def heard_of_media(self, kind: str, event: Event) -> None:
        """The media channel is up, or gone: the call itself stays up then, silent."""
        gone = kind in ("StasisEnd", "ChannelDestroyed")
        if self._media is not None and not self._media.done() and (gone or kind == "StasisStart"):
            self._media.set_result(event if gone else {})
        elif gone and self.joined and not (self.leg_id or self.asked):
            self.tell(events.StreamProgress, "media", event, status="failed", detail=words_of(event))

    async def take(self, stream: StreamTarget, operation: str) -> None:
        try:
            if not (self.joined or self.over.is_set()):  # it may be asked again
                await self._connect(stream, operation)
        except errors.AnycarrierError:
            if not self.over.is_set():  # else the far end was quicker
                raise
        if self.over.is_set():  # what was still being made when it ended
            await self._delete(("channels", self.media_id), ("bridges", self.bridge_id))

    async def _connect(self, stream: StreamTarget, operation: str) -> None:
        credential = self.listener.credential
        body: dict[str, Any] = {
            "channelId": self.media_id, "app": credential.app, "external_host": credential.media_connection,
            "transport": "websocket", "encapsulation": "none", "format": NAMES[stream.format],
            "transport_data": f"f(json)v(ticket={stream.ticket})",  # always: else the last call's would be sent again
        }  # fmt: skip
        if stream.custom:
            body["variables"] = {CUSTOM: msgspec.json.encode(dict(stream.custom)).decode()}
        if self._media is None or (self._media.done() and self._media.result()):  # not where the first try was heard
            self._media = asyncio.get_running_loop().create_future()  # before: its events may overtake the answer
        self.listener.beside[self.media_id] = self
        with self.listener.provider.tolerating(409):  # asked again, since the answer was lost
            await self.ari(operation, "POST", "channels", "externalMedia", json=body)
        up, _ = await asyncio.wait([self._media], timeout=MEDIA_PATIENCE)
        if not up or self._media.result():
            why = words_of(self._media.result()) if up else f"nothing within {MEDIA_PATIENCE:g} s"
            why = f"Asterisk did not connect to our media socket: {why}"
            advice = f"See whether [{credential.media_connection}] of websocket_client.conf leads to our /media."
            raise errors.RequestRejected("asterisk", operation, why, next_step=advice)
        await self._join(operation, self.id, self.media_id)
        self.joined = True
        if not self.over.is_set():  # now the agent begins: not a word of either is lost
            await self.listener.desk.event(self.news(CallStatus.ANSWERED, {}))

    async def _join(self, operation: str, *channels: str) -> None:
        if self.call.direction is Direction.INBOUND and self.answered_at is None:
            await self.ari(operation, "POST", "channels", self.id, "answer")
            self.answered_at = datetime.now(UTC)
        with self.listener.provider.tolerating(409):  # it is there already
            await self.ari(operation, "POST", "bridges", json={"type": "mixing", "bridgeId": self.bridge_id})
        joining = {"channel": ",".join(channels)}
        await self.ari(operation, "POST", "bridges", self.bridge_id, "addChannel", params=joining)

    async def _talk(self, request: DialRequest) -> None:  # a call of ours is answered
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
                self.tell(events.StreamProgress, "media", {}, status="failed", detail=str(problem))

    async def hang_up(self, operation: str = "hang_up", reason: str = "normal") -> None:
        if not self.over.is_set():
            self.asked = True
            with self.listener.provider.tolerating(404):  # one that Asterisk does not know is over
                await self.ari(operation, "DELETE", "channels", self.id, params={"reason": reason})
            self.left()

    async def send_digits(self, digits: str, operation: str) -> None:  # w waits half a second, W a second
        for waits, keys in re.findall("([wW]*)([0-9A-Da-d#*]+)", digits):
            told = {"dtmf": keys, "before": 500 * waits.count("w") + 1000 * waits.count("W")}
            await self.ari(operation, "POST", "channels", self.id, "dtmf", params=told)

    async def record(self, operation: str) -> str:  # the bridge: of a channel in one Asterisk agrees to, and does not
        self.recording = name = f"{self.listener.prefix}recording.{secrets.token_hex(8)}"
        await self.ari(operation, "POST", "bridges", self.bridge_id, "record", json={"name": name, "format": "wav"})
        return name

    async def send_on(self, operation: str, to: str, shown: str, headers: Mapping[str, str]) -> None:
        """Ring ``to``, and connect it to this call once it has answered; until then the call is the agent's."""
        if self.leg_id or self.over.is_set() or (operation == "transfer" and not self.joined):
            raise errors.RequestRejected("asterisk", operation, "the call is not up, or is handed on already")
        self.leg_id, self.leg_dial_status = f"{self.listener.prefix}leg.{secrets.token_hex(4)}.{self.id}", ""
        self.listener.beside[self.leg_id] = self
        try:
            await self.listener.provider.originate(operation, self.leg_id, to, shown, LEG_RINGS, "leg", headers)
        except errors.AnycarrierError:
            self.listener.beside.pop(self.leg_id, None)
            self.leg_id = ""
            raise
        if self.over.is_set():  # it was asked for when the far end left: nobody is there to talk to
            await self._delete(("channels", self.leg_id))

    def heard_of_leg(self, kind: str, event: Event) -> None:
        """The target answers, does not take the call, or has left it: then nobody is there for the far end any more."""
        self.leg_dial_status = str(event.get("dialstatus") or self.leg_dial_status)
        if kind == "StasisStart" and not self.handed_over:
            self.handed_over = True
            self.spawn(self._hand_over())
        elif kind == "ChannelDestroyed":
            self.listener.beside.pop(self.leg_id, None)
            told = str(reason_of(event, self.leg_dial_status, answered=False, ours=False))
            told = told if told in ("busy", "no_answer", "canceled") else "failed"
            if not self.handed_over:
                self.tell(events.TransferProgress, f"{self.leg_id}:over", event, status=told)
                self.leg_id = ""
            if self.handed_over or not self.joined:
                self.spawn(self.hang_up("hang_up", "busy" if told == "busy" else "normal"))

    async def _hand_over(self) -> None:
        try:
            await self._join("transfer", *([] if self.joined else [self.id]), self.leg_id)
            self.tell(events.TransferProgress, f"{self.leg_id}:up", {}, status="answered", target_call_id=self.leg_id)
            await self._delete(("channels", self.media_id))
        except errors.AnycarrierError as problem:
            self.handed_over = False
            await self._delete(("channels", self.leg_id))
            self.heard_of_leg("ChannelDestroyed", {"cause_txt": str(problem)})
