"""``anycarrier new-provider`` and ``new-engine``: a plugin's folder, part of it working, the rest left to write."""

from __future__ import annotations

import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from anycarrier.errors import ConfigurationError

NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")

PROVIDER = {
    "pyproject.toml": "provider/pyproject.toml",
    "README.md": "provider/README.md",
    "src/$package/__init__.py": "provider/provider.py",
    "tests/test_$module.py": "provider/test_provider.py",
    "tests/cassettes/webhooks/incoming.json": "provider/incoming.json",
    "tests/cassettes/webhooks/unknown.json": "provider/unknown.json",
    "tests/cassettes/streams/conversation.jsonl": "provider/conversation.jsonl",
}
ENGINE = {
    "pyproject.toml": "engine/pyproject.toml",
    "README.md": "engine/README.md",
    "src/$package/__init__.py": "engine/engine.py",
    "tests/test_$module.py": "engine/test_engine.py",
}
"""Path in the new folder -> template, for each kind of plugin."""

CALL = '{"id":"call_1","from":"+14155550100","to":"+14155550123","status":"queued"}'
EXCHANGES = {
    "search_numbers": ("GET", "numbers?country=US&area_code=415", "", '{"numbers":[{"number":"+14155550177"}]}'),
    "dial": ("POST", "calls", '{"from":"+14155550100","to":"+14155550123"}', CALL),
    "hang_up": ("DELETE", "calls?id=call_1_0123456789", "", "{}"),
    "hang_up_ended": ("DELETE", "calls?id=call_1_0123456789", "", "{}"),
}
"""The invented cassettes of a provider: operation -> method, path, body, answer."""


def new_provider(name: str, folder: Path) -> list[Path]:
    """Write a carrier plugin into ``folder``; gives the files. ``ConfigurationError`` for a bad name or full folder."""
    words = _words(name, folder, "provider", "anycarrier_{}")
    written = {Template(path).substitute(words): _filled(source, words) for path, source in PROVIDER.items()}
    for operation, (method, path, asked, answer) in EXCHANGES.items():
        facts = {**words, "method": method, "path": path, "asked": asked, "answer": answer}
        written[f"tests/cassettes/rest/{operation}.yaml"] = _filled("provider/exchange.yaml", facts)
    return _write(folder, words, written)


def new_engine(name: str, folder: Path) -> list[Path]:
    """Write a speech engine plugin into ``folder``; gives the files. ``ConfigurationError`` as above."""
    words = _words(name, folder, "speech engine", "anycarrier_speech_{}")
    written = {Template(path).substitute(words): _filled(source, words) for path, source in ENGINE.items()}
    return _write(folder, words, written)


def _words(name: str, folder: Path, kind: str, package: str) -> dict[str, str]:
    """What the templates call the plugin, once its name and folder have been found good."""
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name for a {kind}: lower case letters, digits, - and _, like acme")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty: choose another folder, or empty it")
    module = name.replace("-", "_")
    return {
        "name": name,
        "module": module,
        "package": package.format(module),
        "camel": "".join(word.capitalize() for word in module.split("_")),
        "title": " ".join(word.capitalize() for word in module.split("_")),
        "version": ".".join(version("anycarrier").split(".")[:2]),
        "next_major": str(int(version("anycarrier").split(".")[0]) + 1),
    }


def _write(folder: Path, words: dict[str, str], written: dict[str, str]) -> list[Path]:
    written[f"src/{words['package']}/py.typed"] = ""
    for path, text in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    return [folder / path for path in sorted(written)]


def _filled(source: str, words: dict[str, str]) -> str:
    template = files("anycarrier.testing").joinpath("template", f"{source}.txt").read_text("utf-8")
    return Template(template).substitute(words)
