"""What was heard of what was said, and how text is cut for speaking."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycarrier.agent import agent_turn
from anycarrier.agent.agent_turn import Sentences, SpokenText


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
    cutting = Sentences()
    assert cutting.feed("Good mor") == []
    assert cutting.feed("ning. How can") == ["Good morning."]
    assert cutting.feed(" I help? ") == ["How can I help?"]
    assert cutting.feed("Dr. Who is in") == []
    assert cutting.flush() == ["Dr. Who is in"]


LONG = {
    "words": "a ",
    "clauses": "ab, cd ",
    "no space in 399": "x" * 399 + " ",
    "tabs": "word\t",
    "no space at all": "x",
    "closing marks": '" ',
    "points and quotes": '."',
    "many ends": "a. ",
    "line ends": "\n",
    "only spaces": " ",
    "wide": "あ。",
}


@pytest.mark.parametrize("what", LONG)
def test_cutting_looks_at_a_text_in_proportion_to_its_length(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    class Looking:
        def __init__(self, pattern: re.Pattern[str]) -> None:
            self.pattern = pattern

        def search(self, text: str, *at: int) -> re.Match[str] | None:
            nonlocal looked
            found = self.pattern.search(text, *at)
            looked += len(text) if found is None else found.end()
            return found

    for name in ("SENTENCE_END", "CLAUSE"):
        monkeypatch.setattr(agent_turn, name, Looking(getattr(agent_turn, name)))
    text = (LONG[what] * 100_000)[:100_000]
    cutting = Sentences()
    pieces = cutting.feed(text) + cutting.flush()
    assert looked <= 4 * len(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert max(map(len, pieces), default=0) <= agent_turn.LONGEST + 1


def test_a_sentence_that_will_not_end_is_cut_at_a_space() -> None:
    pieces = Sentences().feed("word " * 200)
    assert [len(piece) for piece in pieces] == [399, 399]


def test_a_long_first_clause_is_not_kept_waiting_but_numbers_are_not_cut() -> None:
    assert Sentences().feed("Thank you for calling Acme Telecom, you are") == ["Thank you for calling Acme Telecom,"]
    assert Sentences().feed("It costs 3.50, please") == []


@given(st.text(alphabet="ab .,!?\n", max_size=80), st.lists(st.integers(0, 80), max_size=6))
def test_nothing_is_lost_or_reordered_however_the_text_arrives(text: str, cuts: list[int]) -> None:
    cutting = Sentences()
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [p for a, b in itertools.pairwise(edges) for p in cutting.feed(text[a:b])] + cutting.flush()
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_text_that_arrives_in_parts_is_not_cut_after_an_abbreviation() -> None:
    """Each part may end where a sentence seems to end; the next word decides."""
    text = "Order no. 7 is in apt. 4, e.g. upstairs. I said no. Bring tea, etc. to Dr. Who. Pens, etc. Then go."
    for size in (1, 4, 7, 200):
        cutter = Sentences()
        cutter.feed("x. ")  # the first piece of a turn may end at a comma
        pieces = [piece for at in range(0, len(text), size) for piece in cutter.feed(text[at : at + size])]
        assert [*pieces, *cutter.flush()] == [
            "Order no. 7 is in apt. 4, e.g. upstairs.",
            "I said no.",
            "Bring tea, etc. to Dr. Who.",
            "Pens, etc.",
            "Then go.",
        ]
