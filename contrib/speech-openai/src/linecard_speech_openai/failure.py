"""What an answer that is no success means."""

from __future__ import annotations

import httpx

from linecard.errors import SpeechFailed

ADVICE = {
    401: "Check the API key.",
    403: "Check what the key may do.",
    404: "Check the base URL and the model.",
    429: "Ask for a higher limit, or use another engine.",
}
PASSING = {408, 409, 429, 500, 502, 503, 504}
"""Answers after which the same request may succeed."""


def no_answer(operation: str, failure: httpx.HTTPError) -> SpeechFailed:
    """The server could not be reached, or did not finish."""
    return SpeechFailed("openai", operation, str(failure) or type(failure).__name__)


def refusal(operation: str, response: httpx.Response) -> SpeechFailed:
    """The server said no. The body must have been read."""
    try:
        error = response.json().get("error")
        message = error.get("message") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        message = None
    # The server may quote the key it refuses, partly masked; only its first sentence is kept.
    text = str(message).split(". ")[0].split(":")[0] if message else f"HTTP {response.status_code}"
    return SpeechFailed("openai", operation, text, next_step=ADVICE.get(response.status_code, ""))
