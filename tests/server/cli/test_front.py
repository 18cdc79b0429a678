"""The ``anycarrier`` command with the service's words added: what it finds, and options that stand before a word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anycarrier import cli
from anycarrier_server.cli import completion
from anycarrier_server.commands import COMMANDS


def test_the_library_knows_the_services_words() -> None:
    assert {*cli.SERVICE, "engines"} == set(COMMANDS), "engines is in the library too, and shows less there"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["call"], "unknown command 'call' (did you mean 'calls'?)"),
        (["calls", "shwo"], "unknown command 'anycarrier calls shwo' (did you mean 'show'?)"),
    ],
)
def test_an_unknown_command_is_named_with_the_near_one(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(typed) == 2
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    "before",
    [["--url", "http://127.0.0.1:1", "--key", "k"], ["--json", "--url=http://127.0.0.1:1", "--key=k"]],
)
def test_options_of_every_command_may_stand_before_it(before: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*before, "calls", "ls"]) == 1
    assert "nobody answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_options_before_the_command_stay_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--url", "http://127.0.0.1:1", "--key", "k", "agents", "set", "--", "aria", "speed=1"]) == 1
    assert "nobody answers at http://127.0.0.1:1" in capsys.readouterr().err
    assert cli.main(["--url"]) == 2


def test_the_page_lists_every_word_with_its_verbs_and_no_other() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "cli.md").read_text()
    told = dict(re.findall(r"^\| `([\w-]+)` \|\s*([^|]*?)\s*\|", page, re.MULTILINE))
    there = {word: " ".join(f"`{verb}`" for verb in verbs if verb) for word, verbs in completion.tree().items()}
    assert told == there
