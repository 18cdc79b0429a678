"""Instructions to Bandwidth: BXML documents. Pure.

``<StartStream>`` does not wait: the ``<StopStream wait="true">`` after it keeps the call until the WebSocket closes;
then, with no verb left, the call ends. Each URL of ours bears the login that proves the webhook which comes to it.
"""

from __future__ import annotations

from collections.abc import Mapping

from anycarrier.calls import StreamTarget
from anycarrier.markup import Markup, document, element, fits_xml
from anycarrier.sip import is_sip
from anycarrier.webhooks import WebhookReply

STREAM = "anycarrier"  # the one stream's name, by which later documents find it
HOLD = element("StopStream", {"name": STREAM, "wait": True})
HANG_UP = element("Hangup")
RING_ON = element("Ring", {"answerCall": False, "duration": 120})  # longer than any caller waits
Login = Mapping[str, str]


def response(*verbs: Markup) -> str:
    return document(element("Response", {}, *verbs))


def reply(*verbs: Markup) -> WebhookReply:
    """A document as the answer to a webhook."""
    return WebhookReply(body=response(*verbs).encode(), content_type="application/xml")


def called(attribute: str, url: str, login: Login) -> dict[str, str]:
    """A URL of ours with its login; nothing where there is none."""
    return {attribute: url, **login} if url else {}


def connect(stream: StreamTarget, url: str, login: Login, *, digits: str, record: bool) -> list[Markup]:
    """Take the call and connect its audio both ways, the ticket as the WebSocket's password; news go to ``url``."""
    attributes = {
        "destination": stream.url, "destinationUsername": STREAM, "destinationPassword": stream.ticket, "name": STREAM,
        "mode": "bidirectional", "tracks": "inbound", **called("streamEventUrl", url, login),
    }  # fmt: skip
    parameters = [element("StreamParam", {"name": name, "value": value}) for name, value in stream.custom.items()]
    verbs = [start_recording(url, login)] if record else []
    verbs += [element("StartGather", called("dtmfUrl", url, login))] if url else []
    verbs += [element("SendDtmf", {}, digits)] if digits else []
    return [*verbs, element("StartStream", attributes, *parameters), HOLD]


def start_recording(url: str, login: Login) -> Markup:
    """Both sides as WAV, each on a channel of its own."""
    return element("StartRecording", {"multiChannel": True, **called("recordingAvailableUrl", url, login)})


def transfer(to: str, caller_id: str | None, url: str, login: Login) -> str:
    """End our stream, ring ``to`` and connect the two; ``url`` learns of the answer and the end."""
    told = {**called("transferAnswerUrl", url, login), **called("transferDisconnectUrl", url, login)}
    party = element("SipUri" if is_sip(to) else "PhoneNumber", told, to)
    verb = element("Transfer", {"transferCallerId": caller_id, **called("transferCompleteUrl", url, login)}, party)
    return response(element("StopStream", {"name": STREAM}), verb)


def stream_problem(stream: StreamTarget) -> str:
    """What Bandwidth cannot do about ``stream``; "" when it can do all of it."""
    long = any(len(name) > 256 or len(value) > 2048 for name, value in stream.custom.items())
    if long or len(stream.custom) > 12:
        return "it takes 12 custom values: names of 256 characters, values of 2,048"
    fits = all(fits_xml(name + value) for name, value in stream.custom.items())
    return "" if fits else "custom values with control characters do not fit into XML"
