"""Every refusal as this contract says it: ``{"detail": ...}``, a sentence or an object whose ``error`` is for programs.

The SDK makes typed exceptions from some of them (blocked recipients, duplicate rules, taken handles), by the keys
used here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from anycarrier import errors
from anycarrier_server import refusals
from anycarrier_server.store import OverLimit
from anycarrier_server.store.credentials import CredentialIncomplete, DetailRefused


class ErrorBody(BaseModel):
    """Why not: a sentence, an object with ``error``, or (422) the list of what is wrong with the request."""

    detail: str | dict[str, Any] | list[dict[str, Any]]
    agent_support: str | None = Field(default=None)


class ContractRefusal(refusals.Refusal):
    """A refusal that only this contract has: its status, the ``error`` in its detail, and a sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


class NotConfigured(refusals.Refusal):
    """Nobody has set this up yet (404)."""


Detail = str | dict[str, Any] | list[dict[str, Any]]
Answer = tuple[int, Detail, dict[str, str]]


def _sentence(status: int) -> Callable[[Any], Answer]:
    return lambda error: (status, str(error), {})


def _coded(status: int, code: str) -> Callable[[Any], Answer]:
    return lambda error: (status, {"error": code, "message": str(error)}, {})


def _later(status: int, code: str) -> Callable[[Any], Answer]:
    def told(error: Any) -> Answer:
        wait = getattr(error, "retry_after", None)
        headers = {"Retry-After": str(max(1, math.ceil(wait)) if wait is not None else 1)}
        return status, {"error": code, "message": str(error)}, headers

    return told


def _contract_refusal(error: ContractRefusal) -> Answer:
    return error.status, {"error": error.code, "message": str(error)}, {}


def _unknown(error: refusals.Unknown) -> Answer:
    if error.foreign:
        return 403, f"that {error.kind} belongs to another organization", {}
    return 404, str(error), {}


def _blocked(error: refusals.Blocked) -> Answer:
    detail = {
        "error": "recipient_blocked",
        "matched_rule_id": str(error.rule_id) if error.rule_id is not None else None,
        "address": error.address,
        "reason": error.reason,
    }
    return 403, detail, {}


def _duplicate(error: refusals.DuplicateRule) -> Answer:
    detail = {"error": "duplicate_contact_rule", "existing_rule_id": str(error.existing), "message": str(error)}
    return 409, detail, {}


def _taken(error: refusals.Taken) -> Answer:
    if error.what != "handle":
        return 409, str(error), {}
    detail = {"error": "agent_handle_unavailable", "blocking_namespace": "identities", "message": str(error)}
    return 409, detail, {}


def _over(error: OverLimit) -> Answer:
    """The limit that is used up is the one the headers show: calls, or else minutes."""
    used = error.snapshot
    by_calls = used.calls_remaining == 0
    wait = max(1, math.ceil(error.retry_after or 1))
    headers = {
        "Retry-After": str(wait),
        "X-RateLimit-Limit": str(used.calls_limit if by_calls else math.ceil(used.minutes_limit)),
        "X-RateLimit-Remaining": str(used.calls_remaining if by_calls else int(used.minutes_remaining)),
        "X-RateLimit-Reset": str(int(time.time()) + wait),
    }
    return 429, {"error": "rate_limited", "rate_limit": used.as_dict()}, headers


def _field(where: list[str | int], kind: str) -> Callable[[Any], Answer]:
    return lambda error: (422, [{"loc": where, "msg": str(error), "type": kind}], {})


MEANINGS: dict[type[Exception], Callable[[Any], Answer]] = {
    ContractRefusal: _contract_refusal,
    NotConfigured: _sentence(404),
    refusals.Unauthorized: _sentence(401),
    refusals.Forbidden: _sentence(403),
    refusals.NumberNotOwned: _sentence(403),
    refusals.NumberInactive: _sentence(400),
    refusals.Unknown: _unknown,
    refusals.NoStock: _sentence(404),
    refusals.TooLarge: _sentence(413),
    refusals.Blocked: _blocked,
    refusals.CredentialRequired: _coded(409, "credential_required"),
    refusals.LineHeld: _coded(409, "identity_has_number"),
    refusals.CallsLive: _coded(409, "calls_live"),
    refusals.CallOver: _sentence(409),
    refusals.NotOffered: lambda error: (501, {"error": error.code, "message": str(error)}, {}),
    refusals.ShuttingDown: _later(503, "shutting_down"),
    refusals.Taken: _taken,
    refusals.InUse: _coded(409, "in_use"),
    refusals.DuplicateRule: _duplicate,
    refusals.NotThatSide: _coded(409, "rule_is_for_the_other_side"),
    refusals.IdempotencyConflict: _coded(409, "idempotency_key_reused"),
    OverLimit: _over,
    refusals.TooManyWebhooks: _coded(409, "webhook_limit"),
    refusals.StoreOverloaded: _later(503, "overloaded"),
    refusals.UrlRefused: _field(["body"], "url_refused"),
    refusals.Refusal: _sentence(409),
    CredentialIncomplete: _coded(409, "credential_incomplete"),
    DetailRefused: _field(["body"], "value_error"),
    errors.InvalidNumber: _field(["body"], "invalid_number"),
    errors.DestinationNotAllowed: _coded(403, "destination_not_allowed"),
    errors.LimitReached: _later(429, "rate_limited"),
    errors.PolicyRefusal: _sentence(403),
    errors.UnsupportedOperation: _coded(501, "not_supported_by_carrier"),
    errors.RateLimited: _later(502, "carrier_busy"),
    errors.ProviderError: _coded(502, "carrier_failed"),
    errors.UnknownCall: _sentence(409),
    errors.SpeechNotReady: _coded(409, "speech_not_ready"),
    errors.ConfigurationError: _coded(501, "not_configured"),
    errors.AnycarrierError: _sentence(409),
}
"""Error to answer; the nearest class in an error's ancestry decides."""


def refuse(error: Exception, request_id: str) -> Response:
    """The answer to a request that is not done. What is no refusal is a bug of ours: 500, and nothing of it is told."""
    if isinstance(error, refusals.Invalid):
        return JSONResponse({"detail": error.errors}, 422)
    for kind in type(error).__mro__:
        if kind in MEANINGS:
            status, detail, headers = MEANINGS[kind](error)
            return JSONResponse({"detail": detail}, status, headers)
    if isinstance(error, HTTPException):
        return JSONResponse({"detail": str(error.detail)}, error.status_code, error.headers)
    return JSONResponse({"detail": f"something went wrong here; it is in our log under {request_id}"}, 500)
