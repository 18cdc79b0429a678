"""The engine kit can fail: each defect an engine's author may make is seen by the check that is meant to see it.

The whole kit runs on a small engine with one thing broken; what fails must be what is listed, no more and no less.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator

import pytest

import anycarrier.testing.conformance  # noqa: F401 - kept loaded between the runs, which would each load it anew
from anycarrier import plugins
from core.conftest import WITHOUT
from virtual_time import virtually

pytest_plugins = ["pytester"]

PARROT = '''
import asyncio
from pydantic import SecretStr
from anycarrier import plugins
from anycarrier.audio import PCMU_8K, Transcoder, silence
from anycarrier.errors import ConfigurationError, SpeechFailed, UnknownVoice
from anycarrier.hookspecs import hookimpl
from anycarrier.speech import *
from anycarrier.testing.conformance import EngineConformance

SILENCE = 0xff


class Settings(EngineSettings):
    key: SecretStr = SecretStr("good")


class Voiced:
    """Says each word as a tenth of a second of noise."""

    def __init__(self, engine, format):
        self.engine, self.format, self.closed = engine, format, False

    async def speak(self, text):
        for word in text.split():
            if self.closed:
                return
            self.engine.log_in("speak")
            line = Transcoder(PCMU_8K, self.format)
            yield line.convert(bytes(range(0x10, 0x60)) * 10) + line.flush()
            await asyncio.sleep(0)

    async def aclose(self):
        self.closed = True


class Listener:
    """Hears one word in each utterance that is not silent; a task of its own answers."""

    def __init__(self, engine, format):
        self.engine, self.format = engine, format
        self.audio = bytearray()
        self.utterances = asyncio.Queue()
        self.results = ResultQueue()
        self.task = asyncio.create_task(self.answer())

    def feed(self, audio):
        if not self.results.closed:
            if audio and not self.audio:
                self.results.put(Heard("he"))
            self.audio += audio

    def begin(self, preceding=0.5):
        pass

    def pause(self, *, following=0.0):
        pass

    def resume(self):
        pass

    def finish(self, *, discard=False, following=0.0):
        if not self.results.closed:
            self.utterances.put_nowait(b"" if discard else bytes(self.audio))
            self.audio.clear()

    async def answer(self):
        try:
            while True:
                audio = await self.utterances.get()
                self.engine.log_in("listen")
                self.results.put(Heard("hello" if audio else "", final=True, complete=True))
        except SpeechFailed as failure:
            self.results.close(failure)

    def __aiter__(self):
        return aiter(self.results)

    async def aclose(self):
        self.results.close()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Detector:
    """Takes every sound for a voice; half a second without one ends it."""

    def __init__(self, engine, format):
        self.engine, self.format = engine, format
        self.line = Transcoder(format, PCMU_8K)
        self.results = ResultQueue()
        self.fed, self.quiet, self.on = 0, 0, False

    def feed(self, audio):
        if self.results.closed:
            return
        for sample in self.line.convert(audio):
            self.fed += 1
            loud = sample not in (0xff, 0x7f, 0xfe, 0x7e, 0xfd, 0x7d)
            self.quiet = 0 if loud else self.quiet + 1
            if loud and not self.on:
                self.on = True
                self.tell(Voice.STARTED)
            elif self.on and self.quiet > 4000:
                self.on = False
                self.tell(Voice.ENDED)

    def tell(self, voice):
        try:
            self.engine.log_in("detect")
        except SpeechFailed as failure:
            self.results.close(failure)
        self.results.put(VoiceActivity(voice, self.fed / 8000))

    def __aiter__(self):
        return aiter(self.results)

    async def aclose(self):
        self.results.close()


class Parrot(SpeechEngine):
    name = "parrot"
    settings_type = Settings
    voiced, listener, detector = Voiced, Listener, Detector

    def __init__(self, settings=None):
        super().__init__(settings)
        self.made = []

    def keep(self, made):
        self.made.append(made)
        return made

    def log_in(self, operation):
        if self.settings.key.get_secret_value() != "good":
            raise SpeechFailed(self.name, operation, "the key is wrong")

    def knows_language(self, ability, language):
        return language.startswith("en")

    async def check(self):
        self.log_in("speak")

    async def aclose(self):
        for made in self.made:
            if not getattr(made, "closed", False):
                await made.aclose()

    async def synthesizer(self, style=None):
        style = style or SpeakingStyle()
        if not self.knows_language("speak", style.language):
            raise UnknownVoice(self.name, style.language)
        return self.keep(self.voiced(self, style.format))

    async def recognizer(self, hearing=None):
        hearing = hearing or Hearing()
        if not self.knows_language("listen", hearing.language):
            raise ConfigurationError(f"{self.name} does not know {hearing.language}")
        return self.keep(self.listener(self, hearing.format))

    async def voice_activity_detector(self, format=PCMU_8K):
        return self.keep(self.detector(self, format))

'''

TAIL = '''

class Plugin:
    @hookimpl
    def anycarrier_speech_engines(self):
        return [Defective]

plugins._host = plugins.PluginHost()
plugins._host.register(Plugin(), "this test", "parrot")

class TestParrot(EngineConformance):
    engine = Defective
    settings = {"key": "good"}
    broken_settings = {}
    voice = "polly"
    patience = 1.0
'''

SOUND = "class Defective(Parrot):\n    pass\n"

FINISH = "test_each_finish_has_exactly_one_complete_answer"
HEARD_ALONE = "test_each_utterance_is_heard_by_itself"
PAUSES = "test_pauses_within_an_utterance_change_none_of_its_words"
LATE = "test_an_utterance_that_is_announced_late_is_whole"
DISCARD = "test_a_discarded_utterance_has_no_words"
AT_ONCE = "test_questions_asked_at_once_are_answered_one_by_one"
ORDER = "test_answers_come_in_the_order_of_the_questions"
OWN_AUDIO = "test_two_calls_hear_their_own_audio"
NEXT_VOICE = "test_each_call_has_its_voices_and_one_voice_follows_another"
CLOSED_RECOGNIZER = "test_closing_ends_the_iteration_and_nothing_is_heard_after_it"
CLOSED_DETECTOR = "test_closing_ends_the_detection_and_nothing_is_told_after_it"
CLOSED_VOICE = "test_closing_ends_what_is_being_said_and_nothing_is_said_after_it"
CUT_OFF = "test_a_sentence_that_is_cut_off_leaves_nothing_in_the_next"
VOICE = "test_a_voice_starts_goes_on_and_ends_within_what_was_fed"
TYPED = "test_an_engine_that_cannot_work_says_so_in_a_typed_error"
CHECKED = "test_check_finds_settings_that_do_not_work"
ENGINE_CLOSED = "test_closing_the_engine_ends_what_it_made_for_calls"
LANGUAGES = "test_it_refuses_the_languages_it_does_not_know"
VOICES = "test_it_refuses_the_voices_it_does_not_have"
AUDIBLE = "test_every_chunk_holds_audio_and_the_whole_is_no_silence"
INTERIMS = "test_interims_have_words_and_final_words_come_once"
GIVES_WAY = "test_other_calls_go_on_while_it_speaks"
REOPENED = "test_it_can_be_started_closed_and_closed_again"

DEFECTS: dict[str, tuple[str, set[str]]] = {
    "bad name": ("class Defective(Parrot):\n    name = 'My Parrot'\n", {"test_its_name_and_its_abilities"}),
    "secret in repr": (
        """
