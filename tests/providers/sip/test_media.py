"""RTP streams over real sockets, in virtual time: what is sent and when, and what the session is told."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anycarrier.audio import pcma_to_pcmu, pcmu_to_pcma
from anycarrier.listener import PushTransport
from anycarrier.session import MediaSession
from anycarrier_sip import dtmf, media, rtcp, sdp
from anycarrier_sip import rtp as packets
from anycarrier_sip.frames import CLEAR, SipSerializer, control
from anycarrier_sip.media import RtpStream
from fake_sessions import CALL, Control
from rtp_far_end import SILENCE, TICK, Far, Packet, Room, Session, rtp, scene, sound, terms_with
from virtual_time import ExactLoop, LoopbackLoop


def speech(frames: int) -> bytes:
    return b"".join(sound(number) for number in range(frames))


def mark(name: str) -> str:
    return control("mark", name=name)


def said(heard: list[Packet]) -> bytes:
    return b"".join(packet.payload for packet in heard if packet.kind == 0).strip(b"\xff")


def talk(
    play: Callable[[Session, Session], Awaitable[None]], srtp: sdp.Srtp = "off", loop: type[ExactLoop] = LoopbackLoop
) -> None:
    """Two of our streams, which have agreed on terms: the first offered."""

    async def agreed(room: Room, far: Far) -> None:
        ours, theirs = [await room.open(srtp=srtp) for _ in range(2)]
        body, terms = sdp.answer(sdp.offer(ours.local), theirs.local)
        ours.connect(sdp.accept(body, ours.local))
        theirs.connect(terms)
        sessions = Session(ours), Session(theirs)
        await asyncio.sleep(0)
        await play(*sessions)
        for session in sessions:
            await session.close()

    scene(agreed, loop=loop)


@pytest.mark.parametrize("srtp", ["off", "offered", "required"])
def test_what_one_says_the_other_hears(srtp: sdp.Srtp) -> None:
    async def play(ours: Session, theirs: Session) -> None:
        ours.stream.write(speech(50))
        ours.stream.write(mark("end"))
        await asyncio.sleep(2)
        assert speech(50) in theirs.heard
        assert ours.heard.strip(b"\xff") == b""
        assert 95 * 160 <= len(ours.heard) <= 101 * 160, "it is as long as the time that has passed"
        assert ours.told == [mark("end")]
        stats = theirs.stream.stats()
        assert (stats.lost, stats.refused, stats.unauthentic, stats.unsent) == (0, 0, 0, 0)

    talk(play, srtp)


# --- what is sent, and when -------------------------------------------------------------------------------------------


def test_a_packet_is_sent_every_20_ms_whatever_the_session_does() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        await asyncio.sleep(0.5)
        session.stream.write(speech(10))
        await asyncio.sleep(0.5)
        heard = far.heard()
        first = heard[0]
        assert 49 <= len(heard) <= 50
        for number, packet in enumerate(heard):
            assert packet.sequence == (first.sequence + number) % 65536 and packet.ssrc == first.ssrc
            assert packet.timestamp == (first.timestamp + 160 * number) % 2**32 and len(packet.payload) == 160
        talking = [packet for packet in heard if packet.payload != SILENCE]
        assert said(heard) == speech(10) and len(talking) == 10
        assert [packet.marker for packet in talking] == [True, *[False] * 9], "only the first of a talk spurt"
        assert not any(packet.marker for packet in heard if packet.payload == SILENCE)
        await session.close()

    scene(play)


def test_numbers_begin_at_random() -> None:
    async def play(room: Room, far: Far) -> None:
        firsts = []
        for _ in range(5):
            session = await room.call(far)
            await asyncio.sleep(0.05)
            firsts.append(far.heard()[0])
            await session.close()
            far.received()
        for field in ("sequence", "timestamp", "ssrc"):
            assert len({getattr(packet, field) for packet in firsts}) == 5

    scene(play)


def test_each_call_has_its_time_and_many_are_read_together() -> None:
    async def play(room: Room, far: Far) -> None:
        far_ends = [Far() for _ in range(40)]
        sessions = [await room.call(one) for one in far_ends]
        for session, one in zip(sessions, far_ends, strict=True):
            session.stream.write(speech(20))
            one.send(rtp(1, sound(77)), session.stream)
        await asyncio.sleep(1)
        for session, one in zip(sessions, far_ends, strict=True):
            assert said(one.heard()) == speech(20) and session.numbers == [77]
        for session in sessions[:30]:
            await session.close()
        for session, one in zip(sessions[30:], far_ends[30:], strict=True):
            one.send(rtp(52, sound(78)), session.stream)
        await asyncio.sleep(0.1)
        for session in sessions[30:]:
            assert session.numbers == [77, 78]
            await session.close()
        for one in far_ends:
            one.socket.close()

    scene(play)


def test_sound_of_any_size_goes_out_whole() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        whole = speech(20)
        for size in (1, 7, 100, 333, 159, 161, 1000):
            session.stream.write(whole[:size])
            whole = whole[size:]
        session.stream.write(whole)
        await asyncio.sleep(1)
        assert said(far.heard()) == speech(20)
        session.stream.write(b"\x01" * 40)
        await asyncio.sleep(0.1)
        assert [packet.payload for packet in far.heard() if packet.payload != SILENCE] == [b"\x01" * 40 + SILENCE[40:]]
        await session.close()

    scene(play)


def test_a_process_that_stood_still_sends_60_ms_at_once_and_loses_no_sound() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        session.stream.write(speech(100))
        await asyncio.sleep(0.2)
        before = far.heard()
        asyncio.get_running_loop()._ahead += 1.0  # type: ignore[attr-defined]
        await asyncio.sleep(0.0001)
        burst = far.heard()
        await asyncio.sleep(2)
        after = far.heard()
        assert len(burst) == 3
        assert said([*before, *burst, *after]) == speech(100)
        jump = burst[0].timestamp - before[-1].timestamp
        assert jump % 2**32 == pytest.approx(8000 - 2 * 160, abs=161), "by its timestamps, the far end hears a pause"
        assert (burst[0].sequence - before[-1].sequence) % 65536 == 1
        assert session.stream.stats().unsent == jump % 2**32 // 160 - 1
        await session.close()

    scene(play)


def test_what_came_while_the_process_stood_still_is_heard() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        await far.speak(session.stream, 10)
        for number in range(10, 60):
            far.send(rtp(number, sound(number)), session.stream)
        asyncio.get_running_loop()._ahead += 1.0  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
        await far.speak(session.stream, 10, 60)
        assert session.numbers == list(range(70)) and session.stream.stats().filled == 0
        await session.close()

    scene(play)


def test_a_failing_session_is_reported_and_others_go_on() -> None:
    async def play(room: Room, far: Far, other: Far) -> None:
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        failing, session = await room.call(far), await room.call(other)

        def fail(frame: object) -> None:
            raise RuntimeError("a handler's")

        failing.stream.look_first(fail)
        failing.stream.write(mark("x"))
        for number in range(10):
            far.send(rtp(number), failing.stream)
            await other.speak(session.stream, 1, number)
        assert session.numbers == list(range(10)) and len(other.heard()) >= 9
        assert len(reported) >= 11 and all(isinstance(one["exception"], RuntimeError) for one in reported)
        failing.stream.look_first(None)
        await failing.close()
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.1")


def test_a_caller_who_speaks_before_the_session_has_begun_is_heard() -> None:
    async def play(room: Room, far: Far) -> None:
        stream = await room.open()
        stream.connect(terms_with(far))
        await far.speak(stream, 20)
        await asyncio.sleep(0.3)  # the agent takes its time
        session = Session(stream)
        await asyncio.sleep(0)
        assert '"start"' in session.frames[0]  # type: ignore[operator]
        assert session.numbers[:20] == list(range(20))
        await session.close()

    scene(play)


def test_what_comes_late_because_this_process_stood_still_is_heard() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        await far.speak(session.stream, 5)
        asyncio.get_running_loop()._ahead += 0.3  # type: ignore[attr-defined]
        for _ in range(3):
            await asyncio.sleep(0)  # the pacer is first, and whoever speaks in this process comes after it
        for number in range(5, 20):
            far.send(rtp(number, sound(number)), session.stream)
        await far.speak(session.stream, 5, first=20)
        assert session.numbers == list(range(25))
        await session.close()

    scene(play)


# --- marks, clear, keys -----------------------------------------------------------------------------------------------


def test_a_mark_comes_back_when_the_last_sample_before_it_has_gone_out() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        loop = asyncio.get_running_loop()
        came: list[float] = []
        session.stream.write(mark("at once"))
        for number in range(10):
            session.stream.write(sound(number)[:150])
            session.stream.write(mark(str(number)))
        while len(came) < 200:
            await asyncio.sleep(0.001)
            came += [loop.time()] * (len(far.heard()))
            if session.told and session.told[-1] == mark("9"):
                break
        marks = [(session.times[session.frames.index(mark(name))], name) for name in map(str, range(10))]
        assert session.told == [mark(name) for name in ("at once", *map(str, range(10)))]
        for number, (at, _) in enumerate(marks):
            sent = came[-(-150 * (number + 1) // 160) - 1]
            assert sent + 0.018 <= at <= sent + 0.021, "as the packet after that with its last sample goes out"
        await session.close()

    scene(play)


def test_clear_is_silence_within_a_frame_and_drops_marks() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        session.stream.write(speech(500))
        session.stream.write(mark("end"))
        await asyncio.sleep(0.5)
        session.stream.write(CLEAR)
        far.received()
        await asyncio.sleep(0.5)
        assert {packet.payload for packet in far.heard()} == {SILENCE}
        assert session.told == []
        session.stream.write(speech(5))
        session.stream.write(mark("next"))
        await asyncio.sleep(0.2)
        assert said(far.heard()) == speech(5) and session.told == [mark("next")]
        await session.close()

    scene(play)


def test_keys_are_heard_once_each_and_after_the_sound_before_them() -> None:
    async def play(ours: Session, theirs: Session) -> None:
        ours.stream.write(speech(10))
        ours.stream.write(control("digits", digits="159*0#D11"))
        await asyncio.sleep(3)
        assert theirs.told == [control("digit", digits=digit) for digit in "159*0#D11"]
        first = theirs.frames.index(control("digit", digits="1"))
        assert speech(10) in b"".join(frame for frame in theirs.frames[:first] if isinstance(frame, bytes))

    talk(play)


def test_no_sound_is_sent_while_keys_are_and_none_is_lost() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far, telephone_event=96, telephone_event_received=96)
        session.stream.write(speech(5))
        session.stream.send_digits("5w6")
        session.stream.write(mark("after the keys"))
        session.stream.write(speech(20)[800:])
        await asyncio.sleep(1.5)
        heard = far.heard()
        keys = [packet for packet in heard if packet.kind == 96]
        assert [packet.payload[0] for packet in keys] == [5] * 7 + [6] * 7
        assert {packet.timestamp for packet in keys[:7]} == {keys[0].timestamp}
        assert [packet.marker for packet in keys] == [True, *[False] * 6] * 2
        at, second = heard.index(keys[0]), heard.index(keys[7])
        assert heard[at : at + 7] == keys[:7] and second - at == 8 + 25
        assert {packet.payload for packet in heard[at + 7 : second]} == {SILENCE}
        assert keys[0].timestamp == (heard[at - 1].timestamp + 160) % 2**32
        assert [packet.sequence for packet in heard] == [(heard[0].sequence + n) % 65536 for n in range(len(heard))]
        resumed = heard[second + 8]
        assert resumed.timestamp == (keys[0].timestamp + (8 + 25 + 8) * 160) % 2**32 and resumed.marker
        assert said(heard).replace(b"\xff", b"") == speech(20)
        assert session.told == [mark("after the keys")]
        await session.close()

    scene(play)


@pytest.mark.parametrize("cleared", [False, True])
def test_a_session_is_drained_when_its_keys_were_sent(cleared: bool) -> None:
    async def play(room: Room, far: Far) -> None:
        stream = await room.open()
        stream.connect(terms_with(far))
        loop = asyncio.get_running_loop()
        session = MediaSession(CALL, "desk", SipSerializer(), stream, Control(), clock=loop.time)
        reading = asyncio.create_task(session.stream.read())
        assert await session.stream.wait_started(1)
        await session.send_audio(speech(50))
        assert await session.stream.output.send_digits("12W3")
        if cleared:
            loop.call_later(0.2, session.clear_now)
        await session.drain()
        await stream.close()
        await reading
        heard = far.heard()
        assert [packet.payload[0] for packet in heard if packet.kind == 101] == [1] * 7 + [2] * 7 + [3] * 7
        assert len(said(heard)) == (10 if cleared else 50) * 160

    scene(play)


def test_a_clear_does_not_take_back_keys() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        session.stream.write(speech(100))
        session.stream.send_digits("7")
        session.stream.write(mark("end"))
        await asyncio.sleep(0.1)
        session.stream.write(CLEAR)
        await asyncio.sleep(0.3)
        assert [packet.payload[0] for packet in far.heard() if packet.kind == 101] == [7] * 7
        assert session.told == []
        with pytest.raises(ValueError):
            session.stream.send_digits("x")
        await session.close()

    scene(play)


def test_a_session_that_sends_more_than_ten_minutes_has_to_wait() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        resumed: list[bool] = []
        session.stream.resumed = lambda: resumed.append(session.stream.paused)
        session.stream.write(bytes(media.MOST_QUEUED))
        assert not session.stream.paused
        session.stream.write(b"x")
        assert session.stream.paused
        await asyncio.sleep(0.1)
        assert session.stream.paused and resumed == []
        session.stream.write(CLEAR)
        assert not session.stream.paused and resumed == [False]
        session.stream.write(bytes(media.MOST_QUEUED + 1))
        await asyncio.sleep(290)
        assert session.stream.paused
        await asyncio.sleep(20)
        assert not session.stream.paused and resumed == [False, False]
        await session.close()

    scene(play, loop=ExactLoop)


# --- terms that change ------------------------------------------------------------------------------------------------


def test_on_hold_nothing_is_sent_and_time_goes_on() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        session.stream.write(speech(50))
        session.stream.write(mark("end"))
        await asyncio.sleep(0.2)
        session.stream.connect(terms_with(far, direction="recvonly", held=True))
        session.stream.hold(True)
        session.stream.hold(True)
        before = far.heard()
        await far.speak(session.stream, 50)
        assert far.heard() == [] and session.numbers == list(range(50)), "we go on hearing, music perhaps"
        assert session.told == [control("hold", held=True), mark("end")], "what is said meanwhile is said to nobody"
        session.stream.connect(terms_with(far))
        session.stream.hold(False)
        await asyncio.sleep(0.1)
        back = far.heard()
        assert back[0].sequence == (before[-1].sequence + 1) % 65536
        assert (back[0].timestamp - before[-1].timestamp) % 2**32 == pytest.approx(50 * 160, abs=500)
        assert session.told[2:] == [control("hold")]
        await session.close()

    scene(play)


def test_a_session_that_comes_later_is_told_of_start_and_hold() -> None:
    async def play(room: Room, far: Far) -> None:
        stream = await room.open()
        stream.custom = {"desk": "front"}
        session = Session(stream)
        await asyncio.sleep(0.1)
        assert session.frames == [], "there is nothing to tell before the terms are agreed"
        stream.connect(terms_with(far))
        stream.hold(True)
        await asyncio.sleep(0.01)
        start = control("start", call="sip_1", sends_digits=True, custom={"desk": "front"})
        assert session.frames[:2] == [start, control("hold", held=True)]
        await session.close()
        other = await room.open()
        other.connect(terms_with(far, direction="recvonly", held=True))
        other.hold(True)
        late = Session(other)
        await asyncio.sleep(0.01)
        assert late.told == [control("hold", held=True)]
        await late.close()

    scene(play)


def test_nothing_is_sent_to_the_address_of_nobody() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        session.stream.connect(terms_with(far, remote=("0.0.0.0", 9), direction="sendonly"))
        far.received()
        await asyncio.sleep(0.1)
        assert far.received() == [] and session.stream.stats().unsent == 0
        await session.close()

    scene(play)


def test_a_call_in_PCMA_is_PCMA_for_its_session() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far, codec="PCMA", payload_type=8, telephone_event=None)
        assert session.frames == [control("start", call="sip_1", codec="PCMA")]
        await far.speak(session.stream, 5, kind=8)
        session.stream.write(speech(5))
        await asyncio.sleep(0.3)
        heard = far.heard()
        assert session.numbers == list(range(5)) and {packet.kind for packet in heard} == {8}
        assert b"".join(packet.payload for packet in heard).strip(b"\xd5") == speech(5)
        await session.close()

    scene(play)


def test_a_codec_that_changes_is_translated_for_the_session() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        session.stream.connect(terms_with(far, codec="PCMA", payload_type=8))
        await far.speak(session.stream, 5, kind=8)
        session.stream.write(speech(5) + b"\x01")
        await asyncio.sleep(0.3)
        sent = b"".join(packet.payload for packet in far.heard() if packet.kind == 8).strip(b"\xd5")
        assert sent == pcmu_to_pcma(speech(5) + b"\x01")
        assert b"".join(pcma_to_pcmu(sound(number)) for number in range(5)) in session.heard
        assert session.told == []
        await session.close()

    scene(play)


def test_a_far_end_may_change_between_codecs_it_has_named() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far, other_codec=8)
        await far.speak(session.stream, 3)
        await far.speak(session.stream, 3, 3, kind=8)
        await far.speak(session.stream, 3, 6)
        assert session.heard.startswith(speech(3) + pcma_to_pcmu(speech(6)[480:]) + speech(9)[960:])
        await session.close()

    scene(play)


def test_a_far_end_that_sends_30_ms_packets_is_heard() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        for number in range(20):
            far.send(rtp(number, sound(number) + sound(number)[:80], timestamp=240 * number), session.stream)
            await asyncio.sleep(0.03)
        assert session.numbers == list(range(20)) and session.stream.stats().filled == 0
        await session.close()

    scene(play)


# --- RTCP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mux", [True, False])
def test_a_report_goes_out_every_5_seconds_and_a_goodbye_at_the_end(mux: bool) -> None:
    async def play(room: Room, far: Far, other: Far) -> None:
        session = await room.call(far, rtcp_mux=mux, remote_rtcp=other.address)
        at, got = far if mux else other, []
        for first in (0, 110, 210, 310, 410, 510):
            await far.speak(session.stream, 100, first)
            got += at.received()
            far.received()
        await session.close()
        got = [packet for packet in [*got, *at.received()] if packets.is_rtcp(packet)]
        assert len(got) == 3
        reports = [rtcp.read(packet, 7) for packet in got]
        assert [report.goodbye for report in reports if report] == [False, False, True]
        assert reports[0] is not None and reports[0].lost == 10
        assert reports[0].lost_fraction == pytest.approx(10 / 260, abs=0.01)
        assert reports[1] is not None and (reports[1].lost, reports[1].lost_fraction) == (10, 0)
        sent = int.from_bytes(got[1][20:24], "big")
        assert sent == pytest.approx(500, abs=2) and int.from_bytes(got[1][24:28], "big") == sent * 160

    scene(play, "127.0.0.1", "127.0.0.1", loop=ExactLoop)


def test_what_the_far_end_reports_is_in_the_figures() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        await far.speak(session.stream, 1)
        ours = far.heard()[0].ssrc
        block = struct.pack("!IIIIII", ours, 5, 100, 80, 0, 0)
        far.send(rtcp.write(7, block, time=0, timestamp=0, packets=1), session.stream)
        await far.speak(session.stream, 4, 3)
        stats = session.stream.stats()
        assert (stats.reported_lost, stats.reported_jitter) == (5, 0.01)
        assert (stats.received, stats.lost, stats.late) == (5, 2, 0) and stats.sent >= 4
        await session.close()

    scene(play)


def test_reports_are_encrypted_where_sound_is() -> None:
    async def play(ours: Session, theirs: Session) -> None:
        await asyncio.sleep(12)
        for session in (ours, theirs):
            assert session.stream._reports.count >= 2 and session.stream.stats().unauthentic == 0

    talk(play, "required", ExactLoop)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_stream_is_closed_once_and_takes_nothing_after() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        stream = session.stream
        assert isinstance(stream, PushTransport)
        stream.stop("user_hangup")
        assert session.told == [control("stop", reason="user_hangup")] and stream.closed
        stream.stop("again")
        await session.close()
        await stream.close()
        for frame in (b"x", mark("m"), CLEAR):
            with pytest.raises(ConnectionError):
                stream.write(frame)
        with pytest.raises(ConnectionError):
            await stream.send(b"x")
        stream.connect(terms_with(far))
        far.received()
        await asyncio.sleep(0.2)
        assert far.received() == [] and len(session.told) == 1
        await stream.push_to(session.frames.append)

    scene(play)


def test_frames_may_be_iterated() -> None:
    async def play(room: Room, far: Far) -> None:
        stream: RtpStream = await room.open()
        stream.connect(terms_with(far))
        seen = []
        async for frame in stream:
            seen.append(frame)
            if len(seen) == 1:
                await stream.send(mark("m"))
            if frame == mark("m"):
                stream.stop()
        assert seen[0] == control("start", call="sip_1", sends_digits=True) and seen[-1] == control("stop")

    scene(play)


def test_who_looks_first_takes_what_it_wants() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        taken: list[object] = []

        def look(frame: object) -> bool | None:
            if isinstance(frame, str):
                return False
            taken.append(frame)
            return None

        session.stream.look_first(look)
        session.stream.write(mark("m"))
        await far.speak(session.stream, 5)
        assert taken == [sound(number) for number in range(5)]
        assert session.told == [mark("m")] and session.heard == b""
        session.stream.look_first(None)
        await far.speak(session.stream, 5, 5)
        assert session.numbers == list(range(5, 10))
        await session.close()

    scene(play)


# --- a bad network ----------------------------------------------------------------------------------------------------


def test_half_a_minute_of_loss_doubles_swaps_and_jitter_adds_no_delay_and_each_key_comes_once() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        loop, chance = asyncio.get_running_loop(), random.Random(5)
        keys, pressing, key_at = "", [], 0
        due = loop.time()
        for number in range(1500):
            if number % 100 == 50:
                key = chance.choice(dtmf.KEYS)
                keys, pressing = keys + key, dtmf.packets(key)[:-1]
            payload = pressing.pop(0)[1] if pressing else None
            if payload is not None:
                key_at = number if payload[3] == 160 and not payload[2] else key_at
                packet = rtp(number, payload, kind=101, timestamp=key_at * 160)
            else:
                packet = rtp(number, sound(number))
            for _ in range((chance.random() >= 0.05) + (chance.random() < 0.02)):
                delay = chance.random() * 0.04 + (chance.random() < 0.02) * 0.03
                loop.call_later(delay, far.send, packet, session.stream)
            due += TICK
            await asyncio.sleep(due - loop.time())
        assert "".join(frame[-3] for frame in session.told) == keys
        assert session.numbers == sorted(session.numbers)
        assert len(session.numbers) >= 0.93 * (1500 - 15 * 7)
        assert len(session.heard) / 8000 == pytest.approx(30, abs=0.15)
        await session.close()

    scene(play, loop=ExactLoop)
