"""Two ways to write one utterance compare as equal; what was misheard counts word by word."""

from __future__ import annotations

import pytest

from anycarrier.testing.word_errors import heard_phrase, normalized, word_error_rate, word_errors


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("two thirty pm", "2.30 p.m."),
        ("two thirty p m", "2:30 PM"),
        ("at nine am", "At 9:00 a.m."),
        ("ten of clubs", "10 of clubs."),
        ("nine oh two one oh", "9-0-2-1-0"),
        ("four one five five five five oh one three two", "415-555-0132"),
        ("nineteen ninety nine", "1999"),
        ("two hundred and four", "204"),
        ("two thousand twenty six", "2026"),
        ("twenty five hundred", "2500"),
        ("a hundred", "100"),
        ("two million", "2 million"),
        ("five hundred thousand", "500,000"),
        ("two point five", "2.5"),
        ("one thousand two hundred forty nine dollars and fifty cents", "$1,249.50"),
        ("one dollar", "$1.00"),
        ("fifty percent", "50%"),
        ("the twentieth", "the 20th"),
        ("december twenty first", "December 21st"),
        ("the third one", "The 3rd one"),
        ("sixteen ounce", "16oz"),
        ("cold hearted", "cold-hearted"),
        ("my neighbor's house", "my neighbours’ house"),
        ("i am not sure we will", "I'm not sure we'll"),
        ("i can not and will not", "I can't, and won't!"),
        ("i would like to", "I'd like to"),
        ("mister smith et cetera", "Mr. Smith, etc."),
        ("ten metres", "10 meters"),
        ("help at example dot com", "help@example.com"),
        ("an email", "an e-mail"),
    ],
)
def test_spellings_of_the_same_words_are_equal(said: str, written: str) -> None:
    assert word_errors(said, written) == 0, (normalized(said), normalized(written))


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("book a room", "look a room", 1),
        ("book a room", "book room", 1),
        ("book a room", "book a small room", 1),
        ("book a room", "", 3),
        ("", "you", 1),
        ("seven one four zero", "7 1 5 0", 1),
        ("three", "third", 1),
        ("for two", "four two", 1),
        ("her", "hers", 1),
    ],
)
def test_what_was_misheard_counts(said: str, heard: str, errors: int) -> None:
    assert word_errors(said, heard) == errors


def test_oh_is_a_zero_only_within_a_number() -> None:
    assert normalized("oh, one") == ["oh", "1"]
    assert normalized("two, oh") == ["2", "0"]


def test_leading_zeros_are_kept() -> None:
    assert normalized("007") == ["0", "0", "7"]


def test_the_rate_weighs_long_utterances_more() -> None:
    assert word_error_rate([("yes", "no"), ("a b c d", "a b c d")]) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no words"):
        word_error_rate([("", "you")])


def test_a_phrase_is_heard_when_its_words_follow_each_other() -> None:
    assert heard_phrase("twelve ounce", "A 12-ounce mocha, please.")
    assert not heard_phrase("twelve ounce", "12 small ounces")
    assert not heard_phrase("soy milk", "so milk")