class Defective(Parrot):
    def __repr__(self):
        return f"<parrot {self.settings.key.get_secret_value()}>"
""",
        {"test_secrets_are_in_no_repr"},
    ),
    "untyped error": (
        """
class Defective(Parrot):
    def log_in(self, operation):
        if self.settings.key.get_secret_value() != "good":
            raise ConnectionError("401")
""",
        {TYPED, CHECKED},
    ),
    "secret in an error": (
        """
class Defective(Parrot):
    def log_in(self, operation):
        key = self.settings.key.get_secret_value()
        if key != "good":
            raise SpeechFailed(self.name, operation, f"the key {key} is wrong")
""",
        {TYPED, CHECKED},
    ),
    "a wrong key goes unnoticed": (
        "class Defective(Parrot):\n    def log_in(self, operation):\n        pass\n",
        {TYPED, CHECKED},
    ),
    "the check of the settings fails": (
        """
class Defective(Parrot):
    async def check(self):
        raise SpeechFailed(self.name, "speak", "out of order")
""",
        {"test_its_settings_can_be_checked"},
    ),
    "the engine cannot be closed twice": (
        """
class Defective(Parrot):
    open = True
    async def aclose(self):
        assert self.open, "closed already"
        self.open = False
""",
        {REOPENED, ENGINE_CLOSED, CLOSED_RECOGNIZER, CLOSED_DETECTOR, "test_cancelling_the_task_that_reads_stops_it",
         "test_one_that_was_never_used_can_be_closed"},
    ),
    "the engine leaves a task": (
        """
