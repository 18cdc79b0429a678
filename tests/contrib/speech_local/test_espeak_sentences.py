"""Text made fit to be spoken."""

from __future__ import annotations

import pytest

from anycarrier_speech_local.espeak import LONGEST, plain, sentences


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("**Hello** _there_", "Hello there"),
        ("See [our page](https://example.com/a?b=c).", "See our page."),
        ("Go to https://www.example.com/opening-hours now", "Go to example.com now"),
        ("Call +1 415 555 0123.", "Call plus 1 4 1 5 5 5 5 0 1 2 3."),
        ("Your code is 482913", "Your code is 4 8 2 9 1 3"),
        ("It costs 1500 dollars in 2026", "It costs 1500 dollars in 2026"),
        ("a\tb\x00c", "a b c"),
        ("<speak>Hi</speak>", "Hi"),
    ],
)
def test_what_is_written_is_read_out_as_a_person_would(text: str, spoken: str) -> None:
    assert plain(text) == spoken


def test_sentences_are_spoken_one_by_one() -> None:
    assert sentences("Hello. How are you? Fine!\nBye") == ["Hello.", "How are you?", "Fine!", "Bye"]
    assert sentences("It is 3.5 miles, Dr Who.") == ["It is 3.5 miles, Dr Who."]


def test_a_sentence_without_end_is_cut_and_nothing_is_lost() -> None:
    text = "one two three, " * 100
    pieces = sentences(text)
    assert all(len(piece) <= LONGEST for piece in pieces)
    assert " ".join(pieces).split() == text.split()
    assert "".join(sentences("x" * 1000)) == "x" * 1000
