"""``./dev version``: one version for every distribution, their pins to each other, and the changelog."""

from __future__ import annotations

import importlib.util
import shutil
import tomllib
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
TODAY = date(2030, 1, 2)
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.0.1] - 2029-01-01\n\n- The first.\n"


@pytest.fixture(scope="module")
def version() -> ModuleType:
    spec = importlib.util.spec_from_file_location("version", ROOT / ".ci/version.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This checkout's pyprojects, and a short changelog."""
    for pattern in ("pyproject.toml", "*/*/pyproject.toml", "docs/examples/*/pyproject.toml"):
        for path in ROOT.glob(pattern):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def project(pyproject: Path) -> dict[str, object]:
    return dict(tomllib.loads(pyproject.read_text())["project"])


def test_every_distribution_carries_one_version(version: ModuleType) -> None:
    assert isinstance(version.current(ROOT), Version)


@pytest.mark.parametrize(("new", "pin"), [("7.1.0", ">=7.1.0,<8"), ("7.2rc1", ">=7.2rc1,<8")])
def test_a_new_version_is_set_everywhere(version: ModuleType, checkout: Path, new: str, pin: str) -> None:
    for example in checkout.glob("docs/examples/*/pyproject.toml"):
        example.write_text(example.read_text().replace(",<1", ",<8"))
    changed = version.bump(checkout, new, TODAY)
    published = version.distributions(checkout)
    assert changed == [*published, checkout / "CHANGELOG.md"] and len(published) > 5
    for pyproject in published:
        table = project(pyproject)
        assert table["version"] == new
        needed = [Requirement(each) for each in table["dependencies"]]  # type: ignore[attr-defined]
        ours = [each for each in needed if each.name.startswith("anycarrier")]
        assert {str(each.specifier) for each in ours} == (set() if pyproject.parent == checkout else {pin_of(pin)})


def pin_of(pin: str) -> str:
    return str(Requirement(f"x{pin}").specifier)


def test_nothing_but_version_and_pin_changes(version: ModuleType, checkout: Path) -> None:
    before = (checkout / "contrib/server/pyproject.toml").read_text()
    version.bump(checkout, "0.9.0", TODAY)
    after = (checkout / "contrib/server/pyproject.toml").read_text()
    lines = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert [new for _, new in lines] == ['version = "0.9.0"', '    "anycarrier[fast]>=0.9.0,<1",']


def test_unreleased_changes_become_the_versions(version: ModuleType, checkout: Path) -> None:
    version.bump(checkout, "0.9.0", TODAY)
    assert (checkout / "CHANGELOG.md").read_text() == CHANGELOG.replace(
        "## [Unreleased]\n", "## [Unreleased]\n\n## [0.9.0] - 2030-01-02\n"
    )


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("next", "is no version"),
        ("0.0.9", "does not come after"),
        ("0.2.0+here", "cannot be published"),
        ("1.0.0", "anycarrier-acme"),
    ],
)
def test_a_version_that_cannot_be_is_refused(version: ModuleType, checkout: Path, new: str, why: str) -> None:
    before = (checkout / "pyproject.toml").read_text()
    with pytest.raises(version.Refused, match=why):
        version.bump(checkout, new, TODAY)
    assert (checkout / "pyproject.toml").read_text() == before


def test_a_release_without_notes_is_refused(version: ModuleType, checkout: Path) -> None:
    (checkout / "CHANGELOG.md").write_text(CHANGELOG.replace("- A thing.\n", ""))
    with pytest.raises(version.Refused, match="nothing under"):
        version.bump(checkout, "0.9.0", TODAY)


def test_distributions_that_disagree_are_named(version: ModuleType, checkout: Path) -> None:
    one = checkout / "contrib/server/pyproject.toml"
    one.write_text(one.read_text().replace('version = "', 'version = "9.', 1))
    with pytest.raises(version.Refused, match=r"disagree.*server 9\."):
        version.current(checkout)
