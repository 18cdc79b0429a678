"""What can be set on a running service, by environment (``ANYCARRIER_...``) or a TOML file, and the table that says so.

Everything has a default: ``anycarrier serve`` works with no configuration at all. Order of precedence: command line,
environment, TOML file, default. The file is ``ANYCARRIER_CONFIG``, else ``anycarrier.toml`` in the working folder.
"""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self, get_origin
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from anycarrier.errors import ConfigurationError
from anycarrier.policy import checked_entries
from anycarrier_server import settings_checks as mistakes

SHORTEST_KEY = 16
"""Characters of an admin key that strangers may try."""


class _Environment(EnvSettingsSource):
    """Variables, with lists and tables left as they are written: our own validators read more than JSON."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        if field_name in ("allow", "deny", "outward_allow", "base_urls", "handlers"):
            return value
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value  # no JSON: what it should be instead is said with all other mistakes


class Settings(BaseSettings):
    """All settings of ``anycarrier serve``."""

    model_config = SettingsConfigDict(
        env_prefix="ANYCARRIER_",
        env_ignore_empty=True,
        env_nested_delimiter="__",
        extra="ignore",
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    data_dir: Path = Field(
        default=Path("data"),
        description="Folder for the SQLite file, the master key and recordings; made when missing, for this user alone",
    )
    database: str = Field(
        default="", description="`sqlite:///file` or `postgresql://user:password@host/name`; empty: SQLite in data_dir"
    )
    database_pool: int = Field(
        default=10, ge=1, le=100, description="Connections of a process: so many for calls, and so many for the rest"
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    public_url: str = Field(
        default="",
        description="Origin under which carriers and agents reach this service; empty: `http://host:port`, local only",
    )
    admin_key: SecretStr | None = Field(
        default=None,
        description="Fixes the first admin key (16 characters, unless `local`); empty: one is made and printed once",
    )
    master_key: SecretStr | None = Field(
        default=None,
        description="32 bytes in base64 that seal stored secrets, older ones after commas; empty: data_dir/master.key",
    )
    calls_per_day: int = Field(default=100, ge=0, description="Calls a workspace may have in any 24 hours")
    minutes_per_day: float = Field(
        default=100,
        ge=0,
        allow_inf_nan=False,
        description="Minutes a workspace may talk in any 24 hours; a call reserves its longest duration while it lasts",
    )
    max_duration_seconds: float = Field(default=600, gt=0, le=86400, description="Longest call, from answer")
    allow: list[str] = Field(
        default=[],
        description="Countries (`US`), prefixes (`+4930`), SIP hosts (`sip:pbx.example.com`), `*` (all numbers) or "
        "`sip:*` that may be called; empty: the calling number's own country, with `sandbox` all",
    )
    deny: list[str] = Field(default=[], description="Countries, prefixes and SIP hosts that may not be called")
    calls_per_second: float | None = Field(
        default=None, gt=0, description="New calls per second and credential; empty: no limit"
    )
    max_concurrent: int | None = Field(default=None, ge=1, description="Calls at once per credential; empty: no limit")
    max_concurrent_per_number: int | None = Field(
        default=None, ge=1, description="Calls at once per number of ours; empty: no limit"
    )
    calls_per_day_per_number: int | None = Field(
        default=None, ge=0, description="Calls dialled from one number in any 24 hours; empty: no limit"
    )
    drain_seconds: float = Field(
        default=30, ge=0, description="How long live calls may go on after a stop signal before they are ended"
    )
    handler_grace: float = Field(
        default=5, ge=0.1, le=60, description="Seconds an agent has to finish after its call; then it is cancelled"
    )
    sandbox: bool = Field(
        default=False, description="Mount the carriers' sandboxes and their control API; only where `local` is so"
    )
    local: bool | None = Field(
        default=None,
        description="Let webhooks and agents be on this machine, without TLS; empty: when nobody else reaches us",
    )
    outward_allow: list[str] = Field(
        default=[], description="Private networks (CIDR) that webhooks, agents and carriers may be in all the same"
    )
    base_urls: list[str] = Field(
        default=[],
        description="Carriers' servers of your own that a credential's `base_url` may name, like "
        "`http://pbx.example.com:8088`; empty: none",
    )
    handlers: dict[str, str] = Field(
        default={},
        description="Python agents that API clients may name: name -> `module:function`; those marked by "
        "[`raw_agent`](agents.md#raw-audio) do their own speech",
    )
    engines: dict[str, dict[str, Any]] = Field(
        default={},
        repr=False,
        description="Speech engines' settings, for all workspaces: `ANYCARRIER_ENGINES__NAME__API_KEY`, or the table "
        "`[engines.NAME]`; see [speech](speech.md#keys-for-the-service)",
    )
    carriers: dict[str, dict[str, Any]] = Field(
        default={},
        repr=False,
        description="Settings of carriers with sockets of their own, as the plugin names them: "
        "`ANYCARRIER_CARRIERS__SIP__LISTEN=udp:192.0.2.10:5060`, or the table `[carriers.sip]`; see "
        "[SIP](sip.md#settings-of-the-operator)",
    )
    max_body_bytes: int = Field(default=1_048_576, ge=1024, description="Largest request body taken")
    webhook_timeout: float = Field(default=10, gt=0, le=60, description="Seconds a webhook receiver has to answer")
    max_webhooks: int = Field(default=100, ge=0, description="Webhook subscriptions a workspace may have")
    inbound_webhook_timeout: float = Field(
        default=10, gt=0, le=30, description="Seconds an incoming-call webhook has to decide"
    )
    recordings_dir: Path | None = Field(default=None, description="Folder for recordings; empty: data_dir/recordings")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="How much is logged")
    log_json: bool = Field(default=False, description="Log one JSON object per line")
    metrics: bool = Field(default=True, description="Serve /metrics for Prometheus")
    otlp_endpoint: str = Field(
        default="", description="Where OpenTelemetry traces go: `http://collector:4318/v1/traces`; empty: nowhere"
    )

    @field_validator("allow", "deny", "outward_allow", "base_urls", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return mistakes.as_list(value)

    @field_validator("handlers", mode="before")
    @classmethod
    def _table(cls, value: Any) -> Any:
        return mistakes.as_table(value)

    @field_validator("allow", "deny")
    @classmethod
    def _destinations(cls, value: list[str], info: ValidationInfo) -> list[str]:
        name = info.field_name or ""
        try:
            return list(checked_entries(name, value))
        except ConfigurationError as wrong:
            raise ValueError(str(wrong).removeprefix(f"{name}: ")) from None

    @field_validator("outward_allow")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        return mistakes.check_networks(value)

    @field_validator("base_urls")
    @classmethod
    def _servers(cls, value: list[str]) -> list[str]:
        return [mistakes.check_web_address(url, "http://pbx.example.com:8088").rstrip("/") for url in value]

    @field_validator("database")
    @classmethod
    def _database(cls, value: str) -> str:
        return mistakes.check_database(value) if value else value

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        return mistakes.check_web_address(value, "https://voice.example.com").rstrip("/") if value else value

    @field_validator("otlp_endpoint")
    @classmethod
    def _collector(cls, value: str) -> str:
        return mistakes.check_web_address(value, "http://collector:4318/v1/traces") if value else value

    @field_validator("data_dir", "recordings_dir")
    @classmethod
    def _place(cls, value: Path | None) -> Path | None:
        try:
            return value.expanduser() if value is not None else None
        except RuntimeError:
            raise ValueError(f"{value} names a user that is not there") from None

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        # Anyone who reaches a sandbox can sign as the carrier: its keys are public.
        if self.sandbox and not self.is_local:
            raise ValueError(
                "the sandbox is for this machine only: leave host and public_url on loopback, or, where something else "
                "keeps others out (a container's port on loopback), say ANYCARRIER_LOCAL=true"
            )
        if self.admin_key is not None and len(self.admin_key.get_secret_value()) < SHORTEST_KEY and not self.is_local:
            raise ValueError(
                f"the admin key can be guessed: where others reach this service it has {SHORTEST_KEY} characters at "
                "least, like those that `python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        tables = [name for name, field in settings_cls.model_fields.items() if get_origin(field.annotation) is dict]
        mistakes.check_variables(os.environ, settings_cls.model_fields, tables)
        named = os.environ.get("ANYCARRIER_CONFIG")
        if named and not Path(named).exists():
            raise ConfigurationError(f"ANYCARRIER_CONFIG names {named}, and there is no such file")
        path = mistakes.read_file(Path(named or "anycarrier.toml"), settings_cls.model_fields)
        return init_settings, _Environment(settings_cls), TomlConfigSettingsSource(settings_cls, path)

    @property
    def database_url(self) -> str:
        """The database, the default spelled out."""
        return self.database or f"sqlite:///{self.data_dir / 'anycarrier.db'}"

    @property
    def origin(self) -> str:
        """The public URL, the default spelled out."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 compared, not bound
        return self.public_url or f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """True when clients may name addresses on this machine: said so, or only this machine reaches us anyway."""
        if self.local is not None:
            return self.local
        return _loopback(self.host) and _loopback(urlsplit(self.origin).hostname or "")

    @property
    def recordings(self) -> Path:
        """Where recordings are."""
        return self.recordings_dir or self.data_dir / "recordings"


def table() -> str:
    """Every setting as a Markdown table; docs/settings.md holds it and a test keeps it fresh."""
    rows = ["| setting | environment | default | what it does |", "| --- | --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{name}` | `ANYCARRIER_{name.upper()}` | {_shown(field.default)} | {field.description} |")
    return "\n".join(rows) + "\n"


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`{value}`"
    return f"`{value}`"


def page() -> str:
    """The whole of docs/settings.md."""
    return (
        "# Settings\n\n"
        "`anycarrier serve` needs none of these. Each can be given in the environment or, by its plain name, in\n"
        "`anycarrier.toml` (another file: `ANYCARRIER_CONFIG`); the environment wins. In the environment, a list is\n"
        "`ANYCARRIER_ALLOW=US,+4930` or JSON, a table `ANYCARRIER_HANDLERS=desk=my_agents:desk` or JSON. A name that\n"
        "is no setting is refused in both, with the near right one; so is a value that can do nothing. Times are\n"
        "seconds.\n\n"
        f"{table()}\n"
        "This page is generated: `python -m anycarrier_server.settings > docs/settings.md`.\n"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
