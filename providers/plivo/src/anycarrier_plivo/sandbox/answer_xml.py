"""Plivo XML as Plivo reads it: strictly. What this sandbox cannot play is an error, never ignored."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

ATTRIBUTES = {
    "Stream": "bidirectional audioTrack streamTimeout statusCallbackUrl statusCallbackMethod contentType extraHeaders"
    " keepCallAlive",
    "Dial": "action method hangupOnStar timeLimit timeout callerId callerName callbackUrl callbackMethod redirect"
    " sipHeaders",
    "Number": "sendDigits",
    "User": "sendDigits sipHeaders",
    "Hangup": "reason schedule",
    "Wait": "length silence beep",
    "PreAnswer": "",
    "Record": "action method fileFormat redirect timeout maxLength playBeep recordSession startOnDialAnswer callbackUrl"
    " callbackMethod recordChannelType",
}
INSIDE = {"Response": {"Stream", "Dial", "Hangup", "Wait", "PreAnswer", "Record"}, "Dial": {"Number", "User"},
          "PreAnswer": {"Wait"}}  # fmt: skip
LARGEST = 100_000
LONGEST_URL = 2048


class InvalidXml(Exception):
    """Plivo ends a call over this: 8011 to 8014."""


@dataclass(frozen=True)
class Element:
    name: str
    text: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    inside: tuple[Element, ...] = ()

    def get(self, name: str, default: str = "") -> str:
        return self.attributes.get(name, default)


def read(document: bytes) -> tuple[Element, ...]:
    if len(document) > LARGEST:
        raise InvalidXml("the document is larger than 100 kB")
    try:
        root = ET.fromstring(document)  # noqa: S314  our own side's
    except ET.ParseError as failure:
        raise InvalidXml(str(failure)) from None
    if root.tag != "Response":
        raise InvalidXml(f"the root is {root.tag}, not Response")
    return _inside(root)


def _inside(parent: ET.Element) -> tuple[Element, ...]:
    found = []
    for child in parent:
        if child.tag not in INSIDE.get(parent.tag, ()):
            raise InvalidXml(f"{child.tag} in {parent.tag} is no Plivo XML, or not simulated by this sandbox")
        if unknown := set(child.attrib) - set(ATTRIBUTES[child.tag].split()):
            raise InvalidXml(f"{child.tag} has no {', '.join(sorted(unknown))}")
        text = child.text or ""
        if child.tag == "Stream" and (text != text.strip() or not text or len(text) > LONGEST_URL):
            raise InvalidXml("the URL of a Stream has white space around it, or is too long")
        found.append(Element(child.tag, text.strip(), dict(child.attrib), _inside(child)))
    return tuple(found)
