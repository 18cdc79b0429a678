"""Files that a bot has played: WAV and mu-law, fetched and brought into a call's format."""

from __future__ import annotations

import asyncio
from array import array

import httpx

from anycarrier import AudioFormat
from anycarrier.audio import Transcoder
from anycarrier.wav import read_wav
from anycarrier_twilio_front.callbacks import BotError, BotRequests, Reply, shown

RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
"""Any other rate would cost seconds to minutes of computing to bring to a call's."""

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
            if source.rate not in RATES:
                raise ValueError(f"{source.rate} samples a second")
        except ValueError as wrong:
            raise BotError(
                12300, f"Invalid Content-Type: <Play> takes WAV and mu-law, not {kind!r} ({wrong}): {shown(reply.url)}"
            ) from None
    if source.channels > 1:  # the first one
        samples = array("h", audio) if source.sample_width == 2 else array("B", audio)
        source, audio = AudioFormat(source.encoding, source.rate), samples[:: source.channels].tobytes()
    if source == format:
        return audio
    transcoder, second = Transcoder(source, format), source.bytes_per_second  # at once it would take a GB
    return b"".join(transcoder.convert(audio[at : at + second]) for at in range(0, len(audio), second))
