"""From a carrier's name to its sandbox, imported only now."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from anycarrier.errors import ConfigurationError
from anycarrier.plugins import get_provider
from anycarrier.testing.sandbox import Sandbox


def sandbox_type(carrier: str) -> type[Sandbox]:
    """The sandbox the carrier's plugin ships; ``ConfigurationError`` when it ships none."""
    module, _, name = get_provider(carrier).sandbox.partition(":")
    if not name:
        raise ConfigurationError(f"provider {carrier!r} ships no sandbox: it names none in Provider.sandbox")
    return cast(type[Sandbox], getattr(import_module(module), name))
