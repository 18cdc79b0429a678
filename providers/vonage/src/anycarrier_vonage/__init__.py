"""Vonage's Voice API for anycarrier."""

from anycarrier.hookspecs import hookimpl
from anycarrier.provider import Provider
from anycarrier_vonage.credential import VonageCredential
from anycarrier_vonage.frames import VonageSerializer
from anycarrier_vonage.provider import VonageProvider

__all__ = ["VonageCredential", "VonageProvider", "VonageSerializer"]


@hookimpl
def anycarrier_providers() -> list[type[Provider]]:
    return [VonageProvider]
