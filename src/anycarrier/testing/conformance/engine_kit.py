"""What the checks of speech engines share: what an author names, and the checks of the engine itself."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from pydantic import SecretStr

from anycarrier import plugins
from anycarrier.audio import L16_16K, PCM16_8K, PCMU_8K, AudioFormat, Transcoder, silence
from anycarrier.errors import AnycarrierError, ConfigurationError, SpeechFailed, UnknownVoice
from anycarrier.speech import (
    Hearing,
    Recognizer,
    SpeakingStyle,
    SpeechEngine,
    Synthesizer,
    VoiceActivityDetector,
    get_speech_engine,
    speech_engine_names,
)
from anycarrier.speech.engines import ABILITIES
from anycarrier.testing.conformance.kit import SECRET, fail_with_the_next, not_written

T = TypeVar("T")

FORMATS = (PCMU_8K, PCM16_8K, L16_16K)
SLICES = (160, 1, 7, 4000)
"""Bytes fed at a time: a carrier's frame, and lengths that no frame has."""

NO_LANGUAGE = "qaa"
"""A code that ISO 639 assigns to no language."""

NO_VOICE = "no voice has this name"


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

    async def nothing_left(self, before: set[asyncio.Task[Any]]) -> None:
        """Every task that began after ``before`` was taken must end."""

        def left() -> set[asyncio.Task[Any]]:
            return asyncio.all_tasks() - before

        for _ in range(round(self.patience * 100)):
            if not left():
                return
            await asyncio.sleep(0.01)
        names = ", ".join(sorted(getattr(task.get_coro(), "__qualname__", task.get_name()) for task in left()))
        pytest.fail(f"closed, it leaves tasks running: {names}")

    def needs(self, ability: str) -> None:
        """Skip unless the engine has the ability."""
        if ability not in self.engine.abilities:
            pytest.skip(f"capability: this engine does not {ability}")

    def spoken(self, format: AudioFormat = PCMU_8K) -> bytes:
        """:attr:`speech` with silence around it, in ``format``."""
        audio = silence(PCMU_8K, 0.5) + self.speech + silence(PCMU_8K, 1.0)
        transcoder = Transcoder(PCMU_8K, format)
        return transcoder.convert(audio) + transcoder.flush()


