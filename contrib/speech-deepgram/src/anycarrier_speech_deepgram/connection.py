"""Deepgram's settings, the URLs to connect to, and connecting with typed errors."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from pydantic import Field, SecretStr, field_validator
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from anycarrier.errors import SpeechFailed
from anycarrier.speech import EngineSettings, Hearing, SpeakingStyle, primary_language
from anycarrier_speech_deepgram import wire

OURS = frozenset(
    {"model", "language", "encoding", "sample_rate", "channels", "multichannel", "interim_results", "smart_format",
     "punctuate", "endpointing", "keyterm", "keywords", "tag", "mip_opt_out", "callback", "callback_method"}
)  # fmt: skip
"""Parameters of v1/listen that ``listen_options`` may not name."""
LONGEST_HINTS = 1200
"""Bytes of all phrases together, below 500 tokens by three bytes a token."""
MOST_HINTS = 100
SLOWEST, FASTEST = 0.7, 1.5
"""Speeds that aura takes."""
LANGUAGE_OF_VOICE = re.compile(r"^aura-.*-([a-z]{2})$")
VOICES = {
    "en": "aura-2-thalia-en",
    "de": "aura-2-viktoria-de",
    "es": "aura-2-celeste-es",
    "fr": "aura-2-agathe-fr",
    "it": "aura-2-livia-it",
    "ja": "aura-2-izanami-ja",
    "nl": "aura-2-rhea-nl",
}
"""A voice for each language, from the models in Deepgram's AsyncAPI document."""


class DeepgramSettings(EngineSettings):
    """``base_url`` may point at a self-hosted Deepgram, or at a regional address.

    ``endpointing_ms`` is how much silence makes Deepgram fix the words of a segment. ``ends_utterances`` lets it end
    the caller's turn as well, which is quicker than anycarrier's silence rule and cuts off people who pause.

    ``listen_language`` replaces every agent's language: ``multi`` recognizes several languages in one call. ``tag``
    names our requests in Deepgram's usage report, ``mip_opt_out`` keeps them out of its model improvement program, at
    another price. ``listen_options`` are further parameters of ``v1/listen``: ``{"numerals": "true"}``.
    """

    for_workspaces = frozenset(
        {"listen_model", "listen_language", "speak_model", "endpointing_ms", "ends_utterances", "tag", "mip_opt_out"}
    )

    api_key: SecretStr
    base_url: str = Field(default="wss://api.deepgram.com", pattern=r"^wss?://[^?#]+$")
    listen_model: str = "nova-3"
    listen_language: str = ""
    listen_options: Mapping[str, str] = Field(default_factory=dict)
    speak_model: str = "aura-2-thalia-en"
    mip_opt_out: bool = False
    tag: str = ""
    endpointing_ms: int = Field(default=300, ge=0, le=5000, description="0 turns it off")
    ends_utterances: bool = False
    connect_timeout: float = Field(default=5.0, gt=0)
    answer_timeout: float = Field(default=0.8, gt=0, description="seconds for the answer to Finalize")
    speech_timeout: float = Field(default=10.0, gt=0, description="seconds without a sound: synthesis failed")

    @field_validator("listen_options")
    @classmethod
    def _not_ours(cls, options: Mapping[str, str]) -> Mapping[str, str]:
        if taken := sorted(OURS & options.keys()):
            raise ValueError(f"{', '.join(taken)} cannot be set here: the engine or another setting decides it")
        return options


def listen_url(settings: DeepgramSettings, hearing: Hearing, *, phrases: bool = True) -> str:
    """Where to listen, with what to listen for."""
    format = wire.sent_format(hearing.format)
    query = [
        ("model", settings.listen_model),
        ("language", settings.listen_language or hearing.language),
        ("encoding", wire.ENCODINGS[format.encoding]),
        ("sample_rate", str(format.rate)),
        ("channels", "1"),
        ("interim_results", "true"),
        ("smart_format", "true"),
        ("endpointing", str(settings.endpointing_ms) if settings.endpointing_ms else "false"),
    ]
    query += [*_both(settings), *settings.listen_options.items()]
    if phrases:
        query += hints(settings.listen_model, hearing.phrases)
    return f"{settings.base_url.rstrip('/')}/v1/listen?{urlencode(query)}"


