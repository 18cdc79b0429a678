"""Offer and answer of one audio stream (RFC 8866, 3264, 4568). Pure: text in, text and terms out.

We speak PCMU, PCMA and telephone-event; everything else, comfort noise included, is left out of an answer. Every media
line of an offer has its line in the answer, with port 0 for what we do not take.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal

Codec = Literal["PCMU", "PCMA"]
Srtp = Literal["off", "offered", "required"]
Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

CODECS: Mapping[str, Codec] = {"PCMU/8000": "PCMU", "PCMA/8000": "PCMA"}
STATIC = {"0": "PCMU/8000", "8": "PCMA/8000"}
"""Payload types that need no rtpmap (RFC 3551)."""
TELEPHONE_EVENT = 101
"""The payload type under which we offer RFC 4733."""
SUITES = ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")
KEY_SIZE = 30
"""Bytes of an SRTP master key and its salt."""
MAX_MEDIA, MAX_FORMATS = 16, 64
"""Media lines of one description, and words in each; nobody rings an agent with more."""
_TOKEN = re.compile(r"[A-Za-z0-9./+-]{1,40}").fullmatch
ANSWERS: Mapping[str, Direction] = {
    "sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"
}  # fmt: skip


class NotAcceptable(ValueError):
    """A description that we cannot take: 488 to its sender. The message names what is missing."""


@dataclass(frozen=True)
class SrtpKeys:
    """One suite of RFC 4568 and both sides' keys: master key and salt, 30 bytes."""

    suite: str
    local: bytes = field(repr=False)
    remote: bytes = field(repr=False)


@dataclass(frozen=True)
class Negotiated:
    """What both sides agreed on.

    ``direction`` is ours. ``held``: the far end does not listen to us. ``telephone_event`` is the payload type to send
    RFC 4733 with, ``telephone_event_received`` that of what comes; None where it was not agreed. ``other_codec`` is the
    payload type of the codec that the far end may switch to, as it named both.
    """

    codec: Codec
    payload_type: int
    remote: tuple[str, int]
    remote_rtcp: tuple[str, int]
    telephone_event: int | None = None
    telephone_event_received: int | None = None
    other_codec: int | None = None
    rtcp_mux: bool = False
    direction: Direction = "sendrecv"
    held: bool = False
    srtp: SrtpKeys | None = None


@dataclass
class LocalMedia:
    """Our side of one stream. ``version`` counts the descriptions that differed: an unchanged one keeps its number."""

    address: str
    port: int
    session_id: int
    version: int = 1
    srtp: Srtp = "off"
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """For each suite that we offer, our key and salt."""
    sent: bytes = field(default=b"", repr=False)
    """The media part of the description sent last."""
    protocol: str = ""
    """That of the offer we answered, which an offer of ours goes on with, and so with the next two."""
    telephone_event: int = TELEPHONE_EVENT
    layout: tuple[str, ...] = ("",)
    """The media lines, "" for ours (RFC 3264, 8)."""


@dataclass
class _Media:
    """A media line with what follows it."""

    kind: str
    port: int
    protocol: str
    formats: list[str]
    address: str
    attributes: list[tuple[str, str]] = field(default_factory=list, repr=False)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def offer(local: LocalMedia, *, direction: Direction = "sendrecv") -> bytes:
    """A description of all that we can do."""
    crypto = list(enumerate(SUITES, 1)) if local.srtp != "off" else []
    return _written(local, STATIC.items(), local.telephone_event, crypto, True, direction)


def answer(body: bytes, local: LocalMedia) -> tuple[bytes, Negotiated]:
    """Our answer to an offer, and what it settles. ``NotAcceptable`` where no audio line of it fits."""
    media, why = _parse(body), "it offers no audio"
    for chosen in media:
        if chosen.kind == "audio" and chosen.port:
            try:
                terms, tag = _terms(chosen, local)
                break
            except NotAcceptable as reason:
                why = str(reason)
    else:
        raise NotAcceptable(why)
    local.protocol, local.telephone_event = chosen.protocol, terms.telephone_event or TELEPHONE_EVENT
    local.layout = tuple(
        "" if line is chosen else f"m={line.kind} 0 {line.protocol} {' '.join(line.formats)}" for line in media
    )
    codec = str(terms.payload_type), f"{terms.codec}/8000"
    crypto = [(tag, terms.srtp.suite)] if terms.srtp is not None else []
    return _written(local, [codec], terms.telephone_event, crypto, terms.rtcp_mux, terms.direction), terms


