"""``./dev frameworks``: whose environments it makes, when the newest versions are tried, and who is told to use it."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from frameworks import __main__ as command
from frameworks import demo, environments
from frameworks.environments import ROOT, Environment, Framework, Refused, canonical, discover, name_of

OWN = [*discover().values()]

PYPROJECT = """
[project]
name = "anycarrier-big"
dependencies = ["anycarrier>=0.1,<1", "big-frame[all]>=1.2,<2"]
[tool.anycarrier]
environment = "own"
"""


@pytest.fixture
def big(tmp_path: Path) -> Framework:
    """A distribution for a framework, among two that need no environment of their own."""
    for name, text in {"big": PYPROJECT, "small": PYPROJECT.partition("[tool")[0], "none": ""}.items():
        folder = tmp_path / "contrib" / name
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(text)
    framework = discover(tmp_path)["big"]
    framework.pins.write_text("# Renewed on Python 2.7: by hand\nbig_frame==1.4.0\nother==3\n")
    return framework


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The modules that were run in an environment, none of which is made."""
    done: list[str] = []
    monkeypatch.setattr(Environment, "set_up", lambda self: done.append("newest" if self.newest else "pinned"))
    monkeypatch.setattr(Environment, "versions", lambda self: {"Big_Frame": "1.4.0"})
    monkeypatch.setattr(command, "run", lambda environment, module, *words: done.append(module) or 0)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    (tmp_path / "tests/frameworks/big").mkdir(parents=True)
    (tmp_path / "tests/frameworks/big/test_calls.py").touch()
    return done


def newest(monkeypatch: pytest.MonkeyPatch, version: str, of_all: str = "") -> None:
    def answer(framework: Framework, *, any_version: bool = False) -> dict[str, str]:
        return {"big-frame": (of_all or version) if any_version else version}

    monkeypatch.setattr(environments, "newest_versions", answer)


def test_distributions_that_say_so_have_an_environment_of_their_own(big: Framework, tmp_path: Path) -> None:
    assert list(discover(tmp_path)) == ["big"]
    assert (big.name, big.module, big.requires) == ("big", "anycarrier_big", ["big-frame[all]>=1.2,<2"])
    assert big.pinned() == {"big-frame": "1.4.0", "other": "3"}
    assert big.missing() == ["anycarrier-big", "big-frame"]


@pytest.mark.parametrize("framework", OWN, ids=lambda framework: framework.name)
def test_the_pinned_versions_are_in_the_window_of_the_wheel(framework: Framework) -> None:
    pinned = framework.pinned()
    outside = [f"{needs} but {version}" for needs in map(Requirement, framework.requires)
               if not needs.specifier.contains(version := pinned[canonical(needs.name)])]  # fmt: skip
    assert framework.requires and outside == []


@pytest.mark.parametrize("framework", OWN, ids=lambda framework: framework.name)
def test_its_window_ends_before_the_next_major_version(framework: Framework) -> None:
    """A framework's major version may take away what an adapter stands on."""
    first = Requirement(framework.requires[0])
    assert not first.specifier.contains("99.0"), f"{framework.folder}: {first} admits every later version"


