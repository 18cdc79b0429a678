"""Environments with a framework in them: which distributions want one, and how it is made.

A distribution whose pyproject says ``environment = "own"`` under ``[tool.anycarrier]`` is tested in an environment of
its own, with the versions of the ``constraints.txt`` beside that pyproject. Only the standard library is used here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TAKEN_ALONG = (".[testing,fast]", "providers/*", "docs/examples/anycarrier-acme", "contrib/server")
"""What is installed beside the distribution, editable: an adapter is tried on every carrier, and in the service."""
MADE_ON = "# Renewed on Python "


class Refused(Exception):
    """What was asked cannot be done; the text says what to do instead."""


@dataclass(frozen=True)
class Framework:
    """A distribution with an environment of its own; ``name`` is its folder's under ``contrib/``."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def project(self) -> dict[str, Any]:
        return dict(tomllib.loads((self.folder / "pyproject.toml").read_text())["project"])

    @property
    def module(self) -> str:
        """``anycarrier_pipecat``."""
        return str(self.project["name"]).replace("-", "_")

    @property
    def requires(self) -> list[str]:
        """What it asks for by itself, without the core: ``["pipecat-ai>=1.14,<2"]``."""
        return [each for each in self.project["dependencies"] if not each.startswith("anycarrier")]

    @property
    def pins(self) -> Path:
        return self.folder / "constraints.txt"

    def pinned(self) -> dict[str, str]:
        """Name to version, names as the index compares them."""
        lines = self.pins.read_text().splitlines()
        return {canonical(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}

    def missing(self) -> list[str]:
        """What this interpreter lacks of it: empty where its tests can run."""
        wanted = [str(self.project["name"]), *(name_of(each) for each in self.requires)]
        return [name for name in wanted if not _installed(name)]


def discover(root: Path = ROOT) -> dict[str, Framework]:
    """By name, sorted."""
    found = {}
    for pyproject in sorted(root.glob("contrib/*/pyproject.toml")):
        own = tomllib.loads(pyproject.read_text()).get("tool", {}).get("anycarrier", {}).get("environment")
        if own == "own":
            found[pyproject.parent.name] = Framework(pyproject.parent)
    return found


def canonical(name: str) -> str:
    """``Typing_Extensions`` -> ``typing-extensions``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """``pipecat-ai[websocket]>=1.14,<2`` -> ``pipecat-ai``."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


class Environment:
    """One framework's, with the pinned versions or, in another folder, the newest on the index."""

    def __init__(self, framework: Framework, *, newest: bool = False, folder: Path | None = None) -> None:
        self.framework, self.newest = framework, newest
        shelf = Path(os.environ.get("ANYCARRIER_FRAMEWORKS") or ROOT / ".venv-frameworks").resolve()
        self.folder = folder or shelf / (f"{framework.name}-newest" if newest else framework.name)
        self.python = self.folder / "bin" / "python"

    def set_up(self) -> None:
        """Make it, or bring it up to date; nothing is done when no pyproject and no pin has changed."""
        stamp = self.folder / "anycarrier.stamp"
        if not self.newest and stamp.exists() and stamp.read_text() == self._fingerprint():
            return
        what = "the newest of everything" if self.newest else f"contrib/{self.framework.name}/constraints.txt"
        say(f"{self.framework.name}: {self.folder} with {what}: a minute or two the first time")
        stamp.unlink(missing_ok=True)
        if not self._is_of_this_python():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(self.folder)], check=True)
        self.install("pip", "hatchling", "editables")
        group = f"{self.framework.folder / 'pyproject.toml'}:dev"
        editable = [word for folder in self._folders() for word in ("--editable", folder)]
        self.install("--no-build-isolation", "--group", group, *editable)
        if not self.newest:
            self._refuse_what_is_not_pinned()
            stamp.write_text(self._fingerprint())

    def install(self, *words: str) -> None:
        pins = ["--upgrade", "--upgrade-strategy", "eager"]
        if not self.newest:
            pins = ["--constraint", str(self.framework.pins)]
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", *pins, *words]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise Refused(f"{self.framework.name}: pip could not make its environment, {self.folder}")

    def versions(self) -> dict[str, str]:
        """What is in it, without our own distributions."""
        frozen = subprocess.run(
            [str(self.python), "-m", "pip", "--disable-pip-version-check", "freeze", "--all", "--exclude-editable"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        return dict(line.split("==") for line in frozen.splitlines() if "==" in line)

    def _folders(self) -> Iterator[str]:
        for pattern in TAKEN_ALONG:
            folder, bracket, extras = pattern.partition("[")
            for path in sorted(ROOT.glob(f"{folder}/pyproject.toml")):
                yield str(path.parent.relative_to(ROOT)) + bracket + extras
        yield str(self.framework.folder.relative_to(ROOT))

    def _is_of_this_python(self) -> bool:
        made = self.folder / "pyvenv.cfg"
        return self.python.exists() and made.exists() and f"version = {python_version()}\n" in made.read_text()

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{ROOT} {sys.version}".encode())
        for folder in self._folders():
            digest.update((ROOT / folder.partition("[")[0] / "pyproject.toml").read_bytes())
        digest.update(self.framework.pins.read_bytes())
        return digest.hexdigest()

    def _refuse_what_is_not_pinned(self) -> None:
        """The pins are for the Python they were renewed on; another may need one more, or one less."""
        here = f"{MADE_ON}{sys.version_info.major}.{sys.version_info.minor}"
        if not any(line.startswith(here) for line in self.framework.pins.read_text().splitlines()):
            return
        pinned = self.framework.pinned()
        loose = [f"{name}=={version}" for name, version in self.versions().items()
                 if pinned.get(canonical(name)) != version]  # fmt: skip
        if loose:
            raise Refused(f"contrib/{self.framework.name}/constraints.txt does not pin {', '.join(loose)}; add them, "
                          f"or renew all: ./dev frameworks --pin {self.framework.name}")  # fmt: skip


def newest_versions(framework: Framework, *, any_version: bool = False) -> dict[str, str]:
    """What pip would take for its requirements, within their windows or of any version; nothing is installed."""
    wanted = [name_of(each) if any_version else each for each in framework.requires]
    run = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--dry-run",
         "--ignore-installed", "--report", "-", *wanted],
        capture_output=True, text=True,
    )  # fmt: skip
    if run.returncode:
        raise Refused(f"{framework.name}: pip does not tell the newest of {', '.join(wanted)}:\n{run.stderr}")
    every = {canonical(each["metadata"]["name"]): each["metadata"]["version"]
             for each in json.loads(run.stdout)["install"]}  # fmt: skip
    return {name: every[name] for name in (canonical(name_of(each)) for each in wanted)}


def say(*words: object) -> None:
    print(*words, file=sys.stderr, flush=True)


def chosen(names: Sequence[str]) -> list[Framework]:
    """Those named, or all."""
    known = discover()
    for name in names:
        if name not in known:
            raise Refused(f"no framework '{name}' here; there are: {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())