def hints(model: str, phrases: Iterable[str]) -> list[tuple[str, str]]:
    """``phrases`` as key terms of nova-3, or as keywords, which are single words, of models before it.

    No more than Deepgram takes: it refuses a connection with over 500 tokens of key terms
    (developers.deepgram.com/docs/keyterm). What is beyond that is left out, from the end.
    """
    name = "keyterm" if model.startswith("nova-3") else "keywords"
    words = phrases if name == "keyterm" else (word for phrase in phrases for word in phrase.split())
    found: list[tuple[str, str]] = []
    size = 0
    for word in dict.fromkeys(word.strip() for word in words):
        size += len(word.encode())
        if word and size <= LONGEST_HINTS and len(found) < MOST_HINTS:
            found.append((name, word))
    return found


def _both(settings: DeepgramSettings) -> list[tuple[str, str]]:
    """The parameters of listening and speaking."""
    tag = [("tag", settings.tag)] if settings.tag else []
    return [*tag, ("mip_opt_out", "true")] if settings.mip_opt_out else tag


def voice_for(settings: DeepgramSettings, style: SpeakingStyle) -> str | None:
    """The model that speaks: the agent's own voice, ``speak_model`` if it speaks the agent's language, or a voice that
    does; None if we know of none. A name without a language at its end, such as a custom model's, is taken to fit."""
    language = primary_language(style.language)
    spoken = LANGUAGE_OF_VOICE.search(settings.speak_model)
    if style.voice or spoken is None or spoken[1] == language:
        return style.voice or settings.speak_model
    return VOICES.get(language)


def speak_url(settings: DeepgramSettings, style: SpeakingStyle) -> str:
    """Where to speak, and how."""
    format = wire.spoken_format(style.format)
    query = [
        ("model", voice_for(settings, style) or settings.speak_model),
        ("encoding", wire.ENCODINGS[format.encoding]),
        ("sample_rate", str(format.rate)),
        *_both(settings),
    ]
    if style.speed != 1.0:
        query.append(("speed", f"{min(max(style.speed, SLOWEST), FASTEST):g}"))
    return f"{settings.base_url.rstrip('/')}/v1/speak?{urlencode(query)}"


# websockets writes handshake headers, and so the key, to its log at DEBUG.
_quiet = logging.getLogger("anycarrier_speech_deepgram.websocket")
_quiet.setLevel(logging.INFO)

LONGEST_REASON = 300
"""Characters of what a server says of a refusal that are kept."""
AGAIN_AFTER = 0.2
"""Seconds before the second attempt to connect."""
PING = 7.0
"""Seconds between pings, and for an answer: a dead connection is noticed while its audio is still kept."""

FINAL = {400, 401, 402, 403, 404}


class Refused(SpeechFailed):
    """Deepgram answered and said no, with ``status``: trying again changes nothing."""

    def __init__(self, operation: str, why: str, status: int) -> None:
        self.status = status
        super().__init__("deepgram", operation, why, next_step=ADVICE.get(status, "Check model, language and URL."))


ADVICE = {
    401: "Check the API key.",
    402: "Top up the account.",
    403: "Check what the key may do.",
    429: "Too many connections at once: ask Deepgram for a higher limit, or name a fallback engine.",
}


async def open_socket(settings: DeepgramSettings, url: str, operation: str) -> ClientConnection:
    """A connection, tried twice. :class:`Refused` for a wrong key or request, ``SpeechFailed`` for other failures."""
    try:
        return await connect_once(settings, url, operation)
    except Refused:
        raise
    except SpeechFailed:
        await asyncio.sleep(AGAIN_AFTER)
        return await connect_once(settings, url, operation)


async def connect_once(settings: DeepgramSettings, url: str, operation: str) -> ClientConnection:
    """A connection, tried once."""
    try:
        return await connect(
            url,
            additional_headers={"Authorization": f"Token {settings.api_key.get_secret_value()}"},
            open_timeout=settings.connect_timeout,
            close_timeout=1.0,
            max_size=4 * 1024 * 1024,
            ping_interval=PING,
            ping_timeout=PING,
            compression=None,
            logger=_quiet,
        )
    except InvalidStatus as failure:
        status = failure.response.status_code
        why = failure.response.headers.get("dg-error") or wire.refusal(failure.response.body) or f"HTTP {status}"
        if key := settings.api_key.get_secret_value():
            why = why.replace(key, "[secret]")[:LONGEST_REASON]
        if status in FINAL:
            raise Refused(operation, why, status) from failure
        raise SpeechFailed("deepgram", operation, why, next_step=ADVICE.get(status, "")) from failure
    except (OSError, TimeoutError, InvalidHandshake) as failure:
        raise SpeechFailed(
            "deepgram", operation, f"no connection: {str(failure) or type(failure).__name__}"
        ) from failure
