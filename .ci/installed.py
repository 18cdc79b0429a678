"""``python installed.py FOLDER NAME``: what is installed in this environment under our names is ours, and works.

Run by the environment's own Python, after NAME was installed with the wheels of FOLDER and a package index in reach.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import Distribution, distributions, entry_points
from pathlib import Path

WRITTEN_BY_PIP = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}
COMMAND = Path(sysconfig.get_path("scripts")) / "anycarrier"


def normal(name: str) -> str:
    """A distribution's name as its wheel writes it."""
    return name.replace("-", "_").lower()


def ours(path: list[str] | None = None) -> dict[str, Distribution]:
    """What is installed under our names."""
    found = distributions() if path is None else distributions(path=path)
    named = {normal(each.metadata["Name"]): each for each in found}
    return {name: each for name, each in named.items() if name.split("_")[0] == "anycarrier"}


def differences(installed: Distribution, folder: Path) -> Iterator[str]:
    """How an installed distribution differs from the wheel in the folder."""
    name, version = normal(installed.metadata["Name"]), installed.version
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    if not wheel.exists():
        yield f"{name} {version} is not ours: {folder} has no such wheel"
        return
    with zipfile.ZipFile(wheel) as archive:
        rows = archive.read(f"{name}-{version}.dist-info/RECORD").decode().splitlines()
    hashes = {path: digest for path, digest, _ in csv.reader(rows) if digest}
    for path, digest in hashes.items():
        file = Path(str(installed.locate_file(path)))
        actual = hashlib.sha256(file.read_bytes()).digest() if file.exists() else b""
        if digest != "sha256=" + base64.urlsafe_b64encode(actual).rstrip(b"=").decode():
            yield f"{name} {version}: {path} is not the wheel's"
    for file in installed.files or ():
        added = file.name in WRITTEN_BY_PIP or file.suffix == ".pyc" or ".." in file.parts
        if file.as_posix() not in hashes and not added:
            yield f"{name} {version}: {file} is not in the wheel"


def imports(installed: Distribution) -> None:
    """Import what it brings: its package, and what its entry points name."""
    for package in {file.parts[0] for file in installed.files or () if file.suffix == ".py"}:
        import_module(package)
    for entry in entry_points(group="anycarrier"):
        entry.load()


def command(*words: str, code: int = 0) -> str:
    """What the ``anycarrier`` command prints."""
    run = subprocess.run([COMMAND, *words], capture_output=True, text=True, check=False)
    printed = run.stdout + run.stderr
    if run.returncode != code:
        raise SystemExit(f"anycarrier {' '.join(words)} ended with {run.returncode}, not {code}:\n{printed}")
    return printed


def main() -> None:
    """Print what is installed, or say what is wrong with it."""
    folder, asked = Path(sys.argv[1]), normal(sys.argv[2])
    found = ours()
    wrong = [line for installed in found.values() for line in differences(installed, folder)]
    if asked not in found:
        wrong.append(f"{asked} is not installed")
    if wrong:
        raise SystemExit("\n".join(wrong))
    for installed in found.values():
        imports(installed)
    if "usage: anycarrier" not in command("--help"):
        raise SystemExit("anycarrier --help prints no usage")
    if "anycarrier_server" in found:
        command("serve", "--help")
    elif "anycarrier-server" not in command("serve", code=2):
        raise SystemExit("anycarrier serve does not say what to install")
    print(", ".join(f"{name} {installed.version}" for name, installed in sorted(found.items())))


if __name__ == "__main__":
    main()
