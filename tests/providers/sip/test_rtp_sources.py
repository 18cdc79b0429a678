"""Whom a stream hears, and whom it speaks to: P6 and P7."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network

import pytest

from anycarrier_sip import rtcp
from anycarrier_sip import rtp as packets
from anycarrier_sip.pacer import MANY, PortRange, PortsExhausted
from anycarrier_sip.rtp import SrtpSession
from anycarrier_sip.sdp import SUITES, SrtpKeys
from rtp_far_end import TICK, Far, Room, rtp, scene, sound, terms_with
from virtual_time import ExactLoop

OURS, THEIRS = bytes(range(30)), bytes(range(30, 60))


def refused(session: object) -> int:
    return session.stream.stats().refused  # type: ignore[attr-defined, no-any-return]


def test_P6_a_stranger_is_not_heard_nor_spoken_to() -> None:
    async def play(room: Room, far: Far, stranger: Far) -> None:
        session = await room.call(far)
        for number in range(20):
            stranger.send(rtp(number, sound(1000 + number), ssrc=9), session.stream)
            await far.speak(session.stream, 1, number)
        assert session.numbers == list(range(20)) and refused(session) == 20
        assert stranger.received() == [] and len(far.heard()) >= 19
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.9")


def test_P6_a_stranger_that_speaks_first_is_not_heard_either() -> None:
    async def play(room: Room, far: Far, stranger: Far) -> None:
        session = await room.call(far)
        await stranger.speak(session.stream, 30, 1000)
        await far.speak(session.stream, 10)
        assert session.numbers == list(range(10)) and stranger.received() == []
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.9")


def test_P6_behind_nat_the_port_that_speaks_is_spoken_to() -> None:
    async def play(room: Room, signalled: Far, behind_nat: Far) -> None:
        session = await room.call(signalled)
        await asyncio.sleep(0.1)
        assert signalled.heard(), "until somebody speaks, our sound goes where the description says"
        await behind_nat.speak(session.stream, 20)
        signalled.received()
        await asyncio.sleep(0.1)
        assert session.numbers == list(range(20))
        assert len(behind_nat.heard()) >= 20 and signalled.heard() == []
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.1")


def test_P6_another_address_is_heard_only_inside_the_peers_media_networks() -> None:
    async def play(room: Room, signalled: Far, media_server: Far, stranger: Far) -> None:
        session = await room.call(signalled, options={"media_networks": [ip_network("127.0.1.0/28")]})
        await stranger.speak(session.stream, 5, 1000)
        await media_server.speak(session.stream, 20)
        assert session.numbers == list(range(20)) and refused(session) == 5
        assert media_server.heard() and stranger.received() == []
        await session.close()

    scene(play, "127.0.0.1", "127.0.1.3", "127.0.1.99")


def test_P6_the_signalled_port_takes_over_within_10_packets_and_not_later() -> None:
    async def play(room: Room, signalled: Far, early: Far) -> None:
        session = await room.call(signalled)
        await early.speak(session.stream, 5, 1000, ssrc=9)
        await signalled.speak(session.stream, 10)
        await early.speak(session.stream, 10, 1005, ssrc=9)
        assert session.numbers == [*range(1000, 1005), *range(10)]
        await session.close()

        session = await room.call(signalled)
        await early.speak(session.stream, 11, 1000, ssrc=9)
        await signalled.speak(session.stream, 10)
        assert session.numbers[-1] == 1010 and refused(session) == 10
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.1")


def test_P6_a_source_is_locked_after_half_a_second_too() -> None:
    async def play(room: Room, signalled: Far, early: Far) -> None:
        session = await room.call(signalled)
        early.send(rtp(1, sound(1)), session.stream)
        await asyncio.sleep(0.6)
        await signalled.speak(session.stream, 10, 1000, ssrc=9)
        assert session.numbers.count(1) >= 1 and max(session.numbers) == 1
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.1")


def test_P6_a_source_that_began_late_is_locked_as_well() -> None:
    async def play(room: Room, signalled: Far, early: Far) -> None:
        session = await room.call(signalled)
        await asyncio.sleep(5)
        await early.speak(session.stream, 12)
        await signalled.speak(session.stream, 12, 1000, ssrc=9)
        assert max(session.numbers) == 11 and refused(session) == 12
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.1")


def test_P6_another_port_or_ssrc_is_heard_once_the_locked_one_was_silent_for_2_seconds() -> None:
    async def play(room: Room, far: Far, moved: Far, elsewhere: Far) -> None:
        session = await room.call(far, options={"media_networks": [ip_network("127.0.1.0/28")]})
        await far.speak(session.stream, 20)
        await moved.speak(session.stream, 10, 1000)
        await far.speak(session.stream, 10, 2000, ssrc=8)
        assert max(session.numbers) == 19 and refused(session) == 20
        await asyncio.sleep(3.1)
        await elsewhere.speak(session.stream, 5, 3000)
        assert max(session.numbers) == 19 and elsewhere.received() == [], "another address is not, though of the peer's"
        await moved.speak(session.stream, 10, 1000)
        assert max(session.numbers) == 1009 and moved.heard()
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.1", "127.0.1.3")


def test_P6_a_description_with_another_address_moves_the_media() -> None:
    async def play(room: Room, before: Far, after: Far) -> None:
        session = await room.call(before)
        await before.speak(session.stream, 20)
        session.stream.connect(terms_with(after))
        before.received()
        await asyncio.sleep(0.1)
        assert before.received() == [] and after.heard()
        await before.speak(session.stream, 10, 1000)
        await after.speak(session.stream, 10, 20, ssrc=8)
        assert session.numbers[-10:] == list(range(20, 30)) and not any(number >= 1000 for number in session.numbers)
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.2")


def test_P6_an_unchanged_description_disturbs_nothing() -> None:
    async def play(room: Room, signalled: Far, behind_nat: Far) -> None:
        session = await room.call(signalled)
        await behind_nat.speak(session.stream, 20)
        session.stream.connect(terms_with(signalled))
        behind_nat.received()
        await behind_nat.speak(session.stream, 20, 20)
        assert session.numbers == list(range(40)) and signalled.received()[20:] == []
        sequences = [packet.sequence for packet in behind_nat.heard()]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.1")


# --- ports ------------------------------------------------------------------------------------------------------------


def test_P7_ports_are_even_random_and_in_the_range() -> None:
    async def play(room: Room, far: Far) -> None:
        streams = [await room.open() for _ in range(40)]
        ports = [stream.local.port for stream in streams]
        assert all(port % 2 == 0 and 20000 <= port < 29999 for port in ports)
        assert len(set(ports)) == 40 and sorted(ports) != ports
        assert max(ports) - min(ports) > 1000, "forty in a row are no accident"
        for stream in streams:
            await stream.close()

    scene(play)


def test_P7_ports_that_are_all_taken_are_an_error_and_come_back() -> None:
    async def play(room: Room, far: Far) -> None:
        streams = [await room.open() for _ in range(4)]
        assert {stream.local.port for stream in streams} == {31000, 31002, 31004, 31006}
        for _ in range(2):
            with pytest.raises(PortsExhausted, match=r"sip: .*31000 and 31007.*rtp_ports"):
                await room.open()
        await streams[1].close()
        again = await room.open()
        assert again.local.port == streams[1].local.port
        for stream in (*streams, again):
            await stream.close()

    scene(play, ports=(31000, 31007))


def test_P7_a_port_that_another_program_has_is_passed_over() -> None:
    async def play(room: Room, far: Far) -> None:
        ports = PortRange(far.address[1] - far.address[1] % 2, far.address[1] - far.address[1] % 2 + 1)
        with pytest.raises(PortsExhausted):
            ports.open("127.0.0.1")
        far.socket.close()
        pair = ports.open("127.0.0.1")
        ports.close(pair)

    scene(play)


@pytest.mark.parametrize(("first", "last", "pairs"), [(30001, 30005, 2), (30000, 30001, 1), (30000, 30004, 2)])
def test_P7_only_whole_pairs_of_the_range_are_used(first: int, last: int, pairs: int) -> None:
    ports = PortRange(first, last)
    opened = [ports.open("127.0.0.1") for _ in range(pairs)]
    numbers = sorted(one.getsockname()[1] for pair in opened for one in pair)
    assert first <= numbers[0] and numbers[-1] <= last and numbers[0] % 2 == 0
    with pytest.raises(PortsExhausted):
        ports.open("127.0.0.1")
    for pair in opened:
        ports.close(pair)


# --- what is looked at ------------------------------------------------------------------------------------------------


def test_P7_what_is_no_packet_of_this_call_is_counted_and_nothing_more() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        await far.speak(session.stream, 5)
        bad = [
            b"", b"x", b"\x80" * 11, rtp(5, first=0x40), rtp(5, first=0xC0), rtp(5, kind=8), rtp(5, kind=3),
            rtp(5, kind=97), rtp(5, first=0xA0, payload=b"A" * 159 + b"\xff"), rtp(5, first=0x90), rtp(5, first=0x8F,
            payload=b"A" * 20), rtp(5, payload=b"A" * 1500),
        ]  # fmt: skip
        for packet in bad:
            far.send(packet, session.stream)
        await far.speak(session.stream, 5, 5)
        assert session.numbers == list(range(10))
        assert refused(session) == len(bad) and session.told == []
        await session.close()

    scene(play)


def test_P7_a_packet_out_of_the_ordinary_that_is_sound_is_heard() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        await far.speak(session.stream, 2)
        far.send(rtp(2, bytes(8) + sound(2), first=0x82), session.stream)
        far.send(rtp(3, sound(3), kind=0x80), session.stream)
        far.send(rtp(4, sound(4) + b"\x00\x02", first=0xA0), session.stream)
        far.send(rtp(5, sound(5) * 2, timestamp=800), session.stream)
        far.send(rtp(6, sound(7), timestamp=1120), session.stream)
        await asyncio.sleep(0.05)
        assert [frame[:8] for frame in session.frames[1:8]] == [b"%08d" % number for number in (0, 1, 2, 3, 4, 5, 7)]
        assert refused(session) == 0
        await session.close()

    scene(play)


def test_P7_a_flood_from_elsewhere_costs_no_sound_however_many_calls_there_are() -> None:
    async def play(room: Room, far: Far, stranger: Far) -> None:
        session = await room.call(far)
        others = [await room.call(far) for _ in range(MANY)]
        for number in range(50):
            far.send(rtp(number, sound(number)), session.stream)
            for _ in range(100):
                stranger.send(rtp(number, sound(99)), session.stream)
            await asyncio.sleep(TICK)
        assert session.numbers == list(range(50)) and session.stream.stats().refused == 5000
        for one in (session, *others):
            await one.close()

    scene(play, "127.0.0.1", "127.0.0.66")


# --- whom the sound goes to -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mux", [True, False])
@pytest.mark.parametrize("signals_there", [True, False])
def test_P7_what_may_not_be_sent_to_gets_nothing_until_it_is_heard_where_it_signals(
    mux: bool, signals_there: bool
) -> None:
    async def play(room: Room, far: Far) -> None:
        networks = [ip_network(far.address[0])] if signals_there else []
        options = {"permits": lambda host: False, "media_networks": networks}
        session = await room.call(far, options=options, rtcp_mux=mux)
        await asyncio.sleep(5.5)  # RTCP goes out each five seconds
        assert far.received() == []
        await far.speak(session.stream, 50)
        assert 45 < len(far.heard()) <= 51 if signals_there else far.received() == []
        await session.close()

    scene(play)


def test_P7_rtcp_goes_to_no_other_host_that_may_not_be_sent_to() -> None:
    async def play(room: Room, far: Far, inside: Far, allowed: Far) -> None:
        for other, comes in ((inside, False), (allowed, True)):
            permits = {"permits": lambda host: host != inside.address[0]}
            session = await room.call(far, options=permits, remote_rtcp=other.address, rtcp_mux=False)
            await asyncio.sleep(5.5)
            await session.close()
            assert bool(other.received()) is comes
        assert far.heard()

    scene(play, "127.0.0.1", "127.0.0.53", "127.0.0.66")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("elsewhere", "was to come from 127.0.0.1, and 7 packets came from 127.0.0.66"),
        ("nothing", "firewall"),
        ("unencrypted", "7 packets were not encrypted"),
        ("brief", ""),
        ("listens", ""),
        ("sound", ""),
    ],
)
def test_a_call_of_which_nothing_was_heard_says_why_at_its_end(
    what: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(room: Room, far: Far, stranger: Far) -> None:
        keys = SrtpKeys(SUITES[0], bytes(30), bytes(30)) if what == "unencrypted" else None
        direction = "sendonly" if what == "listens" else "sendrecv"
        session = await room.call(far, srtp=keys, direction=direction)
        for number in range(7 if what in ("elsewhere", "unencrypted", "sound") else 0):
            (stranger if what == "elsewhere" else far).send(rtp(number), session.stream)
        await asyncio.sleep(1 if what == "brief" else 6)
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.66")
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == bool(told) and told in "".join(warned)


def test_comfort_noise_is_passed_over() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        await far.speak(session.stream, 5)
        far.send(rtp(5, b"\x40", kind=13), session.stream)
        await far.speak(session.stream, 5, 6)
        stats = session.stream.stats()
        assert session.numbers == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
        assert (stats.refused, stats.lost) == (0, 0)
        await session.close()

    scene(play)


# --- SRTP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_P7_forged_and_repeated_packets_are_counted_and_latch_nothing(suite: str) -> None:
    async def play(room: Room, far: Far, forger: Far) -> None:
        session = await room.call(far, srtp=SrtpKeys(suite, OURS, THEIRS))
        theirs, forged = SrtpSession(SrtpKeys(suite, THEIRS, OURS)), SrtpSession(SrtpKeys(suite, bytes(30), OURS))
        for number in range(20):
            forger.send(forged.protect(rtp(number, sound(1000 + number))), session.stream)
            forger.send(rtp(number, sound(2000 + number)), session.stream)
            protected = theirs.protect(rtp(number, sound(number)))
            for _ in range(2):
                far.send(protected, session.stream)
            await asyncio.sleep(0.02)
        stats = session.stream.stats()
        assert session.numbers == list(range(20)) and stats.unauthentic == 60 and stats.refused == 0
        assert forger.received() == []
        answers = [theirs.unprotect(packet) for packet in far.received() if not packets.is_rtcp(packet)]
        assert len(answers) >= 19 and {answer[12:] for answer in answers} == {b"\xff" * 160}
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.1")


def test_P7_an_authentic_source_from_another_port_is_heard() -> None:
    async def play(room: Room, signalled: Far, behind_nat: Far) -> None:
        session = await room.call(signalled, srtp=SrtpKeys(SUITES[0], OURS, THEIRS))
        theirs = SrtpSession(SrtpKeys(SUITES[0], THEIRS, OURS))
        for number in range(10):
            behind_nat.send(theirs.protect(rtp(number, sound(number))), session.stream)
            await asyncio.sleep(0.02)
        assert session.numbers == list(range(10)) and len(behind_nat.received()) >= 9
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.1")


def test_a_new_key_is_used_from_the_description_on_and_the_old_one_no_longer() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far, srtp=SrtpKeys(SUITES[0], OURS, THEIRS))
        old, new = SrtpSession(SrtpKeys(SUITES[0], THEIRS, OURS)), SrtpSession(SrtpKeys(SUITES[0], bytes(30), OURS))
        for number in range(10):
            far.send(old.protect(rtp(number, sound(number))), session.stream)
            await asyncio.sleep(0.02)
        session.stream.connect(terms_with(far, srtp=SrtpKeys(SUITES[0], OURS, bytes(30))))
        for number in range(10, 20):
            far.send(new.protect(rtp(number, sound(number))), session.stream)
            far.send(old.protect(rtp(number + 100, sound(number + 100))), session.stream)
            await asyncio.sleep(0.02)
        assert session.numbers == list(range(20)) and session.stream.stats().unauthentic == 10
        ours = [old.unprotect(packet) for packet in far.received() if not packets.is_rtcp(packet)]
        assert len(ours) >= 19, "our own key has not changed, so its counters go on"
        await session.close()

    scene(play)


def test_nothing_is_heard_before_the_terms_are_agreed() -> None:
    async def play(room: Room, far: Far) -> None:
        stream = await room.open()
        far.send(rtp(1), stream)
        far.send(rtp(1), stream, rtcp=True)
        await asyncio.sleep(0.1)
        assert stream.stats().refused == 2 and far.received() == []
        await stream.close()

    scene(play)


def test_rtcp_from_elsewhere_is_not_read() -> None:
    async def play(room: Room, far: Far, stranger: Far) -> None:
        session = await room.call(far, rtcp_mux=False)
        report = rtcp.write(7, time=0, timestamp=0, packets=1)
        stranger.send(report, session.stream, rtcp=True)
        far.send(report[:-1], session.stream, rtcp=True)
        far.send(b"\x80" * 2000, session.stream, rtcp=True)
        await asyncio.sleep(0.1)
        assert refused(session) == 3
        far.send(report, session.stream, rtcp=True)
        await asyncio.sleep(0.1)
        assert refused(session) == 3
        await session.close()

    scene(play, "127.0.0.1", "127.0.0.9")


def test_a_far_end_that_says_nothing_is_asked_about_after_a_minute_and_each_one_after() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        loop, asked = asyncio.get_running_loop(), []
        began = loop.time()
        session.stream.on_lost = lambda: asked.append(loop.time() - began)
        await asyncio.sleep(190)
        assert asked == [pytest.approx(60, abs=2), pytest.approx(120, abs=3), pytest.approx(181, abs=4)]
        session.stream.hold(True)
        await asyncio.sleep(190)
        assert len(asked) == 3, "on hold it may be silent"
        session.stream.hold(False)
        await asyncio.sleep(50)
        assert len(asked) == 3
        await asyncio.sleep(20)
        assert len(asked) == 4
        await session.close()

    scene(play, loop=ExactLoop)


def test_rtcp_alone_keeps_a_call_alive() -> None:
    async def play(room: Room, far: Far) -> None:
        session = await room.call(far)
        asked: list[bool] = []
        session.stream.on_lost = lambda: asked.append(True)
        report = rtcp.write(7, time=0, timestamp=0, packets=0)
        for _ in range(4):
            far.send(report, session.stream)
            await asyncio.sleep(30)
        assert asked == []
        await session.close()

    scene(play, loop=ExactLoop)
