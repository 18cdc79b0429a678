"""What is kept of calls. Recordings: found by key or by a signed address that expires, given as WAV or MP3.
Transcripts: of a call, while it goes on, and searched.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
import wave
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from anycarrier.errors import ConfigurationError
from anycarrier_server.domain import control_call, manage_numbers
from anycarrier_server.domain.access import Caller
from anycarrier_server.domain.resources import Resources
from anycarrier_server.refusals import StoreOverloaded, Unknown
from anycarrier_server.store import Store, parse_id, public_id
from anycarrier_server.store.models import CallRow, Recording, Segment
from anycarrier_server.store.models.call_tables import PLAYABLE

GOOD_FOR = 4 * 3600
"""Seconds a signed address works; asking for the call again makes a new one."""

FORMATS = {"mp3": "audio/mpeg", "wav": "audio/wav"}


async def finished_recording(store: Store, call: CallRow) -> Recording | None:
    """The call's recording, once nothing more comes of it and there is something to hear."""
    return playable(await store.recordings.of_call(call.id))


def playable(rows: Sequence[Recording]) -> Recording | None:
    """The one of them that can be heard."""
    return next((row for row in rows if row.status in PLAYABLE), None)


async def recording_of_call(store: Store, caller: Caller, call_id: str | UUID) -> tuple[CallRow, Recording]:
    """A call's finished recording."""
    call = await control_call.get(store, caller, call_id)
    recording = await finished_recording(store, call)
    if recording is None:
        raise Unknown("recording", why="the call was not recorded (enable_recording), or the file is not ready yet")
    return call, recording


def signed_url(resources: Resources, call_id: UUID, *, format: str = "mp3", at: float | None = None) -> tuple[str, int]:
    """An address anybody may fetch the recording from, and when (Unix seconds) it stops working."""
    expires = int(at if at is not None else time.time()) + GOOD_FOR
    name = f"{public_id('call', call_id)}.{format}"
    query = f"expires={expires}&signature={_signature(resources.store, name, expires)}"
    return f"{resources.exchange.switchboard.public_url}/recordings/{name}?{query}", expires


async def by_signature(resources: Resources, name: str, expires: str, signature: str) -> tuple[Path, str]:
    """The file behind a signed address, and its media type; ``Unknown`` when anything about it is wrong."""
    stem, _, format = name.rpartition(".")
    good = (
        expires.isdigit()
        and len(expires) < 12
        and int(expires) > time.time()
        and hmac.compare_digest(signature.encode(), _signature(resources.store, name, int(expires)).encode())
    )
    call_id = parse_id("call", stem)
    if not good or format not in FORMATS or call_id is None:
        raise Unknown("recording")
    call = await resources.store.calls.find(call_id)
    recording = await finished_recording(resources.store, call) if call is not None else None
    if recording is None:
        raise Unknown("recording")
    return await as_file(resources, recording, format), FORMATS[format]


async def as_file(resources: Resources, recording: Recording, format: str) -> Path:
    """The recording in ``format``; an MP3 is made when it is first asked for, and kept beside the WAV."""
    if format not in FORMATS:
        raise Unknown("recording format")
    path = resources.settings.recordings / recording.path
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
            needed = "MP3 needs lameenc, which is missing: install anycarrier-server again, or ask for .wav"
            raise ConfigurationError(needed) from missing
        except OSError as full:
            raise StoreOverloaded(f"the MP3 cannot be written ({full.strerror}): ask for .wav") from full
        finally:
            beside.unlink(missing_ok=True)
    return wanted


def _signature(store: Store, name: str, expires: int) -> str:
    key = store.derive("recording addresses")
    return hmac.new(key, f"{name}.{expires}".encode(), sha256).hexdigest()


async def transcript_of_call(store: Store, caller: Caller, call_id: str | UUID) -> Sequence[Segment]:
    """A call's utterances in order, those of a call that is going on too."""
    return await store.transcripts.of_call((await control_call.get(store, caller, call_id)).id)


async def said_since(store: Store, caller: Caller, after: Mapping[UUID, int], *, limit: int) -> Sequence[Segment]:
    """What was said on these calls after the utterance of that number, each call's in order; ``Unknown`` when one of
    the calls is not the caller's to see."""
    if await store.calls.seen(caller.workspace_id, after, agent_id=caller.agent_id) < len(after):
        raise Unknown("call")
    return await store.transcripts.since(caller.workspace_id, after, limit=limit)


async def search_transcripts(
    store: Store, caller: Caller, line_id: str | UUID, query: str, *, party: str | None = None, limit: int = 50
) -> Sequence[Segment]:
    """Utterances on one number's calls that hold all words of ``query``, best match first."""
    line = await manage_numbers.get_number(store, caller, line_id)
    return await store.transcripts.search(caller.workspace_id, query, line_id=line.id, party=party, limit=limit)


KBPS = 32
"""Enough for two telephone channels."""


def wav_to_mp3(source: Path, target: Path) -> None:
    """Encode a PCM16 WAV. ``ImportError`` when no encoder is installed. Takes a while: not for the event loop."""
    import lameenc  # type: ignore[import-not-found]

    with wave.open(str(source), "rb") as wav, target.open("wb") as out:
        encoder = lameenc.Encoder()
        encoder.silence()
        encoder.set_bit_rate(KBPS)
        encoder.set_in_sample_rate(wav.getframerate())
        encoder.set_channels(wav.getnchannels())
        encoder.set_quality(5)
        frames = wav.readframes(wav.getframerate()) or bytes(wav.getnchannels() * wav.getsampwidth() * 1152)
        while frames:  # one frame of silence at least: the encoder has no word for nothing
            out.write(bytes(encoder.encode(frames)))
            frames = wav.readframes(wav.getframerate())
        out.write(bytes(encoder.flush()))
