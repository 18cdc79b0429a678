"""``./dev demo frameworks [NAME]``: run ``docs/examples/NAME/offline.py`` of each, and print how it went.

Such a file makes calls to its example through a sandbox, without an account or a model; it exits with 0 when every call
went as it should, and its last line says what was shown. It runs in its framework's environment, if that has one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frameworks.environments import ROOT, Environment, Refused, discover, say

PATIENCE = 300.0
"""Seconds that an example may take: it calls on every carrier."""


@dataclass(frozen=True)
class Outcome:
    """How one went; ``last`` is the last line that it printed."""

    name: str
    seconds: float
    code: int | None
    last: str

    @property
    def verdict(self) -> str:
        return "ok" if self.code == 0 else "FAILED" if self.code is not None else "FAILED (too long)"


def examples(names: Sequence[str], root: Path = ROOT) -> dict[str, Path]:
    """Those named, or all that there are."""
    found = {path.parent.name: path for path in sorted(root.glob("docs/examples/*/offline.py"))}
    if unknown := [name for name in names if name not in found]:
        raise Refused(f"no docs/examples/{unknown[0]}/offline.py; there are: {', '.join(found) or 'none'}")
    return {name: found[name] for name in names or found}


def run(examples: dict[str, Path], *, patience: float = PATIENCE) -> int:
    """Run them one after the other; 0 when there was one, and all went well."""
    outcomes = [run_one(name, path, patience) for name, path in examples.items()]
    width = max((len(outcome.name) for outcome in outcomes), default=0)
    print()
    for outcome in outcomes:
        print(f"{outcome.name:<{width}}  {outcome.seconds:5.1f} s  {outcome.verdict}  {outcome.last}".rstrip())
    return 0 if outcomes and all(outcome.code == 0 for outcome in outcomes) else 1


def run_one(name: str, path: Path, patience: float) -> Outcome:
    python = sys.executable
    if name in discover():
        environment = Environment(discover()[name])
        environment.set_up()
        python = str(environment.python)
    say(f"\n{name}: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
    begun, last, code = time.monotonic(), "", None
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryDirectory() as folder:
        try:
            code = subprocess.run(
                [python, str(path)], cwd=folder, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=printed,
                timeout=patience, stdin=subprocess.DEVNULL,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            say(f"{name}: stopped after {patience:g} s")
        printed.seek(0)
        for line in printed:
            print(line, end="", flush=True)
            last = line.strip() or last
    return Outcome(name, time.monotonic() - begun, code, last)
