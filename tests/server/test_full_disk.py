"""A disk without room: calls go on and can be stopped, what cannot be written is said, and files are accounted for."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from running import SOMEBODY, Running, agent_server, running

from anycarrier.agent import call_handler
from anycarrier.wav import WavWriter, read_wav
from anycarrier_server.outage import DatabaseFull, DatabaseUnavailable, no_room, outages_named
from anycarrier_server.store import parse_id
from anycarrier_server.store.calls import Recordings
from anycarrier_server.store.models import Recording
from anycarrier_server.work import finished_calls, reconciler

SOUND = b"\x55" * 24_000
"""Three seconds of a caller."""

OWN_SPEECH = {"X-Use-Inkbox-Text-To-Speech": "false", "X-Use-Inkbox-Speech-To-Text": "false"}


def over(call: dict[str, Any]) -> bool:
    return call["status"] in ("completed", "failed")


# --- recordings -------------------------------------------------------------------------------------------------------


def fill_up(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """The disk takes so many writes, and no more."""
    written, write = [0], WavWriter.write

    def full(self: WavWriter, frames: bytes) -> None:
        written[0] += 1
        if written[0] > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, frames)

    monkeypatch.setattr(WavWriter, "write", full)
    return written


@pytest.mark.parametrize("speech", [None, OWN_SPEECH], ids=["our speech", "its own speech"])
@pytest.mark.parametrize(("after", "status"), [(0, "failed"), (2, "cut")])
async def test_a_recorded_call_goes_on_and_its_recording_says_that_it_is_cut(
    after: int, status: str, speech: dict[str, str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = fill_up(monkeypatch, after)
    async with running(tmp_path) as at, agent_server(headers=speech) as agent:
        mine = await at.equip("twilio", agent.url, enable_recording=True)
        call = f"/v1/calls/{(await at.ring(mine['number']))['id']}"
        await at.until(call, lambda seen: seen["status"] == "in_progress")
        await at.ask("POST", f"/sandbox{call.removeprefix('/v1')}/audio", content=SOUND)
        live = await at.until(call, lambda seen: any("the recording was cut" in told for told in seen["warnings"]))
        assert live["status"] == "in_progress" and written[0] == after + 1
        agent.events.clear()
        await at.ask("POST", f"/sandbox{call.removeprefix('/v1')}/digits", json={"digits": "5"})
        await at.until(call, lambda _: agent.of("dtmf"))
        await at.ask("POST", f"/sandbox{call.removeprefix('/v1')}/hangup")
        done = await at.until(call, lambda seen: over(seen) and seen["recording_status"] == status)
        assert done["end_reason"] == "user_hangup"
        assert bool(done["recording_url"]) == (status == "cut")
        listed = await at.ask("GET", "/v1/calls", params={"has_recording": "true"})
        assert [one["id"] for one in listed["items"]] == ([done["id"]] if status == "cut" else [])
        if status == "cut":
            assert (await at.http.get(done["recording_url"])).status_code == 200
            wav = await at.http.get(f"{call}/recording", params={"format": "wav"})
            format, audio = read_wav(wav.content)
            told = float(done["warnings"][0].partition("after ")[2].partition(" s")[0])
            assert told == pytest.approx(format.seconds(len(audio)), abs=0.001) and told > 0.25



async def test_a_folder_that_cannot_be_made_costs_the_recording_only(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    async with running(tmp_path) as at, agent_server() as agent:
        at.service.settings.__dict__["recordings_dir"] = tmp_path / "taken"
        mine = await at.equip("telnyx", agent.url, enable_recording=True)
        call = f"/v1/calls/{(await at.ring(mine['number']))['id']}"
        seen = await at.until(call, lambda seen: seen["status"] == "in_progress" and seen["warnings"])
        assert "the recording was cut after 0 s" in seen["warnings"][0]
        stopped = await at.ask("POST", f"{call}/stop")
        assert stopped["end_reason"] == "api_stop"


def wav_of(at: Running, call_id: UUID, seconds: float, idle: float) -> Path:
    path = at.service.settings.recordings / f"{call_id.hex}.wav"
    with WavWriter(path, channels=2) as wav:
        wav.write(bytes(round(32_000 * seconds)))
    changed = path.stat().st_mtime - idle
    os.utime(path, (changed, changed))
    return path


async def test_recordings_that_a_killed_process_left_are_given_to_their_calls_or_deleted(tmp_path: Path) -> None:
    async with running(tmp_path) as at, agent_server() as agent:
        mine = await at.equip("twilio", agent.url)
        ended = (await at.ring(mine["number"]))["id"]
        await at.until(f"/v1/calls/{ended}", lambda seen: seen["status"] == "in_progress")
        await at.ask("POST", f"/v1/calls/{ended}/stop")
        live = (await at.ring(mine["number"]))["id"]
        await at.until(f"/v1/calls/{live}", lambda seen: seen["status"] == "in_progress")
        call_id, live_id = (parse_id("call", name) for name in (ended, live))
        assert call_id is not None and live_id is not None
        day = finished_calls.KEPT + 60
        lost = wav_of(at, call_id, 2.0, finished_calls.IDLE + 60)
        kept = [wav_of(at, live_id, 1.0, day), wav_of(at, uuid4(), 1.0, finished_calls.IDLE + 60)]
        kept.append(foreign := at.service.settings.recordings / "mine.wav")
        foreign.write_bytes(b"not ours")
        os.utime(foreign, (0, 0))
        fresh = wav_of(at, uuid4(), 1.0, 0)
        nobodys = wav_of(at, uuid4(), 1.0, day)
        assert await finished_calls.sweep_recordings(at.service.resources) == (1, 1)
        assert lost.exists() and fresh.exists() and all(path.exists() for path in kept) and not nobodys.exists()
        seen = await at.until(f"/v1/calls/{ended}", lambda seen: seen["recording_url"])
        assert seen["recording_status"] == "completed"
        assert (await at.http.get(seen["recording_url"])).status_code == 200
        assert await finished_calls.sweep_recordings(at.service.resources) == (0, 0)
        rows = await at.service.store.recordings.of_call(call_id)
        assert [(row.path, row.duration) for row in rows] == [(lost.name, 2.0)] and isinstance(rows[0], Recording)


# --- SQLite -----------------------------------------------------------------------------------------------------------


class FullCursor(sqlite3.Cursor):
    """Refuses what changes something as SQLite does when its disk is full: the transaction is undone already."""

    full = False

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self._refuse(sql)
        return super().execute(sql, *parameters)

    def executemany(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        self._refuse(sql)
        return super().executemany(sql, parameters)

    def _refuse(self, sql: str) -> None:
        if FullCursor.full and sql.lstrip().partition(" ")[0].upper() in ("INSERT", "UPDATE", "DELETE"):
            if self.connection.in_transaction:
                self.connection.rollback()
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error


class FullConnection(sqlite3.Connection):
    def cursor(self, *_: Any) -> sqlite3.Cursor:
        return super().cursor(FullCursor)

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return self.cursor().execute(sql, *parameters)

    def executemany(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        return self.cursor().executemany(sql, parameters)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FullCursor]]:
    """``disk.full = True`` and nothing can be written."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **how: connect(*given, factory=FullConnection, **how))
    yield FullCursor
    FullCursor.full = False


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
@pytest.mark.parametrize("face", ["oneinbox", "inkbox"])
@pytest.mark.timeout(180)
async def test_with_sqlite_full_nothing_is_placed_and_a_live_call_can_be_stopped(
    provider: str,
    face: str,
    tmp_path: Path,
    disk: type[FullCursor],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_handler, "SETTLING", 0.5)
    async with running(tmp_path) as at, agent_server("Hello.") as agent:
        mine = await at.equip(provider, agent.url, enable_recording=True)
        call = (await at.ring(mine["number"]))["id"]
        await at.until(f"/v1/calls/{call}", lambda seen: seen["recording_status"] == "in_progress")
        leg = f"/sandbox/calls/{call}"
        caplog.clear()
        disk.full = True
        body = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
        placed = await at.http.post("/v1/calls", json=body)
        other = await at.http.post("/api/v1/phone/place-call", json={k: v for k, v in body.items() if k != "agent_id"})
        for refused in (placed, other):
            assert refused.status_code == 503 and "disk is full" in refused.text, refused.text
            assert int(refused.headers["Retry-After"]) >= 1
        if face == "oneinbox":
            await at.ask("POST", f"/v1/calls/{call}/stop")
        else:
            await at.ask("POST", f"/api/v1/phone/calls/{parse_id('call', call)}/hangup")
        await at.until(leg, lambda seen: seen["state"] == "ended")
        assert not (await at.ask("GET", f"/v1/calls/{call}"))["ended_at"]
        async with asyncio.timeout(30):
            while "what a call leaves behind: the database is unavailable (its disk is full)" not in caplog.messages:
                await asyncio.sleep(0.05)
        disk.full = False
        done = await at.until(f"/v1/calls/{call}", lambda it: over(it) and it["recording_status"] == "completed")
        assert done["end_reason"] == "api_stop"
        assert [record.getMessage() for record in caplog.records if record.exc_info] == []
        await at.ask("POST", "/v1/calls", 201, json=body)
    told = "POST /v1/calls: the database is unavailable (its disk is full)"
    assert sum(told in line for line in caplog.messages) == 1


