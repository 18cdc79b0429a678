"""Speech sent a little ahead of the ear: paced, paused, resumed and cut, against a far end that plays in real time."""

from __future__ import annotations

import asyncio
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycarrier import AudioFormat, MediaSession, PacedVoice
from anycarrier.audio import PCM16_8K, PCMU_8K
from anycarrier.errors import StreamNotOpen
from anycarrier.testing.session import Marks, ScriptedFarEnd
from virtual_time import play


def sound(seconds: float, first: int = 0, format: AudioFormat = PCM16_8K) -> bytes:
    """Audio in which each sample is another."""
    samples = range(first, first + round(seconds * format.rate))
    if format.sample_width == 1:
        return bytes(sample % 251 for sample in samples)
    return array("H", [sample % 65536 for sample in samples]).tobytes()


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("lead", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("marks", ["echo", "lost", "none"])
def test_it_is_sent_at_most_the_lead_ahead_and_heard_in_one_piece(lead: float, marks: Marks) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        audio, furthest = sound(5), 0.0
        voice = PacedVoice(session, lead=lead)
        speaking = asyncio.ensure_future(voice.say(audio))
        begun = now()
        while not speaking.done():
            furthest = max(furthest, session.ahead, far_end.waiting)
            await asyncio.sleep(0.003)
        assert lead - 0.021 < furthest <= lead + 1e-6
        assert now() - begun == pytest.approx(5 - lead, abs=0.005)
        assert not voice.idle
        await voice.done()
        assert voice.idle and now() - begun == pytest.approx(5, abs=0.011)
        assert far_end.heard == audio and len(far_end.heard_at) == 1

    play(scene, format=PCM16_8K, marks=marks)


@pytest.mark.parametrize("marks", ["echo", "none"])
@pytest.mark.parametrize("format", [PCMU_8K, PCM16_8K, AudioFormat("PCM16", 24_000)])
def test_paused_nothing_is_heard_and_resumed_it_goes_on_at_the_next_sample(marks: Marks, format: AudioFormat) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        audio = sound(3, format=format)
        voice = PacedVoice(session)
        speaking = asyncio.ensure_future(voice.say(audio))
        await asyncio.sleep(1.01)
        voice.pause()
        heard = session.heard
        assert voice.paused and heard == pytest.approx(1.01)
        for _ in range(60):
            await asyncio.sleep(0.01)
            assert session.heard == heard and session.ahead == 0.0 and far_end.waiting == 0.0
        voice.resume()
        assert not voice.paused
        await speaking
        await voice.done()
        first, second = far_end.heard_at
        assert first.audio + second.audio == audio
        assert second.at - first.at - 1.01 == pytest.approx(0.6, abs=0.005)
        assert session.heard == pytest.approx(3.0) and voice.idle

    play(scene, format=format, marks=marks)


def test_of_marks_that_never_come_back_a_pause_costs_a_repetition_until_the_first_is_given_up() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        audio = sound(8)
        voice = PacedVoice(session)
        speaking = asyncio.ensure_future(voice.say(audio))
        await asyncio.sleep(4)
        for _ in range(3):
            voice.pause()
            await asyncio.sleep(0.5)
            voice.resume()
            await asyncio.sleep(1)
        await speaking
        await voice.done()
        assert far_end.heard == audio

    play(scene, format=PCM16_8K, marks="lost")


def test_what_is_paused_after_it_was_said_is_sent_by_nobody_else() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice, audio = PacedVoice(session, lead=1.0), sound(0.9)
        await voice.say(audio)
        done = asyncio.ensure_future(voice.done())
        await asyncio.sleep(0.3)
        voice.pause()
        voice.pause()
        await asyncio.sleep(5)
        assert not voice.idle and not done.done() and session.heard == pytest.approx(0.3)
        later = asyncio.ensure_future(voice.say(sound(0.5, 7200)))
        voice.resume()
        voice.resume()
        await done
        assert now() == pytest.approx(5.9, abs=0.02), "not that which was said later"
        await later
        await voice.done()
        assert far_end.heard == audio + sound(0.5, 7200)

    play(scene, format=PCM16_8K)


def test_what_a_pause_took_back_is_sent_again_though_nobody_says_more() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session, lead=1.0)
        await voice.say(sound(0.9))
        await asyncio.sleep(0.3)
        voice.pause()
        voice.resume()
        await asyncio.sleep(2)
        assert far_end.heard == sound(0.9) and voice.idle
        speaking = asyncio.ensure_future(voice.say(sound(3, 7200)))
        await asyncio.sleep(0.5)
        voice.pause()
        await asyncio.sleep(1)
        voice.resume()
        speaking.cancel()  # before it could send again what was taken back
        await asyncio.sleep(5)
        assert voice.idle and far_end.heard_seconds > 0.9 + 1.3

    play(scene, format=PCM16_8K)


