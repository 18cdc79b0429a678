"""The transcriber: words of a telephone clip, nothing for sounds without words, loops decoded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("anycarrier_speech_whisper")

from anycarrier.audio import PCMU_8K
from anycarrier.demo.calls import clip
from anycarrier.testing.word_errors import word_errors
from anycarrier_speech_whisper.features import RATE, Samples
from anycarrier_speech_whisper.models import ModelUnusable
from anycarrier_speech_whisper.transcription import (
    PROMPT_TOKENS,
    RETRIES,
    Decoded,
    Options,
    Transcriber,
    hints,
    pieces,
    repeats,
)
from anycarrier_speech_whisper.worker import samples


def recorded(name: str) -> Samples:
    return samples(clip(name), PCMU_8K)


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber(Options())


class Scripted(Transcriber):
    """The rules around decoding, with decodings that were written before."""

    def __init__(self, *decodings: Decoded) -> None:
        self.options = Options()
        self.beam = 1
        self.multilingual = False
        self.left = list(decodings)
        self.asked: list[tuple[float, int]] = []
        self._model = type("Model", (), {"n_mels": 80})()

    def prompt(self, phrases: Sequence[str], language: str) -> list[int]:
        return [0]

    def _decode(self, features: Samples, prompt: list[int], seconds: float, context: float, beam: int) -> Decoded:
        self.asked.append((context, beam))
        return self.left.pop(0)


SECOND = np.zeros(RATE, np.float32)


def decoded(text: str, *, no_speech: float = 0.1, cut: bool = False, looping: bool = False) -> Decoded:
    return Decoded(text, no_speech, cut, looping)


@pytest.mark.parametrize(
    ("name", "said"),
    [("appointment", "i would like to book an appointment"), ("tomorrow", "tomorrow morning please")],
)
def test_a_telephone_clip_is_understood_word_for_word(transcriber: Transcriber, name: str, said: str) -> None:
    assert word_errors(said, transcriber.transcribe(recorded(name))) == 0


def test_what_is_longer_than_the_model_hears_at_once_loses_no_words(transcriber: Transcriber) -> None:
    pause = np.zeros(30 * RATE, np.float32)
    text = transcriber.transcribe(np.concatenate([recorded("appointment"), pause, recorded("tomorrow")]))
    assert word_errors("i would like to book an appointment tomorrow morning please", text) == 0


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.5, 2.0])
def test_silence_has_no_words(transcriber: Transcriber, seconds: float) -> None:
    assert transcriber.transcribe(np.zeros(round(seconds * RATE), np.float32)) == ""


def test_a_model_for_english_says_so_when_asked_for_another_language(transcriber: Transcriber) -> None:
    assert not transcriber.multilingual
    assert transcriber.transcribe(SECOND, language="en-GB") == ""
    with pytest.raises(ValueError, match="English only, not 'fr'"):
        transcriber.transcribe(SECOND, language="fr")


def test_phrases_are_the_previous_text_and_are_cut_to_what_fits(transcriber: Transcriber) -> None:
    def text(prompt: Sequence[int]) -> Any:
        return transcriber._tokenizer.decode(list(prompt), skip_special_tokens=False)

    assert text(transcriber.prompt((), "en")) == "<|startoftranscript|><|notimestamps|>"
    short = text(transcriber.prompt(("oat milk", "flat white"), "en"))
    assert short == "<|startofprev|> oat milk, flat white<|startoftranscript|><|notimestamps|>"
    many = tuple(f"phrase {'a' * n}" for n in range(1, 200))
    assert PROMPT_TOKENS - 60 < len(transcriber.prompt(many, "en")) <= PROMPT_TOKENS + 3


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelUnusable, match="loads on cuda"):
        Transcriber(Options(device="cuda"))


def test_digits_are_no_hint() -> None:
    assert hints(["room 12", "oat milk", "555-0132", "oat  milk", "?"]) == ["room", "oat milk"]


def test_phrases_do_not_steer_the_decoder() -> None:
    """Names of special tokens, a word that takes the tokenizer minutes, and what is no text are left out."""
    steering = ["tea <|endoftext|><|startoftranscript|> no", "<|notimestamps|>", "<|fr|>", "<<||>|endoftext|>"]
    assert hints(steering) == ["tea no", "endoftext"]
    assert hints(["x" * 100_000, "\x00\ud800oat\nmilk", "日本語"]) == ["oat milk", "日本語"]


@pytest.mark.parametrize(
    ("text", "tokens", "looping"),
    [
        ("the same", [1, 2, 3, 4, 5], False),
        ("159999", [1, 5, 9, 9, 9, 9], False),
        ("all nines", [1, 5, 9, 9, 9, 9, 9], True),
        ("1599999", [1], True),
        ("8-8-8-8-8-", [1], True),
        ("8-8-8-8-", [1], False),
        ("Book of Rome. Book of Rome", [1], True),
        ("Bye bye, bye bye", [1], False),
        ("Bye now, bye now", [1], False),
        ("Bye now, bye now, bye now", [1], True),
        ("31154223115422", [1], True),
        ("3 1 1 5 4 2 2 3 1 1 5", [1], True),
        ("3 1 1 5 4 2 2 3 1 1", [1], False),
        ("415-555-0132", [1], False),
        ("I see it there. " * 4, list(range(24)), True),
        ("She saw a cat in the neighbor's house on the long journey home.", list(range(15)), False),
        ("Ask not what your country can do for you, ask what you can do for your country.", [1], False),
        ("", [], False),
    ],
)
def test_what_counts_as_a_loop(text: str, tokens: list[int], looping: bool) -> None:
    assert repeats(text, tokens) is looping


def test_a_loop_is_decoded_again_in_the_end_as_the_model_was_trained() -> None:
    scripted = Scripted(decoded("go go go go go", looping=True), decoded("go home"))
    assert scripted.transcribe(SECOND) == "go home"
    assert scripted.asked == [(12.0, 1), RETRIES[0]]
    scripted = Scripted(*[decoded("go go go go go", looping=True)] * 2, decoded("go home"))
    assert scripted.transcribe(SECOND) == "go home"
    assert scripted.asked == [(12.0, 1), *RETRIES] and RETRIES[-1][0] == 30.0


def test_a_loop_in_an_interim_is_no_words_and_costs_nothing_more() -> None:
    scripted = Scripted(decoded("go go go go go", looping=True))
    assert scripted.transcribe(SECOND, retry=False) == ""


def test_a_loop_without_end_is_no_words() -> None:
    scripted = Scripted(*[decoded("go go", cut=True, looping=True)] * 3)
    assert scripted.transcribe(SECOND) == ""


def test_what_is_said_often_and_ends_is_kept() -> None:
    scripted = Scripted(*[decoded("no no no no no", looping=True)] * 3)
    assert scripted.transcribe(SECOND) == "no no no no no"


def test_no_speech_has_no_words_and_is_not_decoded_again() -> None:
    scripted = Scripted(decoded("Thank you.", no_speech=0.71, looping=True))
    assert scripted.transcribe(SECOND) == ""
    assert len(scripted.asked) == 1
    assert Scripted(decoded("Thank you.", no_speech=0.7)).transcribe(SECOND) == "Thank you."


def test_punctuation_alone_is_no_words() -> None:
    assert Scripted(decoded("...")).transcribe(SECOND) == ""


def test_the_context_grows_with_the_utterance() -> None:
    scripted = Scripted(decoded("long"))
    scripted.transcribe(np.zeros(20 * RATE, np.float32))
    assert scripted.asked == [(pytest.approx(21.4), 1)]


def test_long_sound_is_cut_where_it_is_quietest() -> None:
    sound = np.full(40 * RATE, 0.1, np.float32)
    sound[25 * RATE : 25 * RATE + RATE // 2] = 0.0
    first, second = pieces(sound)
    assert 25.0 <= len(first) / RATE <= 25.5
    assert len(first) + len(second) == len(sound)
    assert pieces(sound[: 20 * RATE])[0].shape == (20 * RATE,)
    assert pieces(sound[:0]) == []
