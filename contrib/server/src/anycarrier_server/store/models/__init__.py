"""Every table. Importing this is what Alembic compares the database with."""

from anycarrier_server.store.models.account_tables import (
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
from anycarrier_server.store.models.call_tables import CallEventRow, CallRow, CallTally, Recording, Segment
from anycarrier_server.store.models.webhook_tables import Attempt, Delivery, OutboxEvent, SigningKey, Subscription

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
