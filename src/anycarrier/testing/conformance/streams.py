"""Media streams: frames become their events, audio survives the way there and back, nonsense does no harm."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from anycarrier.calls import Call, CallStatus, Direction
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import AudioReceived, MarkReached, MediaEvent, StreamStarted
from anycarrier.serializer import MediaSerializer
from anycarrier.session import MediaSession
from anycarrier.testing.cassettes import StreamLine, describe, load_stream, written
from anycarrier.testing.conformance.kit import CALL_ID, OURS, THEIRS, Kit
from anycarrier.testing.conformance.webhooks import changed_values

EVERY_BYTE = bytes(range(256)) * 5
GROWTH = 64_000
"""Bytes that 10,000 frames may leave behind: caches settle, a kept frame list would be megabytes."""


class StreamChecks(Kit):
    def test_a_stream_with_start_audio_and_stop_is_among_the_cassettes(self) -> None:
        told = {event["type"] for frames in self.streams() for line in frames for event in line[1]}
        needed = {"StreamStarted", "AudioReceived"}
        if self.make().serializer().stop_frame:
            needed.add("StreamStopped")
        else:
            assert "StreamStopped" not in told, "the serializer says stop_frame = False, and here is a stop frame"
        lacking = needed - told
        assert not lacking, f"streams/ shows no {', '.join(sorted(lacking))}"

    def test_frames_become_exactly_their_events_and_ours_the_carriers_frames(self, stream: Path) -> None:
        serializer = self.make().serializer()
        for at, line in enumerate(load_stream(stream).lines, 2):
            where = f"{stream.name} line {at}"
            if not line.say:
                got = [json.loads(json.dumps(describe(event))) for event in serializer.decode(line.frame)]
                assert got == list(line.events), where
            else:
                made = getattr(serializer, line.say)(*([] if line.argument is None else [_argument(line)]))
                assert [written(frame) for frame in made] == list(line.frames), where

    def test_audio_survives_encode_and_decode(self) -> None:
        """Any size at all, sent by us and mirrored by the carrier, is the same bytes again."""
        for size in (160, 1, 7, 320, 4000, len(EVERY_BYTE)):
            serializer, listener = self.opened(), self.opened()
            pieces = [EVERY_BYTE[i : i + size] for i in range(0, len(EVERY_BYTE), size)]
            sent = [frame for piece in pieces for frame in serializer.encode_audio(piece)]
            sent += serializer.flush()
            events = [event for frame in sent for event in listener.decode(self.mirror(frame))]
            heard = b"".join(event.payload for event in events if isinstance(event, AudioReceived))
            # A carrier may want whole frames: a last one may be filled up, never anything lost or changed.
            assert heard[: len(EVERY_BYTE)] == EVERY_BYTE, f"audio in pieces of {size} bytes came back different"
            assert len(heard) < len(EVERY_BYTE) + 160

    def test_a_mark_comes_back_by_its_name(self) -> None:
        serializer = self.opened()
        if not serializer.marks:
            pytest.skip("this carrier has no playback marks")
        frames = serializer.encode_mark("kit-mark")
        events = [event for frame in frames for event in self.opened().decode(self.mirror(frame))]
        assert "kit-mark" in [event.name for event in events if isinstance(event, MarkReached)]

    def test_clear_makes_a_frame_and_drops_a_kept_tail(self) -> None:
        serializer = self.opened()
        serializer.encode_audio(b"\x55" * 7)
        assert serializer.encode_clear(), "clear says nothing to the carrier"
        assert not serializer.flush(), "audio kept back before clear is sent after it"

    def test_sending_before_start_and_after_stop_is_our_error(self) -> None:
        serializer = self.make().serializer()
        with pytest.raises(StreamNotOpen):
            serializer.encode_audio(b"\xff" * 160)
        with pytest.raises(StreamNotOpen):
            serializer.encode_clear()
        if serializer.marks:
            with pytest.raises(StreamNotOpen):
                serializer.encode_mark("kit-mark")
        if not serializer.stop_frame:
            return  # the session knows that such a stream is over, its serializer does not
        whole = next(frames for frames in self.streams() if "StreamStopped" in str(frames[-1][1]))
        for frame, _ in whole:
            serializer.decode(frame)
        with pytest.raises(StreamNotOpen):
            serializer.encode_audio(b"\xff" * 160)

    def test_two_streams_of_one_provider_share_nothing(self) -> None:
        """A provider serves all calls of its credential at once."""
        provider = self.make()
        first, second = provider.serializer(), provider.serializer()
        assert first is not second, "serializer() gives the same object twice: two calls would share a stream"
        self.opened(first)
        with pytest.raises(StreamNotOpen):
            second.encode_audio(b"\xff" * 160)

    def test_relaying_changes_nothing(self, stream: Path) -> None:
        """``relay`` and ``encode_relayed`` are a shorter way to what ``decode`` and ``encode_audio`` do."""
        relaying, plain = self.make().serializer(), self.make().serializer()
        for line in load_stream(stream).lines:
            if line.say:
                continue
            relayed = relaying.relay(line.frame)
            try:
                events = plain.decode(line.frame)
            except MalformedMessage:
                events = []
            if relayed is None:
                harmless(relaying, [line.frame])
                continue
            [event] = events
            assert isinstance(event, AudioReceived), f"relay took a {type(event).__name__} for plain audio"
            assert base64.b64decode(relayed) == event.payload, "relay gives other audio than decode"
        text = base64.b64encode(EVERY_BYTE[:320]).decode()
        framed = self.opened().encode_relayed(text)
        if framed is not None:
            assert [framed] == list(self.opened().encode_audio(EVERY_BYTE[:320])), "encode_relayed frames otherwise"

    def test_digits_need_an_open_stream_where_they_go_over_it(self) -> None:
        serializer = self.make().serializer()
        if type(serializer).encode_digits is MediaSerializer.encode_digits:
            pytest.skip("this carrier does not take digits on the media socket")
        with pytest.raises(StreamNotOpen):
            serializer.encode_digits("1")
        assert self.opened().encode_digits("1"), "encode_digits gives no frame for a single digit"

    def test_bad_frames_are_events_or_malformed(self, stream: Path) -> None:
        """Cut short, of another shape, with keys nobody knows: never another error, and never nothing at all."""
        for line in load_stream(stream).lines:
            if not line.say:
                for bad in bad_frames(line.frame):
                    harmless(self.opened(), [bad])
                    harmless(self.make().serializer(), [bad])

    def test_a_stream_in_a_format_nobody_asked_for_is_started_or_named(self) -> None:
        """Another codec, another rate, more channels: the session says so; it never fails over it."""
        started = next(
            frame for frames in self.streams() for frame, told in frames if "StreamStarted" in str(told)
        )
        for odd in ("G722", "x-opus", 2, 0, -8000, 10**9 + 7):
            for changed in _with_each_leaf(_object(started) or {}, odd):
                asyncio.run(self._receives(json.dumps(changed)))

    async def _receives(self, started: str) -> None:
        call = Call(
            id=CALL_ID, provider=self.name, direction=Direction.INBOUND, from_=THEIRS, to=OURS,
            status=CallStatus.ANSWERED,
        )  # fmt: skip
        session = MediaSession(call, "kit", self.make().serializer(), Nowhere(), cast(Any, None))
        session.stream.receive(started)
        for frames in self.streams():
            for frame, _ in frames:
                session.stream.receive(frame)
        if session.unreadable is not None:
            assert self.name in str(session.unreadable) and session.stop_reason == str(session.unreadable)

    def test_extra_keys_change_nothing(self, stream: Path) -> None:
        plain, extended = self.make().serializer(), self.make().serializer()
        for line in load_stream(stream).lines:
            if not line.say and (whole := _object(line.frame)) is not None:
                more = json.dumps({**whole, "kit_extra": {"nested": [1, "two"]}})
                try:
                    events = plain.decode(line.frame)
                except MalformedMessage:
                    continue
                assert [describe(event) for event in extended.decode(more)] == [describe(event) for event in events]

    def test_frames_out_of_order_are_harmless(self, stream: Path) -> None:
        frames = [line.frame for line in load_stream(stream).lines if not line.say]
        for order in (frames[::-1], frames[1:] + frames[:1], frames[::2] + frames[1::2], [*frames, *frames]):
            harmless(self.make().serializer(), order)

    def test_ten_thousand_frames_leave_nothing_behind(self) -> None:
        serializer = self.opened()
        audio = next(f for frames in self.streams() for f, told in frames if "AudioReceived" in str(told))

        def pass_frames(count: int) -> None:
            for _ in range(count):
                serializer.decode(audio)
                serializer.encode_audio(EVERY_BYTE[:160])

        pass_frames(500)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            pass_frames(10_000)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < GROWTH, f"10,000 frames left {grown} bytes behind"

    # --- helpers ----------------------------------------------------------------------------------------------------

    def streams(self) -> list[list[tuple[str | bytes, tuple[Mapping[str, Any], ...]]]]:
        """The frames of each stream cassette with what they become."""
        return self._streams

    @functools.cached_property
    def _streams(self) -> list[list[tuple[str | bytes, tuple[Mapping[str, Any], ...]]]]:
        """Read once for a test: some open hundreds of streams."""
        loaded = (load_stream(path) for path in self.kept("streams", "jsonl"))
        return [[(line.frame, line.events) for line in kept.lines if not line.say] for kept in loaded]

    def opened(self, serializer: MediaSerializer | None = None) -> MediaSerializer:
        """A serializer whose stream has started, as the first cassette shows it."""
        serializer = serializer or self.make().serializer()
        for frames in self.streams():
            for frame, _ in frames:
                if any(isinstance(event, StreamStarted) for event in serializer.decode(frame)):
                    return serializer
        pytest.fail("no cassette in streams/ starts a stream")


class Nowhere:
    """A socket that takes all and brings nothing."""

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        frames: tuple[bytes, ...] = ()
        for frame in frames:
            yield frame

    async def send(self, frame: bytes | str) -> None:
        return None

    async def close(self, code: int = 1000) -> None:
        return None


def _with_each_leaf(value: Any, odd: object) -> Iterator[Any]:
    """``value`` with each text and number in it replaced in turn."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: other} for other in _with_each_leaf(inner, odd))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from ([*value[:at], other, *value[at + 1 :]] for other in _with_each_leaf(inner, odd))
    elif value != "start":
        yield odd
        yield str(odd)


