"""docs/write-a-provider.md shows the files that are tested, whole and in order, and all hooks with their arguments."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from anycarrier import hookspecs
from docs.blocks import Block, blocks

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "write-a-provider.md"
ACME = ROOT / "docs" / "examples" / "anycarrier-acme"


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_the_pages_blocks_are_acmes_provider_from_first_line_to_last() -> None:
    source = (ACME / "src" / "anycarrier_acme" / "__init__.py").read_text()
    test = (ACME / "tests" / "test_acme.py").read_text()
    shown = [block.text for block in shown_above(True)]
    assert lines(test) in [lines(text) for text in shown]
    assert [line for text in shown if lines(text) != lines(test) for line in lines(text)] == lines(source)


def shown_above(above: bool) -> list[Block]:
    """The Python blocks above, or below, where carriers with sockets of their own begin."""
    begins = PAGE.read_text().splitlines().index("## A carrier with sockets of its own")
    found = [block for block in blocks(PAGE) if block.language == "python" and block.shown]
    return [block for block in found if (block.line <= begins) is above]


def test_the_blocks_about_sockets_are_acme_directs_module_and_its_test() -> None:
    source = (ACME / "src" / "anycarrier_acme" / "direct.py").read_text()
    *parts, test = [block.text for block in shown_above(False)]
    assert [line for part in parts for line in lines(part)] == lines(source)
    assert "\n".join(lines(test)) in "\n".join(lines((HERE / "test_listener_example.py").read_text()))
    assert len(lines(source)) < 120
    assert f"{len(lines(source))} lines without the blank ones" in PAGE.read_text()


def test_the_provider_is_as_short_as_the_page_says() -> None:
    length = len((ACME / "src" / "anycarrier_acme" / "__init__.py").read_text().splitlines())
    assert length < 225  # plain code, a whole carrier, read in one sitting
    assert f"part by part: {length} lines" in PAGE.read_text()


def test_the_pyproject_shown_is_acmes() -> None:
    shown = [block.text.strip() for block in blocks(PAGE) if block.language == "toml"]
    assert shown == [(ACME / "pyproject.toml").read_text().strip()]


def test_every_hook_is_documented_with_its_arguments_and_purpose() -> None:
    told = {
        name: (re.findall(r"\w+", arguments), purpose)
        for name, arguments, purpose in re.findall(
            r"^\| `(anycarrier_\w+)\((.*?)\)` \| (.*) \|$", PAGE.read_text(), re.M)
    }
    real = {
        name: (list(inspect.signature(hook).parameters), inspect.getdoc(hook))
        for name, hook in vars(hookspecs).items()
        if name.startswith("anycarrier_")
    }
    assert told == real
