"""Offer and answer of one audio stream (RFC 8866, 3264, 4568). Pure: text in, text and terms out.

We speak PCMU, PCMA and telephone-event; everything else, comfort noise included, is left out of an answer. Every media
line of an offer has its line in the answer, with port 0 for what we do not take.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Srtp = Literal["off", "offered", "required"]
Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

STATIC = {0: "PCMU", 8: "PCMA"}
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
    payload type of the codec that the far end may switch to, as it named both. ``ptime`` in milliseconds is theirs; we
    send 20.
    """

    codec: Literal["PCMU", "PCMA"]
    payload_type: int
    remote: tuple[str, int]
    remote_rtcp: tuple[str, int]
    telephone_event: int | None = None
    telephone_event_received: int | None = None
    other_codec: int | None = None
    rtcp_mux: bool = False
    direction: Direction = "sendrecv"
    held: bool = False
    ptime: int = 20
    srtp: SrtpKeys | None = None


@dataclass
class LocalMedia:
    """Our side of one stream. ``version`` counts the descriptions that differed: an unchanged one keeps its number."""

    address: str
    port: int
    session_id: int
    version: int = 1
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    srtp: Srtp = "off"
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """For each suite that we offer, our key and salt."""
    sent: bytes = field(default=b"", repr=False)
    """The media part of the description sent last."""
    protocol: str = ""
    telephone_event: int = TELEPHONE_EVENT
    layout: tuple[str, ...] = ("",)
    """The media lines that we answered, "" for ours; an offer of ours has to have them too (RFC 3264, 8)."""


@dataclass
class _Media:
    """A media line with what follows it."""

    kind: str
    port: int
    protocol: str
    formats: list[str]
    address: str = ""
    attributes: list[tuple[str, str]] = field(default_factory=list, repr=False)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]

    def value(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)

    @property
    def rtpmap(self) -> dict[str, str]:
        """Encoding name and clock rate by payload type, upper case: ``{"0": "PCMU/8000"}``."""
        mapped = {str(number): f"{name}/8000" for number, name in STATIC.items()}
        for value in self.values("rtpmap"):
            number, _, encoding = value.partition(" ")
            mapped[number] = encoding.strip().upper().removesuffix("/1")
        return mapped


def offer(local: LocalMedia, *, direction: Direction = "sendrecv") -> bytes:
    """A description of all that we can do."""
    secure = [(number, suite) for number, suite in enumerate(SUITES, 1) if local.srtp != "off"]
    numbers = [number for codec in local.codecs for number, name in STATIC.items() if name == codec]
    protocol = local.protocol or ("RTP/SAVP" if local.srtp == "required" else "RTP/AVP")
    ours = [
        *_audio(local, protocol, numbers, local.telephone_event),
        *(_crypto(number, suite, local.keys[suite]) for number, suite in secure),
        "a=rtcp-mux",
        f"a={direction}",
    ]
    return _written(local, [line for other in local.layout for line in ([other] if other else ours)])


