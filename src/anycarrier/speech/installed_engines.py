"""The speech engines that plugins bring: their names, their classes, and an engine opened with its settings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from anycarrier.errors import AnycarrierError, ConfigurationError, PluginError, UnknownSpeechEngine
from anycarrier.redaction import redact
from anycarrier.speech.engines import EngineSettings, SpeechEngine

_asked: tuple[list[Any], dict[str, type[SpeechEngine]]] = ([], {})
"""The hook implementations called last and their results, cached because every call looks up its engines."""


def _installed() -> dict[str, type[SpeechEngine]]:
    global _asked
    from anycarrier import plugins

    impls = plugins.host().manager.hook.anycarrier_speech_engines.get_hookimpls()
    if impls != _asked[0]:
        _asked = impls, _found(impls)
    return _asked[1]


def _found(impls: list[Any]) -> dict[str, type[SpeechEngine]]:
    found: dict[str, type[SpeechEngine]] = {}
    for impl in impls:
        classes: Any = impl.function()
        for engine in classes:
            if not (isinstance(engine, type) and issubclass(engine, SpeechEngine) and engine.name):
                raise PluginError(f"{impl.plugin_name} gave {engine!r}, which is not a SpeechEngine class with a name")
            other = found.setdefault(engine.name, engine)
            if other is not engine:
                raise PluginError(
                    f"speech engine {engine.name!r} is claimed by {other.__module__} and by {engine.__module__}. "
                    "Uninstall one of them, or choose with ANYCARRIER_PLUGINS"
                )
    return found


def speech_engine_names() -> list[str]:
    """Names of the installed engines."""
    return sorted(_installed())


def get_speech_engine(name: str) -> type[SpeechEngine]:
    """The engine class with that name; raises ``UnknownSpeechEngine``, which says what to install."""
    found = _installed()
    if name not in found:
        raise UnknownSpeechEngine(name, found)
    return found[name]


def _unknown(field: str, kind: type[EngineSettings]) -> str:
    near = difflib.get_close_matches(field, kind.model_fields, n=1, cutoff=0.7)
    return f"there is no setting {field!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _wrong(where: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, where))}: {message}".removeprefix(": ").replace("Value error, ", "")


def open_speech_engine(name: str, settings: Mapping[str, Any] | EngineSettings | None = None) -> SpeechEngine:
    """The engine with that name and these settings; raises ``ConfigurationError`` when the settings do not fit."""
    cls = get_speech_engine(name)
    if not isinstance(settings, EngineSettings):
        try:
            settings = cls.settings_type.model_validate(dict(settings or {}))
        except ValidationError as failure:
            wrong = "; ".join(
                _unknown(str(error["loc"][0]), cls.settings_type)
                if error["type"] == "extra_forbidden" and len(error["loc"]) == 1
                else _wrong(error["loc"], error["msg"])
                for error in failure.errors()
            )
            raise ConfigurationError(f"settings of speech engine {name!r} do not fit: {wrong}") from None
    if not isinstance(settings, cls.settings_type):
        raise ConfigurationError(f"speech engine {name!r} needs {cls.settings_type.__name__}")
    try:
        return cls(settings)
    except AnycarrierError:
        raise
    except Exception as failure:
        raise PluginError(
            f"speech engine {name!r} cannot be set up: {type(failure).__name__}: {redact(str(failure))}"
        ) from failure
