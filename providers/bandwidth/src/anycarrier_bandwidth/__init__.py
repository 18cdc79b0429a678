"""Bandwidth for anycarrier: Voice API v2 with BXML, two-way media streams, phone numbers."""

from anycarrier.hookspecs import hookimpl
from anycarrier_bandwidth.credential import BandwidthCredential
from anycarrier_bandwidth.provider import BandwidthProvider

__all__ = ["BandwidthCredential", "BandwidthProvider"]


@hookimpl
def anycarrier_providers() -> list[type[BandwidthProvider]]:
    return [BandwidthProvider]
