"""Deepgram's v1 listen and speak messages. Pure.

From the public AsyncAPI document (github.com/deepgram/deepgram-api-specs) and developers.deepgram.com/docs: finalize,
close-stream, audio-keep-alive, tts-ws-flush, tts-ws-clear.
"""

from __future__ import annotations

import msgspec

from anycarrier.audio import AudioFormat
from anycarrier.errors import MalformedMessage

ENCODINGS = {"PCMU": "mulaw", "PCMA": "alaw", "PCM16": "linear16"}
SPEAKING_RATES = {"PCMU": (8000, 16000), "PCMA": (8000, 16000), "PCM16": (8000, 16000, 24000, 32000, 48000)}
LONGEST_TEXT = 1500
"""Characters in one Speak; Deepgram refuses more than 2000."""

KEEP_ALIVE = '{"type":"KeepAlive"}'
FINALIZE = '{"type":"Finalize"}'
CLOSE_STREAM = '{"type":"CloseStream"}'
FLUSH = '{"type":"Flush"}'
CLEAR = '{"type":"Clear"}'
CLOSE = '{"type":"Close"}'


class _Alternative(msgspec.Struct):
    transcript: str = ""


class _Channel(msgspec.Struct):
    alternatives: list[_Alternative] = []


class Message(msgspec.Struct):
    """Any message of either socket; what a kind does not have is at its default.

    ``start`` and ``duration`` are seconds of the connection's audio that a result covers.
    """

    type: str = ""
    channel: _Channel | list[int] | None = None
    start: float = 0.0
    duration: float = 0.0
    is_final: bool = False
    speech_final: bool = False
    from_finalize: bool = False
    description: str = ""

    @property
    def transcript(self) -> str:
        """The best alternative's words."""
        if isinstance(self.channel, _Channel) and self.channel.alternatives:
            return self.channel.alternatives[0].transcript.strip()
        return ""


class _Refusal(msgspec.Struct):
    err_msg: str = ""


_decoder = msgspec.json.Decoder(Message)


def decode(frame: str | bytes) -> Message:
    """One text frame; ``MalformedMessage`` for what is no such message."""
    try:
        message: Message = _decoder.decode(frame)
    except (msgspec.DecodeError, RecursionError) as failure:
        raise MalformedMessage(f"Deepgram sent what we cannot read: {failure}", b"") from None
    return message


def refusal(body: bytes | bytearray | None) -> str:
    """Why a request was refused, from the answer's body; empty when it does not say."""
    try:
        return msgspec.json.decode(body or b"{}", type=_Refusal).err_msg
    except msgspec.DecodeError:
        return ""


def speak(text: str) -> str:
    """Text to be spoken, at the next Flush at the latest."""
    return msgspec.json.encode({"type": "Speak", "text": text}).decode()


def sent_format(format: AudioFormat) -> AudioFormat:
    """The format a caller's audio is sent in: its own, except that L16 goes as little-endian."""
    return format if format.encoding in ENCODINGS else AudioFormat("PCM16", format.rate)


def spoken_format(format: AudioFormat) -> AudioFormat:
    """The format to ask for when ``format`` is wanted: the same where Deepgram has it, else one to convert from."""
    if format.rate in SPEAKING_RATES.get(format.encoding, ()):
        return format
    return AudioFormat("PCM16", format.rate if format.rate in SPEAKING_RATES["PCM16"] else 24000)


def pieces(text: str) -> list[str]:
    """``text`` in messages that are not too long, cut at sentences or spaces."""
    found = []
    text = text.strip()
    while len(text) > LONGEST_TEXT:
        cut = max(text.rfind(mark, 0, LONGEST_TEXT) for mark in (". ", "! ", "? "))
        cut = cut if cut > 0 else text.rfind(" ", 0, LONGEST_TEXT)
        cut = cut if cut > 0 else LONGEST_TEXT - 1
        found.append(text[: cut + 1].strip())
        text = text[cut + 1 :].strip()
    return [*found, text] if text else found
