"""Which words end a turn, as a recognizer that punctuates writes them."""

from __future__ import annotations

import pytest

from anycarrier.speech import TurnSettings, end_of_turn

SETTINGS = TurnSettings(punctuated=True)

WHOLE = [
    "Yes.",
    "No, thank you!",
    "Who is it for?",
    "Where are you from?",
    "Turn it off.",
    "I think so.",
    "Yes, I am.",
    "Half past two p.m.",
    "4-7-1-9.",
    "Grade A.",
    "A.",
    'He said "no."',
    "(Never mind.)",
    "Really?!",
    "?",
    "Quarter to 9?",
    "はい、そうです。",
    "Today",
    "4 7 1 9",
    "My number is 4719",
]

UNFINISHED = [
    "I would like",
    "I would like to book a table,",
    "4, 7, 1, 9,",
    "Today,",
    "And",
    "My number is",
    "Mountain view",
    "Well...",
    "Well…",
    "My name is -",
    "I would like to book a table for.",
    "Is it possible to come on the?",
    "I am calling about my.",
    "It's the second and I.",
    "I think that's.",
    "I think I’d.",
    "Um.",
    "I have an appointment with Dr.",
    'She said "and then..."',
]


@pytest.mark.parametrize("text", WHOLE)
def test_words_that_may_be_an_end_wait_as_long_as_silence_does(text: str) -> None:
    assert end_of_turn(text, SETTINGS) == SETTINGS.endpointing


@pytest.mark.parametrize("text", UNFINISHED)
def test_words_that_cannot_be_an_end_wait_longer(text: str) -> None:
    assert end_of_turn(text, SETTINGS) == SETTINGS.incomplete_endpointing


@pytest.mark.parametrize("text", ["", *UNFINISHED])
def test_nothing_is_concluded_without_words_or_without_punctuation(text: str) -> None:
    assert end_of_turn(text, TurnSettings()) == TurnSettings().endpointing
    assert end_of_turn("", SETTINGS) == SETTINGS.endpointing


def test_both_waits_are_settings() -> None:
    settings = TurnSettings(endpointing=0.3, incomplete_endpointing=0.8, punctuated=True)
    assert [end_of_turn(text, settings) for text in ("Yes.", "Yes, and")] == [0.3, 0.8]
