"""What holds for each adapter alike, whichever framework this environment has."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs.run_blocks import CONSOLE, PYTHON, ROOT, blocks_in, pages_for, run_console, run_python
from frameworks.environments import Framework, discover

HERE = [framework for framework in discover().values() if not framework.missing()]
each = pytest.mark.parametrize("framework", HERE, ids=lambda framework: framework.name)

PRINT_TOP_LEVEL = """
import pkgutil, importlib, sys
import anycarrier
for found in pkgutil.walk_packages(anycarrier.__path__, "anycarrier."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def brought_by(framework: Framework) -> set[str]:
    """The packages of what it requires and the core does not: ``{"pipecat"}``."""
    core = {canonicalize_name(Requirement(each).name) for each in metadata.requires("anycarrier") or ()}
    wanted = {canonicalize_name(Requirement(each).name) for each in framework.requires} - core
    packages = metadata.packages_distributions().items()
    return {package for package, owners in packages if wanted & {canonicalize_name(each) for each in owners}}


@each
def test_the_installed_versions_are_in_the_window_of_its_wheel(framework: Framework) -> None:
    outside = [f"{needs} but {version}" for needs in map(Requirement, framework.requires)
               if not needs.specifier.contains(version := metadata.version(needs.name), prereleases=True)]  # fmt: skip
    assert framework.requires and outside == []


@each
def test_the_library_imports_nothing_of_the_framework(framework: Framework) -> None:
    """Not even with all its modules imported, in an environment where the framework could be."""
    ours = brought_by(framework)
    run = subprocess.run([sys.executable, "-c", PRINT_TOP_LEVEL], capture_output=True, text=True, check=True)
    assert ours and ours & set(run.stdout.split()) == set()


@each
def test_the_adapter_imports_without_a_warning_of_its_own(framework: Framework) -> None:
    own = ["-W", f"error:::{framework.module}"]
    subprocess.run([sys.executable, *own, "-c", f"import {framework.module}"], check=True)


def pages() -> list[object]:
    found = [page for framework in HERE for page in pages_for(framework.name)]
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in found]


@pytest.mark.parametrize("page", pages())
def test_the_examples_of_its_pages_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for package in {name for framework in HERE for name in brought_by(framework)}:  # as it is imported: its own affair
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=rf"{re.escape(package)}(\.|$)")
    run_python(blocks_in(page, PYTHON))
    for block in blocks_in(page, CONSOLE):
        run_console(block, tmp_path)


@each
def test_it_has_a_page_with_an_example_that_runs(framework: Framework) -> None:
    assert [block for page in pages_for(framework.name) for block in blocks_in(page, PYTHON)]
