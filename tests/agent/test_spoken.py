"""What was heard of what was said, and how text is cut for speaking."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linecard.agent.sentences import Sentences
from linecard.agent.spoken import SpokenText


def spoken() -> SpokenText:
    text = SpokenText()
    text.begin("One two three four.", 10.0)
    text.extend(12.0)
    text.begin("Five six.", 12.0)
    text.extend(13.0)
    return text


@pytest.mark.parametrize(
    ("position", "heard"),
    [
        (9.0, ""),
        (10.0, ""),
        (11.1, "One two"),
        (12.0, "One two three four."),
        (12.5, "One two three four. Five"),
        (13.0, "One two three four. Five six."),
        (99.0, "One two three four. Five six."),
    ],
)
def test_words_count_once_they_were_heard(position: float, heard: str) -> None:
    assert spoken().heard(position) == heard


def test_sentences_come_as_soon_as_they_end() -> None:
    sentences = Sentences()
    assert sentences.feed("Good mor") == []
    assert sentences.feed("ning. How can") == ["Good morning."]
    assert sentences.feed(" I help? ") == ["How can I help?"]
    assert sentences.feed("Dr. Who is in") == []
    assert sentences.flush() == ["Dr. Who is in"]


def test_a_long_first_clause_is_not_kept_waiting_but_numbers_are_not_cut() -> None:
    assert Sentences().feed("Thank you for calling Acme Telecom, you are") == ["Thank you for calling Acme Telecom,"]
    assert Sentences().feed("It costs 3.50, please") == []


@given(st.text(alphabet="ab .,!?\n", max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_nothing_is_lost_or_reordered_however_the_text_arrives(text: str, cuts: list[int]) -> None:
    sentences = Sentences()
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [p for a, b in itertools.pairwise(edges) for p in sentences.feed(text[a:b])] + sentences.flush()
    assert "".join("".join(pieces).split()) == "".join(text.split())
