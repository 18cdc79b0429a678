"""The checks of what listens: recognizers, with their hints and answers, and voice detectors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise

from anycarrier.audio import PCMU_8K, AudioFormat, silence
from anycarrier.speech import Heard, Hearing, Recognizer, SpeechEngine, Voice, VoiceActivity, VoiceActivityDetector
from anycarrier.testing.conformance.engine_kit import FORMATS, SLICES, EngineKit, collected, feed, given

LATEST = 4.0
"""Seconds of speech that are fed before they are announced."""


class RecognizerChecks(EngineKit):
    def test_each_finish_has_exactly_one_complete_answer(self) -> None:
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            for format in FORMATS:
                await self.one_answer_each(engine, format)

        self.run(check)

    async def one_answer_each(self, engine: SpeechEngine, format: AudioFormat) -> None:
        async with self.listening(engine, format) as (recognizer, heard):
            recognizer.begin()
            feed(recognizer, self.spoken(format), 160)
            already = sum(result.complete for result in heard)
            recognizer.finish()
            await self.until(lambda: sum(r.complete for r in heard) > already, "finish() must be answered")
            known = len(heard)
            recognizer.finish()
            await self.until(lambda: len(heard) > known, "finish() without audio must be answered")
            await recognizer.aclose()
        assert [(r.text, r.final, r.complete) for r in heard[known:]] == [("", True, True)], (
            f"nothing was said since the last finish(), and it was answered by {heard[known:]}"
        )
        assert all(result.final for result in heard if result.complete), "a complete result is not final"

    def test_each_utterance_is_heard_by_itself(self) -> None:
        """Said twice, it is heard twice; ``begin`` takes back no answer that is due."""
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            async with self.listening(engine, PCMU_8K) as (recognizer, heard):
                ends = [0]
                for number in (1, 2):
                    recognizer.begin()
                    feed(recognizer, self.spoken(), 160)
                    recognizer.finish()
                    if number == 2:
                        recognizer.begin()
                    await self.until(partial(_answered, heard, number), "each finish() must be answered")
                    ends.append(len(heard))
                await recognizer.aclose()
            first, second = (" ".join(r.text for r in heard[a:b] if r.final) for a, b in pairwise(ends))
            assert first.strip(), "an utterance was heard as nothing"
            assert len(second.split()) < 2 * len(first.split()), f"{first!r} is heard again in {second!r}"

        self.run(check)

    def test_interims_have_words_and_final_words_come_once(self) -> None:
        """``final`` words are added to those before them, interims are replaced by the next result."""
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            async with self.listening(engine, PCMU_8K) as (recognizer, heard):
                recognizer.begin()
                audio = self.spoken()
                for start in range(0, len(audio), 160):
                    recognizer.feed(audio[start : start + 160])
                    await asyncio.sleep(0)
                recognizer.finish()
                await self.until(partial(_answered, heard, 1), "finish() must be answered")
                await recognizer.aclose()
            assert all(result.text for result in heard if not result.final), f"an interim without words: {heard}"
            finals = [result.text.lower().rstrip(".") for result in heard if result.final and result.text]
            for one, other in pairwise(finals):
                assert not other.startswith(one), f"{one!r} was final, and {other!r} says it again: is it an interim?"

        self.run(check)

    def test_questions_asked_at_once_are_answered_one_by_one(self) -> None:
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            async with self.listening(engine, PCMU_8K) as (recognizer, heard):
                for _ in range(3):
                    recognizer.finish()
                await self.until(lambda: sum(r.complete for r in heard) >= 3, "three finish() must have three answers")
                await recognizer.aclose()
            assert [r.complete for r in heard] == [True] * 3, f"three finish() without audio were answered by {heard}"

        self.run(check)

    def test_answers_come_in_the_order_of_the_questions(self) -> None:
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            async with self.listening(engine, PCMU_8K) as (recognizer, heard):
                recognizer.begin()
                feed(recognizer, self.spoken(), 160)
                recognizer.finish()
                recognizer.finish()
                await self.until(partial(_answered, heard, 2), "two finish() must have two answers")
                await recognizer.aclose()
            assert heard[-1].complete and not heard[-1].text, (
                f"an utterance, and then nothing, were answered by {heard}: the last answer must have no words"
            )
            assert any(result.text for result in heard if result.final), "an utterance was heard as nothing"

        self.run(check)

    def test_two_calls_hear_their_own_audio(self) -> None:
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            async with (
                self.listening(engine, PCMU_8K) as (silent, nothing),
                self.listening(engine, PCMU_8K) as (talker, words),  # last: how its iteration fails is reported
            ):
                for recognizer in (talker, silent):
                    recognizer.begin()
                feed(talker, self.spoken(), 160)
                silent.finish()
                talker.finish()
                await self.until(lambda: _answered(words, 1) and _answered(nothing, 1), "each call must be answered")
                await talker.aclose()
                await silent.aclose()
            assert not any(result.text for result in nothing), f"a call without audio heard another call's: {nothing}"
            assert any(result.text for result in words if result.final), "beside a silent call, no words are heard"

        self.run(check)

    def test_pauses_within_an_utterance_change_none_of_its_words(self) -> None:
        """``pause`` and ``resume`` are hints: all audio counts, and one finish has one answer."""
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            async with self.listening(engine, PCMU_8K) as (recognizer, heard):
                texts = []
                pauses: tuple[set[str], ...] = (set(), {"after"}, {"before", "after"}, {"within"})
                for number, where in enumerate(pauses, 1):
                    known = len(heard)
                    recognizer.begin()
                    if "before" in where:
                        recognizer.feed(silence(PCMU_8K, 0.3))
                        recognizer.pause()
                        await asyncio.sleep(0.05)
                        recognizer.resume()
                    feed(recognizer, self.spoken(), 160)
                    if where & {"after", "within"}:
                        recognizer.pause()
                        await asyncio.sleep(0.05)
                        if "within" in where:
                            recognizer.resume()
                        feed(recognizer, silence(PCMU_8K, 0.3), 160)
                    recognizer.finish()
                    await self.until(partial(_answered, heard, number), "each finish() must be answered")
                    texts.append(" ".join(r.text for r in heard[known:] if r.final))
                known = len(heard)
                recognizer.finish()
                await self.until(partial(_answered, heard, 5), "each finish() must be answered")
                await recognizer.aclose()
            assert [(r.text, r.complete) for r in heard[known:]] == [("", True)], (
                f"after utterances with pauses, finish() without audio was answered by {heard[known:]}"
            )
            assert all(texts), f"with pauses in it, an utterance was heard as {texts[1:]} instead of {texts[0]!r}"
            long = max(len(text.split()) for text in texts[1:])
            assert long < 2 * len(texts[0].split()), f"with pauses in it, {texts[0]!r} is heard twice in {texts[1:]}"

        self.run(check)

    def test_an_utterance_that_is_announced_late_is_whole(self) -> None:
        """``begin(preceding)`` says how much of the audio fed before it belongs to the utterance."""
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            async with self.listening(engine, PCMU_8K, cued=True) as (recognizer, heard):
                audio = self.speech[: round(LATEST * PCMU_8K.rate)]
                ends = [0]
                for late in (False, True):
                    if not late:
                        recognizer.begin(0.0)
                    feed(recognizer, audio, 160)
                    if late:
                        recognizer.begin(PCMU_8K.seconds(len(audio)))
                    feed(recognizer, silence(PCMU_8K, 1.0), 160)
                    recognizer.finish()
                    await self.until(partial(_answered, heard, len(ends)), "each finish() must be answered")
                    ends.append(len(heard))
                await recognizer.aclose()
            prompt, late_text = (" ".join(r.text for r in heard[a:b] if r.final) for a, b in pairwise(ends))
            # Not all of them: a decoder that adapts to the line may hear the same sound differently the second time.
            assert 2 * len(late_text.split()) >= len(prompt.split()) > 0, (
                f"{prompt!r}, announced when it had been said, is heard as {late_text!r}"
            )

        self.run(check)

    def test_a_discarded_utterance_has_no_words(self) -> None:
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            async with self.listening(engine, PCMU_8K) as (recognizer, heard):
                for number, discard in ((1, True), (2, False), (3, True), (4, False)):
                    if discard:
                        recognizer.begin()
                        feed(recognizer, self.spoken(), 160)
                    if number == 3:
                        recognizer.pause()
                        await asyncio.sleep(0.05)
                    recognizer.finish(discard=discard)
                    await self.until(partial(_answered, heard, number), "each finish() must be answered")
                await recognizer.aclose()
            answers = [result.text for result in heard if result.complete]
            assert answers[0] == "", f"finish(discard=True) was answered by {answers[0]!r}"
            assert answers[2] == "", f"after a pause, finish(discard=True) was answered by {answers[2]!r}"
            between = answers[1::2]
            assert between == ["", ""], f"after a discarded utterance, finish() without audio gave {between}"

        self.run(check)

    def test_audio_of_any_length_is_taken(self) -> None:
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            async with self.listening(engine, PCMU_8K) as (recognizer, heard):
                audio = self.spoken()[:16000]
                for size in SLICES:
                    feed(recognizer, audio[: size * 400], size)
                recognizer.feed(b"")
                recognizer.feed(audio * 10)
                recognizer.finish()
                await self.until(lambda: any(r.complete for r in heard), "finish() must be answered")

        self.run(check)

    def test_closing_ends_the_iteration_and_nothing_is_heard_after_it(self) -> None:
        self.needs("listen")

        async def check(engine: SpeechEngine) -> None:
            before = asyncio.all_tasks()
            async with self.listening(engine, PCMU_8K) as (recognizer, _):
                recognizer.begin()
                feed(recognizer, self.spoken()[:8000], 160)
                await recognizer.aclose()
                await recognizer.aclose()
            recognizer.begin()
            recognizer.feed(self.spoken()[:8000])
            recognizer.finish()
            late = await self.within(given(recognizer))
            assert not late, f"a closed recognizer heard {late}"
            await engine.aclose()
            await self.nothing_left(before)

        self.run(check)

    @asynccontextmanager
    async def listening(
        self, engine: SpeechEngine, format: AudioFormat, *, cued: bool = False
    ) -> AsyncIterator[tuple[Recognizer, list[Heard]]]:
        """A recognizer whose results are being collected; closed at the end, which must end the iteration."""
        hearing = Hearing(
            language=self.hearing.language,
            phrases=self.hearing.phrases,
            grammar=self.hearing.grammar,
            cued=cued,
            format=format,
        )
        recognizer = await engine.recognizer(hearing)
        assert recognizer.format == format, f"asked for {format}, it listens to {recognizer.format}"
        async with collected(recognizer, self) as heard:
            yield recognizer, heard


class DetectorChecks(EngineKit):
    def test_a_voice_starts_goes_on_and_ends_within_what_was_fed(self) -> None:
        self.needs("detect")

        async def check(engine: SpeechEngine) -> None:
            for format in FORMATS:
                await self.one_voice(engine, format)

        self.run(check)

    def test_each_call_has_its_voices_and_one_voice_follows_another(self) -> None:
        self.needs("detect")

        async def check(engine: SpeechEngine) -> None:
            async with (
                self.detecting(engine, PCMU_8K) as (detector, told),
                self.detecting(engine, PCMU_8K) as (quiet, nothing),
            ):
                for number in (1, 2):
                    feed(detector, self.spoken() + silence(PCMU_8K, 2.0), 160)
                    feed(quiet, silence(PCMU_8K, 1.0), 160)
                    ended = partial(_ended, told, PCMU_8K.seconds(len(self.spoken())) * (number - 1))
                    await self.until(ended, f"voice number {number} must start and end")
                await quiet.aclose()
                await detector.aclose()
            assert not nothing, f"a call without a voice was told another call's: {nothing}"

        self.run(check)

    async def one_voice(self, engine: SpeechEngine, format: AudioFormat) -> None:
        audio = self.spoken(format)
        async with self.detecting(engine, format) as (detector, told):
            feed(detector, audio, 160)
            await self.until(lambda: any(a.voice is Voice.ENDED for a in told), "a voice must start and end")
            await detector.aclose()
        _in_order(told, format.seconds(len(audio)))
        assert told[0].at >= 0.3, f"half a second of silence was fed first, and a voice began at {told[0].at} s"

    def test_silence_is_no_voice(self) -> None:
        self.needs("detect")

        async def check(engine: SpeechEngine) -> None:
            async with self.detecting(engine, PCMU_8K) as (detector, told):
                quiet = silence(PCMU_8K, 3.0)
                for size in SLICES:
                    feed(detector, quiet[: size * 400], size)
                fed = PCMU_8K.seconds(sum(len(quiet[: size * 400]) for size in SLICES))
                feed(detector, self.speech, 160)
                await self.until(lambda: bool(told), "the voice after the silence must be told")
                assert told[0].at >= fed - 0.2, f"silence is taken for a voice at {told[0].at} s"

        self.run(check)

    def test_closing_ends_the_detection_and_nothing_is_told_after_it(self) -> None:
        self.needs("detect")

        async def check(engine: SpeechEngine) -> None:
            before = asyncio.all_tasks()
            async with self.detecting(engine, PCMU_8K) as (detector, _):
                feed(detector, self.spoken()[:8000], 160)
                await detector.aclose()
                await detector.aclose()
            detector.feed(self.spoken())
            late = await self.within(given(detector))
            assert not late, f"a closed detector told {late}"
            await engine.aclose()
            await self.nothing_left(before)

        self.run(check)

    @asynccontextmanager
    async def detecting(
        self, engine: SpeechEngine, format: AudioFormat
    ) -> AsyncIterator[tuple[VoiceActivityDetector, list[VoiceActivity]]]:
        """A detector whose results are being collected; closed at the end, which must end the iteration."""
        detector = await engine.voice_activity_detector(format)
        assert detector.format == format, f"asked for {format}, it takes {detector.format}"
        async with collected(detector, self) as told:
            yield detector, told


def _ended(told: list[VoiceActivity], after: float) -> bool:
    return any(activity.voice is Voice.ENDED and activity.at > after for activity in told)


def _answered(heard: list[Heard], times: int) -> bool:
    return sum(result.complete for result in heard) >= times


def _in_order(told: list[VoiceActivity], fed: float) -> None:
    """A voice starts, continues and ends, in this order and at positions within what was fed."""
    voiced, reached = False, 0.0
    for activity in told:
        assert 0 <= activity.at <= fed + 0.1, f"{activity} lies outside the {fed:.2f} s that were fed"
        assert activity.at >= reached - 0.001, f"{activity} comes after {reached:.3f} s were told already"
        state = "on" if voiced else "off"
        assert (activity.voice is Voice.STARTED) is not voiced, f"{activity} while a voice was {state}"
        voiced, reached = activity.voice is not Voice.ENDED, activity.at
