"""How the sandbox says no: the carrier's error codes, their HTTP statuses and the two shapes of an error body.

Statuses are those seen in captures where there is one (401 10009, 403 20015, 404 10002, 422 90018), else 422.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