class Defective(Parrot):
    async def start(self):
        self.task = asyncio.create_task(asyncio.sleep(3))
""",
        {REOPENED},
    ),
    "the check of the settings checks nothing": (
        """
class Defective(Parrot):
    async def check(self):
        pass
""",
        {CHECKED},
    ),
    "the check of the settings shows a secret": (
        """
class Defective(Parrot):
    async def check(self):
        key = self.settings.key.get_secret_value()
        if key != "good":
            raise SpeechFailed(self.name, "speak", f"the key {key} is wrong")
""",
        {CHECKED},
    ),
    "closing the engine closes nothing": (
        """
class Defective(Parrot):
    async def aclose(self):
        pass
""",
        {ENGINE_CLOSED},
    ),
    "the engine leaves a thread": (
        """
import threading

class Defective(Parrot):
    async def voice_activity_detector(self, format=PCMU_8K):
        timer = threading.Timer(30, lambda: None)
        timer.daemon = True
        timer.start()
        return await super().voice_activity_detector(format)
""",
        {ENGINE_CLOSED},
    ),
    "the engine leaves a process": (
        # No Popen, which would complain in a later test; awaited by a thread that the check does not count.
        """
import os
import threading

class Defective(Parrot):
    async def voice_activity_detector(self, format=PCMU_8K):
        number = os.posix_spawnp("sleep", ["sleep", "30"], os.environ)
        threading.Thread(target=os.waitpid, args=(number, 0), name="asyncio_waits", daemon=True).start()
        return await super().voice_activity_detector(format)
""",
        {ENGINE_CLOSED},
    ),
    "it listens to a language that it says it does not know": (
        """
class Defective(Parrot):
    async def recognizer(self, hearing=None):
        return await super().recognizer(replace(hearing or Hearing(), language="en"))

from dataclasses import replace
""",
        {LANGUAGES},
    ),
    "it refuses a language that it says it knows": (
        """
class Defective(Parrot):
    def knows_language(self, ability, language):
        return True

    async def synthesizer(self, style=None):
        if style is not None and style.language != "en-US":
            raise UnknownVoice(self.name, style.language)
        return await super().synthesizer(style)
""",
        {LANGUAGES},
    ),
    "it speaks with a voice that it says it does not have": (
        """
class Defective(Parrot):
    def knows_voice(self, voice):
        return voice == "polly"
""",
        {VOICES},
    ),
    "it refuses a voice that it says it has": (
        """
class Defective(Parrot):
    async def synthesizer(self, style=None):
        if style is not None and style.voice:
            raise UnknownVoice(self.name, style.voice)
        return await super().synthesizer(style)
""",
        {VOICES},
    ),
    "it says that it has no voice at all": (
        """
class Defective(Parrot):
    def knows_voice(self, voice):
        return False

    async def synthesizer(self, style=None):
        if style is not None and style.voice not in ("", "polly"):
            raise UnknownVoice(self.name, style.voice)
        return await super().synthesizer(style)
""",
        {VOICES},
    ),
    "a language is refused without a type": (
        """
class Defective(Parrot):
    async def recognizer(self, hearing=None):
        if hearing is not None and hearing.language != "en-US":
            raise ValueError(hearing.language)
        return await super().recognizer(hearing)
""",
        {LANGUAGES},
    ),
    "an ability not written": (
        """
class Defective(Parrot):
    async def recognizer(self, hearing=None):
        raise NotImplementedError("words from audio")
""",
        {"test_every_ability_is_written"},
    ),
    # --- speaking
    "an empty text is said": (
        """
class Bad(Voiced):
    async def speak(self, text):
        async for piece in super().speak(text or "nothing"):
            yield piece

class Defective(Parrot):
    voiced = Bad
""",
        {"test_an_empty_text_makes_no_audio"},
    ),
    "an empty text is an error": (
        """