def accept(body: bytes, local: LocalMedia, offered: Direction = "sendrecv") -> Negotiated:
    """What the far end's answer to our offer settles. ``NotAcceptable`` where it took none of it."""
    media = _parse(body)
    at = local.layout.index("")
    if len(media) <= at or media[at].kind != "audio" or not media[at].port:
        raise NotAcceptable("the answer refuses the audio")
    terms, _ = _terms(media[at], local, answered=True)
    if offered in ("recvonly", "inactive") and terms.direction in ("sendrecv", "sendonly"):
        raise NotAcceptable("the answer asks for audio that was not offered")
    return terms


# --- reading ----------------------------------------------------------------------------------------------------------


def _parse(body: bytes) -> list[_Media]:
    try:
        lines = body.decode().splitlines()
    except UnicodeDecodeError:
        raise NotAcceptable("the description is not UTF-8") from None
    if not lines or lines[0].strip() != "v=0":
        raise NotAcceptable("the body is no session description")
    session, media = _Media("", 0, "", [], ""), list[_Media]()
    for line in lines[1:]:
        name, _, value = line.partition("=")
        here, words = media[-1] if media else session, value.split()
        if name == "m":
            # Some of it is in our answer.
            if len(media) == MAX_MEDIA or not 3 < len(words) <= MAX_FORMATS or not all(map(_TOKEN, words)):
                raise NotAcceptable("too many media lines, or one out of shape")
            port = _number(words[1].removesuffix("/1"), 65536)
            if port is None:
                raise NotAcceptable("a media line without a port")
            media.append(_Media(words[0], port, words[2], words[3:], session.address))
        elif name == "c":
            here.address = words[-1].partition("/")[0] if words else ""
        elif name == "a":
            attribute, _, text = value.partition(":")
            here.attributes.append((attribute.strip(), text.strip()))
    for each in media:
        each.attributes += [pair for pair in session.attributes if pair[0] in ANSWERS]
    return media


def _number(text: str, below: int) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < below else None


def _terms(line: _Media, local: LocalMedia, *, answered: bool = False) -> tuple[Negotiated, int]:
    """What an audio line comes to, and the tag of the crypto line taken."""
    names = dict(STATIC)
    for value in line.values("rtpmap"):
        number, _, encoding = value.partition(" ")
        names[number] = encoding.strip().upper().removesuffix("/1")
    # What would be taken for RTCP on a port that both share is no payload type (RFC 5761).
    usable = [text for text in line.formats if _number(text, 128) not in (None, *range(64, 96))]
    formats = [(int(text), names.get(text, "")) for text in usable]
    codecs = [(number, CODECS[name]) for number, name in formats if name in CODECS]
    if not codecs:
        raise NotAcceptable("none of its codecs is PCMU or PCMA")
    payload_type, codec = codecs[0]
    other = next((number for number, name in codecs if name != codec), None)
    event = next((number for number, name in formats if name == "TELEPHONE-EVENT/8000"), None)
    remote = _address(line.address, line.port, local)
    mux = bool(line.values("rtcp-mux"))
    theirs = next((name for name, _ in line.attributes if name in ANSWERS), "sendrecv")
    if ip_address(remote[0]).is_unspecified and theirs in ("sendrecv", "recvonly"):  # hold as RFC 2543 had it
        theirs = "sendonly" if theirs == "sendrecv" else "inactive"
    keys, tag = _srtp(line, local)
    return Negotiated(
        codec,
        payload_type,
        remote,
        remote if mux else _rtcp_address(line, remote, local),
        telephone_event=event,
        telephone_event_received=local.telephone_event if answered and event is not None else event,
        other_codec=other if answered else None,
        rtcp_mux=mux,
        direction=ANSWERS[theirs],
        held=theirs in ("sendonly", "inactive"),
        srtp=keys,
    ), tag


