"""What we let travel with a call: Telnyx gives ``client_state`` back in every later webhook and in the stream's start.

Dial and answer take no custom parameters for the stream, so ours travel in here too. Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.calls import Direction


@dataclass(frozen=True, slots=True)
class ClientState:
    """``transfer_of`` is set on the leg a transfer dials: the call it was transferred from."""

    reference: str = ""
    direction: Direction | None = None
    custom: Mapping[str, str] = field(default_factory=dict)
    format: AudioFormat = PCMU_8K
    transfer_of: str = ""

    def encode(self) -> str:
        """As base64 JSON, the only form Telnyx takes (90017 otherwise)."""
        state: dict[str, object] = {"ref": self.reference}
        if self.direction:
            state["dir"] = self.direction.value
        if self.custom:
            state["custom"] = dict(self.custom)
        if self.format != PCMU_8K:
            state["format"] = f"{self.format.encoding}/{self.format.rate}"
        if self.transfer_of:
            state["transfer_of"] = self.transfer_of
        return base64.b64encode(json.dumps(state, separators=(",", ":")).encode()).decode()


def read_client_state(text: object) -> ClientState:
    """The state in ``text``; an empty one for none, and for what somebody else put there."""
    if not isinstance(text, str) or not text:
        return ClientState()
    try:
        state = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return ClientState()
    if not isinstance(state, dict):
        return ClientState()
    direction = state.get("dir")
    return ClientState(
        reference=_text(state.get("ref")),
        direction=Direction(direction) if direction in ("inbound", "outbound") else None,
        custom=text_pairs(state.get("custom")),
        format=_format(state.get("format")),
        transfer_of=_text(state.get("transfer_of")),
    )


def text_pairs(value: object) -> dict[str, str]:
    """Only the pairs of ``value`` that are text both sides."""
    if not isinstance(value, Mapping):
        return {}
    return {name: text for name, text in value.items() if isinstance(name, str) and isinstance(text, str)}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _format(value: object) -> AudioFormat:
    encoding, _, rate = _text(value).partition("/")
    return AudioFormat(encoding, int(rate)) if encoding and rate.isdecimal() and len(rate) < 7 else PCMU_8K
