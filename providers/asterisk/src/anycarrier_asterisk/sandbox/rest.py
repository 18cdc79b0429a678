"""ARI by REST: what the adapter's requests, and anybody else's, come to. Parameters come in the query or the body."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from anycarrier.testing.far_end import CallRecorder
from anycarrier.testing.far_end_audio import beep, fax, greeting
from anycarrier.testing.sandbox import RestRequest
from anycarrier.testing.sandbox_numbers import (
    HANGS_UP_AFTER,
    RETRY_AFTER,
    RINGS_FOR,
    Login,
    Outcome,
    login_of,
    outcome_of,
)
from anycarrier_asterisk.sandbox.channels import HANGUP_REASONS, Bridge, Channel
from anycarrier_asterisk.sandbox.events import EventSocket, refuse
from anycarrier_asterisk.sandbox.media import FORMATS, FRAME_SECONDS, MediaSocket

if TYPE_CHECKING:
    from anycarrier_asterisk.sandbox.server import AsteriskSandbox

Fields = Mapping[str, Any]
LATE = 0.1
"""Seconds that an answer is late, with the quirk."""

REFUSED: Mapping[Outcome, tuple[int, int | None, str]] = {
    Outcome.BUSY: (17, 486, "BUSY"),
    Outcome.REJECTED: (21, 603, "BUSY"),
    Outcome.NOT_FOUND: (1, 404, "CHANUNAVAIL"),
}
"""Cause, SIP status and dial status of callees that ring first."""
REFUSED_AT_ONCE: Mapping[Outcome, tuple[int, int | None, str]] = {
    Outcome.INVALID_NUMBER: (28, 484, "CHANUNAVAIL"),
    Outcome.FORBIDDEN: (21, 403, "CHANUNAVAIL"),
    Outcome.NO_FUNDS: (21, 402, "CHANUNAVAIL"),
    Outcome.THROTTLED: (127, 429, "CHANUNAVAIL"),
    Outcome.SERVER_ERROR: (38, 500, "CONGESTION"),
}
"""The same of what the trunk refuses."""


class Refusal(Exception):
    """An error answer."""

    def __init__(self, status: int, message: str, key: str = "message") -> None:
        self.status, self.body = status, {key: message}
        super().__init__(message)


def build_app(server: AsteriskSandbox) -> Starlette:
    """The HTTP server."""
    api = Api(server)
    routes: list[Route | WebSocketRoute] = [
        Route(f"/ari{path}", api.handler(does), methods=[method]) for method, path, does in api.operations()
    ]
    return Starlette(routes=[*routes, WebSocketRoute("/ari/events", api.events)])


class Api:
    """The operations; each gets the parameters of its path, query and body together."""

    def __init__(self, server: AsteriskSandbox) -> None:
        self.server = server

    def operations(self) -> list[tuple[str, str, Callable[[Fields], Awaitable[Any]]]]:
        """Method, path and what is done; the paths that are not patterns first."""
        channel, bridge = "/channels/{channelId}", "/bridges/{bridgeId}"
        return [
            ("GET", "/asterisk/info", self.info),
            ("GET", "/applications/{applicationName}", self.application),
            ("GET", "/channels", self.list_channels),
            ("POST", "/channels", self.originate),
            ("POST", "/channels/externalMedia", self.external_media),
            ("GET", channel, self.get_channel),
            ("POST", channel, self.originate),
            ("DELETE", channel, self.hang_up),
            ("POST", channel + "/answer", self.answer),
            ("POST", channel + "/ring", self.ring),
            ("POST", channel + "/dtmf", self.dtmf),
            ("POST", channel + "/variable", self.set_variable),
            ("POST", channel + "/record", self.record_channel),
            ("GET", "/bridges", self.list_bridges),
            ("POST", "/bridges", self.create_bridge),
            ("DELETE", bridge, self.destroy_bridge),
            ("POST", bridge + "/addChannel", self.add_channel),
            ("POST", bridge + "/removeChannel", self.remove_channel),
            ("POST", bridge + "/record", self.record_bridge),
            ("POST", "/recordings/live/{recordingName}/stop", self.stop_recording),
            ("GET", "/recordings/stored/{recordingName}/file", self.recording_file),
        ]

    # --- requests -------------------------------------------------------------------------------------------------

    def handler(self, does: Callable[[Fields], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            content = await request.body()
            query = dict(request.query_params)
            record = RestRequest(request.method, request.url.path, query)
            self.server.requests.append(record)
            try:
                if content:
                    record.body = self._body(content)
                self._log_in(request.headers.get("authorization", ""), query.get("api_key", ""))
                answer = await does({**query, **(record.body or {}), **request.path_params})
            except Refusal as refusal:
                retry = {"retry-after": f"{RETRY_AFTER:g}"} if refusal.status == 429 else {}
                response: Response = JSONResponse(refusal.body, refusal.status, retry)
            else:
                response = answer if isinstance(answer, Response) else JSONResponse(answer)
                if answer is None:
                    response = Response(status_code=204)
            if "late answers" in self.server.quirks:
                await asyncio.sleep(LATE)
            record.status = response.status_code
            if waiting := self.server.after_answer:
                self.server.after_answer = []
                response.background = BackgroundTask(self._afterwards, waiting)
            return response

        return handle

    @staticmethod
    async def _afterwards(waiting: list[Callable[[], None]]) -> None:
        await asyncio.sleep(FRAME_SECONDS)  # nobody at a telephone notices sooner
        for each in waiting:
            each()

    @staticmethod
    def _body(content: bytes) -> dict[str, Any]:
        try:
            body = json.loads(content)
        except ValueError:
            raise Refusal(400, "Error parsing request body") from None
        if not isinstance(body, dict):
            raise Refusal(400, "Error parsing request body")
        return body

    def _log_in(self, header: str, api_key: str) -> None:
        user, _, password = api_key.partition(":")
        if header.startswith("Basic "):
            try:
                user, _, password = base64.b64decode(header[6:]).decode().partition(":")
            except (binascii.Error, ValueError):
                user = ""
        known = self.server.passwords.get(user, password)
        right = hmac.compare_digest(known.encode(), password.encode())
        login = login_of(password) if user and right else Login.WRONG
        if login is Login.WRONG:
            raise Refusal(401, "Authentication required")
        if login is Login.THROTTLED:  # by what stands before it
            raise Refusal(429, "Too many requests")
        if login in (Login.SUSPENDED, Login.BROKE):
            raise Refusal(403, "Write access denied")

    async def events(self, websocket: WebSocket) -> None:
        """The event socket's handshake."""
        app = websocket.query_params.get("app", "")
        try:
            self._log_in(websocket.headers.get("authorization", ""), websocket.query_params.get("api_key", ""))
            if not app:
                raise Refusal(400, "HTTP request is missing param: [app]")
        except Refusal as refusal:
            await refuse(websocket, refusal.status, str(refusal))
            return
        await websocket.accept()
        await EventSocket(self.server, app, websocket).run()

    # --- the server -----------------------------------------------------------------------------------------------

    async def info(self, asked: Fields) -> Any:
        return {"system": {"version": self.server.version, "entity_id": "02:fc:00:00:00:01"}}

    async def application(self, asked: Fields) -> Any:
        name = asked["applicationName"]
        if name not in self.server.sockets:
            raise Refusal(404, "Application not found")
        mine = [channel.id for channel in self.server.channels.values() if channel.app == name]
        bridges = [bridge.id for bridge in self.server.bridges.values() if bridge.app == name]
        return {
            "name": name, "channel_ids": mine, "bridge_ids": bridges, "endpoint_ids": [], "device_names": [],
            "events_allowed": [], "events_disallowed": [],
        }  # fmt: skip

    # --- channels -------------------------------------------------------------------------------------------------

    def _channel(self, asked: Fields, *, in_stasis: bool = False) -> Channel:
        channel = self.server.channels.get(str(asked["channelId"]))
        if channel is None:
            raise Refusal(404, "Channel not found")
        if in_stasis and channel.stasis is None:
            raise Refusal(409, "Channel not in Stasis application")
        return channel

    def _new_id(self, asked: Fields) -> str:
        wanted = str(asked.get("channelId") or self.server.new_id())
        if wanted in self.server.channels:
            raise Refusal(409, "Channel with given unique ID already exists")
        return wanted

    async def list_channels(self, asked: Fields) -> Any:
        return [channel.json() for channel in self.server.channels.values()]

    async def get_channel(self, asked: Fields) -> Any:
        return self._channel(asked).json()

    async def originate(self, asked: Fields) -> Any:
        if not (endpoint := str(asked.get("endpoint") or "")):
            raise Refusal(400, "Endpoint must be specified")
        name = self._new_id(asked)
        technology, _, rest = endpoint.partition("/")
        if technology not in ("PJSIP", "Local"):
            raise Refusal(500, "Allocation failed", "error")
        number = re.split("[@/]", rest)[0]
        outcome = outcome_of(number)
        if outcome is Outcome.TIMEOUT:
            await self.server.closing.wait()
        caller = str(asked.get("callerId") or "")
        channel = self.server.channel(
            name, endpoint, str(asked.get("app") or ""), caller=caller, connected=caller, exten=number,
            dialstring=rest, dialled=True, variables=dict(asked.get("variables") or {}),
        )  # fmt: skip
        far_end = self.server.telephone_of(channel, caller, number)
        for variable, value in channel.variables.items():
            if found := re.fullmatch(r"PJSIP_HEADER\(add,(.+)\)", variable):
                far_end.headers[found[1]] = str(value)
        args = str(asked.get("appArgs") or "")
        timeout = float(asked.get("timeout") or 30)
        self.server.start(self._live(channel, outcome, args.split(",") if args else [], timeout))
        return channel.json()

    async def _live(self, channel: Channel, outcome: Outcome, args: list[str], timeout: float) -> None:
        """What becomes of a channel that is dialled."""
        channel.dial_status("")
        if outcome in REFUSED_AT_ONCE:
            cause, status, word = REFUSED_AT_ONCE[outcome]
            channel.hang_up(cause, tech_cause=status, status=word)
            return
        rings = RINGS_FOR if outcome is Outcome.RINGS else self.server.ring_seconds
        await asyncio.sleep(self.server.ring_seconds)
        if channel.over:
            return
        channel.becomes("Ringing")
        channel.dial_status("RINGING")
        if outcome is Outcome.NO_ANSWER or timeout < rings:
            await asyncio.sleep(timeout)
            channel.hang_up(19, status="NOANSWER")
            return
        await asyncio.sleep(rings)
        if outcome in REFUSED:
            cause, status, word = REFUSED[outcome]
            channel.hang_up(cause, tech_cause=status, status=word)
            return
        channel.answers()
        channel.enters_stasis(args)
        if channel.far_end is None or channel.id not in self.server.channels:
            return
        if outcome is Outcome.HANGS_UP:
            await asyncio.sleep(HANGS_UP_AFTER)
            await channel.far_end.hang_up()
        elif outcome is Outcome.MACHINE:
            await channel.far_end.say(greeting() + beep())
        elif outcome is Outcome.FAX:
            await channel.far_end.say(fax())

    async def external_media(self, asked: Fields) -> Any:
        name = self._new_id(asked)
        if asked.get("transport") != "websocket":
            raise Refusal(501, "The sandbox has no other transport than websocket")
        client = self.server.clients.get(str(asked.get("external_host") or ""))
        if client is None:
            raise Refusal(400, "external_host must be a valid websocket_client connection id.")
        format = str(asked.get("format") or "")
        if format not in FORMATS:
            raise Refusal(500, "An internal error prevented this request from being handled")
        channel = self.server.channel(
            name, f"WebSocket/{client.name}", str(asked.get("app") or ""), dialled=True,
            variables=dict(asked.get("variables") or {}), dialstring=f"{client.name}/{asked.get('transport_data', '')}",
        )  # fmt: skip
        channel.media = MediaSocket(channel, client, format, str(asked.get("transport_data") or ""))
        channel.dial_status("")
        self.server.start(channel.media.run())
        return channel.json()

    async def hang_up(self, asked: Fields) -> None:
        reason = str(asked.get("reason") or "normal")
        if reason not in HANGUP_REASONS:
            raise Refusal(400, "Invalid reason for hangup reason provided")
        channel = self._channel(asked)
        channel.hang_up(HANGUP_REASONS[reason], asked=True)

    async def answer(self, asked: Fields) -> None:
        self._channel(asked, in_stasis=True).answers()

    async def ring(self, asked: Fields) -> None:
        self._channel(asked, in_stasis=True)

    async def dtmf(self, asked: Fields) -> None:
        if not (digits := str(asked.get("dtmf") or "")):
            raise Refusal(400, "DTMF is required")
        channel = self._channel(asked, in_stasis=True)
        await asyncio.sleep(float(asked.get("before") or 0) / 1000)
        if channel.far_end is not None:
            channel.far_end.digits += "".join(key for key in digits if key in "0123456789*#ABCDabcd")

    async def set_variable(self, asked: Fields) -> None:
        if not (name := str(asked.get("variable") or "")):
            raise Refusal(400, "Variable name is required")
        channel = self._channel(asked, in_stasis=True)
        channel.variables[name] = value = str(asked.get("value") or "")
        if name == "TIMEOUT(absolute)":
            channel.lasts(float(value))

    # --- bridges --------------------------------------------------------------------------------------------------

    def _bridge(self, asked: Fields) -> Bridge:
        bridge = self.server.bridges.get(str(asked["bridgeId"]))
        if bridge is None:
            raise Refusal(404, "Bridge not found")
        return bridge

    async def list_bridges(self, asked: Fields) -> Any:
        return [bridge.json() for bridge in self.server.bridges.values()]

    async def create_bridge(self, asked: Fields) -> Any:
        name = str(asked.get("bridgeId") or self.server.new_id())
        if name in self.server.bridges:
            raise Refusal(409, "Bridge with the same bridgeId already exists")
        made = self.server.bridges[name] = Bridge(self.server, name, next(iter(self.server.sockets), ""))
        return made.json()

    async def destroy_bridge(self, asked: Fields) -> None:
        self._bridge(asked).destroy()

    async def add_channel(self, asked: Fields) -> None:
        bridge = self._bridge(asked)
        found = [self.server.channels.get(name) for name in str(asked.get("channel") or "").split(",")]
        if not found or None in found:
            raise Refusal(400, "Channel not found")
        channels = [channel for channel in found if channel is not None]
        if any(channel.stasis is None for channel in channels):
            raise Refusal(422, "Channel not in Stasis application")
        bridge.app = channels[0].app
        for channel in channels:
            bridge.add(channel)

    async def remove_channel(self, asked: Fields) -> None:
        bridge = self._bridge(asked)
        for name in str(asked.get("channel") or "").split(","):
            bridge.remove(self._channel({"channelId": name}))

    # --- recordings -----------------------------------------------------------------------------------------------

    def _new_recording(self, asked: Fields) -> str:
        name = str(asked.get("name") or "")
        if not name:
            raise Refusal(400, "Recording name is required")
        if (name in self.server.stored or name in self.server.live) and asked.get("ifExists") != "overwrite":
            raise Refusal(409, f"Recording '{name}' already exists and can not be overwritten")
        return name

    def _tell_recording(self, kind: str, app: str, recording: Fields) -> None:
        self.server.tell(app, kind, recording=dict(recording))

    async def record_channel(self, asked: Fields) -> Any:
        """Agreed to, and then refused, for a channel that is in a bridge."""
        channel, name = self._channel(asked, in_stasis=True), self._new_recording(asked)
        queued = {"name": name, "format": str(asked.get("format")), "target_uri": f"channel:{channel.id}"}
        if channel.bridge is None:
            raise Refusal(501, "The sandbox records bridges only")
        failed = {**queued, "state": "failed", "cause": "Cannot record channel while in bridge"}
        asyncio.get_running_loop().call_soon(self._tell_recording, "RecordingFailed", channel.app, failed)
        return JSONResponse({**queued, "state": "queued"}, 201)

    async def record_bridge(self, asked: Fields) -> Any:
        bridge, name = self._bridge(asked), self._new_recording(asked)
        phone = next((channel for channel in bridge.channels if channel.far_end is not None), None)
        if asked.get("format") != "wav" or phone is None or phone.far_end is None:
            raise Refusal(422, "The format specified is unknown on this system")
        phone.recorder = CallRecorder(phone.far_end)
        self.server.live[name] = phone
        queued = {"name": name, "format": "wav", "target_uri": f"bridge:{bridge.id}"}
        self._tell_recording("RecordingStarted", bridge.app, {**queued, "state": "recording"})
        return JSONResponse({**queued, "state": "queued"}, 201)

    async def stop_recording(self, asked: Fields) -> None:
        phone = self.server.live.pop(str(asked["recordingName"]), None)
        if phone is None or phone.recorder is None:
            raise Refusal(404, "Recording not found")
        self._store(str(asked["recordingName"]), phone)

    def _store(self, name: str, phone: Channel) -> None:
        assert phone.recorder is not None
        phone.recorder.stop()
        self.server.stored[name] = phone.recorder.wav(1)
        bridge = phone.bridge.id if phone.bridge is not None else ""
        told = {
            "name": name, "format": "wav", "state": "done", "target_uri": f"bridge:{bridge}",
            "duration": round(phone.recorder.seconds),
        }  # fmt: skip
        self._tell_recording("RecordingFinished", phone.app, told)

    async def recording_file(self, asked: Fields) -> Any:
        name = str(asked["recordingName"])
        if name in self.server.live:  # its bridge is gone, or it goes on: what there is so far
            self._store(name, self.server.live.pop(name))
        if name not in self.server.stored:
            raise Refusal(404, "Recording not found")
        return Response(self.server.stored[name], media_type="audio/wav")