def test_a_pause_with_nothing_to_be_heard_clears_nothing_and_holds_back_what_comes() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session)
        await voice.say(sound(0.1))
        await voice.done()
        voice.pause()
        speaking = asyncio.ensure_future(voice.say(sound(0.1, 800)))
        await asyncio.sleep(1)
        assert far_end.cleared == [] and not speaking.done() and far_end.heard_seconds == pytest.approx(0.1)
        voice.resume()
        await speaking
        await voice.done()
        assert far_end.heard == sound(0.2) and far_end.cleared == []

    play(scene, format=PCM16_8K)


def test_a_cut_drops_all_that_was_said_and_frees_whoever_says_it() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session)
        waiting = [asyncio.ensure_future(voice.say(sound(3, first))) for first in (0, 24_000, 48_000)]
        done = asyncio.ensure_future(voice.done())
        await asyncio.sleep(1.01)
        playback = voice.cut()
        assert playback == pytest.approx((1.01, 0.2, True), abs=0.041)
        assert playback.heard == pytest.approx(1.01) and voice.idle
        await asyncio.gather(*waiting, done)
        assert now() == pytest.approx(1.01)
        await voice.say(sound(0.1, 100))
        await voice.done()
        assert far_end.heard == sound(1.01) + sound(0.1, 100)
        assert voice.cut()[:2] == pytest.approx((0.1, 0.0))

    play(scene, format=PCM16_8K)


def test_a_cut_while_paused_counts_what_was_taken_back_and_leaves_it_paused() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session, lead=1.0)
        speaking = asyncio.ensure_future(voice.say(sound(3)))
        await asyncio.sleep(1.0)
        voice.pause()
        await asyncio.sleep(1.0)
        heard, dropped, measured = voice.cut()
        assert (heard, measured, voice.paused) == (pytest.approx(1.0), True, True) and 0.8 < dropped <= 1.0
        await speaking
        assert voice.idle and voice.cut()[:2] == (0.0, 0.0)
        after = asyncio.ensure_future(voice.say(sound(0.1, 100)))
        await asyncio.sleep(1.0)
        assert not after.done()
        voice.resume()
        await after
        await voice.done()
        assert far_end.heard == sound(1.0) + sound(0.1, 100)

    play(scene, format=PCM16_8K)


def test_a_cancelled_say_sends_no_more_and_what_it_sent_can_still_be_paused() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session)
        speaking = asyncio.ensure_future(voice.say(sound(3)))
        await asyncio.sleep(1.0)
        speaking.cancel()
        await asyncio.sleep(0)
        sent = session.queued
        voice.pause()
        await asyncio.sleep(1.0)
        voice.resume()
        await voice.say(sound(0.1, 100))
        await voice.done()
        assert 1.1 < sent <= 1.2 and far_end.heard == sound(sent) + sound(0.1, 100)

    play(scene, format=PCM16_8K)


@pytest.mark.parametrize("paused", [False, True])
def test_the_end_of_the_stream_ends_everything(paused: bool) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session)
        speaking = [asyncio.ensure_future(voice.say(sound(3))), asyncio.ensure_future(voice.say(sound(3)))]
        done = asyncio.ensure_future(voice.done())
        await asyncio.sleep(1.0)
        if paused:
            voice.pause()
        await far_end.hang_up()
        told = await asyncio.gather(*speaking, done, return_exceptions=True)
        assert [type(what) for what in told] == [StreamNotOpen, StreamNotOpen, type(None)]
        assert now() == pytest.approx(1.0, abs=0.041)
        for act in (voice.pause, voice.resume, voice.pause):
            act()
        with pytest.raises(StreamNotOpen, match="stopped by the carrier"):
            await voice.say(sound(1))
        await voice.done()
        await asyncio.sleep(5)
        assert voice.cut().heard == pytest.approx(1.0)

    play(scene, format=PCM16_8K)


def test_half_a_sample_waits_for_its_other_half() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice, audio = PacedVoice(session), sound(1)
        for at in range(0, len(audio), 333):
            await voice.say(audio[at : at + 333])
        await voice.say(b"x")
        voice.cut()
        await voice.say(b"")
        assert all(len(piece.audio) % 2 == 0 for piece in far_end.received)
        assert b"".join(piece.audio for piece in far_end.received) == audio

    play(scene, format=PCM16_8K)


def test_what_somebody_else_has_cleared_is_not_said_again() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session, lead=1.0)
        await voice.say(sound(1))
        await asyncio.sleep(0.5)
        await session.clear()
        assert voice.idle
        voice.pause()
        voice.resume()
        await voice.done()
        await asyncio.sleep(2)
        assert far_end.heard == sound(0.5)

    play(scene, format=PCM16_8K)


def test_what_is_sent_after_somebody_else_has_cleared_can_be_paused() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session, lead=1.0)
        speaking = asyncio.ensure_future(voice.say(sound(4)))
        await asyncio.sleep(1)
        await session.clear()
        lost = session.sent - session.heard
        await asyncio.sleep(0.5)
        voice.pause()
        await asyncio.sleep(0.5)
        assert far_end.waiting == 0.0 and far_end.heard_seconds < 1.5 + 1e-6
        voice.resume()
        await speaking
        await voice.done()
        assert far_end.heard_seconds == pytest.approx(4 - lost, abs=0.001)

    play(scene, format=PCM16_8K)


