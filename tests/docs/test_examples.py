"""Every example in the docs runs.

Python blocks of a page run one after another in one namespace and one event loop, `await` allowed. Console blocks
run when each command is `anycarrier` or `./dev`; a line of output that is printed there must come. A block after
`<!-- shown -->` is not run here; any other command without that mark is a failure, so that none goes unrun unnoticed.
The README's app, and the quickstart's file, are run by test_written_pages.py.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import linecache
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.blocks import Block, blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = {"python", "py"}
CONSOLE = {"console"}
NOT_RUN = ("test", "check", "version")
"""Words of ``./dev`` that would take as long as the tests themselves, or change the checkout."""
MISNAMED = {"sh", "bash", "shell", "pycon", "python3"}  # would not be run here: say console or python, or mark as shown


def run_python(page: list[Block]) -> dict[str, Any]:
    """Run a page's blocks in order; tracebacks show the page's own lines."""
    names: dict[str, Any] = {"__name__": "__docs__"}
    with asyncio.Runner() as runner:
        for block in page:
            text = "\n" * block.line + block.text
            name = str(block.page)
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
            code = compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            outcome = eval(code, names)
            if inspect.iscoroutine(outcome):
                runner.run(outcome)
    return names


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the output printed under it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and line.strip():
            found[-1][1].append(line.strip())
    return found


def run_console(block: Block, folder: Path) -> None:
    """Run its commands in ``folder``; ``./dev`` is the checkout's. `...` stands for output left out."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    for command, expected in commands(block):
        words = shlex.split(command, comments=True)
        if words[0] not in ("anycarrier", "./dev") or words[:2] in [["./dev", word] for word in NOT_RUN]:
            pytest.fail(f"{block.page.name}:{block.line}: not run here: mark the block <!-- shown -->: {command}")
        words[0] = str(ROOT / "dev") if words[0] == "./dev" else words[0]
        run = subprocess.run(words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
        assert run.returncode == 0, f"{command}: exit {run.returncode}\n{run.stdout}{run.stderr}"
        came = [line.strip() for line in run.stdout.splitlines()]
        missing = [line for line in expected if line not in (*came, "...")]
        assert not missing, f"{command} did not print {missing}, but:\n{run.stdout}"


def pages_with(languages: set[str]) -> list[Any]:
    found = []
    for page in PAGES:
        own = [block for block in blocks(page) if block.language in languages and not block.shown]
        found += [pytest.param(own, id=page.relative_to(ROOT).as_posix())] if own else []
    return found


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


def test_a_failing_example_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nimport asyncio\nx = 1\n```\n\n```python\nawait asyncio.sleep(0)\nassert x == 2\n```\n")
    with pytest.raises(AssertionError) as failure:
        run_python(blocks(page))
    assert failure.traceback[-1].lineno + 1 == 8  # the page's own line


@pytest.mark.parametrize(
    "text", ["$ anycarrier no-such-word", "$ curl example.com", "$ ./dev version 9", "$ anycarrier --version\nfoo 99"]
)
def test_a_failing_command_is_noticed(text: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_console(Block(tmp_path / "page.md", 1, "console", text + "\n"), tmp_path)


def test_a_block_is_only_shown_when_the_line_before_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- shown -->\n```console\n$ pip install x\n```\n\n```console\n$ anycarrier\n```\n")
    assert [block.shown for block in blocks(page)] == [True, False]
