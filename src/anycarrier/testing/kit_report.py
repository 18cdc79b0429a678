"""The kit's report: what came of a provider's conformance test, and which wheel it was.

``pytest --kit-report FILE`` writes it; a wheel that ships it as ``kit_report.json`` in its package shows it in
``anycarrier providers``, and docs/directory.md is made of such reports.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anycarrier.errors import ConfigurationError
from anycarrier.plugins import get_provider, shipper_of
from anycarrier.testing.cassettes import Provenance, files, package_of, provenance_of

FILE = "kit_report.json"
"""Its name in the package of a plugin."""


@dataclass(frozen=True, kw_only=True)
class KitReport:
    """One provider's. Passed and skipped are tests: a check is one for each cassette or capability it looks at."""

    name: str
    title: str
    wheel: str
    version: str
    contract: int
    capabilities: tuple[str, ...]
    sandbox: bool
    cassettes: Mapping[str, int]
    """How many of each provenance."""
    passed: int = 0
    skipped: int = 0
    failed: tuple[str, ...] = ()
    """The checks of which a test failed."""
    not_run: tuple[str, ...] = ()
    """The checks of the kit that were left out or replaced."""
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    anycarrier: str = field(default_factory=lambda: version("anycarrier"))
    """The version whose kit it was."""
    python: str = field(default_factory=platform.python_version)

    @property
    def ok(self) -> bool:
        """Whether the whole kit was run and nothing failed."""
        return bool(self.passed) and not self.failed and not self.not_run

    @property
    def verdict(self) -> str:
        """In a few words."""
        if self.ok:
            return f"passed: {self.passed} tests, {self.skipped} skipped by capability"
        missing = [f"{what} {', '.join(names)}" for what, names in (("failed", self.failed), ("not run", self.not_run))
                   if names]  # fmt: skip
        return f"NOT PASSED: {'; '.join(missing) or 'nothing was tested'}"


def facts_of(name: str, cassettes: Path | None) -> KitReport:
    """What is installed: a report in which nothing was tested yet."""
    provider = get_provider(name)
    wheel, *release = shipper_of(name).split()  # a plugin of this process is in no wheel
    counts = dict.fromkeys(Provenance, 0)
    for path in files(cassettes) if cassettes is not None and cassettes.is_dir() else ():
        said, _ = provenance_of(path)
        if said in counts:
            counts[Provenance(said)] += 1
    return KitReport(
        name=name,
        title=provider.title,
        wheel=wheel if len(release) == 1 else "",
        version=release[0] if len(release) == 1 else "",
        contract=provider.contract,
        capabilities=tuple(sorted(provider.capabilities)),
        sandbox=bool(provider.sandbox),
        cassettes={str(said): count for said, count in counts.items()},
    )


def shipped_report(name: str) -> KitReport | None:
    """The report in the package of an installed plugin; None when it ships none of this provider."""
    path = package_of(name) / FILE
    return read_reports(path).get(name) if path.is_file() else None


def read_reports(path: Path) -> dict[str, KitReport]:
    """The reports of a file, by name of the provider; ``ConfigurationError`` names a file that holds none."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        return {name: _read(name, told) for name, told in kept.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as failure:
        raise ConfigurationError(
            f"{path} is no kit report ({type(failure).__name__}): write it with pytest --kit-report {path}"
        ) from None


def _read(name: str, told: Mapping[str, Any]) -> KitReport:
    known = {one.name for one in fields(KitReport)}
    listed = ("capabilities", "failed", "not_run")
    kept: dict[str, Any] = {key: tuple(v) if key in listed else v for key, v in told.items() if key in known}
    report = KitReport(**kept)
    date.fromisoformat(report.date)
    if report.name != name:
        raise ValueError(name)
    return replace(report, cassettes={str(said): int(count) for said, count in report.cassettes.items()})


def write_reports(path: Path, reports: Mapping[str, KitReport]) -> None:
    """One file for all whose kit ran together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: asdict(report) for name, report in sorted(reports.items())}
    path.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
