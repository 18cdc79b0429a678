"""SIP without a trunk: a registrar and telephones on loopback, for tests and demos. See ``trunk.py``."""

from anycarrier_sip.sandbox.trunk import SipSandbox

__all__ = ["SipSandbox"]