class Bad(Voiced):
    async def speak(self, text):
        text.split()[0]
        async for piece in super().speak(text):
            yield piece

class Defective(Parrot):
    voiced = Bad
""",
        {"test_an_empty_text_makes_no_audio"},
    ),
    "the format asked for is ignored": (
        """
class Defective(Parrot):
    async def synthesizer(self, style=None):
        return await super().synthesizer(SpeakingStyle(language=(style or SpeakingStyle()).language))
""",
        {"test_it_speaks_in_every_format"},
    ),
    "the audio is in another format than it says": (
        """
class Bad(Voiced):
    async def speak(self, text):
        async for piece in Voiced(self.engine, PCMU_8K).speak(text if not self.closed else ""):
            yield piece

class Defective(Parrot):
    voiced = Bad
""",
        {CLOSED_VOICE, "test_it_speaks_in_every_format"},
    ),
    "half a sample": (
        """
class Bad(Voiced):
    async def speak(self, text):
        async for piece in super().speak(text):
            yield piece
        if text.split() and not self.closed:
            yield b"x"

class Defective(Parrot):
    voiced = Bad
""",
        {"test_it_speaks_in_every_format"},
    ),
    "what was cut off comes with the next": (
        """
class Bad(Voiced):
    rest = ()

    async def speak(self, text):
        self.rest = [*self.rest, *text.split()]
        while self.rest and not self.closed:
            async for piece in super().speak(self.rest.pop(0)):
                yield piece

class Defective(Parrot):
    voiced = Bad
""",
        {CUT_OFF},
    ),
    "after a cut nothing is said": (
        """
class Bad(Voiced):
    broken = False

    async def speak(self, text):
        if self.broken:
            return
        try:
            async for piece in super().speak(text):
                yield piece
        except (GeneratorExit, asyncio.CancelledError):
            self.broken = True
            raise

class Defective(Parrot):
    voiced = Bad
""",
        {CUT_OFF, "test_cancelling_the_task_that_reads_stops_it"},
    ),
    "the second text is said twice": (
        """
class Bad(Voiced):
    texts = 0

    async def speak(self, text):
        self.texts += bool(text.split())
        async for piece in super().speak(f"{text} {text}" if self.texts == 2 else text):
            yield piece

class Defective(Parrot):
    voiced = Bad
""",
        {"test_one_text_after_another", "test_two_calls_have_a_voice_each"},
    ),
    "a cancelled text goes on in a task": (
        """
class Bad(Voiced):
    async def speak(self, text):
        self.task = asyncio.create_task(asyncio.sleep(3 if text.split() else 0))
        async for piece in super().speak(text):
            yield piece
        self.task.cancel()

class Defective(Parrot):
    voiced = Bad
""",
        {"test_cancelling_the_task_that_reads_stops_it"},
    ),
    "a closed voice speaks": (
        """
class Bad(Voiced):
    async def aclose(self):
        pass

class Defective(Parrot):
    voiced = Bad
""",
        {CLOSED_VOICE},
    ),
    "a voice cannot be closed twice": (
        """
class Bad(Voiced):
    async def aclose(self):
        assert not self.closed
        self.closed = True

class Defective(Parrot):
    voiced = Bad
""",
        {CLOSED_VOICE, ENGINE_CLOSED},
    ),
    "a cancellation is swallowed": (
        """
class Bad(Voiced):
    async def speak(self, text):
        async for piece in super().speak(text):
            yield piece
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                pass

class Defective(Parrot):
    voiced = Bad
""",
        {"test_cancelling_the_task_that_reads_stops_it"},
    ),
    "a voice closed while it speaks goes on": (
        """
class Bad(Voiced):
    async def speak(self, text):
        inner = Voiced(self.engine, self.format)
        if not self.closed:
            async for piece in inner.speak(text):
                yield piece

class Defective(Parrot):
    voiced = Bad
""",
        {CLOSED_VOICE},
    ),
    "closing one voice closes all": (
        """
class Bad(Voiced):
    async def aclose(self):
        self.engine.silent = True
        self.closed = True

    async def speak(self, text):
        if not getattr(self.engine, "silent", False):
            async for piece in super().speak(text):
                yield piece

class Defective(Parrot):
    voiced = Bad
