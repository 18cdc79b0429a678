"""The event socket of one credential, and the calls it tells of. An application's events go to one socket only."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
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

if TYPE_CHECKING:
    from anycarrier_asterisk.provider import AsteriskProvider

log = logging.getLogger("anycarrier")

PAUSES, STOP_PATIENCE, MOST_REMEMBERED = (0.5, 30.0), 5.0, 1000
"""Seconds before a lost socket is opened again, first and at most; to clear away in when we stop; ended calls known."""
TOLD = {"RecordingStarted": "in_progress", "RecordingFinished": "completed", "RecordingFailed": "failed"}


class AsteriskListener:
    """See the module. What is lost while the socket is down, REST tells after it."""
    def __init__(self, provider: AsteriskProvider, desk: Desk) -> None:
        self.provider, self.desk, self.credential, self.ari = provider, desk, provider.credential, provider.ari
        self.app, self.prefix = self.credential.app, f"anycarrier.{self.credential.app}."
        self.calls: dict[str, AsteriskCall] = {}
        self.ended: OrderedDict[str, AsteriskCall] = OrderedDict()
        self.beside: dict[str, AsteriskCall] = {}  # by the ids of media channels, and of transfers' second legs
        self.connected = self.draining = self._owned = False  # owned: the application was last this process's
        self._socket: ClientConnection
        self._running: asyncio.Task[Any]

    async def start(self) -> None:
        await self._open()
        self._running = self.desk.spawn(self._run(), "hear asterisk's events")

    async def stop(self) -> None:
        calls = [*self.calls.values()]
        await asyncio.gather(*(call.hang_up() for call in calls), return_exceptions=True)
        for call in calls:
            call.ended({})
        if calls:
            await asyncio.wait([call.cleared for call in calls if call.cleared], timeout=STOP_PATIENCE)
        self.connected = False
        self._running.cancel()
        await self._socket.close()

    async def _open(self) -> None:
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
        url = f"{self.credential.base_url.replace('http', 'ws', 1)}/ari/events?app={self.app}"
        login = {"Authorization": "Basic " + base64.b64encode(":".join(self.provider.auth()).encode()).decode()}
        try:
            self._socket = await connect(url, additional_headers=login, proxy=None)
        except (OSError, InvalidHandshake, TimeoutError) as failed:
            status = failed.response.status_code if isinstance(failed, InvalidStatus) else None
            raise self.provider.error("listen", status, message=f"no event socket: {type(failed).__name__}") from None
        self.connected = self._owned = True
        # A caller who was in the application before it was ours is heard by nobody.
        await self.compare({name for name, channel in before.items() if self._in_stasis(channel)})

    async def _run(self) -> None:
        while True:
            with suppress(ConnectionClosed):
                async for frame in self._socket:
                    self.heard(frame)
            self.connected, pause = False, PAUSES[0]
            log.warning("asterisk application %s: the event socket is closed, and opened again", self.app)
            while not self.connected:
                await asyncio.sleep(pause)
                try:
                    await self._open()
                except Exception as problem:  # noqa: BLE001  also an answer that is none: nobody else opens it again
                    log.log(logging.WARNING if pause == PAUSES[0] else logging.DEBUG, "%r", problem)
                    with suppress(Exception):  # calls go on, and end, without events
                        await self.compare(set())
                pause = min(2 * pause, PAUSES[1])

    async def _channels(self) -> dict[str, Mapping[str, Any]]:
        return {str(each["id"]): each for each in await self.ari("listen", "GET", "channels")}

    def _in_stasis(self, channel: Mapping[str, Any]) -> bool:
        plan = channel.get("dialplan") or {}
        return plan.get("app_name") == "Stasis" and str(plan.get("app_data")).split(",")[0] == self.app

    async def compare(self, strangers: set[str]) -> None:
        """Take in what events have not told; end at Asterisk what is nobody's here, and ``strangers``."""
        known = [*(name for name, call in self.calls.items() if call.placed), *self.beside]
        channels = await self._channels()
        for name in known:
            channel = channels.get(name, {})
            in_stasis = "StasisStart" if self._in_stasis(channel) else "ChannelStateChange"
            self._event(in_stasis if channel else "ChannelDestroyed", name, channel, {"cause_txt": "it is gone"})
        bridges = [str(each["id"]) for each in await self.ari("listen", "GET", "bridges")]
        ours = {*self.calls, *self.beside, *(call.bridge_id for call in self.calls.values())}
        for kind, names in (("channels", [*channels]), ("bridges", bridges)):
            for name in names:
                if name not in ours and (name.startswith(self.prefix) or name in strangers):
                    log.warning("asterisk %s %s is nobody's here, and ended", kind, name)
                    with suppress(errors.AnycarrierError):
                        await self.ari("listen", "DELETE", kind, name)

    def heard(self, frame: str | bytes) -> None:
        try:
            event = json.loads(frame)
            channel = event.get("channel") or event.get("peer") or {}
            self._event(str(event["type"]), str(channel.get("id", "")), channel, event)
        except Exception as problem:  # whatever it was, the next is heard
            log.error("an asterisk event was not understood: %s", type(problem).__name__, exc_info=problem)

    def _event(self, kind: str, name: str, channel: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        while len(self.ended) > MOST_REMEMBERED:
            self.ended.popitem(last=False)
        if kind == "ApplicationReplaced":
            log.error("asterisk application %s was taken over: give each process an app of its own", self.app)
            self._owned = False
            self.desk.spawn(self._socket.close(), "close an event socket that hears no more")
        elif kind in TOLD:
            of, told = event.get("recording") or {}, events.RecordingProgress
            whose = str(of.get("target_uri")).removeprefix(f"bridge:{self.prefix}bridge.")
            known = {"status": TOLD[kind], "recording_id": of.get("name"), "duration": of.get("duration")}
            if (call := self.calls.get(whose) or self.ended.get(whose)) is not None:
                call.tell(told, f"{of.get('name')}:{kind}", event, **known)
        elif (call := self.calls.get(name)) is not None:
            call.heard(kind, str(channel.get("state")), event)
        elif (call := self.beside.get(name)) is not None:
            (call.heard_of_media if name == call.media_id else call.heard_of_leg)(kind, event)
        elif kind == "StasisStart" and not name.startswith(self.prefix) and name not in self.ended:
            self._incoming(name, channel, event)

    def _incoming(self, name: str, channel: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        """``Stasis(APP,in,${EXTEN}[,Header=value...])``."""
        args, at = [str(arg) for arg in event.get("args") or []], moment(event.get("timestamp"))
        dialled = args[1] if len(args) > 1 and args[0] == "in" else (channel.get("dialplan") or {}).get("exten", "")
        call = Call(
            id=name, provider="asterisk", direction=Direction.INBOUND, to=str(dialled), status=CallStatus.RINGING,
            from_=str((channel.get("caller") or {}).get("number") or "anonymous"), created_at=at, raw=event,
        )  # fmt: skip
        headers = headers_of(dict(arg.split("=", 1) for arg in args[2:] if "=" in arg))
        told = events.IncomingCall(
            call=call, call_id=name, event_id=f"{name}:start", occurred_at=at, raw=event, headers=headers,
            forwarded_from=channel.get("caller_rdnis") or None,
        )  # fmt: skip
        self.desk.spawn(self._announce(AsteriskCall(self, call), told), "announce a call")

    async def _announce(self, call: AsteriskCall, event: events.IncomingCall) -> None:
        taken = False
        try:
            taken = not self.draining and (await self.desk.event(event)).status < 400
        finally:
            if not taken:
                await call.hang_up("reject", "congestion")

    def health(self) -> list[Health]:
        return [Health("event socket", self.connected, f"application {self.app}")]

    def figures(self) -> list[Figure]:
        return [Figure("asterisk_calls", "Calls in progress at Asterisk", len(self.calls))]

    def drain(self) -> None:  # new calls get congestion, so that their trunk tries elsewhere
        self.draining = True
