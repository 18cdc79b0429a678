"""Bandwidth: Voice API v2 with instructions in the webhook's reply (BXML), two-way media streams, numbers by XML.

It signs nothing: a webhook is proved by the login given out with each URL, a media socket by its ticket as password.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import httpx

from anycarrier import errors
from anycarrier.audio import PCMU_8K
from anycarrier.calls import Call, DialRequest, EndReason, MachineDetection, StreamTarget
from anycarrier.events import CallEvent, IncomingCall, InstructionsFor, InstructionsRequested
from anycarrier.markup import Markup, element
from anycarrier.oauth import ClientCredentials
from anycarrier.provider import TicketPlace
from anycarrier.refusals import Meaning
from anycarrier.rest import given
from anycarrier.sip import destination
from anycarrier.webhooks import WebhookReply, WebhookRequest, require_login
from anycarrier_bandwidth import bxml, wire
from anycarrier_bandwidth.credential import BandwidthCredential
from anycarrier_bandwidth.frames import BandwidthSerializer
from anycarrier_bandwidth.numbers import API, GONE, XML, BandwidthNumbers


class BandwidthProvider(BandwidthNumbers):
    """One Bandwidth account, with one voice application."""

    name = "bandwidth"
    title = "Bandwidth"
    credential_type = BandwidthCredential
    sandbox = "anycarrier_bandwidth.sandbox:BandwidthSandbox"
    ticket_place = TicketPlace.HEADER
    reports_ringing = limits_calls = signs_webhooks = False
    reports_transfers = dials_sip = True
    base_url = "https://voice.bandwidth.com"
    error_types = {
        **dict.fromkeys(GONE, errors.NumberUnavailable), "12512": errors.NumberRejected,
        "5012": errors.PermissionDenied, "5051": errors.PermissionDenied,
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
        await self.xml("check_credential", "GET", self.at(f"applications/{self.credential.application_id}"))
        return self.credential.account_id

    def verify(self, request: WebhookRequest) -> None:
        """The login, and that the message is about our account and application: one login may serve several."""
        require_login(request, *self.credential.callback_login.values())
        try:
            told = wire.fields_of(request)
        except errors.MalformedMessage:
            return  # parse_webhook says so
        known = {"accountId": self.credential.account_id, "applicationId": self.credential.application_id}
        for name, ours in known.items():
            if told.get(name, ours) != ours:
                raise errors.SignatureInvalid(f"the webhook is of another {name} than the credential's")

    def parse_webhook(self, request: WebhookRequest) -> CallEvent:
        return wire.parse(request)

    def serializer(self) -> BandwidthSerializer:
        return BandwidthSerializer()

    def acknowledge(self, event: CallEvent) -> WebhookReply:
        """No instructions where some are asked for, and 204 else."""
        return bxml.reply() if event.raw.get("eventType") in wire.ASKS else WebhookReply(status=204)

    def leave_ringing(self, call: IncomingCall) -> WebhookReply:
        return bxml.reply(bxml.RING_ON, bxml.HANG_UP)

    async def dial(self, request: DialRequest) -> Call:
        self.refuse_fields("dial", request, time_limit="it ends no call after a given time", headers="it sends none")
        self._check("dial", request.stream)
        url, login = request.status_url, self.credential.callback_login
        body: dict[str, Any] = {
            "from": request.caller_id or request.from_, "to": request.to, "callTimeout": math.ceil(request.timeout),
            "answerUrl": _with(url, {wire.DIGITS: request.digits, wire.RECORD: "1" if request.record else None}),
            "applicationId": self.credential.application_id, "disconnectUrl": url, **login,
        }  # fmt: skip
        if request.machine_detection is not MachineDetection.OFF:
            waits = request.machine_detection is MachineDetection.WAIT_FOR_BEEP
            told = _with(url, {wire.GREETED: "1" if waits else None})
            body["machineDetection"] = {"mode": "async", "delayResult": waits, "callbackUrl": told, **login}
        extra, ours = request.extra, {"reference": request.reference, "from_": request.from_, "to": request.to}
        call = await self.ask(wire.call_from_rest, "POST", self.at("calls"), operation="dial", json=body, extra=extra)
        return call.model_copy(update=ours)  # Bandwidth's from is the number that was shown

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        return bxml.reply(*self._connected("answer", call.call, stream))

    async def instruct(self, event: InstructionsRequested, call: Call, stream: StreamTarget | None) -> WebhookReply:
        if stream is None or event.purpose is not InstructionsFor.ANSWERED:
            return bxml.reply(bxml.HANG_UP)
        return bxml.reply(*self._connected("instruct", call, stream))

    async def reject(self, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        """There is one way to decline, and no word for the caller to choose."""
        return bxml.reply(bxml.HANG_UP)

    async def forward(self, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        """Bandwidth tells of the call's end only, and shows the number that was called unless told another."""
        return bxml.reply(element("Forward", {"to": destination(to), "from": call.call.caller_id or call.call.from_}))

    async def hang_up(self, call_id: str) -> None:
        operation, over = "hang_up", {"state": "completed"}
        with self.tolerating(404, 409):  # over already, or about to be
            await self.request("POST", self._call(operation, call_id), operation=operation, json=over)

    async def fetch_call(self, call_id: str) -> Call:
        operation = "fetch_call"
        return await self.ask(wire.call_from_rest, "GET", self._call(operation, call_id), operation=operation)

    async def transfer(
        self, call_id: str, to: str, *, caller_id: str | None = None, status_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if headers:
            raise self.unsupported("transfer", "headers: it sends none")
        told = bxml.transfer(destination(to), caller_id, status_url, self.credential.callback_login)
        await self._run("transfer", call_id, told)

    async def send_digits(self, call_id: str, digits: str) -> None:
        await self._run("send_digits", call_id, bxml.response(element("SendDtmf", {}, digits), bxml.HOLD))

    async def start_recording(self, call_id: str, *, status_url: str = "") -> str:
        """The id is told by webhook."""
        verb = bxml.start_recording(status_url, self.credential.callback_login)
        await self._run("start_recording", call_id, bxml.response(verb, bxml.HOLD))
        return ""

    async def stop_recording(self, call_id: str, recording_id: str = "") -> None:
        await self._run("stop_recording", call_id, bxml.response(element("StopRecording"), bxml.HOLD))

    async def fetch_recording(self, recording_id: str) -> bytes:
        """Our id of a recording is the call's and Bandwidth's, with a colon between."""
        call_id, _, own = recording_id.rpartition(":")
        path = f"{self._call('fetch_recording', call_id)}/recordings/{self.path_id('fetch_recording', own)}/media"
        return await self.download(path, operation="fetch_recording", login=True)

    def _check(self, operation: str, stream: StreamTarget) -> None:
        self.require_format(operation, stream, PCMU_8K)
        if problem := bxml.stream_problem(stream):
            raise self.unsupported(operation, problem)

    def _connected(self, operation: str, call: Call, stream: StreamTarget) -> list[Markup]:
        self._check(operation, stream)
        url = call.facts.get(wire.CALLBACKS, "")
        url = _with(url, {"ref": call.reference}) if url else ""
        digits, record = call.facts.get(wire.DIGITS, ""), wire.RECORD in call.facts
        return bxml.connect(stream, url, self.credential.callback_login, digits=digits, record=record)

    def _call(self, operation: str, call_id: str) -> str:
        return self.at(f"calls/{self.path_id(operation, call_id)}")

    async def _run(self, operation: str, call_id: str, told: str) -> None:
        path = f"{self._call(operation, call_id)}/bxml"
        await self.request("PUT", path, operation=operation, content=told, headers=XML)


def _with(url: str, parameters: Mapping[str, str | None]) -> str:
    more = urlencode(given(parameters))
    return url + ("&" if "?" in url else "?") + more if more else url
