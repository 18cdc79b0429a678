"""docs/directory.md is made of its rows and their reports, and the reports are of what is installed."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from anycarrier.errors import ConfigurationError
from anycarrier.testing.conformance import ProviderConformance
from anycarrier.testing.kit_report import KitReport, facts_of, read_reports, write_reports
from docs.directory_page import DOCS, PAGE, ROOT, kit_of, page, rows

OURS = sorted(row.name for row in rows() if kit_of(row.name))


def cassettes_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kit of a carrier of ours finds its cassettes."""
    spec = importlib.util.spec_from_file_location(f"kit_of_{name}", str(kit_of(name)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    kinds = (kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, ProviderConformance))
    return next(kind.cassettes for kind in kinds if kind is not ProviderConformance and kind.provider.name == name)


def test_the_page_is_made_of_the_rows_and_the_reports(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("write_docs"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "directory.md is stale: ./dev directory"


def test_each_carrier_of_ours_has_its_row_and_ships_its_report() -> None:
    folders = {path.parent.name: path.parent for path in ROOT.glob("providers/*/pyproject.toml")}
    ours = {row.name: row for row in rows() if row.name in folders}
    assert ours.keys() == folders.keys()
    for name, folder in folders.items():
        assert ours[name].report.resolve() == folder / f"src/anycarrier_{name}/kit_report.json"
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["maintainers"] == [{"name": ours[name].maintained_by}], name
        assert kit_of(name) is not None, name


@pytest.mark.parametrize("name", OURS)
def test_a_report_of_ours_is_of_what_is_installed_and_of_the_whole_kit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = next(row.read() for row in rows() if row.name == name)
    now = facts_of(name, cassettes_of(name, monkeypatch))
    results = ("passed", "skipped", "failed", "not_run", "date", "anycarrier", "python")
    same = replace(now, **{field: getattr(report, field) for field in results})
    assert report == same, f"its report is stale: ./dev directory {name}"
    assert report.ok, report.verdict


REPORT = KitReport(
    name="zeppelin", title="Zeppelin", wheel="anycarrier-zeppelin", version="2.1", contract=1, sandbox=False,
    capabilities=("transfer",), cassettes={"recorded": 3, "sandbox": 0, "documented": 4}, passed=99, skipped=7,
    date="2026-01-02", anycarrier="0.1.0", python="3.11.7",
)  # fmt: skip


def third_party(folder: Path, report: KitReport) -> str:
    """The line of the page for a carrier that is not installed."""
    row = 'maintained_by = "Count Z", link = "https://zeppelin.example", report = "directory/zeppelin.json"'
    (folder / "directory.toml").write_text(f"zeppelin = {{ {row} }}\n")
    write_reports(folder / "directory/zeppelin.json", {"zeppelin": report})
    return page(folder / "directory.toml")


def test_a_third_partys_row_and_report_are_all_it_needs(tmp_path: Path) -> None:
    text = third_party(tmp_path, REPORT)
    assert (
        "| [Zeppelin](https://zeppelin.example) | `anycarrier-zeppelin` | 2.1 | 1 | "
        "passed: 99 tests, 7 skipped by capability; 2026-01-02 | 3 | 0 | 4 | Count Z |\n"
    ) in text
    has, lacks = next(line for line in text.splitlines() if "`transfer`" in line).split(" | ")[1:]
    assert has == "`transfer`" and "`buy_number`" in lacks and "a sandbox" in lacks


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (replace(REPORT, failed=("test_x", "test_y")), "NOT PASSED: failed test_x, test_y"),
        (replace(REPORT, not_run=("test_z",)), "NOT PASSED: not run test_z"),
        (replace(REPORT, passed=0), "NOT PASSED: nothing was tested"),
    ],
)
def test_a_kit_that_did_not_pass_says_so(report: KitReport, said: str, tmp_path: Path) -> None:
    assert f"| {said}; 2026-01-02 |" in third_party(tmp_path, report)


@pytest.mark.parametrize(
    "written", ["", "[]", '{"zeppelin": {"name": "zeppelin"}}', '{"zeppelin": 3}', "\ufeff", None]
)
def test_a_report_that_is_none_is_named(written: str | None, tmp_path: Path) -> None:
    third_party(tmp_path, REPORT)
    at = tmp_path / "directory/zeppelin.json"
    at.unlink() if written is None else at.write_text(written)
    with pytest.raises(ConfigurationError, match=r"directory/zeppelin\.json is no kit report"):
        page(tmp_path / "directory.toml")


def test_a_report_of_another_carrier_is_refused(tmp_path: Path) -> None:
    write_reports(tmp_path / "r.json", {"airship": REPORT})
    with pytest.raises(ConfigurationError, match="is no kit report"):
        read_reports(tmp_path / "r.json")


def test_a_report_of_a_later_kit_is_read(tmp_path: Path) -> None:
    third_party(tmp_path, REPORT)
    at = tmp_path / "directory/zeppelin.json"
    at.write_text(at.read_text().replace('"name"', '"weather": "fair", "name"'))
    assert read_reports(at) == {"zeppelin": REPORT}


def test_a_row_with_a_key_too_few_or_too_many_is_named(tmp_path: Path) -> None:
    for row in ('{ link = "x", report = "y" }', '{ maintained_by = "z", link = "x", report = "y", kit = "w" }'):
        (tmp_path / "directory.toml").write_text(f"zeppelin = {row}\n")
        with pytest.raises(SystemExit, match="maintained_by, link and report, nothing else: zeppelin"):
            rows(tmp_path / "directory.toml")


def test_the_page_says_what_a_row_is_as_the_rows_are() -> None:
    text = (DOCS / "directory.toml").read_text()
    assert 'NAME = { maintained_by = "' in text and 'NAME = { maintained_by = "' in PAGE.read_text()
