"""A made-up carrier and a workspace that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from anycarrier.calls import Call, CallStatus, Direction
from anycarrier.credentials import Credential
from anycarrier.errors import UnknownProvider
from anycarrier_server.store import Store
from anycarrier_server.store.models import Agent, CredentialRow, LineRow, Workspace


class AcmeCredential(Credential):
    """A carrier that exists only here."""

    provider: str = "acme"
    api_key: SecretStr
    account_sid: str
    base_url: str | None = None

    @property
    def account(self) -> str:
        return self.account_sid


def build_acme(provider: str, api_key: SecretStr, metadata: Mapping[str, Any]) -> Credential:
    if provider != "acme":
        raise UnknownProvider(provider, ["acme"])
    return AcmeCredential.from_api_key(api_key.get_secret_value(), metadata)


@dataclass
class Tenant:
    """A workspace with all that a call needs."""

    workspace: Workspace
    agent: Agent
    credential: CredentialRow
    line: LineRow

    def call(self, **fields: Any) -> Call:
        """A call on the tenant's line, as the exchange would open it."""
        inbound = fields.get("direction", Direction.INBOUND) is Direction.INBOUND
        remote = fields.pop("remote", "+14155550177")
        return Call(
            **{
                "id": f"leg-{uuid4().hex}",
                "provider": "acme",
                "direction": Direction.INBOUND,
                "from_": remote if inbound else self.line.number,
                "to": self.line.number if inbound else remote,
                "status": CallStatus.INITIATED,
                "reference": uuid4().hex,
                "credential_id": self.credential.public_id,
                "agent_id": self.agent.public_id,
                **fields,
            }
        )


async def make_tenant(store: Store, number: str = "+12125550100", name: str = "acme") -> Tenant:
    workspace = await store.workspaces.create(name)
    agent = await store.agents.create(workspace.id, name="Aria")
    credential = await store.credentials.create(
        workspace.id,
        name="carrier",
        provider="acme",
        api_key=SecretStr("secret-0123456789"),
        metadata={"account_sid": "AC1"},
    )
    line = await store.lines.create(credential, number, agent_id=agent.id)
    return Tenant(workspace, agent, credential, line)
