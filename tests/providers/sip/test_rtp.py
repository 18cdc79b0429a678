"""RTP and RTCP packets, and keys as telephone events: bytes in and out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycarrier_sip import dtmf, rtcp, rtp
from anycarrier_sip.dtmf import DigitReceiver
from anycarrier_sip.jitter import JitterBuffer

HEADER = struct.pack("!BBHII", 0x80, 0, 7, 160, 0xABCD)
SOUND = bytes(range(160))


def with_first(first: int, rest: bytes) -> bytes:
    return bytes((first,)) + HEADER[1:] + rest


@pytest.mark.parametrize(
    ("packet", "payload"), [
        (HEADER + SOUND, SOUND),
        (HEADER, b""),
        (with_first(0x82, bytes(8) + SOUND), SOUND),  # two contributing sources
        (with_first(0x90, b"\xbe\xde\x00\x01" + bytes(4) + SOUND), SOUND),  # an extension
        (with_first(0x90, b"\xbe\xde\x00\x00"), b""),  # nothing but one
        (with_first(0xA0, SOUND + b"\x00\x00\x03"), SOUND),  # padding
        (with_first(0xB1, bytes(4) + b"\xbe\xde\x00\x00" + SOUND + b"\x01"), SOUND),  # all three
    ],
)  # fmt: skip
def test_the_payload_is_what_is_left_of_a_packet(packet: bytes, payload: bytes) -> None:
    assert rtp.payload(packet) == payload


@pytest.mark.parametrize(
    "packet", [
        b"", HEADER[:11], with_first(0x00, SOUND), with_first(0x40, SOUND), with_first(0xC0, SOUND),
        with_first(0x8F, SOUND[:59]), with_first(0x90, SOUND[:3]), with_first(0x90, b"\x00\x00\xff\xff" + SOUND),
        with_first(0xA0, SOUND[:-1] + b"\x00"), with_first(0xA0, b"\x02"), with_first(0xA0, b""),
    ],
)  # fmt: skip
def test_P7_a_packet_that_cannot_be_is_none(packet: bytes) -> None:
    assert rtp.payload(packet) is None


def report(**changes: object) -> bytes:
    told = {"time": 1_000_001.5, "timestamp": 4000, "packets": 50, **changes}
    return rtcp.write(0xABCD, **told)  # type: ignore[arg-type]


def heard_of(lost: int, of: int, jitter: float = 0.0) -> JitterBuffer:
    """A buffer that has counted so many packets, and so many of them missing, with sequence numbers from 65,000 on."""
    buffer = JitterBuffer("PCMU", 0.0)
    for number in range(of):
        if not 0 < number <= lost:
            buffer.pass_by((65_000 + number) % 65536)
    buffer.jitter = jitter
    return buffer


def test_a_report_is_read_as_it_was_written() -> None:
    ours, theirs = rtcp.Reports(), rtcp.Reports()
    assert ours.receive(report(), 0x1234, now=5.0)
    packet = report(block=ours.block(0x1234, heard_of(250, of=1000, jitter=40.7), now=6.5))
    assert theirs.receive(packet, 0x1234, now=7.0) and theirs.count == 1
    sent_at = (1_000_001 + 2_208_988_800) % 65536 << 16 | 0x8000
    assert theirs.last == rtcp.Report(0xABCD, 0.25, 250, 0.005, sent_at=sent_at)
    assert rtp.is_rtcp(packet) and len(packet) % 4 == 0
    assert rtcp.read(packet, 0x9999) == rtcp.Report(0xABCD, sent_at=sent_at)
    assert struct.unpack_from("!IIII", packet, 28 + 8) == (65_999, 40, sent_at, 98304)
    assert struct.unpack_from("!IIIII", packet, 8) == (
        2_209_988_801, 2**31, 4000, 50, 8000,
    )  # fmt: skip


def test_a_share_is_of_the_packets_since_the_last_report() -> None:
    reports, buffer = rtcp.Reports(), heard_of(10, of=100)
    first = rtcp.read(report(block=reports.block(1, buffer, 0.0)), 1)
    for number in range(100, 200):
        buffer.pass_by((65_000 + number) % 65536)
    second = rtcp.read(report(block=reports.block(1, buffer, 0.0)), 1)
    for _ in range(3):
        buffer.pass_by((65_199) % 65536)
    third = rtcp.read(report(block=reports.block(1, buffer, 0.0)), 1)
    assert first and second and third
    assert (first.lost, round(first.lost_fraction, 1)) == (10, 0.1)
    assert (second.lost, second.lost_fraction) == (10, 0.0)
    assert (third.lost, third.lost_fraction) == (7, 0.0)
    doubled = rtcp.read(report(block=reports.block(1, heard_of(0, of=1), 0.0)), 1)
    assert doubled and doubled.lost == 0


def test_packets_that_came_twice_are_less_than_none_lost() -> None:
    buffer = heard_of(0, of=5)
    buffer.pass_by(65_004)
    read = rtcp.read(report(block=rtcp.Reports().block(1, buffer, 0.0)), 1)
    assert read and (read.lost, read.lost_fraction) == (-1, 0.0)


def test_who_has_sent_nothing_reports_as_receiver_and_who_goes_says_goodbye() -> None:
    assert report(packets=0)[1] == 201 and report()[1] == 200
    goodbye = rtcp.read(report(goodbye=True), 0)
    assert goodbye is not None and goodbye.goodbye
    assert report(packets=0) == b"\x80\xc9\0\x01\0\0\xab\xcd\x81\xca\0\x05\0\0\xab\xcd\x01\x0aanycarrier" + bytes(4)
    assert not rtp.is_rtcp(HEADER + SOUND)
    assert rtp.is_rtcp(report(packets=0)[:8]) and not rtp.is_rtcp(report(packets=0)[:7])
    assert [kind for kind in range(256) if rtp.is_rtcp(bytes((0x80, kind)) + bytes(6))] == list(range(192, 224))


@pytest.mark.parametrize(
    "packet", [b"\x80", report()[:-1], report()[:30], b"\x80\xca" + report()[2:], b"\x81\xc9\x00\x01" + bytes(4),
               b"\x40" + report()[1:]],
)  # fmt: skip
def test_P7_what_is_no_rtcp_is_none(packet: bytes) -> None:
    assert rtcp.read(packet, 1) is None


@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.tuples(st.sampled_from([HEADER, report(), report(goodbye=True)]),
       st.binary(max_size=40), st.integers(0, 60)).map(lambda one: one[0][: one[2]] + one[1])))  # fmt: skip
def test_P7_any_bytes_at_all_are_read_or_none(packet: bytes) -> None:
    rest = rtp.payload(packet)
    assert rest is None or packet.find(rest) >= 0
    rtp.is_rtcp(packet)
    rtcp.read(packet, 1)
    DigitReceiver().receive(1, packet)


# --- telephone events -------------------------------------------------------------------------------------------------


def events(digits: str, at: int = 1000) -> list[tuple[int, bytes]]:
    """As they go on the wire: timestamp and payload."""
    made, key = [], at
    for starts, payload in dtmf.packets(digits):
        at += 160
        if starts:
            key = at
        if payload is not None:
            made.append((key, payload))
    return made


def heard(packets: list[tuple[int, bytes]]) -> str:
    receiver = DigitReceiver()
    return "".join(key for one in packets if (key := receiver.receive(*one)) is not None)


def test_a_key_lasts_100_ms_and_its_end_comes_three_times() -> None:
    made = dtmf.packets("1#")
    assert [starts for starts, _ in made] == [True, *[False] * 7, True, *[False] * 7]
    assert [payload for _, payload in made[:8]] == [
        b"\x01\x0a\x00\xa0", b"\x01\x0a\x01\x40", b"\x01\x0a\x01\xe0", b"\x01\x0a\x02\x80",
        b"\x01\x8a\x03\x20", b"\x01\x8a\x03\x20", b"\x01\x8a\x03\x20", None,
    ]  # fmt: skip
    assert made[8][1] == b"\x0b\x0a\x00\xa0"
    assert dtmf.packets("wW") == [(False, None)] * 75


@pytest.mark.parametrize("digits", ["x", "1 2", "é", "10,"])
def test_what_is_no_key_cannot_be_sent(digits: str) -> None:
    with pytest.raises(ValueError):
        dtmf.packets(digits)


def test_every_key_is_heard_once() -> None:
    assert heard(events("0123456789*#abcdABCD11w1")) == "0123456789*#ABCDABCD111"
    doubled = [one for one in events("159*0#11") for _ in range(3)]
    assert heard(doubled) == "159*0#11"


@pytest.mark.parametrize("lost", [range(1), range(3), range(6), range(2, 7), range(4, 7)])
def test_a_key_is_heard_once_whether_its_start_or_its_end_is_lost(lost: range) -> None:
    packets = events("7")
    assert heard([one for number, one in enumerate(packets) if number not in lost]) == "7"


def test_packets_that_are_late_do_not_press_a_key_again() -> None:
    first, second = events("1"), events("2", at=9000)
    assert heard([*first[:-1], *second, first[-1], first[2]]) == "12"


def test_what_is_shorter_than_40_ms_or_no_key_is_not_heard() -> None:
    assert heard([(5, b"\x01\x8a\x00\xa0"), (5, b"\x01\x8a\x00\xa0")]) == ""
    assert heard([(5, b"\x01\x8a\x01\x40")]) == "1"
    assert heard([(5, b"\x10\x8a\x03\x20"), (6, b"\x01\x8a\x03"), (7, b"")]) == ""


def test_a_key_that_is_down_for_longer_than_can_be_counted_is_one_key() -> None:
    segments = [(1000 + 0xFFFF * number, bytes((5, 10)) + (0xFFFF).to_bytes(2, "big")) for number in range(3)]
    assert heard([*segments, (1000 + 3 * 0xFFFF, b"\x05\x8a\x00\xa0")]) == "5"
    assert heard([segments[0], (1000 + 0xFFFF, b"\x06\x8a\x03\x20")]) == "56"
