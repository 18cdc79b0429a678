"""The check of what was installed under our names: a stranger's package, and a changed file, are noticed."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "anycarrier_x/__init__.py": b"X = 1\n",
    "anycarrier_x-1.0.dist-info/METADATA": b"Name: anycarrier-x\nVersion: 1.0\n",
}
RECORD = "anycarrier_x-1.0.dist-info/RECORD"


@pytest.fixture(scope="module")
def installed() -> ModuleType:
    spec = importlib.util.spec_from_file_location("installed", ROOT / ".ci/installed.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one wheel."""
    rows = []
    with zipfile.ZipFile(tmp_path / "anycarrier_x-1.0-py3-none-any.whl", "w") as wheel:
        for path, content in FILES.items():
            wheel.writestr(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(content)}")
        wheel.writestr(RECORD, "\n".join([*rows, f"{RECORD},,"]))
    return tmp_path


@pytest.fixture
def site(folder: Path) -> Path:
    """That wheel, as pip installs it."""
    site = folder / "site"
    with zipfile.ZipFile(folder / "anycarrier_x-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(site)
    (site / "anycarrier_x-1.0.dist-info/INSTALLER").write_text("pip\n")
    with (site / RECORD).open("a") as record:
        record.write("\nanycarrier_x-1.0.dist-info/INSTALLER,,\n../bin/anycarrier-x,,\n")
    return site


def found(installed: ModuleType, folder: Path, site: Path) -> list[str]:
    return [line for each in installed.ours([str(site)]).values() for line in installed.differences(each, folder)]


def test_the_built_wheel_as_pip_installs_it_is_ours(installed: ModuleType, folder: Path, site: Path) -> None:
    assert list(installed.ours([str(site)])) == ["anycarrier_x"]
    assert found(installed, folder, site) == []


def test_another_version_is_a_strangers(installed: ModuleType, folder: Path, site: Path) -> None:
    (site / "anycarrier_x-1.0.dist-info").rename(site / "anycarrier_x-1.1.dist-info")
    (site / "anycarrier_x-1.1.dist-info/METADATA").write_text("Name: anycarrier-x\nVersion: 1.1\n")
    assert found(installed, folder, site) == [f"anycarrier_x 1.1 is not ours: {folder} has no such wheel"]


def test_a_changed_file_is_noticed(installed: ModuleType, folder: Path, site: Path) -> None:
    (site / "anycarrier_x/__init__.py").write_text("X = 2\n")
    assert found(installed, folder, site) == ["anycarrier_x 1.0: anycarrier_x/__init__.py is not the wheel's"]


def test_a_file_too_many_is_noticed(installed: ModuleType, folder: Path, site: Path) -> None:
    with (site / RECORD).open("a") as record:
        record.write("anycarrier_x/more.py,,\n")
    (site / "anycarrier_x/more.py").write_text("")  # metadata lists only files that are there
    assert found(installed, folder, site) == ["anycarrier_x 1.0: anycarrier_x/more.py is not in the wheel"]
