"""Cassettes: what carriers sent, kept in files. Three kinds, one folder each, under ``<folder>/<carrier>/``.

``rest/<operation>.yaml`` is vcrpy's format (:mod:`anycarrier.testing.replay` plays it), ``webhooks/<name>.json`` a
request and the event it must become, ``streams/<name>.jsonl`` media frames and their events. Each says where it came
from: ``recorded`` from a live account, ``sandbox`` from one of our sandboxes, ``documented`` typed from the carrier's
documents. ``Scrubber`` removes secrets, account ids and signatures before anything is written and replaces phone
numbers by fictional ones (+1 NXX 555-01xx), the same each time; ``scan`` proves that nothing was left.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from anycarrier.audio import AudioFormat
from anycarrier.calls import Call
from anycarrier.credentials import Credential
from anycarrier.plugins import get_provider
from anycarrier.redaction import SECRETS, mask_number
from anycarrier.webhooks import WebhookRequest


class Provenance(StrEnum):
    """Where a cassette came from; never presented as more than it is."""

    RECORDED = "recorded"
    SANDBOX = "sandbox"
    DOCUMENTED = "documented"


def package_of(carrier: str) -> Path:
    """The folder of the package that holds the carrier's plugin; ``UnknownProvider`` when it is not installed."""
    package = get_provider(carrier).__module__.partition(".")[0]
    return Path(str(sys.modules[package].__file__)).parent


def shipped(carrier: str) -> Path:
    """The folder ``cassettes`` in the package of the carrier's plugin; ``UnknownProvider`` when it is not installed."""
    return package_of(carrier) / "cassettes"


def find(name: str, ending: str, beside: Path) -> Path:
    """The cassette ``<carrier>/<kind>/<name>``: in ``cassettes/`` beside a test, else in the carrier's plugin."""
    name = name.removesuffix(ending) + ending
    path = beside / "cassettes" / name
    if path.is_file():
        return path
    carrier, _, rest = name.partition("/")
    plugin = shipped(carrier)
    if (plugin / rest).is_file():
        return plugin / rest
    raise FileNotFoundError(f"no cassette {name}: {path} and {plugin / rest} do not exist")


# --- webhooks and streams ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WebhookCassette:
    """One webhook, unsigned (scrubbing breaks signatures), and the event it must become."""

    path: Path
    provenance: str
    source: str
    request: WebhookRequest
    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StreamLine:
    """One line of a stream: a frame in with its events, or something said with its frames out.

    ``frame`` is ``str`` for text and ``bytes`` for binary; ``frames`` are as the file writes them, see :func:`written`.
    """

    frame: str | bytes = ""
    events: tuple[Mapping[str, Any], ...] = ()
    say: str = ""
    argument: Any = None
    frames: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamCassette:
    """The frames of one media stream."""

    path: Path
    provenance: str
    source: str
    lines: tuple[StreamLine, ...] = field(repr=False)


def load_webhook(path: Path) -> WebhookCassette:
    """Read ``webhooks/*.json``: its request has one of ``form``, ``json``, ``body``, or nothing (GET)."""
    kept = json.loads(path.read_text("utf-8"))
    asked = kept["request"]
    headers = {name.lower(): value for name, value in asked.get("headers", {}).items()}
    url, body = asked["url"], b""
    if "form" in asked and asked["method"] == "GET":
        url += ("&" if urlsplit(url).query else "?") + urlencode(asked["form"])
    elif "form" in asked:
        body = urlencode(asked["form"]).encode()
        headers.setdefault("content-type", "application/x-www-form-urlencoded; charset=UTF-8")
    elif "json" in asked:
        body = json.dumps(asked["json"], separators=(",", ":")).encode()
        headers.setdefault("content-type", "application/json")
    else:
        body = asked.get("body", "").encode()
    request = WebhookRequest(asked["method"], url, headers, body)
    return WebhookCassette(path, kept.get("provenance", ""), kept.get("source", ""), request, kept["event"])


def load_stream(path: Path) -> StreamCassette:
    """Read ``streams/*.jsonl``: a line of provenance, then frames in and out in the order they travelled.

    A text frame is written as the JSON it is, or as a string; a binary one as ``{"binary": "<base64>"}``.
    """
    head, *rest = (json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip())
    lines = []
    for line in rest:
        if "frame" in line:
            lines.append(StreamLine(frame=_frame(line["frame"]), events=tuple(line["events"])))
        else:
            (say, argument), *_ = ((k, v) for k, v in line.items() if k != "frames")
            lines.append(StreamLine(say=say, argument=argument, frames=tuple(line["frames"])))
    return StreamCassette(path, head.get("provenance", ""), head.get("source", ""), tuple(lines))


def _frame(kept: Any) -> str | bytes:
    if isinstance(kept, dict) and kept.keys() == {"binary"}:
        return base64.b64decode(kept["binary"], validate=True)
    return kept if isinstance(kept, str) else json.dumps(kept, separators=(",", ":"))


def written(frame: str | bytes) -> Any:
    """A frame as a stream cassette writes it."""
    if isinstance(frame, bytes):
        return {"binary": base64.b64encode(frame).decode()}
    try:
        return json.loads(frame)
    except ValueError:
        return frame


def provenance_of(path: Path) -> tuple[str, str]:
    """(provenance, source) of a cassette file of any kind; empty where it does not say."""
    if path.suffix == ".yaml":
        import yaml

        kept = yaml.safe_load(path.read_text("utf-8"))
    else:
        kept = json.loads(path.read_text("utf-8") if path.suffix == ".json" else path.read_text("utf-8").split("\n")[0])
    return str(kept.get("provenance", "")), str(kept.get("source", ""))


