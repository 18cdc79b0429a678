"""Asterisk for anycarrier: one's own server as the carrier, by ARI and media over WebSockets."""

from anycarrier.hookspecs import hookimpl
from anycarrier.provider import Provider
from anycarrier_asterisk.credential import AsteriskCredential
from anycarrier_asterisk.provider import AsteriskProvider

__all__ = ["AsteriskCredential", "AsteriskProvider"]


@hookimpl
def anycarrier_providers() -> list[type[Provider]]:
    return [AsteriskProvider]
