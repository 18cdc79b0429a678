"""What every bench shares: options, percentiles, a table, and its place in docs/benchmarks.md with the machine named.

Figures get into the docs only from here, between two markers, so none can be there that was not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

TITLE = "# Benchmarks\n\nEvery figure in a table here was written by the bench itself.\n"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def machine() -> str:
    """Processor, cores, system and Python; nothing that names whose machine it is."""
    processor = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        processor = found.group(1) if found else processor
    except OSError:
        pass
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{processor}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, {python}"


def commit() -> str:
    """The commit measured, with ``+`` when the tree holds more than it."""
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=PAGE.parent.parent, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "src", "providers") else "")


def parser(description: str) -> argparse.ArgumentParser:
    """The options all benches have."""
    made = argparse.ArgumentParser(prog=sys.argv[0], description=description)
    made.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    made.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    return made


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which ``share`` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


@dataclass
class Result:
    """A table, what it shows, and whether the bound was kept."""

    name: str
    bound: str
    kept: bool
    columns: list[str]
    rows: list[list[str]]
    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1), *self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        verdict = "kept" if self.kept else "NOT KEPT"
        notes = "".join(f"\n{note}" for note in self.notes)
        return f"{table}\n\nBound: {self.bound}: **{verdict}**.{notes}\n"

    def report(self, options: argparse.Namespace) -> NoReturn:
        """Print, write if asked, and exit: 0 when the bound was kept."""
        if options.json:
            print(json.dumps({"bench": self.name, "ok": self.kept, "bound": self.bound, "machine": machine(),
                              "commit": commit(), **self.figures}))  # fmt: skip
        else:
            widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
            for line in (self.columns, *self.rows):
                first, *rest = (cell.ljust(w) if i == 0 else cell.rjust(w)
                                for i, (cell, w) in enumerate(zip(line, widths, strict=True)))  # fmt: skip
                print(first, *rest, sep="  ")
            print(f"\nbound: {self.bound}: {'kept' if self.kept else 'NOT KEPT'}", *self.notes, machine(), sep="\n")
        if options.write:
            self.write()
        sys.exit(0 if self.kept else 1)

    def write(self, page: Path = PAGE) -> None:
        """Replace this bench's section of the page; a missing section is added at the end."""
        command = f"./dev bench {self.name} --write"
        made = f"Measured {datetime.now(UTC):%Y-%m-%d} at {commit()} by `{command}` on {machine()}."
        section = f"<!-- bench {self.name} -->\n{self.markdown()}\n{made}\n<!-- end {self.name} -->"
        text = page.read_text() if page.exists() else TITLE
        marked = re.compile(f"<!-- bench {self.name} -->.*<!-- end {self.name} -->", re.DOTALL)
        if marked.search(text):
            text = marked.sub(lambda _: section, text)
        else:
            text = f"{text.rstrip()}\n\n## {self.name}\n\n{section}\n"
        page.write_text(text)