def _address(host: str, port: int, local: LocalMedia) -> tuple[str, int]:
    """Where to send to. A name is not looked up, and nothing is sent to more than one receiver."""
    try:
        address = ip_address(host)
    except ValueError:
        raise NotAcceptable("its connection address is no IP address") from None
    if address.version != ip_address(local.address).version:
        raise NotAcceptable("its connection address is of the other IP version")
    if address.is_multicast or str(address) == "255.255.255.255":
        raise NotAcceptable("its connection address is not that of one host")
    return str(address), port


def _rtcp_address(line: _Media, remote: tuple[str, int], local: LocalMedia) -> tuple[str, int]:
    """RFC 3605, else the next port."""
    words = " ".join(line.values("rtcp")[:1]).split() or [""]
    port = _number(words[0], 65536)
    if not port:
        return remote[0], min(remote[1] + 1, 65535)
    return _address(words[-1], port, local) if len(words) == 4 else (remote[0], port)


def _srtp(line: _Media, local: LocalMedia) -> tuple[SrtpKeys | None, int]:
    """The keys of the first crypto line that we can use, and its tag; (None, 0) for plain RTP."""
    secure = line.protocol in ("RTP/SAVP", "RTP/SAVPF")
    if not secure and line.protocol not in ("RTP/AVP", "RTP/AVPF"):
        raise NotAcceptable(f"audio over {line.protocol[:20]} is not supported")
    for value in line.values("crypto") if local.srtp != "off" else ():
        # A session parameter may weaken the encryption, and one that is not known must not be ignored.
        match value.split():
            case [number, suite, inline] if suite in local.keys:
                tag, key = _number(number, 10**9), _key(inline)
                if tag is not None and key is not None:
                    return SrtpKeys(suite, local.keys[suite], key), tag
    if secure:
        raise NotAcceptable("it wants SRTP, which is off here" if local.srtp == "off" else "no SRTP key of it fits")
    if local.srtp == "required":
        raise NotAcceptable("it has no SRTP, which is required here")
    return None, 0


def _key(inline: str) -> bytes | None:
    """The key of ``inline:key|lifetime``; None where it has an MKI, or is no key of our suites."""
    method, _, parameters = inline.partition(":")
    key, *more = parameters.split("|")
    try:
        decoded = b64decode(key, validate=True)
    except ValueError:
        return None
    return decoded if method == "inline" and len(decoded) == KEY_SIZE and ":" not in "".join(more) else None


# --- writing ----------------------------------------------------------------------------------------------------------


def _written(
    local: LocalMedia, codecs: Iterable[tuple[str, str]], event: int | None, crypto: list[tuple[int, str]],
    mux: bool, direction: Direction,
) -> bytes:  # fmt: skip
    formats, events = dict(codecs), list[str]()
    if event is not None:
        formats[str(event)] = "telephone-event/8000"
        events = [f"a=fmtp:{event} 0-15"]
    protocol = local.protocol or ("RTP/SAVP" if local.srtp == "required" else "RTP/AVP")
    ours = [
        f"m=audio {local.port} {protocol} {' '.join(formats)}",
        *(f"a=rtpmap:{number} {name}" for number, name in formats.items()),
        *events,
        "a=ptime:20",
        *(f"a=crypto:{tag} {suite} inline:{b64encode(local.keys[suite]).decode()}" for tag, suite in crypto),
        *(["a=rtcp-mux"] if mux else []),
        f"a={direction}",
    ]
    address = f"IN IP{ip_address(local.address).version} {local.address}"
    media = [line for other in local.layout for line in ([other] if other else ours)]
    sent = "\r\n".join([f"c={address}", "t=0 0", *media, ""]).encode()
    if local.sent and sent != local.sent:
        local.version += 1
    local.sent = sent
    return f"v=0\r\no=- {local.session_id} {local.version} {address}\r\ns=-\r\n".encode() + sent
