"""``anycarrier recordings``: listed, saved whole, played by what is there."""

from __future__ import annotations

import asyncio
import os
import stat
import wave
from pathlib import Path

import pytest

from anycarrier_server.cli import call_commands
from server.cli.town import Run, Served

OURS = "+14155550100"
SOMEBODY = "+12125550123"


def content(file: Path | str) -> bytes:
    return Path(file).read_bytes()


@pytest.fixture
async def recorded(served: Served, run: Run) -> str:
    """A call that was recorded; its id."""
    await run("agents", "add", "Aria", "--handler", "listen", "enable_recording=true")
    await run("numbers", "register", OURS, "--agent", "aria", "--credential", "twilio sandbox")
    far_end = await served.ring(OURS, SOMEBODY)
    await far_end.wait_for("streaming")
    await far_end.say(b"\x20\xa0" * 1600)
    await far_end.hang_up()
    async with asyncio.timeout(30):
        while not (rows := (await run("recordings", "ls", "--json")).json):
            await asyncio.sleep(0.05)
    return str(rows[0]["id"])


async def test_recorded_calls_are_listed_saved_and_played(
    recorded: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = (await run("recordings", "ls", "--agent", "aria", "--since", "1h")).out
    assert recorded in listed and SOMEBODY in listed and "aria-" in listed
    assert (await run("recordings", "ls", "--until", "1h")).out.startswith("No recordings.")

    short = recorded[:13]
    saved = (await run("recordings", "save", short)).out
    assert saved.startswith(f"{recorded}.mp3: ") and len(content(f"{recorded}.mp3")) > 100
    assert "there already" in (await run("recordings", "save", short, expect=2)).err
    told = (await run("recordings", "save", short, "-o", "call.wav", "--json")).json
    with wave.open("call.wav") as sound:
        assert sound.getnchannels() == 2
    assert told == {
        "call_id": recorded, "file": "call.wav", "bytes": len(content("call.wav")), "format": "wav"
    }  # fmt: skip
    assert "cannot be written" in (await run("recordings", "save", short, "-o", "no/such/folder.mp3", expect=2)).err
    assert not [name for name in os.listdir() if name.endswith(".part")]

    played = tmp_path / "played"
    player = tmp_path / "bin" / "aplay"
    player.parent.mkdir()
    player.write_text(f'#!/bin/sh\ncp "$2" {played}; echo "$1" > {played}.options\n')
    player.chmod(player.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{player.parent}:/usr/bin:/bin")
    assert (await run("recordings", "play", short)).out == f"played {recorded}\n"
    assert content(played) == content("call.wav")
    assert content(f"{played}.options") == b"-q\n"

    monkeypatch.setattr(call_commands.shutil, "which", lambda name: None)
    missing = (await run("recordings", "play", short, expect=1)).err
    assert "aplay" in missing and f"anycarrier recordings save {recorded}" in missing


async def test_a_call_without_a_recording_is_a_no(served: Served, run: Run) -> None:
    await run("agents", "add", "Aria", "--handler", "listen")
    await run("numbers", "register", OURS, "--agent", "aria", "--credential", "twilio sandbox")
    call = (await run("calls", "dial", OURS, SOMEBODY, "--json")).json
    await served.until(call["id"], "in_progress")
    refused = (await run("recordings", "save", call["id"], expect=1)).err
    assert "no such recording: the call was not recorded" in refused and "check the id" not in refused
    await run("calls", "stop", call["id"])