""",
        {"test_two_calls_have_a_voice_each", "test_it_speaks_in_every_format", AUDIBLE},
    ),
    "one buffer for all chunks": (
        """
class Bad(Voiced):
    async def speak(self, text):
        async for piece in super().speak(text):
            yield bytearray(piece)

class Defective(Parrot):
    voiced = Bad
""",
        {
            "test_it_speaks_in_every_format", "test_one_text_after_another", CUT_OFF, CLOSED_VOICE,
            "test_an_empty_text_makes_no_audio", "test_cancelling_the_task_that_reads_stops_it",
            "test_two_calls_have_a_voice_each", GIVES_WAY, LANGUAGES, VOICES,
        },
    ),
    "the audio is silent": (
        """
class Bad(Voiced):
    async def speak(self, text):
        async for piece in super().speak(text):
            yield silence(self.format, self.format.seconds(len(piece)))

class Defective(Parrot):
    voiced = Bad
""",
        {AUDIBLE},
    ),
    "an empty chunk": (
        """
class Bad(Voiced):
    async def speak(self, text):
        async for piece in super().speak(text):
            yield piece
            yield b""

class Defective(Parrot):
    voiced = Bad
""",
        {AUDIBLE},
    ),
    "nothing else runs while it speaks": (
        """
class Bad(Voiced):
    async def speak(self, text):
        line = Transcoder(PCMU_8K, self.format)
        for word in text.split():
            self.engine.log_in("speak")
            if not self.closed:
                yield line.convert(bytes(range(0x10, 0x60)) * 10)

class Defective(Parrot):
    voiced = Bad
""",
        {GIVES_WAY},
    ),
    # --- listening
    "an interim without words": (
        """
class Bad(Listener):
    def feed(self, audio):
        if not self.audio:
            self.results.put(Heard(""))
        super().feed(audio)

class Defective(Parrot):
    listener = Bad
""",
        {INTERIMS},
    ),
    "interims are called final": (
        """
class Bad(Listener):
    def feed(self, audio):
        if audio and not self.audio:
            self.results.put(Heard("hell", final=True))
        super().feed(audio)

class Defective(Parrot):
    listener = Bad
""",
        {INTERIMS},
    ),
    "an utterance has the words of the one before": (
        """
class Bad(Listener):
    async def answer(self):
        said = []
        try:
            while True:
                audio = await self.utterances.get()
                self.engine.log_in("listen")
                said += ["hello"] if audio else []
                self.results.put(Heard(" ".join(said) if audio else "", final=True, complete=True))
        except SpeechFailed as failure:
            self.results.close(failure)

class Defective(Parrot):
    listener = Bad
""",
        {HEARD_ALONE, PAUSES},
    ),
    "nothing is ever heard": (
        """
class Bad(Listener):
    def finish(self, *, discard=False, following=0.0):
        self.audio.clear()
        super().finish(discard=discard, following=following)

class Defective(Parrot):
    listener = Bad
""",
        {HEARD_ALONE, PAUSES, ORDER, LATE, OWN_AUDIO},
    ),
    "begin takes back an answer that is due": (
        """
class Bad(Listener):
    def begin(self, preceding=0.5):
        while not self.utterances.empty():
            self.utterances.get_nowait()

class Defective(Parrot):
    listener = Bad
""",
        {HEARD_ALONE},
    ),
    "two answers to one finish": (
        """
class Bad(Listener):
    def finish(self, *, discard=False, following=0.0):
        super().finish(discard=discard, following=following)
        super().finish(discard=discard, following=following)

class Defective(Parrot):
    listener = Bad
""",
        {FINISH, AT_ONCE, PAUSES, LATE},
    ),
    "no answer without words": (
        """
class Bad(Listener):
    def finish(self, *, discard=False, following=0.0):
        if self.audio:
            super().finish(discard=discard, following=following)

class Defective(Parrot):
    listener = Bad
""",
        {FINISH, AT_ONCE, DISCARD, PAUSES, ORDER, OWN_AUDIO},
    ),
    "an interim after the final": (
        """
class Bad(Listener):
    def finish(self, *, discard=False, following=0.0):
        if not self.audio:
            self.results.put(Heard("hel"))
        super().finish(discard=discard, following=following)

class Defective(Parrot):
    listener = Bad
