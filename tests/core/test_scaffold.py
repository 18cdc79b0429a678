"""``anycarrier new-provider`` and ``new-engine``: what they write works, but for the parts that are left to write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anycarrier.cli.plugin_commands import write_engine, write_provider
from anycarrier.errors import ConfigurationError

pytestmark = pytest.mark.timeout(300)  # each starts several processes

PLUGIN = """
import pytest
from anycarrier import plugins
import anycarrier_river_bank

@pytest.fixture(autouse=True, scope="session")
def installed():
    plugins._host = plugins.PluginHost()
    plugins._host.register(anycarrier_river_bank, "this test", "river-bank")
"""

VERIFY = """
    def verify(self, request: WebhookRequest) -> None:
        import hmac

        expected = hmac.digest(b"test", request.body, "sha256").hex()
        if not hmac.compare_digest(expected.encode(), (request.header("x-river-bank-signature") or "").encode()):
            raise errors.SignatureInvalid("the signature is missing or wrong")

"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scaffold") / "anycarrier-river-bank"
    write_provider("river-bank", folder)
    return folder


def run_kit(project: Path) -> str:
    (project / "conftest.py").write_text(PLUGIN)
    return run(project)


def run(project: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "COLUMNS": "400"}
    command = [sys.executable, "-m", "pytest", "-q", "-rfs", "-p", "no:cacheprovider", str(project)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


def test_the_first_run_says_how_much_is_written_and_what_is_next_and_nothing_else(project: Path) -> None:
    shown = run_kit(project)
    assert (
        "river-bank: 2 of 7 required methods are written (serializer, hang_up). Next is verify: "
        "compare the signature header in constant time, else raise SignatureInvalid"
    ) in shown
    assert re.findall(r"^FAILED \S+::(\w+)", shown, re.MULTILINE) == ["test_every_required_method_is_written"]
    assert "Traceback" not in shown and "raise NotImplementedError" not in shown
    assert int(re.search(r"(\d+) passed", shown)[1]) > 40  # type: ignore[index]
    waiting = set(re.findall(r"^SKIPPED .*: not written yet: (.*)$", shown, re.MULTILINE))
    assert len(waiting) == 4, "each of the five methods is waited for; answer needs the call that parse_webhook gives"


def test_the_next_run_goes_on_where_the_author_stopped(project: Path) -> None:
    source = project / "src" / "anycarrier_river_bank" / "__init__.py"
    text = source.read_text()
    start = text.index("    def verify(")
    end = text.index("    def parse_webhook(")
    source.write_text(text[:start] + VERIFY + text[end:])
    try:
        shown = run_kit(project)
    finally:
        source.write_text(text)
    assert "3 of 7 required methods are written (verify, serializer, hang_up). Next is parse_webhook: " in shown
    assert re.findall(r"^FAILED \S+::(\w+)", shown, re.MULTILINE) == ["test_every_required_method_is_written"]


def test_a_required_method_that_breaks_once_written_is_a_failure(project: Path) -> None:
    source = project / "src" / "anycarrier_river_bank" / "__init__.py"
    text = source.read_text()
    source.write_text(text.replace('raise NotImplementedError("compare', 'raise ZeroDivisionError("compare'))
    try:
        shown = run_kit(project)
    finally:
        source.write_text(text)
    assert "3 of 7 required methods are written (verify, serializer, hang_up)" in shown
    assert "test_one_byte_changed_is_refused[incoming] - ZeroDivisionError" in shown


SPEAK = """
    async def synthesize(self, text: str) -> AsyncGenerator[bytes, None]:
        for _ in text.split():
            await asyncio.sleep(0)
            yield b"\\x11\\x22\\x91\\xa2" * (self.format.bytes_per_second // 40)

"""
RECOGNIZE = """
    async def recognize(self, audio: bytes) -> str:
        return "hello"

"""


def written(source: str, method: str, text: str) -> str:
    """``source`` with what is left to write there written."""
    start = source.index(re.search(rf"    (async )?def {method}\(", source)[0])  # type: ignore[index]
    return source[:start] + text.lstrip("\n") + source[source.index("    # ---", start) :]


def test_an_engine_says_what_is_next_until_it_passes_the_kit(tmp_path: Path) -> None:
    folder = tmp_path / "anycarrier-speech-river-bank"
    write_engine("river-bank", folder)
    (folder / "conftest.py").write_text(PLUGIN.replace("anycarrier_river_bank", "anycarrier_speech_river_bank"))
    path = folder / "src" / "anycarrier_speech_river_bank" / "__init__.py"

    shown = run(folder)
    assert "river-bank: 0 of 2 abilities are written. Next is listen: return the words in the audio" in shown
    assert re.findall(r"^FAILED \S+::(\w+)", shown, re.MULTILINE) == ["test_every_ability_is_written"]

    path.write_text(written(path.read_text(), "recognize", RECOGNIZE))
    shown = run(folder)
    assert "river-bank: 1 of 2 abilities are written (listen). Next is speak: yield the audio of the text" in shown

    path.write_text(written(path.read_text(), "synthesize", SPEAK))
    shown = run(folder)
    assert "failed" not in shown and int(re.search(r"(\d+) passed", shown)[1]) > 15, shown  # type: ignore[index]


@pytest.mark.parametrize("scaffold", [write_provider, write_engine])
@pytest.mark.parametrize("name", ["", "Acme", "9lives", "a b", "../up", "a--b", "café", "a" * 300])
def test_a_name_that_cannot_be_one_is_refused(
    tmp_path: Path, name: str, scaffold: Callable[[str, Path], list[Path]]
) -> None:
    with pytest.raises(ConfigurationError, match="no name for a"):
        scaffold(name, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["server", "speech-acme", "speech_acme"])
def test_a_provider_is_not_named_as_the_service_or_an_engine_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="no name for a provider"):
        write_provider(name, tmp_path / "x")
    assert write_engine("server", tmp_path / "y"), "anycarrier-speech-server is free"


@pytest.mark.parametrize(("here", "needs"), [("0.2.1", ">=0.2,<1"), ("1.0.0rc1", ">=1.0.0rc1,<2")])
def test_what_is_written_needs_the_version_that_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str, needs: str
) -> None:
    monkeypatch.setattr("anycarrier.cli.plugin_commands.version", lambda name: here)
    write_provider("acme", tmp_path / "x")
    assert f'"anycarrier{needs}"' in (tmp_path / "x" / "pyproject.toml").read_text()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    for folder, why in ((tmp_path / "thesis.txt", "is a file"), (tmp_path / "thesis.txt" / "x", "cannot be written")):
        with pytest.raises(ConfigurationError, match=why):
            write_provider("acme", folder)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="not empty"):
        write_provider("acme", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
