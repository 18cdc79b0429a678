"""From what callers are likely to say to a small trigram model, in the ARPA text format recognisers read.

Katz back-off with a fixed discount: a seen n-gram keeps nearly all of its probability, and the little that is left lets
the words be recombined. More of it makes the recogniser hear "no to an to you" for "no thank you".
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

DISCOUNT = 0.05
START, END = "<s>", "</s>"
_NUMBERS = "zero one two three four five six seven eight nine".split()

Gram = tuple[str, ...]


def words(phrase: str) -> list[str]:
    """The words of a phrase as a pronouncing dictionary spells them: lower case, digits spelled out."""
    text = phrase.lower().replace("’", "'")
    text = re.sub(r"\d", lambda digit: f" {_NUMBERS[int(digit.group())]} ", text)
    return [word.strip("'-") for word in re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text)]


def arpa(phrases: Iterable[str], order: int = 3) -> str:
    """The model over ``phrases`` as ARPA text. ``ValueError`` when there is no word in them."""
    sentences = [[START, *spoken, END] for phrase in phrases if (spoken := words(phrase))]
    if not sentences:
        raise ValueError("a language model needs at least one phrase with a word in it")
    counts: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        for size in range(1, order + 1):
            counts[size - 1].update(tuple(sentence[i : i + size]) for i in range(len(sentence) - size + 1))
    probabilities = [_unigrams(counts[0])]
    for size in range(2, order + 1):
        contexts = counts[size - 2]
        seen = counts[size - 1].items()
        probabilities.append({gram: count * (1 - DISCOUNT) / contexts[gram[:-1]] for gram, count in seen})
    lines = ["\\data\\", *(f"ngram {size}={len(table)}" for size, table in enumerate(probabilities, 1))]
    for size, table in enumerate(probabilities, 1):
        lines.append(f"\n\\{size}-grams:")
        weights = _backoff(probabilities, size) if size < order else {}
        for gram in sorted(table):
            probability = -99.0 if gram == (START,) else math.log10(table[gram])
            weight = f" {weights[gram]:.4f}" if gram in weights else ""
            lines.append(f"{probability:.4f} {' '.join(gram)}{weight}")
    return "\n".join([*lines, "\n\\end\\\n"])


def _unigrams(counts: Counter[Gram]) -> dict[Gram, float]:
    total = sum(count for gram, count in counts.items() if gram != (START,))
    return {gram: 1.0 if gram == (START,) else count / total for gram, count in counts.items()}


def _backoff(probabilities: list[dict[Gram, float]], size: int) -> dict[Gram, float]:
    """For each n-gram of ``size``, log10 of the weight its unseen continuations are given."""
    longer = probabilities[size]
    seen: dict[Gram, float] = {}
    lower: dict[Gram, float] = {}
    for gram, probability in longer.items():
        context = gram[:-1]
        seen[context] = seen.get(context, 0.0) + probability
        lower[context] = lower.get(context, 0.0) + probabilities[size - 1][gram[1:]]
    weights = {}
    for context in probabilities[size - 1]:
        if context[-1] == END:
            continue
        left = max(1e-9, 1.0 - seen.get(context, 0.0))
        unseen = max(1e-9, 1.0 - lower.get(context, 0.0))
        weights[context] = math.log10(left / unseen)
    return weights
