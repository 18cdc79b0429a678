"""TwiML read into verbs, for what plays Twilio: the sandbox, and a front for Twilio's own applications. Pure.

Which verbs, nouns and attributes there are is the reader's to say; what else Twilio's schema asks of a document, and
the codes of its debugger, are here. https://www.twilio.com/docs/voice/twiml, https://www.twilio.com/docs/api/errors
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

XML_TYPES = ("text/xml", "application/xml", "text/html")
"""Content types of a document that is TwiML; anything else is error 12300."""


_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Instructions:
    """TwiML to run: given as ``twiml``, or to be fetched from ``url`` with ``params`` added to the form."""

    url: str = ""
    method: str = "POST"
    twiml: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    fallback: Instructions | None = None
    """Asked where a document cannot be had or run."""


class TwimlError(Exception):
    """A document that cannot be run, with Twilio's code."""

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

    def number(self, attribute: str) -> int | None:
        """The attribute as a whole number; None for what is none."""
        value = self.get(attribute)
        return int(value) if _NUMBER.fullmatch(value) else None


@dataclass(frozen=True, slots=True)
class Rule:
    """What an element may carry: attributes, nouns, and whether it has text; ``markup`` in the text is read as text."""

    attributes: frozenset[str] = frozenset()
    nouns: frozenset[str] = frozenset()
    text: bool = False
    markup: bool = False


def rule(attributes: str = "", nouns: str = "", *, text: bool = False, markup: bool = False) -> Rule:
    """A :class:`Rule` from names with spaces between them."""
    return Rule(frozenset(attributes.split()), frozenset(nouns.split()), text, markup)


def parse(
    document: bytes | str,
    verbs: Mapping[str, Rule],
    nouns: Mapping[str, Rule],
    *,
    unplayed: frozenset[str] = frozenset(),
    ignored: Callable[[str], None] | None = None,
) -> list[Verb]:
    """The verbs of a ``<Response>``; :class:`TwimlError` 12100 for what is no TwiML, 12200 for what is not allowed.

    ``unplayed`` are elements that Twilio has and the reader cannot play: 12200 too, and the message says which it is.
    With ``ignored``, attributes that no rule names are left out, and it is called with a sentence for each.
    """
    text = document.decode("utf-8", "replace") if isinstance(document, bytes) else document
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise TwimlError(12100, "Document parse failure: a document type declaration is not allowed")
    try:
        # No DTD means no entities to expand, and the caller bounds the size.
        root = ET.fromstring(text.strip())  # noqa: S314
    except (ET.ParseError, RecursionError) as failure:
        raise TwimlError(12100, f"Document parse failure: {failure}") from None
    if root.tag != "Response":
        raise TwimlError(12100, f"Document parse failure: the root element is <{root.tag[:40]}>, not <Response>")
    reader = _Reader({**verbs, **nouns}, unplayed, ignored)
    reader.attributes(root, Rule())
    return [reader.verb(element, frozenset(verbs), "Response") for element in root]


class _Reader:
    def __init__(
        self, rules: Mapping[str, Rule], unplayed: frozenset[str], ignored: Callable[[str], None] | None
    ) -> None:
        self._rules = rules
        self._unplayed = unplayed
        self._ignored = ignored

    def verb(self, element: ET.Element, allowed: frozenset[str], parent: str) -> Verb:
        name = element.tag
        if name not in allowed:
            if name in self._unplayed:
                raise TwimlError(12200, f"<{name}> is a part of TwiML that cannot be played here")
            raise TwimlError(12200, f"<{name[:40]}> is not allowed in <{parent}>")
        found = self._rules[name]
        text = "".join(element.itertext() if found.markup else [element.text or ""]).strip()
        if text and not found.text:
            raise TwimlError(12200, f"text is not allowed in <{name}>")
        children = () if found.markup else tuple(self.verb(child, found.nouns, name) for child in element)
        verb = Verb(name, self.attributes(element, found), text, children)
        _check(verb)
        return verb

    def attributes(self, element: ET.Element, found: Rule) -> dict[str, str]:
        for unknown in sorted(set(element.attrib) - found.attributes):
            sentence = f"attribute {unknown[:40]!r} is not allowed on <{element.tag}>"
            if self._ignored is None:
                raise TwimlError(12200, sentence)
            self._ignored(sentence)
        return {name: value for name, value in element.attrib.items() if name in found.attributes}


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
    if verb.name in ("Redirect", "Number", "Sip") and not verb.text:
        raise TwimlError(12200, f"<{verb.name}> is empty")
    if verb.name == "Play" and not re.fullmatch(r"[0-9A-Da-d*#wW]*", verb.get("digits")):
        raise TwimlError(12200, "digits of <Play> are 0-9, A-D, *, #, w and W")
    for attribute in ("timeLimit", "length"):
        if attribute in verb.attributes and verb.number(attribute) is None:
            raise TwimlError(12200, f"{attribute}={verb.get(attribute)!r} on <{verb.name}> is not a number")
    timeout = verb.get("timeout", "0")
    if not _NUMBER.fullmatch(timeout) and (verb.name, timeout) != ("Gather", "auto"):
        raise TwimlError(12200, f"timeout={timeout!r} on <{verb.name}> is not a number")
