"""Every refusal as this contract says it: a status, a code to act on, and a sentence that says what to do.

All but 422 look alike (:class:`ErrorBody`); 422 has the list of complaints that FastAPI's clients read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from anycarrier import errors
from anycarrier_server import refusals
from anycarrier_server.domain.call_limits import NoRoom
from anycarrier_server.refusals import Refusal
from anycarrier_server.store import OverLimit, Snapshot
from anycarrier_server.store.credentials import CredentialIncomplete, DetailRefused


class ProviderSaid(BaseModel):
    """The carrier's own words."""

    name: str
    status: int | None = None
    code: str | None = None
    message: str = ""


class Complaint(BaseModel):
    """What is wrong with one part of a request, and where it is."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorBody(BaseModel):
    """Why not. ``code`` is for programs, ``detail`` for people; ``provider`` is there when a carrier said no.

    With 422, ``detail`` is a list of complaints.
    """

    detail: str | list[Complaint]
    code: str
    request_id: str
    provider: ProviderSaid | None = None


PARTS = {"trunk_address": "TRUNK_ADDRESS", "auth_username": "SIP_USERNAME", "auth_password": "SIP_PASSWORD"}
"""Fields of ``provider_config``, the SIP trunk login that some clients send with a number, and the suffixes of the
environment variables that stand in for them. No trunk is provisioned: calls go through the carrier's call-control API.
An incomplete login is refused all the same, because the client relies on it."""


class TrunkIncomplete(Refusal):
    """Not all three parts are there."""


def check_trunk(provider: str, config: Mapping[str, Any]) -> None:
    """Return when the login is whole, from the request or ``<PROVIDER>_TRUNK_ADDRESS`` and the like."""
    missing = [
        part
        for part, variable in PARTS.items()
        if not _is_given(config.get(part)) and not _is_given(os.environ.get(f"{provider.upper()}_{variable}"))
    ]
    if missing:
        raise TrunkIncomplete(f"provider_config lacks {', '.join(missing)}: give all three, or leave it out")


def _is_given(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


Answer = tuple[int, str]
Told = Callable[[Any], Answer]


def _taken(error: refusals.Taken) -> Answer:
    return 409, "number_already_registered" if error.what == "number" else "already_exists"


def _in_use(error: refusals.InUse) -> Answer:
    return 409, "credential_in_use" if "credential" in str(error) else "agent_in_use"


def _no_room(error: NoRoom) -> Answer:
    return 429, {"concurrency": "concurrency_limit", "pace": "rate_limited", "day": "daily_limit"}[error.kind]


def _not_offered(error: refusals.NotOffered) -> Answer:
    return 501, error.code


def _unavailable(error: errors.ProviderUnavailable) -> Answer:
    # Without a status there was no answer at all: nobody knows what the carrier did.
    return (504, "provider_timeout") if error.status is None else (502, "provider_error")


MEANINGS: dict[type[Exception], Answer | Told] = {
    refusals.Unauthorized: (401, "unauthorized"),
    refusals.Forbidden: (403, "forbidden"),
    refusals.NumberNotOwned: (403, "from_number_not_owned"),
    refusals.Blocked: (403, "destination_not_allowed"),
    refusals.Unknown: (404, "not_found"),
    refusals.NoStock: (404, "no_number_available"),
    refusals.TooLarge: (413, "body_too_large"),
    refusals.CredentialRequired: (400, "credential_required"),
    refusals.ProviderMismatch: (400, "provider_mismatch"),
    refusals.NumberInactive: (400, "number_inactive"),
    refusals.LineHeld: (409, "agent_has_number"),
    refusals.CallsLive: (409, "calls_live"),
    refusals.CallOver: (409, "call_not_active"),
    refusals.NotOffered: _not_offered,
    refusals.ShuttingDown: (503, "shutting_down"),
    refusals.Taken: _taken,
    refusals.InUse: _in_use,
    refusals.IdempotencyConflict: (409, "idempotency_conflict"),
    OverLimit: (429, "daily_limit"),
    refusals.TooManyWebhooks: (409, "webhook_limit"),
    refusals.StoreOverloaded: (503, "overloaded"),
    refusals.Refusal: (409, "refused"),
    TrunkIncomplete: (400, "SIP_TRUNK_PROVISION_FAILED"),
    NoRoom: _no_room,
    CredentialIncomplete: (400, "credential_incomplete"),
    errors.UnknownCredential: (404, "not_found"),
    errors.UnknownAgent: (404, "not_found"),
    errors.NumberNotAssigned: (404, "not_found"),
    errors.NumberAlreadyAssigned: (409, "number_already_registered"),
    errors.UnknownCall: (409, "call_not_active"),
    errors.StreamNotOpen: (409, "call_not_active"),
    errors.DestinationNotAllowed: (403, "destination_not_allowed"),
    errors.LimitReached: (429, "rate_limited"),
    errors.UnsupportedOperation: (501, "not_supported_by_provider"),
    errors.NumberUnavailable: (409, "number_unavailable"),
    errors.AuthenticationFailed: (502, "provider_auth_failed"),
    errors.RateLimited: (429, "rate_limited"),
    errors.ProviderUnavailable: _unavailable,
    errors.ProviderError: (502, "provider_error"),
    errors.SpeechNotReady: (409, "speech_not_ready"),
    errors.AgentUnreachable: (502, "agent_unreachable"),
    errors.UnknownSpeechEngine: (404, "unknown_speech_engine"),
    errors.ConfigurationError: (501, "not_configured"),
}
"""Error to status and code; the nearest class in an error's ancestry decides."""

