"""The README's walk through the service: its very lines, one after another in one shell, on each carrier.

Only the port is ours. The second paste meets the number that the first one bought.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycarrier.speech import speech_engine_names
from anycarrier.testing.word_errors import heard_phrase, word_error_rate
from docs.blocks import blocks

README = Path(__file__).resolve().parents[2] / "README.md"
CARRIERS = ("twilio", "telnyx")
DONE = "----- done with that line"

pytestmark = [
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
    pytest.mark.skipif(
        not {"whisper", "hibari"} <= set(speech_engine_names()), reason="needs the engines for free speech"
    ),
]


def lines() -> list[str]:
    """Every line that is pasted, the one that starts the service first."""
    return [line for block in blocks(README) if block.language == "sh" for line in block.text.splitlines() if line]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The service as the page's first line starts it, on another port; gives the port."""
    folder = tmp_path_factory.mktemp("service")
    setting, program = re.fullmatch(r"(ANYCARRIER_ADMIN_KEY=\S+) \./dev anycarrier (.*)", lines()[0]).groups()  # type: ignore[union-attr]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANYCARRIER_")}
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "anycarrier", *program.split(), "--port", "0"],
            cwd=folder, env=clean | dict([setting.split("=", 1)]), stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            due = time.monotonic() + 60
            while (listens := re.search(r"listens on http://[^:]+:(\d+)", log.read_text())) is None:
                assert process.poll() is None and time.monotonic() < due, log.read_text()
                time.sleep(0.1)
            yield int(listens[1])
        finally:
            process.terminate()
            process.wait(30)
    assert " 500 " not in log.read_text(), log.read_text()


class Shell:
    """A POSIX shell into which lines are pasted, and what each of them printed."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        self._process = subprocess.Popen(
            ["sh"], cwd=folder, env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def paste(self, line: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(f"{line}\nprintf '%s\\n' '{DONE}'\n")
        stdin.flush()
        printed = ""
        for out in stdout:
            if out.rstrip("\n").endswith(DONE):
                return (printed + out.rstrip("\n").removesuffix(DONE)).strip()
            printed += out
        raise AssertionError(f"the shell ended at: {line}\n{printed}")

    def close(self) -> None:
        with self._process:  # closes its ends of the pipes: the shell reads no further
            pass


def test_each_carriers_line_differs_from_the_others() -> None:
    assert [re.findall(r"CARRIER=(\w+)", line) for line in lines() if line.startswith("CARRIER=")] == [
        [carrier] for carrier in CARRIERS
    ]


@pytest.mark.parametrize("paste", ["first", "second"])
@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_walk_through_does_what_the_page_says_pasted_once_or_twice(
    carrier: str, paste: str, service: int, tmp_path: Path
) -> None:
    shell, printed = Shell(tmp_path), {}
    try:
        for number, line in enumerate(lines()[1:]):
            if line.startswith("CARRIER=") and not line.startswith(f"CARRIER={carrier} "):
                continue
            said = shell.paste(line.replace(":8080", f":{service}"))
            printed[f"{number} {line}"] = said
            assert "Traceback" not in said and "curl: (" not in said and '"code":' not in said, f"{line}\n{said}"
            bought_before = paste == "second" and "/purchase" in line
            assert ("no id: {" in said) == bought_before, f"{line}\n{said}"
    finally:
        shell.close()

    def of(pattern: str) -> list[str]:
        return [said for line, said in printed.items() if re.search(pattern, line)]

    assert '"ok":true' in of("/verify")[0]
    assert of("/search")[0].count('"phone_number"') == 3
    assert "'ok': True" in of("provider_sync")[0]
    assert of("PATCH")[0].startswith("agt_")
    assert of("/hangup") == ["ended"]
    assert float(of("field heard_seconds")[0]) > 2.5  # the greeting, and the answer
    rung, ringing = (ast.literal_eval(said) for said in of("field messages"))
    spoken = [re.search(r'"(?:say|text)": "([^"]+)"', line) for line in printed if "/sandbox/calls" in line]
    said = [found[1] for found in spoken if found is not None]
    heard, answered = ([one["content"] for one in call if one["role"] == "user"] for call in (rung, ringing))
    assert word_error_rate(zip(said, (" ".join(heard), " ".join(answered)), strict=True)) <= 0.1
    assert heard_phrase("could you book a zeppelin for friday afternoon", heard[0])
    assert [(one["role"], one["content"]) for one in rung] == [
        ("agent", "Hello there."), ("user", heard[0]), ("agent", f"You said: {heard[0]}")
    ]  # fmt: skip
    assert [(one["role"], one["content"]) for one in ringing][:2] == [("agent", "Hello Sama."), ("user", answered[0])]
    assert (tmp_path / "call.mp3").read_bytes()[:2] in (b"\xff\xe3", b"\xff\xf3", b"\xff\xfb", b"ID")
    assert (tmp_path / "call.mp3").stat().st_size > 10_000
    assert of("/stop") == ["api_stop"]
    assert "'outcome': 'Interested'" in of(r"field analysis$")[0]
    assert "'source': 'heuristic'" in of(r"field analysis$")[0]
