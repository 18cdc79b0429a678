"""Parameter rules and the errors for breaking them: the carrier's codes, HTTP statuses, and two shapes of error body.

A rule is a text (``"int 5..600"``, ``"enum wav|mp3"``, ``"url"``), a list of one rule, or a mapping of names to rules
in which ``name!`` is required. A text ending in ``?`` allows null.

Statuses are those seen in captures where there is one (401 10009, 403 20015, 404 10002, 422 90018), else 422.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response

# code -> (HTTP status, title)
CODES: Mapping[str, tuple[int, str]] = {
    "10002": (404, "Invalid phone number"),
    "10004": (422, "Missing required parameter"),
    "10005": (404, "Resource not found"),
    "10007": (500, "Unexpected error"),
    "10009": (401, "Authentication failed"),
    "10010": (403, "Authorization failed"),
    "10011": (429, "Too many requests"),
    "10015": (422, "Bad Request"),
    "10016": (422, "Phone number must be in +E.164 format"),
    "10021": (422, "Resource in use"),
    "10027": (422, "Unprocessable Entity"),
    "10030": (405, "Method not allowed"),
    "10032": (422, "Invalid enumerated value"),
    "10033": (422, "Value outside of range"),
    "10038": (422, "Feature not permitted"),
    "20012": (403, "Account inactive"),
    "20100": (403, "Insufficient Funds"),
    "20013": (403, "Account blocked"),
    "85000": (422, "Phone number not found by a search"),
    "85001": (422, "Phone number no longer available"),
    "85004": (422, "Invalid connection"),
    "90014": (422, "Invalid DTMF digits"),
    "90015": (422, "Invalid Call Control ID"),
    "90017": (422, "Invalid client state"),
    "90018": (422, "Call has already ended"),
    "90028": (422, "Invalid timeout_secs"),
    "90029": (422, "Invalid time_limit_secs"),
    "90034": (422, "Call has not been answered yet"),
    "90045": (422, "Command not allowed while streaming"),
    "90046": (422, "Streaming failed to start"),
    "90048": (422, "Call is not streaming"),
    "90102": (422, "Command is for incoming calls only"),
}


def problem(code: str, detail: str = "", *, pointer: str = "", parameter: str = "") -> dict[str, Any]:
    """One entry of an error list; ``pointer`` names a place in the body, ``parameter`` one in the query."""
    entry: dict[str, Any] = {"code": code, "title": CODES[code][1]}
    if detail:
        entry["detail"] = detail
    source = {name: value for name, value in (("pointer", pointer), ("parameter", parameter)) if value}
    if source:
        entry["source"] = source
    entry["meta"] = {"url": f"https://developers.telnyx.com/docs/overview/errors/{code}"}
    return entry


class Refusal(Exception):
    """A request the carrier turns down; :meth:`response` is what goes over the wire."""

    def __init__(
        self, *problems: dict[str, Any], status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.problems = problems
        self.status = status or CODES[problems[0]["code"]][0]
        self.headers = dict(headers or {})
        super().__init__(", ".join(p["code"] for p in problems))

    def response(self) -> Response:
        return JSONResponse({"errors": list(self.problems)}, status_code=self.status, headers=self.headers)


def refuse(code: str, detail: str = "", *, pointer: str = "", parameter: str = "") -> Refusal:
    """A refusal for one reason."""
    return Refusal(problem(code, detail, pointer=pointer, parameter=parameter))


def throttled() -> Refusal:
    """Too many requests, with the headers that say how many seconds to wait."""
    headers = {"x-ratelimit-limit": "1", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "2"}
    return Refusal(problem("10011", "You have exceeded the maximum number of allowed requests."), headers=headers)


def malformed() -> Response:
    """The answer to a body that is no JSON object: ``errors`` is an object here, as captured."""
    return JSONResponse({"errors": {"detail": "Bad Request"}}, status_code=400)


Rule = str | list[Any] | Mapping[str, Any]

E164 = re.compile(r"\+[1-9]\d{6,14}")
DIGITS = re.compile(r"[0-9A-D*#wW]+")
SCHEMES = {"url": ("http", "https"), "ws": ("ws", "wss")}
RANGE_CODES = {"timeout_secs": "90028", "time_limit_secs": "90029"}


def problems(rule: Rule, value: Any, pointer: str = "") -> Iterator[dict[str, Any]]:
    """Every entry of the error list that ``value`` earns; none when it keeps to ``rule``."""
    if isinstance(rule, str):
        yield from _text_problems(rule, value, pointer)
    elif isinstance(rule, list):
        if not isinstance(value, list):
            yield problem("10015", "The value must be a list.", pointer=pointer)
        else:
            for at, item in enumerate(value):
                yield from problems(rule[0], item, f"{pointer}/{at}")
    elif not isinstance(value, Mapping):
        yield problem("10015", "The value must be an object.", pointer=pointer)
    else:
        yield from _object_problems(rule, value, pointer)


def _object_problems(rule: Mapping[str, Any], value: Mapping[str, Any], pointer: str) -> Iterator[dict[str, Any]]:
    known = {name.rstrip("!"): inner for name, inner in rule.items()}
    missing = [n[:-1] for n in rule if n.endswith("!") and value.get(n[:-1]) in (None, "", [])]
    for name in missing:
        yield problem("10004", f"The '{name}' parameter is required.", pointer=f"{pointer}/{name}")
    for name, inner in value.items():
        if name not in known:
            yield problem("10015", f"The '{name}' parameter is not known here.", pointer=f"{pointer}/{name}")
        elif name not in missing:
            yield from problems(known[name], inner, f"{pointer}/{name}")


def _text_problems(rule: str, value: Any, pointer: str) -> Iterator[dict[str, Any]]:
    if rule.endswith("?"):
        if value is None:
            return
        rule = rule[:-1]
    kind, _, limits = rule.partition(" ")
    name = pointer.rsplit("/", 1)[-1]
    if kind == "unsupported":
        yield problem("10038", f"'{name}' is not simulated by this sandbox.", pointer=pointer)
    elif kind == "any":
        return
    elif kind == "int":
        if isinstance(value, bool) or not isinstance(value, int):
            yield problem("10015", f"'{name}' must be an integer.", pointer=pointer)
        elif limits and not _within(value, limits):
            yield problem(RANGE_CODES.get(name, "10033"), f"'{name}' must be within {limits}.", pointer=pointer)
    elif kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield problem("10015", f"'{name}' must be a number.", pointer=pointer)
    elif kind == "bool":
        if not isinstance(value, bool):
            yield problem("10015", f"'{name}' must be a boolean.", pointer=pointer)
    elif kind == "obj":
        if not isinstance(value, Mapping):
            yield problem("10015", f"'{name}' must be an object.", pointer=pointer)
    elif kind == "enum":
        if str(value) not in limits.split("|") or isinstance(value, bool):
            yield problem("10032", f"'{name}' must be one of {limits.replace('|', ', ')}.", pointer=pointer)
    elif not isinstance(value, str):
        yield problem("10015", f"'{name}' must be a string.", pointer=pointer)
    else:
        yield from _string_problems(kind, limits, value, name, pointer)


def _string_problems(kind: str, limits: str, value: str, name: str, pointer: str) -> Iterator[dict[str, Any]]:
    if kind == "str":
        if limits and not _within(len(value), limits):
            yield problem("10033", f"'{name}' must be {limits} characters long.", pointer=pointer)
    elif kind in SCHEMES:
        parts = urlsplit(value)
        if parts.scheme not in SCHEMES[kind] or not parts.netloc or len(value) > 2000:
            yield problem("10015", f"'{name}' must be a {kind} URL.", pointer=pointer)
    elif kind == "e164":
        if not E164.fullmatch(value):
            yield problem("10016", f"'{name}' must be in +E.164 format.", pointer=pointer)
    elif kind == "dialled":
        if not E164.fullmatch(value.partition(",")[0]) and not value.startswith("sip:"):
            yield problem("10016", f"'{name}' must be in +E.164 format or a SIP URI.", pointer=pointer)
    elif kind == "state":
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            yield problem("90017", f"'{name}' must be Base64.", pointer=pointer)
    elif kind == "digits":
        if not DIGITS.fullmatch(value):
            yield problem("90014", "Allowed are 0-9, A-D, *, #, w and W.", pointer=pointer)
    else:  # a misspelt rule is the sandbox's own bug and must not pass as "anything goes"
        raise LookupError(kind)


def _within(value: int, limits: str) -> bool:
    low, high = limits.split("..")
    return (not low or value >= int(low)) and (not high or value <= int(high))