FIELDS: dict[type[Exception], tuple[list[str], str]] = {
    errors.InvalidNumber: (["body", "phone_number"], "invalid_number"),
    errors.UnknownProvider: (["body", "provider"], "unknown_provider"),
    refusals.UrlRefused: (["body", "url"], "url_refused"),
    refusals.BadCursor: (["query", "cursor"], "bad_cursor"),
    DetailRefused: (["body", "metadata"], "detail_refused"),
}
"""Errors that are about one thing the client sent: 422, where it is, and of what type."""


def refuse(error: Exception, request_id: str) -> Response:
    """The answer to a request that is not done. What is not a refusal is a bug of ours: 500, and nothing of it told."""
    if isinstance(error, refusals.Invalid):
        return complain(error.errors, request_id)
    for kind in type(error).__mro__:
        if kind in FIELDS:
            where, type_ = FIELDS[kind]
            return complain([{"loc": where, "msg": str(error), "type": type_}], request_id)
        if kind in MEANINGS:
            meaning = MEANINGS[kind]
            status, code = meaning if isinstance(meaning, tuple) else meaning(error)
            return tell(status, code, str(error), request_id, error)
    if isinstance(error, HTTPException):
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return tell(error.status_code, code, str(error.detail), request_id, error)
    return tell(500, "internal_error", "something went wrong here; it is in our log under this request_id", request_id)


def complain(complaints: list[dict[str, Any]], request_id: str) -> Response:
    """422 in FastAPI's shape, ``code`` and ``request_id`` beside it."""
    return JSONResponse({"detail": complaints, "code": "validation", "request_id": request_id}, 422)


def tell(status: int, code: str, detail: str, request_id: str, error: Exception | None = None) -> Response:
    """Any other refusal. ``error`` adds the carrier's words and when to come back."""
    body: dict[str, Any] = {"detail": detail, "code": code, "request_id": request_id}
    if isinstance(error, errors.ProviderError):
        said = ProviderSaid(name=error.provider, status=error.status, code=error.code, message=error.message)
        body["provider"] = said.model_dump()
    elif isinstance(error, errors.UnsupportedOperation):
        body["provider"] = ProviderSaid(name=error.provider, message=error.detail).model_dump()
    headers = rate_limit_headers(error.snapshot) if isinstance(error, OverLimit) else {}
    if status in (429, 503):
        wait = getattr(error, "retry_after", None)
        headers["Retry-After"] = str(max(1, math.ceil(wait)) if wait is not None else 1)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    return JSONResponse(body, status, headers)


def rate_limit_headers(used: Snapshot) -> dict[str, str]:
    """What is left of the rolling day: of calls, or of minutes once those run out. ``Reset`` is the Unix second when
    the oldest call leaves the day and frees some."""
    by_calls = used.calls_remaining == 0 or used.minutes_free > 0
    return {
        "X-RateLimit-Limit": str(used.calls_limit if by_calls else int(used.minutes_limit)),
        "X-RateLimit-Remaining": str(used.calls_remaining if by_calls else 0),
        "X-RateLimit-Reset": str(int(used.reset_at.timestamp())),
    }
