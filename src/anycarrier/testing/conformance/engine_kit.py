"""What the checks of speech engines share: what an author names, running a check, and asking an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from anycarrier.audio import L16_16K, PCM16_8K, PCMU_8K, AudioFormat, Transcoder, silence
from anycarrier.errors import SpeechFailed
from anycarrier.speech import Hearing, Recognizer, SpeechEngine, Synthesizer, VoiceActivityDetector

T = TypeVar("T")

FORMATS = (PCMU_8K, PCM16_8K, L16_16K)
SLICES = (160, 1, 7, 4000)
"""Bytes fed at a time: a carrier's frame, and lengths that no frame has."""


class EngineKit:
    """Names what is tested. An author's subclass sets ``engine``, and what else the engine needs."""

    engine: ClassVar[type[SpeechEngine]]

    settings: ClassVar[Mapping[str, Any]] = {}
    """Settings with which the engine works."""

    broken_settings: ClassVar[Mapping[str, Any] | None] = None
    """Settings with which it cannot work: a wrong key, a server that is not there. None for an engine without any."""

    text: ClassVar[str] = "Hello there. This is the second sentence."
    hearing: ClassVar[Hearing] = Hearing()

    voice: ClassVar[str] = ""
    """The name of a voice that the engine has besides its default; empty if it has none."""

    speech: ClassVar[bytes] = (files("anycarrier.testing") / "clips" / "hello.ulaw").read_bytes()
    """A spoken utterance as mu-law 8 kHz, for recognizers and detectors."""

    patience: ClassVar[float] = 30.0
    """Seconds after which something that has not happened is a failure."""

    reading: asyncio.Task[None] | None = None
    """The kit's own: what reads the results of the check that is running."""

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Mapping[str, Any]]:
        """What the engine talks to, for the length of one check; gives the settings that lead there."""
        yield {}

    # --- for the checks ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.engine.name

    def make(self, settings: Mapping[str, Any]) -> SpeechEngine:
        """An engine that nobody asked anything yet."""
        return self.engine(self.engine.settings_type.model_validate(dict(settings)))

    def run(self, check: Callable[[SpeechEngine], Coroutine[Any, Any, T]]) -> T:
        """Run one check with a fresh engine, which is closed afterwards."""

        async def checked() -> T:
            async with self.served() as served:
                engine = self.make({**self.settings, **served})
                try:
                    return await self.within(check(engine), checks=True)
                finally:
                    await self.within(engine.aclose())

        return asyncio.run(checked())

    async def within(self, work: Awaitable[T], *, checks: bool = False) -> T:
        """``work``, which must not hang. A whole check waits for several things, each for :attr:`patience` at most."""
        seconds = self.patience * (3 if checks else 1)
        try:
            return await asyncio.wait_for(_coroutine(work), seconds)
        except TimeoutError:
            pytest.fail(f"{self.name} did not come to an end within {seconds:g} s")

    async def until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait for something that other tasks bring about."""
        for _ in range(round(self.patience * 100)):
            if happened():
                return
            if self.reading is not None and self.reading.done():
                self.reading.result()  # raises what the iteration failed with
                pytest.fail(f"{what}, and the iteration has ended")
            await asyncio.sleep(0.01)
        pytest.fail(f"{what}, within {self.patience:g} s")

    async def ended(self, results: Any, what: str) -> None:
        """An iteration must end, by itself or with ``SpeechFailed``."""
        with suppress(SpeechFailed):
            try:
                async with asyncio.timeout(self.patience):
                    await given(results)
            except TimeoutError:
                pytest.fail(f"{what} does not end")

    async def gone(self, left: Callable[[], list[str]], what: str) -> None:
        """Wait until nothing is left; ``left`` names what is."""
        for _ in range(round(self.patience * 100)):
            if not left():
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"{what}: {', '.join(left())}")

    async def nothing_left(self, before: set[asyncio.Task[Any]]) -> None:
        """Every task that began after ``before`` was taken must end."""

        def left() -> list[str]:
            tasks = asyncio.all_tasks() - before
            return sorted(getattr(task.get_coro(), "__qualname__", task.get_name()) for task in tasks)

        await self.gone(left, "closed, it leaves tasks running")

    def needs(self, ability: str) -> None:
        """Skip unless the engine has the ability."""
        if ability not in self.engine.abilities:
            pytest.skip(f"capability: this engine does not {ability}")

    def spoken(self, format: AudioFormat = PCMU_8K) -> bytes:
        """:attr:`speech` with silence around it, in ``format``."""
        audio = silence(PCMU_8K, 0.5) + self.speech + silence(PCMU_8K, 1.0)
        transcoder = Transcoder(PCMU_8K, format)
        return transcoder.convert(audio) + transcoder.flush()


# --- helpers ---------------------------------------------------------------------------------------------------------


async def _coroutine(work: Awaitable[T]) -> T:
    return await work


async def use(engine: SpeechEngine, ability: str, kit: EngineKit) -> None:
    """Ask for one ability as a call does, up to its first result."""
    if ability == "speak":
        synthesizer = await engine.synthesizer()
        try:
            await said(synthesizer, kit.text)
        finally:
            await synthesizer.aclose()
    elif ability == "listen":
        recognizer = await engine.recognizer(kit.hearing)
        try:
            feed(recognizer, kit.spoken(recognizer.format), 160)
            recognizer.finish()
            async for heard in recognizer:
                if heard.complete:
                    return
        finally:
            await recognizer.aclose()
    else:
        detector = await engine.voice_activity_detector()
        try:
            feed(detector, kit.spoken(), 160)
            async for _ in detector:
                return
        finally:
            await detector.aclose()


def child_processes() -> set[int]:
    """Processes that this one started and has not waited for; none where the system does not tell (not Linux)."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(number) for each in lists for number in each.read_text().split()}


async def said(synthesizer: Synthesizer, text: str) -> bytes:
    chunks = [chunk async for chunk in synthesizer.speak(text)]
    assert all(type(chunk) is bytes for chunk in chunks), "a chunk is not bytes: a buffer that is reused would be heard"
    return b"".join(chunks)


async def given(results: Any) -> list[Any]:
    """What an iteration gives until it ends."""
    return [result async for result in results]


def feed(taker: Recognizer | VoiceActivityDetector, audio: bytes, size: int) -> None:
    for start in range(0, len(audio), size):
        taker.feed(audio[start : start + size])


@asynccontextmanager
async def collected(results: Any, kit: EngineKit) -> AsyncIterator[list[Any]]:
    """What ``results`` gives, read by a task of its own, as a call does. Closing must end the iteration."""
    found: list[Any] = []

    async def read() -> None:
        async for result in results:
            found.append(result)

    reading = kit.reading = asyncio.create_task(read())
    try:
        yield found
    except BaseException:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        raise
    finally:
        kit.reading = None
        await kit.within(results.aclose())
    done, _ = await asyncio.wait({reading}, timeout=kit.patience)
    if not done:
        reading.cancel()
        pytest.fail("closing it does not end the iteration")
    reading.result()
