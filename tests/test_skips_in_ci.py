"""Under ``ANYCARRIER_CI=1`` a skip is a failure; this shows that the rule bites, and where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent

TESTS = """
    import pytest
    from shared_documents import shared_path

    def test_runs():
        pass

    def test_needs_a_document():
        shared_path("no-such-folder", "no-such-file")

    @pytest.mark.skipif(True, reason="no PostgreSQL here")
    def test_needs_a_package():
        pass

    def test_needs_an_account():
        pytest.skip("live: no account")

    @pytest.mark.xfail(reason="known")
    def test_known_fault():
        assert False
"""


@pytest.fixture
def tests(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.syspathinsert(HERE)
    pytester.makeconftest((HERE / "conftest.py").read_text())
    return pytester


def test_a_laptop_may_skip(tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANYCARRIER_CI", raising=False)
    tests.makepyfile(TESTS)
    tests.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1, skipped=3, xfailed=1)


def test_ci_fails_on_skips_but_those_no_machine_of_ours_can_run(
    tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYCARRIER_CI", "1")
    tests.makepyfile(TESTS)
    result = tests.runpytest("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1, errors=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines_random(["*no skip: needs ../shared/no-such-folder*", "*no PostgreSQL here*"])


def test_a_runner_that_says_it_has_no_documents_may_skip_for_them(
    tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYCARRIER_CI", "1")
    monkeypatch.setenv("ANYCARRIER_SHARED", "none")
    tests.makepyfile(TESTS)
    tests.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1, errors=1, skipped=2, xfailed=1)


def test_ci_fails_on_a_module_that_skips_itself(tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYCARRIER_CI", "1")
    tests.makepyfile("import shared_documents\nshared_documents.shared_path('nowhere')\ndef test_never(): pass")
    assert tests.runpytest("-p", "no:cacheprovider").ret != 0
