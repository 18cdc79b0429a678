"""BXML documents: read strictly, without entities, verb by verb. Pure.

What the sandbox does not play is an error of the document, never left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

LARGEST = 64 * 1024
"""Bytes of a BXML document."""

_LOGIN = "username password"
_FALLBACK = "fallbackUsername fallbackPassword"
_LEG = (
    "transferAnswerUrl transferAnswerMethod transferAnswerFallbackUrl transferAnswerFallbackMethod "
    f"transferDisconnectUrl transferDisconnectMethod {_LOGIN} {_FALLBACK} tag uui"
)

ATTRIBUTES: Mapping[str, frozenset[str]] = {
    name: frozenset(attributes.split())
    for name, attributes in {
        "Forward": "to from callTimeout diversionTreatment diversionReason uui privacy callerDisplayName",
        "Hangup": "",
        "Pause": "duration",
        "PauseRecording": "",
        "PlayAudio": _LOGIN,
        "Redirect": f"redirectUrl redirectMethod redirectFallbackUrl redirectFallbackMethod {_LOGIN} {_FALLBACK} tag",
        "ResumeRecording": "",
        "Ring": "duration answerCall",
        "SendDtmf": "toneDuration toneInterval",
        "SpeakSentence": "voice gender locale",
        "StartGather": f"dtmfUrl dtmfMethod {_LOGIN} tag",
        "StartRecording": f"recordingAvailableUrl recordingAvailableMethod {_LOGIN} tag fileFormat multiChannel "
        "recordingName",
        "StartStream": "destination destinationUsername destinationPassword name mode tracks streamEventUrl "
        f"streamEventMethod {_LOGIN}",
        "StopGather": "",
        "StopRecording": "",
        "StopStream": "name wait",
        "Transfer": "transferCallerId privacy transferCallerDisplayName callTimeout transferCompleteUrl "
        f"transferCompleteMethod transferCompleteFallbackUrl transferCompleteFallbackMethod {_LOGIN} {_FALLBACK} tag "
        "diversionTreatment diversionReason",
        "PhoneNumber": _LEG,
        "SipUri": _LEG,
        "StreamParam": "name value",
    }.items()
}
NESTED = {"Transfer": frozenset({"PhoneNumber", "SipUri"}), "StartStream": frozenset({"StreamParam"})}
TEXT = frozenset({"PlayAudio", "SendDtmf", "SpeakSentence", "PhoneNumber", "SipUri"})
REQUIRED = {
    "Forward": "to",
    "StartGather": "dtmfUrl",
    "StartStream": "destination",
    "StopStream": "name",
    "StreamParam": "name",
}
KNOWN_ELSEWHERE = frozenset(
    {"Bridge", "Conference", "Connect", "Gather", "Record", "Refer", "StartTranscription", "StopTranscription", "Tag"}
)
"""Verbs the carrier has and this sandbox does not play."""


class BxmlError(Exception):
    """A document that cannot be read or run."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One element: ``name``, its attributes, text and nested elements."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    nested: tuple[Verb, ...] = ()

    def get(self, attribute: str, default: str = "") -> str:
        return self.attributes.get(attribute, default)

    def flag(self, attribute: str, default: bool = False) -> bool:
        return self.get(attribute, str(default)).lower() == "true"

    def seconds(self, attribute: str, default: float) -> float:
        text = self.get(attribute)
        return float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) else default


def read(document: bytes) -> ET.Element:
    """The root of any XML document; :class:`BxmlError` for none, and for one that declares a document type."""
    try:
        text = document.decode("utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise BxmlError("a document type declaration is not allowed")
        # No DTD means no entities to expand, and the caller bounds the size.
        return ET.fromstring(text.strip())  # noqa: S314
    except (ET.ParseError, UnicodeDecodeError, ValueError, RecursionError) as failure:
        raise BxmlError(f"not XML: {failure}") from None


def parse(document: bytes) -> list[Verb]:
    """The verbs of a ``<Response>`` (or ``<Bxml>``, which a PUT takes as well)."""
    if not document.strip():
        return []
    if len(document) > LARGEST:
        raise BxmlError(f"the document has more than {LARGEST} bytes")
    root = read(document)
    if root.tag not in ("Response", "Bxml") or root.attrib:
        raise BxmlError(f"the root is <{root.tag[:40]}>, not <Response>")
    verbs = frozenset(ATTRIBUTES) - {"PhoneNumber", "SipUri", "StreamParam"}
    return [_verb(element, verbs, root.tag) for element in root]


def _verb(element: ET.Element, allowed: frozenset[str], parent: str) -> Verb:
    name = element.tag
    if name not in allowed:
        why = "cannot be played in this sandbox" if name in KNOWN_ELSEWHERE else f"is not allowed in <{parent}>"
        raise BxmlError(f"<{name[:40]}> {why}")
    if unknown := sorted(set(element.attrib) - ATTRIBUTES[name]):
        raise BxmlError(f"attribute {unknown[0][:40]!r} is not allowed on <{name}>")
    text = (element.text or "").strip()
    if bool(text) != (name in TEXT):
        raise BxmlError(f"<{name}> {'has no text' if name in TEXT else 'takes no text'}")
    nested = tuple(_verb(child, NESTED.get(name, frozenset()), name) for child in element)
    verb = Verb(name, dict(element.attrib), text, nested)
    _check(verb)
    return verb


def _check(verb: Verb) -> None:
    if (needed := REQUIRED.get(verb.name)) and not verb.get(needed):
        raise BxmlError(f"<{verb.name}> needs {needed}")
    if (verb.get("username") or verb.get("password")) and not (verb.get("username") and verb.get("password")):
        raise BxmlError(f"<{verb.name}> has half a login")
    if verb.name == "Transfer" and not 1 <= len(verb.nested) <= 8:
        raise BxmlError("<Transfer> takes one to eight called parties")
    if verb.name == "Transfer" and len(verb.nested) > 1:
        raise BxmlError("<Transfer> to several parties cannot be played in this sandbox")
    if verb.name == "SendDtmf" and not re.fullmatch(r"[0-9a-dA-D*#wW,]{1,50}", verb.text):
        raise BxmlError("<SendDtmf> takes 1 to 50 of 0-9, a-d, *, #, w, W and the comma")
    if verb.name == "StartStream":
        if verb.get("mode", "unidirectional") not in ("unidirectional", "bidirectional"):
            raise BxmlError(f"<StartStream> has no mode {verb.get('mode')!r}")
        if verb.get("tracks", "inbound") not in ("inbound", "outbound", "both"):
            raise BxmlError(f"<StartStream> has no tracks {verb.get('tracks')!r}")
        if len(verb.nested) > 12:
            raise BxmlError("<StartStream> takes twelve <StreamParam> at most")
    if verb.name == "StreamParam" and (len(verb.get("name")) > 256 or len(verb.get("value")) > 2048):
        raise BxmlError("a <StreamParam> is longer than 256 and 2048 characters")
