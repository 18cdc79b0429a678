"""``anycarrier new-provider``: a carrier plugin's folder, with a working media example and the rest left to fill in."""

from __future__ import annotations

import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from anycarrier.errors import ConfigurationError

NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "src/$package/__init__.py": "provider.py",
    "tests/test_$module.py": "test_provider.py",
    "tests/cassettes/webhooks/incoming.json": "incoming.json",
    "tests/cassettes/webhooks/unknown.json": "unknown.json",
    "tests/cassettes/streams/conversation.jsonl": "conversation.jsonl",
}
CALL = '{"id":"call_1","from":"+14155550100","to":"+14155550123","status":"queued"}'
EXCHANGES = {
    "search_numbers": ("GET", "numbers?country=US&area_code=415", "", '{"numbers":[{"number":"+14155550177"}]}'),
    "dial": ("POST", "calls", '{"from":"+14155550100","to":"+14155550123"}', CALL),
    "hang_up": ("DELETE", "calls?id=call_1_0123456789", "", "{}"),
    "hang_up_ended": ("DELETE", "calls?id=call_1_0123456789", "", "{}"),
}


def new_provider(name: str, folder: Path) -> list[Path]:
    """Write the plugin project into ``folder``; gives the files. ``ConfigurationError`` for a bad name or full folder.

    Its conformance run passes all but the parts left to fill in, and says which those are.
    """
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name for a provider: lower case letters, digits, - and _, like acme")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty: choose another folder, or empty it")
    module = name.replace("-", "_")
    words = {
        "name": name,
        "module": module,
        "package": f"anycarrier_{module}",
        "camel": "".join(word.capitalize() for word in module.split("_")),
        "title": " ".join(word.capitalize() for word in module.split("_")),
        "version": ".".join(version("anycarrier").split(".")[:2]),
        "next_major": str(int(version("anycarrier").split(".")[0]) + 1),
    }
    written = {Template(path).substitute(words): _filled(source, words) for path, source in FILES.items()}
    written[f"src/anycarrier_{module}/py.typed"] = ""
    for operation, (method, path, asked, answer) in EXCHANGES.items():
        facts = {**words, "method": method, "path": path, "asked": asked, "answer": answer}
        written[f"tests/cassettes/rest/{operation}.yaml"] = _filled("exchange.yaml", facts)
    for path, text in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    return [folder / path for path in sorted(written)]


def _filled(source: str, words: dict[str, str]) -> str:
    template = files("anycarrier.testing").joinpath("template", f"{source}.txt").read_text("utf-8")
    return Template(template).substitute(words)
