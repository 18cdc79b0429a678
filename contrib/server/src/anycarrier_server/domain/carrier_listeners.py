"""The listeners of carriers with sockets of their own: open for each credential with a number in service, else closed.

A number that comes into service or leaves it here does that at once; what another process has changed is seen by a look
now and then.
"""

from __future__ import annotations

import logging

from anycarrier import plugins
from anycarrier.errors import AnycarrierError
from anycarrier.provider import Capability
from anycarrier_server.domain.resources import Resources
from anycarrier_server.store.credentials import CredentialIncomplete

log = logging.getLogger("anycarrier")


def any_listens() -> bool:
    """Whether a carrier that is installed has sockets of its own."""
    return any(Capability.LISTEN in plugins.get_provider(name).capabilities for name in plugins.provider_names())


async def look(resources: Resources) -> None:
    """Open the listeners that are wanted, anew where secrets have changed, and close those that are not.

    Who has the oldest line comes first: what two credentials claim, like a carrier's network, is the first one's, and
    a restart must not give it to the other.
    """
    if not any_listens():
        return
    wanted = dict.fromkeys(line.credential_id for line in await resources.store.lines.lines())
    for credential_id in resources.exchange.listeners.credentials() - wanted.keys():
        await resources.exchange.close_listener(credential_id)
    for credential_id in wanted:
        await open_for(resources, credential_id)


async def open_for(resources: Resources, credential_id: str) -> str | None:
    """Open the credential's listener, if its carrier has one; why it is closed, else None. It is tried again."""
    try:
        await resources.exchange.start_listener(credential_id)
    except CredentialIncomplete as lacks:
        log.warning("the listener of credential %s does not start: %s", credential_id, lacks)
        return str(lacks)
    except AnycarrierError as problem:
        return str(problem)  # the exchange has logged it
    return None


async def number_gone(resources: Resources, credential_id: str) -> None:
    """Close the credential's listener after its last number has left service."""
    if credential_id in resources.exchange.listeners.credentials():
        lines = await resources.store.lines.lines()
        if not any(line.credential_id == credential_id for line in lines):
            await resources.exchange.close_listener(credential_id)
