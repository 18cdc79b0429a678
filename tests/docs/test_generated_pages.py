"""Pages made from the code are what the code says. ``./dev test tests/docs --write-docs`` makes them again."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import linecard
from linecard.matrix import matrix
from linecard.plugins import broken_plugins, get_provider, provider_names

DOCS = Path(__file__).resolve().parents[2] / "docs"

NOT_CLASSES = {
    "CONTRACT": "Version of the provider contract this linecard speaks",
    "hookimpl": "Marks a plugin's hook, for pluggy",
    "hookspec": "Marks what a hook is, for pluggy",
    "MediaEvent": "Any of the events on a media stream",
    "PCMA_8K": "A-law, 8,000 samples a second",
    "PCMU_8K": "mu-law, 8,000 samples a second: the common format of telephony",
    "PhoneNumber": "An E.164 string, checked by pydantic where a model takes one",
}

HEAD = """\
# Public names

Everything `linecard` exports, made from the code; do not edit. Only what is documented is public. A plugin may build
on these names and on the modules they come from that `tests/test_house_rules.py` lists as public.

| name | module | what it is |
| --- | --- | --- |
"""


def capabilities() -> str:
    assert not broken_plugins()
    return matrix(get_provider(name) for name in provider_names())


def reference() -> str:
    rows = []
    for name in sorted(linecard.__all__, key=str.lower):
        value = getattr(linecard, name)
        if name in NOT_CLASSES:
            rows.append(f"| `{name}` | | {NOT_CLASSES[name]}. |\n")
            continue
        sentence = re.split(r"(?<!e\.g)\. ", " ".join((inspect.getdoc(value) or "").split()))[0].rstrip(".")
        assert sentence, f"{name} has no docstring"
        rows.append(f"| `{name}` | `{value.__module__}` | {sentence.replace('``', '`')}. |\n")
    return HEAD + "".join(rows)


@pytest.mark.parametrize("page", [capabilities, reference], ids=lambda page: page.__name__)
def test_the_page_is_what_the_code_says(page: Callable[[], str], request: pytest.FixtureRequest) -> None:
    file = DOCS / f"{page.__name__}.md"
    if request.config.getoption("write_docs"):
        file.write_text(page())
    assert file.exists() and file.read_text() == page(), f"{file.name} is stale: ./dev test tests/docs --write-docs"
