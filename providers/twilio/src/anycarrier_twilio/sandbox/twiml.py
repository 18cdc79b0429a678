"""The TwiML parser: XML to a list of verbs, strict about names, attributes, and nesting. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field


class TwimlError(Exception):
    """A document that cannot be run, with the carrier's debugger code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Verb:
    """One element: ``name``, its attributes, text and nested nouns."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    nouns: tuple[Verb, ...] = ()

    def get(self, attribute: str, default: str = "") -> str:
        return self.attributes.get(attribute, default)


@dataclass(frozen=True, slots=True)
class Rule:
    """What an element may carry: attributes, nouns, and whether it has text of its own."""

    attributes: frozenset[str] = frozenset()
    nouns: frozenset[str] = frozenset()
    text: bool = False


def _rule(attributes: str = "", nouns: str = "", text: bool = False) -> Rule:
    return Rule(frozenset(attributes.split()), frozenset(nouns.split()), text)


_CALLBACKS = "statusCallback statusCallbackMethod statusCallbackEvent"

VERBS = {
    "Connect": _rule("action method", "Stream"),
    "Dial": _rule("action method answerOnBridge callerId timeLimit timeout", "Number Sip", text=True),
    "Hangup": _rule(),
    "Pause": _rule("length"),
    "Play": _rule("digits loop", text=True),
    "Redirect": _rule("method", text=True),
    "Reject": _rule("reason"),
    "Say": _rule("voice language loop", text=True),
}
NOUNS = {
    "Stream": _rule("url name track statusCallback statusCallbackMethod", "Parameter"),
    "Parameter": _rule("name value"),
    "Number": _rule(f"{_CALLBACKS} sendDigits", text=True),
    "Sip": _rule(f"{_CALLBACKS} username password", text=True),
}
KNOWN_ELSEWHERE = frozenset(
    {"Start", "Stop", "Gather", "Record", "Enqueue", "Leave", "Queue", "Refer", "Pay", "Prompt"}
)
"""Verbs the carrier has and this sandbox does not play."""


def parse(document: bytes | str) -> list[Verb]:
    """The verbs of a ``<Response>``; :class:`TwimlError` 12100 for what is no TwiML, 12200 for what is not allowed."""
    text = document.decode("utf-8", "replace") if isinstance(document, bytes) else document
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise TwimlError(12100, "a document type declaration is not allowed")
    try:
        # No DTD means no entities to expand, and the text is one reply of the app under test.
        root = ET.fromstring(text.strip())  # noqa: S314
    except ET.ParseError as failure:
        raise TwimlError(12100, f"Document parse failure: {failure}") from None
    if root.tag != "Response":
        raise TwimlError(12100, f"the root element is <{root.tag}>, not <Response>")
    if root.attrib:
        raise TwimlError(12200, f"<Response> takes no attribute {sorted(root.attrib)[0]}")
    return [_verb(element, VERBS, "Response") for element in root]


def _verb(element: ET.Element, rules: dict[str, Rule], parent: str) -> Verb:
    rule = rules.get(element.tag)
    if rule is None:
        if parent == "Response" and element.tag in KNOWN_ELSEWHERE:
            raise TwimlError(12200, f"<{element.tag}> is not simulated by this sandbox")
        raise TwimlError(12200, f"<{element.tag}> is not allowed in <{parent}>")
    unknown = sorted(set(element.attrib) - rule.attributes)
    if unknown:
        raise TwimlError(12200, f"attribute {unknown[0]!r} is not allowed on <{element.tag}>")
    text = (element.text or "").strip()
    if text and not rule.text:
        raise TwimlError(12200, f"text is not allowed in <{element.tag}>")
    nouns = {noun: NOUNS[noun] for noun in rule.nouns}
    verb = Verb(element.tag, dict(element.attrib), text, tuple(_verb(child, nouns, element.tag) for child in element))
    _check(verb)
    return verb


def _check(verb: Verb) -> None:
    if verb.name == "Connect" and len(verb.nouns) != 1:
        raise TwimlError(12200, "<Connect> takes exactly one noun")
    if verb.name == "Stream":
        if not verb.get("url"):
            raise TwimlError(12200, "<Stream> needs a url")
        if verb.get("track", "inbound_track") != "inbound_track":
            raise TwimlError(12200, "a two-way <Stream> carries the inbound track only")
    if verb.name == "Parameter" and len(verb.get("name")) + len(verb.get("value")) > 500:
        raise TwimlError(12200, "name and value of a <Parameter> are longer than 500 characters together")
    if verb.name == "Parameter" and not verb.get("name"):
        raise TwimlError(12200, "<Parameter> needs a name")
    if verb.name == "Reject" and verb.get("reason", "rejected") not in ("rejected", "busy"):
        raise TwimlError(12200, f"<Reject> has no reason {verb.get('reason')!r}")
    if verb.name == "Dial" and bool(verb.text) == bool(verb.nouns):
        raise TwimlError(12200, "<Dial> takes a number or one noun")
    if verb.name == "Dial" and len(verb.nouns) > 1:
        raise TwimlError(12200, "<Dial> with several parties is not simulated by this sandbox")
    if verb.name in ("Redirect", "Number", "Sip") and not verb.text:
        raise TwimlError(12200, f"<{verb.name}> is empty")
    for attribute in ("timeout", "timeLimit", "length"):
        if attribute in verb.attributes and not verb.get(attribute).isdigit():
            raise TwimlError(12200, f"{attribute}={verb.get(attribute)!r} on <{verb.name}> is not a number")
