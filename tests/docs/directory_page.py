"""docs/directory.md, made of docs/directory.toml and the kit reports it names.

``./dev directory [NAME ...]`` runs this: first the kits of our own carriers, each writing its report, then the page.
``--check`` writes nothing, and fails if a kit does or if what it says is not what the report says.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from anycarrier.provider import Capability
from anycarrier.testing.kit_report import KitReport, read_reports, write_reports

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ROWS = DOCS / "directory.toml"
PAGE = DOCS / "directory.md"

HEAD = """\
# Directory of carriers

Made from [directory.toml](directory.toml) and the reports of the [conformance kit](write-a-provider.md#test-it) that it
names; do not edit. `anycarrier providers` shows the same for what is installed. What the abilities are:
[capabilities](capabilities.md).

"""
FOOT = """
- **Kit**: how many of its tests passed, and how many were skipped since the carrier lacks the capability. It runs on
  cassettes and on the wheel's sandbox, not on an account.
- **Cassettes**: how many were `recorded` from a live account, made on a `sandbox`, and typed in from a carrier's
  documents (`documented`). A carrier without one that is recorded is written from documents, whatever the kit says.

## Add yours

1. In your distribution, run the kit with a report: `pytest --kit-report src/anycarrier_acme/kit_report.json`. Ship it
   in the wheel: `anycarrier providers` then shows it to everybody who installs the wheel, with the `maintainers` that
   its `pyproject.toml` names.
2. Put the same file at `docs/directory/NAME.json`, and a row into `docs/directory.toml`:
   `NAME = { maintained_by = "you", link = "https://...", report = "directory/NAME.json" }`.
3. `./dev directory NAME` writes this page. Send all three as a pull request; nothing of your plugin is installed or run
   for it.

A report says which version it is of, and a new version brings a new report. A row whose kit did not pass says so.
"""


@dataclass(frozen=True)
class Row:
    """One carrier's."""

    name: str
    maintained_by: str
    link: str
    report: Path

    def read(self) -> KitReport:
        return read_reports(self.report)[self.name]


def rows(file: Path = ROWS) -> list[Row]:
    """What the TOML file says; a row that lacks something, or says more, is an error."""
    told = tomllib.loads(file.read_text())
    wrong = [name for name, row in told.items() if row.keys() != {"maintained_by", "link", "report"}]
    if wrong:
        raise SystemExit(f"{file.name}: a row has maintained_by, link and report, nothing else: {', '.join(wrong)}")
    return [Row(name, row["maintained_by"], row["link"], file.parent / row["report"]) for name, row in told.items()]


def page(file: Path = ROWS) -> str:
    """The whole page."""
    found = sorted(((row, row.read()) for row in rows(file)), key=lambda pair: pair[1].title.lower())
    table = [["carrier", "wheel", "version", "contract", "kit", "recorded", "sandbox", "documented", "maintained by"],
             ["---", "---", "---", "---:", "---", "---:", "---:", "---:", "---"]]  # fmt: skip
    able = [["carrier", "has, beyond what every carrier has", "lacks"], ["---"] * 3]
    for row, report in found:
        title = f"[{report.title}]({row.link})"
        counts = [str(report.cassettes.get(said, 0)) for said in ("recorded", "sandbox", "documented")]
        table.append([title, f"`{report.wheel}`", report.version, str(report.contract),
                      f"{report.verdict}; {report.date}", *counts, row.maintained_by])  # fmt: skip
        has = [f"`{name}`" for name in Capability if name in report.capabilities]
        lacks = [f"`{name}`" for name in Capability if name not in report.capabilities]
        able.append([title, ", ".join([*has, *(["a sandbox"] if report.sandbox else [])]) or "-",
                     ", ".join([*lacks, *([] if report.sandbox else ["a sandbox"])]) or "-"])  # fmt: skip
    return HEAD + _table(table) + "\n" + _table(able) + FOOT


def _table(cells: list[list[str]]) -> str:
    return "".join("| " + " | ".join(row) + " |\n" for row in cells)


# --- the kits of our own carriers ------------------------------------------------------------------------------------


def kit_of(name: str) -> Path | None:
    """The conformance test of a carrier of ours; None of a third party's, whose kit runs elsewhere."""
    found = [ROOT / f"tests/providers/{name}/test_conformance.py",
             ROOT / f"docs/examples/anycarrier-{name}/tests/test_{name}.py"]  # fmt: skip
    return next((path for path in found if path.is_file()), None)


def run_kit(test: Path, name: str, at: Path) -> KitReport | None:
    """What a carrier's kit says now; None when it says nothing."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test), "--kit-report", str(at)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = read_reports(at).get(name) if at.is_file() else None
    if report is None or not report.ok:
        print(f"{name}: the kit does not pass\n{run.stdout[-4000:]}{run.stderr[-2000:]}", file=sys.stderr)
    return report


def lasting(report: KitReport) -> KitReport:
    """Without what differs from day to day and from Python to Python."""
    return replace(report, date="", python="", passed=0, skipped=0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev directory", description="Run the kits; write docs/directory.md.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these carriers' kits (default: all of ours)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a report or the page is not true")
    chosen = parser.parse_args()
    known = {row.name: row for row in rows()}
    if unknown := [name for name in chosen.names if name not in known]:
        parser.error(f"no row in {ROWS.name}: {', '.join(unknown)}")
    ours = {name: kit for name in chosen.names or known if (kit := kit_of(name))}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as both:
        work = {name: both.submit(run_kit, kit, name, Path(folder, f"{name}.json")) for name, kit in ours.items()}
        reports = {name: one.result() for name, one in work.items()}
    wrong = [f"{name}: the kit does not pass" for name, report in reports.items() if report is None or not report.ok]
    for name, report in reports.items():
        if report is not None and not chosen.check:
            write_reports(known[name].report, {name: report})
        elif report is not None and lasting(report) != lasting(known[name].read()):
            wrong.append(f"{name}: its report is not what the kit says now: ./dev directory {name}")
    if not chosen.check:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        wrong.append(f"{PAGE.name} is not made of the reports: ./dev directory")
    for name, report in reports.items():
        print(f"{name:<12} {report.verdict if report else 'no report'}")
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
