"""``pytest --kit-report FILE``: gathers what came of each check of the kit, and writes the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from anycarrier.testing.conformance import ProviderConformance
from anycarrier.testing.kit_report import facts_of, write_reports

CHECKS = {name for name in dir(ProviderConformance) if name.startswith("test_")}


@dataclass
class _Results:
    cassettes: Path
    outcomes: Counter[str] = field(default_factory=Counter)
    failed: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)


def mark(item: pytest.Item, report: pytest.TestReport) -> None:
    """Say on a test's report which provider and which check of the kit it is; reports travel from xdist's workers."""
    tested = item.getparent(pytest.Class)
    check = getattr(item, "originalname", "")
    if tested is None or not issubclass(tested.obj, ProviderConformance) or check not in CHECKS:
        return
    if getattr(tested.obj, check) is getattr(ProviderConformance, check):  # a check of the author's proves nothing
        report.anycarrier_kit = [tested.obj.provider.name, str(tested.obj.cassettes), check]  # type: ignore[attr-defined]


class KitResults:
    """The plugin of the process that writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, _Results] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = getattr(report, "anycarrier_kit", None)
        if told is None:
            return
        name, cassettes, check = told
        results = self.results.setdefault(name, _Results(Path(cassettes)))
        results.seen.add(check)
        if report.failed:
            results.failed.add(check)
        elif report.skipped or report.when == "call":
            results.outcomes[report.outcome] += 1

    def pytest_sessionfinish(self) -> None:
        """A kit of which nothing ran writes nothing."""
        reports = {
            name: replace(
                facts_of(name, results.cassettes),
                passed=results.outcomes["passed"],
                skipped=results.outcomes["skipped"],
                failed=tuple(sorted(results.failed)),
                not_run=tuple(sorted(CHECKS - results.seen)),
            )
            for name, results in self.results.items()
        }
        if reports:
            write_reports(self.path, reports)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for name in sorted(self.results):
            terminalreporter.write_line(f"anycarrier kit report of {name}: {self.path}")
