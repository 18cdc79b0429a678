"""Deepgram's settings, the URLs to connect to, and connecting with typed errors."""

from __future__ import annotations

import logging
from urllib.parse import urlencode

from pydantic import Field, SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from anycarrier.errors import SpeechFailed
from anycarrier.speech import EngineSettings, Hearing, SpeakingStyle
from anycarrier_speech_deepgram import wire


class DeepgramSettings(EngineSettings):
    """``base_url`` may point at a self-hosted Deepgram, or at a regional address.

    ``endpointing_ms`` is how much silence makes Deepgram fix the words of a segment. ``ends_utterances`` lets it end
    the caller's turn as well, which is quicker than anycarrier's silence rule and cuts off people who pause.
    """

    for_workspaces = frozenset({"listen_model", "speak_model", "endpointing_ms", "ends_utterances"})

    api_key: SecretStr
    base_url: str = Field(default="wss://api.deepgram.com", pattern=r"^wss?://[^?#]+$")
    listen_model: str = "nova-3"
    speak_model: str = "aura-2-thalia-en"
    endpointing_ms: int = Field(default=300, ge=0, le=5000, description="0 turns it off")
    ends_utterances: bool = False
    connect_timeout: float = Field(default=5.0, gt=0)
    answer_timeout: float = Field(default=0.8, gt=0, description="seconds for the answer to Finalize")
    speech_timeout: float = Field(default=10.0, gt=0, description="seconds without a sound: synthesis failed")


def listen_url(settings: DeepgramSettings, hearing: Hearing) -> str:
    """Where to listen, with what to listen for."""
    format = wire.sent_format(hearing.format)
    query = [
        ("model", settings.listen_model),
        ("language", hearing.language),
        ("encoding", wire.ENCODINGS[format.encoding]),
        ("sample_rate", str(format.rate)),
        ("channels", "1"),
        ("interim_results", "true"),
        ("smart_format", "true"),
        ("endpointing", str(settings.endpointing_ms) if settings.endpointing_ms else "false"),
    ]
    # Models before nova-3 know keywords instead of key terms.
    hint = "keyterm" if settings.listen_model.startswith("nova-3") else "keywords"
    query += [(hint, phrase) for phrase in hearing.phrases]
    return f"{settings.base_url.rstrip('/')}/v1/listen?{urlencode(query)}"


def speak_url(settings: DeepgramSettings, style: SpeakingStyle) -> str:
    """Where to speak, and how."""
    format = wire.spoken_format(style.format)
    query = {
        "model": style.voice or settings.speak_model,
        "encoding": wire.ENCODINGS[format.encoding],
        "sample_rate": str(format.rate),
    }
    if style.speed != 1.0:
        query["speed"] = f"{style.speed:g}"
    return f"{settings.base_url.rstrip('/')}/v1/speak?{urlencode(query)}"


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