def files(folder: Path) -> Iterator[Path]:
    """Every cassette below ``folder``."""
    for kind, ending in (("rest", ".yaml"), ("webhooks", ".json"), ("streams", ".jsonl")):
        yield from sorted(path for path in folder.rglob(f"*{ending}") if path.parent.name == kind)


# --- events as data ------------------------------------------------------------------------------------------------


def describe(event: msgspec.Struct) -> dict[str, Any]:
    """``{"type": "DigitPressed", "digit": "1"}``: the type and every field that is not at its default.

    ``raw`` is left out: it is the message itself. Audio is base64, times are ISO 8601, a format is ``PCMU/8000``.
    """
    told: dict[str, Any] = {"type": type(event).__name__}
    for spec in msgspec.structs.fields(event):
        value = getattr(event, spec.name)
        default = spec.default_factory() if callable(spec.default_factory) else spec.default
        if spec.name != "raw" and value != default:
            told[spec.name] = _plain(value)
    return told


def _plain(value: Any) -> Any:
    match value:
        case Call():
            return value.model_dump(mode="json", exclude={"raw"}, exclude_defaults=True)
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return value.isoformat()
        case AudioFormat():
            return f"{value.encoding}/{value.rate}" + (f"/{value.channels}" if value.channels != 1 else "")
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return value


# --- scrubbing: nothing of anybody's in a cassette -----------------------------------------------------------------

PHONE = re.compile(r"(?:\+|%2B)([1-9]\d{6,14})(?!\d)")
NATIONAL = re.compile(r"\((\d{3})\) ?(\d{3})-(\d{4})")
FICTIONAL = re.compile(r"1[2-9]\d\d55501\d\d")
ACCOUNT = re.compile(r"\bAC(?!0{32})[0-9a-f]{32}\b")
SHAPES = (
    SECRETS,
    re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}"),
    re.compile(r"-----BEGIN (?!PUBLIC)[A-Z ]+-----"),
    re.compile(r"(?i)(?:auth_?token|api_?key|password|secret)[\"']?\s*[:=]\s*[\"']?(?!null|none|\[|{)[\w+/=.-]{12,}"),
)
SIGNED_URL = re.compile(r"(?i)([?&](?:[\w-]*token|[\w-]*signature|[\w-]*credential)=)(?!SCRUBBED)[\w%/+.~-]{8,}")
HEADERS_KEPT = re.compile(r"(?i)content-type|retry-after|location|x-ratelimit-[\w-]+")


class Scrubber:
    """Cleans texts of one account; a number or id met twice gets the same stand-in."""

    def __init__(self, credential: Credential | None = None, replace: Mapping[str, str] | None = None) -> None:
        """``replace`` is looked for literally and first: an address of one's own, a subaccount's id."""
        self.replace = dict(replace or {})
        self.secrets: tuple[str, ...] = ()
        if credential is not None:
            self.secrets = tuple(s for s in credential.secrets() if s)
            if credential.account:
                self.replace[credential.account] = re.sub(r"[0-9a-f]", "0", credential.account)
        self._numbers: dict[str, str] = {}
        self._next = count(150)

    def number(self, digits: str) -> str:
        """The fictional number standing in for ``digits`` (no plus sign); itself when it is fictional already."""
        if FICTIONAL.fullmatch(digits):
            return digits
        return self._numbers.setdefault(digits, f"14155550{next(self._next)}")

    def text(self, text: str) -> str:
        """``text`` with nothing of anybody's left in it."""
        for secret in self.secrets:
            text = text.replace(secret, "SCRUBBED")
        for ours, stand_in in self.replace.items():
            text = text.replace(ours, stand_in)
        text = ACCOUNT.sub("AC" + "0" * 32, text)
        text = SECRETS.sub("SCRUBBED", text)
        text = SIGNED_URL.sub(r"\1SCRUBBED", text)
        text = PHONE.sub(lambda m: m[0].removesuffix(m[1]) + self.number(m[1]), text)
        text = NATIONAL.sub(self._national, text)
        for real, stand_in in self._numbers.items():
            text = text.replace(real, stand_in).replace(real[1:], stand_in[1:]) if real[0] == "1" else text
        return text

    def _national(self, match: re.Match[str]) -> str:
        digits = self.number("1" + "".join(match.groups()))
        return f"({digits[1:4]}) {digits[4:7]}-{digits[7:]}"

    def headers(self, headers: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        """The few headers that mean something on replay."""
        kept = {name.lower(): values for name, values in headers.items() if HEADERS_KEPT.fullmatch(name)}
        return {name: [values] if isinstance(values, str) else list(values) for name, values in kept.items()}


def findings(text: str) -> list[str]:
    """What looks real in ``text``: each finding says what it is and shows too little of it to be used."""
    found = []
    for shape in (*SHAPES, ACCOUNT, SIGNED_URL):
        found += [f"secret-shaped: {match.group()[:6]}…" for match in shape.finditer(text)]
    for match in PHONE.finditer(text):
        if not FICTIONAL.fullmatch(match[1]):
            found.append(f"not a fictional number: {mask_number('+' + match[1])}")
    for match in NATIONAL.finditer(text):
        if not FICTIONAL.fullmatch("1" + "".join(match.groups())):
            found.append(f"not a fictional number: ({match[1]}) …")
    return found


def scan(folder: Path) -> list[str]:
    """Findings in every file below ``folder``, each with the file it is in."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{path.relative_to(folder)}: {what}" for path in files for what in findings(path.read_text("utf-8"))]
