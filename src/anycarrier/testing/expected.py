"""An event as data: how cassettes write down what a webhook or a frame must become."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from anycarrier.audio import AudioFormat
from anycarrier.calls import Call


def describe(event: msgspec.Struct) -> dict[str, Any]:
    """``{"type": "DigitPressed", "digit": "1"}``: the type and every field that is not at its default.

    ``raw`` is left out: it is the message itself. Audio is base64, times are ISO 8601, a format is ``PCMU/8000``.
    """
    told: dict[str, Any] = {"type": type(event).__name__}
    for spec in msgspec.structs.fields(event):
        value = getattr(event, spec.name)
        default = spec.default_factory() if callable(spec.default_factory) else spec.default
        if spec.name != "raw" and value != default:
            told[spec.name] = _plain(value)
    return told


def _plain(value: Any) -> Any:
    match value:
        case Call():
            return value.model_dump(mode="json", exclude={"raw"}, exclude_defaults=True)
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return value.isoformat()
        case AudioFormat():
            return f"{value.encoding}/{value.rate}" + (f"/{value.channels}" if value.channels != 1 else "")
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return value
