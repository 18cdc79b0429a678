"""XML that carriers take as instructions, and XML that they answer: written escaped, read without a DTD. Pure.

>>> element("Dial", {"callerId": "+14155550100", "timeout": None}, element("Number", {}, "+14155550123"))
'<Dial callerId="+14155550100"><Number>+14155550123</Number></Dial>'
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from anycarrier.errors import ConfigurationError, MalformedMessage

LONGEST = 1 << 20
"""Bytes of a document that :func:`read_xml` looks at."""

_UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Markup(str):
    """Text that is XML already: :func:`element` does not escape it again."""

    __slots__ = ()


def fits_xml(text: str) -> bool:
    """False for text with control characters: no escape makes them legal in XML 1.0."""
    return _UNFIT.search(text) is None


def element(name: str, attributes: Mapping[str, object] | None = None, *inner: str) -> Markup:
    """One element. ``inner`` is text, which is escaped, or other elements; an attribute that is None is left out.

    True and False are written ``true`` and ``false``. ``ConfigurationError`` for a character that XML cannot carry.
    """
    told = {key: _text(value) for key, value in (attributes or {}).items() if value is not None}
    head = "".join(f" {key}={quoteattr(value)}" for key, value in told.items())
    content = "".join(part if isinstance(part, Markup) else escape(_text(part)) for part in inner)
    return Markup(f"<{name}{head}>{content}</{name}>" if content else f"<{name}{head}/>")


def tree(name: str, fields: Mapping[str, Any]) -> Markup:
    """An element of elements, by name: their text, or fields of their own."""
    parts = (tree(key, each) if isinstance(each, Mapping) else element(key, {}, each) for key, each in fields.items())
    return element(name, {}, *parts)


def document(root: Markup) -> str:
    """``root`` as a whole document, declaration and all."""
    return f'<?xml version="1.0" encoding="UTF-8"?>{root}'


def read_xml(body: bytes | str) -> ET.Element:
    """The root of a document that somebody else wrote; ``MalformedMessage`` for what is none, or has a DTD."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    if len(text) > LONGEST:
        raise MalformedMessage(f"an XML document of more than {LONGEST} characters", text)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise MalformedMessage("an XML document with a document type declaration", text)
    try:
        return ET.fromstring(text.strip())  # noqa: S314  # no DTD means no entities to expand
    except (ET.ParseError, RecursionError, ValueError):
        raise MalformedMessage("the body is not XML", text) from None


def texts(root: ET.Element, *names: str) -> Iterator[str]:
    """The text of every element of one of these names, in the document's order; namespaces are not looked at."""
    for found in root.iter():
        text = (found.text or "").strip()
        if text and isinstance(found.tag, str) and found.tag.rpartition("}")[2] in names:
            yield text


def first_text(root: ET.Element, *names: str) -> str:
    """The first of :func:`texts`; "" when there is none."""
    return next(texts(root, *names), "")


def _text(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not fits_xml(text):
        raise ConfigurationError("text with control characters does not fit into XML: take them out")
    return text
