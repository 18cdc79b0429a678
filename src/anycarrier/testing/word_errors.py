"""Word errors: how far recognized words are from what was said, however each of them is written.

Recognizers write one utterance in many ways: "two thirty p m", "2:30 p.m.", "2.30 PM". :func:`normalized` brings both
sides to one form, so that only what was misheard counts. Numbers become digits, one word each, because a wrong digit
in a telephone number is one error and not the whole number.

    >>> normalized("I'm at 221-B, it's $5.50")
    ['i', 'am', 'at', '2', '2', '1', 'b', 'its', '5', 'dollars', 'and', '5', '0', 'cents']
    >>> word_errors("call me at two thirty pm", "Call me at 2:40 p.m.")
    1
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_UNITS = "zero one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_CARDINALS = {word: number for number, word in enumerate(_UNITS + _TEENS)}
_CARDINALS |= {word: 20 + 10 * number for number, word in enumerate(_TENS)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12}
_ORDINALS |= {
    re.sub("y$", "ie", word) + "th": value
    for word, value in _CARDINALS.items()
    if value and value not in _ORDINALS.values()
}

_CURRENCIES = {"$": ("dollars", "cents"), "€": ("euros", "cents"), "£": ("pounds", "pence")}
_SYMBOLS = {"%": " percent ", "&": " and ", "@": " at ", "’": "'", "+": " plus "}

# One word, several spellings. Words that only sound alike are not here: those are the recognizer's errors.
_SPELLINGS = {
    "alright": "all right", "cannot": "can not", "centre": "center", "cheque": "check", "colour": "color",
    "dollar": "dollars", "dr": "doctor", "em": "them", "etc": "etcetera", "gonna": "going to", "grey": "gray",
    "meter": "metre", "meters": "metres", "mr": "mister", "mrs": "missus", "neighbours": "neighbors",
    "ok": "okay", "ounces": "ounce", "oz": "ounce", "philip": "phillip", "theatre": "theater", "wanna": "want to",
}  # fmt: skip

_REWRITTEN = (
    # Contractions that stand for one thing only; "he's" does not, and only loses its apostrophe.
    (r"\bwon't\b", "will not"),
    (r"\bcan't\b", "can not"),
    (r"n't\b", " not"),
    (r"(?<=\w)'ll\b", " will"),
    (r"(?<=\w)'re\b", " are"),
    (r"(?<=\w)'ve\b", " have"),
    (r"\bi'm\b", "i am"),
    (r"\b(i|you|he|she|we|they)'d\b", r"\1 would"),
    (r"\be-mail", "email"),
    (r"\bet cetera\b", "etcetera"),
    # "2 p.m.", "2pm", "two p m"; then "2:30" and "2.30 pm", and "9:00", which is said without its zeros.
    (r"(\d|\b)([ap])\.? ?m\b\.?", r"\1 \2m "),
    (r"(?<=\d)\.(?=\d\d\s+[ap]m\b)", " "),
    (r"(?<=\d):00\b", " "),
    # Marks within a word or number that are read aloud, and those that are not.
    (r"(?<=\d),(?=\d{3}\b)", ""),
    (r"(?<=\d)\.(?=\d)", " point "),
    (r"(?<=[a-z\d]{2})\.(?=[a-z]{2})", " dot "),
)


def normalized(text: str) -> list[str]:
    """The words of ``text`` in one spelling: lower case, no punctuation, each digit of a number a word of its own."""
    text = text.lower()
    text = re.sub(r"([$€£]) ?([\d,]*\d)(?:\.(\d\d))?", _amount, text)
    for sign, word in _SYMBOLS.items():
        text = text.replace(sign, word)
    for pattern, replacement in _REWRITTEN:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"(?<=\d)(?!st\b|nd\b|rd\b|th\b)(?=[a-z])|(?<=[a-z])(?=\d)", " ", text.replace("'", ""))
    words = " ".join(_SPELLINGS.get(word, word) for word in re.findall(r"[^\W_]+", text))
    return _digits(words.split())


def word_errors(said: str, heard: str) -> int:
    """Words that must be replaced, added or removed to turn what was heard into what was said."""
    return _edits(normalized(said), normalized(heard))


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Errors in all pairs of said and heard, per word said; may exceed 1. ``ValueError`` when no word was said."""
    errors = words = 0
    for said, heard in pairs:
        errors += word_errors(said, heard)
        words += len(normalized(said))
    if not words:
        raise ValueError("no words were said, so there is no rate")
    return errors / words


