"""The door through which anycarrier finds Telnyx."""

from __future__ import annotations

from anycarrier.hookspecs import hookimpl
from anycarrier.provider import Provider
from anycarrier_telnyx.provider import TelnyxProvider


@hookimpl
def anycarrier_providers() -> list[type[Provider]]:
    """Telnyx."""
    return [TelnyxProvider]
