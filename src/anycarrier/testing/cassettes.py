"""Cassettes: what carriers said, kept in files. Three kinds, one folder each, under ``<folder>/<carrier>/``.

``rest/<operation>.yaml`` is vcrpy's format, ``webhooks/<name>.json`` a request and the event it must become,
``streams/<name>.jsonl`` media frames and theirs. Each says where it came from: ``recorded`` from a live account,
``sandbox`` from a sandbox of ours, ``documented`` typed from the carrier's documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from anycarrier.testing.scrub import PHONE, Scrubber
from anycarrier.webhooks import WebhookRequest

if TYPE_CHECKING:
    import vcr
    from vcr.request import Request

HERE = Path(__file__).parent


class Provenance(StrEnum):
    """Where a cassette came from; never presented as more than it is."""

    RECORDED = "recorded"
    SANDBOX = "sandbox"
    DOCUMENTED = "documented"


def shipped() -> Path:
    """The carriers' cassettes that come with anycarrier: packed into its wheel, or in its checkout."""
    packed = HERE / "carriers"
    return packed if packed.is_dir() else HERE.parents[2] / "cassettes"


def find(name: str, ending: str, beside: Path) -> Path:
    """The cassette ``<carrier>/<kind>/<name>``: in ``cassettes/`` beside a test, else among those shipped."""
    places = [beside / "cassettes", shipped()]
    for place in places:
        path = place / f"{name.removesuffix(ending)}{ending}"
        if path.is_file():
            return path
    raise FileNotFoundError(f"no cassette {name}{ending} in {' or '.join(map(str, places))}")


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
    """One line of a stream: a frame in with its events, or something said with its frames out."""

    frame: str = ""
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
    """Read ``streams/*.jsonl``: a line of provenance, then frames in and out in the order they travelled."""
    head, *rest = (json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip())
    lines = []
    for line in rest:
        if "frame" in line:
            frame = line["frame"]
            text = frame if isinstance(frame, str) else json.dumps(frame, separators=(",", ":"))
            lines.append(StreamLine(frame=text, events=tuple(line["events"])))
        else:
            (say, argument), *_ = ((k, v) for k, v in line.items() if k != "frames")
            lines.append(StreamLine(say=say, argument=argument, frames=tuple(line["frames"])))
    return StreamCassette(path, head.get("provenance", ""), head.get("source", ""), tuple(lines))


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


# --- REST: vcrpy ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class YamlWithProvenance:
    """vcrpy's serializer, with the two lines of ours on top of the file."""

    provenance: str = ""
    source: str = ""

    def serialize(self, cassette: dict[str, Any]) -> str:
        import yaml

        head = {"provenance": self.provenance, "source": self.source}
        return str(yaml.safe_dump({**head, **cassette}, sort_keys=False, width=120, allow_unicode=True))

    def deserialize(self, text: str) -> Any:
        import yaml

        return yaml.safe_load(text)


def recorder(
    record_mode: str = "none",
    *,
    provenance: str = "",
    source: str = "",
    scrubber: Scrubber | None = None,
    only: tuple[str, ...] = (),
) -> vcr.VCR:
    """vcrpy, set up for anycarrier: see :func:`same_request` for matching; scrubs on write.

    ``only`` records requests to URLs that start with one of these, and lets all others through unseen. vcrpy asks
    about a request more than once, also after it was scrubbed, so the stand-in of an address belongs here too.
    """
    import vcr

    scrub = scrubber or Scrubber()

    def request_kept(request: Request) -> Request | None:
        if only and not request.uri.startswith(only):
            return None
        clean = type(request)(request.method, scrub.text(request.uri), request.body, scrub.headers(request.headers))
        if clean.body:
            clean.body = scrub.text(_text(clean.body)).encode()
        return clean

    def response_kept(response: dict[str, Any]) -> dict[str, Any]:
        body = response["body"].get("string") or b""
        try:
            body = scrub.text(_text(body)).encode()
        except UnicodeDecodeError:
            pass  # a recording: sound has no numbers in it
        status = response["status"]
        return {"status": status, "headers": scrub.headers(response["headers"]), "body": {"string": body}}

    made = vcr.VCR(
        record_mode=record_mode,
        serializer="anycarrier",
        match_on=("anycarrier",),
        before_record_request=request_kept,
        before_record_response=response_kept,
        decode_compressed_response=True,
    )
    made.register_serializer("anycarrier", YamlWithProvenance(provenance, source))
    made.register_matcher("anycarrier", same_request)
    return made


def same_request(live: Request, kept: Request) -> None:
    """vcrpy matcher: method, path and query agree, the body has the same keys. Ids and phone numbers count as equal.

    The host is left out, so a cassette plays for a sandbox's address as well as for the carrier's.
    """
    assert live.method == kept.method, f"{live.method} is not {kept.method}"
    theirs, ours = urlsplit(live.uri), urlsplit(kept.uri)
    here, there = theirs.path.strip("/").split("/"), ours.path.strip("/").split("/")
    assert len(here) >= len(there) and all(map(_same, here[-len(there) :], there)), f"{theirs.path} is not {ours.path}"
    asked, stored = (sorted(parse_qsl(p.query, keep_blank_values=True)) for p in (theirs, ours))
    assert [k for k, _ in asked] == [k for k, _ in stored], f"query {asked} is not {stored}"
    for (name, value), (_, other) in zip(asked, stored, strict=True):
        assert _same(value, other), f"query {name}={value} is not {other}"
    assert _shape(live) == _shape(kept), f"body {_shape(live)} is not {_shape(kept)}"


def _same(one: str, other: str) -> bool:
    return one == other or (_opaque(one) and _opaque(other))


def _opaque(value: str) -> bool:
    """An id, a token, an address or a phone number: something that differs from one run to the next."""
    if PHONE.fullmatch(value) or value.startswith(("http://", "https://")):
        return True
    return len(value) >= 16 and any(c.isdigit() for c in value)


def _shape(request: Request) -> list[str]:
    """The paths of all keys in a body, sorted: ``["from", "stream.url", "to"]``."""
    text = _text(request.body or b"")
    if not text:
        return []
    try:
        body = json.loads(text)
    except ValueError:
        return sorted({key for key, _ in parse_qsl(text, keep_blank_values=True)})

    def keys(value: Any, at: str) -> Iterator[str]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield at + key
                yield from keys(inner, f"{at}{key}.")
        elif isinstance(value, list) and value:
            yield from keys(value[0], f"{at}[].")

    return sorted(set(keys(body, "")))


def _text(body: bytes | str) -> str:
    return body if isinstance(body, str) else body.decode("utf-8")
