"""Webhooks as the carrier sends them: the parameters of each kind, and the signature."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urldefrag, urlencode, urlsplit

import httpx

from anycarrier.testing.sandbox import Delivery, Starter, WebhookSender
from anycarrier_signalwire.sandbox.models import VERSION, rfc2822

if TYPE_CHECKING:
    from anycarrier_signalwire.sandbox.leg import Leg

FORM = "application/x-www-form-urlencoded"
PHRASES = {
    200: "OK", 402: "Payment Required", 403: "Forbidden", 404: "Not Found", 408: "Request Timeout", 486: "Busy Here",
    487: "Request Terminated", 500: "Service Unavailable", 503: "Service Unavailable", 603: "Decline",
}  # fmt: skip
QUALITY = {
    "AudioInAveragePtime": "20", "AudioInDtmfPacketCount": "0", "AudioInFlushPacketCount": "0",
    "AudioInJitterMaxVariance": "8", "AudioInJitterMinVariance": "1", "AudioInLargestJbSize": "4", "AudioInMos": "4.5",
    "AudioInMediaPacketCount": "0", "AudioInSkipPacketCount": "0", "AudioOutDtmfPacketCount": "0",
    "AudioOutMediaPacketCount": "0",
}  # fmt: skip
"""What a status callback says of the sound, here always the same."""


class InsistingSender(WebhookSender):
    """Sends what only tells three times, where it is not accepted. A request for instructions is sent once."""

    tries = 3

    def __init__(
        self, http: httpx.AsyncClient, start: Starter, quirks: set[str], pause: Callable[[], float]
    ) -> None:
        super().__init__(http, start, quirks)
        self._pause = pause
        self._telling: list[Delivery] = []

    def notify(self, delivery: Delivery) -> None:
        self._telling.append(delivery)
        super().notify(delivery)

    async def post(self, delivery: Delivery) -> Delivery:
        insists = any(delivery is each for each in self._telling)
        self._telling = [each for each in self._telling if each is not delivery]
        await super().post(delivery)
        for _ in range(self.tries - 1 if insists else 0):
            if delivery.accepted:
                break
            await asyncio.sleep(self._pause())
            delivery = await super().post(delivery.again())
        return delivery


def webhook(
    kind: str, call_id: str, url: str, params: Mapping[str, str], *, key: str, method: str = "POST", timeout: float
) -> Delivery:
    """A signed webhook."""
    url = urldefrag(url).url
    headers = {"user-agent": "SignalWire", "accept": "*/*"}
    body = b""
    if method == "GET":
        url += ("&" if urlsplit(url).query else "?") + urlencode(params)
    else:
        body = urlencode(params).encode()
        headers["content-type"] = FORM
    return signed(Delivery(kind, call_id, method, url, headers, body, dict(params), timeout), key)


def signed(delivery: Delivery, key: str) -> Delivery:
    """``delivery`` with the form signature for its URL and body as they are now."""
    pairs = parse_qsl(delivery.body.decode(), keep_blank_values=True) if delivery.method != "GET" else []
    text = delivery.url + "".join(name + value for name, value in sorted(pairs, key=lambda pair: pair[0]))
    mark = base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()).decode()
    return delivery.again(headers={**delivery.headers, "x-signalwire-signature": mark})


def call_params(leg: Leg) -> dict[str, str]:
    """What every voice webhook says of its call."""
    form = {
        "CallSid": leg.sid,
        "AccountSid": leg.project.sid,
        "ApiVersion": VERSION,
        "CallStatus": leg.status,
        "Direction": leg.direction,
        "From": leg.from_,
        "To": leg.to,
    }
    return {**form, "ParentCallSid": leg.parent.sid} if leg.parent else form


def incoming_params(leg: Leg) -> dict[str, str]:
    """The voice webhook of a call that has just come in."""
    return {**call_params(leg), **{f"SipHeader_{name}": value for name, value in leg.sip_headers.items()}}


def status_params(leg: Leg, status: str, sequence: int) -> dict[str, str]:
    """One status callback; the last one tells seconds, the SIP code, and who hung up."""
    params = {
        **call_params(leg),
        **QUALITY,
        "CallStatus": status,
        "CallbackSource": "call-progress-events",
        "SequenceNumber": str(sequence),
        "Timestamp": rfc2822(datetime.now(UTC)) or "",
    }
    if not leg.over:
        return params
    if status == "completed":
        params["CallDuration"] = str(leg.seconds)
    if leg.sip_code is not None:
        params["SipResultCode"] = str(leg.sip_code)
        params["SipInviteResultPhrase"] = PHRASES.get(leg.sip_code, "")
    if leg.put_down:
        params |= {"HangupBy": leg.to if leg.direction != "inbound" else leg.from_, "HangupDirection": "inbound"}
    if leg.recordings:
        recording = leg.recordings[-1]
        params |= {
            "RecordingUrl": recording.url, "RecordingSid": recording.sid, "RecordingDuration": str(recording.seconds),
        }  # fmt: skip
    return params


def number_status_params(leg: Leg) -> dict[str, str]:
    """What a number's own status callback is told: completed or failed, and when the call was *made*."""
    return {
        "CallSid": leg.sid,
        "AccountSid": leg.project.sid,
        "From": leg.from_,
        "To": leg.to,
        "Timestamp": rfc2822(leg.created) or "",
        "CallStatus": "completed" if leg.answered_at else "failed",
        "CallDuration": str(leg.seconds),
        "AudioInMos": QUALITY["AudioInMos"],
    }


def stream_params(leg: Leg, stream_sid: str, name: str, event: str, error: str = "") -> dict[str, str]:
    """The status callback of a media stream."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    params = {
        "AccountSid": leg.project.sid, "CallSid": leg.sid, "StreamSid": stream_sid, "StreamName": name,
        "StreamEvent": event, "StreamTrack": "inbound_track", "Timestamp": now, "Unique-ID": leg.sid,
    }  # fmt: skip
    return {**params, "StreamError": error} if error else params
