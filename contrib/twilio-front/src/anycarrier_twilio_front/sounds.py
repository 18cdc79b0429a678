"""Files that a bot has played: WAV and mu-law, fetched and brought into a call's format."""

from __future__ import annotations

import asyncio
from array import array

import httpx

from anycarrier import AudioFormat
from anycarrier.audio import Transcoder
from anycarrier.wav import read_wav
from anycarrier_twilio_front.callbacks import BotError, BotRequests, Reply, shown

LARGEST_FILE = 16 * 1024 * 1024

MULAW_TYPES = ("audio/basic", "audio/ulaw", "audio/mulaw", "audio/x-mulaw", "audio/x-ulaw", "audio/pcmu")


async def fetch_sound(requests: BotRequests, url: str, cookies: httpx.Cookies, format: AudioFormat) -> bytes:
    """The file at ``url`` as audio in ``format``; :class:`BotError` for what cannot be fetched or played."""
    reply = await requests.send(url, {}, "GET", cookies=cookies, longest=LARGEST_FILE)
    return await asyncio.to_thread(_decoded, reply, format)


def _decoded(reply: Reply, format: AudioFormat) -> bytes:
    """A fetched file as audio in ``format``."""
    kind = reply.content_type.partition(";")[0].strip().lower()
    if kind in MULAW_TYPES:
        source, audio = AudioFormat("PCMU", 8000), reply.body
    else:
        try:
            source, audio = read_wav(reply.body)
        except ValueError as wrong:
            raise BotError(
                12300, f"Invalid Content-Type: <Play> takes WAV and mu-law, not {kind!r} ({wrong}): {shown(reply.url)}"
            ) from None
    if source.channels > 1:  # the first one
        samples = array("h", audio) if source.sample_width == 2 else array("B", audio)
        source, audio = AudioFormat(source.encoding, source.rate), samples[:: source.channels].tobytes()
    return Transcoder(source, format).convert(audio) if source != format else audio
