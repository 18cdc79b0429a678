"""Webhooks as the carrier sends them: a JSON object in a POST, or its fields in the query of a GET, with Basic login.

Nothing is signed: the login is all there is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

from anycarrier.testing.sandbox import LOOPBACK, Delivery
from anycarrier_bandwidth.sandbox.account import NO_LOGIN, Login, stamp
from anycarrier_bandwidth.sandbox.bxml import BxmlError, Verb

if TYPE_CHECKING:
    from anycarrier_bandwidth.sandbox.leg import Leg
    from anycarrier_bandwidth.sandbox.media_stream import MediaStream
    from anycarrier_bandwidth.sandbox.recordings import Recording


@dataclass(frozen=True, slots=True)
class Callback:
    """Where to tell something, and with which login."""

    url: str
    method: str = "POST"
    login: Login = NO_LOGIN


def may_log_in(url: str) -> bool:
    """A login goes over TLS only; on this machine a sandbox makes an exception."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.hostname or "") in LOOPBACK


def callback_of(verb: Verb, prefix: str, base: str, login: str = "username password") -> Callback | None:
    """The callback ``<prefix>Url`` of a verb, relative to ``base``; None when it has none."""
    if not verb.get(f"{prefix}Url"):
        return None
    user, password = (verb.get(name) for name in login.split())
    url = urljoin(base, verb.get(f"{prefix}Url"))
    if user and not may_log_in(url):
        raise BxmlError(f"{prefix}Url of <{verb.name}> has a login, and must be https")
    return Callback(url, verb.get(f"{prefix}Method", "POST"), Login(user, password))


def webhook(callback: Callback, call_id: str, body: Mapping[str, Any], timeout: float) -> Delivery:
    """One delivery, logged in."""
    told = {name: value for name, value in body.items() if value is not None}
    headers = {"user-agent": "BandwidthAPI/2.0", "accept": "application/xml, text/xml, */*"}
    if callback.login.user:
        given = f"{callback.login.user}:{callback.login.password}".encode()
        headers["authorization"] = f"Basic {base64.b64encode(given).decode()}"
    url, content = callback.url, b""
    if callback.method == "GET":
        flat = {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
        url += ("&" if urlsplit(url).query else "?") + urlencode(flat)
    else:
        content = json.dumps(told, separators=(",", ":")).encode()
        headers["content-type"] = "application/json"
    return Delivery(str(told["eventType"]), call_id, callback.method, url, headers, content, told, timeout)


def event(leg: Leg, kind: str, **more: Any) -> dict[str, Any]:
    """What every event says of its call, and ``more``."""
    return {
        "eventType": kind,
        "eventTime": stamp(datetime.now(UTC)),
        "accountId": leg.account.id,
        "applicationId": leg.application,
        "from": leg.from_,
        "to": leg.to,
        "direction": leg.direction,
        "callId": leg.id,
        "callUrl": leg.url,
        "parentCallId": leg.parent.id if leg.parent else None,
        "enqueuedTime": stamp(leg.created) if leg.direction == "outbound" and leg.parent is None else None,
        "startTime": stamp(leg.created),
        "answerTime": stamp(leg.answered_at),
        "tag": leg.tag or None,
        **more,
    }


def initiated(leg: Leg) -> dict[str, Any]:
    """Somebody rings: with what live captures have and no document names, and the caller's attestation."""
    verstat = {"verstat": "TN-Validation-Passed", "attestationIndicator": "A", "originatingId": "sandbox"}
    return event(
        leg, "initiate", privacy=False, callerDisplayName="", stirShaken=verstat, sipHeaders=leg.sip_headers or None
    )


def ended(leg: Leg, kind: str = "disconnect") -> dict[str, Any]:
    """The call is over."""
    return event(
        leg, kind, endTime=stamp(leg.ended_at), cause=leg.cause, errorMessage=leg.error, sipResponseCode=leg.sip_code
    )


def streamed(leg: Leg, kind: str, stream: MediaStream, cause: str | None = None, error: str | None = None) -> (
    dict[str, Any]
):
    """News of a media stream."""
    told = {
        "destination": stream.destination, "name": stream.name, "id": stream.id, "startTime": stamp(stream.created),
        "tracks": stream.tracks, "type": "WebSocket",
    }  # fmt: skip
    return event(leg, kind, mediaStream=told, cause=cause, errorMessage=error)


def recorded(recording: Recording) -> dict[str, Any]:
    """A recording can be fetched."""
    leg = recording.leg
    return event(
        leg, "recordingAvailable", answerTime=None, recordingId=recording.id, recordingName=recording.name or None,
        channels=recording.channels, startTime=stamp(recording.began), endTime=stamp(recording.ended_at),
        duration=recording.duration, fileFormat="wav", mediaUrl=recording.media_url, status=recording.status,
    )  # fmt: skip
