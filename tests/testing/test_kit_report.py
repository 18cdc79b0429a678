"""``pytest --kit-report``: what it says of a kit that passes, fails, or was not all run; and a wheel that ships it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycarrier import cli, plugins
from anycarrier.testing.kit_report import KitReport, facts_of, read_reports, write_reports
from anycarrier.testing.kit_results import CHECKS

ACME = Path(__file__).resolve().parents[2] / "docs/examples/anycarrier-acme"
REPR, FRAMES = "test_secrets_are_in_no_repr", "test_making_one_touches_no_network"


@pytest.fixture
def acme(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with Acme's conformance test."""
    shutil.copytree(ACME / "tests/cassettes", pytester.path / "cassettes")
    shutil.copy(ACME / "tests/test_acme.py", pytester.path)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def reported(pytester: pytest.Pytester, *words: str) -> tuple[KitReport, dict[str, int]]:
    run = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kit-report", "made/kit_report.json", *words)
    run.stdout.fnmatch_lines("anycarrier kit report of acme: *made/kit_report.json")
    return read_reports(pytester.path / "made/kit_report.json")["acme"], run.parseoutcomes()


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["alone", "with xdist"])
def test_it_counts_what_pytest_counts_and_says_what_is_installed(words: tuple[str, ...], acme: pytest.Pytester) -> None:
    report, outcomes = reported(acme, *words)
    assert report.ok and (report.passed, report.skipped) == (outcomes["passed"], outcomes["skipped"])
    facts = facts_of("acme", ACME / "tests/cassettes")
    assert (report.wheel, report.version, report.contract) == ("anycarrier-acme", facts.version, 1)
    assert report.capabilities == ("fetch_call", "transfer") and report.sandbox
    assert report.cassettes == facts.cassettes == {"recorded": 0, "sandbox": 6, "documented": 10}
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", report.date)
    assert report.verdict == f"passed: {report.passed} tests, {report.skipped} skipped by capability"


def test_a_kit_of_which_a_part_was_run_did_not_pass(acme: pytest.Pytester) -> None:
    report, outcomes = reported(acme, "-k", REPR)
    assert report.passed == outcomes["passed"] == 1 and not report.ok
    assert {*report.not_run} == CHECKS - {REPR}
    assert report.verdict.startswith("NOT PASSED: not run test_")


def test_a_check_that_the_author_replaces_counts_as_not_run(acme: pytest.Pytester) -> None:
    file = acme.path / "test_acme.py"
    file.write_text(file.read_text() + f"\n    def {REPR}(self): pass\n    def test_by_the_author(self): pass\n")
    report, outcomes = reported(acme, "-k", f"{REPR} or {FRAMES} or by_the_author")
    assert outcomes == {"passed": 3, "deselected": outcomes["deselected"]} and report.passed == 1
    assert REPR in report.not_run and FRAMES not in report.not_run


def test_a_check_that_fails_is_named_and_nothing_that_it_said(acme: pytest.Pytester) -> None:
    file = acme.path / "test_acme.py"
    file.write_text(file.read_text().replace('b"test", request.body', 'b"hush", request.body'))
    check = "test_a_webhook_becomes_exactly_its_event"
    report, outcomes = reported(acme, "-k", f"webhook or {REPR}")
    assert outcomes["failed"] and report.failed and check in CHECKS and check in report.failed
    assert REPR not in report.failed and "hush" not in (acme.path / "made/kit_report.json").read_text()
    assert f"NOT PASSED: failed {', '.join(report.failed)}; not run" in report.verdict


def test_without_a_kit_nothing_is_written(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_something_else(): pass")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    run = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--kit-report", "kit_report.json")
    assert run.ret == 0 and not (pytester.path / "kit_report.json").exists()


# --- the wheel that ships it -----------------------------------------------------------------------------------------

ZEPPELIN = """
from anycarrier import hookimpl
from anycarrier_acme import AcmeCredential, AcmeProvider

class ZeppelinCredential(AcmeCredential):
    provider: str = "zeppelin"

class Zeppelin(AcmeProvider):
    name, title, credential_type = "zeppelin", "Zeppelin", ZeppelinCredential

@hookimpl
def anycarrier_providers():
    return [Zeppelin]
"""


@pytest.fixture
def zeppelin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of an installed wheel."""
    package, told = tmp_path / "anycarrier_zeppelin", tmp_path / "anycarrier_zeppelin-2.1.dist-info"
    package.mkdir(), told.mkdir()
    (package / "__init__.py").write_text(ZEPPELIN)
    facts = ("Metadata-Version: 2.1", "Name: anycarrier-zeppelin", "Version: 2.1", "Maintainer: Count Z")
    (told / "METADATA").write_text("\n".join(facts) + "\n")
    (told / "entry_points.txt").write_text("[anycarrier]\nzeppelin = anycarrier_zeppelin\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "zeppelin")
    plugins.reset()
    yield package
    plugins.reset()
    sys.modules.pop("anycarrier_zeppelin", None)


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert cli.main(["providers"]) == 0
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("zeppelin")
def test_a_wheel_without_a_report_is_shown_for_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys)
    assert lines[:2] == ["zeppelin     Zeppelin, with a sandbox", "from: anycarrier-zeppelin 2.1, contract 1"]
    assert lines[4:] == ["cassettes: none in the wheel", "kit: no report in the wheel", "maintained by: Count Z"]


def test_a_wheels_report_is_shown(zeppelin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = KitReport(
        name="zeppelin", title="Zeppelin", wheel="anycarrier-zeppelin", version="2.1", contract=1, capabilities=(),
        sandbox=True, cassettes={"recorded": 3, "documented": 1}, passed=12, skipped=5, date="2026-01-02",
    )  # fmt: skip
    write_reports(zeppelin / "kit_report.json", {"zeppelin": report})
    lines = shown(capsys)
    assert "kit: passed: 12 tests, 5 skipped by capability, 2026-01-02" in lines
    assert "cassettes: 3 recorded, 1 documented" in lines
    assert cli.main(["providers", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["providers"]
    assert (told["wheel"], told["version"], told["kit"]["passed"]) == ("anycarrier-zeppelin", "2.1", 12)
    assert told["maintained_by"] == "Count Z"


def test_a_report_of_another_version_says_so(zeppelin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = KitReport(
        name="zeppelin", title="Zeppelin", wheel="anycarrier-zeppelin", version="2.0", contract=1, capabilities=(),
        sandbox=True, cassettes={"recorded": 3}, passed=12, date="2026-01-02",
    )  # fmt: skip
    write_reports(zeppelin / "kit_report.json", {"zeppelin": report})
    lines = shown(capsys)
    assert "kit: passed: 12 tests, 0 skipped by capability, 2026-01-02, of anycarrier-zeppelin 2.0" in lines
    assert "cassettes: none in the wheel" in lines


def test_a_damaged_report_harms_nothing_else(zeppelin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (zeppelin / "kit_report.json").write_text("{")
    assert any(line.startswith("kit: ") and "kit_report.json is no kit report" in line for line in shown(capsys))
