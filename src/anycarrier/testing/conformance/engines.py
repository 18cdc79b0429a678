"""EngineConformance: the tests that every speech engine must pass, ours included.

    class TestBeeps(EngineConformance):
        engine = BeepEngine

An engine that talks to a server names a stand-in for it in ``served``. Checks are skipped by ability, never by name.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr

from anycarrier import plugins
from anycarrier.errors import AnycarrierError, ConfigurationError, SpeechFailed, UnknownVoice
from anycarrier.speech import SpeakingStyle, SpeechEngine, get_speech_engine, speech_engine_names
from anycarrier.speech.engines import ABILITIES
from anycarrier.testing.conformance.engine_kit import EngineKit, child_processes, feed, said, use
from anycarrier.testing.conformance.kit import SECRET, fail_with_the_next, not_written
from anycarrier.testing.conformance.recognizers import DetectorChecks, RecognizerChecks
from anycarrier.testing.conformance.synthesizers import SynthesizerChecks

NO_LANGUAGE = "qaa"
"""A code that ISO 639 assigns to no language."""

NO_VOICE = "no voice has this name"


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

            await self.gone(left, "closed, the engine leaves")

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


class EngineConformance(EngineChecks, SynthesizerChecks, RecognizerChecks, DetectorChecks):
    """Name an engine: pytest does the rest."""
