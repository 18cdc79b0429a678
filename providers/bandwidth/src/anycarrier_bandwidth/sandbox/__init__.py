"""Bandwidth's APIs, webhooks, BXML and media streams for tests and demos, without an account."""

from anycarrier_bandwidth.sandbox.app import OPERATIONS, BandwidthSandbox

__all__ = ["OPERATIONS", "BandwidthSandbox"]
