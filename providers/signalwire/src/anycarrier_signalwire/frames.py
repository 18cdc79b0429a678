"""SignalWire's two-way streams: Twilio's frames, and beside them wideband audio and keys that we press. Pure.

https://developer.signalwire.com/compatibility-api/cxml/voice/stream
"""

from __future__ import annotations

from typing import Any

import msgspec

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.events import StreamStarted
from anycarrier_twilio.frames import Start, TwilioSerializer

KEYS = frozenset("0123456789*#ABCD")
"""Keys that a frame can press."""


class SignalWireSerializer(TwilioSerializer):
    """One stream, in the format that was asked for in ``<Stream codec>``."""

    __slots__ = ("audio_out",)

    audio_out: AudioFormat

    def __init__(self) -> None:
        super().__init__()
        self.audio_out = PCMU_8K

    def _started(self, message: Start, raw: Any) -> StreamStarted:
        event = super()._started(message, raw)
        # The order of the bytes is documented nowhere. The vendor's examples hand them as they are to engines that take
        # little-endian samples: not L16 as RTP has it.
        if event.format.encoding == "L16":
            sent = AudioFormat("PCM16", event.format.rate, event.format.channels)
            event = msgspec.structs.replace(event, format=sent)
        self.audio_out = event.format
        return event

    def encode_digits(self, digits: str) -> list[str] | None:
        [clear] = self.encode_clear()  # not open: says so
        pressed = digits.upper()
        if not pressed or not KEYS.issuperset(pressed):
            return None  # a pause has no frame
        named = clear.removeprefix('{"event":"clear"').removesuffix("}")
        return [f'{{"event":"dtmf"{named},"dtmf":{{"digit":"{digit}"}}}}' for digit in pressed]
