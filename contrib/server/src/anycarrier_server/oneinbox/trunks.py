"""``provider_config``: the SIP trunk login some clients send with a number.

We reach carriers by their call-control APIs, so a trunk is not provisioned; a login that is only half there is
refused all the same, because the client believes in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from anycarrier_server.refusals import Refusal

PARTS = {"trunk_address": "TRUNK_ADDRESS", "auth_username": "SIP_USERNAME", "auth_password": "SIP_PASSWORD"}
"""Field of the request, and the end of the environment variable that stands in for it."""


class TrunkIncomplete(Refusal):
    """Not all three parts are there."""


def check_trunk(provider: str, config: Mapping[str, Any]) -> None:
    """Return when the login is whole, from the request or ``<PROVIDER>_TRUNK_ADDRESS`` and the like."""
    missing = [
        part
        for part, variable in PARTS.items()
        if not _said(config.get(part)) and not _said(os.environ.get(f"{provider.upper()}_{variable}"))
    ]
    if missing:
        raise TrunkIncomplete(f"provider_config lacks {', '.join(missing)}: give all three, or leave it out")


def _said(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
