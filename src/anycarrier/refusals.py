"""What a carrier's refusal says and means: the code and words of its body, and the typed error for them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from anycarrier.errors import (
    AuthenticationFailed,
    InsufficientFunds,
    NotFound,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from anycarrier.markup import first_text, texts

_CODES = ("code", "error_code", "error-code")
_WORDS = ("message", "description", "error_description", "error-code-label", "error", "error_title")

_BY_STATUS: Mapping[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    402: InsufficientFunds,
    403: PermissionDenied,
    404: NotFound,
    429: RateLimited,
}


class Meaning(NamedTuple):
    """What a carrier's refusal means: our error (None: as its HTTP status says), and the next step (None: its own)."""

    error: type[ProviderError] | None
    next_step: str | None = None


def of_status(status: int | None) -> type[ProviderError]:
    """What an HTTP status means by itself; None is no answer."""
    otherwise = ProviderUnavailable if status is None or status >= 500 else RequestRejected
    return _BY_STATUS.get(status or 0, otherwise)


def read_refusal(body: Any) -> tuple[str | None, str]:
    """(code, words) of an error body in one of the usual shapes, JSON or XML."""
    if isinstance(body, Element):
        return first_text(body, "Code", "ErrorCode") or None, "; ".join(texts(body, "Message", "Description"))[:400]
    if not isinstance(body, Mapping):
        return None, str(body)[:400]
    listed = next((body[key] for key in ("errors", "error") if isinstance(body.get(key), list | Mapping)), body)
    refusals = listed if isinstance(listed, list) else [listed]
    objects = [refusal for refusal in refusals if isinstance(refusal, Mapping)]
    codes = [refusal[key] for refusal in objects for key in _CODES if refusal.get(key)]
    words = [_words(refusal) if isinstance(refusal, Mapping) else str(refusal) for refusal in refusals]
    return (str(codes[0]) if codes else None), "; ".join(filter(None, words))


def _words(refusal: Mapping[str, Any]) -> str:
    text = next((refusal[key] for key in _WORDS if isinstance(refusal.get(key), str) and refusal[key]), "")
    text = text or ": ".join(str(refusal[key]) for key in ("title", "detail") if refusal.get(key))
    source = refusal.get("source")
    if isinstance(source, Mapping) and (place := source.get("pointer") or source.get("parameter")):
        text = f"{text} (at {place})"
    wrong = refusal.get("invalid_parameters") or refusal.get("invalid-params")
    fields = [field for field in wrong if isinstance(field, Mapping)] if isinstance(wrong, list) else []
    return "; ".join([text, *(f"{field.get('name')} {field.get('reason', '')}" for field in fields)])
