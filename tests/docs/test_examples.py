"""Every example in the docs runs.

Python blocks of a page run one after another in one namespace and one event loop, `await` allowed. Console blocks
run when each command is `anycarrier` or `./dev`; a line of output that is printed there must come. A block after
`<!-- shown -->` is not run here; any other command without that mark is a failure, so that none goes unrun unnoticed.
The README's app, and the quickstart's file, are run by test_written_pages.py. The page of a framework that has an
environment of its own is run there, by tests/frameworks/test_every_adapter.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from docs.blocks import Block, blocks
from docs.run_blocks import CONSOLE, PAGES, PYTHON, ROOT, blocks_in, framework_of, pages_for, run_console, run_python
from frameworks.environments import discover

MISNAMED = {"sh", "bash", "shell", "pycon", "python3"}  # would not be run here: say console or python, or mark as shown


def pages_with(languages: set[str]) -> list[Any]:
    found = [(page, blocks_in(page, languages)) for page in pages_for("")]
    return [pytest.param(own, id=page.relative_to(ROOT).as_posix()) for page, own in found if own]


@pytest.mark.parametrize("page", pages_with(PYTHON))
def test_python_examples_run(page: list[Block], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_python(page)


@pytest.mark.parametrize("page", pages_with(CONSOLE))
def test_console_examples_run(page: list[Block], tmp_path: Path) -> None:
    for block in page:
        run_console(block, tmp_path)


def test_no_example_escapes_by_its_language() -> None:
    escaped = [block for page in PAGES for block in blocks(page) if block.language in MISNAMED and not block.shown]
    assert [f"{block.page.name}:{block.line}: {block.language}" for block in escaped] == []


def test_each_page_is_run_in_one_environment() -> None:
    everywhere = [page for name in ("", *discover()) for page in pages_for(name)]
    assert len(everywhere) == len({*everywhere})
    assert {*PAGES} <= {*everywhere}
    assert {page.name for page in everywhere} >= {"README.md", "quickstart.md"}


def test_the_page_of_a_framework_is_run_in_its_environment() -> None:
    name = next(iter(discover()))
    pages = [f"docs/frameworks/{name}.md", f"docs/examples/{name}/README.md", f"contrib/{name}/README.md"]
    assert [framework_of(ROOT / page) for page in pages] == [name] * 3
    assert [framework_of(ROOT / page) for page in ("docs/frameworks.md", "docs/frameworks/others.md")] == ["", ""]


def test_a_failing_example_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nimport asyncio\nx = 1\n```\n\n```python\nawait asyncio.sleep(0)\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as failure:
        run_python(blocks(page))
    assert failure.traceback[-1].lineno + 1 == 8  # the page's own line


@pytest.mark.parametrize(
    "text",
    ["$ anycarrier no-such-word", "$ curl example.com", "$ ./dev version 9", "$ ./dev demo frameworks",
     "$ anycarrier --version\nfoo 99"],
)  # fmt: skip
def test_a_failing_command_is_noticed(text: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_console(Block(tmp_path / "page.md", 1, "console", text + "\n"), tmp_path)


def test_a_block_is_only_shown_when_the_line_before_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- shown -->\n```console\n$ pip install x\n```\n\n```console\n$ anycarrier\n```\n")
    assert [block.shown for block in blocks(page)] == [True, False]