class EngineChecks(EngineKit):
    def test_the_installed_plugin_brings_it(self) -> None:
        """The entry point in group ``anycarrier`` loads and gives this very class."""
        assert self.name in speech_engine_names(), (
            f"no installed entry point of group 'anycarrier' brings {self.name!r}: install the plugin "
            f"(pip install -e .) and check [project.entry-points.anycarrier]. "
            f"Broken: {plugins.broken_plugins() or 'none'}"
        )
        assert get_speech_engine(self.name) is self.engine

    def test_its_name_and_its_abilities(self) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name), f"name {self.name!r}: lower case, a-z 0-9 _ - only"
        assert self.engine.abilities, f"it can do nothing: override one of {', '.join(ABILITIES.values())}"

    def test_every_ability_is_written(self) -> None:
        """Says what to write next. Checks that need what is not written wait: see the pytest plugin."""
        fail_with_the_next(self.name, "abilities", sorted(self.engine.abilities), self.unwritten())

    def test_secrets_are_in_no_repr(self) -> None:
        settings = self.engine.settings_type
        fields = dict.fromkeys(settings.secrets(), SECRET)
        if not fields:
            return
        made = settings.model_validate({**self.settings, **fields})
        engine = self.engine(made)
        for text in (repr(made), str(made), made.model_dump_json(), repr(engine), str(engine)):
            assert SECRET not in text
        assert all(isinstance(getattr(made, name), SecretStr) for name in fields)

    def test_what_it_cannot_do_names_the_engine(self) -> None:
        async def check(engine: SpeechEngine) -> None:
            for ability in ABILITIES.keys() - self.engine.abilities:
                with pytest.raises(ConfigurationError, match=re.escape(self.name)):
                    await getattr(engine, ABILITIES[ability])()

        self.run(check)

    def test_its_settings_can_be_checked(self) -> None:
        self.run(lambda engine: engine.check())

    def test_check_finds_settings_that_do_not_work(self) -> None:
        if self.broken_settings is None:
            pytest.skip("capability: this engine has no settings with which it cannot work")
        error = asyncio.run(self.broken(lambda engine: engine.check()))
        assert self.name in str(error), f"the error of check() does not name the engine: {error}"
        assert SECRET not in f"{error} {error!r} {vars(error)}", "the error of check() shows a secret"

    def test_it_can_be_started_closed_and_closed_again(self) -> None:
        async def check(engine: SpeechEngine) -> None:
            before = asyncio.all_tasks()
            await engine.start()
            await engine.aclose()
            await engine.aclose()
            await self.nothing_left(before)

        self.run(check)

    def test_one_that_was_never_used_can_be_closed(self) -> None:
        async def check(engine: SpeechEngine) -> None:
            await engine.aclose()

        self.run(check)

    def test_an_engine_that_cannot_work_says_so_in_a_typed_error(self) -> None:
        if self.broken_settings is None:
            pytest.skip("capability: this engine has no settings with which it cannot work")
        for ability in sorted(self.engine.abilities):
            error = asyncio.run(self.broken(partial(use, ability=ability, kit=self)))
            assert self.name in str(error), f"the error of {ability} does not name the engine: {error}"
            assert SECRET not in f"{error} {error!r} {vars(error)}", f"the error of {ability} shows a secret"

    def test_closing_the_engine_ends_what_it_made_for_calls(self) -> None:
        """Calls may be in progress when the process ends: no iteration goes on, no task, thread or process is left."""

        async def check(engine: SpeechEngine) -> None:
            tasks, threads, processes = asyncio.all_tasks(), set(threading.enumerate()), child_processes()
            made: list[Any] = []
            reading = []
            if "listen" in engine.abilities:
                made.append(recognizer := await engine.recognizer(self.hearing))
                feed(recognizer, self.spoken(recognizer.format)[:8000], 160)
                reading.append(asyncio.create_task(self.ended(recognizer, "the recognizer of a closed engine")))
            if "detect" in engine.abilities:
                made.append(detector := await engine.voice_activity_detector())
                feed(detector, self.spoken()[:8000], 160)
                reading.append(asyncio.create_task(self.ended(detector, "the detector of a closed engine")))
            speech = None
            if "speak" in engine.abilities:
                made.append(synthesizer := await engine.synthesizer())
                speech = synthesizer.speak(self.text * 20)
                assert await anext(speech)
            await self.within(engine.aclose())
            await asyncio.gather(*reading)
            if speech is not None:
                await self.ended(speech, "the synthesizer of a closed engine")
                await speech.aclose()
                with suppress(SpeechFailed):
                    await self.within(said(synthesizer, self.text))
            for each in made:
                await self.within(each.aclose())
            await self.nothing_left(tasks)

            def left() -> list[str]:
                new = [thread.name for thread in threading.enumerate() if thread not in threads]
                running = [f"thread {name}" for name in new if not name.startswith("asyncio_")]
                return running + [f"process {number}" for number in child_processes() - processes]

            for _ in range(round(self.patience * 100)):
                if not left():
                    return
                await asyncio.sleep(0.01)
            pytest.fail(f"closed, the engine leaves {', '.join(left())}")

        self.run(check)

    @pytest.mark.parametrize("ability", ["listen", "speak"])
    def test_it_refuses_the_languages_it_does_not_know(self, ability: str) -> None:
        """What ``knows_language`` says must be what ``recognizer()`` and ``synthesizer()`` do."""
        self.needs(ability)

        async def check(engine: SpeechEngine) -> None:
            own = self.hearing.language if ability == "listen" else SpeakingStyle().language
            for language in (own, NO_LANGUAGE):
                knows = engine.knows_language(ability, language)
                refused: ConfigurationError | None = None
                try:
                    if ability == "listen":
                        await (await engine.recognizer(replace(self.hearing, language=language))).aclose()
                    else:
                        synthesizer = await engine.synthesizer(SpeakingStyle(language=language))
                        await said(synthesizer, self.text)
                        await synthesizer.aclose()
                except ConfigurationError as failure:
                    refused = failure
                asked = f"knows_language({ability!r}, {language!r}) is {knows}"
                assert knows is (refused is None), f"{asked}, and asked for it the engine says {refused or 'nothing'}"
                assert refused is None or self.name in str(refused), f"the refusal names no engine: {refused}"

        self.run(check)

    def test_it_refuses_the_voices_it_does_not_have(self) -> None:
        """What ``knows_voice`` says must be what ``synthesizer()`` does. A remote engine may leave it to the call."""
        self.needs("speak")

        async def check(engine: SpeechEngine) -> None:
            for voice in filter(None, (self.voice, NO_VOICE)):
                knows = engine.knows_voice(voice)
                refused: UnknownVoice | None = None
                try:
                    synthesizer = await engine.synthesizer(SpeakingStyle(voice=voice))
                    await said(synthesizer, self.text)
                    await synthesizer.aclose()
                except UnknownVoice as failure:
                    refused = failure
                except SpeechFailed:
                    if not engine.remote:
                        raise
                    continue  # a stand-in for the server need not know how a voice is refused
                asked = f"knows_voice({voice!r}) is {knows}"
                agree = knows is (refused is None) or (engine.remote and knows and voice == NO_VOICE)
                assert agree, f"{asked}, and asked for it the engine says {refused or 'nothing'}"
                assert refused is None or self.name in str(refused), f"the refusal names no engine: {refused}"

        self.run(check)

    async def broken(self, use: Callable[[SpeechEngine], Coroutine[Any, Any, None]]) -> AnycarrierError:
        """The error of an engine with :attr:`broken_settings`."""
        settings = {**dict.fromkeys(self.engine.settings_type.secrets(), SECRET), **(self.broken_settings or {})}
        async with self.served() as served:
            engine = self.make({**self.settings, **served, **settings})
            try:
                with pytest.raises((SpeechFailed, ConfigurationError)) as caught:
                    await self.within(use(engine))
            finally:
                await self.within(engine.aclose())
        return caught.value

    def unwritten(self) -> dict[str, str]:
        """The declared abilities that raise ``NotImplementedError``, each with what it says is left to write."""
        return not_written(
            sorted(self.engine.abilities),
            lambda ability: self.run(lambda engine: use(engine, ability, self)),
        )


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