def answer(body: bytes, local: LocalMedia) -> tuple[bytes, Negotiated]:
    """Our answer to an offer, and what it settles. ``NotAcceptable`` where no audio line of it fits."""
    media, why = _parse(body), "it offers no audio"
    chosen, terms, crypto = None, None, 0
    for line in media:
        if line.kind == "audio" and line.port:
            try:
                terms, crypto = _terms(line, local)
                chosen = line
                break
            except NotAcceptable as reason:
                why = str(reason)
    if chosen is None or terms is None:
        raise NotAcceptable(why)
    ours = _audio(local, chosen.protocol, [terms.payload_type], terms.telephone_event, names=(terms.codec,))
    if terms.srtp is not None:
        ours.append(_crypto(crypto, terms.srtp.suite, terms.srtp.local))
    if terms.rtcp_mux:
        ours.append("a=rtcp-mux")
    ours.append(f"a={terms.direction}")
    local.protocol, local.telephone_event = chosen.protocol, terms.telephone_event or TELEPHONE_EVENT
    local.layout = tuple(
        "" if line is chosen else f"m={line.kind} 0 {line.protocol} {' '.join(line.formats)}" for line in media
    )
    return _written(local, [line for other in local.layout for line in ([other] if other else ours)]), terms


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
    session = _Media("", 0, "", [])
    media: list[_Media] = []
    try:
        lines = body.decode().splitlines()
    except UnicodeDecodeError:
        raise NotAcceptable("the description is not UTF-8") from None
    if not lines or lines[0].strip() != "v=0":
        raise NotAcceptable("the body is no session description")
    for line in lines[1:]:
        kind, _, value = line.partition("=")
        here = media[-1] if media else session
        if kind == "m":
            if len(media) == MAX_MEDIA:
                raise NotAcceptable("too many media lines")
            words = value.split()
            port, _, count = words[1].partition("/") if len(words) > 3 else ("", "", "")
            plain = len(words) <= MAX_FORMATS and all(map(_TOKEN, words))  # some of it is in our answer
            if not (plain and port.isascii() and port.isdigit() and int(port) < 65536 and count in ("", "1")):
                raise NotAcceptable("a media line out of shape")
            media.append(_Media(words[0], int(port), words[2], words[3:], session.address))
        elif kind == "c":
            here.address = value.split()[-1].partition("/")[0] if value.split() else ""
        elif kind == "a":
            name, _, text = value.partition(":")
            here.attributes.append((name.strip(), text.strip()))
    for line_ in media:
        line_.attributes += [pair for pair in session.attributes if pair[0] in ANSWERS]
    return media


def _terms(line: _Media, local: LocalMedia, *, answered: bool = False) -> tuple[Negotiated, int]:
    """What an audio line comes to, and the tag of the crypto line taken."""
    rtpmap = line.rtpmap
    wanted = {f"{codec}/8000": codec for codec in local.codecs}
    numbers = [number for number in line.formats if rtpmap.get(number) in wanted and _is_payload_type(number)]
    if not numbers:
        raise NotAcceptable(f"none of its codecs is {' or '.join(local.codecs)}")
    codec = wanted[rtpmap[numbers[0]]]
    others = [number for number in numbers if wanted[rtpmap[number]] != codec]
    events = [
        int(number) for number in line.formats
        if rtpmap.get(number) == "TELEPHONE-EVENT/8000" and _is_payload_type(number)
    ]  # fmt: skip
    event = events[0] if events else None
    remote = _address(line.address, line.port, local)
    mux = line.value("rtcp-mux") is not None
    theirs = next((name for name, _ in line.attributes if name in ANSWERS), "sendrecv")
    if is_nowhere(remote) and theirs in ("sendrecv", "recvonly"):  # hold as RFC 2543 had it
        theirs = "sendonly" if theirs == "sendrecv" else "inactive"
    keys, tag = _srtp(line, local, answered)
    ptime = line.value("ptime") or "20"
    return Negotiated(
        codec="PCMU" if codec == "PCMU" else "PCMA",
        payload_type=int(numbers[0]),
        remote=remote,
        remote_rtcp=remote if mux else _rtcp_address(line, remote, local),
        telephone_event=event,
        telephone_event_received=local.telephone_event if answered and event is not None else event,
        other_codec=int(others[0]) if answered and others else None,
        rtcp_mux=mux,
        direction=ANSWERS[theirs],
        held=theirs in ("sendonly", "inactive"),
        ptime=int(ptime) if ptime.isascii() and ptime.isdigit() and 10 <= int(ptime) <= 60 else 20,
        srtp=keys,
    ), tag


def _is_payload_type(number: str) -> bool:
    return number.isascii() and number.isdigit() and int(number) < 128 and not 64 <= int(number) < 96  # RFC 5761


