"""``anycarrier new-provider``: what it writes works, but for the parts it says are left to fill in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anycarrier.errors import ConfigurationError
from anycarrier.testing.scaffold import new_provider

PLUGIN = """
import pytest
from anycarrier import plugins
import anycarrier_river_bank

@pytest.fixture(autouse=True, scope="session")
def installed():
    plugins._host = plugins.PluginHost()
    plugins._host.register(anycarrier_river_bank, "this test", "river-bank")
"""

LEFT = {  # the check -> the part it misses
    "test_secrets_are_in_no_error_and_no_log": "dial",
    "test_a_webhook_becomes_exactly_its_event[incoming]": "verify",
    "test_a_webhook_becomes_exactly_its_event[unknown]": "verify",
    "test_an_event_keeps_the_original_and_an_id_for_redelivery[incoming]": "parse_webhook",
    "test_an_event_keeps_the_original_and_an_id_for_redelivery[unknown]": "parse_webhook",
    "test_one_byte_changed_is_refused[incoming]": "verify",
    "test_one_byte_changed_is_refused[unknown]": "verify",
    "test_without_or_with_another_signature_it_is_refused[incoming]": "verify",
    "test_without_or_with_another_signature_it_is_refused[unknown]": "verify",
    "test_a_mangled_body_is_an_event_or_malformed[incoming]": "parse_webhook",
    "test_a_mangled_body_is_an_event_or_malformed[unknown]": "parse_webhook",
    "test_search_numbers_answers": "search_numbers",
    "test_dial_is_one_request_and_gives_the_call": "dial",
    "test_answer_connects_the_stream": "parse_webhook",
    "test_extra_reaches_the_wire": "dial",
    "test_throttling_tells_how_long_to_wait_when_the_carrier_does": "dial",
    "test_a_request_that_cannot_be_written_is_no_call_of_unknown_outcome": "dial",
}
LEFT |= {
    f"test_a_failed_dial_is_never_sent_again[{failure}]": "dial"
    for failure in ("500", "429", "timeout", "refused", "html")
}
FAILURES = (
    "401-AuthenticationFailed 404-RequestRejected 429-RateLimited 500-ProviderUnavailable 503-html-ProviderUnavailable "
    "timeout-ProviderUnavailable refused-ProviderUnavailable html-UnreadableResponse list-UnreadableResponse"
).split()
LEFT |= {
    f"test_a_failure_has_its_own_error[{failure}-{operation}]": operation
    for failure in FAILURES
    for operation in ("dial", "search_numbers")
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scaffold") / "anycarrier-river-bank"
    new_provider("river-bank", folder)
    return folder


def test_all_passes_but_the_parts_left_to_fill_in_and_each_says_what_it_is(project: Path) -> None:
    (project / "conftest.py").write_text(PLUGIN)
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "COLUMNS": "400"}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-rf", "-p", "no:cacheprovider", str(project)]
    run = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    failed = dict(re.findall(r"^FAILED \S+?::Test\w+::(\S+\]?) - (.*)$", run.stdout, re.MULTILINE))
    assert sorted(failed) == sorted(LEFT), run.stdout[-3000:]
    for check, part in LEFT.items():
        assert failed[check].startswith(f"NotImplementedError: anycarrier-river-bank, left to fill in: {part}:"), check
    passed = int(re.search(r"(\d+) passed", run.stdout)[1])  # type: ignore[index]
    assert passed > 40


@pytest.mark.parametrize("name", ["", "Acme", "9lives", "a b", "../up", "a--b", "café"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="no name for a provider"):
        new_provider(name, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="not empty"):
        new_provider("acme", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