def test_the_newest_is_tried_where_it_is_not_the_pinned_one(
    big: Framework, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    newest(monkeypatch, "1.5.0")
    assert command.test(big, [], newest=True) == 0
    assert runs == ["newest", "mypy", "pytest"]


def test_the_newest_is_not_tried_twice(
    big: Framework, runs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    newest(monkeypatch, "1.4.0", of_all="2.0.0")
    assert command.test(big, [], newest=True) == 0
    assert runs == []
    told = capsys.readouterr().err
    assert "big-frame 1.4.0, as pinned, is the newest on the index" in told
    assert "outside the window that its wheel allows: big-frame 2.0.0" in told


@pytest.mark.parametrize("failing", ["mypy", "pytest"])
def test_a_failure_of_either_is_one(
    big: Framework, runs: list[str], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setattr(command, "run", lambda environment, module, *words: int(module == failing))
    assert command.test(big, [], newest=False) == 1
    assert runs == ["pinned"]


def test_an_adapter_without_tests_fails(
    big: Framework, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tests/frameworks/big/test_calls.py").unlink()
    assert command.test(big, [], newest=False) == 1
    assert "there are no tests in tests/frameworks/big" in capsys.readouterr().err


def test_what_is_installed_and_not_pinned_is_refused(big: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    here = f"{environments.MADE_ON}{sys.version_info.major}.{sys.version_info.minor}: by hand"
    monkeypatch.setattr(Environment, "versions", lambda self: {"Big_Frame": "1.4.0", "more": "2"})
    Environment(big)._refuse_what_is_not_pinned()  # pinned on another Python, which may need other things
    big.pins.write_text(f"{here}\nbig_frame==1.4.0\n")
    with pytest.raises(Refused, match=r"does not pin more==2.*--pin big"):
        Environment(big)._refuse_what_is_not_pinned()


@pytest.mark.parametrize(("version", "made"), [(platform.python_version(), []), ("3.10.1", ["-m", "venv", "--clear"])])
def test_an_environment_of_another_python_is_made_anew(
    big: Framework, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, made: list[str]
) -> None:
    environment = Environment(big, newest=True, folder=tmp_path / "env")
    environment.python.parent.mkdir(parents=True)
    environment.python.touch()
    (tmp_path / "env/pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    monkeypatch.setattr(Environment, "install", lambda self, *words: None)
    monkeypatch.setattr(Environment, "_folders", lambda self: [])
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: commands.append(command))
    environment.set_up()
    assert [command[1:4] for command in commands] == ([made] if made else [])


def test_environments_may_be_elsewhere(big: Framework, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Environment(big).folder == ROOT / ".venv-frameworks/big"
    monkeypatch.setenv("ANYCARRIER_FRAMEWORKS", str(tmp_path / "shelf"))
    assert Environment(big).folder == tmp_path / "shelf/big"
    assert Environment(big, newest=True).folder == tmp_path / "shelf/big-newest"


def test_an_unknown_framework_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["pipcat"]) == 2
    assert f"no framework 'pipcat' here; there are: {', '.join(discover())}" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["tests/frameworks/{}", "tests/frameworks/{}/test_x.py::test_y", "tests/frameworks"])
def test_pytest_says_what_to_run_instead(path: str) -> None:
    name = OWN[0].name
    run = subprocess.run([sys.executable, "-m", "pytest", path.format(name)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"run ./dev frameworks{f' {name}' if '{}' in path else ''}\n" in run.stderr


def test_the_other_tests_leave_them_out_and_say_so() -> None:
    collect = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-vv", "tests"]
    ignored = [f"--ignore={path}" for path in (ROOT / "tests").iterdir() if path.name != "frameworks"]
    run = subprocess.run([*collect, *ignored], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert f"not collected: tests/frameworks of {', '.join(discover())}; run ./dev frameworks" in run.stdout


def test_a_requirement_begins_with_its_name() -> None:
    assert [name_of(each) for each in ("a-b[c]>=1", "a.b", "a_b ; python_version < '3.12'")] == ["a-b", "a.b", "a_b"]


def example(root: Path, name: str, *lines: str) -> None:
    folder = root / "docs/examples" / name
    folder.mkdir(parents=True)
    (folder / "app.py").write_text("ANSWER = 'three calls, all heard'\n")
    (folder / "offline.py").write_text("\n".join(lines) + "\n")


def test_the_demo_runs_each_example_beside_its_app(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    example(tmp_path, "front", "from app import ANSWER", "print('one call')", "print(ANSWER, end='\\n\\n')")
    assert demo.run(demo.examples([], tmp_path)) == 0
    *_, row = capfd.readouterr().out.splitlines()
    assert row.split(maxsplit=4) == ["front", row.split()[1], "s", "ok", "three calls, all heard"]


def test_the_demo_fails_with_an_example_and_runs_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    example(tmp_path, "a", "print('said before', flush=True)", "raise SystemExit(3)")
    example(tmp_path, "b", "print('well')")
    assert demo.run(demo.examples([], tmp_path)) == 1
    rows = capfd.readouterr().out.splitlines()[-2:]
    assert [row.split(" s  ")[1] for row in rows] == ["FAILED  said before", "ok  well"]


def test_the_demo_stops_an_example_that_does_not_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    example(tmp_path, "a", "import time; time.sleep(600)")
    assert demo.run(demo.examples([], tmp_path), patience=0.1) == 1
    assert capfd.readouterr().out.endswith("FAILED (too long)\n")


def test_the_demo_wants_an_example() -> None:
    assert demo.run({}) == 1
    with pytest.raises(Refused, match=r"no docs/examples/zither/offline\.py"):
        demo.examples(["zither"])
