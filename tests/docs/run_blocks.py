"""Run a page's blocks: Python in one namespace, and the commands of a console; and which environment a page is for."""

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
from frameworks.environments import discover

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "contrib/twilio-front/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = {"python", "py"}
CONSOLE = {"console"}
NOT_RUN = ("test", "check", "version", "frameworks", "demo frameworks", "directory")
"""Words of ``./dev`` that would take as long as the tests themselves, or change the checkout."""


def framework_of(page: Path) -> str:
    """Whose environment a page's blocks need: ``docs/frameworks/pipecat.md`` -> pipecat; "" for the ordinary one."""
    names = {ROOT / "docs/frameworks" / f"{name}.md": name for name in discover()}
    folders = {ROOT / folder / name: name for name in discover() for folder in ("docs/examples", "contrib")}
    return names.get(page, "") or next((folders[each] for each in page.parents if each in folders), "")


def pages_for(framework: str) -> list[Path]:
    """The pages whose blocks run in its environment, its README among them, or with "" in the ordinary one."""
    own = [ROOT / "contrib" / framework / "README.md"] if framework else []
    return [page for page in (*PAGES, *own) if framework_of(page) == framework]


def blocks_in(page: Path, languages: set[str]) -> list[Block]:
    """Those of a page that are run."""
    return [block for block in blocks(page) if block.language in languages and not block.shown]


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
        if words[0] not in ("anycarrier", "./dev") or " ".join(words[1:]).startswith(NOT_RUN):
            pytest.fail(f"{block.page.name}:{block.line}: not run here: mark the block <!-- shown -->: {command}")
        words[0] = str(ROOT / "dev") if words[0] == "./dev" else words[0]
        run = subprocess.run(words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
        assert run.returncode == 0, f"{command}: exit {run.returncode}\n{run.stdout}{run.stderr}"
        came = [line.strip() for line in run.stdout.splitlines()]
        missing = [line for line in expected if line not in (*came, "...")]
        assert not missing, f"{command} did not print {missing}, but:\n{run.stdout}"
