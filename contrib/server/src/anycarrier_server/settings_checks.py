"""Complaints about settings, in the operator's own words: the name as it was written, and the nearest right one.

A setting that is misspelt or can have no effect is refused at the start. It would go unnoticed otherwise, and a
``deny`` that denies nothing lets calls out.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from anycarrier.errors import ConfigurationError
from anycarrier.plugins import provider_names

PREFIX = "ANYCARRIER_"

OTHER_VARIABLES = frozenset({"CONFIG", "URL", "KEY", "PLUGINS", "SECRET", "SHARED", "CI", "PYTHON", "VENV"})
"""Environment variables that are no settings: where the settings file and the server are, the client's key, plugins,
the secret of the examples, and what ``./dev`` takes."""

FOREIGN_VARIABLES = re.compile(r"(LIVE|TEST)_.*|SERVICE_(HOST|PORT)(_.*)?|PORT_[0-9]+_(TCP|UDP)(_.*)?")
"""Live tests' accounts, and what Kubernetes sets in every container beside a Service of our name."""

DATABASE = "use sqlite:///file or postgresql://user:password@host/name"


def check_variables(environment: Iterable[str], settings: Iterable[str], tables: Iterable[str]) -> None:
    """``ConfigurationError`` for a variable with our prefix that is neither a setting nor known otherwise.

    ``tables`` are the settings that are set name by name too: ``ANYCARRIER_TABLE__NAME``.
    """
    names = [name.upper() for name in settings]
    within = tuple(f"{name.upper()}__" for name in tables)
    for variable in sorted(environment):
        name = variable.upper().removeprefix(PREFIX)
        if name == variable.upper() or name in OTHER_VARIABLES or FOREIGN_VARIABLES.fullmatch(name):
            continue
        if name not in names and not name.startswith(within):
            first, apart, inside = name.partition("__")
            whole = sorted((one for one in names if first.startswith(f"{one}_")), key=len)  # DATABASE_URL: DATABASE
            near = whole[-1:] or get_close_matches(first, [*names, *OTHER_VARIABLES], 1, 0.75)
            if first in names:  # a single value
                apart = inside = ""
            carrier, _, setting = first.partition("_")
            if not near and carrier.lower() in provider_names():  # SIP_LISTEN: CARRIERS__SIP__LISTEN
                near, apart, inside = ["CARRIERS__"], f"{carrier}__", setting
            raise unknown(variable, f"{PREFIX}{near[0]}{apart}{inside}" if near else None, "unset it")


def unknown(name: str, near: str | None, otherwise: str) -> ConfigurationError:
    """No setting is called that."""
    hint = f"did you mean {near}?" if near else f"{otherwise}."
    return ConfigurationError(f"no setting is called {name}: {hint} docs/settings.md lists all settings")


def read_file(path: Path, settings: Iterable[str]) -> Path:
    """``path`` when it holds TOML with names of settings, or is not there, else ``ConfigurationError``."""
    try:
        held = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        return path
    except IsADirectoryError:
        raise ConfigurationError(f"{path} is a folder, and the settings file is wanted: rename it") from None
    except OSError as problem:
        raise ConfigurationError(f"the settings file {path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as wrong:
        raise ConfigurationError(
            f"the settings file {path} is not UTF-8 (byte {wrong.start + 1}): save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as wrong:
        raise ConfigurationError(f"the settings file {path} is not TOML: {wrong}") from None
    known = list(settings)
    for name in sorted(set(held) - set(known)):
        near = get_close_matches(name.lower(), known, 1, 0.75)
        raise unknown(f"{name} (in {path})", near[0] if near else None, "leave it out")
    return path


def as_list(value: Any) -> Any:
    """A list as people write it in one variable: ``US,+4930``, or JSON. What is no text is passed on."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [entry.strip() for entry in value.split(",") if entry.strip()]
    try:
        read = json.loads(value)
    except ValueError:
        read = None
    if not isinstance(read, list) or not all(isinstance(entry, str) for entry in read):
        raise ValueError('this is no list: write US,+4930 or, as JSON, ["US", "+4930"]')
    return read


def as_table(value: Any) -> Any:
    """Names and values as people write them in one variable: ``name=value,other=value``, or JSON."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("{"):
        pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
        if all(equals and name.strip() and text.strip() for name, equals, text in pairs):
            return {name.strip(): text.strip() for name, _, text in pairs}
    else:
        try:
            return json.loads(value)
        except ValueError:
            pass
    raise ValueError('this is no table: write name=value,other=value or, as JSON, {"name": "value"}')


def check_database(url: str) -> str:
    """``url`` unchanged when it can be read; its parts are not shown, one may be a password."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        raise ValueError(f"the database URL cannot be read: {DATABASE}")
    backend = scheme.partition("+")[0]
    if backend == "sqlite":
        return url
    if backend not in ("postgresql", "postgres"):
        raise ValueError(f"the database URL is for {backend!r}; {DATABASE}")
    host = rest.partition("?")[0].partition("/")[0].rpartition("@")[2]
    port = host.rpartition("]")[2].partition(":")
    if port[1] and not (port[2].isascii() and port[2].isdigit() and 0 < int(port[2]) < 65536):
        raise ValueError(
            "the database URL's port is not a number from 1 to 65535. In a password, write @ as %40, / as %2F, : as %3A"
        )
    return url


def check_web_address(url: str, example: str) -> str:
    """``url`` unchanged when it is an http(s) URL with a host and without user, query or fragment."""
    problem = None
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            problem = "it must start with https:// (or http:// on this machine) and name a host"
        elif parts.username is not None or parts.password is not None:
            problem = "it must not hold a user or password, which everybody who gets a link would see"
        elif parts.query or parts.fragment or not url.isprintable() or " " in url:
            problem = "it must not hold a query, a fragment or spaces"
        elif parts.port == 0:
            problem = "its port is not a number from 1 to 65535"
    except ValueError:  # of the host in brackets, or of the port
        problem = "its host or port cannot be read"
    if problem is not None:
        raise ValueError(f"{problem}. Write it like {example}")
    return url


def check_networks(entries: list[str]) -> list[str]:
    """``entries`` unchanged when each is a network like ``10.1.0.0/16``."""
    for entry in entries:
        try:
            ip_network(entry)
        except ValueError:
            raise ValueError(f"{entry!r} is not a network: {_near_network(entry)}") from None
    return entries


def _near_network(entry: str) -> str:
    try:
        return f"did you mean {str(ip_network(entry.strip(), strict=False))!r}?"
    except ValueError:
        return "write it like 10.1.0.0/16"


# --- pydantic's complaints in plain words ----------------------------------------------------------------------------

_WORDS = {
    "int_": "must be a whole number", "float_": "must be a number", "finite_number": "must be a finite number",
    "bool_": "must be true or false", "list_": "must be a list", "dict_": "must be a table",
    "string_type": "must be text", "path_": "must be a path", "missing": "is missing",
}  # fmt: skip


def in_words(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors without pydantic's words; ``error`` is an item of ``ValidationError.errors()``."""
    kind, limits = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        return f"must be one of {str(limits.get('pattern', '')).strip('^$()').replace('|', ', ')}"
    for word, told in (("ge", "or more"), ("le", "or less")):
        if word in limits:
            return f"must be {limits[word]:g} {told}"
    for word, told in (("gt", "more"), ("lt", "less")):
        if word in limits:
            return f"must be {told} than {limits[word]:g}"
    return next((told for start, told in _WORDS.items() if kind.startswith(start)), str(error["msg"]).lower())