@pytest.mark.parametrize(("lead", "piece"), [(0.02, 0.02), (0.2, 0.04), (1.0, 0.2), (9.0, 0.5)])
def test_the_further_ahead_the_longer_the_pieces(lead: float, piece: float) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        await PacedVoice(session, lead=lead).say(sound(2))
        assert max(len(sent.audio) for sent in far_end.received) == pytest.approx(PCM16_8K.size(piece), abs=320)
        assert len(far_end.received) == pytest.approx(2 / piece, abs=2)

    play(scene, format=PCM16_8K)


def test_who_waits_for_the_end_is_told_when_what_was_to_be_said_is_given_up() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session)
        voice.pause()
        speaking = asyncio.ensure_future(voice.say(sound(1)))
        done = asyncio.ensure_future(voice.done())
        await asyncio.sleep(0.1)
        speaking.cancel()
        await asyncio.wait_for(done, 1)

    play(scene, format=PCM16_8K)


def test_who_waits_for_the_end_is_told_when_what_a_pause_took_back_was_heard() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session, lead=1.0)
        await voice.say(sound(0.9))
        await asyncio.sleep(0.1)
        voice.pause()
        done = asyncio.ensure_future(voice.done())
        await asyncio.sleep(0.1)
        voice.resume()
        await asyncio.wait_for(done, 3)
        assert now() == pytest.approx(1.0, abs=0.011)

    play(scene, format=PCM16_8K)


def test_who_waits_for_the_end_is_told_at_once_of_the_end_of_the_stream() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session, lead=9.0)
        await voice.say(sound(5))
        done = asyncio.ensure_future(voice.done())
        await asyncio.sleep(1)
        await far_end.hang_up()
        await done
        assert now() == pytest.approx(1.0)
        assert voice.cut() == pytest.approx((1.0, 4.0, True))
        with pytest.raises(StreamNotOpen):
            await voice.say(b"")

    play(scene, format=PCM16_8K)


def test_a_second_cut_has_measured_nothing() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session)
        speaking = asyncio.ensure_future(voice.say(sound(3)))
        await asyncio.sleep(1.5)
        voice.pause()
        assert voice.cut().measured and voice.cut() == (0.0, 0.0, False)
        await speaking

    play(scene, format=PCM16_8K)


def test_of_several_channels_the_samples_stay_together() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice, audio = PacedVoice(session), sound(1, format=PCM16_8K)
        for at in range(0, len(audio), 1002):
            await voice.say(audio[at : at + 1002])
        assert all(len(piece.audio) % 4 == 0 for piece in far_end.received)
        assert b"".join(piece.audio for piece in far_end.received) == audio

    play(scene, format=AudioFormat("PCM16", 8000, 2))


def test_a_lead_shorter_than_a_frame_is_refused() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        with pytest.raises(ValueError, match="less than one frame"):
            PacedVoice(session, lead=0.01)

    play(scene)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 900)),
        st.tuples(st.sampled_from(["pause", "resume", "resume", "cut", "done"]), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 700)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS, st.sampled_from(["echo", "none"]), st.sampled_from([0.04, 0.2, 0.5]))
def test_each_sample_is_heard_once_and_in_order_unless_it_was_cut(
    steps: list[tuple[str, int]], marks: Marks, lead: float
) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session, lead=lead)
        said: list[tuple[bytes, bool]] = []
        tasks: list[asyncio.Future[None]] = []
        first, heard = 0, 0.0
        for step, milliseconds in steps:
            match step:
                case "say":
                    said.append((sound(milliseconds / 1000, first), False))
                    first += 8 * milliseconds
                    tasks.append(asyncio.ensure_future(voice.say(said[-1][0])))
                    await asyncio.sleep(0)
                case "pause":
                    voice.pause()
                case "resume":
                    voice.resume()
                case "cut":
                    so_far = far_end.heard_seconds
                    heard += voice.cut().heard
                    assert heard == pytest.approx(so_far, abs=0.001)
                    said = [(audio, True) for audio, _ in said]
                    assert voice.idle
                case "done":
                    tasks.append(asyncio.ensure_future(voice.done()))
                    await asyncio.sleep(0)
                case "wait":
                    before, was_paused = session.heard, voice.paused
                    await asyncio.sleep(milliseconds / 1000)
                    assert not was_paused or session.heard == before
                    assert session.ahead <= lead + 1e-6
            assert session.heard == pytest.approx(far_end.heard_seconds, abs=0.001)
        voice.resume()
        await asyncio.wait_for(asyncio.gather(*tasks), 100)
        await asyncio.wait_for(voice.done(), 100)
        assert voice.idle and not voice.paused
        ear, at = far_end.heard, 0
        for audio, cut in said:
            length = len(audio)
            while audio[:length] != ear[at : at + length]:
                length -= 2  # whole samples: half of one may be alike
            assert cut or length == len(audio)
            at += length
        assert at == len(ear)

    play(scene, format=PCM16_8K, marks=marks)
