"""Opening a socket to Deepgram, and what its refusals mean."""

from __future__ import annotations

import logging

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from anycarrier.errors import SpeechFailed
from anycarrier_speech_deepgram import wire
from anycarrier_speech_deepgram.settings import DeepgramSettings

# websockets writes handshake headers, and so the key, to its log at DEBUG.
_quiet = logging.getLogger("anycarrier_speech_deepgram.websocket")
_quiet.setLevel(logging.INFO)

FINAL = {400, 401, 402, 403, 404}


class Refused(SpeechFailed):
    """Deepgram answered and said no, with ``status``: trying again changes nothing."""

    def __init__(self, operation: str, why: str, status: int) -> None:
        self.status = status
        advice = {401: "Check the API key.", 402: "Top up the account.", 403: "Check what the key may do."}
        super().__init__("deepgram", operation, why, next_step=advice.get(status, "Check model and URL."))


async def open_socket(settings: DeepgramSettings, url: str, operation: str) -> ClientConnection:
    """A connection. :class:`Refused` for a wrong key or request, ``SpeechFailed`` when another try may work."""
    try:
        return await connect(
            url,
            additional_headers={"Authorization": f"Token {settings.api_key.get_secret_value()}"},
            open_timeout=settings.connect_timeout,
            close_timeout=1.0,
            max_size=4 * 1024 * 1024,
            compression=None,
            logger=_quiet,
        )
    except InvalidStatus as failure:
        status = failure.response.status_code
        why = failure.response.headers.get("dg-error") or wire.refusal(failure.response.body) or f"HTTP {status}"
        if status in FINAL:
            raise Refused(operation, why, status) from failure
        raise SpeechFailed("deepgram", operation, why) from failure
    except (OSError, TimeoutError, InvalidHandshake) as failure:
        raise SpeechFailed(
            "deepgram", operation, f"no connection: {str(failure) or type(failure).__name__}"
        ) from failure