""",
        {FINISH, AT_ONCE, PAUSES, OWN_AUDIO},
    ),
    "a complete result that is not final": (
        """
class Bad(Listener):
    async def answer(self):
        while True:
            audio = await self.utterances.get()
            self.engine.log_in("listen")
            self.results.put(Heard("hello" if audio else "", final=not audio, complete=True))

class Defective(Parrot):
    listener = Bad
""",
        {HEARD_ALONE, FINISH, TYPED, PAUSES, ORDER, LATE, OWN_AUDIO},
    ),
    "words out of nothing": (
        """
class Bad(Listener):
    async def answer(self):
        try:
            while True:
                await self.utterances.get()
                self.engine.log_in("listen")
                self.results.put(Heard("hello", final=True, complete=True))
        except SpeechFailed as failure:
            self.results.close(failure)

class Defective(Parrot):
    listener = Bad
""",
        {FINISH, DISCARD, PAUSES, ORDER, OWN_AUDIO},
    ),
    "only whole frames are taken": (
        """
class Bad(Listener):
    def feed(self, audio):
        assert len(audio) % 80 == 0, "not a frame"
        super().feed(audio)

class Defective(Parrot):
    listener = Bad
""",
        {"test_audio_of_any_length_is_taken"},
    ),
    "closing does not end the iteration": (
        """
class Bad(Listener):
    async def aclose(self):
        self.task.cancel()

class Defective(Parrot):
    listener = Bad
""",
        {
            HEARD_ALONE, FINISH, AT_ONCE, DISCARD, CLOSED_RECOGNIZER, INTERIMS, ENGINE_CLOSED,
            "test_audio_of_any_length_is_taken", PAUSES, LATE, ORDER, OWN_AUDIO,
        },
    ),
    "a closed recognizer hears": (
        """
class Bad(Listener):
    def __init__(self, engine, format):
        super().__init__(engine, format)
        self.late = asyncio.Queue()

    def finish(self, *, discard=False, following=0.0):
        if self.results.closed:
            self.late.put_nowait(Heard("late", final=True, complete=True))
        super().finish(discard=discard, following=following)

    async def __aiter__(self):
        async for heard in self.results:
            yield heard
        while not self.late.empty():
            yield self.late.get_nowait()

class Defective(Parrot):
    listener = Bad
""",
        {CLOSED_RECOGNIZER},
    ),
    "feeding a closed recognizer fails": (
        """
class Bad(Listener):
    def feed(self, audio):
        if self.results.closed:
            raise RuntimeError("closed")
        super().feed(audio)

class Defective(Parrot):
    listener = Bad
""",
        {CLOSED_RECOGNIZER},
    ),
    "a recognizer leaves its task": (
        """
class Bad(Listener):
    async def aclose(self):
        self.results.close()

class Defective(Parrot):
    listener = Bad
""",
        {CLOSED_RECOGNIZER, ENGINE_CLOSED},
    ),
    "pause ends the utterance": (
        """
class Bad(Listener):
    def pause(self, *, following=0.0):
        self.finish()

class Defective(Parrot):
    listener = Bad
""",
        {PAUSES, DISCARD},
    ),
    "audio after a pause is lost": (
        """
class Bad(Listener):
    dropping = False

    def pause(self, *, following=0.0):
        self.audio.clear()
        self.dropping = True

    def feed(self, audio):
        if not self.dropping:
            super().feed(audio)

    def finish(self, *, discard=False, following=0.0):
        super().finish(discard=discard, following=following)
        self.dropping = False

class Defective(Parrot):
    listener = Bad
""",
        {PAUSES},
    ),
    "a resumed utterance answers with what was decoded before": (
        """
class Bad(Listener):
    ahead = None

    def pause(self, *, following=0.0):
        self.ahead = b"x" * any(sample != 0xff for sample in self.audio)

    def finish(self, *, discard=False, following=0.0):
        if self.ahead is not None:
            self.audio[:] = self.ahead
        self.ahead = None
        super().finish(discard=discard, following=following)

    def resume(self):
        self.pause = lambda: None

class Defective(Parrot):
    listener = Bad
""",
        {PAUSES},
    ),
    "a paused utterance is heard twice": (
        """
