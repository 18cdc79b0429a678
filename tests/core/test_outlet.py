"""Sound to the caller by the short way: what takes it, and what is left to the session."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable

import pytest

from anycarrier.errors import StreamNotOpen
from anycarrier.listener import PushTransport
from anycarrier.outlet import Outlet
from anycarrier.position import PlaybackPosition
from media_sockets import RelayFrames

SOUND = b"\xff" * 8000
ENCODED = base64.b64encode(SOUND).decode()


class Wire:
    """Notes what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.gone = False
        self.paused = False
        self.resumed: Callable[[], None] | None = None

    def write(self, frame: bytes) -> None:
        if self.gone:
            raise ConnectionError
        self.written.append(frame)

    async def send(self, frame: bytes) -> None:
        self.write(frame)

    async def push_to(self, receive: Callable[[bytes], object]) -> None:
        return None

    def look_first(self, look: Callable[[bytes], bool] | None) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        return
        yield b""

    async def close(self, code: int = 1000) -> None:
        self.gone = True


class Scene:
    """An outlet, its wire, and what it left to the session."""

    def __init__(self) -> None:
        self.wire = Wire()
        assert isinstance(self.wire, PushTransport)
        self.frames = RelayFrames()
        self.frames.open = True
        self.position = PlaybackPosition()
        self.left: list[bytes] = []
        self.marks = 0
        self.outlet = Outlet(
            self.wire,
            self.frames,
            self.position,
            bytes_per_second=8000,
            clock=lambda: 100.0,
            otherwise=self._leave,
            mark=self._mark,
        )
        self.outlet.plain = True

    def _leave(self, payload: bytes, base64_audio: str, most: float) -> bool:
        self.left.append(payload)
        return True

    def _mark(self) -> None:
        self.marks += 1
        self.position.mark()


def test_plain_sound_is_wrapped_counted_and_marked_every_two_seconds() -> None:
    scene = Scene()
    for _ in range(5):
        assert scene.outlet.send(SOUND, ENCODED, 300.0)
    assert [json.loads(frame)["audio"] for frame in scene.wire.written] == [ENCODED] * 5
    assert (scene.position.ends_at, scene.marks, scene.left) == (105.0, 2, [])


def test_sound_too_far_ahead_is_not_sent() -> None:
    scene = Scene()
    assert [scene.outlet.send(SOUND, ENCODED, 1.5) for _ in range(3)] == [True, True, False]
    assert len(scene.wire.written) == 2 and scene.position.sent == 2.0


@pytest.mark.parametrize("why", ["somebody hears along", "no frame of the carrier's", "the connection is gone"])
def test_whatever_is_not_plain_is_the_sessions(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    if why == "somebody hears along":
        scene.outlet.plain = False
    elif why == "no frame of the carrier's":
        monkeypatch.setattr(scene.frames, "encode_relayed", lambda base64_audio: None)
    else:
        scene.wire.gone = True
    assert scene.outlet.send(SOUND, ENCODED, 300.0)
    assert (scene.left, scene.wire.written, scene.position.sent) == ([SOUND], [], 0.0)


def test_a_stream_that_is_not_open_takes_nothing() -> None:
    scene = Scene()
    scene.frames.open = False
    with pytest.raises(StreamNotOpen):
        scene.outlet.send(SOUND, ENCODED, 300.0)
    assert scene.position.sent == 0.0
