"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anycarrier_server.store import columns

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "canary",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_canary")),
    )
    op.create_table(
        "claims",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("expires_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_claims")),
    )
    op.create_index(op.f("ix_claims_owner"), "claims", ["owner"], unique=False)
    op.create_table(
        "once",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("expires_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_once")),
    )
    op.create_index(op.f("ix_once_expires_at"), "once", ["expires_at"], unique=False)
    op.create_table(
        "workspaces",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("settings", columns.Json, nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspaces")),
    )
    op.create_table(
        "agents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("handle", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("websocket_url", sa.String(), nullable=True),
        sa.Column("handler", sa.String(), nullable=True),
        sa.Column("settings", columns.Json, nullable=False),
        sa.Column("incoming_call_action", sa.String(), nullable=True),
        sa.Column("incoming_call_webhook_url", sa.String(), nullable=True),
        sa.Column("forwarding_target_type", sa.String(), nullable=True),
        sa.Column("forwarding_phone_number", sa.String(), nullable=True),
        sa.Column("forwarding_sip_uri", sa.String(), nullable=True),
        sa.Column("inbound_filter_mode", sa.String(), nullable=False),
        sa.Column("outbound_filter_mode", sa.String(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.Column("deleted_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_agents_workspace_id_workspaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agents")),
    )
    op.create_index(op.f("ix_agents_workspace_id_created_at"), "agents", ["workspace_id", "created_at"], unique=False)
    op.create_index(
        "uq_agents_handle",
        "agents",
        ["workspace_id", "handle"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "call_tallies",
        sa.Column("id", columns.Serial, autoincrement=True, nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=True),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("is_blocked", sa.Boolean(), nullable=False),
        sa.Column("delta", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_call_tallies_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_call_tallies")),
    )
    op.create_index(
        op.f("ix_call_tallies_workspace_id_agent_id"), "call_tallies", ["workspace_id", "agent_id"], unique=False
    )
    op.create_table(
        "credentials",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("masked_key", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("missing", columns.Json, nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.Column("deleted_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_credentials_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
    )
    op.create_index(
        op.f("ix_credentials_workspace_id_created_at"), "credentials", ["workspace_id", "created_at"], unique=False
    )
    op.create_table(
        "usage",
        sa.Column("id", columns.Serial, autoincrement=True, nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("call_id", sa.Uuid(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_usage_workspace_id_workspaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage")),
        sa.UniqueConstraint("call_id", name=op.f("uq_usage_call_id")),
    )
    op.create_index(op.f("ix_usage_workspace_id_at"), "usage", ["workspace_id", "at"], unique=False)
    op.create_index(op.f("ix_usage_workspace_id_id"), "usage", ["workspace_id", "id"], unique=False)
    op.create_table(
        "usage_windows",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("swept_to", columns.Serial, nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_usage_windows_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("workspace_id", name=op.f("pk_usage_windows")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=True),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("display_prefix", sa.String(), nullable=False),
        sa.Column("last4", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("creator_type", sa.String(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.Column("last_used_at", columns.Moment(), nullable=True),
        sa.Column("expires_at", columns.Moment(), nullable=True),
        sa.Column("revoked_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name=op.f("fk_api_keys_agent_id_agents")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_api_keys_workspace_id_workspaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_keys_hash")),
    )
    op.create_index(
        op.f("ix_api_keys_workspace_id_created_at"), "api_keys", ["workspace_id", "created_at"], unique=False
    )
    op.create_table(
        "contact_rules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("match_type", sa.String(), nullable=False),
        sa.Column("match_target", sa.String(), nullable=False),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name=op.f("fk_contact_rules_agent_id_agents")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_contact_rules_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact_rules")),
    )
    op.create_index(
        op.f("ix_contact_rules_agent_id_created_at"), "contact_rules", ["agent_id", "created_at"], unique=False
    )
    op.create_index(op.f("ix_contact_rules_workspace_id"), "contact_rules", ["workspace_id"], unique=False)
    op.create_index("uq_contact_rules_slot", "contact_rules", ["agent_id", "match_target", "direction"], unique=True)
    op.create_table(
        "lines",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=True),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("friendly_name", sa.String(), nullable=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("country", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("carrier_number_id", sa.String(), nullable=True),
        sa.Column("bought", sa.Boolean(), nullable=False),
        sa.Column("routing", columns.Json, nullable=False),
        sa.Column("inbound_webhook_url", sa.String(), nullable=True),
        sa.Column("sync", columns.Json, nullable=True),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.Column("released_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name=op.f("fk_lines_agent_id_agents")),
        sa.ForeignKeyConstraint(["credential_id"], ["credentials.id"], name=op.f("fk_lines_credential_id_credentials")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_lines_workspace_id_workspaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lines")),
    )
    op.create_index(op.f("ix_lines_agent_id"), "lines", ["agent_id"], unique=False)
    op.create_index(op.f("ix_lines_number"), "lines", ["number"], unique=False)
    op.create_index(op.f("ix_lines_workspace_id_created_at"), "lines", ["workspace_id", "created_at"], unique=False)
    op.create_index(
        "uq_lines_held",
        "lines",
        ["credential_id", "number"],
        unique=True,
        sqlite_where=sa.text("status <> 'released'"),
        postgresql_where=sa.text("status <> 'released'"),
    )
    op.create_index(
        "uq_lines_routing",
        "lines",
        ["number"],
        unique=True,
        sqlite_where=sa.text("status = 'active'"),
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name=op.f("fk_signing_keys_agent_id_agents")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_signing_keys_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_keys")),
    )
    op.create_index("uq_signing_keys_agent", "signing_keys", ["agent_id"], unique=True)
    op.create_index(
        "uq_signing_keys_workspace",
        "signing_keys",
        ["workspace_id"],
        unique=True,
        sqlite_where=sa.text("agent_id IS NULL"),
        postgresql_where=sa.text("agent_id IS NULL"),
    )
    op.create_table(
        "calls",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.Column("line_id", sa.Uuid(), nullable=True),
        sa.Column("agent_id", sa.Uuid(), nullable=True),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("carrier_id", sa.String(), nullable=True),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("from_number", sa.String(), nullable=False),
        sa.Column("to_number", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("intent", sa.String(), nullable=True),
        sa.Column("carrier_status", sa.String(), nullable=True),
        sa.Column("sip_code", sa.Integer(), nullable=True),
        sa.Column("answered_by", sa.String(), nullable=True),
        sa.Column("time_limit", sa.Double(), nullable=True),
        sa.Column("is_blocked", sa.Boolean(), nullable=False),
        sa.Column("raw", columns.Json, nullable=False),
        sa.Column("variables", columns.Json, nullable=False),
        sa.Column("metadata", columns.Json, nullable=False),
        sa.Column("overrides", columns.Json, nullable=False),
        sa.Column("options", columns.Json, nullable=False),
        sa.Column("webhook_url", sa.String(), nullable=True),
        sa.Column("websocket_url", sa.String(), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("body_hash", sa.String(), nullable=True),
        sa.Column("use_tts", sa.Boolean(), nullable=True),
        sa.Column("use_stt", sa.Boolean(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("summary", sa.String(), nullable=True),
        sa.Column("analysis", columns.Json, nullable=True),
        sa.Column("latency", columns.Json, nullable=True),
        sa.Column("error", columns.Json, nullable=True),
        sa.Column("cost_cents", sa.Double(), nullable=True),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("scheduled_at", columns.Moment(), nullable=True),
        sa.Column("dial_claimed_at", columns.Moment(), nullable=True),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("answered_at", columns.Moment(), nullable=True),
        sa.Column("ended_at", columns.Moment(), nullable=True),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name=op.f("fk_calls_agent_id_agents")),
        sa.ForeignKeyConstraint(["credential_id"], ["credentials.id"], name=op.f("fk_calls_credential_id_credentials")),
        sa.ForeignKeyConstraint(["line_id"], ["lines.id"], name=op.f("fk_calls_line_id_lines")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_calls_workspace_id_workspaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calls")),
    )
    op.create_index("ix_calls_agent", "calls", ["agent_id", "created_at", "id"], unique=False)
    op.create_index("ix_calls_carrier", "calls", ["carrier_id"], unique=False)
    op.create_index(
        "ix_calls_due",
        "calls",
        ["scheduled_at"],
        unique=False,
        sqlite_where=sa.text("status = 'queued'"),
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index("ix_calls_line", "calls", ["line_id", "created_at", "id"], unique=False)
    op.create_index(
        "ix_calls_live",
        "calls",
        ["workspace_id", "answered_at"],
        unique=False,
        sqlite_where=sa.text("status <> 'ended'"),
        postgresql_where=sa.text("status <> 'ended'"),
    )
    op.create_index("ix_calls_newest", "calls", ["workspace_id", "created_at", "id"], unique=False)
    op.create_index("ix_calls_stage", "calls", ["workspace_id", "stage", "created_at", "id"], unique=False)
    op.create_index("uq_calls_carrier", "calls", ["credential_id", "carrier_id"], unique=True)
    op.create_index("uq_calls_idempotency", "calls", ["workspace_id", "idempotency_key"], unique=True)
    op.create_table(
        "webhook_subscriptions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("agent_id", sa.Uuid(), nullable=True),
        sa.Column("line_id", sa.Uuid(), nullable=True),
        sa.Column("face", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("events", columns.Json, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_token", sa.LargeBinary(), nullable=True),
        sa.Column("context", columns.Json, nullable=True),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.Column("deleted_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name=op.f("fk_webhook_subscriptions_agent_id_agents")),
        sa.ForeignKeyConstraint(["line_id"], ["lines.id"], name=op.f("fk_webhook_subscriptions_line_id_lines")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_webhook_subscriptions_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_subscriptions")),
    )
    op.create_index(
        op.f("ix_webhook_subscriptions_workspace_id_created_at"),
        "webhook_subscriptions",
        ["workspace_id", "created_at"],
        unique=False,
    )
    op.create_table(
        "call_events",
        sa.Column("id", columns.Serial, autoincrement=True, nullable=False),
        sa.Column("call_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("payload", columns.Json, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_call_events_call_id_calls")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_call_events")),
    )
    op.create_index(op.f("ix_call_events_call_id_id"), "call_events", ["call_id", "id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", columns.Serial, autoincrement=True, nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("call_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("payload", columns.Json, nullable=False),
        sa.Column("dedupe", sa.String(), nullable=True),
        sa.Column("fanned_out_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_outbox_call_id_calls")),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_outbox_workspace_id_workspaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("dedupe", name=op.f("uq_outbox_dedupe")),
        sa.UniqueConstraint("event_id", name=op.f("uq_outbox_event_id")),
    )
    op.create_index(op.f("ix_outbox_call_id"), "outbox", ["call_id"], unique=False)
    op.create_index(
        "ix_outbox_unsent",
        "outbox",
        ["id"],
        unique=False,
        sqlite_where=sa.text("fanned_out_at IS NULL"),
        postgresql_where=sa.text("fanned_out_at IS NULL"),
    )
    op.create_table(
        "recordings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("call_id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("channels", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("duration", sa.Double(), nullable=True),
        sa.Column("size", columns.Serial, nullable=True),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("updated_at", columns.Moment(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_recordings_call_id_calls")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_recordings_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recordings")),
    )
    op.create_index(op.f("ix_recordings_call_id"), "recordings", ["call_id"], unique=False)
    op.create_table(
        "transcripts",
        sa.Column("id", columns.Serial, autoincrement=True, nullable=False),
        sa.Column("call_id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("line_id", sa.Uuid(), nullable=True),
        sa.Column("agent_id", sa.Uuid(), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("ts_ms", sa.Integer(), nullable=False),
        sa.Column("party", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=op.f("fk_transcripts_call_id_calls")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transcripts")),
    )
    op.create_index("uq_transcripts_call", "transcripts", ["call_id", "seq"], unique=True)
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", columns.Serial, autoincrement=True, nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("subscription_id", sa.Uuid(), nullable=True),
        sa.Column("line_id", sa.Uuid(), nullable=True),
        sa.Column("agent_id", sa.Uuid(), nullable=True),
        sa.Column("call_id", sa.Uuid(), nullable=True),
        sa.Column("face", sa.String(), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("event_type", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=False),
        sa.Column("lease_until", columns.Moment(), nullable=True),
        sa.Column("lease_token", sa.String(), nullable=True),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.ForeignKeyConstraint(
            ["subscription_id"],
            ["webhook_subscriptions.id"],
            name=op.f("fk_webhook_deliveries_subscription_id_webhook_subscriptions"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_webhook_deliveries_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(
        "ix_deliveries_due",
        "webhook_deliveries",
        ["next_at"],
        unique=False,
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_deliveries_lane",
        "webhook_deliveries",
        ["lane", "id"],
        unique=False,
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index("ix_deliveries_subscription", "webhook_deliveries", ["subscription_id", "id"], unique=False)
    op.create_table(
        "webhook_attempts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("delivery_id", columns.Serial, nullable=False),
        sa.Column("response_status", sa.Integer(), nullable=True),
        sa.Column("response_body", sa.String(), nullable=True),
        sa.Column("error_detail", sa.String(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("is_replay", sa.Boolean(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["webhook_deliveries.id"], name=op.f("fk_webhook_attempts_delivery_id_webhook_deliveries")
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_webhook_attempts_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_attempts")),
    )
    op.create_index("ix_attempts_delivery", "webhook_attempts", ["delivery_id"], unique=False)
    op.create_index("ix_attempts_newest", "webhook_attempts", ["workspace_id", "created_at", "id"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        postgresql_search()
    else:
        sqlite_search()


def postgresql_search() -> None:
    """A search column that also holds whose segment it is, so one index answers 'these words on that line'."""
    op.execute(
        """
        ALTER TABLE transcripts ADD COLUMN fts_search tsvector GENERATED ALWAYS AS (
            to_tsvector('simple'::regconfig, text)
            || array_to_tsvector(ARRAY[
                'w:' || workspace_id::text, 'l:' || coalesce(line_id::text, ''),
                'a:' || coalesce(agent_id::text, ''), 'p:' || party
            ])
        ) STORED
        """
    )
    op.execute("CREATE INDEX fts_transcripts ON transcripts USING gin (fts_search)")


def sqlite_search() -> None:
    """The same on FTS5: an index over a view, filled by a trigger; segments are never changed."""
    op.execute(
        """
        CREATE VIEW fts_segments AS SELECT id, text,
            'w' || workspace_id || ' l' || coalesce(line_id, '') || ' a' || coalesce(agent_id, '') || ' p' || party
            AS scope FROM transcripts
        """
    )
    op.execute(
        """
        CREATE VIRTUAL TABLE transcripts_fts USING fts5(
            text, scope, content='fts_segments', content_rowid='id', tokenize="unicode61 remove_diacritics 0"
        )
        """
    )
    op.execute(
        """
        CREATE TRIGGER fts_insert AFTER INSERT ON transcripts BEGIN
            INSERT INTO transcripts_fts(rowid, text, scope) SELECT id, text, scope FROM fts_segments WHERE id = new.id;
        END
        """
    )
    op.execute(
        """
        CREATE TRIGGER fts_delete BEFORE DELETE ON transcripts BEGIN
            INSERT INTO transcripts_fts(transcripts_fts, rowid, text, scope)
            SELECT 'delete', id, text, scope FROM fts_segments WHERE id = old.id;
        END
        """
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE transcripts_fts")
        op.execute("DROP VIEW fts_segments")
    op.drop_index("ix_attempts_newest", table_name="webhook_attempts")
    op.drop_index("ix_attempts_delivery", table_name="webhook_attempts")
    op.drop_table("webhook_attempts")
    op.drop_index("ix_deliveries_subscription", table_name="webhook_deliveries")
    op.drop_index(
        "ix_deliveries_lane",
        table_name="webhook_deliveries",
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.drop_index(
        "ix_deliveries_due",
        table_name="webhook_deliveries",
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.drop_table("webhook_deliveries")
    op.drop_index("uq_transcripts_call", table_name="transcripts")
    op.drop_table("transcripts")
    op.drop_index(op.f("ix_recordings_call_id"), table_name="recordings")
    op.drop_table("recordings")
    op.drop_index(
        "ix_outbox_unsent",
        table_name="outbox",
        sqlite_where=sa.text("fanned_out_at IS NULL"),
        postgresql_where=sa.text("fanned_out_at IS NULL"),
    )
    op.drop_index(op.f("ix_outbox_call_id"), table_name="outbox")
    op.drop_table("outbox")
    op.drop_index(op.f("ix_call_events_call_id_id"), table_name="call_events")
    op.drop_table("call_events")
    op.drop_index(op.f("ix_webhook_subscriptions_workspace_id_created_at"), table_name="webhook_subscriptions")
    op.drop_table("webhook_subscriptions")
    op.drop_index("uq_calls_idempotency", table_name="calls")
    op.drop_index("uq_calls_carrier", table_name="calls")
    op.drop_index("ix_calls_stage", table_name="calls")
    op.drop_index("ix_calls_newest", table_name="calls")
    op.drop_index(
        "ix_calls_live",
        table_name="calls",
        sqlite_where=sa.text("status <> 'ended'"),
        postgresql_where=sa.text("status <> 'ended'"),
    )
    op.drop_index("ix_calls_line", table_name="calls")
    op.drop_index(
        "ix_calls_due",
        table_name="calls",
        sqlite_where=sa.text("status = 'queued'"),
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.drop_index("ix_calls_carrier", table_name="calls")
    op.drop_index("ix_calls_agent", table_name="calls")
    op.drop_table("calls")
    op.drop_index(
        "uq_signing_keys_workspace",
        table_name="signing_keys",
        sqlite_where=sa.text("agent_id IS NULL"),
        postgresql_where=sa.text("agent_id IS NULL"),
    )
    op.drop_index("uq_signing_keys_agent", table_name="signing_keys")
    op.drop_table("signing_keys")
    op.drop_index(
        "uq_lines_routing",
        table_name="lines",
        sqlite_where=sa.text("status = 'active'"),
        postgresql_where=sa.text("status = 'active'"),
    )
    op.drop_index(
        "uq_lines_held",
        table_name="lines",
        sqlite_where=sa.text("status <> 'released'"),
        postgresql_where=sa.text("status <> 'released'"),
    )
    op.drop_index(op.f("ix_lines_workspace_id_created_at"), table_name="lines")
    op.drop_index(op.f("ix_lines_number"), table_name="lines")
    op.drop_index(op.f("ix_lines_agent_id"), table_name="lines")
    op.drop_table("lines")
    op.drop_index("uq_contact_rules_slot", table_name="contact_rules")
    op.drop_index(op.f("ix_contact_rules_workspace_id"), table_name="contact_rules")
    op.drop_index(op.f("ix_contact_rules_agent_id_created_at"), table_name="contact_rules")
    op.drop_table("contact_rules")
    op.drop_index(op.f("ix_api_keys_workspace_id_created_at"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("usage_windows")
    op.drop_index(op.f("ix_usage_workspace_id_id"), table_name="usage")
    op.drop_index(op.f("ix_usage_workspace_id_at"), table_name="usage")
    op.drop_table("usage")
    op.drop_index(op.f("ix_credentials_workspace_id_created_at"), table_name="credentials")
    op.drop_table("credentials")
    op.drop_index(op.f("ix_call_tallies_workspace_id_agent_id"), table_name="call_tallies")
    op.drop_table("call_tallies")
    op.drop_index(
        "uq_agents_handle",
        table_name="agents",
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.drop_index(op.f("ix_agents_workspace_id_created_at"), table_name="agents")
    op.drop_table("agents")
    op.drop_table("workspaces")
    op.drop_index(op.f("ix_once_expires_at"), table_name="once")
    op.drop_table("once")
    op.drop_index(op.f("ix_claims_owner"), table_name="claims")
    op.drop_table("claims")
    op.drop_table("canary")