class Bad(Listener):
    paused = False

    def pause(self, *, following=0.0):
        self.paused = True

    def finish(self, *, discard=False, following=0.0):
        if self.paused and not discard:
            self.results.put(Heard("hello", final=True))
        self.paused = False
        super().finish(discard=discard, following=following)

class Defective(Parrot):
    listener = Bad
""",
        {PAUSES},
    ),
    "what was decoded ahead answers the next finish too": (
        """
class Bad(Listener):
    ahead = b""

    def pause(self, *, following=0.0):
        self.ahead = bytes(self.audio)

    def finish(self, *, discard=False, following=0.0):
        if not self.audio:
            self.audio += self.ahead
        super().finish(discard=discard, following=following)

class Defective(Parrot):
    listener = Bad
""",
        {PAUSES, DISCARD},
    ),
    "what was said before an utterance is announced is lost": (
        """
class Bad(Listener):
    def begin(self, preceding=0.5):
        self.audio.clear()

    def finish(self, *, discard=False, following=0.0):
        if all(sample == 0xff for sample in self.audio):
            self.audio.clear()
        super().finish(discard=discard, following=following)

class Defective(Parrot):
    listener = Bad
""",
        {LATE},
    ),
    "a discarded utterance is recognized": (
        """
class Bad(Listener):
    def finish(self, *, discard=False, following=0.0):
        super().finish()

class Defective(Parrot):
    listener = Bad
""",
        {DISCARD},
    ),
    "a discarded utterance is part of the next": (
        """
class Bad(Listener):
    def finish(self, *, discard=False, following=0.0):
        audio = bytes(self.audio)
        super().finish(discard=discard, following=following)
        if discard:
            self.audio += audio

class Defective(Parrot):
    listener = Bad
""",
        {DISCARD},
    ),
    "a discarded utterance is not answered": (
        """
class Bad(Listener):
    def finish(self, *, discard=False, following=0.0):
        if discard:
            self.audio.clear()
        else:
            super().finish()

class Defective(Parrot):
    listener = Bad
""",
        {DISCARD},
    ),
    # --- detecting
    "a voice ends that never started": (
        """
class Bad(Detector):
    def tell(self, voice):
        if voice is not Voice.STARTED:
            super().tell(voice)

class Defective(Parrot):
    detector = Bad
""",
        {VOICE, "test_silence_is_no_voice"},
    ),
    "positions count from the voice, not from the first byte": (
        """
class Bad(Detector):
    def tell(self, voice):
        if voice is Voice.STARTED:
            self.fed = 0
        super().tell(voice)

class Defective(Parrot):
    detector = Bad
""",
        {VOICE, "test_silence_is_no_voice", NEXT_VOICE},
    ),
    "calls that speak at once share their audio": (
        """
class Bad(Voiced):
    shared = []

    async def speak(self, text):
        async for piece in super().speak(text):
            self.shared.append(piece)
            await asyncio.sleep(0)
            while self.shared:
                yield self.shared.pop()

    async def aclose(self):
        self.shared.clear()
        await super().aclose()

class Defective(Parrot):
    voiced = Bad
""",
        {"test_two_calls_have_a_voice_each"},
    ),
    "the last question is answered first": (
        """
class Bad(Listener):
    async def answer(self):
        while True:
            audio = [await self.utterances.get()]
            await asyncio.sleep(0.01)
            while not self.utterances.empty():
                audio.insert(0, self.utterances.get_nowait())
            self.engine.log_in("listen")
            for one in audio:
                self.results.put(Heard("hello" if one else "", final=True, complete=True))

class Defective(Parrot):
    listener = Bad
""",
        {ORDER, TYPED},
    ),
    "calls share what they hear": (
        """
class Bad(Listener):
    shared = bytearray()

    def __init__(self, engine, format):
        super().__init__(engine, format)
        self.audio = self.shared

class Defective(Parrot):
    listener = Bad
""",
        {OWN_AUDIO},
    ),
    "resume drops what was said before the pause": (
        """
class Bad(Listener):
    paused = False

    def pause(self, *, following=0.0):
        self.paused = True

    def resume(self):
        self.audio.clear()

    def finish(self, *, discard=False, following=0.0):
        if not self.paused and not any(sample not in (0xff, 0x7f) for sample in self.audio):
            self.audio.clear()
        self.audio[:] = self.audio if any(sample not in (0xff, 0x7f) for sample in self.audio) else b""
        super().finish(discard=discard, following=following)

