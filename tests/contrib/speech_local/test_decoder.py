"""The small language model and dictionary that are built from an agent's phrases."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from anycarrier_speech_local.decoder import UnknownWords, arpa, grammar_words, trimmed, words

PHRASES = ["Yes, please!", "no thank you", "yes", "press 1"]


def tables(model: str) -> list[dict[tuple[str, ...], tuple[float, float]]]:
    """The n-grams of an ARPA text: probability and back-off weight, as numbers and not logarithms."""
    found: list[dict[tuple[str, ...], tuple[float, float]]] = []
    for line in model.splitlines():
        if line.endswith("-grams:"):
            found.append({})
        elif found and line and not line.startswith("\\"):
            fields = line.split()
            order = len(found)
            weight = float(fields[order + 1]) if len(fields) > order + 1 else 0.0
            found[-1][tuple(fields[1 : order + 1])] = (10 ** float(fields[0]), 10**weight)
    return found


def probability(model: list[dict[tuple[str, ...], tuple[float, float]]], gram: tuple[str, ...]) -> float:
    """As a decoder reads it: the n-gram if it is there, else backed off."""
    if gram in model[len(gram) - 1]:
        return model[len(gram) - 1][gram][0]
    if len(gram) == 1:
        return 0.0
    context = gram[:-1]
    weight = model[len(context) - 1].get(context, (0.0, 1.0))[1]
    return weight * probability(model, gram[1:])


def test_words_are_spelled_as_the_dictionary_spells_them() -> None:
    assert words("Yes, please! It's 10 o’clock") == ["yes", "please", "it's", "one", "zero", "o'clock"]


def test_in_every_context_the_probabilities_add_up_to_one() -> None:
    model = tables(arpa(PHRASES))
    vocabulary = [gram[0] for gram in model[0] if gram[0] != "<s>"]
    contexts = [gram for table in model[:2] for gram in table if gram[-1] != "</s>"]
    for context in contexts:
        assert math.isclose(sum(probability(model, (*context, word)) for word in vocabulary), 1.0, abs_tol=0.005)


def test_what_was_given_is_much_likelier_than_what_was_not() -> None:
    model = tables(arpa(PHRASES))
    assert probability(model, ("no", "thank", "you")) > 0.9
    assert 0 < probability(model, ("no", "thank", "one")) < 0.05


def test_the_header_counts_what_follows() -> None:
    text = arpa(PHRASES)
    counts = [int(line.split("=")[1]) for line in text.splitlines() if line.startswith("ngram ")]
    assert counts == [len(table) for table in tables(text)]


def test_phrases_without_words_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one phrase"):
        arpa(["?!", ""])


def test_the_words_of_a_grammar_are_neither_its_rules_nor_its_tags() -> None:
    grammar = """#JSGF V1.0;
    grammar phone.menu; // comment words
    public <order> = [please] (/2/ yes {affirm} | no) <when>*;
    <when> = on monday /* later */ | o'clock;
    """
    assert grammar_words(grammar) == ["monday", "no", "o'clock", "on", "please", "yes"]


def test_a_dictionary_has_every_variant_of_its_words_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "dict"
    path.write_text("a AH\na(2) EY\nan AE N\nyes Y EH S\n")
    assert trimmed(["a", "yes"], path, {}) == "a AH\na(2) EY\nyes Y EH S\n"
    assert trimmed(["anycarrier"], path, {"Anycarrier": "EH N IY K AE R IY ER"}) == "anycarrier EH N IY K AE R IY ER\n"
    with pytest.raises(UnknownWords, match=r"no pronunciation for 'foo', 'zork'.*pronunciations="):
        trimmed(["zork", "foo", "a"], path, {})
