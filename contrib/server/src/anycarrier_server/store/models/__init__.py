"""Every table. Importing this is what Alembic compares the database with."""

from anycarrier_server.store.models.calls import CallEventRow, CallRow, CallTally, Recording, Segment
from anycarrier_server.store.models.webhooks import Attempt, Delivery, OutboxEvent, SigningKey, Subscription
from anycarrier_server.store.models.workspaces import (
    Agent,
    ApiKey,
    Canary,
    Claim,
    ContactRule,
    CredentialRow,
    EngineRow,
    LineRow,
    Once,
    Usage,
    UsageWindow,
    Workspace,
)

__all__ = [
    "Agent",
    "ApiKey",
    "Attempt",
    "CallEventRow",
    "CallRow",
    "CallTally",
    "Canary",
    "Claim",
    "ContactRule",
    "CredentialRow",
    "Delivery",
    "EngineRow",
    "LineRow",
    "Once",
    "OutboxEvent",
    "Recording",
    "Segment",
    "SigningKey",
    "Subscription",
    "Usage",
    "UsageWindow",
    "Workspace",
]