def harmless(serializer: MediaSerializer, frames: Iterable[str | bytes]) -> None:
    """Every frame gives events or ``MalformedMessage``."""
    for frame in frames:
        try:
            events = serializer.decode(frame)
        except MalformedMessage:
            continue
        assert all(isinstance(event, MediaEvent) for event in events), f"{frame!r:.80} became {events!r:.80}"


def bad_frames(frame: str | bytes) -> Iterator[str | bytes]:
    """``frame`` broken in many ways."""
    yield from (frame[: len(frame) * part // 10] for part in range(10))
    yield from ("", "[]", "null", "5", '"x"', "{}", "[" * 5000)
    yield from (b"\xff\xfe", b"\x00" * 160, b"", (frame if isinstance(frame, bytes) else frame.encode())[:-1] + b"\xff")
    whole = _object(frame)
    yield from (json.dumps(changed) for changed in changed_values(whole) if whole is not None)


def _object(frame: str | bytes) -> dict[str, object] | None:
    """The JSON object that a text frame is."""
    try:
        whole = json.loads(frame) if isinstance(frame, str) else None
    except ValueError:
        return None
    return whole if isinstance(whole, dict) else None


def _argument(line: StreamLine) -> Any:
    return base64.b64decode(line.argument) if line.say == "encode_audio" else line.argument