async def test_a_call_that_could_not_be_filed_is_filed_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "EVERY", 0.2)
    finish, refused = Recordings.finish, list[UUID]()

    async def full(self: Recordings, recording_id: UUID, **fields: Any) -> None:
        if len(refused) < 2:
            refused.append(recording_id)
            raise DatabaseFull
        await finish(self, recording_id, **fields)

    monkeypatch.setattr(Recordings, "finish", full)
    async with running(tmp_path) as at, agent_server("Hello.") as agent:
        mine = await at.equip("twilio", agent.url, enable_recording=True)
        call = f"/v1/calls/{(await at.ring(mine['number']))['id']}"
        await at.until(call, lambda seen: seen["recording_status"] == "in_progress")
        await at.ask("POST", f"{call}/stop")
        done = await at.until(call, lambda seen: over(seen) and seen["recording_status"] == "completed")
        assert done["end_reason"] == "api_stop" and len(refused) == 2


@pytest.mark.parametrize("provider", ["twilio", "telnyx"])
async def test_a_carriers_webhook_hears_not_now_while_sqlite_is_full(
    provider: str, tmp_path: Path, disk: type[FullCursor], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as at, agent_server("Hello.") as agent:
        mine = await at.equip(provider, agent.url)
        caplog.clear()
        caplog.set_level("INFO", "anycarrier.access")
        disk.full = True
        await at.http.post("/sandbox/calls", json={"to": mine["number"], "from": SOMEBODY})
        answers = [line for line in caplog.messages if line.startswith(f"POST /{provider}/crd_") and " ms" in line]
        told = [line for line in caplog.messages if line.startswith(f"POST /{provider}/crd_") and " ms" not in line]
        assert answers and all(": 503 in " in line for line in answers)
        assert len(told) == len(answers) and all("its disk is full" in line for line in told)
        assert [record.getMessage() for record in caplog.records if record.exc_info] == []
        disk.full = False
        call = (await at.ring(mine["number"]))["id"]
        await at.until(f"/v1/calls/{call}", lambda seen: seen["status"] == "in_progress")


class Sqlstate(Exception):
    sqlstate = "53100"


def test_a_full_disk_is_told_apart_from_a_database_that_is_away() -> None:
    full, busy = sqlite3.OperationalError(), sqlite3.OperationalError()
    full.sqlite_errorcode, busy.sqlite_errorcode = sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY
    assert no_room(full) and not no_room(busy) and no_room(Sqlstate()) and not no_room(ValueError())
    for problem, kind in ((full, DatabaseFull), (Sqlstate(), DatabaseFull), (busy, DatabaseUnavailable)):
        with pytest.raises(DatabaseUnavailable) as named, outages_named():
            raise problem
        assert type(named.value) is kind
