"""Twilio's instructions, as XML: what a webhook's reply or a dialled call is told to do. Pure.

https://www.twilio.com/docs/voice/twiml
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from anycarrier.calls import StreamTarget
from anycarrier.webhooks import WebhookReply

CONTENT_TYPE = "text/xml"
NOTHING = '<?xml version="1.0" encoding="UTF-8"?><Response/>'
"""No instructions: an answered call ends, unless it is doing something already."""

RING_ON_SECONDS = 120
"""How long a call nobody takes may ring: beyond what any caller or carrier waits."""


def reply(markup: str) -> WebhookReply:
    """``markup`` as the answer to a webhook."""
    return WebhookReply(body=markup.encode(), content_type=CONTENT_TYPE)


def connect_stream(stream: StreamTarget, *, status_url: str = "") -> str:
    """Answer, and connect the call's audio to ``stream`` both ways.

    Nothing follows ``<Connect>``, so the call ends with its stream.
    """
    parameters = "".join(
        _element("Parameter", {"name": name, "value": value}) for name, value in stream.custom.items()
    )
    attributes = {"url": stream.url, "statusCallback": status_url or None}
    return _response(f"<Connect>{_element('Stream', attributes, parameters)}</Connect>")


def reject(reason: str) -> str:
    """Decline without answering (and without being billed); ``reason`` is ``busy`` or ``rejected``."""
    return _response(_element("Reject", {"reason": reason}))


def ring_on(seconds: int = RING_ON_SECONDS) -> str:
    """Neither answer nor decline for so long: a first ``<Pause>`` delays the pick-up.

    https://www.twilio.com/docs/voice/twiml/pause
    """
    return _response(_element("Pause", {"length": str(seconds)}) + _element("Reject", {"reason": "busy"}))


def dial(to: str, *, caller_id: str | None = None, status_url: str = "") -> str:
    """Ring ``to``, a number or ``sip:`` address, and connect the two; ``status_url`` learns what became of it."""
    noun = "Sip" if to.lower().startswith(("sip:", "sips:")) else "Number"
    target = {"statusCallback": status_url or None, "statusCallbackEvent": "answered" if status_url else None}
    verb = {"callerId": caller_id, "action": status_url or None}
    return _response(_element("Dial", verb, _element(noun, target, escape(to))))


def fits_xml(text: str) -> bool:
    """False for control characters, which no escape makes legal in XML 1.0: Twilio would drop the call over one."""
    return all(
        char in "\t\n\r" or "\x20" <= char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char > "\uffff"
        for char in text
    )


def _response(inner: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{inner}</Response>'


def _element(name: str, attributes: Mapping[str, str | None], inner: str = "") -> str:
    head = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items() if value is not None)
    return f"<{name}{head}>{inner}</{name}>" if inner else f"<{name}{head}/>"
