"""Which server, and with which key: the command line, the environment, then what is known on this machine.

The server's settings are read only when something is missing, and only where the server is installed at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from anycarrier.errors import ConfigurationError

if TYPE_CHECKING:
    from anycarrier_server.settings import Settings

DEFAULT = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Address:
    """An origin like ``https://voice.example.com`` and the key to it, None when there is none."""

    url: str
    key: str | None = field(repr=False)


def find_address(url: str | None = None, key: str | None = None) -> Address:
    """``url`` and ``key`` are what the command line said. ``ConfigurationError`` for an unfit URL or key.

    The local server's admin key is offered to the local server only, never to one that was named.
    """
    named = url or os.environ.get("ANYCARRIER_URL")
    key = key or os.environ.get("ANYCARRIER_KEY")
    if key and not (key.isascii() and key.isprintable()):
        raise ConfigurationError("the key holds characters that no key has: copy it again, without a line break")
    if named and key:
        return Address(checked(named), key)
    settings = local_settings()
    ours = local_url(settings)
    if key is None and (not named or named.rstrip("/") == ours):
        key = local_key(settings)
    return Address(checked(named or ours), key)


def checked(url: str) -> str:
    """The origin, without a last slash. A key travels with every request, so plain HTTP is for this machine only."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigurationError("the server's URL must be like https://voice.example.com: scheme, host, maybe a port")
    if parts.scheme == "http" and not _here(parts.hostname):
        raise ConfigurationError(f"{parts.hostname} must be asked over https: the key would travel in the open")
    return url.rstrip("/")


def local_settings() -> Settings | None:
    """The settings a server started here would have; None where the server is not installed."""
    if find_spec("pydantic_settings") is None:
        return None
    from anycarrier_server.cli.this_machine import own_settings

    return own_settings()


def local_url(settings: Settings | None) -> str:
    """Where that server listens; spoken to directly, not through its public URL."""
    if settings is None or not settings.port:
        return DEFAULT
    host = "127.0.0.1" if settings.host in ("", "0.0.0.0", "::") else settings.host  # noqa: S104 compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def local_key(settings: Settings | None) -> str | None:
    """That server's admin key, where its settings fix one."""
    return settings.admin_key.get_secret_value() if settings is not None and settings.admin_key is not None else None


def on_this_machine(url: str) -> bool:
    """True for a loopback address: no proxy stands between."""
    return _here(urlsplit(url).hostname or "")


def _here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
