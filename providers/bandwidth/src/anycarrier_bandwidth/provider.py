"""Bandwidth: one account and one voice application. Instructions (BXML) go into a webhook's reply, or to a live call.

It signs nothing: a webhook is proved by the login given out with each URL, a media socket by its ticket as password.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx

from anycarrier import errors
from anycarrier.audio import PCMU_8K
from anycarrier.calls import Call, DialRequest, EndReason, MachineDetection, StreamTarget
from anycarrier.events import CallEvent, IncomingCall, InstructionsFor, InstructionsRequested
from anycarrier.markup import Markup, document, element, fits_xml
from anycarrier.oauth import ClientCredentials
from anycarrier.provider import TicketPlace
from anycarrier.refusals import Meaning
from anycarrier.sip import destination, is_sip
from anycarrier.webhooks import WebhookReply, WebhookRequest, require_login, with_query
from anycarrier_bandwidth import wire
from anycarrier_bandwidth.credential import BandwidthCredential
from anycarrier_bandwidth.frames import BandwidthSerializer
from anycarrier_bandwidth.numbers import API, GONE, XML, BandwidthNumbers

STREAM = "anycarrier"  # the one stream's name, by which later documents find it
HOLD = element("StopStream", {"name": STREAM, "wait": True})  # until the WebSocket closes; with no verb left, all ends
HANG_UP = element("Hangup")
RING_ON = element("Ring", {"answerCall": False, "duration": 120})  # longer than any caller waits


def reply(*verbs: Markup) -> WebhookReply:
    return WebhookReply(body=document(element("Response", {}, *verbs)).encode(), content_type="application/xml")


class BandwidthProvider(BandwidthNumbers):
    name = "bandwidth"
    credential_type = BandwidthCredential
    sandbox = "anycarrier_bandwidth.sandbox:BandwidthSandbox"
    ticket_place = TicketPlace.HEADER
    reports_ringing = limits_calls = signs_webhooks = False
    reports_transfers = dials_sip = True
    base_url = "https://voice.bandwidth.com"
    error_types = {
        **dict.fromkeys(GONE, errors.NumberUnavailable), **dict.fromkeys(("5012", "5051"), errors.PermissionDenied),
        "12512": errors.NumberRejected,
    }  # fmt: skip
    error_words = (
        (r"^400 .*\bInvalid (to|from)\b", errors.NumberRejected),
        (r"^409 .*\bHTTP voice feature", Meaning(errors.PermissionDenied, "Ask Bandwidth to enable HTTP voice.")),
    )

    def __init__(self, credential: BandwidthCredential, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(credential, http)
        login = credential.client_id, credential.client_secret.get_secret_value()
        self.tokens = self._tokens = ClientCredentials(self, "/api/v1/oauth2/token", login, root=API)

    async def check_credential(self) -> str:
        """The account id, once a new login was accepted and the application is there."""
        await self._tokens.fetch("check_credential")
        await self.xml("check_credential", "GET", self.application)
        return self.credential.account_id

    def verify(self, request: WebhookRequest) -> None:
        """The login, and that the message is about our account and application: one login may serve several."""
        require_login(request, *self.credential.callback_login.values())
        known = {"accountId": self.credential.account_id, "applicationId": self.credential.application_id}
        with suppress(errors.MalformedMessage):  # parse_webhook says so
            told = request.fields()
            if other := [name for name, ours in known.items() if told.get(name, ours) != ours]:
                raise errors.SignatureInvalid(f"the webhook is of another {other[0]} than the credential's")

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        return wire.parse(request)

    def serializer(self) -> BandwidthSerializer:
        return BandwidthSerializer()

    def acknowledge(self, event: CallEvent) -> WebhookReply:
        return reply() if event.raw.get("eventType") in wire.ASKS else WebhookReply(status=204)

    def leave_ringing(self, call: IncomingCall) -> WebhookReply:
        return reply(RING_ON, HANG_UP)

    async def dial(self, request: DialRequest) -> Call:
        self.refuse_fields("dial", request, time_limit="it ends no call after a given time", headers="it sends none")
        self._check("dial", request.stream)
        url, login = request.status_url, self.credential.callback_login
        body: dict[str, Any] = {
            "from": request.caller_id or request.from_, "to": request.to, "callTimeout": math.ceil(request.timeout),
            "answerUrl": with_query(url, {wire.DIGITS: request.digits, wire.RECORD: "1" if request.record else None}),
            "applicationId": self.credential.application_id, "disconnectUrl": url, **login,
        }  # fmt: skip
        if request.machine_detection is not MachineDetection.OFF:
            late = request.machine_detection is MachineDetection.WAIT_FOR_BEEP
            told = with_query(url, {wire.GREETED: "1" if late else None})
            body["machineDetection"] = {"mode": "async", "delayResult": late, "callbackUrl": told, **login}
        extra, ours = request.extra, {"reference": request.reference, "from_": request.from_, "to": request.to}
        call = await self.ask(wire.call_from_rest, "POST", self.at("calls"), operation="dial", json=body, extra=extra)
        return call.model_copy(update=ours)  # Bandwidth's from is the number that was shown

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        return self._connect("answer", call.call, stream)

    async def instruct(self, event: InstructionsRequested, call: Call, stream: StreamTarget | None) -> WebhookReply:
        if stream is None or event.purpose is not InstructionsFor.ANSWERED:
            return reply(HANG_UP)
        return self._connect("instruct", call, stream)

    async def reject(self, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        """There is one way to decline, and no word for the caller to choose."""
        return reply(HANG_UP)

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        """Bandwidth tells of the call's end only, and shows the number that was called unless told another."""
        return reply(element("Forward", {"to": destination(to), "from": call.call.caller_id or call.call.from_}))

    async def hang_up(self, call_id: str) -> None:
        with self.tolerating(404, 409):  # over already, or about to be
            await self.request("POST", **self._call("hang_up", call_id), json={"state": "completed"})

    async def fetch_call(self, call_id: str) -> Call:
        return await self.ask(wire.call_from_rest, "GET", **self._call("fetch_call", call_id))

    async def transfer(
        self, call_id: str, to: str, *, caller_id: str | None = None, status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """End our stream, ring ``to`` and connect the two; ``status_url`` learns of the answer and the end."""
        if headers:
            raise self.unsupported("transfer", "headers: it sends none")
        steps = self._told("transferAnswerUrl", "transferDisconnectUrl", url=status_url)
        party = element("SipUri" if is_sip(to) else "PhoneNumber", steps, destination(to))
        shown = {"transferCallerId": caller_id, **self._told("transferCompleteUrl", url=status_url)}
        await self._run("transfer", call_id, element("StopStream", {"name": STREAM}), element("Transfer", shown, party))

    async def send_digits(self, call_id: str, digits: str) -> None:
        await self._run("send_digits", call_id, element("SendDtmf", {}, digits), HOLD)

    async def start_recording(self, call_id: str, *, status_url: str = "") -> str:
        await self._run("start_recording", call_id, self._record(status_url), HOLD)
        return ""  # the id is told by webhook

    async def stop_recording(self, call_id: str, recording_id: str = "") -> None:
        await self._run("stop_recording", call_id, element("StopRecording"), HOLD)

    async def fetch_recording(self, recording_id: str) -> bytes:
        """Our id of a recording is the call's and Bandwidth's, with a colon between."""
        call_id, _, own = recording_id.rpartition(":")
        file = self._call("fetch_recording", call_id, "recordings", own, "media")
        return await self.download(file["path"], operation=file["operation"], login=True)

    def _check(self, operation: str, stream: StreamTarget) -> None:
        self.require_format(operation, stream, PCMU_8K)
        if len(stream.custom) > 12 or any(len(n) > 256 or len(value) > 2048 for n, value in stream.custom.items()):
            raise self.unsupported(operation, "it takes 12 custom values: names of 256 characters, values of 2,048")
        if not all(fits_xml(name + value) for name, value in stream.custom.items()):
            raise self.unsupported(operation, "custom values with control characters do not fit into XML")

    def _connect(self, operation: str, call: Call, stream: StreamTarget) -> WebhookReply:
        """Take the call and connect its audio both ways, the ticket as the WebSocket's password."""
        self._check(operation, stream)
        facts, url = call.facts, with_query(call.facts.get(wire.CALLBACKS, ""), {"ref": call.reference})
        attributes = {
            "destination": stream.url, "destinationUsername": STREAM, "destinationPassword": stream.ticket,
            "name": STREAM, "mode": "bidirectional", "tracks": "inbound", **self._told("streamEventUrl", url=url),
        }  # fmt: skip
        custom = (element("StreamParam", {"name": name, "value": value}) for name, value in stream.custom.items())
        verbs = [self._record(url)] if wire.RECORD in facts else []
        verbs += [element("StartGather", self._told("dtmfUrl", url=url))] if url else []
        verbs += [element("SendDtmf", {}, facts[wire.DIGITS])] if wire.DIGITS in facts else []
        return reply(*verbs, element("StartStream", attributes, *custom), HOLD)

    def _record(self, url: str) -> Markup:
        """Both sides as WAV, each on a channel of its own."""
        return element("StartRecording", {"multiChannel": True, **self._told("recordingAvailableUrl", url=url)})

    def _told(self, *attributes: str, url: str) -> dict[str, str]:
        """A URL of ours in these attributes, with its login; nothing where there is none."""
        return {**dict.fromkeys(attributes, url), **self.credential.callback_login} if url else {}

    def _call(self, operation: str, *path: str) -> dict[str, Any]:
        """What a request about a call is made with."""
        parts = (self.path_id(operation, part) for part in path)
        return {"operation": operation, "path": self.at("/".join(("calls", *parts)))}

    async def _run(self, operation: str, call_id: str, *verbs: Markup) -> None:
        await self.request("PUT", **self._call(operation, call_id, "bxml"), content=reply(*verbs).body, headers=XML)
