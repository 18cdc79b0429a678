"""A softphone on this machine, for trials: an account that works on loopback alone."""

from __future__ import annotations

from ipaddress import ip_address

from anycarrier.provider import TrialPhone
from anycarrier_sip.settings import Binding, SipSettings

USER, PHONE, CALLED = "phone", "+12025550143", "+12025550142"
"""The account's name, what it shows as its number, and what it calls: numbers that are nobody's."""


def trial_phone(settings: SipSettings | None, port: int, password: str) -> TrialPhone | None:
    """See :meth:`anycarrier.provider.Provider.trial_phone`. None where the sockets are not all on loopback."""
    if settings is None:
        settings = SipSettings(listen=(str(Binding("udp", "127.0.0.1", port)),))
    if not all(ip_address(one.host).is_loopback for one in settings.bindings):
        return None
    binding = settings.bindings[0]
    host = f"[{binding.host}]" if ":" in binding.host else binding.host
    domain = host if binding.port == 5060 else f"{host}:{binding.port}"
    return TrialPhone(
        settings=settings.model_copy(update={"softphones": True}),
        details={"preset": "softphones", "numbers": [CALLED], "users": [{"name": USER, "number": PHONE}]},
        number=CALLED,
        steps=(
            f"account   sip:{USER}@{domain}   (transport {binding.transport.upper()})",
            f"password  {password}",
            f"call      sip:{CALLED}@{domain}",
        ),
    )
