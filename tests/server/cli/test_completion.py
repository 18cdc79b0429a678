"""Completion scripts: the shells take them, and offer every word, verb and option there is, and no other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from anycarrier import cli
from anycarrier_server.cli import completion


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


def offered(typed: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What bash offers after ``anycarrier TYPED...``, by running the script's own function."""
    (folder / "anycarrier.bash").write_text(script("bash", capsys))
    ask = 'source "$1"; shift; COMP_WORDS=(anycarrier "$@"); COMP_CWORD=$#; _anycarrier'
    ask += '; printf "%s\\n" "${COMPREPLY[@]}"'
    command = ["bash", "-uc", ask, "bash", str(folder / "anycarrier.bash"), *typed]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return run.stdout.split()


@pytest.mark.parametrize(
    "shell", ["bash", *(pytest.param(name) for name in ("zsh", "fish") if shutil.which(name) is not None)]
)
def test_the_shell_can_read_its_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "script"
    path.write_text(script(shell, capsys))
    run = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_bash_offers_words_then_verbs_then_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert offered([""], tmp_path, capsys) == list(cli.commands())
    assert offered(["num"], tmp_path, capsys) == ["numbers"]
    assert offered(["numbers", "s"], tmp_path, capsys) == ["show", "search", "sync"]
    assert offered(["numbers", "search"], tmp_path, capsys) == ["search"]
    assert offered(["numbers", "search", "--area"], tmp_path, capsys) == ["--area-code"]
    assert offered(["rules", "add", "aria", "b"], tmp_path, capsys) == ["block"]
    assert offered(["doctor", "--f"], tmp_path, capsys) == ["--fix"]
    assert offered(["serve", "--pub"], tmp_path, capsys) == ["--public-url"]
    assert offered(["completion", ""], tmp_path, capsys)[:3] == ["bash", "zsh", "fish"]
    assert offered(["calls", "ls", "--direction", ""], tmp_path, capsys) == ["inbound", "outbound"]
    assert offered(["numbers", "buy", "--type", "t"], tmp_path, capsys) == ["toll_free"]
    assert offered(["numbers", "buy", "--agent", ""], tmp_path, capsys) == []
    assert offered(["doctor", "--fix", "--y"], tmp_path, capsys) == ["--yes"]
    assert offered(["no-such-word", ""], tmp_path, capsys) == []


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_no_word_verb_or_option_is_left_out(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    written = script(shell, capsys)
    for word, verbs in completion.tree().items():
        assert word in written
        for name, verb in verbs.items():
            assert name in written
            for one in verb.options:
                flag = one.flags[0]
                assert not flag.startswith("--") or (f"-l {flag[2:]}" if shell == "fish" else flag) in written


def test_only_commands_with_json_are_offered_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--json" in offered(["providers", "--"], tmp_path, capsys)
    assert "--json" not in offered(["serve", "--"], tmp_path, capsys)
