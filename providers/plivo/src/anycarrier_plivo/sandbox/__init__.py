"""Plivo without an account."""

from anycarrier_plivo.sandbox.app import PlivoSandbox

__all__ = ["PlivoSandbox"]
