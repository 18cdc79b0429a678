"""Webhooks as the carrier sends them: the parameters of each kind, and the signature."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urldefrag, urlencode, urlsplit

from anycarrier.testing.sandbox import Delivery
from anycarrier.testing.sandbox_numbers import AREAS
from anycarrier_twilio.carrier_side.messages import call_form, status_form, stream_form
from anycarrier_twilio.signature import sign

if TYPE_CHECKING:
    from anycarrier_twilio.sandbox.leg import Leg


def webhook(
    kind: str, call_id: str, url: str, params: Mapping[str, str], *, token: str, method: str = "POST", timeout: float
) -> Delivery:
    """A signed webhook. A fragment (connection overrides) is for the carrier itself: neither sent nor signed."""
    url = urldefrag(url).url
    headers = {
        "user-agent": "TwilioProxy/1.1",
        "accept": "*/*",
        "x-home-region": "us1",
        "i-twilio-idempotency-token": str(uuid.uuid4()),
    }
    body = b""
    if method == "GET":
        url += ("&" if urlsplit(url).query else "?") + urlencode(params)
    else:
        body = urlencode(params).encode()
        headers["content-type"] = "application/x-www-form-urlencoded; charset=UTF-8"
    return signed(Delivery(kind, call_id, method, url, headers, body, dict(params), timeout), token)


def signed(delivery: Delivery, token: str) -> Delivery:
    """``delivery`` with a signature for its URL and body as they are now."""
    form = parse_qsl(delivery.body.decode(), keep_blank_values=True) if delivery.method != "GET" else []
    mark = sign(delivery.url, form, token)
    return delivery.again(headers={**delivery.headers, "x-twilio-signature": mark})


def call_params(leg: Leg) -> dict[str, str]:
    """What every voice webhook and status callback says of its call: the geographic keys are often blank."""
    params = call_form(
        account_sid=leg.account.sid, call_sid=leg.sid, status=leg.status, direction=leg.direction,
        from_=leg.from_, to=leg.to, parent_sid=leg.parent.sid if leg.parent else "",
    )  # fmt: skip
    ends = {"From": leg.from_, "To": leg.to, "Caller": leg.from_, "Called": leg.to}
    for name, number in ends.items():
        country, state, city = AREAS.get(number[2:5], ("US" if number.startswith("+1") else "", "", ""))
        params |= {f"{name}City": city.upper(), f"{name}State": state, f"{name}Zip": "", f"{name}Country": country}
    return params


def incoming_params(leg: Leg) -> dict[str, str]:
    """The voice webhook of a call that has just come in."""
    return {
        **call_params(leg),
        "CallToken": "%7B%22parentCallInfoToken%22%3A%22sandbox%22%2C%22identityHeaderTokens%22%3A%5B%5D%7D",
        "StirVerstat": "TN-Validation-Passed-A",
        **{f"SipHeader_{name}": value for name, value in leg.sip_headers.items()},
    }


def status_params(leg: Leg, status: str, sequence: int) -> dict[str, str]:
    """One status callback. Terminal ones carry seconds (CallDuration) and billed minutes (Duration)."""
    seconds = leg.seconds if leg.over else None
    params = {**call_params(leg), **status_form(status, sequence, datetime.now(UTC), seconds=seconds)}
    if leg.over and leg.sip_code is not None:
        params["SipResponseCode"] = str(leg.sip_code)
    if leg.answered_by is not None:
        params["AnsweredBy"] = leg.answered_by
    if leg.over and leg.recordings:
        recording = leg.recordings[-1]
        params["RecordingUrl"] = recording.url
        params["RecordingSid"] = recording.sid
        params["RecordingDuration"] = recording.duration or "0"
    return params


def stream_params(leg: Leg, stream_sid: str, name: str, event: str, error: str = "") -> dict[str, str]:
    """The status callback of a media stream."""
    return stream_form(
        account_sid=leg.account.sid, call_sid=leg.sid, stream_sid=stream_sid, name=name, event=event,
        at=datetime.now(UTC), error=error,
    )  # fmt: skip
