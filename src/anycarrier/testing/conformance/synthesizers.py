"""The checks of what an engine speaks: formats, cutting off, closing, and giving way to other calls."""

from __future__ import annotations

import asyncio
from array import array
from contextlib import suppress

from anycarrier.audio import PCM16_8K, Transcoder
from anycarrier.errors import SpeechFailed
from anycarrier.speech import SpeakingStyle, SpeechEngine
from anycarrier.testing.conformance.engine_kit import FORMATS, EngineKit, said

AUDIBLE = 256
"""Between the lowest and the highest sample of speech, of 65536: less than that is silence."""
TURNS = 5
"""Times that other tasks must have run while a long text is spoken."""
TRIES = 3
"""Times it is spoken at most: a process that stood still may find all of it made, and then has nothing to wait for."""


class SynthesizerChecks(EngineKit):
    def test_it_speaks_in_every_format(self) -> None:
        self.needs("speak")

        async def check(engine: SpeechEngine) -> None:
            lengths = {}
            for format in FORMATS:
                synthesizer = await engine.synthesizer(SpeakingStyle(format=format))
                assert synthesizer.format == format, f"asked for {format}, it makes {synthesizer.format}"
                audio = await said(synthesizer, self.text)
                assert audio, "no audio was made"
                size = format.sample_width * format.channels
                assert len(audio) % size == 0, f"{len(audio)} bytes are no whole samples of {format}"
                lengths[format] = format.seconds(len(audio))
                await synthesizer.aclose()
            short, long = min(lengths.values()), max(lengths.values())
            assert long <= short * 1.25 + 0.1, f"the same text lasts {lengths}: is the audio in the format it says?"

        self.run(check)

    def test_every_chunk_holds_audio_and_the_whole_is_no_silence(self) -> None:
        self.needs("speak")

        async def check(engine: SpeechEngine) -> None:
            for format in FORMATS:
                synthesizer = await engine.synthesizer(SpeakingStyle(format=format))
                chunks = [chunk async for chunk in synthesizer.speak(self.text)]
                assert chunks, "no audio was made"
                assert all(chunks), "a chunk is empty: yield audio only"
                pcm = Transcoder(format, PCM16_8K).convert(b"".join(chunks))
                samples = array("h", pcm[: len(pcm) // 2 * 2])
                assert max(samples) - min(samples) >= AUDIBLE, f"the audio in {format} is silent"
                await synthesizer.aclose()

        self.run(check)

    def test_other_calls_go_on_while_it_speaks(self) -> None:
        """Speaking must give way to other tasks of the event loop."""
        self.needs("speak")

        async def check(engine: SpeechEngine) -> None:
            synthesizer = await engine.synthesizer()
            await said(synthesizer, self.text)
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    await asyncio.sleep(0)
                    turns += 1

            counting = asyncio.create_task(count())
            for _ in range(TRIES):
                turns = 0
                await said(synthesizer, self.text * 20)
                if turns >= TURNS:
                    break
            counting.cancel()
            assert turns >= TURNS, f"while it spoke {2 * 20} sentences, other tasks had {turns} turns"
            await synthesizer.aclose()

        self.run(check)

    def test_an_empty_text_makes_no_audio(self) -> None:
        self.needs("speak")

        async def check(engine: SpeechEngine) -> None:
            synthesizer = await engine.synthesizer()
            for text in ("", " ", "\n\t"):
                assert await said(synthesizer, text) == b"", f"{text!r} made audio"
            assert await said(synthesizer, self.text), "after an empty text it no longer speaks"
            await synthesizer.aclose()

        self.run(check)

    def test_one_text_after_another(self) -> None:
        self.needs("speak")

        async def check(engine: SpeechEngine) -> None:
            synthesizer = await engine.synthesizer()
            first = await said(synthesizer, self.text)
            second = await said(synthesizer, self.text)
            assert _alike(len(first), len(second)), "the same text, said twice, has two lengths"
            await synthesizer.aclose()

        self.run(check)

    def test_a_sentence_that_is_cut_off_leaves_nothing_in_the_next(self) -> None:
        """Closing the generator stops the synthesis: the next text is heard alone."""
        self.needs("speak")

        async def check(engine: SpeechEngine) -> None:
            synthesizer = await engine.synthesizer()
            whole = await said(synthesizer, self.text)
            for _ in range(2):
                speaking = synthesizer.speak(self.text)
                assert await anext(speaking), "the first chunk is empty"
                await speaking.aclose()
                again = await said(synthesizer, self.text)
                assert _alike(len(whole), len(again)), (
                    f"after a text that was cut off, the next has {len(again)} bytes instead of {len(whole)}: "
                    "audio of the old text is among it, or some of the new is missing"
                )
            await synthesizer.aclose()

        self.run(check)

    def test_cancelling_the_task_that_reads_stops_it(self) -> None:
        self.needs("speak")

        async def check(engine: SpeechEngine) -> None:
            before = asyncio.all_tasks()
            synthesizer = await engine.synthesizer()
            begun = asyncio.Event()

            async def read() -> None:
                async for _ in synthesizer.speak(self.text * 20):
                    begun.set()

            reading, waiting = asyncio.create_task(read()), asyncio.create_task(begun.wait())
            await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if all_said := reading.done():
                reading.result()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert all_said or reading.cancelled(), "the synthesizer swallows the cancellation, and speaks on"
            assert await said(synthesizer, self.text), "after a cancelled text it no longer speaks"
            await synthesizer.aclose()
            await engine.aclose()
            await self.nothing_left(before)

        self.run(check)

    def test_closing_ends_what_is_being_said_and_nothing_is_said_after_it(self) -> None:
        self.needs("speak")

        async def check(engine: SpeechEngine) -> None:
            synthesizer = await engine.synthesizer()
            once = len(await said(synthesizer, self.text))
            speaking, left = synthesizer.speak(self.text * 20), 0
            assert await anext(speaking)
            await synthesizer.aclose()
            with suppress(SpeechFailed):
                async for chunk in speaking:
                    left += len(chunk)
            assert left < 10 * once, "a synthesizer that was closed while it spoke goes on to the end of the text"
            await synthesizer.aclose()
            after = b""
            with suppress(SpeechFailed):
                after = await said(synthesizer, self.text)
            assert after == b"", "a closed synthesizer speaks"
            await synthesizer.aclose()

        self.run(check)

    def test_two_calls_have_a_voice_each(self) -> None:
        self.needs("speak")

        async def check(engine: SpeechEngine) -> None:
            first, second = await engine.synthesizer(), await engine.synthesizer()
            await first.aclose()
            alone = await said(second, self.text)
            assert alone, "closing one synthesizer silences another"
            third = await engine.synthesizer()
            both = await asyncio.gather(said(second, self.text), said(third, self.text))
            assert all(_alike(len(alone), len(audio)) for audio in both), (
                f"two calls that speak at once get {[len(audio) for audio in both]} bytes, one alone {len(alone)}"
            )
            await second.aclose()
            await third.aclose()

        self.run(check)


def _alike(one: int, other: int) -> bool:
    return abs(one - other) <= 0.1 * max(one, other)