def _address(host: str, port: int, local: LocalMedia) -> tuple[str, int]:
    """Where to send to. A name is not looked up, and nothing is sent to more than one receiver."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise NotAcceptable("its connection address is no IP address") from None
    if address.version != ipaddress.ip_address(local.address).version:
        raise NotAcceptable("its connection address is of the other IP version")
    if address.is_multicast or str(address) == "255.255.255.255":
        raise NotAcceptable("its connection address is not that of one host")
    return str(address), port


def is_nowhere(remote: tuple[str, int]) -> bool:
    """Whether that is the address of nobody, to which nothing is to be sent."""
    return ipaddress.ip_address(remote[0]).is_unspecified


def _rtcp_address(line: _Media, remote: tuple[str, int], local: LocalMedia) -> tuple[str, int]:
    """RFC 3605, else the next port."""
    words = (line.value("rtcp") or "").split()
    if not words or not (words[0].isascii() and words[0].isdigit() and 0 < int(words[0]) < 65536):
        return remote[0], min(remote[1] + 1, 65535)
    return _address(words[-1], int(words[0]), local) if len(words) == 4 else (remote[0], int(words[0]))


def _srtp(line: _Media, local: LocalMedia, answered: bool) -> tuple[SrtpKeys | None, int]:
    """The keys of the first crypto line that we can use, and its tag; (None, 0) for plain RTP."""
    secure = line.protocol in ("RTP/SAVP", "RTP/SAVPF")
    if not secure and line.protocol not in ("RTP/AVP", "RTP/AVPF"):
        raise NotAcceptable(f"audio over {line.protocol[:20]} is not supported")
    if local.srtp != "off":
        for value in line.values("crypto"):
            words = value.split()
            # A session parameter may weaken the encryption, and one that is not known must not be ignored.
            if len(words) != 3 or words[1] not in local.keys or not words[0].isascii() or not words[0].isdigit():
                continue
            if (key := _inline(words[2])) is not None:
                return SrtpKeys(words[1], local.keys[words[1]], key), int(words[0])
    if secure:
        raise NotAcceptable("it wants SRTP, which is off here" if local.srtp == "off" else "no SRTP key of it fits")
    if local.srtp == "required":
        raise NotAcceptable("it has no SRTP, which is required here")
    return None, 0


def _inline(value: str) -> bytes | None:
    """The key of ``inline:key|lifetime``; None where it has an MKI, or is no key of our suites."""
    method, _, parameters = value.partition(":")
    key, *more = parameters.split("|")
    if method != "inline" or any(":" in part for part in more):
        return None
    try:
        decoded = b64decode(key, validate=True)
    except ValueError:
        return None
    return decoded if len(decoded) == KEY_SIZE else None


# --- writing ----------------------------------------------------------------------------------------------------------


def _audio(
    local: LocalMedia, protocol: str, numbers: list[int], event: int | None, names: tuple[str, ...] = ()
) -> list[str]:
    names = names or tuple(STATIC[number] for number in numbers)
    formats = [*numbers, *([] if event is None else [event])]
    lines = [f"m=audio {local.port} {protocol} {' '.join(map(str, formats))}"]
    lines += [f"a=rtpmap:{number} {name}/8000" for number, name in zip(numbers, names, strict=True)]
    if event is not None:
        lines += [f"a=rtpmap:{event} telephone-event/8000", f"a=fmtp:{event} 0-15"]
    return [*lines, "a=ptime:20"]


def _crypto(tag: int, suite: str, key: bytes) -> str:
    return f"a=crypto:{tag} {suite} inline:{b64encode(key).decode()}"


def _written(local: LocalMedia, lines: list[str]) -> bytes:
    media = "\r\n".join([f"c=IN IP{ipaddress.ip_address(local.address).version} {local.address}", "t=0 0", *lines, ""])
    sent = media.encode()
    if local.sent and sent != local.sent:
        local.version += 1
    local.sent = sent
    version = ipaddress.ip_address(local.address).version
    origin = f"o=- {local.session_id} {local.version} IN IP{version} {local.address}"
    return f"v=0\r\n{origin}\r\ns=-\r\n".encode() + sent
