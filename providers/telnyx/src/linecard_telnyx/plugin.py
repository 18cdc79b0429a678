"""The door through which linecard finds Telnyx."""

from __future__ import annotations

from linecard.hookspecs import hookimpl
from linecard.provider import Provider
from linecard_telnyx.provider import TelnyxProvider


@hookimpl
def linecard_providers() -> list[type[Provider]]:
    """Telnyx."""
    return [TelnyxProvider]
