"""``./dev``, the front door: which Python it takes, when it sets up, and that it passes everything on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STUB = """#!/bin/sh
# Plays the environment's Python: writes down how it was called.
echo "$PWD: $*" >>"{log}"
case "$*" in *"import sys, venv"*) exit {usable} ;; esac
"""


class Checkout:
    """A copy of what ./dev looks at, with a Python that only takes notes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder / "a check out", folder / "log"
        self.folder.mkdir()
        for name in ("dev", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder)
        self.log.touch()
        self.stub(self.folder / ".venv" / "bin" / "python")

    def stub(self, path: Path, usable: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STUB.format(log=self.log, usable=usable))
        path.chmod(0o755)
        return path

    def dev(self, *words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ANYCARRIER_")}
        self.log.write_text("")
        return subprocess.run(
            [str(self.folder / "dev"), *words], cwd=cwd, env={**clean, **environment}, capture_output=True, text=True
        )

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_it_sets_up_once_and_then_gets_out_of_the_way(checkout: Checkout) -> None:
    first = checkout.dev("test")
    assert [line[:5] for line in first.stderr.splitlines()] == ["[1/3]", "[2/3]", "[3/3]", "ready"]
    second = checkout.dev("test")
    assert second.stderr == ""
    assert len(checkout.calls()) == 1


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt", "providers/new/pyproject.toml"])
def test_it_sets_up_again_when_a_pyproject_or_a_pin_changes(checkout: Checkout, changed: str) -> None:
    checkout.dev("test")
    (checkout.folder / changed).parent.mkdir(parents=True, exist_ok=True)
    with (checkout.folder / changed).open("a") as file:
        file.write("# changed\n")
    assert "[3/3]" in checkout.dev("test").stderr


def test_an_interrupted_set_up_is_begun_again(checkout: Checkout) -> None:
    broken = checkout.folder / ".venv" / "bin" / "python"
    broken.write_text(broken.read_text() + 'case "$*" in *editable*) exit 1 ;; esac\n')
    assert checkout.dev("test").returncode == 1
    checkout.stub(broken)
    assert "[3/3]" in checkout.dev("test").stderr


def test_arguments_reach_pytest_whole_from_any_folder(checkout: Checkout, tmp_path: Path) -> None:
    checkout.dev("test", cwd=tmp_path)
    checkout.dev("test", "-k", "a ticket", cwd=tmp_path)
    assert checkout.calls() == [f"{checkout.folder}: -m pytest -n 4 --dist loadfile --no-loadscope-reorder -k a ticket"]


def test_the_whole_suite_runs_side_by_side_and_a_named_part_does_not(checkout: Checkout, tmp_path: Path) -> None:
    checkout.dev("test", cwd=tmp_path)
    checkout.dev("test", "-x", "constraints.txt", cwd=tmp_path)
    assert checkout.calls() == [f"{checkout.folder}: -m pytest -x constraints.txt"]


def test_a_carrier_is_its_tests_its_pages_and_the_whole_suites_scenarios_on_it(checkout: Checkout) -> None:
    checkout.dev("test", "providers/brook/", "-x", "-k", "a b")
    (ran,) = checkout.calls()[-1:]
    assert ran.endswith(
        "-m pytest -n 4 --dist worksteal tests/providers/brook tests/whole tests/docs/test_carrier_pages.py "
        "tests/docs/test_directory.py --carrier brook -x -k a b"
    )


def test_anycarrier_runs_where_the_user_stands(checkout: Checkout, tmp_path: Path) -> None:
    checkout.stub(checkout.folder / ".venv" / "bin" / "anycarrier")
    checkout.dev("anycarrier", "providers", cwd=tmp_path)
    assert checkout.calls()[-1] == f"{tmp_path}: providers"


def test_a_shim_that_leads_nowhere_is_passed_over(checkout: Checkout, tmp_path: Path) -> None:
    shutil.rmtree(checkout.folder / ".venv")
    shim = checkout.stub(tmp_path / "bin" / "python3.13", usable=127)
    refused = checkout.dev("test", ANYCARRIER_PYTHON=str(shim))
    assert refused.returncode == 1
    assert "needs Python 3.11 or later" in refused.stderr
    taken = checkout.dev("test", ANYCARRIER_PYTHON=f"{shim} {sys.executable}", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert f"with Python {sys.version.split()[0]}" in taken.stderr


def test_an_unknown_word_is_refused_with_the_words() -> None:
    run = subprocess.run([str(ROOT / "dev"), "tset"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "'tset'" in run.stderr and "bench" in run.stderr


def test_a_carriers_run_has_its_own_tests_and_the_scenarios_on_it() -> None:
    files = ["tests/whole/test_sockets.py", "tests/providers/telnyx/test_plugin.py", "tests/providers/sip/test_rtp.py"]
    words = ["--collect-only", "-p", "no:cacheprovider", "-n", "0", "--carrier", "telnyx"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *files],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [line for line in run.stdout.splitlines() if "::" in line]
    assert {line.partition("::")[0] for line in found} == {*files[:2]}
    assert all("[telnyx" in line for line in found if line.startswith(files[0]))
