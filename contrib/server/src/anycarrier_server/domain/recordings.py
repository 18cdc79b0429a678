"""Recordings: found by key or by a signed address that expires, given as WAV or MP3."""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from anycarrier.errors import ConfigurationError
from anycarrier_server.auth import Caller
from anycarrier_server.domain import call_control
from anycarrier_server.mp3 import wav_to_mp3
from anycarrier_server.refusals import StoreOverloaded, Unknown
from anycarrier_server.store import parse_id, public_id
from anycarrier_server.store.models import CallRow, Recording
from anycarrier_server.store.models.call_tables import PLAYABLE

if TYPE_CHECKING:
    from anycarrier_server.service import Service

GOOD_FOR = 4 * 3600
"""Seconds a signed address works; asking for the call again makes a new one."""

FORMATS = {"mp3": "audio/mpeg", "wav": "audio/wav"}


async def finished(service: Service, call: CallRow) -> Recording | None:
    """The call's recording, once nothing more comes of it and there is something to hear."""
    return playable(await service.store.recordings.of_call(call.id))


def playable(rows: Sequence[Recording]) -> Recording | None:
    """The one of them that can be heard."""
    return next((row for row in rows if row.status in PLAYABLE), None)


async def of_call(service: Service, caller: Caller, call_id: str | UUID) -> tuple[CallRow, Recording]:
    """A call's finished recording."""
    call = await call_control.get(service, caller, call_id)
    recording = await finished(service, call)
    if recording is None:
        raise Unknown("recording", why="the call was not recorded (enable_recording), or the file is not ready yet")
    return call, recording


def signed_url(service: Service, call_id: UUID, *, format: str = "mp3", at: float | None = None) -> tuple[str, int]:
    """An address anybody may fetch the recording from, and when (Unix seconds) it stops working."""
    expires = int(at if at is not None else time.time()) + GOOD_FOR
    name = f"{public_id('call', call_id)}.{format}"
    query = f"expires={expires}&signature={_signature(service, name, expires)}"
    return f"{service.exchange.switchboard.public_url}/recordings/{name}?{query}", expires


async def by_signature(service: Service, name: str, expires: str, signature: str) -> tuple[Path, str]:
    """The file behind a signed address, and its media type; ``Unknown`` when anything about it is wrong."""
    stem, _, format = name.rpartition(".")
    good = (
        expires.isdigit()
        and len(expires) < 12
        and int(expires) > time.time()
        and hmac.compare_digest(signature.encode(), _signature(service, name, int(expires)).encode())
    )
    call_id = parse_id("call", stem)
    if not good or format not in FORMATS or call_id is None:
        raise Unknown("recording")
    call = await service.store.calls.find(call_id)
    recording = await finished(service, call) if call is not None else None
    if recording is None:
        raise Unknown("recording")
    return await as_file(service, recording, format), FORMATS[format]


async def as_file(service: Service, recording: Recording, format: str) -> Path:
    """The recording in ``format``; an MP3 is made when it is first asked for, and kept beside the WAV."""
    if format not in FORMATS:
        raise Unknown("recording format")
    path = service.settings.recordings / recording.path
    if not path.is_file():
        raise Unknown("recording")
    if format == "wav":
        return path
    wanted = path.with_suffix(".mp3")
    if not wanted.is_file():
        beside = wanted.with_suffix(f".{os.getpid()}.{recording.id.hex[:8]}.part")
        try:
            await asyncio.to_thread(wav_to_mp3, path, beside)
            os.replace(beside, wanted)
        except ImportError as missing:
            raise ConfigurationError("MP3 needs lameenc: install the extra `server`, or ask for .wav") from missing
        except OSError as full:
            raise StoreOverloaded(f"the MP3 cannot be written ({full.strerror}): ask for .wav") from full
        finally:
            beside.unlink(missing_ok=True)
    return wanted


def _signature(service: Service, name: str, expires: int) -> str:
    key = service.store.derive("recording addresses")
    return hmac.new(key, f"{name}.{expires}".encode(), sha256).hexdigest()