class Defective(Parrot):
    listener = Bad
""",
        {PAUSES},
    ),
    "a noise after a pause is answered with what was decoded ahead": (
        """
class Bad(Listener):
    ahead = False

    def pause(self, *, following=0.0):
        self.ahead = True

    def resume(self):
        self.ahead = False

    def finish(self, *, discard=False, following=0.0):
        super().finish(discard=discard and not self.ahead, following=following)
        self.ahead = False

class Defective(Parrot):
    listener = Bad
""",
        {DISCARD},
    ),
    "only the first voice is told": (
        """
class Bad(Detector):
    told = 0

    def tell(self, voice):
        self.told += 1
        if self.told <= 2:
            super().tell(voice)

class Defective(Parrot):
    detector = Bad
""",
        {NEXT_VOICE},
    ),
    "calls are told each other's voices": (
        """
class Bad(Detector):
    def tell(self, voice):
        for made in self.engine.made:
            if isinstance(made, Detector):
                made.results.put(VoiceActivity(voice, self.fed / 8000))

class Defective(Parrot):
    detector = Bad
""",
        {NEXT_VOICE, TYPED},
    ),
    "positions beyond what was fed": (
        """
class Bad(Detector):
    def tell(self, voice):
        self.fed += 80000
        super().tell(voice)

class Defective(Parrot):
    detector = Bad
""",
        {VOICE},
    ),
    "silence is taken for a voice": (
        """
class Bad(Detector):
    def feed(self, audio):
        super().feed(b"\\x20" * len(audio) if not self.fed else audio)

class Defective(Parrot):
    detector = Bad
""",
        {VOICE, "test_silence_is_no_voice", NEXT_VOICE},
    ),
    "a closed detector tells": (
        """
class Bad(Detector):
    async def aclose(self):
        pass

class Defective(Parrot):
    detector = Bad
""",
        {VOICE, "test_silence_is_no_voice", CLOSED_DETECTOR, ENGINE_CLOSED, NEXT_VOICE},
    ),
    "a detector takes one format only": (
        """
class Defective(Parrot):
    async def voice_activity_detector(self, format=PCMU_8K):
        return self.keep(self.detector(self, PCMU_8K))
""",
        {VOICE},
    ),
}


@pytest.fixture
def run_kit(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The kit's patience is a second: of virtual time, or a busy machine would be a defect."""
    before = set(sys.modules)
    monkeypatch.setattr(asyncio, "run", virtually)

    def run(source: str, tail: str = TAIL) -> set[str]:
        pytester.makepyfile(PARROT + source + tail)
        result = pytester.runpytest_inprocess("-q", *WITHOUT, "--tb=line", "-W", "ignore")
        run.shown = result.stdout.str()
        assert "errors" not in result.parseoutcomes()
        assert result.parseoutcomes().get("passed", 0) > 10, "the kit did not run"
        return set(re.findall(r"^FAILED \S+::(test_\w+)", run.shown, re.MULTILINE))

    yield run
    plugins.reset()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_sound_engine_passes_all_of_it_and_skips_nothing(run_kit) -> None:
    assert run_kit(SOUND) == set()
    assert "skipped" not in run_kit.shown


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_seen_by_the_check_meant_for_it(run_kit, defect: str) -> None:
    source, expected = DEFECTS[defect]
    assert run_kit(source) == expected


def test_an_engine_that_no_installed_plugin_brings_is_a_failure(run_kit) -> None:
    tail = TAIL.replace("return [Defective]", "return []")
    assert run_kit(SOUND, tail) == {"test_the_installed_plugin_brings_it"}


def test_what_an_engine_does_not_do_is_skipped_by_ability(run_kit) -> None:
    mute = """
class Defective(SpeechEngine):
    name = "mute"
    settings_type = Settings

    async def voice_activity_detector(self, format=PCMU_8K):
        self.made = Detector(self, format)
        return self.made

    async def aclose(self):
        if hasattr(self, "made"):
            await self.made.aclose()

    def log_in(self, operation):
        pass
"""
    assert run_kit(mute, TAIL.replace("broken_settings = {}", "broken_settings = None")) == set()
    assert len(re.findall("s", run_kit.shown.splitlines()[0])) == 25
