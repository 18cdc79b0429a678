"""``--sandbox``: every installed carrier's sandbox inside this service, so that all of it works without an account.

Each is mounted under ``/sandbox/<provider>`` and has one credential ready; every other credential of that carrier
leads there too, and any secret logs in. One with sockets of its own opens them on loopback, on free ports. A number
that is registered belongs to the account it is registered with, except the magic ones (+1 500 555 ...), which say how
the carrier is to misbehave.
"""

from __future__ import annotations

import logging
import secrets
from importlib import import_module
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from starlette.routing import Mount

from anycarrier import plugins
from anycarrier.credentials import Credential
from anycarrier.errors import AnycarrierError
from anycarrier.numbers import country_of
from anycarrier.provider import Capability, TrialPhone
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox import Sandbox
from anycarrier_server.domain import manage_numbers
from anycarrier_server.domain.resources import Resources
from anycarrier_server.store.models import CredentialRow
from anycarrier_server.work import first_start
from anycarrier_server.work.first_start import workspace_of

log = logging.getLogger("anycarrier")

MAGIC = "+1500555"

GREETING = "Hello. Say something, and I say it again."
"""What the agent of a real telephone says first."""


class Sandboxes:
    """The carriers played here, by name."""

    def __init__(self, resources: Resources, played: dict[str, Sandbox]) -> None:
        self._resources = resources
        self.played = played

    @classmethod
    async def open(cls, resources: Resources) -> Sandboxes:
        """Start every carrier's sandbox, with a credential each; the first that sells numbers is the default."""
        host = resources.settings.host
        here = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 compared, not bound
        origin = f"http://{f'[{here}]' if ':' in here else here}:{resources.settings.port}"
        played: dict[str, Sandbox] = {}
        for name in plugins.provider_names():
            where = plugins.get_provider(name).sandbox
            if where:
                module, _, kind = where.partition(":")
                played[name] = getattr(import_module(module), kind)(base_url=f"{origin}/sandbox/{name}")
        resources.carriers.sandboxes.update(played)
        made = cls(resources, played)
        await made._stock()
        return made

    def mounts(self) -> list[Mount]:
        """Where the carriers' REST APIs are."""
        return [Mount(f"/sandbox/{name}", app=sandbox.app) for name, sandbox in self.played.items()]

    async def close(self) -> None:
        """End every call there."""
        for sandbox in self.played.values():
            try:
                await sandbox.aclose()
            except ExceptionGroup as failures:
                log.error("the %s sandbox failed: %s", sandbox.provider, failures.exceptions)

    async def give(self, row: CredentialRow, number: str) -> None:
        """Let the credential's account own ``number``, as if it had been bought long ago."""
        sandbox = self.played.get(row.provider)
        if sandbox is None or number.startswith(MAGIC):
            return
        credential = await self._resources.store.credentials.credential(row.public_id)
        sandbox.give_number(number, credential)
        sandbox.point_webhooks(self._resources.exchange.switchboard.webhook_url(row.provider, row.public_id))

    def far_end(self, provider: str, carrier_id: str | None) -> FarEnd | None:
        """The telephone at the other end of a call; None when it is not played in this process."""
        sandbox = self.played.get(provider)
        return sandbox.far_ends.get(carrier_id or "") if sandbox is not None else None

    async def _stock(self) -> None:
        """One credential per carrier; numbers registered before a restart are the accounts' again."""
        store = self._resources.store
        workspace = await workspace_of(self._resources.store)
        for name, sandbox in self.played.items():
            known = await store.credentials.list(workspace.id, provider=name)
            if not any(row.name == f"{name} sandbox" for row in known):
                api_key, details = _spelled(sandbox.credential())
                rows = await store.credentials.list(workspace.id)
                buys = Capability.BUY_NUMBER in plugins.get_provider(name).capabilities
                await store.credentials.create(
                    workspace.id,
                    name=f"{name} sandbox",
                    provider=name,
                    api_key=api_key,
                    metadata=details,
                    is_default=buys and not any(row.is_default for row in rows),
                )
        for line in await store.lines.lines():
            row = await store.lines.by_number(line.number)
            owner = await store.credentials.get(row.workspace_id, row.credential_id) if row is not None else None
            if owner is None:
                continue
            try:
                await self.give(owner, line.number)
            except AnycarrierError as problem:
                log.warning("a number of credential %s is not in the sandbox: %s", owner.public_id, problem)

    async def connect_phones(self) -> list[TrialPhone]:
        """For carriers that real telephones on this machine can reach: an account each, and a number with an agent.

        The account and its password are made once; what is made of them since, and of the number, stays.
        """
        resources, found = self._resources, list[TrialPhone]()
        workspace = await workspace_of(resources.store)
        given = first_start.operators_settings(resources.settings)
        for name in first_start.trial_phones(resources.settings, given):
            rows = await resources.store.credentials.list(workspace.id, provider=name)
            row = next((row for row in rows if row.name == f"{name} phone"), None)
            password = SecretStr(secrets.token_hex(8)) if row is None else resources.store.credentials.held(row)[0]
            phone = first_start.trial_phones(resources.settings, given, password.get_secret_value())[name]
            if row is None:
                await self._connect(workspace.id, name, phone, password)
            found.append(phone)
        return found

    async def _connect(self, workspace_id: UUID, provider: str, phone: TrialPhone, password: SecretStr) -> None:
        store = self._resources.store
        credential = await store.credentials.create(
            workspace_id, name=f"{provider} phone", provider=provider, api_key=password, metadata=phone.details
        )
        agent = await store.agents.create(
            workspace_id, name="Phone", handler="repeat", settings={"first_message": GREETING}
        )
        line = await store.lines.create(
            credential, phone.number, status="inactive", country=country_of(phone.number), agent_id=agent.id
        )
        await manage_numbers.put_in_service(self._resources, line)

    async def reconnect(self) -> None:
        """Tell the sandboxes, which forget everything, where the numbers' calls go. Needs the port to be open."""
        store = self._resources.store
        for line in await store.lines.lines():
            row = await store.lines.by_number(line.number)
            if row is not None and row.provider in self.played:
                await manage_numbers.put_in_service(self._resources, row)


def _spelled(credential: Credential) -> tuple[SecretStr, dict[str, Any]]:
    """A credential as a person would type it: the key, and the rest by name."""
    known = {name: getattr(credential, name) for name in credential.model_fields_set}
    key = credential.key_field()
    details = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in known.items()
        if value is not None and name not in (key, "base_url", "provider")
    }
    return known[key], details
