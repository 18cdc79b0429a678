"""The event socket of one credential, and the calls it tells of. An application's events go to one socket only."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from anycarrier import errors, events
from anycarrier.calls import Call, CallStatus, Direction
from anycarrier.listener import Desk, Figure, Health
from anycarrier.parsing import moment
from anycarrier.sip import headers_of
from anycarrier_asterisk.call import AsteriskCall
from anycarrier_asterisk.call_status import too_old

if TYPE_CHECKING:
    from anycarrier_asterisk.provider import AsteriskProvider

log = logging.getLogger("anycarrier")

PAUSES, STOP_PATIENCE, MOST_REMEMBERED = (0.5, 30.0), 5.0, 1000
"""Seconds before a lost socket is opened again, the first time and at most; that calls have to end when we stop; and
how many that ended are known."""
NO_NEWS = frozenset({
    "StasisStart", "ChannelCreated", "ChannelVarset", "ChannelDialplan", "ChannelCallerId", "ChannelConnectedLine",
    "ChannelStateChange", "ChannelHangupRequest", "ChannelEnteredBridge", "ChannelLeftBridge", "ChannelDtmfReceived",
})  # fmt: skip
RECORDINGS = {"RecordingStarted": "in_progress", "RecordingFinished": "completed", "RecordingFailed": "failed"}


class AsteriskListener:
    """See the module. What is lost while the socket is down, REST tells after it."""

    def __init__(self, provider: AsteriskProvider, desk: Desk) -> None:
        self.provider, self.desk, self.credential, self.ari = provider, desk, provider.credential, provider.ari
        self.app, self.prefix = self.credential.app, self.credential.prefix
        self.calls: dict[str, AsteriskCall] = {}
        self.legs: dict[str, AsteriskCall] = {}  # by the id of a transfer's second leg
        self.ended: OrderedDict[str, AsteriskCall] = OrderedDict()
        self.connected = self.draining = self._owned = False
        """The application was this process's last, and nobody has taken it over."""
        self._socket: ClientConnection | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Log in, end what a process that died has left, and hear."""
        await self._open()
        self._running = [asyncio.ensure_future(self._run())]

    async def stop(self) -> None:
        """Hang up, here and at Asterisk."""
        await asyncio.gather(*(call.hang_up() for call in [*self.calls.values()]), return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_PATIENCE):
                while self.calls or self._tasks:  # noqa: ASYNC110 calls end by events, and clear away in tasks
                    await asyncio.sleep(0.02)
        for call in [*self.calls.values()]:
            call.ended({})
        tasks = [*self._tasks, *self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.connected = False
        if self._socket is not None:
            await self._socket.close()

    async def _open(self) -> None:
        told = await self.ari("listen", "GET", "asterisk", "info", params={"only": "system"})
        if too_old(version := str(((told or {}).get("system") or {}).get("version", ""))):
            needed = "20.18, 22.8, 23.2 or later is needed"
            raise errors.ConfigurationError(f"asterisk {version} has no chan_websocket that speaks JSON: {needed}")
        for tries in () if self._owned else range(5):  # one that has just been closed is there for a moment still
            try:
                await self.ari("listen", "GET", "applications", self.app)
            except errors.NotFound:
                break
            if tries == 4:
                advice = "give each an app of its own, or let this one wait until the other is gone"
                raise errors.ConfigurationError(f"asterisk application {self.app} is another process's: {advice}")
            await asyncio.sleep(0.2)
        before = await self._channels()
        url = f"{self.credential.root.replace('http', 'ws', 1)}/events?app={self.app}"
        login = base64.b64encode(":".join(self.provider.auth()).encode()).decode()
        try:
            self._socket = await connect(url, additional_headers={"Authorization": f"Basic {login}"}, proxy=None)
        except InvalidStatus as refused:
            raise self.provider.error("listen", refused.response.status_code) from None
        except (OSError, InvalidHandshake, TimeoutError) as failed:
            problem = f"no event socket: {type(failed).__name__}"
            raise errors.ProviderUnavailable("asterisk", "listen", problem) from failed
        self.connected = self._owned = True
        # Nobody hears a caller who was in the application before it was ours.
        await self.compare([name for name, channel in before.items() if self._in_stasis(channel)])

    async def _run(self) -> None:
        while True:
            assert self._socket is not None
            with suppress(ConnectionClosed):
                async for frame in self._socket:
                    self._heard(frame)
            self.connected, pause = False, PAUSES[0]
            log.warning("asterisk application %s: the event socket is closed, and opened again", self.app)
            while not self.connected:
                await asyncio.sleep(pause)
                try:
                    await self._open()
                except errors.AnycarrierError as problem:
                    log.log(logging.WARNING if pause == PAUSES[0] else logging.DEBUG, "%s", problem)
                    with suppress(errors.AnycarrierError):  # calls go on, and end, without events
                        await self.compare()
                pause = min(2 * pause, PAUSES[1])

    # --- what Asterisk has ------------------------------------------------------------------------------------------

    async def _channels(self) -> dict[str, Mapping[str, Any]]:
        return {str(each["id"]): each for each in await self.ari("listen", "GET", "channels")}

    def _in_stasis(self, channel: Mapping[str, Any]) -> bool:
        plan = channel.get("dialplan") or {}
        return plan.get("app_name") == "Stasis" and str(plan.get("app_data")).split(",")[0] == self.app

    async def compare(self, strangers: Sequence[str] = ()) -> None:
        """End here what is over there, and there what is nobody's here; catch up with what was answered meanwhile."""
        known = [call for call in self.calls.values() if call.placed]
        channels = await self._channels()
        for call in known:
            if (channel := channels.get(call.id)) is None:
                call.ended({})
                continue
            if call.leg_id and call.leg_id not in channels:
                call.leg_gone({})
            if call.media_id not in channels and call.joined:
                call.media({"cause_txt": "it is gone"})
            call.in_stasis = call.in_stasis or self._in_stasis(channel)
            call.became(str(channel.get("state")), {})
        bridges = [str(each["id"]) for each in await self.ari("listen", "GET", "bridges")]
        here = [name for call in self.calls.values() for name in (call.id, call.media_id, call.bridge_id, call.leg_id)]
        for kind, names in (("channels", [*channels]), ("bridges", bridges)):
            for name in names:
                if name not in here and (name.startswith(self.prefix) or name in strangers):
                    log.warning("asterisk %s %s is nobody's here, and ended", kind, name)
                    with suppress(errors.AnycarrierError):
                        await self.ari("listen", "DELETE", kind, name)

    # --- what it tells ----------------------------------------------------------------------------------------------

    def _heard(self, frame: str | bytes) -> None:
        try:
            event = json.loads(frame)
            channel = event.get("channel") or event.get("peer") or {}
            self._event(str(event["type"]), str(channel.get("id", "")), channel, event)
        except Exception as problem:  # whatever it was, the next is heard
            log.error("an asterisk event was not understood: %s", type(problem).__name__, exc_info=problem)

    def _event(self, kind: str, name: str, channel: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        gone = kind == "ChannelDestroyed"
        if kind == "ApplicationReplaced":
            log.error("asterisk application %s was taken over: give each process an app of its own", self.app)
            self._owned = False
            if self._socket is not None:  # open, but deaf
                self.spawn(self._socket.close())
        elif kind in RECORDINGS:
            told, of = RECORDINGS[kind], event.get("recording") or {}
            call_id, name = str(of.get("target_uri")).removeprefix(f"bridge:{self.prefix}bridge."), str(of.get("name"))
            self.desk.tell(events.RecordingProgress(
                call_id=call_id, event_id=f"{name}:{told}", status=told, recording_id=name, raw=event,
                duration=of.get("duration"),
            ))  # fmt: skip
        elif (call := self.calls.get(name)) is not None:
            self._of_call(kind, call, str(channel.get("state")), event)
        elif (call := self.legs.get(name)) is not None:
            call.leg_dial_status = str(event.get("dialstatus") or call.leg_dial_status)
            if gone:
                call.leg_gone(event)
            elif kind == "StasisStart":
                call.leg_up()
        elif (call := self.calls.get(name.removeprefix(f"{self.prefix}media."))) is not None:
            if gone or kind in ("StasisStart", "StasisEnd"):
                call.media({} if kind == "StasisStart" else event)
        elif kind == "StasisStart" and not name.startswith(self.prefix) and name not in self.ended:
            self._incoming(name, channel, event)

    def _of_call(self, kind: str, call: AsteriskCall, state: str, event: Mapping[str, Any]) -> None:
        call.in_stasis = call.in_stasis or kind == "StasisStart"
        once = f"{call.id}:{kind}:{event.get('timestamp')}"
        told: dict[str, Any] = {"call_id": call.id, "event_id": once, "raw": event}
        if kind == "ChannelDestroyed":
            call.ended(event)
        elif kind == "StasisEnd":
            call.left()
        elif kind == "Dial":
            call.dial_status = str(event.get("dialstatus") or call.dial_status)
        elif kind == "ChannelDtmfReceived" and not call.joined:  # after that the media socket tells keys, and sooner
            self.desk.tell(events.DigitReported(digit=str(event.get("digit", "")), **told))
        elif kind not in NO_NEWS:
            self.desk.tell(events.UnknownEvent(kind=kind, **told))
        call.became("Ringing" if event.get("dialstatus") == "RINGING" else state, event)

    def _incoming(self, name: str, channel: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """``Stasis(APP,in,${EXTEN}[,Header=value...])``."""
        args, at = [str(arg) for arg in event.get("args") or []], moment(event.get("timestamp"))
        dialled = args[1] if len(args) > 1 and args[0] == "in" else (channel.get("dialplan") or {}).get("exten", "")
        call = Call(
            id=name, provider="asterisk", direction=Direction.INBOUND, to=str(dialled), status=CallStatus.RINGING,
            from_=str((channel.get("caller") or {}).get("number") or "anonymous"), created_at=at, raw=event,
        )  # fmt: skip
        self.calls[name] = AsteriskCall(self, call)
        headers = headers_of(dict(arg.split("=", 1) for arg in args[2:] if "=" in arg))
        self.spawn(self._announce(self.calls[name], events.IncomingCall(
            call=call, call_id=name, event_id=f"{name}:start", occurred_at=at, raw=event, headers=headers,
            forwarded_from=channel.get("caller_rdnis") or None,
        )))  # fmt: skip

    async def _announce(self, call: AsteriskCall, event: events.IncomingCall) -> None:
        taken = False
        try:
            taken = not self.draining and (await self.desk.event(event)).status < 400
        finally:
            if not taken:
                await call.hang_up("reject", "congestion")

    # --- what is asked ----------------------------------------------------------------------------------------------

    def over(self, call: AsteriskCall) -> None:
        """The call has ended: it is known for a while."""
        self.calls.pop(call.id, None)
        self.ended[call.id] = call
        if len(self.ended) > MOST_REMEMBERED:
            self.ended.popitem(last=False)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` beside; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            known = isinstance(failure, errors.AnycarrierError)
            log.error("asterisk: %s", failure, exc_info=None if known else failure)

    def health(self) -> list[Health]:
        found = f"application {self.app} is {'' if self.connected else 'not '}connected"
        return [Health("event socket", self.connected, found)]

    def figures(self) -> list[Figure]:
        return [Figure("asterisk_calls", "Calls in progress at Asterisk", len(self.calls))]

    def drain(self) -> None:
        """New calls get congestion, so that their trunk tries elsewhere."""
        self.draining = True
