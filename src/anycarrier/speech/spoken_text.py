"""Text as it is read aloud: what was written for the eye becomes words for the ear.

    >>> spoken_form("Call +1 (415) 555-0132 before 9:05am, **please**.")
    'Call plus 1, 4 1 5, 5 5 5, 0 1 3 2 before nine oh five AM, please.'

Any language: markup, control characters and emoji go, telephone numbers and codes are read digit by digit. English also
has amounts, dates, addresses and abbreviations (:mod:`anycarrier.speech.spoken_english`); engines read those of other
languages themselves. The work is proportional to the text, and no text raises.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import cache, lru_cache

from anycarrier.speech.sentence_ends import SENTENCE_END
from anycarrier.speech.spoken_english import english_readings
from anycarrier.speech.spoken_numbers import ADDRESSES, NUMBERS, Reading

LONGEST = 400
"""Characters in one sentence; longer ones are cut at a comma or a space, so that the first sound is not late."""

_DAY_FIRST = {"gb", "au", "nz", "ie", "in", "za", "sg", "hk", "uk"}
"""Regions whose English writes the day before the month."""


def spoken_form(text: str, language: str = "en-US") -> str:
    """``text`` as it should be read out in ``language``; empty if nothing of it can be said. Lines stay lines."""
    tags = re.split("[-_]", language.lower())
    pattern, readings = _readings(tags[0] == "en", bool(_DAY_FIRST.intersection(tags[1:])))
    text = pattern.sub(lambda match: readings[match.lastgroup or ""](match), _plain(text))
    text = re.sub(r"[#<>_∗]", " ", text)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(_NO_SPACE.sub(r"\1", line) for line in lines if line)


def spoken_sentences(text: str, language: str = "en-US", longest: int = LONGEST) -> list[str]:
    """The :func:`spoken_form` of ``text`` in pieces to be spoken one after the other, none longer than ``longest``."""
    pieces: list[str] = []
    for sentence in SENTENCE_END.split(spoken_form(text, language)):
        sentence = sentence.strip()
        while len(sentence) > longest:
            cut = max(sentence.rfind(mark, 0, longest) for mark in (", ", "; "))
            cut = cut if cut > longest // 4 else sentence.rfind(" ", 0, longest)
            cut = cut if cut > 0 else longest - 1
            pieces.append(sentence[: cut + 1].strip())
            sentence = sentence[cut + 1 :].strip()
        pieces.append(sentence)
    return [piece for piece in pieces if any(c.isalnum() for c in piece)]


@cache
def _readings(english: bool, day_first: bool) -> tuple[re.Pattern[str], dict[str, Reading]]:
    """All patterns as one, so that nothing is read twice, and the reading of each."""
    table = english_readings(day_first) if english else {**ADDRESSES, **NUMBERS}
    pattern = "|".join(f"(?P<{name}>{pattern})" for name, (pattern, _) in table.items())
    return re.compile(pattern), {name: reading for name, (_, reading) in table.items()}


# --- markup and signs ------------------------------------------------------------------------------------------------

_LINK = re.compile(r"!?\[([^\[\]\n]{0,300})\]\([^()\s]{0,2000}(?: \"[^\"\n]{0,200}\")?\)")
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,1000}>|<!--[^<>]{0,1000}-->")
_LINE_MARK = re.compile(r"(?m)^[ \t]{0,20}(?:#{1,6}[ \t]|>|[-*+•][ \t])")
_TIMES = re.compile(r"(?<=\d) ?\* ?(?=\d)")
_MARKS = re.compile(r"[*`|~]+")
_RARE = re.compile(r"[^\x20-\x7e\n]")
_NO_SPACE = re.compile(r" ([,.;:!?])(?![.\w])")
_KEY = re.compile(
    r"(?i)(?:(?<=press )|(?<=dial )|(?<=enter )|(?<=the )|(?<=or )|(?<=then )|(?<=by )|(?<=[\"']))"
    r"\*(?![^\s*]{1,40}\*)(?![a-z*])"
)
"""The key of a telephone, as in "press *" and "dial *67", and no emphasis."""
_POWER = re.compile(r"(?<=\d)[⁰¹²³⁴-⁹]+")

_SAME = {"’": "'", "‘": "'", "“": '"', "”": '"', "−": "-", "‑": "-", "‐": "-", "⁄": "/", "…": "..."}
_KEPT = "°©№"


def _plain(text: str) -> str:
    if "&" in text:
        text = html.unescape(text)
    text = _TAG.sub(" ", _LINK.sub(r"\1", text))
    text = _POWER.sub(lambda match: "^" + "".join(str(unicodedata.digit(c)) for c in match[0]), text)
    text = _KEY.sub("∗", _RARE.sub(lambda match: _character(match[0]), text))
    text = "\n".join(_row(line) for line in text.split("\n") if line.strip("-=|:*_ \t"))
    text = _TIMES.sub(" × ", _LINE_MARK.sub(" ", text))
    return _MARKS.sub(" ", text)


def _row(line: str) -> str:
    """The cells of a table's row, with pauses between them."""
    return ", ".join(cell.strip() for cell in line.strip(" |").split("|")) if line.count("|") > 1 else line


@lru_cache(4096)
def _character(c: str) -> str:
    """What is left of a character that is not ASCII: emoji and what cannot be seen are dropped, spaces are spaces."""
    if c in _SAME:
        return _SAME[c]
    kind = unicodedata.category(c)
    if c in _KEPT or (kind[0] in "LNPM" and not ("\ufe00" <= c <= "\ufe0f" or c == "\u20e3")):
        if kind == "Nd":
            return str(unicodedata.digit(c))
        full_width = (0xFF08 <= ord(c) <= 0xFF5A and c.isalpha()) or c in "（）＋－．"
        return chr(ord(c) - 0xFEE0) if full_width else c
    if kind in ("Cf", "Cs", "Co", "Cn", "Mn", "Me") or "\U0001f3fb" <= c <= "\U0001f3ff":
        return ""
    return c if kind in ("Sc", "Sm") else " "
