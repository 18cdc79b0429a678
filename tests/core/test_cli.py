"""The front of ``anycarrier``: the right module is asked, and only that one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import pytest

from anycarrier import cli, errors, plugins
from anycarrier.cli import plugin_commands
from anycarrier.credentials import Credential
from anycarrier.hookspecs import hookimpl
from anycarrier.plugins import capability_matrix
from anycarrier.provider import Capability, Provider
from anycarrier.speech import SpeakingStyle, SpeechEngine, Synthesizer


class _Card(Credential):
    provider: str = "cardboard"


class Cardboard(Provider):
    name = "cardboard"
    credential_type = _Card
    verify = parse_webhook = serializer = search_numbers = dial = answer = hang_up = None  # type: ignore[assignment]

    async def send_digits(self, call_id: str, digits: str) -> None: ...


class _Plugin:
    @hookimpl
    def anycarrier_providers(self) -> list[type[Provider]]:
        return [Cardboard]


@pytest.fixture
def cardboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
    plugins.reset()
    plugins.register(_Plugin(), "cardboard")
    yield
    plugins.reset()


def test_no_word_is_answered_with_the_words_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "new-provider" in (shown := capsys.readouterr().out) and "new-engine" in shown


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["provider"], "unknown command 'provider' (did you mean 'providers'?)"),
        (["frobnicate"], "unknown command 'frobnicate'\n"),
    ],
)
def test_an_unknown_command_is_named_with_the_near_one(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(typed) == 2
    assert capsys.readouterr().err.startswith(said)


def test_commands_that_cannot_be_loaded_are_named_and_take_no_other_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = EntryPoint("service", "no_such_module:COMMANDS", "anycarrier.commands")
    monkeypatch.setattr(cli, "entry_points", lambda group: [broken] if group == "anycarrier.commands" else [])
    assert cli.main(["providers"]) in (0, 1)
    assert "the commands of no_such_module:COMMANDS cannot be loaded: ModuleNotFoundError" in capsys.readouterr().err


@pytest.mark.parametrize("word", cli.SERVICE)
def test_without_the_service_its_commands_say_what_to_install(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda group: [])
    assert cli.main([word, "--help"]) == 2
    assert capsys.readouterr().err == (
        f"{word!r} is a command of the service, which is not installed: install anycarrier-server "
        "(in a checkout: pip install ./contrib/server)\n"
    )


@pytest.mark.parametrize("words", [["verify", "whisper"], ["--agent", "aria"], ["--agent=aria"]])
def test_without_the_service_its_words_for_engines_say_what_to_install(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda group: [])
    assert cli.main(["engines", *words]) == 2
    told = f"'engines {words[0].partition('=')[0]}' is a command of the service, which is not installed"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("word", cli.commands())
def test_every_word_says_what_it_is_for_in_plain_words(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main([word, "--help"])
    told = capsys.readouterr().out
    assert done.value.code == 0 and len(told.splitlines()) > 4
    assert "``" not in told and ":mod:" not in told


@pytest.mark.timeout(300)  # a process for each
def test_every_word_leads_to_a_command() -> None:
    for word in cli.commands():
        run = subprocess.run([sys.executable, "-m", "anycarrier", word, "--help"], capture_output=True, text=True)
        assert run.returncode == 0, f"{word}: {run.stderr}"
        assert f"anycarrier {word}" in run.stdout


def test_help_imports_no_command_and_no_server() -> None:
    code = "import sys, anycarrier.cli as it; it.main(['--help']); print(*sys.modules, sep='\\n', file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stderr.split())
    assert "anycarrier.cli" in loaded
    assert not loaded & {"anycarrier.demo", "anycarrier.plugins", "anycarrier_server.cli", "sqlalchemy", "httpx"}


def test_our_errors_are_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: list[str]) -> int:
        raise errors.UnknownProvider("acmee", ["acme"])

    monkeypatch.setattr("anycarrier.cli.plugin_commands.providers", fail)
    assert cli.main(["providers"]) == 2
    assert capsys.readouterr().err.startswith("anycarrier providers: no provider named 'acmee'")


@pytest.mark.usefixtures("cardboard")
def test_providers_lists_what_is_installed_and_what_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["providers", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in listed["providers"]] == ["cardboard"]
    assert "send_digits" in listed["providers"][0]["capabilities"]
    assert listed["broken"] == {}


@pytest.mark.usefixtures("cardboard")
def test_matrix_check_fails_on_a_stale_page_and_write_mends_it(tmp_path: Path) -> None:
    page = tmp_path / "capabilities.md"
    page.write_text("long ago")
    assert cli.main(["matrix", "--check", str(page)]) == 1
    assert cli.main(["matrix", "--write", str(page)]) == 0
    assert cli.main(["matrix", "--check", str(page)]) == 0


def test_matrix_says_yes_exactly_where_the_method_is_overridden() -> None:
    table, _, names = capability_matrix([Cardboard]).partition("## What the names mean")
    cells = [row.split("|") for row in table.splitlines() if row.startswith("|")]
    rows = {row[1].strip(): row[-2].strip() for row in cells}
    assert rows[""] == "Cardboard"
    assert rows["`send_digits`"] == "yes"
    assert rows["`transfer`"] == "-"
    assert rows.keys() >= {f"`{capability}`" for capability in Capability}
    assert "`dial`, `answer` and `hang_up`." in table
    assert "| `dial` | Ring someone" in names and "| `transfer` | Hand the far end" in names


def test_matrix_has_a_column_for_each_carrier_by_its_title() -> None:
    class Aardvark(Cardboard):
        title = "aardvark"

    class Zebra(Cardboard):
        title = "Zebra"

    page = capability_matrix([Zebra, Cardboard, Aardvark])
    assert "|  | aardvark | Cardboard | Zebra |\n| --- | --- | --- | --- |\n" in page


class _Robot(SpeechEngine):
    name = "robot"

    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        raise NotImplementedError


class _Human(_Robot):
    name = "human"
    rank = 10
    cut: ClassVar[bool] = False

    async def start(self) -> None:
        if self.cut:
            raise errors.SpeechFailed("human", "speak", "voice.bin is cut", next_step="pip install it again")

    def knows_language(self, ability: str, language: str) -> bool:
        return language == "en"


class _Voices:
    @hookimpl
    def anycarrier_speech_engines(self) -> list[type[SpeechEngine]]:
        return [_Human, _Robot]


def test_the_engines_are_listed_with_what_an_agent_would_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
    plugins.reset()
    plugins.register(_Voices(), "voices")
    try:
        assert plugin_commands.engines([]) == 0
        said = capsys.readouterr().out
        assert "rank 10; ready" in said and "speak   human (highest rank: 10); then robot" in said
        assert "listen  none (none fits). no speech engine that listens is installed" in said
        plugin_commands.engines(["--language", "de"])
        assert "speak   robot (the only one that fits)" in capsys.readouterr().out
        monkeypatch.setattr(_Human, "cut", True)
        assert plugin_commands.engines(["--json"]) == 1
        shown = json.loads(capsys.readouterr().out)
        assert "voice.bin is cut. pip install it again" in shown["engines"][0]["why_not"]
        assert shown["used"][0]["engine"] == "human" and shown["used"][0]["fallbacks"] == ["robot"]
        assert "voice.bin is cut" in shown["used"][0]["warning"] and "'robot' speaks instead" in str(shown["used"])
    finally:
        plugins.reset()
