"""The jitter buffer: audio in order and as long as the time that has passed, whatever the network does to packets."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycarrier.audio import pcma_to_pcm16, pcmu_to_pcm16
from anycarrier_sip import dtmf
from anycarrier_sip.dtmf import DigitReceiver
from anycarrier_sip.jitter import JitterBuffer, quieter

SILENCE = b"\xff" * 160
MS = 0.001


def sound(number: int, size: int = 160) -> bytes:
    """A payload that says which it is, and is no filling."""
    return (b"%08d" % number) * (size // 8)


class Packet(NamedTuple):
    arrives: float
    number: int
    sequence: int
    timestamp: int
    payload: bytes
    event: bool = False


def sent(count: int, *, size: int = 160, sequence: int = 65000, timestamp: int = 2**32 - 4000) -> list[Packet]:
    """On an ideal network, that takes 10 ms; both numbers wrap around."""
    return [
        Packet(0.01 + n * size / 8000, n, (sequence + n) % 65536, (timestamp + n * size) % 2**32, sound(n, size))
        for n in range(count)
    ]


class Played(NamedTuple):
    at: float
    audio: bytes


def play(packets: Iterable[Packet], buffer: JitterBuffer, *, until: float, ticks_from: float = 0.0) -> list[Played]:
    """What is given out, by packets as they arrive and by a tick each 20 ms."""
    given: list[Played] = []
    coming = sorted(packets, key=lambda packet: packet.arrives)[::-1]
    now = ticks_from
    while now < until:
        while coming and coming[-1].arrives <= now:
            one = coming.pop()
            for audio in buffer.receive(one.sequence, one.timestamp, one.payload, one.arrives):
                given.append(Played(one.arrives, audio))
        if now * 8000 - buffer.position > buffer.due_after:
            given += [Played(now, audio) for audio in buffer.fill(now)]
        now += 0.02
    return given


def made(codec: str = "PCMU") -> JitterBuffer:
    return JitterBuffer(codec, 0.0)


def numbers(given: Iterable[Played], packets: Iterable[Packet]) -> list[int]:
    """Which of the packets were given out, in that order."""
    known = {packet.payload: packet.number for packet in packets}
    return [known[played.audio] for played in given if played.audio in known]


# --- a good network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [80, 160, 240, 320, 480])
def test_on_a_good_network_each_packet_is_given_out_as_it_comes(size: int) -> None:
    packets = sent(1000, size=size)
    given = play(packets, buffer := made(), until=2.0 + 1000 * size / 8000 - 2.0)
    assert given == [Played(packet.arrives, packet.payload) for packet in packets[: len(given)]]
    assert len(given) >= 999 and (buffer.lost, buffer.late, buffer.filled) == (0, 0, 0)
    assert buffer.jitter == pytest.approx(0, abs=1e-3) and buffer.highest == 65000 + len(given) - 1


def test_jitter_within_the_depth_holds_nothing_back_and_loses_nothing() -> None:
    chance = random.Random(1)
    packets = [packet._replace(arrives=packet.arrives + chance.random() * 0.018) for packet in sent(3000)]
    given = play(packets, buffer := made(), until=59.9)
    assert [played.audio for played in given] == [packet.payload for packet in packets[: len(given)]]
    assert {played.at for played in given} <= {packet.arrives for packet in packets}
    assert buffer.late == 0 and 20 < buffer.jitter < 80


def test_swapped_packets_are_given_out_in_order() -> None:
    packets = sent(100)
    swapped = [
        packet._replace(arrives=packet.arrives + (0.03 if packet.number % 10 == 5 else 0)) for packet in packets
    ]
    given = play(swapped, buffer := made(), until=1.9)
    assert numbers(given, packets) == list(range(len(given))), "all of them, with nothing between"
    assert (buffer.late, buffer.lost, buffer.filled) == (0, 0, 0)


def test_doubled_packets_are_given_out_once() -> None:
    packets = sent(100)
    given = play([*packets, *(packet._replace(arrives=packet.arrives + 0.025) for packet in packets)], buffer := made(),
                 until=1.9)  # fmt: skip
    assert numbers(given, packets) == list(range(len(given)))
    assert buffer.late >= 90 and buffer.lost < 0


# --- what is missing --------------------------------------------------------------------------------------------------


def without(packets: list[Packet], *lost: int) -> list[Packet]:
    return [packet for packet in packets if packet.number not in lost]


def test_a_gap_is_the_last_packet_again_fading_to_silence_in_60_ms() -> None:
    packets = sent(60)
    given = play(without(packets, *range(20, 26)), buffer := made(), until=1.1)
    audio = [played.audio for played in given]
    last = sound(19)
    assert audio[19:26] == [last, last, *audio[21:23], SILENCE, SILENCE, SILENCE] and audio[26] == sound(26)
    heights = [max(map(abs, memoryview(pcmu_to_pcm16(one)).cast("h"))) for one in audio[19:24]]
    assert heights[1] == heights[0] > 1.9 * heights[2] > 3.6 * heights[3] > heights[4] == 0
    assert (buffer.lost, buffer.filled, buffer.late) == (6, 6 * 160, 0)


def test_a_gap_is_waited_for_40_ms_and_no_more() -> None:
    packets = sent(60)
    given = play(without(packets, 30), made(), until=1.1)
    filled = given[30]
    assert filled.audio == sound(29) and 0.040 <= filled.at - packets[30].arrives <= 0.080
    assert given[31].at == filled.at, "what has waited for it comes at once"


def test_silence_is_in_the_codec() -> None:
    buffer = made("PCMA")
    assert buffer.fill(0.2)[-1] == b"\xd5" * 160
    assert quieter("PCMA") != quieter("PCMU")
    assert max(map(abs, memoryview(pcma_to_pcm16(quieter("PCMA"))).cast("h"))) <= 16384


def test_a_packet_later_than_its_time_is_dropped() -> None:
    packets = sent(60)
    late = [packets[30]._replace(arrives=packets[30].arrives + 0.3), *without(packets, 30)]
    given = play(late, buffer := made(), until=1.1)
    assert 30 not in numbers(given, packets) and buffer.late == 1 and buffer.lost == 0


def test_before_the_first_packet_there_is_silence_from_100_ms_on() -> None:
    given = play([], made(), until=1.0)
    assert {played.audio for played in given} == {SILENCE}
    assert given[0].at == pytest.approx(0.12) and len(given) == 45


def test_silence_goes_on_where_the_far_end_stops_sending() -> None:
    packets = sent(50)
    paused = [packet._replace(timestamp=(packet.timestamp + 24000) % 2**32, arrives=packet.arrives + 3.0)
              for packet in packets[25:]]  # fmt: skip
    given = play([*packets[:25], *paused], buffer := made(), until=4.05)
    assert len(b"".join(played.audio for played in given)) == pytest.approx(4.0 * 8000, abs=800)
    assert [number for number, _ in itertools.groupby(numbers(given, packets))] == list(range(50))
    assert buffer.lost == 0 and buffer.late == 0


def test_a_network_that_holds_packets_back_adds_no_delay() -> None:
    """All that comes after its time is dropped, and the audio is as long as the time that has passed."""
    packets = sent(500)
    held = [packet._replace(arrives=max(packet.arrives, 5.0)) if 150 <= packet.number < 240 else packet
            for packet in packets]  # fmt: skip
    given = play(held, buffer := made(), until=9.9)
    assert len(b"".join(played.audio for played in given)) == pytest.approx(9.9 * 8000, abs=640)
    assert buffer.late > 80
    after = [played for played in given if played.at > 5.2]
    assert [played.at for played in after] == [packet.arrives for packet in packets[260 : 260 + len(after)]]


# --- other clocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [100_000, -100_000, 2**31, -8000, 12_345_678])
def test_a_far_end_whose_timestamps_jump_is_heard_again_within_a_quarter_second(jump: int) -> None:
    packets = sent(200)
    jumped = [packet._replace(timestamp=(packet.timestamp + jump) % 2**32) for packet in packets[100:]]
    given = play([*packets[:100], *jumped], made(), until=3.9)
    back = next(played.at for played in given if played.audio in {packet.payload for packet in jumped})
    assert back - 2.01 <= 0.26
    assert len(b"".join(played.audio for played in given)) <= 3.9 * 8000 + 320


def test_a_new_source_is_heard_at_once() -> None:
    buffer = made()
    play(sent(50), buffer, until=1.02)
    buffer.new_source()
    other = [packet._replace(arrives=packet.arrives + 1.0) for packet in sent(50, sequence=9, timestamp=77)]
    given = play(other, buffer, until=2.0, ticks_from=1.02)
    assert given[0] == Played(other[0].arrives, other[0].payload)
    assert buffer.lost == 0 and buffer.received == 50 + len(given)


@pytest.mark.parametrize("drift", [-200e-6, 200e-6])
def test_a_clock_that_goes_wrong_costs_no_packet(drift: float) -> None:
    packets = [packet._replace(arrives=packet.arrives * (1 + drift)) for packet in sent(30_000)]
    given = play(packets, buffer := made(), until=590)
    assert (buffer.late, buffer.lost, buffer.filled) == (0, 0, 0)
    assert given[-1].at in (packets[len(given) - 1].arrives,), "given out as it comes, after ten minutes too"


def test_the_depth_adapts_between_40_and_100_ms() -> None:
    def depth(most: float) -> float:
        chance = random.Random(3)
        packets = [packet._replace(arrives=packet.arrives + chance.random() * most) for packet in sent(1000)]
        play(packets, buffer := made(), until=19.9)
        return buffer.depth / 8

    assert depth(0.0) == 40 and 65 < depth(0.065) < 80 and depth(0.3) == 100
    buffer = made()
    chance = random.Random(3)
    shaken = [packet._replace(arrives=packet.arrives + chance.random() * 0.08) for packet in sent(1000)]
    play([*shaken[:500], *sent(1000)[500:]], buffer, until=19.9)
    assert buffer.depth == 320, "and gets shallow again where the network has calmed down"


# --- ten bad minutes --------------------------------------------------------------------------------------------------


def test_ten_minutes_of_loss_doubles_swaps_and_jitter_add_no_delay_and_each_key_comes_once() -> None:
    chance = random.Random(20)
    stream: list[Packet] = []
    keys, sequence, timestamp = "", 60_000, 2**32 - 99_999
    pressing: list[tuple[bool, bytes | None]] = []
    key_timestamp = 0
    for number in range(30_000):
        timestamp, sequence = (timestamp + 160) % 2**32, (sequence + 1) % 65536
        if number % 250 == 200:
            key = chance.choice(dtmf.KEYS)
            keys += key
            pressing = dtmf.packets(key)[:-1]
        at = number * 0.02
        if pressing:
            starts, payload = pressing.pop(0)
            key_timestamp = timestamp if starts else key_timestamp
            assert payload is not None
            stream.append(Packet(at, number, sequence, key_timestamp, payload, event=True))
        else:
            stream.append(Packet(at, number, sequence, timestamp, sound(number)))
    arriving: list[Packet] = []
    for packet in stream:
        late = packet.arrives + chance.random() * 0.04
        if chance.random() < 0.02:
            late += 0.03  # behind the next ones
        for _ in range((chance.random() >= 0.05) + (chance.random() < 0.02)):
            arriving.append(packet._replace(arrives=late + chance.random() * 0.005))
    buffer, receiver, heard = made(), DigitReceiver(), ""
    given: list[Played] = []
    now, behind = 0.0, []
    coming = sorted(arriving, key=lambda packet: packet.arrives)[::-1]
    while now < 600:
        while coming and coming[-1].arrives <= now:
            one = coming.pop()
            if one.event:
                buffer.pass_by(one.sequence)
                heard += receiver.receive(one.timestamp, one.payload) or ""
            else:
                pieces = buffer.receive(one.sequence, one.timestamp, one.payload, one.arrives)
                given += [Played(one.arrives, audio) for audio in pieces]
        given += [Played(now, audio) for audio in buffer.fill(now)]
        behind.append(now - buffer.position / 8000)
        now += 0.02
    assert heard == keys and len(keys) == 120
    assert max(behind[100:]) <= 0.140 and abs(sum(behind[100:3100]) - sum(behind[-3000:])) / 3000 < 0.005
    played = [number for number, _ in itertools.groupby(numbers(given, stream))]  # a gap is filled with the last one
    assert sorted(set(played)) == played, "in order, and none twice"
    came = {packet.number for packet in arriving if not packet.event}
    assert len(set(played)) >= 0.99 * len(came)
    delays = {number: at for at, audio in given if (number := int(audio[:8]) if audio[:8].isdigit() else -1) >= 0}
    late = sorted(at - number * 0.02 for number, at in delays.items())
    assert late[-1] <= 0.160


# --- anything at all --------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 70_000), st.integers(0, 2**32 - 1), st.integers(0, 480), st.floats(0, 0.3),
            st.booleans(),
        ), max_size=80,
    )
)  # fmt: skip
def test_any_packets_at_all_keep_the_buffer_small_and_the_audio_no_longer_than_time(
    steps: list[tuple[int, int, int, float, bool]],
) -> None:
    buffer, now, sequence, timestamp, total = made(), 0.0, 0, 0, 0
    real = 0
    for number, stamp, size, pause, follows in steps:
        now += pause
        sequence = (sequence + 1) % 65536 if follows else number % 65536
        timestamp = (timestamp + size) % 2**32 if follows else stamp
        given = [*buffer.receive(sequence, timestamp, b"x" * size, now)]
        real += size
        given += buffer.fill(now)
        total += sum(map(len, given))
        assert total == buffer.position
        assert len(buffer._waiting) <= 51
        assert now * 8000 - buffer.position <= buffer.due_after or not now
    assert total <= now * 8000 + real + 8000 * len(steps)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 0.039), st.booleans(), st.booleans()), min_size=30, max_size=150),
    st.integers(0, 65535), st.integers(0, 2**32 - 1), st.sampled_from([80, 160, 240]),
)  # fmt: skip
def test_what_comes_within_40_ms_is_given_out_in_order_once(
    fates: list[tuple[float, bool, bool]], sequence: int, timestamp: int, size: int
) -> None:
    packets = sent(len(fates), size=size, sequence=sequence, timestamp=timestamp)
    arriving = []
    for packet, (delay, lost, doubled) in zip(packets, fates, strict=True):
        if not lost or packet.number == 0:
            arriving += [packet._replace(arrives=packet.arrives + (delay if packet.number else 0))] * (1 + doubled)
    given = play(arriving, made(), until=packets[-1].arrives + 0.3)
    came = {packet.number for packet in arriving}
    audio = [played.audio for played in given]
    order = [packet.number for packet in packets if packet.payload in audio and packet.number in came]
    assert order == sorted(came), "none is missing"
    firsts = [audio.index(packets[number].payload) for number in order]
    assert firsts == sorted(firsts), "and none is out of order"