def heard_phrase(phrase: str, heard: str) -> bool:
    """Whether the words of ``phrase`` occur in ``heard`` in this order, one after the other."""
    wanted, words = normalized(phrase), normalized(heard)
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1))


def _edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Levenshtein's distance, row by row."""
    above = list(range(len(heard) + 1))
    for count, word in enumerate(said, 1):
        row = [count]
        for at, other in enumerate(heard):
            row.append(min(above[at] + (word != other), above[at + 1] + 1, row[at] + 1))
        above = row
    return above[-1]


def _amount(found: re.Match[str]) -> str:
    """An amount such as $1,249.50 in the order in which it is said."""
    unit, part = _CURRENCIES[found[1]]
    whole, cents = found[2].replace(",", ""), int(found[3] or 0)
    return f" {whole} {unit} " + (f"and {cents} {part} " if cents else "")


def _digits(words: list[str]) -> list[str]:
    """Numbers, in digits or spelled out, as their digits; ordinals as one word such as ``20th``."""
    out: list[str] = []
    at = 0
    while at < len(words):
        number, after = _number(words, at)
        if after > at:
            if out and out[-1] == "a" and words[at] in _SCALES:
                out.pop()  # "a hundred" is written 100
            last = _ORDINALS.get(words[after], 100) if after < len(words) else 100
            if last < 10 and number % 100 in range(20, 100, 10):
                out.append(_ordinal(number + last))  # twenty first
                after += 1
            else:
                out += words[at] if after == at + 1 and words[at].isdecimal() else str(number)
            at = after
            continue
        word = words[at]
        if word in _ORDINALS:
            out.append(_ordinal(_ORDINALS[word]))
        elif word in ("oh", "o") and out and out[-1].isdecimal():
            out.append("0")
        else:
            out.append(word)
        at += 1
    return out


def _number(words: list[str], at: int) -> tuple[int, int]:
    """The number that starts at ``at`` and where it ends; (0, ``at``) when there is none.

    "four fifteen" is two numbers, 4 and 15, "two hundred and four" is one.
    """
    if words[at].isdecimal() and (at + 1 == len(words) or words[at + 1] not in _SCALES):
        return 0, at + 1  # its digits are kept as they are, so that 007 keeps its zeros
    whole = 0
    group, end = _below_hundred(words, at)
    if end == at and words[at] in _SCALES:
        group = 1
    elif end == at:
        return 0, at
    while end < len(words) and words[end] in _SCALES:
        scale = _SCALES[words[end]]
        end += 1
        if scale == 100:
            group *= 100
        else:
            whole, group = whole + group * scale, 0
        start = end + 1 if words[end : end + 1] == ["and"] else end
        rest, after = _below_hundred(words, start)
        if after > start:
            group, end = group + rest, after
    return whole + group, end


def _below_hundred(words: list[str], at: int) -> tuple[int, int]:
    """A number like "fifty four", and where it ends."""
    if at >= len(words):
        return 0, at
    if words[at].isdecimal():
        return int(words[at]), at + 1
    value = _CARDINALS.get(words[at])
    if value is None:
        return 0, at
    if value >= 20 and at + 1 < len(words) and 0 < (unit := _CARDINALS.get(words[at + 1], 0)) < 10:
        return value + unit, at + 2
    return value, at + 1


def _ordinal(value: int) -> str:
    ending = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{ending}"
