"""Asterisk without a server: see ``server.py``."""

from anycarrier_asterisk.sandbox.server import AsteriskSandbox

__all__ = ["AsteriskSandbox"]
